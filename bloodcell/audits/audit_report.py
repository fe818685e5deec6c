"""The page of an audit: verdict, counts, and pairs of images with their matched points, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bloodcell.audits.chunks import Array
from bloodcell.audits.geometry import align
from bloodcell.audits.keypoints import extract, mirror, working_size
from bloodcell.audits.result import Audit
from bloodcell.data.images import read_image
from bloodcell.data.samples import SPLITS
from bloodcell.runtime.html import write_page

#: Pairs that are drawn of each kind.
PAIRS = 6
#: Lines between matched points at most: more hide the cells.
LINES = 40

_GAP = 8  # pixels between the two images


def write_report(audit: Audit, root: Path, file: Path) -> None:
    """Write the page of an audit of the data in `root` to a file; it loads nothing else."""
    write_page(
        file,
        "bloodcell.audits",
        "report.html",
        verdict=audit.verdict().splitlines(),
        clean=audit.clean,
        root=str(root),
        counts=_counts(audit),
        leaks=_pairs(audit.leaks, root, "split"),
        leak_total=len(audit.leaks),
        conflicts=_pairs(audit.conflicts, root, "label"),
        conflict_total=len(audit.conflicts),
        strengths=audit.sources["strength"].value_counts().to_dict(),
    )


def _counts(audit: Audit) -> list[dict[str, Any]]:
    """Return the numbers of images and sources of each split and class."""
    table = audit.samples.assign(source=audit.sources["source"]).sort_values("label", kind="stable")
    table["split"] = pd.Categorical(table["split"], [s for s in ("", *SPLITS) if s in set(table["split"])])
    groups = table.groupby(["split", "label"], sort=True, observed=True)
    counts = groups.agg(images=("path", "size"), sources=("source", "nunique"))
    return list(counts.reset_index().to_dict("records"))


def _pairs(table: pd.DataFrame, root: Path, kind: str) -> list[dict[str, Any]]:
    """Draw the example pairs of some rows, spread over the table; a pair differs in its splits or labels."""
    chosen = table.iloc[:: max(1, len(table) // PAIRS)].head(PAIRS)
    drawn = []
    for row in chosen.to_dict("records"):
        picture, points = matched_pair_figure(root / row["path_a"], root / row["path_b"])
        sides = row[f"{kind}_a"], row[f"{kind}_b"]
        drawn.append({**row, "picture": picture, "points": points, "sides": sides})
    return drawn


def matched_pair_figure(first: Path, second: Path) -> tuple[bytes, int]:
    """Draw two readable images side by side, with lines between the key points that one affine map matches.

    The lines cross if one image is a mirrored copy of the other.

    Returns:
        A PNG file, both images at the working size; and the number of matched points, 0 if the images do not align.
    """
    pictures = [working_size(read_image(path)) for path in (first, second)]
    a, b = extract(first), extract(second)
    straight, mirrored = align(a, b), align(mirror(a), b)
    best = max(straight, mirrored, key=lambda alignment: alignment.inliers)
    points = best.first.copy()
    if best is mirrored and best.inliers:
        points[:, 0] = pictures[0].shape[1] - 1 - points[:, 0]
    height = max(map(len, pictures))
    left, right = (np.pad(one, ((0, height - len(one)), (0, 0), (0, 0)), constant_values=255) for one in pictures)
    canvas = np.hstack([left, np.full((height, _GAP, 3), 255, np.uint8), right])
    _draw_lines(canvas, points, best.second + np.array([pictures[0].shape[1] + _GAP, 0]))
    return cv2.imencode(".png", canvas[..., ::-1])[1].tobytes(), best.inliers


def _draw_lines(canvas: Array, starts: Array, ends: Array) -> None:
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
