"""The record of an image: SIFT key points, a small map of field and nuclei, and two hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bloodcell.audits.chunks import Array, parallel
from bloodcell.audits.nuclei import MAP_SCALE, field_map
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image

#: Longer side at which key points are found, pixels: enough for red cells of some 30 px, and 100 images/s.
SIDE = 320
#: Key points kept of an image, strongest first. A copy of a photograph keeps at least a quarter of them.
KEYPOINTS = 256
#: Contrast below OpenCV's default of 0.04: smears are pale, and 0.04 leaves only some 70 key points.
CONTRAST = 0.01

#: Fields of an image file: why it cannot be read (empty if it can), hashes of its bytes and of the decoded picture.
FILE = [("reason", "U120"), ("file_hash", np.uint64), ("pixel_hash", np.uint64)]
#: One image. Coordinates are pixels of the working size; unused slots are zero.
RECORD = np.dtype(
    [
        *FILE,
        ("size", np.int32, (2,)),  # working width and height
        ("count", np.int32),  # key points found
        ("points", np.float32, (KEYPOINTS, 2)),  # x, y
        ("descriptors", np.uint8, (KEYPOINTS, 128)),  # SIFT as OpenCV gives it
        ("map", np.uint8, (SIDE // MAP_SCALE, SIDE // MAP_SCALE)),  # 0 outside, 1 field, 2 nucleus
    ]
)
Record = np.ndarray[Any, np.dtype[np.void]]

# Mirroring a picture reverses the rows of a SIFT descriptor (4 rows x 4 columns x 8 directions, in the frame
# of its key point) and the sense of its directions, so a permutation gives the mirror image's descriptors.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()


def extract_all(paths: Sequence[Path]) -> Record:
    """Return the records of some image files, shape (n,)."""
    return np.concatenate([np.zeros(0, RECORD), *parallel(extract, paths)])


def extract(path: Path) -> Record:
    """Return the record of an image file, shape (1,); of an unreadable file it has the reason alone."""
    record = np.zeros(1, RECORD)
    try:
        picture = read_image(path)
        record["file_hash"] = _hash(path.read_bytes())
    except (ImageError, OSError) as error:
        record["reason"] = str(error)[:120] or type(error).__name__
        return record
    record["pixel_hash"] = _hash(repr(picture.shape).encode() + picture.tobytes())
    picture = working_size(picture)
    outside, places = field_map(picture)
    record["size"] = picture.shape[1], picture.shape[0]
    record["map"][0, : places.shape[0], : places.shape[1]] = places
    points, descriptors = _keypoints(picture, outside)
    record["count"] = len(points)
    record["points"][0, : len(points)] = points
    record["descriptors"][0, : len(points)] = descriptors
    return record


def working_size(picture: Array) -> Array:
    """Scale a picture, uint8 (H, W, 3), to a longer side of `SIDE`; small ones are at most doubled."""
    scale = min(2.0, SIDE / max(picture.shape[:2]))
    return picture if scale == 1 else scaled(picture, scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def scaled(picture: Array, scale: float, interpolation: int) -> Array:
    """Return a picture, uint8 (H, W, 3), with both sides multiplied by a scale, at least one pixel each."""
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation))


def mirror(record: Record) -> Record:
    """Return the record of the picture's left-right mirror image, shape (1,)."""
    record = record.copy()
    width, count = int(record["size"][0, 0]), int(record["count"][0])
    record["points"][0, :count, 0] = width - 1 - record["points"][0, :count, 0]
    record["descriptors"] = record["descriptors"][..., _MIRROR]
    columns = -(-width // MAP_SCALE)
    record["map"][0, :, :columns] = record["map"][0, :, :columns][:, ::-1]
    return record


def descriptors_of(records: Record, mirrored: bool = False) -> Array:
    """Return the RootSIFT, of unit length, of all key points or of their mirror images: float32 (sum of counts, 128).

    Arandjelovic and Zisserman, Three things everyone should know to improve object retrieval, CVPR 2012.
    """
    present = np.arange(KEYPOINTS) < records["count"][:, None]
    descriptors = records["descriptors"][present]
    values = (descriptors[:, _MIRROR] if mirrored else descriptors).astype(np.float32)
    values /= np.maximum(values.sum(axis=1, keepdims=True), 1)
    return np.sqrt(values, out=values)


def _keypoints(picture: Array, outside: Array) -> tuple[Array, Array]:
    """Find SIFT key points away from the border of the field; Lowe, IJCV 2004."""
    none = np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    if min(picture.shape[:2]) < 16:  # too small for OpenCV's pyramid
        return none
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    # The edge between picture and fill is the same in all copies; key points there match everything.
    inside = cv2.erode(255 - 255 * outside, np.ones((13, 13), np.uint8), borderValue=255)
    sift = cv2.SIFT.create(nfeatures=KEYPOINTS, contrastThreshold=CONTRAST)
    found, descriptors = sift.detectAndCompute(grey, inside)
    if descriptors is None:
        return none
    points = np.array([point.pt for point in found[:KEYPOINTS]], np.float32)
    return points, descriptors[:KEYPOINTS].astype(np.uint8)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
