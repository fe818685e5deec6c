"""Training on one GPU: where batches, weights and memory are, and that a run continues."""

import json
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from bloodcell.data.augment import build_augment
from bloodcell.data.datamodule import BloodCellDataModule
from bloodcell.data.loaders import RowsDataset, rows_loader
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import ShuffleSampler
from bloodcell.data.samples import read_samples
from bloodcell.inference.backends import Backbone
from bloodcell.inference.features import Extractor
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime.config import typed
from bloodcell.runtime.hardware import device_arguments, has_bf16
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training import fit as fitting
from bloodcell.training.build import build_classifier, precision, trainer_of
from bloodcell.training.train import samples_of
from tests.gpu.conftest import DEVICE, FULL, GPUS, LEAN, SMEARS, trained

on_gpu = pytest.mark.skipif(DEVICE != "cuda", reason="a fact of a GPU alone")


class Spy(pl.Callback):
    """Notes what the first step trains on, and with `strict` lets no further step wait for the GPU."""

    def __init__(self, strict=False):
        self.strict, self.seen = strict, {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0 and not self.seen:
            first = next(module for module in pl_module.net.backbone.modules() if isinstance(module, torch.nn.Conv2d))
            self.hook = first.register_forward_hook(self._note)
            images, labels = batch
            self.seen |= {"images": images, "labels": labels, "precision": trainer.precision}
        if batch_idx == 2 and self.strict:
            torch.cuda.set_sync_debug_mode("error")

    def _note(self, _, inputs, output):
        self.seen["map"] = output.detach()
        self.hook.remove()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == trainer.num_training_batches and self.strict:
            torch.cuda.set_sync_debug_mode("default")


def fine_tuned(compose, samples, folder, spy, *overrides):
    """Fine-tune with the product's own functions and a spy."""
    config = typed(compose(*SMEARS, GPUS, *LEAN, *FULL, *overrides), TrainConfig)
    devices = device_arguments(config.trainer.gpus, None, None)
    folder.mkdir()
    try:
        return fitting.fit(config, samples, folder, devices, tests=False, watch=[spy])
    finally:
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def samples(compose):
    return samples_of(typed(compose(*SMEARS), TrainConfig))


def test_a_full_run_computes_in_bf16_channels_last_from_images_on_the_gpu(compose, samples, tmp_path):
    spy = Spy()
    fine_tuned(compose, samples, tmp_path / "run", spy, "trainer.max_epochs=2")
    lower = has_bf16(DEVICE)
    assert spy.seen["precision"] == precision("auto", False, DEVICE) == ("bf16-mixed" if lower else "32-true")
    assert spy.seen["images"].dtype == torch.uint8
    assert {spy.seen[name].device.type for name in ("images", "labels", "map")} == {DEVICE}
    assert spy.seen["map"].dtype == (torch.bfloat16 if lower else torch.float32)
    assert spy.seen["map"].is_contiguous(memory_format=torch.channels_last)
    assert not spy.seen["map"].is_contiguous()


@on_gpu
@pytest.mark.parametrize("augment", ["light", "strong"])
def test_no_step_waits_for_the_gpu(compose, samples, tmp_path, augment):
    fine_tuned(compose, samples, tmp_path / "run", Spy(strict=True), "trainer.max_epochs=1", f"augment={augment}")


def test_a_full_run_has_the_losses_of_the_cpu(compose, tmp_path):
    """Without chance, in float32 on both."""
    plain = ["augment=none", "model.head.dropout=0", "optimizer.lr=1e-4", "trainer.precision=32-true"]
    histories = []
    for number, place in enumerate(("trainer.gpus=0", GPUS)):
        folder = trained(compose, tmp_path / f"{number}", *FULL, *plain, "trainer.max_epochs=2", place)
        histories.append(pd.read_csv(folder / "history.csv"))
    for name in ("train/loss", "val/loss"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], atol=2e-3, rtol=0)
    assert histories[0]["train/loss"].diff().max() < -1e-3  # it learnt something


def test_a_frozen_run_has_the_features_of_the_cpu(compose, frozen_run, cache):
    """Its head learnt from rows that the device computed and kept."""
    samples = read_samples(frozen_run / "samples.csv").of_split("val")
    classifier = load_classifier(frozen_run / "checkpoints" / "best.ckpt")
    net, preprocessing = classifier.net, Preprocessing(**classifier.hparams["preprocessing"])
    here = Backbone(net, preprocessing.image_size, device=DEVICE)
    kept = Extractor(net, preprocessing, here, cache / "features")
    folders = [store.name for store in (cache / "features").iterdir()]
    assert kept.store().folder.name in folders
    assert kept.described()["backend"].startswith("eager cuda float32" if DEVICE == "cuda" else "onnx cpu float32")
    places = kept.store().places([*samples.table["content"]])
    assert (places >= 0).all()
    computed = Extractor(net, preprocessing, Backbone(net, preprocessing.image_size, "eager"), None).features(samples)
    difference = (kept.features(samples)[:] - computed).norm() / computed.norm()
    assert difference < 1e-4


def test_a_frozen_backbone_stays_as_it_was(compose, frozen_run):
    config = typed(compose(*SMEARS), TrainConfig)
    before = fitting.classifier_of(config, read_samples(frozen_run / "samples.csv")).net.backbone.state_dict()
    after = load_classifier(frozen_run / "checkpoints" / "best.ckpt").net.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_rows_are_on_the_gpu_if_a_quarter_of_its_memory_suffices(monkeypatch):
    rows = torch.zeros(8, 4, 4, 3, dtype=torch.uint8)
    monkeypatch.setattr(fitting, "free_gpu_memory", lambda device: 4 * rows.nbytes)
    assert fitting.on_gpu(rows, DEVICE).device.type == DEVICE
    monkeypatch.setattr(fitting, "free_gpu_memory", lambda device: 4 * rows.nbytes - 1)
    assert fitting.on_gpu(rows, DEVICE) is rows


def test_batches_from_the_gpu_are_those_of_the_cpu():
    rows = torch.randint(0, 256, (11, 6, 6, 3), dtype=torch.uint8)
    where, labels = torch.randperm(11)[:10][None], torch.arange(10)
    for least in (1, 2):
        batches = [
            list(rows_loader(RowsDataset(rows.to(place), where, labels, ShuffleSampler(10, 3)), 3, least))
            for place in ("cpu", DEVICE)
        ]
        for mine, theirs in zip(*batches, strict=True):
            assert theirs[0].device.type == theirs[1].device.type == DEVICE
            assert torch.equal(mine[0], theirs[0].cpu())
            assert torch.equal(mine[1], theirs[1].cpu())


@on_gpu
def test_batches_from_the_host_are_pinned():
    rows = torch.zeros(8, 4, 4, 3, dtype=torch.uint8)
    inputs, labels = next(iter(rows_loader(RowsDataset(rows, torch.arange(8)[None], torch.arange(8)), 4)))
    assert inputs.is_pinned()
    assert labels.is_pinned()


@pytest.mark.parametrize("name", ["light", "strong"])
def test_augmentation_is_that_of_the_cpu(compose, monkeypatch, name):
    """The same random numbers give the same images."""
    images = torch.randint(0, 256, (6, 3, 48, 48), dtype=torch.uint8)
    images = torch.nn.functional.avg_pool2d(images.float(), 5, 1, 2).to(torch.uint8)  # no noise between two pixels
    augment = build_augment(asdict(typed(compose(f"augment={name}"), TrainConfig).augment))
    rand, results = torch.rand, []
    for place in ("cpu", DEVICE):
        numbers = torch.Generator().manual_seed(5)

        def drawn(*shape, device="cpu", generator=None, numbers=numbers):
            return rand(*shape, generator=numbers).to(device)

        with monkeypatch.context() as patch:
            patch.setattr(torch, "rand", drawn)
            results.append(augment(images.to(place)))
    assert results[1].device.type == DEVICE
    assert not torch.allclose(results[0], images.float() / 255, atol=0.05)
    torch.testing.assert_close(results[1].cpu(), results[0], atol=1e-4, rtol=0)


def test_a_training_frees_the_memory_of_the_gpu(compose, full_run, tmp_path):
    """A training before has built what the libraries keep."""
    del full_run
    taken = []
    for number in range(2):
        trained(compose, tmp_path / f"{number}", *FULL, "trainer.max_epochs=1", "logger=tensorboard")
        taken.append(torch.cuda.memory_allocated() if DEVICE == "cuda" else 0)
    assert taken[1] - taken[0] < 2**20
    assert taken[1] < 2**27  # weights, gradients, moments, batches and images would be more


def test_a_killed_run_continues_on_the_gpu(compose, start, tmp_path):
    """Its epochs are those of a run that nothing disturbs."""
    epochs = ("trainer.max_epochs=12", "trainer.precision=32-true", "optimizer.lr=1e-3")
    settings = [*SMEARS, GPUS, *LEAN, *FULL, *epochs]
    run = tmp_path / "killed"
    command = start("train.py", *settings, f"hydra.run.dir={run}")
    history, deadline = run / "history.csv", time.monotonic() + 120
    while not (history.exists() and len(history.read_text().splitlines()) > 2):
        assert command.process.poll() is None, command.printed.read_text()[-3000:]
        assert time.monotonic() < deadline, command.printed.read_text()[-3000:]
        time.sleep(0.01)
    command.kill()
    before = pd.read_csv(history)
    assert 2 <= len(before) < 12
    whole = trained(compose, tmp_path / "whole", *settings)
    start("train.py", f"resume={run}").end()
    found, wanted = pd.read_csv(history), pd.read_csv(whole / "history.csv")
    assert list(found["epoch"]) == list(range(1, 13))
    shared = len(before) - 1  # the last row may have been written before its checkpoint
    pd.testing.assert_frame_equal(found[:shared], before[:shared])
    for name in ("train/loss", "val/loss"):
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-3, rtol=0)


def test_ddp_with_one_gpu_is_one_process(frozen_run, start, tmp_path):
    place = [] if DEVICE == "cuda" else ["trainer.accelerator=cpu", "trainer.devices=1"]
    run = tmp_path / "run"
    settings = [*SMEARS, *LEAN, "trainer=ddp", *place, "trainer.max_epochs=4", f"hydra.run.dir={run}"]
    if torch.cuda.device_count() > 1:
        settings.append("trainer.devices=1")
    start("train.py", *settings).end()
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("finished", 1)
    mine, theirs = (pd.read_csv(folder / "history.csv") for folder in (run, frozen_run))
    np.testing.assert_allclose(mine["val/loss"], theirs["val/loss"], atol=1e-3, rtol=0)


def test_precision_is_what_was_asked_for(compose):
    config = typed(compose(*SMEARS, GPUS, *LEAN), TrainConfig)
    devices = device_arguments(config.trainer.gpus, None, None)
    for asked, frozen, wanted in (("auto", True, "32-true"), ("32-true", False, "32-true")):
        learning = replace(config.finetune, name="frozen" if frozen else "full")
        trainer = trainer_of(replace(config.trainer, precision=asked), devices, learning, logger=False)
        assert trainer.precision == wanted
        assert trainer.strategy.root_device.type == DEVICE


def test_a_plain_module_trains_from_features_on_the_gpu(compose, samples):
    """Rows of features on the device reach the head without a copy."""
    config = typed(compose(*SMEARS, GPUS, *LEAN, "data.batch_size=8"), TrainConfig)
    classes = sorted(set(samples.table["label"]))
    classifier = build_classifier(config, samples, classes, Preprocessing(64))
    rows = torch.randn(len(samples.table), classifier.net.width).to(DEVICE)
    data = BloodCellDataModule(samples, classes, Preprocessing(64), config.data, rows=rows)
    devices = device_arguments(config.trainer.gpus, None, None)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    trainer_of(config.trainer, devices, config.finetune, **quiet).fit(classifier, datamodule=data)
    assert classifier.results["train"]["logits"].device.type == DEVICE
    assert len(classifier.results["val"]["labels"]) == len(samples.of_split("val").table)
