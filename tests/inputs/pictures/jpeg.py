"""JPEG files."""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image

from tests.inputs.pictures.making import DECODED, GREY, LARGE, NO_IMAGE, SCENE, encoded, held, kind, scene


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
