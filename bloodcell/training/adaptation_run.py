"""One adaptation in its run folder: the folds, the choice between both readers, and the files of the kept one."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.audits.overlap import EARLIER, learnt, training_samples
from bloodcell.data.labelled_cells import folds_of
from bloodcell.data.readers import data_set_name
from bloodcell.data.samples import Samples, write_samples
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import JUDGING, write_results
from bloodcell.inference.calibration import Calibration, calibrate_by_folds, keep_calibration
from bloodcell.inference.engine import Engine
from bloodcell.metrics.reliability import tempered_table
from bloodcell.models.ood import Fold
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.io import write_atomically, write_json
from bloodcell.runtime.schema.verbs import AdaptConfig
from bloodcell.training.adaptation_outcome import Outcome, Steps, balanced_accuracy
from bloodcell.training.adapted_reader import Adaptation, features_of, predictions_of, training_config
from bloodcell.training.fit import Fitted


@dataclass
class AdaptationRun:
    """One adaptation in its run folder.

    Attributes:
        config: The configuration of the verb.
        reader: The reader.
        samples: The labelled cells, all of the part train.
        folder: The run folder, which has begun.
        devices: Lightning's accelerator and devices.
        steps: How far the command is.
    """

    config: AdaptConfig
    reader: Engine
    samples: Samples
    folder: Path
    devices: dict[str, Any]
    steps: Steps

    def outcome(self) -> dict[str, Any]:
        """Test the adapted reader, keep the better one, and return the content of adaptation.json."""
        known_before = self._learnt_before()
        folds = folds_of(self.samples, self.config.data.folds, self.config.seed, known_before)
        self.steps.of = 3 + len(folds)
        known = (self.samples.table["source"] != "").any()
        self.steps.begin("the reader on the labelled cells")
        before = predictions_of(self.reader, self.samples, self.reader.tta).assign(split="val")
        before = before[~known_before].reset_index(drop=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".fits-") as scratch:
            adaptation = self._adaptation()
            after, parts = self._tested(adaptation, folds, Path(scratch))
            counts = self.samples.table["label"].value_counts().sort_index()
            figures = balanced_accuracy(before), balanced_accuracy(after)
            over = "sources" if known else "images"
            of_classes = {str(name): int(count) for name, count in counts.items()}
            outcome = Outcome(*figures, len(folds), over, len(before), of_classes)
            self.steps.begin("all labelled cells" if outcome.adapted else "the results")
            if outcome.adapted:
                fitted = adaptation.fitted(self.samples, Path(scratch) / "all")
                self._keep_adapted(fitted, adaptation.classes, after, before, parts, outcome)
            else:
                self._keep_reader(before, outcome)
        write_json(found := outcome.as_dict(), self.folder / "adaptation.json")
        say(outcome.why)
        return found

    def _learnt_before(self) -> Any:
        """Return whether the reader has learnt each cell, bool (N,), and say how many it has."""
        assert self.reader.file is not None
        found = learnt(self.samples, training_samples(self.reader.file)).to_numpy(bool)
        if found.any():
            cells = counted(int(found.sum()), "cell")
            say(f"note: the reader has learnt {cells} of these before, or others of their sources; they do not test it")
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
            seen, unseen = (features_of(engine, part.of_split(name)) for name in ("train", "val"))
            parts.append(Fold(chosen, seen, unseen))
        return pd.concat(tables).sort_index().reset_index(drop=True), parts

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
        tested = self.samples.table["path"].isin(before["path"])
        held = replace(self.samples, table=self.samples.table.assign(split=np.where(tested, "val", "train")))
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
