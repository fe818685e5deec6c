"""The pages of a TIFF file: which are the colours of its picture, and how many other pictures it has."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from bloodcell.runtime.console import counted

# it prints what it also raises or returns; set once, as a change around each image is not safe in threads
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

#: Endings of TIFF files, in lower case.
TIFF_ENDINGS = (".tif", ".tiff")
#: Most pages that are looked at, so that a file of very many takes no time.
MOST_PAGES = 1024
GREY = {0, 1}  # TIFF's PhotometricInterpretation; 0: white is zero
_STACK = re.compile(r"\b(slices|frames)=[2-9]")  # ImageJ's description of pages that are no colours


def colour_pages(opened: Any) -> list[Any]:
    """Return the pages of an open TIFF file that are its first picture: three, red, green and blue, or one.

    Three are the first of each channel, if the file says that it has three (OME and ImageJ); else its three grey pages
    of one size, if it has no more. OME and ImageJ call pages of other depths or times a stack.

    Raises:
        ValueError: Its channels are in pages, and are no colours.
    """
    first = opened.pages[0]
    if first.samplesperpixel != 1 or first.photometric not in GREY:
        return [first]
    if (opened.is_ome or opened.is_imagej) and opened.series[0].kind in ("ome", "imagej"):  # else it cannot be parsed
        return _of_channels(opened.series[0], first)
    pages = list(islice(opened.pages, 4))
    alike = len(pages) == 3 and len({_kind(one) for one in pages}) == 1 and not _STACK.search(first.description or "")
    return pages if alike else [first]


def _of_channels(series: Any, first: Any) -> list[Any]:
    """Return the first page of each of three channels, as OME or ImageJ describe them; of one channel, its first."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    channels = sizes.get("C", 1)
    if channels == 1:
        return [first]
    if channels != 3:
        raise ValueError(f"{channels} channels that are no colours; save an RGB image")
    inner = series.axes.partition("C")[2]
    step = math.prod(size for axis, size in sizes.items() if axis in inner and axis not in "YXS")
    there = list(series.pages)[: 2 * step + 1 : step]
    pages = [page.aspage() for page in there if page is not None]
    if len(pages) < 3 or len({_kind(one) for one in pages}) > 1:
        raise ValueError("its pages are not the channels that it describes; save an RGB image")
    return pages


def _kind(page: Any) -> tuple[Any, ...]:
    return page.shape, page.dtype, page.photometric, page.subfiletype


def other_pictures(file: Any) -> int:
    """Return how many pictures of a TIFF file are not read: pages as large as the one that is, or larger.

    `file` is a path or an open binary file; 0 for files that are no TIFF, or damaged: whoever decodes them says so.
    """
    import tifffile

    try:
        with tifffile.TiffFile(file, _multifile=False) as opened:
            pages: list[Any] = list(islice(opened.pages, MOST_PAGES))
            size = pages[0].imagewidth * pages[0].imagelength
            alike = sum(page.imagewidth * page.imagelength >= size for page in pages)
            return alike // len(colour_pages(opened)) - 1 if alike > 1 else 0
    except Exception:  # noqa: BLE001 - tifffile fails in many ways; see above
        return 0


def pages_note(files: Iterable[str | Path]) -> str:
    """Return a sentence on the TIFF files with pictures that are not read; '' if there is none."""
    several = [(file, number) for file in files if (number := _of_file(file))]
    if not several:
        return ""
    file, number = several[0]
    return (
        f"{counted(len(several), 'TIFF file')} with several pages, of which the first is read, e.g. {file} with "
        f"{number:,} more; save each picture as a file of its own to have them all"
    )


def _of_file(file: str | Path) -> int:
    return other_pictures(file) if Path(file).suffix.lower() in TIFF_ENDINGS else 0
