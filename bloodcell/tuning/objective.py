"""What a trial is worth: a figure of the validation part, by source where that is asked for."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from bloodcell.audit.leaks import check_leaks, leak_advice
from bloodcell.data.samples import Samples
from bloodcell.inference.calibration import seen_obstacle
from bloodcell.metrics.by_source import FIGURES
from bloodcell.metrics.predictions import metrics_of
from bloodcell.runtime.config import plain
from bloodcell.runtime.console import muted
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import device_arguments
from bloodcell.training.fit import fit
from bloodcell.training.train import readable, samples_of
from bloodcell.tuning.trial_config import Recipes, drawn_by

#: Figure -> direction.
METRICS = {
    "macro_recall_by_source": "maximize",
    "accuracy_by_source": "maximize",
    "macro_f1_by_source": "maximize",
    "accuracy": "maximize",
    "macro_f1": "maximize",
    "loss": "minimize",
}

#: Called with a figure and its step, an epoch or a fold, from 0; raises to cut the trial.
Report = Callable[[float, int], None]


def figure_of(rows: pd.DataFrame, metric: str) -> float:
    """Return a figure of validation predictions.

    Args:
        rows: A predictions table of the split `val`.
        metric: One of `METRICS`; those by source want known sources. The loss is that of temperature 1.
    """
    if metric not in FIGURES or metric == "accuracy":
        return float(metrics_of(rows)[f"val/{metric}"])
    return float(
        FIGURES[metric](*(rows[name].astype(str).tolist() for name in ("label", "prediction", "source"))).value
    )


class Objective:
    """Trains trials one after the other in this process; images are looked at and features read once for all.

    Args:
        recipes: Where configurations come from.
        metric: One of `METRICS`.
        folds: Folds over which the figure is averaged; None: one validation part.
        folder: The study's.

    Attributes:
        work: This process's own folder, for a trial's checkpoints until it is over.
    """

    def __init__(self, recipes: Recipes, metric: str, folds: list[int] | None, folder: Path) -> None:
        self.recipes, self.metric, self.folds, self.folder = recipes, metric, folds, folder
        self.work = folder / "workers" / "trial"
        base = plain(recipes.base)
        self.devices = device_arguments(*(base["trainer"][key] for key in ("gpus", "accelerator", "devices")))
        self.samples: dict[str, Samples] = {}
        self.kept: dict[str, Any] = {}
        _refuse_more_than_one(self.devices)

    def prepare(self) -> None:
        """Look at the images, and at what the split tells; read the features that the first trial will want.

        Raises:
            BloodcellError: The validation part cannot tell good from bad.
        """
        from bloodcell.inference.features import build_extractor
        from bloodcell.runtime.config import cache_root
        from bloodcell.training.fit import build_data, classifier_of, keep_function

        config = self.configured({}, self._folds()[0])
        cache = cache_root(config["cache"]["root"])
        for fold in self._folds():
            one = self.configured({}, fold)
            samples = self.samples_of(one)
            require_news(samples, self.metric)
            check_leaks(
                samples.of_split("train", "val"), one["data"]["leak_check"], leak_advice(one["data"], samples), cache
            )
        samples = self.samples_of(config).of_split("train", "val")
        classifier = classifier_of(config, samples)
        if classifier.frozen:
            extractor = build_extractor(config, cache, classifier, "none", "cpu", config["data"]["workers"])
            keep_function(classifier, samples, extractor)
            build_data(config, classifier, samples, extractor, self.kept)

    def value(self, params: dict[str, Any], report: Report) -> float:
        """Return the figure of a trial: of its only validation part, or the mean over its folds.

        Args:
            params: Key -> value.
            report: Called after each epoch or fold but the last; with folds, with the mean so far.
        """
        if self.folds is None:
            return self._trained(self.configured(params, None), report)
        figures: list[float] = []
        for fold in self.folds:
            figures.append(self._trained(self.configured(params, fold), None))
            if len(figures) < len(self.folds):
                report(fmean(figures), len(figures) - 1)
        return fmean(figures)

    def samples_of(self, config: dict[str, Any]) -> Samples:
        """Return the readable samples of a configuration; those of the same images and split are looked at once."""
        key = json.dumps(drawn_by(config), sort_keys=True, default=str)
        if key not in self.samples:
            self.samples[key] = readable(config, samples_of(config), self.folder)
        return self.samples[key]

    def _folds(self) -> list[int | None]:
        return list(self.folds) if self.folds is not None else [None]

    def configured(self, params: dict[str, Any], fold: int | None) -> dict[str, Any]:
        """Return a trial's configuration without all that only looks at what was trained."""
        config = plain(self.recipes.config(params))
        if fold is not None:
            config["data"]["fold"] = fold
        config["evaluate"] |= {"test": False, "figures": False}
        config["trainer"]["enable_progress_bar"] = False
        return {**config, "logger": {}, "callbacks": _without_resuming(config["callbacks"])}

    def _trained(self, config: dict[str, Any], report: Report | None) -> float:
        from bloodcell.inference.predict_splits import predict_splits
        from bloodcell.tuning.watching import EpochFigures

        samples = self.samples_of(config)
        rows = samples.of_split("val").table
        watch = [EpochFigures(rows, lambda table: figure_of(table, self.metric), report)] if report else []
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            with muted():
                fitted = fit(config, samples, self.work, self.devices, False, watch=watch, kept=self.kept)
                (table, *_) = predict_splits(fitted.extractor, fitted.classifier.classes, samples, ["val"])
        finally:
            shutil.rmtree(self.work, ignore_errors=True)
        return figure_of(table, self.metric)


def _without_resuming(callbacks: dict[str, Any]) -> dict[str, Any]:
    """Leave out the checkpoint of every epoch where there is one of the best: no trial is resumed."""
    watching = {name: node for name, node in callbacks.items() if node and node.get("monitor")}
    saves = any(node["_target_"].endswith("ModelCheckpoint") for node in watching.values())
    every = {
        name for name, node in callbacks.items()
        if node and node["_target_"].endswith("ModelCheckpoint") and name not in watching
    }  # fmt: skip
    return {name: copy.deepcopy(node) for name, node in callbacks.items() if not (saves and name in every)}


def _refuse_more_than_one(devices: dict[str, Any]) -> None:
    count = devices["devices"]
    if (isinstance(count, list) and len(count) > 1) or (isinstance(count, int) and count not in (0, 1)):
        raise BloodcellError("tune trains each trial on one device; set trainer.gpus=1, and more tune.workers")


def require_news(samples: Samples, metric: str) -> None:
    """Refuse a validation part that would choose what is learnt by heart; warn of one that might.

    Args:
        samples: The images with their splits.
        metric: One of `METRICS`.

    Raises:
        BloodcellError: There is no validation part, it shares sources with training, or its sources are unknown where
            the metric is by source.
    """
    if "val" not in samples.splits():
        raise BloodcellError("there are no validation images; set data.val_fraction above 0")
    known = samples.of_split("val").sources_known()
    if not known and metric.endswith("by_source"):
        raise BloodcellError(
            f"tune.metric={metric}, but the sources of the validation images are unknown; find them with "
            "bloodcell audit, or choose tune.metric=macro_f1"
        )
    if known and (obstacle := seen_obstacle(samples)):
        raise BloodcellError(f"tuning would choose what is learnt by heart: {obstacle}")
    if not known:
        print(
            "warning: sources are unknown, so copies of training images may choose the winner; see bloodcell audit",
            file=sys.stderr,
        )
