"""What a kind of file is, how one is registered, and what several kinds are made with."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
