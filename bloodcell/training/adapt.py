"""The verb `adapt`: from a reader and some labelled cells of another laboratory to a reader of that laboratory.

    bloodcell adapt checkpoint=READER data.root=DIR                          a folder of class folders
    bloodcell adapt checkpoint=READER data=table data.table=LABELS.csv       rows without a label are left out
    bloodcell adapt checkpoint=READER corrections=corrections.csv data.root=DIR
    bloodcell.adapt(READER, DIR), bloodcell.adapt(READER, DIR, corrections=FILE)

A reader is a trained classifier, whatever trained it. `corrections` is the file of `bloodcell.data.corrections`, which
the page and other programs write; its paths are relative to data.root, or else to its own folder. `hydra.run.dir=OUT`
names the new run folder. In it there are

- progress.json, replaced whole at each step: {"done": 3, "of": 7, "what": "fold 3 of 5"}; at the end done is of;
- adaptation.json, at the end: {"kept": "adapted" | "reader", "cells": N, "classes": {CLASS: N}, "before": {"value",
  "low", "high"}, "after": the same, "why": one sentence}. Both figures are the balanced accuracy on the labelled cells,
  0 to 1, with a 95 % interval: `before` of the reader, `after` of the adapted one by cross-validation, over sources if
  any are known, else over images. No cell is tested by a net that it trained or chose;
- what every run has: config.yaml, run.json, samples.csv, predictions.csv (by the cross-validation), metrics.json,
  report.html, and checkpoints/best.ckpt, with temperature, limits and confusions of its own. It is written last, so a
  command that was stopped leaves nothing that loads.

If the adapted reader is not better, kept is "reader" and the checkpoint is the reader's file, unchanged. SIGINT and
SIGTERM end the command with 130 and 143; a mistake of the user is one line on standard error, and 1.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from bloodcell.audits.overlap import EARLIER, training_samples
from bloodcell.data.corrected_cells import LabelledCell, cut_out, labelled_cells_of
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.labelled_cells import folds_of, read_labelled, with_known_classes
from bloodcell.data.readers import absolute, data_set_name, existing_folder, selected
from bloodcell.data.samples import Samples, digest, write_samples
from bloodcell.evaluation.own_images import keep_as_own
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import JUDGING, write_results
from bloodcell.inference.calibration import Calibration, calibrate_by_folds, keep_calibration
from bloodcell.inference.engine import Engine
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.reliability import tempered_table
from bloodcell.models.ood import Fold
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.command import prediction_by, say_end
from bloodcell.runtime.config import cache_root, job_folder, listed, typed, uses_cache
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, device_arguments
from bloodcell.runtime.io import write_atomically, write_json
from bloodcell.runtime.launcher import require, trainer_devices
from bloodcell.runtime.schema.data import FeaturesConfig
from bloodcell.runtime.schema.verbs import AdaptConfig
from bloodcell.training.adaptation_outcome import Outcome, Steps, balanced_accuracy
from bloodcell.training.adapted_reader import Adaptation, features_of, predictions_of, training_config
from bloodcell.training.fit import Fitted
from bloodcell.training.train import readable


def run(cfg: DictConfig) -> dict[str, Any]:
    """Adapt in the folder that Hydra chose."""
    return adapt(cfg, job_folder())


@uses_cache
def adapt(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Adapt a reader to the laboratory of some labelled cells; the module says what is written.

    Args:
        cfg: The configuration that `conf/adapt.yaml` composes.
        folder: The run folder; a new one.

    Returns:
        The content of adaptation.json.

    Raises:
        BloodcellError: The user made an error.
    """
    config = typed(cfg, AdaptConfig)
    require(*trainer_devices(cfg))
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    reader = reader_of(config, best_device("cpu" if devices["accelerator"] == "cpu" else None))
    given = _given(config)
    run_folder.refuse_used(folder)
    with run_folder.locked(folder), _recorded(cfg, config, folder):
        steps = Steps(folder / "progress.json", 3 + config.data.folds)
        steps.begin("reading the cells")
        samples = _samples(config, reader, given, folder)
        outcome = _Adapting(config, reader, samples, folder, devices, steps).outcome()
        run_folder.write_run(folder, samples=digest(samples), kept=outcome["kept"])
    steps.end()
    look = folder / ("report.html" if config.report else "adaptation.json")
    say_end(look, then=prediction_by([folder]))
    return outcome


def reader_of(config: AdaptConfig, device: str) -> Engine:
    """Load the reader.

    Raises:
        BloodcellError: There is none, there are several, or it is an exported file, which cannot learn.
    """
    if len(given := listed(config.checkpoint)) != 1:
        raise BloodcellError(f"adapt takes one reader, and {len(given) or 'none'} is given; give checkpoint=RUN")
    (engine,) = load_engines(given, device, FeaturesConfig(backend="eager", precision=None))
    engine.trained()
    return engine


def _given(config: AdaptConfig) -> Samples | list[LabelledCell]:
    """Return the labelled cells, those of corrections before they are cut out."""
    if config.corrections is None:
        return read_labelled(config.data, cache_root(config.cache.root))
    return labelled_cells_of(absolute(config.corrections))


def _samples(config: AdaptConfig, reader: Engine, given: Samples | list[LabelledCell], folder: Path) -> Samples:
    """Return the labelled cells that can be read, of the part train, with the reader's names of the classes."""
    cache = cache_root(config.cache.root)
    if not isinstance(given, Samples):
        root = existing_folder(config.data.root) if config.data.root else absolute(str(config.corrections)).parent
        cells = cut_out(given, root, reader.preprocessing, folder / "cells")
        given = with_saved_sources(selected(cells, config.data), cache)
    samples = with_known_classes(given, reader.classes, [str(name) for name in listed(config.new_classes)])
    samples = readable(training_config(config, reader.trained()), samples, folder)
    keep_as_own(samples, cache)
    return samples


@contextmanager
def _recorded(cfg: DictConfig, config: AdaptConfig, folder: Path) -> Iterator[None]:
    """Record in run.json how the run is repeated, and how it ended; a run that failed leaves no checkpoint."""
    reader = str(run_folder.checkpoint_of(absolute(str(listed(config.checkpoint)[0]))).absolute())
    run_folder.begin(folder, run_folder.fingerprint(asdict(config), reader))
    run_folder.write_run(folder, reader=reader)
    write_atomically(folder / "config.yaml", lambda file: OmegaConf.save(cfg, file, resolve=True))
    started = time.perf_counter()
    try:
        yield
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run_folder.write_run(folder, status=status, error=distributed.cause_of(error)[:500])
        raise
    run_folder.write_run(folder, status="finished", error=None, seconds=round(time.perf_counter() - started, 1))


@dataclass
class _Adapting:
    """One adaptation in its run folder."""

    config: AdaptConfig
    reader: Engine
    samples: Samples
    folder: Path
    devices: dict[str, Any]
    steps: Steps

    def outcome(self) -> dict[str, Any]:
        """Test the adapted reader, keep the better one, and return the content of adaptation.json."""
        folds = folds_of(self.samples, self.config.data.folds, self.config.seed)
        self.steps.of = 3 + len(folds)
        known = (self.samples.table["source"] != "").any()
        self.steps.begin("the reader on the labelled cells")
        before = predictions_of(self.reader, self.samples, self.reader.tta).assign(split="val")
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".fits-") as scratch:
            adaptation = self._adaptation()
            after, parts = self._tested(adaptation, folds, Path(scratch))
            counts = self.samples.table["label"].value_counts().sort_index()
            figures = balanced_accuracy(before), balanced_accuracy(after)
            over = "sources" if known else "images"
            outcome = Outcome(*figures, len(folds), over, {str(name): int(count) for name, count in counts.items()})
            self.steps.begin("all labelled cells" if outcome.adapted else "the results")
            if outcome.adapted:
                fitted = adaptation.fitted(self.samples, Path(scratch) / "all")
                self._keep_adapted(fitted, adaptation.classes, after, before, parts, outcome)
            else:
                self._keep_reader(before, outcome)
        write_json(found := outcome.as_dict(), self.folder / "adaptation.json")
        say(outcome.why)
        return found

    def _adaptation(self) -> Adaptation:
        reader = self.reader.trained()
        new = [name for name in sorted(set(self.samples.table["label"])) if name not in reader.classes]
        return Adaptation(training_config(self.config, reader), reader, [*reader.classes, *new], self.devices)

    def _tested(self, adaptation: Adaptation, folds: list[Samples], scratch: Path) -> tuple[pd.DataFrame, list[Fold]]:
        """Return the predictions of all cells, each by the net of a fold that did not train on it, and the features."""
        tables, parts = [], []
        for number, part in enumerate(folds, start=1):
            self.steps.begin(what := f"fold {number} of {len(folds)}")
            say(what)
            engine = adaptation.fitted(part, scratch / str(number)).engine
            chosen = (part.table["split"] == "val").to_numpy()
            tables.append(
                predictions_of(engine, part.of_split("val"), self.reader.tta).set_index(np.flatnonzero(chosen))
            )
            learnt, unseen = (features_of(engine, part.of_split(name)) for name in ("train", "val"))
            parts.append(Fold(chosen, learnt, unseen))
        return pd.concat(tables).sort_index(), parts

    def _keep_adapted(
        self,
        fitted: Fitted,
        classes: list[str],
        after: pd.DataFrame,
        before: pd.DataFrame,
        parts: list[Fold],
        outcome: Outcome,
    ) -> None:
        """Calibrate the adapted reader and write the run's files, the checkpoint last."""
        features = features_of(fitted.engine, self.samples)
        calibration = calibrate_by_folds(self.samples, after, classes, features, parts, self.reader.tta)
        others = {"the reader": before} if classes == self.reader.classes else {}
        rows = tempered_table(after, calibration.temperature)
        self._write(self.samples, rows, others, replace(fitted.engine, temperature=calibration.temperature), outcome)
        for line in calibration.lines:
            say(line)
        self._write_checkpoint(fitted, calibration)

    def _write_checkpoint(self, fitted: Fitted, calibration: Calibration) -> None:
        file = self.folder / "checkpoints" / "best.ckpt"
        file.parent.mkdir()
        plain = {name: fitted.chosen[name] for name in ("state_dict", "hyper_parameters", "epoch", "global_step")}
        versions = {name: one for name, one in fitted.chosen.items() if "version" in name}
        keep_calibration(calibration, self.reader.trained().inference, {**plain, **versions}, file)

    def _keep_reader(self, before: pd.DataFrame, outcome: Outcome) -> None:
        """Write the run's files for the reader as it was; the labelled cells have tested it."""
        held = replace(self.samples, table=self.samples.table.assign(split="val"))
        self._write(held, before, {}, self.reader, outcome)
        file = self.folder / "checkpoints" / "best.ckpt"
        file.parent.mkdir()
        assert self.reader.file is not None
        source = self.reader.file
        write_atomically(file, lambda temporary: shutil.copyfile(source, temporary))

    def _write(
        self, samples: Samples, rows: pd.DataFrame, others: dict[str, pd.DataFrame], engine: Engine, outcome: Outcome
    ) -> None:
        """Write samples, predictions, metrics and report."""
        write_samples(samples, self.folder / "samples.csv")
        assert self.reader.file is not None
        if earlier := training_samples(self.reader.file):
            write_samples(earlier, self.folder / EARLIER)
        origin = Origin(
            str(self.folder), engine.classifier, engine.temperature, (outcome.why,),
            heading=self.config.report_title, data=data_set_name(samples), preprocessing=engine.preprocessing,
        )  # fmt: skip
        more = {"temperature": engine.temperature, "epochs_compared": 1.0}
        with progress(JUDGING):
            _, lines = write_results(
                self.folder, rows, root=samples.root, figures=False, origin=origin, report=self.config.report,
                others=others, more=more,
            )  # fmt: skip
        for line in lines:
            say(line)
