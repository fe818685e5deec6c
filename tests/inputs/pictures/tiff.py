"""TIFF files."""

from __future__ import annotations

import struct
import zlib
from typing import Any

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
    held,
    kind,
    scene,
    three,
)


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
        "TIFF of long floating point": (tiff(RAMP * 20.0), three(RAMP * 20)),
        "TIFF of floating point that is not finite": (
            tiff(np.array([[0, np.nan, np.inf]], np.float32)),
            "^floating-point pixels that are not finite$",
        ),
        "TIFF of half floating point": (tiff((RAMP / 16).astype(np.float16)), three(RAMP / 16 * 255)),
        "TIFF of five channels of 16 bits": (tiff(np.zeros((3, 4, 5), np.uint16), 2), np.zeros((3, 4, 3), np.uint8)),
        "TIFF of six channels of 16 bits": (tiff(np.zeros((3, 4, 6), np.uint16), 2), f"{DECODED}|{NO_IMAGE}"),
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
