"""The verb `find-lr`: a learning rate for training, by a range test (Smith 2015, https://arxiv.org/abs/1506.01186).

Lightning's Tuner ignores `finetune.lr_decay`, keeps only smoothed losses, and suggests a rate even if the loss falls by
chance.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from bloodcell.evaluation.figures import save
from bloodcell.runtime import run_folder
from bloodcell.runtime.colours import BLUE, ORANGE
from bloodcell.runtime.command import given, say_end
from bloodcell.runtime.config import job_folder, typed, uses_cache
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import device_arguments
from bloodcell.runtime.io import write_atomically, write_csv
from bloodcell.runtime.launcher import require, trainer_devices
from bloodcell.runtime.schema.verbs import FindLrConfig, TrainConfig
from bloodcell.runtime.signals import interruptible
from bloodcell.training.build import trainer_of
from bloodcell.training.fit import build_data, classifier_of, extractor_of, keep_function
from bloodcell.training.integer_features import training_extractor
from bloodcell.training.settings import settled
from bloodcell.training.train import readable, samples_of

#: A smaller fall of the smoothed loss, in standard deviations of the single losses around it, is chance.
CLEAR_FALL = 2.0


def run(cfg: DictConfig) -> float:
    """Run `find_lr` in the folder that Hydra chose."""
    return find_lr(cfg, job_folder())


@uses_cache
def find_lr(cfg: DictConfig, folder: Path) -> float:
    """Train with a learning rate that grows at each step, and suggest an `optimizer.lr`.

    Writes config.yaml, lr_finder.csv (lr, loss, smoothed) and lr_finder.png into a new folder.

    Raises:
        BloodcellError: The user made an error, or the loss falls at no rate.
    """
    config = typed(cfg, FindLrConfig)
    rates = grown_rates(**asdict(config.finder))
    require(*trainer_devices(cfg))
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    samples = samples_of(config).of_split("train")
    run_folder.begin_results(folder, config)
    write_atomically(folder / "config.yaml", lambda file: OmegaConf.save(cfg, file, resolve=True))
    table = measure(config, readable(config, samples, folder), devices, rates)
    write_csv(table, folder / "lr_finder.csv")
    rate = suggested_rate(table)
    save(finder_figure(table, rate), folder / "lr_finder.png")
    run_folder.end_results(folder)
    say(f"the loss falls fastest at optimizer.lr={rate:.1e}")
    say_end(folder / "lr_finder.png", then=["train", *given("finder.", "optimizer.lr="), f"optimizer.lr={rate:.1e}"])
    return rate


def grown_rates(min_lr: float, max_lr: float, steps: int) -> list[float]:
    """Return the rate of each step, from `min_lr` to `max_lr` by a constant factor."""
    return [float(rate) for rate in np.geomspace(min_lr, max_lr, steps)]


def growth(rates: list[float]) -> dict[str, Any]:
    """Return the `scheduler` configuration that multiplies all learning rates by a constant at each step."""
    return {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": rates[1] / rates[0]}


def measure(config: TrainConfig, samples: Any, devices: dict[str, Any], rates: list[float]) -> pd.DataFrame:
    """Train one step at each rate of the head, with all blocks that ever learn.

    The configured scheduler, callbacks and loggers are not used.

    Returns:
        Columns lr, loss and smoothed, a row per step until the loss diverges.
    """
    from bloodcell.training.callbacks.lr_range_test import RangeTest

    learning = replace(config.finetune, name="frozen" if config.finetune.frozen else "full")
    optimizer = {**config.optimizer, "lr": rates[0]}
    config = replace(config, finetune=learning, optimizer=optimizer, scheduler=growth(rates))
    config = settled(config, samples)
    classifier = classifier_of(config, samples)
    length: dict[str, Any] = {"max_steps": len(rates), "max_epochs": -1, "limit_val_batches": 0}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = trainer_of(config.trainer, devices, config.finetune, **length, **quiet)
    extractor = extractor_of(config, classifier, str(trainer.strategy.root_device))
    keep_function(classifier, samples, extractor)
    learner = training_extractor(config.features, samples, extractor)
    data = build_data(config, classifier, samples, extractor, learner)
    with progress("learning rates") as report, interruptible():
        trainer.callbacks.append(test := RangeTest(rates, report))
        trainer.fit(classifier, datamodule=data)
    return test.table()


def suggested_rate(table: pd.DataFrame) -> float:
    """Return the rate, to two digits, at which the smoothed loss falls most steeply over the rate's logarithm.

    Raises:
        BloodcellError: The loss does not fall by more than its scatter.
    """
    smooth = table["smoothed"].to_numpy()
    lowest = int(smooth.argmin()) if len(smooth) else 0
    scatter = float((table["loss"] - table["smoothed"])[: lowest + 1].std(ddof=0)) if lowest else 0.0
    if lowest == 0 or smooth[0] - smooth[lowest] < CLEAR_FALL * scatter:
        raise BloodcellError(
            "the loss falls at no learning rate of the range beyond its scatter; see lr_finder.csv, and try a larger "
            "data.batch_size, more finder.steps or another range"
        )
    slope = np.gradient(smooth, np.log(table["lr"]))[: lowest + 1]
    return float(f"{table['lr'].iloc[int(slope.argmin())]:.1e}")


def finder_figure(table: pd.DataFrame, rate: float) -> Figure:
    """Draw the loss over the learning rate, and the suggested rate."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(table["lr"], table["loss"], color=BLUE, alpha=0.3, linewidth=1, label="loss of each step")
    axes.plot(table["lr"], table["smoothed"], color=BLUE, linewidth=2, label="smoothed")
    axes.axvline(rate, color=ORANGE, linestyle="--", linewidth=1.5, label=f"steepest descent: {rate:.1e}")
    least, most = table["smoothed"].min(), table["smoothed"].max()
    axes.set_ylim(max(0.0, least - 0.25 * (most - least)), most + 0.25 * (most - least))  # single losses may be far off
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Learning-rate range test")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
