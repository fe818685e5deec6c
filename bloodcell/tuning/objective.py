"""What a trial is worth: a metric of the validation part, by source where sources are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from bloodcell.audits.leaks import check_leaks
from bloodcell.data.samples import Samples
from bloodcell.inference.calibration import seen_obstacle
from bloodcell.inference.predict_samples import predict_samples
from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.registry import value_of
from bloodcell.runtime.config import cache_root, typed
from bloodcell.runtime.console import complain, muted
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, device_arguments, release_gpu_memory
from bloodcell.runtime.launcher import count_of
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.runtime.user_errors import user_message
from bloodcell.training.fit import build_data, classifier_of, extractor_of, fit, keep_function
from bloodcell.training.integer_features import training_extractor
from bloodcell.training.settings import settled
from bloodcell.training.train import readable, samples_of
from bloodcell.tuning.search_space import suggest
from bloodcell.tuning.storage import retries_of
from bloodcell.tuning.trial_config import TrialConfigs, drawn_by

#: The name of a trial's own folder in the study's begins so.
SCRATCH = ".trial-"

#: Called with a value of the metric and its step, an epoch or a fold, from 0; raises to prune the trial.
Report = Callable[[float, int], None]


@dataclass
class Objective:
    """Trains trials one after the other in this process; images are checked and features read once for all."""

    configs: TrialConfigs
    space: dict[str, Any]  # key -> Optuna's distribution
    metric: str  # one of `tunable`
    folds: list[int] | None  # over which the metric is averaged; None: one validation part
    folder: Path  # the study's
    #: Builds the sampler of a trial from a number of its own, so that workers that start alike draw differently, and a
    #: study with one worker repeats.
    sampler: Callable[[int], Any]

    def __post_init__(self) -> None:
        trainer = self.configured({}, None).trainer
        self.devices = device_arguments(trainer.gpus, trainer.accelerator, trainer.devices)
        self.samples: dict[str, Samples] = {}
        self.kept: dict[str, Any] = {}
        if count_of(**self.devices) != 1:
            raise BloodcellError("tune trains each trial on one device; set trainer.gpus=1, and more tune.workers")

    def __call__(self, trial: Any) -> float:
        """Train a trial of Optuna's and return its metric.

        Raises:
            Exception: Whatever went wrong; its reason is kept with the trial.
            TrialPruned: Others were better.
            KeyboardInterrupt: The trial was interrupted; a new one with the same values waits for the next worker.
        """
        from optuna.exceptions import TrialPruned
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        def report(value: float, step: int) -> None:
            trial.report(value, step)
            if trial.should_prune():
                raise TrialPruned

        study, trials = trial.study, trial.study.get_trials(deepcopy=False)
        study.sampler = self.sampler(sum(one.number < trial.number and not retries_of(one) for one in trials))
        try:
            value = self.value(suggest(trial, self.space), report)
            if not math.isfinite(value):
                raise BloodcellError(f"{self.metric} is {value}: the training diverged")
        except TrialPruned:
            raise
        except KeyboardInterrupt:
            RetryHeartbeatStaleTrialCallback()(study, study.trials[trial.number])
            raise
        except Exception as error:
            reason = user_message(error) or f"{type(error).__name__}: {error}"
            trial.set_user_attr("error", " ".join(reason.split())[:300])
            raise
        return value

    def prepare(self) -> None:
        """Check the images and their split, and read the features that the first trial needs.

        Raises:
            BloodcellError: The validation part cannot tell which trial is better.
        """
        folds: list[int | None] = [*self.folds] if self.folds else [None]
        for fold in folds:
            config = self.configured({}, fold)
            samples = self.samples_of(config)
            check_validation(samples, self.metric)
            check_leaks(samples.of_split("train", "val"), config.data, cache_root(config.cache.root))
        config = self.configured({}, folds[0])
        samples = self.samples_of(config).of_split("train", "val")
        config = settled(config, samples)
        classifier = classifier_of(config, samples)
        if classifier.finetune.frozen:
            device = "cpu" if self.devices["accelerator"] == "cpu" else best_device(None)
            extractor = extractor_of(config, classifier, device)
            keep_function(classifier, samples, extractor)
            learner = training_extractor(config.features, samples, extractor)
            build_data(config, classifier, samples, extractor, learner, self.kept)

    def value(self, params: dict[str, Any], report: Report) -> float:
        """Return the metric of a trial: of its only validation part, or the mean over its folds.

        Args:
            params: Key -> value.
            report: Called after each epoch or fold but the last; with folds, with the mean so far.
        """
        if self.folds is None:
            return self._trained(self.configured(params, None), report)
        values: list[float] = []
        for fold in self.folds:
            values.append(self._trained(self.configured(params, fold), None))
            if len(values) < len(self.folds):
                report(fmean(values), len(values) - 1)
        return fmean(values)

    def samples_of(self, config: TrainConfig) -> Samples:
        """Return the readable samples of a configuration; those of the same images and split are checked once."""
        key = json.dumps(drawn_by(config), sort_keys=True, default=str)
        if key not in self.samples:
            self.samples[key] = readable(config, samples_of(config), self.folder)
        return self.samples[key]

    def configured(self, params: dict[str, Any], fold: int | None) -> TrainConfig:
        """Return a trial's configuration without what only reports on a training."""
        config = typed(self.configs.config(params), TrainConfig)
        return replace(
            config,
            data=config.data if fold is None else replace(config.data, fold=fold),
            evaluate=replace(config.evaluate, test=False, figures=False),
            trainer=replace(config.trainer, enable_progress_bar=False),
            logger={},
            callbacks=_no_resuming(config.callbacks),
        )

    def _trained(self, config: TrainConfig, report: Report | None) -> float:
        samples = self.samples_of(config)
        rows = samples.of_split("val").table
        watch = [EpochReport(rows, self.metric, report)] if report else []
        with TemporaryDirectory(prefix=SCRATCH, dir=self.folder, ignore_cleanup_errors=True) as folder, muted():
            fitted = fit(config, samples, Path(folder), self.devices, False, watch=watch, kept=self.kept)
            part, tta = samples.of_split("val"), config.evaluate.tta
            ((table, *_),) = predict_samples([fitted.engine], part, tta, config.data.workers)
            del fitted
            release_gpu_memory()
        return value_of(table, self.metric)


class EpochReport(pl.Callback):
    """Reports the metric of the validation part after each epoch but the last, of the weights that were validated.

    Args:
        rows: The samples of the validation part, in the order in which they are validated.
        metric: One of `tunable`.
        report: Called with the metric and the epoch, from 0; what it raises ends the training.
    """

    def __init__(self, rows: pd.DataFrame, metric: str, report: Report) -> None:
        self.rows, self.metric, self.report = rows, metric, report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report the epoch; the module has computed its results."""
        if trainer.sanity_checking or trainer.current_epoch + 1 == trainer.max_epochs:
            return
        probabilities = pl_module.results["val"]["logits"].double().softmax(dim=1).cpu().numpy()
        table = predictions_table(self.rows, pl_module.classes, probabilities)
        self.report(value_of(table, self.metric), trainer.current_epoch)


def _no_resuming(callbacks: dict[str, Any]) -> dict[str, Any]:
    """Leave out the checkpoint of every epoch if there is one of the best epoch: no trial is resumed."""
    saves = {name for name, node in callbacks.items() if node and node["_target_"].endswith("ModelCheckpoint")}
    best = {name for name in saves if callbacks[name].get("monitor")}
    return {name: node for name, node in callbacks.items() if not best or name in best or name not in saves}


def check_validation(samples: Samples, metric: str) -> None:
    """Refuse a validation part that would reward what is learnt by heart; warn of one that might.

    Raises:
        BloodcellError: There is none, it shares sources with training, or a metric by source lacks sources.
    """
    if "val" not in samples.splits():
        raise BloodcellError("there are no validation images; set data.val_fraction above 0")
    if samples.of_split("val").sources_known():
        if obstacle := seen_obstacle(samples):
            raise BloodcellError(f"tuning would choose what is learnt by heart: {obstacle}")
    elif metric.endswith("by_source"):
        raise BloodcellError(
            f"tune.metric={metric}, but the sources of the validation images are unknown; find them with "
            "bloodcell audit, or choose tune.metric=macro_f1"
        )
    else:
        copies = "sources are unknown, so copies of training images may choose the winner"
        complain(f"warning: {copies}; see bloodcell audit")
