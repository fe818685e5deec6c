"""What the tests of models share: a small classifier, few images, and a quick fit."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from bloodcell.models.classifier import Classifier

CLASSES = ["EOS", "LYM", "MON", "NEU"]
MODEL = {
    "name": "mobilenet_v2", "library": "torchvision", "weights": None, "width": 0.25, "image_size": 32,
    "mean": [0.5] * 3, "std": [0.25] * 3, "head": {"pool": "avg", "hidden": 8, "dropout": 0.0},
}  # fmt: skip


def build(finetune="full", augment=None, scheduler=None, optimizer=None, loss=None, seed=0, **model):
    torch.manual_seed(0)
    return Classifier(
        model={**copy.deepcopy(MODEL), **model},
        classes=list(CLASSES),
        preprocessing={"image_size": 32},
        optimizer=optimizer or {"_target_": "torch.optim.SGD", "lr": 0.05},
        scheduler=scheduler or {"_target_": None},
        finetune={"name": finetune} if isinstance(finetune, str) else finetune,
        augment=augment or {"name": "none"},
        loss={"class_weights": None, "label_smoothing": 0.0, **(loss or {})},
        seed=seed,
    )


@pytest.fixture
def loader():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(24) % 4), batch_size=8)


@pytest.fixture
def fit():
    """Train for real and quickly: fit(classifier, train, val=None, epochs=2) -> the trainer."""

    def run(classifier, train, val=None, epochs=2, callbacks=(), **options):
        options = {"max_epochs": epochs, "enable_checkpointing": False, **options}
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1, callbacks=list(callbacks),
            **options,
        )  # fmt: skip
        trainer.fit(classifier, train, val or train)
        return trainer

    return run


def state_of(classifier):
    return {key: value.clone() for key, value in classifier.net.state_dict().items()}


def changed(before, after, prefix):
    return {key for key in before if key.startswith(prefix) and not torch.equal(before[key], after[key])}
