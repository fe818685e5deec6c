"""The cells of slides: predicted once, with what humans have decided on them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.cells import cells_digest
from bloodcell.data.confirmed_cells import confirmed_column
from bloodcell.data.corrections import Corrections
from bloodcell.evaluation.differentials.slide_names import Slides
from bloodcell.evaluation.run import read_table
from bloodcell.inference.engine import Engine
from bloodcell.inference.predict import predict_images
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest, read_json, write_csv, write_json
from bloodcell.runtime.schema.verbs import DifferentialConfig, PredictConfig
from bloodcell.runtime.version import __version__

#: Settings on which the cells do not depend, or which the digests of files stand for.
_FREE = ("checkpoint", "images", "corrections", "slide_regex", "report", "outputs", "cache", "workers")


def origin_of(config: DifferentialConfig, engines: list[Engine], slides: Slides) -> dict[str, Any]:
    """Return what the cells depend on, as plain values: settings, classifiers, pictures, finder and release."""
    settings = {name: value for name, value in asdict(config).items() if name not in _FREE}
    pictures = hashlib.sha256()
    for path in slides.of_path:
        file = slides.root / path
        state = file.stat() if file.is_file() else None
        pictures.update(f"{path}|{state and (state.st_size, state.st_mtime_ns)}\n".encode())
    return {
        "settings": json.loads(json.dumps(settings, default=str)),
        "classifiers": [file_digest(engine.file) if engine.file else "" for engine in engines],
        "pictures": pictures.hexdigest(),
        "finder": cells_digest(),
        "release": __version__,
    }


def has_cells(folder: Path, origin: dict[str, Any]) -> bool:
    """Return whether a folder has all cells of the same origin."""
    try:
        known = read_json(folder / "cells.json") == origin
    except (OSError, ValueError):
        return False
    return known and _complete(folder / "cells.csv")


def cells_of(
    config: DifferentialConfig, folder: Path, engines: list[Engine], slides: Slides, origin: dict[str, Any]
) -> pd.DataFrame:
    """Return the table of all cells with their slide, predicted by `predict` as far as cells.csv is not complete."""
    file = folder / "cells.csv"
    if not _complete(file):
        predict_images(_prediction(config, file), engines)
        write_json(origin, folder / "cells.json")
    cells = read_table(file)
    if not any(slides.fields(folder / "cells.bad.csv").values()):
        raise BloodcellError(f"no image in images={config.images} can be read; which and why: {folder}/cells.bad.csv")
    return cells.assign(slide=cells["path"].map(slides.of_path))


def _complete(file: Path) -> bool:
    return file.is_file() and not file.with_suffix(".state.json").is_file()


def _prediction(config: DifferentialConfig, file: Path) -> PredictConfig:
    own = {name: value for name, value in vars(config).items() if name not in ("slide_regex", "report")}
    return PredictConfig(
        **{**own, "images": str(config.images), "corrections": None},
        output=str(file),
        overwrite=False,
        overlays=None,
        geojson=None,
        rois=None,
        devices=None,
    )


def with_decisions(
    cells: pd.DataFrame, corrections: Corrections | None, folder: Path
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the cells with the column confirmed, and by picture how many decisions match no cell.

    The folder gets confirmed.csv, a row for each cell on which a human has decided.
    """
    if corrections is None:
        return cells, {}
    column, unmatched = confirmed_column(cells, corrections)
    cells = cells.assign(confirmed=column)
    names = ["slide", "path", "number", "left", "top", "width", "height", "prediction", "confirmed"]
    decided = cells.loc[column != "", [name for name in names if name in cells]]
    write_csv(decided.rename(columns={"confirmed": "label"}), folder / "confirmed.csv")
    return cells, unmatched
