"""Whole-slide files: which files are some, and parts of them at any of their levels, in bounded memory.

A whole-slide file is a TIFF file with the picture in several sizes, its levels, each in tiles. OpenSlide reads it, an
extra (Goode et al. 2013, Journal of Pathology Informatics 4:27, https://doi.org/10.4103/2153-3539.119005).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bloodcell.data.image_limits import MAX_PIXELS, ImageError
from bloodcell.data.images import Pixels
from bloodcell.data.time_limit import timed
from bloodcell.runtime.errors import BloodcellError

#: Endings of files that are whole slides, in lower case, and of those that are if they have levels.
ENDINGS, TIFF_ENDINGS = (".svs", ".ndpi"), (".tif", ".tiff")
#: Longer side up to which a TIFF file with levels is an ordinary image, pixels.
SMALL = 1024
#: Most pages, longest side, pixels, and most pixels of a whole-slide file, and most pixels of one tile of it.
MOST_PAGES, MOST_SIDE, MOST_PIXELS, MOST_OF_TILE = 64, 1_000_000, 2**37, 2**24
#: Most pixels that are read at once, for an overview.
BLOCK = 2**20
#: Microns in a pixel that are taken for a microscope's: others are those of a screen or a printer.
MICRONS = (0.02, 5.0)
#: Microns in a pixel times the power of the objective, for slides that tell this alone.
OF_OBJECTIVE = 10.0


def may_be_whole_slide(path: str | Path) -> bool:
    """Return whether a file is a whole slide by its ending, whatever it contains."""
    return Path(path).suffix.lower() in ENDINGS


def is_whole_slide(path: str | Path) -> bool:
    """Return whether a file is a whole slide.

    A TIFF file is one if it is in tiles, and has smaller levels and more than `SMALL` pixels on its longer side, or is
    too large for an ordinary image.
    """
    if may_be_whole_slide(path):
        return True
    if Path(path).suffix.lower() not in TIFF_ENDINGS:
        return False
    import tifffile

    try:
        with tifffile.TiffFile(path, _multifile=False) as opened:
            pages: list[Any] = list(islice(opened.pages, MOST_PAGES))
            return _has_levels(pages[0], pages[1:])
    except Exception:  # noqa: BLE001 - whoever decodes a damaged file says what is wrong
        return False


def _has_levels(first: Any, others: list[Any]) -> bool:
    width, height = first.imagewidth, first.imagelength
    if not first.is_tiled or max(width, height) <= SMALL:
        return False
    return width * height > MAX_PIXELS or bool(first.subifds) or any(_is_level(one, width, height) for one in others)


def _is_level(page: Any, width: int, height: int) -> bool:
    """Return whether a page is the picture of some width and height at a smaller size."""
    across, down = width / max(page.imagewidth, 1), height / max(page.imagelength, 1)
    return bool(page.is_tiled) and across > 1.5 and abs(across / down - 1) < 0.05


def require_reader(path: str | Path) -> Any:
    """Return the module that reads whole-slide files; raise BloodcellError if it is not installed."""
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: without its library
        raise BloodcellError(f"{path}: whole-slide files need OpenSlide: pip install 'bloodcell[slides]'") from error
    return openslide


class WholeSlide:
    """An open whole-slide file, which several threads may read.

    Attributes:
        path: The file.
        sizes: Width and height of each level, pixels, the largest first.
        microns: In a pixel of the first level; None: unknown.

    Raises:
        ImageError: It cannot be read, or is too large.
        BloodcellError: The reader is not installed.
    """

    def __init__(self, path: str) -> None:
        module = require_reader(path)
        self.path = path
        with timed(f"{path}: opening"):
            try:
                _require_sound(path)
                self._file = module.OpenSlide(path)
            except module.OpenSlideUnsupportedFormatError as error:
                raise ImageError("not a whole-slide file of a kind that OpenSlide reads") from error
            except module.OpenSlideError as error:
                raise ImageError(_reason(error)) from error
        self._errors = module.OpenSlideError
        self.sizes: list[tuple[int, int]] = [(int(width), int(height)) for width, height in self._file.level_dimensions]
        known = dict(self._file.properties)
        self.microns = _microns(known)
        _require_tiles(known, len(self.sizes))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels of the first level."""
        return self.sizes[0]

    def scale(self, level: int) -> tuple[float, float]:
        """Return how many pixels of the first level are one of another, across and down."""
        (width, height), (whole_width, whole_height) = self.sizes[level], self.size
        return whole_width / width, whole_height / height

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Pixels:
        """Return a part of a level, in its pixels, uint8 (height, width, 3); what was not scanned is white.

        Raises:
            ImageError: It cannot be decoded.
        """
        across, down = self.scale(level)
        with timed(f"{self.path}: decoding a tile"):
            try:
                part = self._file.read_region((round(left * across), round(top * down)), level, (width, height))
            except self._errors as error:
                raise ImageError(f"at {round(left * across)}, {round(top * down)}: {_reason(error)}") from error
        pixels = np.asarray(part)
        if (pixels[..., 3] == 255).all():
            return np.ascontiguousarray(pixels[..., :3])
        white = np.full((height, width, 3), 255, np.uint8)
        seen = pixels[..., 3:].astype(np.uint16)
        return np.asarray((pixels[..., :3] * seen + white * (255 - seen)) // 255, np.uint8)

    def overview(self, side: int, most: int | None = None) -> Pixels | None:
        """Return the slide with a longer side of at most `side` pixels, uint8 (h, w, 3), read in blocks.

        None: more than `most` pixels would have to be decoded.
        """
        allowed = [level for level, size in enumerate(self.sizes) if most is None or size[0] * size[1] <= most]
        if not allowed:
            return None
        level = max((one for one in allowed if max(self.sizes[one]) >= side), default=allowed[0])
        width, height = self.sizes[level]
        scale = min(1.0, side / max(width, height))
        small = np.empty((max(1, round(height * scale)), max(1, round(width * scale)), 3), np.uint8)
        for (top, bottom), (left, right) in _blocks(small.shape[:2], scale):
            y, x, down, across = (int(edge / scale) for edge in (top, left, bottom - top, right - left))
            part = self.read(level, x, y, max(1, min(across, width - x)), max(1, min(down, height - y)))
            small[top:bottom, left:right] = cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return small


def opened(path: str) -> WholeSlide:
    """Return a whole slide, which stays open until others were read; errors as those of `WholeSlide`."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise ImageError(os.strerror(error.errno or 0)) from error
    return _opened(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _opened(path: str, _changed: int, _size: int) -> WholeSlide:
    return WholeSlide(path)


def _require_sound(path: str) -> None:
    """Raise an ImageError if a file is no TIFF file, or one with more or larger pages than a slide has."""
    import tifffile

    if not Path(path).is_file():
        raise ImageError("not a regular file")
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            pages: list[Any] = list(islice(file.pages, MOST_PAGES + 1))
            found = [(int(page.imagewidth), int(page.imagelength), page.bitspersample) for page in pages]
    except Exception as error:
        raise ImageError(f"not a whole-slide file: {' '.join(str(error).split()) or type(error).__name__}") from error
    if len(found) > MOST_PAGES:
        raise ImageError(f"more than {MOST_PAGES} pages")
    for width, height, _ in found:
        if max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
            raise ImageError(f"{width} x {height} pixels; the limits are {MOST_SIDE:,} and {MOST_PIXELS:,} in all")
    if found[0][2] != 8:
        raise ImageError(f"{found[0][2]} bits a channel; save the slide with 8")


def _require_tiles(known: dict[str, str], levels: int) -> None:
    for level in range(levels):
        sides = [known.get(f"openslide.level[{level}].tile-{side}", "0") for side in ("width", "height")]
        if math.prod(int(side) for side in sides) > MOST_OF_TILE:
            raise ImageError(f"tiles of {' x '.join(sides)} pixels; the limit is {MOST_OF_TILE:,}")


def _microns(known: dict[str, str]) -> float | None:
    """Return the microns in a pixel that the properties of a slide tell; None: they tell none that can be."""
    objective = _number(known.get("openslide.objective-power"))
    for found in (_number(known.get("openslide.mpp-x")), OF_OBJECTIVE / objective if objective else 0.0):
        if MICRONS[0] <= found <= MICRONS[1]:
            return found
    return None


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def _reason(error: Exception) -> str:
    return f"cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}"


def _blocks(shape: tuple[int, ...], scale: float) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the rows and columns of the blocks of a picture, each of at most `BLOCK` pixels before it was scaled."""
    step = max(1, int(math.sqrt(BLOCK) * scale))
    for top in range(0, shape[0], step):
        for left in range(0, shape[1], step):
            yield (top, min(top + step, shape[0])), (left, min(left + step, shape[1]))
