"""Pictures of rows of a predictions table: the image, the crop that the net takes, and its Grad-CAM."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont

from bloodcell.data.cell_finder import cut
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.metrics.predictions import probability_of
from bloodcell.models.gradcam import NoMapError, grad_cam
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError

if TYPE_CHECKING:  # it imports Lightning, which the evaluation of an exported file does not need
    from bloodcell.models.classifier import Classifier

Array = np.ndarray[Any, np.dtype[Any]]
Panel = tuple[str, Array]  # caption, and uint8 (h, w, 3), RGB

#: Longer side of a picture on a panel; gap between panels; height of a caption; pixels.
SIDE, GAP, CAPTION = 200, 6, 30
#: Most bytes of a picture: 24 of them stay below 1.5 MB, even as text in a page (base64).
MOST_BYTES = 46_000
_QUALITIES = (85, 70, 50, 30, 15, 5)  # of JPEG; the first that is small enough is taken
#: Its lightness rises evenly, so it can be read without seeing hues.
_COLOURS = (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """One row of a predictions table with its picture."""

    source: str  # '' if it is unknown
    path: str
    label: str
    prediction: str
    confidence: float  # probability of the predicted class
    jpeg: bytes  # the image, the crop of the cell and the Grad-CAM side by side, as far as there are any

    @property
    def right(self) -> bool:
        """Whether label and prediction agree."""
        return self.label == self.prediction


def pictures_of(rows: pd.DataFrame, root: Path, classifier: Classifier | None) -> list[Picture]:
    """Return the picture of each row of a predictions table, whose images are in `root`.

    It shows the crop (with `data.crop=cell`) and the Grad-CAM of the predicted class, if a classifier is given. The
    picture of an image that cannot be read shows its name and the reason.

    Raises:
        BloodcellError: The classifier does not know a predicted class.
    """
    pictures = []
    for row, confidence in zip(rows.itertuples(), probability_of(rows, "prediction"), strict=True):
        source, path = (str(text) if pd.notna(text) else "" for text in (row.source, row.path))
        jpeg = _jpeg(_strip(_panels(root, path, row.prediction, classifier)))
        pictures.append(Picture(source, path, row.label, row.prediction, float(confidence), jpeg))
    return pictures


def _panels(root: Path, path: str, prediction: str, classifier: Classifier | None) -> list[Panel]:
    try:
        image = read_image(root / path)
    except ImageError as error:
        return [("no image", _text_panel(f"{path}: {error}" if path else "the table names no file"))]
    if classifier is None:
        return [("image", fitted(image))]
    if prediction not in classifier.classes:
        raise BloodcellError(f"the classifier knows no class {prediction}; it knows {named(classifier.classes)}")
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    square = preprocessing.square(image)
    taken = fitted(cut(image, *square) if square else image)
    try:
        explained = overlaid(taken, map_of(classifier, preprocessing(image), prediction))
    except NoMapError as error:
        explained = _text_panel(str(error))
    panels = [("image", fitted(image)), (f"evidence: {prediction}", explained)]
    if preprocessing.crops_cell:
        located = ("located cell", _outlined(image, *square)) if square else ("no cell located", fitted(image))
        panels.insert(1, located)
    return panels


def map_of(classifier: Classifier, inputs: torch.Tensor, prediction: str) -> Array:
    """Return the Grad-CAM, float32 (size, size), of a class on the net's input, uint8 (3, size, size)."""
    net = classifier.net
    chosen = torch.tensor([classifier.classes.index(prediction)])
    return grad_cam(net, inputs[None].to(net.mean.device), chosen)[0].cpu().numpy()


def fitted(image: Array, side: int = SIDE) -> Array:
    """Scale a picture, uint8 (H, W, 3), so that its longer side is `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))


def _outlined(image: Array, left: int, top: int, side: int) -> Array:
    """Return the fitted picture with the outline of a square: white within black, visible on any colour."""
    picture = fitted(image).copy()
    scale = np.array([picture.shape[1] / image.shape[1], picture.shape[0] / image.shape[0]])
    first, last = (np.array([left, top]) * scale).round(), (np.array([left + side, top + side]) * scale).round() - 1
    corners = tuple(int(x) for x in first), tuple(int(x) for x in last)
    cv2.rectangle(picture, *corners, (0, 0, 0), 4)
    cv2.rectangle(picture, *corners, (255, 255, 255), 2)
    return picture


def overlaid(picture: Array, heatmap: Array) -> Array:
    """Lay a heatmap, float32 (h, w) of 0 to 1, in colours over the grey of a picture, uint8 (H, W, 3)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    large = cv2.resize(heatmap, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    coloured = _COLOURS[(255 * large.clip(0, 1)).round().astype(np.uint8)]
    return np.asarray((0.45 * grey + 0.55 * coloured).round().astype(np.uint8))


def _text_panel(text: str) -> Array:
    panel = Image.new("RGB", (SIDE, SIDE), "gainsboro")
    ImageDraw.Draw(panel).text((8, 8), textwrap.fill(text, 30), "black", ImageFont.load_default(12))
    return np.asarray(panel)


def _strip(panels: list[Panel]) -> Image.Image:
    """Put panels side by side on white, each centred in a square, with its caption below."""
    strip = Image.new("RGB", (len(panels) * (SIDE + GAP) - GAP, SIDE + CAPTION), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(17)
    for number, (caption, picture) in enumerate(panels):
        height, width = picture.shape[:2]
        left = number * (SIDE + GAP)
        strip.paste(Image.fromarray(picture), (left + (SIDE - width) // 2, (SIDE - height) // 2))
        short = textwrap.shorten(caption, 22, placeholder="…")
        draw.text((left + SIDE // 2, SIDE + CAPTION // 2), short, "black", font, anchor="mm")
    return strip


def _jpeg(picture: Image.Image) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MOST_BYTES:
            break
    return buffer.getvalue()
