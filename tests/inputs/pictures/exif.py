"""EXIF: orientations, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.inputs.pictures.making import PIXELS, SCENE, Array, Expected, by_pillow, encoded, held, kind
from tests.inputs.pictures.png import chunk, png, rows_of

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
