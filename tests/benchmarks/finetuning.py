"""Rates of fine-tuning MobileNetV2 at 128 px, batch 64: plain loops, our classifier under Lightning, and its input.

    python tests/benchmarks/finetuning.py [--batches 24] [--rounds 3]

Random images and weights. In each round, one after the other in processes of their own: a plain PyTorch loop in
float32 with channels first; the same loop by hand with our settings (channels last, bf16 where the processor has it,
strided depthwise convolutions in float32, fused optimizer, freed memory kept); our classifier under Lightning on the
same batches; and with everything that training does, images in memory and augment=light.
Prints images a second and the medians of the ratios.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch.nn.functional import cross_entropy
from torchvision.models import mobilenet_v2

from bloodcell.data.datamodule import BloodCellDataModule
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.runtime.config import config_dir, register_resolvers, typed
from bloodcell.runtime.hardware import has_bf16, keep_freed_memory
from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.build import build_classifier, precision, quiet

SIZE, BATCH, CLASSES = 128, 64, ["a", "b", "c", "d"]
DATA = DataConfig(reader={"_target_": "bloodcell.data.readers.read_imagefolder"}, root=None, batch_size=BATCH)
WARM = 2  # batches before the clock starts


KINDS = {
    "plain float32 loop": lambda images: loop(images, plain_settings=True),
    "loop by hand, our settings": lambda images: loop(images, plain_settings=False),
    "our classifier, compute only": lambda images: ours(images, "none"),
    "with input and augmentation": lambda images: ours(images, "light"),
}


def main() -> None:
    """Measure each kind in a process of its own, since one leaves its memory to the next; print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(KINDS), help="measure this kind once, here")
    options = parser.parse_args()
    if options.only:
        print(measure(options.only, options.batches))
        return
    rounds = []
    for _ in range(options.rounds):
        rates = {}
        for kind in KINDS:
            command = [sys.executable, __file__, "--only", kind, "--batches", str(options.batches)]
            rates[kind] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        rounds.append(list(rates.values()))
        print(", ".join(f"{kind}: {rate:.0f} images/s" for kind, rate in rates.items()), flush=True)
    table = np.array(rounds)
    print(f"compute only / plain loop:        {median(table[:, 2] / table[:, 0]):.2f}")
    print(f"compute only / loop by hand:      {median(table[:, 2] / table[:, 1]):.3f}")
    print(f"with input / compute only:        {median(table[:, 3] / table[:, 2]):.3f}")


def measure(kind: str, batches: int) -> float:
    """Return images a second of one kind."""
    quiet()
    if kind != "plain float32 loop":
        keep_freed_memory()
    warnings.filterwarnings("ignore")
    shape = ((batches + WARM) * BATCH, SIZE, SIZE, 3)
    return KINDS[kind](torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)))


def configured(augment: str) -> TrainConfig:
    """Return the shipped configuration of a fine-tuning run."""
    register_resolvers()
    overrides = ["finetune=full", f"augment={augment}", "model.weights=null", f"data.image_size={SIZE}"]
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        return typed(compose("train", overrides=overrides), TrainConfig)


def classifier_of(config: TrainConfig, samples: Samples) -> Any:
    """Build the classifier that training would build."""
    torch.manual_seed(0)
    return build_classifier(config, samples, CLASSES, Preprocessing(SIZE))


def table_of(images: int) -> Samples:
    """Return as many rows of training samples, the classes in turn."""
    rows = [(f"{i}", CLASSES[i % 4], "train", "", "") for i in range(images)]
    return Samples(pd.DataFrame(rows, columns=COLUMNS), Path())


def loop(images: torch.Tensor, plain_settings: bool) -> float:
    """Return images a second of a loop by hand."""
    config = configured("none")
    if plain_settings:
        net = mobilenet_v2(num_classes=len(CLASSES)).train()
    else:
        net = classifier_of(config, table_of(len(images))).net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=not plain_settings)
    bf16 = not plain_settings and has_bf16("cpu")
    labels, start = torch.arange(len(images)) % 4, 0.0
    for number, (inputs, wanted) in enumerate(zip(images.split(BATCH), labels.split(BATCH), strict=True)):
        start = time.perf_counter() if number == WARM else start
        batch = inputs.permute(0, 3, 1, 2)
        batch = batch.contiguous().float() / 255 if plain_settings else batch
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = cross_entropy(net(batch), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (len(images) - WARM * BATCH) / (time.perf_counter() - start)


class Clock(pl.Callback):
    """Notes when the first batches are done, and when all are."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        if batch_idx == WARM - 1:
            self.start = time.perf_counter()
        self.end = time.perf_counter()


def ours(images: torch.Tensor, augment: str) -> float:
    """Return images a second of one epoch of our classifier under Lightning."""
    config, samples = configured(augment), table_of(len(images))
    data = BloodCellDataModule(samples, CLASSES, Preprocessing(SIZE), DATA, rows=images)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", devices=1, precision=precision("auto", False, "cpu"), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
            default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(classifier_of(config, samples), datamodule=data)
    return (len(images) - WARM * BATCH) / (clock.end - clock.start)


if __name__ == "__main__":
    main()
