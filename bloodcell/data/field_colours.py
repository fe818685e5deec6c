"""Colours, light and sharpness of a field, changed at random, for the training of the cell finder."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.images import Pixels

Floats = NDArray[np.float32]
Rng = np.random.Generator


def recoloured(image: Pixels, boxes: Floats, rng: Rng) -> tuple[Pixels, Floats]:
    """Return an image, uint8 (H, W, 3), in other colours, and the boxes, (B, 4), whose centres can still be seen."""
    x = _stained(_photographed(np.asarray(image, np.float32) / np.float32(255), rng), rng)
    if rng.random() < 0.4:
        x = _unevenly_lit(x, rng)
    if rng.random() < 0.15:
        x, boxes = _through_an_eyepiece(x, boxes, rng)
    if rng.random() < 0.3:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 2.0)))
    if rng.random() < 0.3:
        x = x + rng.uniform(0, 0.04) * rng.standard_normal(x.shape, np.float32)
    x = np.clip(x * rng.uniform(0.6, 1.1) / max(1e-3, float(np.percentile(x[::8, ::8], 97))), 0, 1)
    changed = (x * 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, data = cv2.imencode(".jpg", changed[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
        changed = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return changed, boxes


def _photographed(x: Floats, rng: Rng) -> Floats:
    """Let light fall into the picture, lose its pixels, and move the camera: each now and then."""
    height, width = x.shape[:2]
    if rng.random() < 0.4:
        haze = rng.uniform(0.05, 0.45)
        x = x * (1 - haze) + haze * np.percentile(x[::8, ::8].reshape(-1, 3), 90, axis=0).astype(np.float32)
    if rng.random() < 0.2:
        fewer = rng.uniform(0.3, 0.8)
        size = max(int(fewer * width), 8), max(int(fewer * height), 8)
        coarse = cv2.resize(x, size, interpolation=cv2.INTER_AREA)
        how = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_CUBIC
        x = np.asarray(cv2.resize(coarse, (width, height), interpolation=how), np.float32)
    if rng.random() < 0.1:
        length, angle = int(rng.integers(3, 8)), rng.uniform(0, np.pi)
        way, middle = np.zeros((length, length), np.float32), (length - 1) / 2
        before, after = ([round(middle * (1 + s * t)) for t in (np.cos(angle), np.sin(angle))] for s in (-1, 1))
        cv2.line(way, before, after, 1.0)
        x = np.asarray(cv2.filter2D(x, -1, way / way.sum()), np.float32)
    return np.asarray(np.clip(x, 0, 1), np.float32)


def _stained(x: Floats, rng: Rng) -> Floats:
    """Change gamma, hue, the mixture of the channels, saturation, the colour of what is dark, and the white."""
    if rng.random() < 0.8:
        x = np.asarray(cv2.pow(np.clip(x, 0, None), float(np.exp(rng.uniform(-0.6, 0.6)))))
    mixed = np.eye(3)
    if rng.random() < 0.5:
        mixed = _turned(rng.uniform(-1, 1) * (np.pi if rng.random() < 0.15 else 0.6)) @ mixed
    if rng.random() < 0.7:
        mixed = (np.eye(3) + rng.normal(0, 0.18, (3, 3))) @ mixed
    if rng.random() < 0.7:
        grey, kept = rng.dirichlet((1, 2, 1)), rng.uniform(0, 1.7)
        mixed = (kept * np.eye(3) + (1 - kept) * grey) @ mixed
    x = np.asarray(cv2.transform(x, mixed.astype(np.float32)))
    if rng.random() < 0.5:
        dark = 1 - np.clip(x.mean(axis=2, keepdims=True), 0, 1)
        x = x * (1 - dark * (1 - rng.uniform(0.3, 1, 3).astype(np.float32)) * rng.uniform(0, 1))
    return np.asarray(np.clip(x, 0, None) * np.exp(rng.normal(0, 0.25, 3)).astype(np.float32))


def _turned(angle: float) -> NDArray[np.float64]:
    """Return the matrix, (3, 3), that turns colours about the axis of the greys (Rodrigues' formula)."""
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turned = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * across
    return np.asarray(turned, np.float64)


def _unevenly_lit(x: Floats, rng: Rng) -> Floats:
    """Let light and colour fall off from a point, and change along a line."""
    height, width = x.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = columns / width - rng.uniform(), rows / height - rng.uniform()
    fall = rng.normal(0, 0.35, 3) + rng.uniform(-0.5, 0.1)
    x = x * np.clip(1 + fall * (across**2 + down**2)[..., None], 0.1, 2)
    if rng.random() < 0.5:
        along = (across * rng.normal(0, 0.2) + down * rng.normal(0, 0.2))[..., None]
        x = x * np.clip(1 + along * rng.normal(0, 1, 3), 0.2, 2)
    return np.asarray(x, np.float32)


def _through_an_eyepiece(x: Floats, boxes: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Blacken what lies outside a circle, and leave out the boxes whose centres lie there."""
    height, width = x.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(columns - rng.uniform(0.2, 0.8) * width, rows - rng.uniform(0.2, 0.8) * height)
    seen = np.clip((rng.uniform(0.45, 0.9) * width - distance) / 3, 0, 1)
    at = boxes[:, 1].astype(int).clip(0, height - 1), boxes[:, 0].astype(int).clip(0, width - 1)
    return np.asarray(x * seen[..., None], np.float32), boxes[seen[at] > 0.5]
