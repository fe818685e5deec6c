"""Sizes, content of another kind than the name says, and files that are cut off."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.inputs.pictures.making import DECODED, NO_IMAGE, PIXELS, Expected, by_pillow, encoded, held, kind, scene


def _sizes() -> None:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (2, 3)):
        for ending in ("png", "jpg"):

            def write(file: Path, size: tuple[int, int] = (width, height), ending: str = ending) -> Expected:
                image = Image.fromarray(scene(size))
                image.save(file)
                return np.asarray(image) if ending == "png" else by_pillow(encoded("JPEG", image))

            kind(f"{width:,} x {height:,} pixels, {ending}", f".{ending}", atol=int(ending == "jpg"))(write)


_sizes()


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
        "AVIF": (encoded("AVIF") if ".avif" in Image.registered_extensions() else b"\0\0\0 ftypavif", NO_IMAGE),
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
