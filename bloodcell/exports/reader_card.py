"""The card of the package's reader: its data with their licences, its figures by laboratory, and what it is not for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples, read_samples
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.exports.model_card import promises, template
from bloodcell.inference.calibration import spread
from bloodcell.inference.engine import engine_of
from bloodcell.inference.predictor import load
from bloodcell.inference.tta import symmetries
from bloodcell.models.classifier import Classifier, load_classifier
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import read_config
from bloodcell.runtime.console import progress
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest

#: Name of a set in `data.sets` -> what it is, its licence, and whom to cite.
SETS = {
    "kaggle": "paultimothymooney/blood-cells of Kaggle, TRAIN alone: copies of photographs of BCCD "
    "(https://github.com/Shenggan/BCCD_Dataset); MIT licence",
    "barcelona": "a sample of PBC, Hospital Clinic of Barcelona; CC BY 4.0; Acevedo et al. 2020, A dataset of "
    "microscopic peripheral blood cell images for development of automatic recognition systems, Data in Brief 30, "
    "105474, doi:10.1016/j.dib.2020.105474",
    "chula": "cells cut from fields of Chulalongkorn University (https://github.com/singgihbekti/WBC_Dataset); MIT "
    "licence",
}
SEED = 0
_PATH = re.compile(r"(?<=[=:\[, ])[~/][^\s,}\]'\"]*")
_COLUMNS = ["choices", "set", "images", "sources", "macro_recall_by_source", "low", "high", "run"]


def reader_card(file: Path, checkpoint: Path, compared: str, laboratories: str | None) -> str:
    """Return the card as Markdown.

    Args:
        file: The reader's file.
        checkpoint: The checkpoint that it was made of, in its run folder.
        compared: How it was compared with the checkpoint.
        laboratories: leave_one_lab_out.csv of a multirun of the same recipe; None: the card has no such figures.

    Raises:
        BloodcellError: The checkpoint is not in a run folder, or the table cannot be read or is of several recipes.
    """
    run = run_folder.run_of(checkpoint)
    if run is None or not (run / "samples.csv").is_file():
        raise BloodcellError(f"{checkpoint} is in no run folder with samples.csv, so the reader's data are not known")
    classifier, samples = load_classifier(file), read_samples(run / "samples.csv")
    left_out = [] if laboratories is None else _left_out(Path(laboratories).expanduser())
    config = read_config(run / "config.yaml")
    return template("reader.md").render(
        painted=painted_answers(classifier),
        classes=classifier.classes,
        net=classifier.net,
        limits=classifier.limits,
        tta=classifier.inference.tta,
        bytes=file.stat().st_size,
        digest=file_digest(file),
        compared=compared,
        promises=promises(classifier.limits),
        sets=[_about(samples, name) for name in samples.sets() or [""]],
        left_out=left_out,
        mean=_mean([one["recall"] for one in left_out]),
        worst=min(left_out, key=lambda one: one["recall"], default=None),
        seed=config.get("seed"),
        own_classes=bool((config.get("loss") or {}).get("own_classes")),
        record=run_folder.read_run(run),
        command=_command(run),
    )


def painted_answers(classifier: Classifier) -> list[tuple[str, str, float]]:
    """Return the class of each of some painted cells, the answer to it, and its probability, 0 to 1.

    They say nothing of real cells; by them a test knows the file.
    """
    generator = np.random.default_rng(SEED)
    pictures = [paint_photograph(name, generator)[0] for name in CLASSES]
    engine = engine_of(classifier, "cpu", "eager")
    images = np.stack([pixels for pixels, _ in engine.preprocessing.prepare(pictures)])
    found = engine.predict(images, None, symmetries(engine.tta)).probabilities
    answers = [classifier.classes[number] for number in found.argmax(axis=1)]
    return list(zip(map(str.lower, CLASSES), answers, found.max(axis=1).tolist(), strict=True))


def _command(run: Path) -> str:
    """Return the command of a training, without the paths of this machine."""
    choices = run_folder.read_run(run).get("overrides") or []
    return shlex.join(["python", "train.py", *(_PATH.sub("PATH", str(one)) for one in choices)])


def _about(samples: Samples, name: str) -> dict[str, Any]:
    """Return a set's licence and numbers of images: in training and validation, by class."""
    part = samples.of_set(name) if name else samples
    used = part.table[part.table["split"].isin(["train", "val"])]
    return {
        "name": name or part.root.name,
        "words": SETS.get(name, "of unknown licence"),
        "images": len(used),
        "sources": used["source"].nunique() if part.sources_known() else None,
        "counts": used["label"].value_counts().to_dict(),
    }


def _left_out(file: Path) -> list[dict[str, Any]]:
    try:
        table = pd.read_csv(file)[_COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise BloodcellError(f"laboratories={file} is no leave_one_lab_out.csv that can be read") from error
    if table.empty or table["choices"].nunique(dropna=False) > 1:
        raise BloodcellError(f"laboratories={file} has no figures, or those of several recipes; give the table of one")
    return [
        {
            "name": str(row.set),
            "images": int(row.images),
            "sources": None if pd.isna(row.sources) else int(row.sources),
            "recall": float(row.macro_recall_by_source),
            "low": None if pd.isna(row.low) else float(row.low),
            "high": float(row.high),
            "unlike": unlike_shares(Path(str(row.run))),
        }
        for row in table.itertuples()
    ]


def unlike_shares(run: Path) -> tuple[float, float] | None:
    """Return the share that a run flags as `unlike` of its test images, spread over their sources, 0 to 1.

    The second number is the largest share of cells of its own laboratories. None: the run has no limits.

    Raises:
        BloodcellError: The run or its images are not there.
    """
    tested = spread(read_samples(run / "samples.csv").of_split("test"))
    predictor = load(run, "cpu", tta="none")
    with progress(f"images unlike those of {run.name}"):
        table = predictor.predict(tested.paths(), on_bad_image="error", cells="one")
    limits = predictor.ensemble.engines[0].limits
    return None if limits is None else (float(table["unlike"].mean()), limits.flagged)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
