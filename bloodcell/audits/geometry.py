"""Alignment of two images: their key points are matched, and one affine map verifies the matches."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bloodcell.audits.chunks import Array
from bloodcell.audits.keypoints import Record, descriptors_of
from bloodcell.audits.nuclei import MAP_SCALE, OUTSIDE, Cells, compare_cells

#: Ratio test: distance to the nearest descriptor over the second nearest. Lowe, IJCV 2004, has 0.8; red cells
#: look alike, and the affine map rejects wrong matches anyway.
RATIO = 0.85
#: Largest distance of an inlier from its mapped place, pixels at the working size.
TOLERANCE = 4.0
#: Least share of the key points in the overlap that are inliers. A true map explains a part of the overlap, a
#: chance map a few points however large the overlap is: Brown and Lowe, Automatic panoramic image stitching, IJCV
#: 2007, section 3.2. Measured: chance at most 0.09, copies and overlapping photographs at least 0.11.
LEAST_SHARE = 0.10


@dataclass(frozen=True)
class Alignment:
    """The affine map from one image to another, in working coordinates."""

    inliers: int  # pairs of key points, distinct on both sides, that the map explains; 0 if there is no map
    matrix: Array  # float (2, 3)
    first: Array  # the inliers in the first image, float (n, 2)
    second: Array  # and in the second
    covered: float = 0.0  # share of the first image's key points that lie in the field of the second, 0 to 1


NOTHING = Alignment(0, np.zeros((2, 3)), np.zeros((0, 2)), np.zeros((0, 2)))


def align(first: Record, second: Record, rigid: bool = False) -> Alignment:
    """Match two images and find an affine map between them by RANSAC (Fischler and Bolles, 1981).

    Records have shape (1,). Mirror images do not align. If `rigid`, only maps between two photographs through one
    objective are accepted: any shift and rotation, no shear, scale 0.8 to 1.25. Otherwise those of augmentation are
    accepted too: scale 0.4 to 2.5, some shear.
    """
    a, b = _matches(first, second)
    if len(a) < 4:
        return NOTHING
    matrix, mask = cv2.estimateAffine2D(a, b, ransacReprojThreshold=TOLERANCE, maxIters=1000, confidence=0.995)
    if matrix is None or not plausible(matrix, rigid):
        return NOTHING
    keep = mask.ravel() > 0
    a, b = a[keep], b[keep]
    # Many key points in one place are no evidence: count distinct places on both sides.
    count = min(len(np.unique(np.round(a), axis=0)), len(np.unique(np.round(b), axis=0)))
    shown, showing = _inside(first, second, matrix), _inside(second, first, cv2.invertAffineTransform(matrix))
    if count < LEAST_SHARE * min(shown, showing):
        return NOTHING
    return Alignment(count, matrix, a, b, shown / int(first["count"][0]))


def compare(first: Record, second: Record, least: int, rigid: bool = False) -> tuple[int, Cells]:
    """Return the inliers of two images, 0 if there are fewer than `least`, and whether their nuclei coincide."""
    alignment = align(first, second, rigid)
    if alignment.inliers < least:
        return 0, Cells.UNKNOWN
    return alignment.inliers, compare_cells(first["map"][0], second["map"][0], alignment.matrix)


def plausible(matrix: Array, rigid: bool) -> bool:
    """Return whether an affine map, (2, 3), can come from augmentation or, if rigid, from a second photograph."""
    linear = matrix[:, :2]
    if np.linalg.det(linear) <= 0:
        return False
    large, small = np.linalg.svd(linear, compute_uv=False)
    most, least, shear = (1.25, 0.8, 1.12) if rigid else (2.5, 0.4, 2.0)
    return bool(large < most and small > least and large / small < shear)


def _inside(record: Record, other: Record, matrix: Array) -> int:
    """Return how many key points of a record the map puts into the other's field."""
    places = record["points"][0, : int(record["count"][0])] @ matrix[:, :2].T + matrix[:, 2]
    field = other["map"][0] != OUTSIDE
    columns, rows = np.floor(places / MAP_SCALE).astype(int).T
    visible = (rows >= 0) & (columns >= 0) & (rows < field.shape[0]) & (columns < field.shape[1])
    return int(field[rows[visible], columns[visible]].sum())


def _matches(first: Record, second: Record) -> tuple[Array, Array]:
    """Return the places, float (n, 2) each, of the descriptor pairs that pass the ratio test."""
    m, n = int(first["count"][0]), int(second["count"][0])
    if m < 4 or n < 4:
        return np.zeros((0, 2)), np.zeros((0, 2))
    cosine = descriptors_of(first) @ descriptors_of(second).T
    rows, nearest = np.arange(m), cosine.argmax(axis=1)
    best = cosine[rows, nearest]
    cosine[rows, nearest] = -1
    # the squared distance of unit vectors is 2 - 2 cosine
    passed = (1 - best) < RATIO**2 * (1 - cosine.max(axis=1))
    return first["points"][0, :m][passed], second["points"][0, nearest[passed]]
