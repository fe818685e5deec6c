"""BMP, GIF, WebP and PNM files."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from tests.inputs.pictures.making import (
    DECODED,
    GREY,
    LARGE,
    NO_IMAGE,
    PIXELS,
    SCENE,
    Expected,
    encoded,
    held,
    kind,
    three,
)


def bmp(width: int, height: int, bits: int, data: bytes, compression: int = 0, palette: bytes = b"") -> bytes:
    """Return a BMP file with a header of 40 bytes; a negative height means rows from the top."""
    offset = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + palette + data


@kind("BMP with rows from the top", ".bmp")
def _(file):
    return held(file, bmp(40, -30, 24, np.ascontiguousarray(PIXELS[..., ::-1]).tobytes()), PIXELS)


@kind("BMP with a palette", ".bmp")
def _(file):
    image = SCENE.quantize(256)
    image.save(file)
    return np.asarray(image.convert("RGB"))


@kind("BMP of one bit", ".bmp")
def _(file):
    Image.fromarray(GREY > 100).save(file)
    return three((GREY > 100) * 255)


@kind("BMP of 32 bits", ".bmp")
def _(file):
    padded = np.dstack([PIXELS[..., ::-1], np.zeros_like(GREY)])[::-1]
    return held(file, bmp(40, 30, 32, np.ascontiguousarray(padded).tobytes()), PIXELS)


@kind("BMP of run lengths", ".bmp")
def _(file):
    palette = bytes(value for level in range(256) for value in (level, level, level, 0))
    data = bytes([4, 10, 0, 0, 2, 200, 2, 100, 0, 0, 0, 1])  # rows from the bottom
    return held(file, bmp(4, 2, 8, data, 1, palette), three([[200, 200, 100, 100], [10] * 4]))


@kind("BMP of no width", ".bmp")
def _(file):
    return held(file, bmp(0, 5, 24, b""), f"{DECODED}|{NO_IMAGE}")


@kind("BMP whose header claims 30,000 x 30,000", ".bmp")
def _(file):
    return held(file, bmp(30_000, 30_000, 24, b"\0" * 10), LARGE)


@kind("BMP of 7 bits", ".bmp")
def _(file):
    return held(file, bmp(4, 4, 7, b"\0" * 64), f"{DECODED}|{NO_IMAGE}")


@kind("animated GIF called jpg", ".jpg")
def _(file):
    first, second = Image.new("RGB", (9, 7), (255, 0, 0)), Image.new("RGB", (9, 7), (0, 0, 255))
    first.save(file, "GIF", save_all=True, append_images=[second])
    return np.full((7, 9, 3), (255, 0, 0), np.uint8)


@kind("GIF with transparency", ".bmp")
def _(file):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(file, "GIF", transparency=0)
    return np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8)


@kind("interlaced GIF")
def _(file):
    image = SCENE.quantize(64)
    image.save(file, "GIF", interlace=True)
    return np.asarray(image.convert("RGB"))


@kind("GIF of no size")
def _(file):
    return held(file, b"GIF89a\0\0\0\0\0\0\0;", f"{DECODED}|{NO_IMAGE}")


@kind("GIF with a header alone")
def _(file):
    return held(file, b"GIF89a\x04\0\x04\0\0\0\0;", f"{DECODED}|{NO_IMAGE}")


@kind("GIF whose screen claims 65,535 x 65,535")
def _(file):
    content = bytearray(encoded("GIF", SCENE.quantize(16)))
    content[6:10] = b"\xff" * 4
    return held(file, bytes(content), LARGE)


@kind("GIF whose frame is larger than its screen")
def _(file):
    content = bytearray(encoded("GIF", SCENE.quantize(16), optimize=False))
    start = content.index(b"\x2c\0\0\0\0" + struct.pack("<HH", *SCENE.size))
    content[start + 5 : start + 9] = b"\xff" * 4
    return held(file, bytes(content), LARGE)


@kind("lossy WebP", ".webp", atol=1)
def _(file):
    return held(file, encoded("WEBP"))


@kind("lossless WebP", ".webp")
def _(file):
    return held(file, encoded("WEBP", lossless=True), PIXELS)


@kind("lossless WebP with alpha", ".webp", atol=1)
def _(file):
    alpha = np.full_like(GREY, 51)
    Image.fromarray(np.dstack([PIXELS, alpha])).save(file, lossless=True)
    return np.round(PIXELS * 0.2 + 204).astype(np.uint8)


@kind("animated WebP", ".webp")
def _(file):
    SCENE.save(file, lossless=True, save_all=True, append_images=[Image.new("RGB", SCENE.size)])
    return PIXELS


@kind("WebP whose header claims 16,383 x 16,383", ".webp")
def _(file):
    content = bytearray(encoded("WEBP", lossless=True))
    start = content.index(b"VP8L") + 9
    content[start : start + 4] = struct.pack("<I", 16382 | 16382 << 14)
    return held(file, bytes(content), f"{LARGE}|{DECODED}|{NO_IMAGE}")


def _pnms() -> None:
    contents: dict[str, tuple[bytes, Expected]] = {
        "PBM in letters": (b"P1 3 1 0 1 0", three([[255, 0, 255]])),
        "PGM in letters": (b"P2\n# comment\n3 1 255\n0 7 255", three([[0, 7, 255]])),
        "PPM in letters": (b"P3 1 1 255 1 2 3", np.array([[[1, 2, 3]]], np.uint8)),
        "PBM of bits": (b"P4 8 1\n\xaa", three([[0, 255] * 4])),
        "PGM of 16 bits": (b"P5 2 1 65535\n\x12\x34\xff\xff", three([[0x12, 255]])),
        "PGM of ten levels": (b"P5 3 1 10\n\x00\x05\x0a", three([[0, 128, 255]])),
        "PPM": (b"P6 1 2 255\n\x01\x02\x03\x04\x05\x06", np.array([[[1, 2, 3]], [[4, 5, 6]]], np.uint8)),
        "PPM with a damaged header": (b"P6 x y z\n123", f"{DECODED}|{NO_IMAGE}"),
        "PPM of no size": (b"P6 0 0 255\n", f"{DECODED}|{NO_IMAGE}"),
        "PPM of a negative size": (b"P6 -3 2 255\n" + b"\0" * 18, f"{DECODED}|{NO_IMAGE}"),
        "PPM that claims a million million pixels": (b"P6 1000000 1000000 255\n", LARGE),
        "PPM with a header without end": (b"P6 " + b"1" * 10_000, f"{DECODED}|{NO_IMAGE}"),
    }
    for name, (content, expected) in contents.items():
        kind(name, ".ppm")(lambda file, content=content, expected=expected: held(file, content, expected))


_pnms()
