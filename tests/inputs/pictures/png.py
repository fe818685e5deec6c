"""PNG files, many of them written by hand."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.inputs.pictures.making import (
    DECODED,
    GREY,
    LARGE,
    NO_IMAGE,
    PICTURES,
    PIXELS,
    SCENE,
    Picture,
    encoded,
    held,
    kind,
    three,
)


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


@kind("decompression bomb: a PNG of one column")  # to scale it would take hundreds of times its pixels
def _(file):
    rows = zlib.compressobj(1)
    data = b"".join(rows.compress(bytes(2_000_000)) for _ in range(50)) + rows.flush()
    return held(file, png(1, 50_000_000, data, 8, 0), r"^1 x 50000000 pixels; the limit of a side is 100,000$")


@kind("decompression bomb: a PNG of one row")
def _(file):
    data = zlib.compress(bytes(50_000_001), 1)
    return held(file, png(50_000_000, 1, data, 8, 0), r"^50000000 x 1 pixels; the limit of a side is 100,000$")


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
