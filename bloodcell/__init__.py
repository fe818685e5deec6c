"""White-blood-cell classification that can be trusted.

The verbs of the command line are functions here, with the same words as settings:

    import bloodcell

    bloodcell.audit("CELLS").leaks                      # images of one cell on two sides of a split
    run = bloodcell.train("CELLS", optimizer="adamw")   # a folder of class folders
    run.metrics["test/accuracy"], run.report
    bloodcell.load(run).predict("OTHER_CELLS")          # a table, a row an image; without `run` by the package's reader
    bloodcell.adapt(run, "LABELLED_CELLS")              # a run for another laboratory, by some labelled cells
    bloodcell.differential("SLIDES", run).table         # shares of the classes on slides, with intervals

A key with dots is written with two underscores, `trainer__max_epochs=20`, or in a dictionary,
`**{"trainer.max_epochs": 20}`. `bloodcell train --help` lists all keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bloodcell.runtime.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path

    import pandas as pd

    from bloodcell.audits.result import Audit
    from bloodcell.evaluation.differentials.count_result import Counts
    from bloodcell.evaluation.run import Run
    from bloodcell.inference.predictor import Predictor

__all__ = ["__version__", "adapt", "audit", "differential", "evaluate", "export", "load", "predict", "train"]


def audit(folder: str | PathLike[str] | None = None, **settings: Any) -> Audit:
    """Find images of the same cell, and what leaks between the splits of a data set.

    Args:
        folder: A folder of class folders, or of train and test folders of these; None: the settings say what.
        settings: Keys of `bloodcell audit`, e.g. `data="kaggle"`.

    Returns:
        The tables `sources`, `leaks`, `conflicts`, `duplicates` and `unreadable`; `verdict()`, plain sentences; and
        `folder` and `report`, where all of it was written.

    Raises:
        BloodcellError: A mistake in a setting or in the folder.
    """
    from dataclasses import replace

    from bloodcell.cli import call

    done = call("audit", folder, settings)
    audited: Audit = replace(done.value, folder=done.folder)
    return audited


def train(folder: str | PathLike[str] | None = None, **settings: Any) -> Run:
    """Train a classifier and evaluate it.

    Args:
        folder: A folder of class folders, which takes `experiment=own_folder` as the command line does; None: the
            settings say what, e.g. `data="synthetic"`.
        settings: Keys of `bloodcell train`, e.g. `model="resnet18"` or `optimizer__lr=1e-3`.

    Returns:
        The run, with the tables `metrics`, `predictions` and `history`, and the paths `folder` and `report`.

    Raises:
        BloodcellError: A mistake in a setting or in the folder.
    """
    from bloodcell.cli import call
    from bloodcell.evaluation.run import Run

    return Run(call("train", folder, settings).folder)


def adapt(
    checkpoint: str | PathLike[str] | None = None,
    folder: str | PathLike[str] | None = None,
    corrections: str | PathLike[str] | pd.DataFrame | None = None,
    **settings: Any,
) -> Run:
    """Adapt a classifier, the reader, to another laboratory by some labelled cells.

    Args:
        checkpoint: The reader: a run, its folder or a .ckpt file; None: the package's own.
        folder: A folder of class folders; with `corrections`, the folder that its paths are relative to; None: the
            settings say what, e.g. `data="table", data__table="LABELS.csv"`.
        corrections: What humans have decided on cells: a corrections file, or a table with its columns.
        settings: Keys of `bloodcell adapt`, e.g. `steps=200`.

    Returns:
        The run of the reader that is kept, with the tables `metrics` and `predictions`, and the paths `folder` and
        `report`; adaptation.json in the folder says which it is, and why.

    Raises:
        BloodcellError: A mistake in a setting or in the labels, or there is no such reader.
    """
    from bloodcell.cli import call
    from bloodcell.data.corrections import as_file
    from bloodcell.evaluation.run import Run

    with as_file(corrections) as file:
        given = {"data.root": folder, "corrections": file}
        return Run(call("adapt", checkpoint, {name: one for name, one in given.items() if one} | settings).folder)


def evaluate(run: Any = None, **settings: Any) -> Run:
    """Evaluate a run on its own validation and test part, or on other data.

    Args:
        run: A run, its folder, a .ckpt or exported file, or a list of them, whose mean is evaluated; None:
            `predictions="FILE.csv"` of any system.
        settings: Keys of `bloodcell evaluate`, e.g. `data="imagefolder", data__root="OTHER"`.

    Returns:
        The evaluation, with the tables `metrics` and `predictions`, and the paths `folder` and `report`.

    Raises:
        BloodcellError: A mistake in a setting, or there is no such run.
    """
    from bloodcell.cli import call
    from bloodcell.evaluation.run import Run

    return Run(call("evaluate", run, settings).folder)


def load(
    run: Any = None,
    device: str | None = None,
    tta: str | None = None,
    backend: str = "auto",
    classes: Sequence[str] | None = None,
) -> Predictor:
    """Load a classifier, or several, whose mean then predicts.

    Args:
        run: A run, its folder, a .ckpt or exported file, or a list of them; None: the package's own reader.
        device: cpu, cuda or mps; None: the best there is.
        tta: none, flips or d4; None: as in training.
        backend: auto, onnx, compile or eager; auto: as in training, else the fastest.
        classes: The only answers, if the images can show no other class, e.g. `["blast", "lymphocyte"]`; None: all.

    Returns:
        The classifier; its `predict` takes a folder, a pattern, files or arrays.

    Raises:
        BloodcellError: There is no such checkpoint, it is not one of this package, several have other classes, or
            `classes` has a name that it does not know.
    """
    from bloodcell.inference.predictor import load as loaded

    return loaded(run, device, tta, backend, classes)


def predict(
    images: Any,
    checkpoint: Any = None,
    *,
    abstain_below: float | None = None,
    error_rate: float | None = None,
    on_bad_image: str = "list",
    cells: str = "auto",
    **choices: Any,
) -> pd.DataFrame:
    """Predict images: the table that `bloodcell predict` writes.

    Args:
        images: A folder, a file, a pattern, an RGB array uint8 (H, W, 3), a Pillow image, or a list of them.
        checkpoint: A run, its folder, a .ckpt or exported file, or a list of them; None: the package's own reader.
        abstain_below: Confidence (0 to 1) below which an image is left to a human.
        error_rate: The same, from the share of errors that the checkpoint promised.
        on_bad_image: list or error; see `Predictor.predict`.
        cells: auto, all, one or whole; see `Predictor.predict`.
        choices: `device`, `tta`, `backend` and `classes`, as for `load`.

    Returns:
        A row an image, or a row a cell of a field; see `Predictor.predict`.

    Raises:
        BloodcellError: There is no such checkpoint or image.
    """
    return load(checkpoint, **choices).predict(
        images, abstain_below=abstain_below, error_rate=error_rate, on_bad_image=on_bad_image, cells=cells
    )


def differential(
    images: str | PathLike[str],
    run: Any = None,
    corrections: str | PathLike[str] | pd.DataFrame | None = None,
    **settings: Any,
) -> Counts:
    """Count the white cells of slides by class, with 95 % intervals.

    Args:
        images: The folder of the slides, a folder each; or of the pictures of one slide.
        run: A run, its folder, a .ckpt or exported file, or a list of them; None: the package's own reader.
        corrections: What humans have decided on cells: a corrections file, or a table with its columns. Cells that they
            have confirmed count as known.
        settings: Keys of `bloodcell differential`, e.g. `cells="one"` or `abstain_below=0.8`.

    Returns:
        The counts, with the tables `table`, a row for each slide and class, `slides` and `cells`, and the paths
        `folder` and `report`.

    Raises:
        BloodcellError: A mistake in a setting or in the folder, or there is no such checkpoint.
    """
    from bloodcell.cli import call
    from bloodcell.data.corrections import as_file
    from bloodcell.evaluation.differentials.count_result import Counts

    with as_file(corrections) as file:
        own = {"checkpoint": run, **settings} | ({} if file is None else {"corrections": file})
        return Counts(call("differential", images, own).folder)


def export(run: Any = None, **settings: Any) -> Path:
    """Export a checkpoint to a file or folder that runs elsewhere, with a model card.

    Args:
        run: A run, its folder or a .ckpt file; None: the package's own reader.
        settings: Keys of `bloodcell export`, e.g. `format="onnx"` or `output="cells.onnx"`.

    Returns:
        The file or folder. It gives the same probabilities as the checkpoint, else there is none.

    Raises:
        BloodcellError: A mistake in a setting, or the file would answer otherwise.
    """
    from bloodcell.cli import call

    file: Path = call("export", run, settings).value
    return file
