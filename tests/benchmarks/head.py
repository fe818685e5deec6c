"""Seconds of an epoch of the head on features in memory, under Lightning with all that a run has.

    python tests/benchmarks/head.py [--train 8000] [--val 2000] [--epochs 15] [--rounds 3]

Random features of 1,280 channels; the notebook's head, batches of 32; history, checkpoints and TensorBoard as in any
run. Beside it: a plain PyTorch loop over the same batches, without any of them and without validation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from hydra import compose, initialize_config_dir

from bloodcell.data.datamodule import BloodCellDataModule
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.runtime.config import config_dir, register_resolvers, typed
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.build import build_classifier, build_trainer, quiet
from bloodcell.training.steps import steps_together

CLASSES = ["a", "b", "c", "d"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("train", 8000), ("val", 2000), ("epochs", 15), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    quiet()
    rows = [(f"{i}", CLASSES[i % 4], "train", "", "") for i in range(options.train)]
    rows += [(f"v{i}", CLASSES[i % 4], "val", "", "") for i in range(options.val)]
    samples = Samples(pd.DataFrame(rows, columns=COLUMNS), Path())
    features = torch.randn(len(rows), 1280, generator=torch.Generator().manual_seed(0))
    ours, loop = [], []
    for _ in range(options.rounds):
        ours.append(fitted(samples, features, options.epochs) / options.epochs)
        loop.append(plain_loop(samples, features[: options.train]))
        print(f"our epoch {ours[-1]:.3f} s; plain loop {loop[-1]:.3f} s", flush=True)
    print(f"median: our epoch {median(ours):.3f} s, {median(ours) / median(loop):.2f} times the plain loop's")


def configured(epochs: int = 1) -> TrainConfig:
    """Return the notebook's configuration."""
    register_resolvers()
    overrides = ["experiment=notebook", "data.root=.", "model.weights=null", "~callbacks.early_stopping"]
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        overrides += [f"trainer.max_epochs={epochs}", "trainer.enable_progress_bar=false"]
        overrides += ["~logger.tensorboard"]  # its picture of a training batch wants files
        return typed(compose("train", overrides=overrides), TrainConfig)


def classifier_of(config: TrainConfig, samples: Samples) -> Any:
    """Build the classifier that training would build."""
    torch.manual_seed(0)
    return build_classifier(config, samples, CLASSES, Preprocessing(224))


def fitted(samples: Samples, features: torch.Tensor, epochs: int) -> float:
    """Return the seconds of a fit."""
    config = configured(epochs)
    classifier = classifier_of(config, samples)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder), {"accelerator": "cpu", "devices": 1}, False)
        data = BloodCellDataModule(samples, CLASSES, Preprocessing(224), config.data, config.seed, features)
        data.together = steps_together(config, features, trainer)
        classifier.automatic_optimization = data.together == 1
        start = time.perf_counter()
        trainer.fit(classifier, datamodule=data)
        return time.perf_counter() - start


def plain_loop(samples: Samples, features: torch.Tensor) -> float:
    """Return the seconds of one epoch of a loop by hand."""
    head = classifier_of(configured(), samples).net.head.train()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, fused=True)
    labels, start = torch.arange(len(features)) % 4, time.perf_counter()
    for positions in torch.randperm(len(features)).split(32):
        loss = torch.nn.functional.cross_entropy(head(features[positions]), labels[positions])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
