"""Files that are called images: odd ones with their picture, and bad ones with the reason that is given."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

Array = np.ndarray[Any, np.dtype[np.uint8]]
#: What a file must come to: its picture, uint8 (H, W, 3), or the reason why it is refused, a regular expression.
Expected = Array | str

DECODED, NO_IMAGE, LARGE = "^cannot be decoded: ", "^not an image$", r"pixels; the limit is 100,000,000$|^more than 100"


@dataclass(frozen=True)
class Picture:
    """One kind of file.

    Attributes:
        name: What it is.
        file: Its name in a folder; a unique one.
        write: Writes it and returns what it must come to.
        atol: How far levels may be off, where a lossy format leaves decoders some freedom.
    """

    name: str
    file: str
    write: Callable[[Path], Expected]
    atol: int = 0


PICTURES: list[Picture] = []


def kind(name: str, file: str = "", atol: int = 0) -> Callable[[Callable[[Path], Expected]], None]:
    """Register a function that writes one kind of file; the file's name is the kind's where none is given."""

    def register(write: Callable[[Path], Expected]) -> None:
        called = file if file.startswith("/") else name.replace(" ", "-").replace("/", "_") + (file or ".png")
        PICTURES.append(Picture(name, called.removeprefix("/"), write, atol))

    return register


def scene(size: tuple[int, int] = (40, 30), seed: int = 0) -> Array:
    """Return a smooth coloured picture with some noise, uint8 (H, W, 3), no two quarters alike."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    noise = np.random.default_rng(seed).integers(0, 24, (size[1], size[0], 3))
    planes = np.stack([4 * x, 5 * y, 120 + x - 2 * y], axis=2)
    return np.clip(planes + noise, 0, 255).astype(np.uint8)


PIXELS = scene()
GREY = np.ascontiguousarray(PIXELS[..., 1])
SCENE = Image.fromarray(PIXELS)


def three(grey: Any) -> Array:
    """Return a grey picture (H, W) as RGB."""
    return np.repeat(np.asarray(grey).astype(np.uint8)[..., None], 3, axis=2)


def encoded(format: str, image: Image.Image = SCENE, **options: Any) -> bytes:
    """Return an image as the content of a file."""
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def by_pillow(content: bytes) -> Array:
    """Return what Pillow makes of a file's first frame."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def held(file: Path, content: bytes, expected: Expected | None = None) -> Expected:
    """Write a file; what it must come to is what Pillow reads where nothing else is expected."""
    file.write_bytes(content)
    return by_pillow(content) if expected is None else expected


# --- JPEG ------------------------------------------------------------------------------------------------------------


def _jpegs() -> None:
    variants: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "colour JPEG": (SCENE, {}),
        "grey JPEG": (Image.fromarray(GREY), {}),
        "progressive JPEG": (SCENE, {"progressive": True}),
        "JPEG without chroma subsampling": (SCENE, {"subsampling": 0}),
        "JPEG with restart markers": (SCENE, {"restart_marker_blocks": 1}),
        "JPEG of odd sides": (Image.fromarray(scene((37, 23))), {"subsampling": 2}),
        "JPEG kept as RGB": (SCENE, {"keep_rgb": True}),
        "CMYK JPEG": (SCENE.convert("CMYK"), {}),
        "JPEG with a comment": (SCENE, {"comment": b"\xff\xd8 % \0 text"}),
        "JPEG with a damaged colour profile": (SCENE, {"icc_profile": b"no profile" * 9}),
    }
    for name, (image, options) in variants.items():
        kind(name, ".jpg", atol=1)(
            lambda file, image=image, options=options: held(file, encoded("JPEG", image, **options))
        )


_jpegs()


@kind("JPEG with text behind it", ".jpg")
def _(file):
    return held(file, encoded("JPEG") + b"<html>" * 1000)


@kind("JPEG behind text", ".jpg")
def _(file):
    return held(file, b"\r\n" + encoded("JPEG"), NO_IMAGE)


@kind("two JPEGs in one file, as telephones write them", ".jpg")
def _(file):
    return held(file, encoded("MPO", SCENE, save_all=True, append_images=[Image.fromarray(scene(seed=1))]))


@kind("a part of a JPEG with an end mark", ".jpg")
def _(file):  # as every viewer shows it
    content = encoded("JPEG")
    return held(file, content[: len(content) * 9 // 10] + b"\xff\xd9")


@kind("JPEG of no lines", ".jpg")
def _(file):
    content = bytearray(encoded("JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 7] = b"\0\0"
    return held(file, bytes(content), f"{DECODED}|{NO_IMAGE}")


@kind("JPEG whose header claims 65,500 x 65,500", ".jpg")
def _(file):
    content = bytearray(encoded("JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 65500, 65500)
    return held(file, bytes(content), LARGE)


@kind("JPEG without its tables", ".jpg")
def _(file):
    content = encoded("JPEG")
    return held(file, content[:2] + content[content.index(b"\xff\xc0") :], f"{DECODED}|{NO_IMAGE}")


# --- PNG -------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, content: bytes, crc: int | None = None) -> bytes:
    """Return one chunk of a PNG file."""
    check = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 2, *more: bytes) -> bytes:
    """Return a PNG file of some compressed data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def rows_of(pixels: Any) -> bytes:
    """Return the rows of a PNG, each with filter 0, compressed."""
    return zlib.compress(b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in pixels))


@kind("PNG of 16-bit grey")
def _(file):
    deep = np.arange(40 * 30, dtype=np.uint16).reshape(30, 40) * 54
    Image.fromarray(deep).save(file)
    return three(deep >> 8)


@kind("PNG of 16-bit colour")
def _(file):
    deep = (PIXELS.astype(np.uint16) * 256 + 77).astype(">u2")
    return held(file, png(40, 30, rows_of(deep), 16), PIXELS)


@kind("PNG of 16-bit grey with alpha")
def _(file):
    opaque = np.stack([GREY.astype(np.uint16) * 256 + 9, np.full(GREY.shape, 0xFFFF, np.uint16)], axis=2).astype(">u2")
    return held(file, png(40, 30, rows_of(opaque), 16, 4), three(GREY))


@kind("PNG of one bit")
def _(file):
    bits = GREY > 100
    Image.fromarray(bits).save(file)
    return three(bits * 255)


@kind("PNG of two bits of grey")
def _(file):
    return held(file, png(4, 1, zlib.compress(b"\0" + bytes([0b00011011])), 2, 0), three([[0, 85, 170, 255]]))


@kind("PNG with a palette")
def _(file):
    image = SCENE.quantize(16)
    image.save(file)
    return np.asarray(image.convert("RGB"))


@kind("PNG with a palette that is partly transparent")
def _(file):
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 255, 255, 0, 0, 10, 20, 30])
    image.putdata([0, 1, 2])
    image.save(file, transparency=bytes([0, 255, 51]))
    return np.array([[[255, 255, 255], [255, 0, 0], [206, 208, 210]]], np.uint8)


@kind("PNG with alpha")
def _(file):
    alpha = np.tile(np.array([0, 51, 102, 204, 255], np.uint8), (30, 8))
    Image.fromarray(np.dstack([PIXELS, alpha])).save(file)
    share = alpha[..., None] / 255
    return np.round(PIXELS * share + 255 * (1 - share)).astype(np.uint8)


PICTURES[-1] = Picture(PICTURES[-1].name, PICTURES[-1].file, PICTURES[-1].write, 1)  # Pillow rounds otherwise


@kind("PNG with a transparent colour")
def _(file):
    Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)).save(file, transparency=(1, 2, 3))
    return np.array([[[255, 255, 255], [9, 9, 9]]], np.uint8)


@kind("animated PNG")
def _(file):
    SCENE.save(file, save_all=True, append_images=[Image.new("RGB", SCENE.size)])
    return PIXELS


@kind("PNG with a wrong checksum of its header")
def _(file):
    content = bytearray(encoded("PNG"))
    content[29] ^= 0xFF
    return held(file, bytes(content), NO_IMAGE)


@kind("PNG with a wrong checksum of its pixels")
def _(file):
    content = encoded("PNG")
    position = content.index(b"IEND") - 8  # of the checksum of the chunk before
    return held(file, content[:position] + b"\0\0\0\0" + content[position + 4 :], PIXELS)


@kind("PNG with a flipped bit in its pixels")
def _(file):
    content = bytearray(encoded("PNG"))
    content[len(content) // 2] ^= 0x10
    return held(file, bytes(content), DECODED)


@kind("PNG whose rows end early, in good order", ".png")
def _(file):  # as every viewer shows it: what is not there is black
    return held(file, png(40, 30, rows_of(PIXELS[:9]), 8, 2), np.where(np.arange(30)[:, None, None] < 9, PIXELS, 0))


@kind("PNG without pixels")
def _(file):
    content = encoded("PNG")
    return held(file, content[:33] + chunk(b"IEND", b""), DECODED)


@kind("PNG of no width")
def _(file):
    return held(file, png(0, 5, zlib.compress(b"\0" * 5)), f"{DECODED}|{NO_IMAGE}")


@kind("PNG of an unknown colour type")
def _(file):
    return held(file, png(2, 2, zlib.compress(b"\0" * 9), 8, 5), f"{DECODED}|{NO_IMAGE}")


@kind("PNG whose header claims 20,000 x 20,000")
def _(file):
    return held(file, png(20_000, 20_000, zlib.compress(b"\0")), LARGE)


@kind("PNG whose header claims two thousand million lines")
def _(file):
    return held(file, png(2**31 - 1, 2**31 - 1, zlib.compress(b"\0")), LARGE)


@kind("decompression bomb: 20,000 x 20,000 pixels in a small PNG")
def _(file):
    squeezed = zlib.compressobj(9)
    row = b"\0" * (20_000 * 3 + 1)
    data = b"".join(squeezed.compress(row) for _ in range(20_000)) + squeezed.flush()
    return held(file, png(20_000, 20_000, data), LARGE)


@kind("decompression bomb: a PNG with far more data than pixels")
def _(file):
    return held(
        file, png(2, 1, zlib.compress(b"\0" + b"\x05" * 6 + b"\0" * 200_000_000)), np.full((1, 2, 3), 5, np.uint8)
    )


@kind("decompression bomb: a text in a PNG")
def _(file):
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"a" * 100_000_000))
    return held(file, png(40, 30, rows_of(PIXELS), 8, 2, bomb), f"{DECODED}|{NO_IMAGE}")


@kind("decompression bomb: the colour profile of a PNG")
def _(file):
    bomb = chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"a" * 100_000_000))
    return held(file, png(40, 30, rows_of(PIXELS), 8, 2, bomb), f"{DECODED}|{NO_IMAGE}")


@kind("PNG with a damaged colour profile")
def _(file):
    return held(file, png(40, 30, rows_of(PIXELS), 8, 2, chunk(b"iCCP", b"x\0\0no zlib stream")), PIXELS)


@kind("PNG with a text behind it")
def _(file):
    return held(file, encoded("PNG") + b"trailing", PIXELS)


@kind("PNG with a comment of a megabyte")
def _(file):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 900_000)
    SCENE.save(file, pnginfo=text)
    return PIXELS


# --- BMP, GIF, WebP, PNM --------------------------------------------------------------------------------------------


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

# --- TIFF ------------------------------------------------------------------------------------------------------------


def tiff(
    pixels: Any, photometric: int = 1, order: str = "<", tags: dict[int, tuple[int, Any] | None] | None = None
) -> bytes:
    """Return a TIFF file of one strip.

    Args:
        pixels: (H, W) or (H, W, C), of any kind of number.
        photometric: 0: white is zero; 1: black is; 2: RGB; 5: CMYK.
        order: < or >: of its bytes.
        tags: Goes over the tags that follow from the pixels: number -> (type, value), None: left out.
    """
    pixels = np.asarray(pixels)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    numbers = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    data = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(order))).tobytes()
    wanted: dict[int, tuple[int, Any] | None] = {
        256: (4, pixels.shape[1]),
        257: (4, pixels.shape[0]),
        258: (3, (8 * pixels.dtype.itemsize,) * channels),
        259: (3, 1),
        262: (3, photometric),
        273: (4, 8),
        277: (3, channels),
        278: (4, pixels.shape[0]),
        279: (4, len(data)),
        339: (3, (numbers,) * channels),
        **(tags or {}),
    }
    entries = {tag: entry for tag, entry in sorted(wanted.items()) if entry is not None}
    directory, further = b"", b""
    start = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, (type_, value) in entries.items():
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(values)}{ {3: 'H', 4: 'I'}[type_] }", *values)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", start + len(further))
            further += packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, type_, len(values)) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(f"{order}H", len(entries))
    return mark + struct.pack(f"{order}I", 8 + len(data)) + data + count + directory + b"\0" * 4 + further


RAMP = np.arange(12).reshape(3, 4)


def _tiffs() -> None:
    saved: dict[str, tuple[Image.Image, dict[str, Any], Expected]] = {
        "TIFF by LZW": (SCENE, {"compression": "tiff_lzw"}, PIXELS),
        "TIFF by deflate": (SCENE, {"compression": "tiff_adobe_deflate"}, PIXELS),
        "TIFF by packbits": (SCENE, {"compression": "packbits"}, PIXELS),
        "TIFF by zstd": (SCENE, {"compression": "zstd"}, PIXELS),
        "TIFF of fax": (Image.fromarray(GREY > 100), {"compression": "group4"}, three((GREY > 100) * 255)),
        "TIFF with a palette": (SCENE.quantize(16), {}, np.asarray(SCENE.quantize(16).convert("RGB"))),
        "TIFF of 16-bit grey": (Image.fromarray(GREY.astype(np.uint16) * 256 + 5), {}, three(GREY)),
        "TIFF of more than four gigabytes, were it long": (SCENE, {"big_tiff": True}, PIXELS),
    }
    for name, (image, options, expected) in saved.items():
        kind(name, ".tif")(
            lambda file, image=image, options=options, expected=expected: (image.save(file, **options), expected)[1]
        )
    made: dict[str, tuple[bytes, Expected]] = {
        "TIFF with the large byte first": (tiff(PIXELS, 2, ">"), PIXELS),
        "TIFF of white that is zero": (tiff(GREY, 0), three(255 - GREY)),
        "TIFF of 16-bit colour": (tiff(PIXELS.astype(np.uint16) * 256 + 3, 2), PIXELS),
        "TIFF of CMYK": (
            tiff(np.asarray(SCENE.convert("CMYK")), 5),
            np.asarray(SCENE.convert("CMYK").convert("RGB")),
        ),
        "TIFF of 32-bit whole numbers up to 255": (tiff(RAMP.astype(np.uint32) * 20), three(RAMP * 20)),
        "TIFF of 32-bit whole numbers up to 65,535": (tiff(RAMP.astype(np.int32) * 5000), three(RAMP * 5000 >> 8)),
        "TIFF of floating point up to 1": (tiff((RAMP / 11).astype(np.float32)), three(RAMP / 11 * 255)),
        "TIFF of floating point up to 255": (tiff((RAMP * 20).astype(np.float32)), three(RAMP * 20)),
        "TIFF of long floating point": (tiff(RAMP * 20.0), f"{DECODED}|{NO_IMAGE}"),
        "TIFF of floating point that is not finite": (
            tiff(np.array([[0, np.nan, np.inf]], np.float32)),
            "^floating-point pixels that are not finite$",
        ),
        "TIFF of half floating point": (tiff((RAMP / 11).astype(np.float16)), f"{DECODED}|{NO_IMAGE}"),
        "TIFF of five channels of 16 bits": (tiff(np.zeros((3, 4, 5), np.uint16), 2), f"{DECODED}|{NO_IMAGE}"),
        "TIFF of an unknown compression": (tiff(GREY, tags={259: (3, 12345)}), f"{DECODED}|{NO_IMAGE}"),
        "TIFF without a size": (tiff(GREY, tags={256: (4, 0)}), f"{DECODED}|{NO_IMAGE}"),
        "TIFF whose pixels lie beyond its end": (tiff(GREY, tags={273: (4, 10**9)}), DECODED),
        "TIFF whose header claims 30,000 x 30,000": (tiff(GREY, tags={256: (4, 30_000), 257: (4, 30_000)}), LARGE),
        "TIFF whose directory lies beyond its end": (b"II*\0\xff\xff\xff\x7f" + b"\0" * 50, f"{DECODED}|{NO_IMAGE}"),
        "TIFF with an empty directory": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", f"{DECODED}|{NO_IMAGE}"),
    }
    for name, (content, expected) in made.items():
        kind(name, ".tif")(lambda file, content=content, expected=expected: held(file, content, expected))


_tiffs()


@kind("TIFF of several pages", ".tif")
def _(file):
    SCENE.save(file, save_all=True, append_images=[Image.new("RGB", (3, 3))] * 4)
    return PIXELS


@kind("tiled TIFF", ".tif")
def _(file):
    tile = scene((16, 16))
    tags = {322: (4, 16), 323: (4, 16), 324: (4, 8), 325: (4, tile.nbytes), 273: None, 278: None, 279: None}
    content = tiff(tile, 2, tags=tags)
    return held(file, content, tile)


@kind("TIFF whose next page is itself", ".tif")
def _(file):
    content = tiff(GREY)
    end = 8 + GREY.nbytes + 2 + 12 * 10
    return held(file, content[:end] + struct.pack("<I", 8 + GREY.nbytes) + content[end + 4 :], three(GREY))


@kind("decompression bomb: a TIFF by deflate with far more data than pixels", ".tif")
def _(file):
    bomb = zlib.compress(GREY.tobytes() + b"\0" * 100_000_000)
    ended = tiff(GREY, tags={259: (3, 8), 273: (4, 8 + GREY.nbytes + 2 + 12 * 10 + 4), 279: (4, len(bomb))})
    return held(file, ended + bomb, three(GREY))


# --- EXIF ------------------------------------------------------------------------------------------------------------

TURNS: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def _orientations() -> None:
    for orientation in (*TURNS, 0, 9, 65535):

        def write(file: Path, orientation: int = orientation) -> Expected:
            exif = Image.Exif()
            exif[0x0112] = orientation
            SCENE.save(file, exif=exif)
            return TURNS.get(orientation, TURNS[1])(PIXELS)

        kind(f"EXIF orientation {orientation}")(write)


_orientations()


def entry(tag: int, type_: int, count: int, value: bytes) -> bytes:
    """Return one entry of an EXIF directory."""
    return struct.pack("<HHI", tag, type_, count) + value.ljust(4, b"\0")


def _broken_exifs() -> None:
    orientation = entry(0x0112, 3, 1, b"\x03\0")
    broken = {
        "no directory": b"Exif\0\0nothing of the kind",
        "nothing": b"Exif\0\0",
        "half a header": b"Exif\0\0II*",
        "a directory beyond its end": b"Exif\0\0II*\0\xff\xff\xff\x7f",
        "65,535 entries of which none is there": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        "an entry of an unknown type": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry(0x0112, 99, 1, b"\x03") + b"\0" * 4,
        "an orientation in letters": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry(0x0112, 2, 4, b"abc") + b"\0" * 4,
        "four thousand million orientations": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry(0x0112, 3, 2**32 - 1, b"\x03"),
        "an orientation that is a quotient by zero": b"Exif\0\0II*\0\x08\0\0\0\x01\0"
        + entry(0x0112, 5, 1, b"\x1a\0\0\0")
        + b"\0" * 12,
        "a directory that holds itself": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry(0x8769, 4, 1, b"\x08") + b"\0" * 4,
    }
    for name, exif in broken.items():
        kind(f"broken EXIF: {name}", ".jpg", atol=1)(
            lambda file, exif=exif: (SCENE.save(file, exif=exif), by_pillow(encoded("JPEG")))[1]
        )
    kind("broken EXIF of a PNG")(
        lambda file: held(file, png(40, 30, rows_of(PIXELS), 8, 2, chunk(b"eXIf", b"II*\0\xff")), PIXELS)
    )
    kind("an orientation, then rubbish", ".jpg", atol=1)(
        lambda file: (
            SCENE.save(file, exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0" + orientation + b"\xff" * 12),
            np.rot90(by_pillow(encoded("JPEG")), 2),
        )[1]
    )
    kind("an orientation by XMP that is no number")(
        lambda file: held(
            file,
            png(
                40, 30, rows_of(PIXELS), 8, 2, chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="99"/>')
            ),
            PIXELS,
        )
    )


_broken_exifs()

# --- sizes -----------------------------------------------------------------------------------------------------------


def _sizes() -> None:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (2, 3)):
        for ending in ("png", "jpg"):

            def write(file: Path, size: tuple[int, int] = (width, height), ending: str = ending) -> Expected:
                image = Image.fromarray(scene(size))
                image.save(file)
                return np.asarray(image) if ending == "png" else by_pillow(encoded("JPEG", image))

            kind(f"{width:,} x {height:,} pixels, {ending}", f".{ending}", atol=int(ending == "jpg"))(write)


_sizes()

# --- no images -------------------------------------------------------------------------------------------------------


def _no_images() -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.png", encoded("PNG"))
    contents = {
        "empty": (b"", "^empty file$"),
        "a single byte": (b"\xff", NO_IMAGE),
        "zero bytes only": (b"\0" * 5000, NO_IMAGE),
        "bytes of 255 only": (b"\xff" * 5000, NO_IMAGE),
        "text": (b"no picture", NO_IMAGE),
        "HTML": (b"<!DOCTYPE html><html>404 Not Found</html>", NO_IMAGE),
        "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"/></svg>', NO_IMAGE),
        "PDF": (encoded("PDF"), NO_IMAGE),
        "EPS, which would want an interpreter": (encoded("EPS"), NO_IMAGE),
        "a zip archive": (zipped.getvalue(), NO_IMAGE),
        "a gzipped PNG": (gzip.compress(encoded("PNG")), NO_IMAGE),
        "an icon": (encoded("ICO"), NO_IMAGE),
        "JPEG 2000": (encoded("JPEG2000"), NO_IMAGE),
        "AVIF": (encoded("AVIF"), NO_IMAGE),
        "Targa": (encoded("TGA"), NO_IMAGE),
        "DICOM": (b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0", NO_IMAGE),
        "JSON": (b'{"image": "a.png"}', NO_IMAGE),
        "CSV": (b"path,label\na.png,b\n", NO_IMAGE),
        "a shell script": (b"#!/bin/sh\ntouch pwned\n", NO_IMAGE),
        "a pickle": (b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.", NO_IMAGE),
        "a NumPy array": (_npy(), NO_IMAGE),
        "the first bytes of a JPEG": (b"\xff\xd8\xff\xe0", f"{NO_IMAGE}|{DECODED}"),
        "the first bytes of a PNG": (b"\x89PNG\r\n\x1a\n", f"{NO_IMAGE}|{DECODED}"),
        "random bytes": (np.random.default_rng(0).bytes(20_000), NO_IMAGE),
    }
    for name, (content, reason) in contents.items():
        kind(name, ".jpg")(lambda file, content=content, reason=reason: held(file, content, reason))


def _npy() -> bytes:
    content = io.BytesIO()
    np.save(content, PIXELS)
    return content.getvalue()


_no_images()


def _right_content_of_another_name() -> None:
    for format, ending in (("PNG", "jpg"), ("JPEG", "png"), ("WEBP", "tif"), ("TIFF", "jpeg"), ("BMP", "webp")):
        kind(f"{format} called {ending}", f".{ending}", atol=1)(lambda file, format=format: held(file, encoded(format)))


_right_content_of_another_name()


def _truncated() -> None:
    options = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}
    image = Image.fromarray(scene((160, 120)))
    for format, ending in {
        "JPEG": "jpg",
        "PNG": "png",
        "WEBP": "webp",
        "TIFF": "tif",
        "BMP": "bmp",
        "PPM": "ppm",
        "GIF": "png",
    }.items():
        whole = encoded(format, image, **options.get(format, {}))
        for tenth in range(1, 10):
            content = whole[: len(whole) * tenth // 10]
            kind(f"{format} cut off after {tenth} tenths", f".{ending}")(
                lambda file, content=content: held(file, content, f"{DECODED}|{NO_IMAGE}")
            )


_truncated()

# --- names -----------------------------------------------------------------------------------------------------------

NAMES = {
    "spaces": " two  spaces .png",
    "a line break": "line\nbreak.png",
    "a carriage return": "carriage\rreturn.png",
    "a tabulator": "tab\tulator.png",
    "umlauts": "Zelle-ä-ö.png",
    "composed letters": "a\u0308.png",
    "other scripts": "細胞-клетка.png",
    "an emoji": "🔬.png",
    "letters from right to left": "\u202egnp.png",
    "255 bytes": "n" * 251 + ".png",
    "a dash in front": "-rf.png",
    "two dashes in front": "--help.png",
    "an equals sign in front": "=1+1.png",
    "an at sign in front": "@SUM(A1).png",
    "a tilde in front": "~nobody-of-this-name.png",
    "quotes": "q\"uo'te.png",
    "commas and semicolons": "a,b;c.png",
    "percent signs": "100%25%s.png",
    "brackets": "[a]{b}(c).png",
    "a pattern": "a*b?.png",
    "a backslash": "back\\slash.png",
    "a dollar sign": "${oc.env:HOME}$(id)`id`.png",
    "a colon and a pipe": "c:|&.png",
    "markup": "<script>alert(1)<br>.png",
    "brackets of a terminal's markup": "[red]a[bold].png",
    "escape sequences of a terminal": "\x1b[31mred\x07.png",
    "an ending in capitals": "CAPITALS.PNG",
    "two endings": "a.tar.png",
    "the name of a device": "CON.png",
    "a reserved word": "null.png",
    "a number": "007.png",
    "bytes that are no UTF-8": os.fsdecode(b"latin-\xe9.png"),
}


def _named() -> None:
    for number, (name, file) in enumerate(NAMES.items()):

        def write(path: Path, seed: int = number) -> Expected:
            pixels = scene(seed=seed)
            Image.fromarray(pixels).save(path, "PNG")
            return pixels

        kind(f"a name with {name}", "/" + file)(write)


_named()

# --- files that are none ---------------------------------------------------------------------------------------------


@kind("a pipe")
def _(file):
    os.mkfifo(file)
    return "^not a regular file$"


@kind("a socket")
def _(file):
    here = Path.cwd()
    os.chdir(file.parent)  # the address of a socket may have a hundred bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(file.name)
    finally:
        os.chdir(here)
    return "^not a regular file$"


@kind("a link to a device without end")
def _(file):
    file.symlink_to("/dev/zero")
    return "^not a regular file$"


@kind("a link to nothing")
def _(file):
    file.symlink_to(file.parent / "nowhere")
    return "^no such file$"


@kind("a link to itself")
def _(file):
    file.symlink_to(file)
    return "^cannot be read: Too many "


@kind("a link to an image elsewhere")
def _(file):
    elsewhere = file.parent.parent / "elsewhere.png"
    SCENE.save(elsewhere)
    file.symlink_to(elsewhere)
    return PIXELS


def write_all(folder: Path, step: int = 1) -> dict[Path, Expected]:
    """Write every kind, or one of so many, into a folder and return what each file must come to."""
    folder.mkdir(parents=True)
    return {folder / picture.file: picture.write(folder / picture.file) for picture in PICTURES[::step]}
