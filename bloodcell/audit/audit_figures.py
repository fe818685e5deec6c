"""Pictures of the evidence: two images side by side, matched points joined by lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bloodcell.audit.geometry import align
from bloodcell.audit.keypoints import extract, mirror, working_size
from bloodcell.data.images import read_image

#: Most lines that are drawn: more hide the cells.
LINES = 40

_GAP = 8  # pixels between the two images
_BACKGROUND = 255
Array = np.ndarray[Any, np.dtype[Any]]


def matched_pair_figure(first: Path, second: Path) -> tuple[bytes, int]:
    """Draw two images side by side with the key points that one affine map explains.

    Where the second image is a mirror image of the first, the lines cross as they must.

    Args:
        first: An image file.
        second: Another.

    Returns:
        A PNG file, both images at the working size; and the number of matched points, 0 where the images do
        not align.

    Raises:
        ImageError: One of the files cannot be read.
    """
    pictures = [working_size(read_image(path)) for path in (first, second)]
    a, b = extract(first), extract(second)
    straight, crossed = align(a, b), align(mirror(a), b)
    best = max(straight, crossed, key=lambda alignment: alignment.inliers)
    points = best.first.copy()
    if best is crossed and best.inliers:
        points[:, 0] = pictures[0].shape[1] - 1 - points[:, 0]
    canvas, offset = _side_by_side(*pictures)
    _draw(canvas, points, best.second + np.array([offset, 0]))
    _, data = cv2.imencode(".png", canvas[..., ::-1])
    return data.tobytes(), best.inliers


def _side_by_side(first: Array, second: Array) -> tuple[Array, int]:
    """Return both pictures on one white canvas, uint8 (H, W, 3), and where the second begins."""
    height, offset = max(first.shape[0], second.shape[0]), first.shape[1] + _GAP
    canvas = np.full((height, offset + second.shape[1], 3), _BACKGROUND, np.uint8)
    canvas[: first.shape[0], : first.shape[1]] = first
    canvas[: second.shape[0], offset:] = second
    return canvas, offset


def _draw(canvas: Array, starts: Array, ends: Array) -> None:
    """Draw lines between points, float (n, 2) each, evenly chosen, in colours from blue to yellow."""
    if not len(starts):
        return
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), LINES)).astype(int))
    shades = np.linspace(0, 255, len(chosen)).astype(np.uint8)
    colours = cv2.applyColorMap(shades[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    for place, colour in zip(chosen, colours, strict=True):
        a, b = (tuple(round(float(v)) for v in points[place]) for points in (starts, ends))
        shade = tuple(int(v) for v in colour)
        cv2.line(canvas, a, b, shade, 1, cv2.LINE_AA)
        for point in (a, b):
            cv2.circle(canvas, point, 3, shade, 1, cv2.LINE_AA)
