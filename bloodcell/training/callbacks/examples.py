"""Validation images for TensorBoard, at the end of a training: those that are wrong, and the features of many."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bloodcell.data.threads import map_in_order
from bloodcell.evaluation.failures import errors_of
from bloodcell.evaluation.gallery import Array
from bloodcell.inference.engine import Engine
from bloodcell.inference.features import Rows
from bloodcell.metrics.predictions import probability_of
from bloodcell.runtime.hardware import cpu_count

#: Most images in the projector, and seconds after which no further ones are added.
MOST, SECONDS = 500, 1.0
#: Most wrong images; images in a batch; side of a thumbnail, pixels.
WRONG, BATCH, SIDE = 24, 32, 48
#: Principal components of the features that are written: all of 500 images would be 6 MB of text.
COMPONENTS = 50


def write_examples(
    writer: Any, engine: Engine, predictions: pd.DataFrame, root: Path, epoch: int, kept: Rows | None = None
) -> None:
    """Write the most confident errors of the validation part, as the net saw them, and the projector.

    `predictions` is the table of the run, `root` the folder of its images, and `epoch` the number of its epochs. `kept`
    has the features of the validation part, (N, F); None: the net computes some.
    """
    rows = predictions[predictions["split"] == "val"].reset_index(drop=True)
    wrong = errors_of(rows)[:WRONG]
    seen = {path: engine.preprocessing.pixels(root / path) for path in wrong["path"]}
    for number, (row, sure) in enumerate(zip(wrong.itertuples(), probability_of(wrong, "prediction"), strict=True), 1):
        tag = f"wrong validation images/{number:02} {row.label} as {row.prediction}, {100 * sure:.0f} % sure"
        writer.add_image(tag, seen[str(row.path)], epoch, dataformats="HWC")
    _write_projector(writer, engine, rows, root, epoch, kept)


def _write_projector(
    writer: Any, engine: Engine, rows: pd.DataFrame, root: Path, epoch: int, kept: Rows | None
) -> None:
    """Write features and thumbnails of as many images, drawn by seed, as `SECONDS` allow."""
    rows, end = rows.sample(frac=1, random_state=0)[:MOST], time.monotonic() + SECONDS
    run, threads = (engine.passes(BATCH).run, 1) if kept is None else (None, cpu_count())
    images = map_in_order(lambda path: engine.preprocessing.pixels(root / path), rows["path"], threads)
    computed, pictures = list[Array](), list[Array]()
    while batch := list(islice(images, BATCH)):
        if run:
            computed.append(run(np.stack(batch))[1])
        pictures += [cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in batch]
        if time.monotonic() > end:
            break
    shown = rows[: len(pictures)]
    if len(shown) < 3:  # TensorBoard draws three axes
        return
    features = np.concatenate(computed) if kept is None else np.asarray(kept[shown.index.to_numpy()])
    writer.add_embedding(
        principal_components(features),
        metadata=shown[["label", "prediction", "path"]].astype(str).to_numpy().tolist(),
        metadata_header=["label", "prediction", "path"],
        label_img=_tensor(pictures),
        global_step=epoch,
        tag="validation features",
    )


def principal_components(features: Array) -> Array:
    """Return the first `COMPONENTS` principal components of features, float32 (N, F)."""
    centred = features - features.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(left[:, :COMPONENTS] * scale[:COMPONENTS])


def _tensor(pictures: list[Array]) -> Any:
    """Return pictures, uint8 (h, w, 3) each, as torch's float32 (N, 3, h, w) of 0 to 1."""
    import torch

    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
