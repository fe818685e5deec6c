"""The LightningModule: what learns and what stays, what is measured, and what a checkpoint may be."""

import math
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from torch.utils.data import DataLoader, TensorDataset

from bloodcell.models.classifier import _mix, load_checkpoint, load_classifier, parameter_counts
from bloodcell.runtime.errors import BloodcellError
from tests.models.conftest import CLASSES, build, changed, state_of

# Lightning's advice on workers is for larger data, and a frozen backbone is meant to be in evaluation mode.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode"),
]


@pytest.mark.parametrize("augment", [{"name": "none"}, {"name": "mine", "rotation": 180.0, "flip": True}])
def test_frozen_moves_the_head_alone(fit, loader, augment):
    classifier = build("frozen", augment)
    before = state_of(classifier)
    fit(classifier, loader, loader)
    after = state_of(classifier)
    assert sum(key.endswith("running_mean") for key in before) == 52
    assert changed(before, after, "backbone") == set()  # weights, running means and variances, batch counters
    assert changed(before, after, "head") == {key for key in before if key.startswith("head")}


def test_full_moves_every_weight_and_statistic(fit, loader):
    classifier = build("full")
    before = state_of(classifier)
    fit(classifier, loader)
    assert changed(before, state_of(classifier), "") == set(before)


class Modes(pl.Callback):
    """Notes in which mode backbone and dropout are at each training step."""

    def __init__(self):
        self.seen = set()

    def on_train_batch_start(self, trainer, module, batch, index):
        self.seen.add((any(m.training for m in module.net.backbone.modules()), module.net.head.dropout.training))


@pytest.mark.parametrize(("finetune", "expected"), [("frozen", (False, True)), ("full", (True, True))])
def test_frozen_means_evaluation_mode_of_the_backbone_and_not_of_the_head(fit, loader, finetune, expected):
    modes = Modes()
    fit(build(finetune), loader, loader, callbacks=[modes])
    assert modes.seen == {expected}  # after a validation epoch, too


def test_counts_of_parameters():
    head = 1280 * 8 + 8 + 8 * 4 + 4
    learn, frozen = parameter_counts(build("frozen"))
    assert learn == head
    assert (learn + frozen, 0) == parameter_counts(build("full"))
    whole = build("frozen", width=None, head={"pool": "max", "hidden": 256, "dropout": 0.2})
    assert parameter_counts(whole) == (328_964, 2_223_872)


@pytest.mark.parametrize("finetune", ["frozen", "full"])
def test_the_optimizer_has_what_learns(finetune):
    classifier = build(finetune)
    optimizer = classifier.configure_optimizers()
    assert (
        sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == parameter_counts(classifier)[0]
    )


def test_an_unknown_way_of_learning():
    with pytest.raises(BloodcellError, match="finetune=gradaul; choose frozen, full or gradual"):
        build("gradaul")


def test_features_in_place_of_images_go_to_the_head():
    classifier = build().eval()
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(classifier(classifier.net.features(images)), classifier(images))


class Results(pl.callbacks.Checkpoint):
    """Keeps each epoch's metrics; of the kind that Lightning calls after the module has logged them."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append({key: float(value) for key, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("loss", [{}, {"class_weights": [9, 1, 1, 1], "label_smoothing": 0.1}])
def test_metrics_are_scikit_learns(loss):
    """Uneven batches, an asymmetric confusion matrix, and a class that is there but never predicted."""
    torch.manual_seed(3)
    inputs, labels = torch.randn(37, 1280), torch.tensor([0] * 15 + [1] * 4 + [2] * 8 + [3] * 10)
    val = DataLoader(TensorDataset(inputs, labels), batch_size=8)
    classifier = build("frozen", loss=loss)
    with torch.no_grad():
        classifier.net.head.logits.bias[2] = -10  # MON is never predicted
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.validate(classifier, val, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    with torch.no_grad():
        logits = classifier.eval()(inputs)
    predicted, probabilities = logits.argmax(1).numpy(), torch.softmax(logits.double(), 1).numpy()
    assert 2 not in predicted
    f1 = f1_score(labels, predicted, average=None, labels=range(4), zero_division=0)
    assert metrics["val/accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-6)
    assert metrics["val/macro_f1"] == pytest.approx(f1.mean(), abs=1e-6)
    assert [metrics[f"val/f1_{name}"] for name in CLASSES] == pytest.approx(f1, abs=1e-6)
    assert metrics["val/f1_MON"] == 0
    assert metrics["val/loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(4)), rel=1e-5)
    matrix = confusion_matrix(labels, predicted, labels=range(4))
    assert (matrix != matrix.T).any()
    np.testing.assert_array_equal(classifier.results["val"]["confusion"], matrix)
    torch.testing.assert_close(classifier.results["val"]["logits"], logits)
    assert torch.equal(classifier.results["val"]["labels"], labels)


def test_a_class_without_images_has_no_f1_and_does_not_count():
    torch.manual_seed(3)
    inputs, labels = torch.randn(20, 1280), torch.tensor([0] * 12 + [3] * 8)
    classifier = build("frozen")
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", logger=False, **quiet)
    trainer.validate(classifier, DataLoader(TensorDataset(inputs, labels), batch_size=8), verbose=False)
    with torch.no_grad():
        predicted = classifier.eval()(inputs).argmax(1).numpy()
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    expected = f1_score(labels, predicted, labels=[0, 3], average="macro", zero_division=0)
    assert set(predicted) & {1, 2}, "some are predicted as absent classes"
    assert metrics["val/macro_f1"] == pytest.approx(expected, abs=1e-6)
    assert [name for name in CLASSES if np.isnan(metrics[f"val/f1_{name}"])] == [CLASSES[1], CLASSES[2]]


def test_each_epoch_is_measured_by_itself(fit, loader):
    classifier, results = build("full", optimizer={"_target_": "torch.optim.SGD", "lr": 0.0}), Results()
    fit(classifier, loader, loader, epochs=2, callbacks=[results], enable_checkpointing=True)
    first, second = results.epochs
    assert {"train/loss", "train/accuracy", "train/macro_f1", "val/loss", "val/accuracy", "val/f1_EOS"} <= set(first)
    assert first["train/loss"] == second["train/loss"]
    assert classifier.outputs == {"train": [], "val": []}
    assert len(classifier.results["val"]["labels"]) == 24


def test_class_weights_and_smoothing_are_torchs():
    classifier = build(loss={"class_weights": [1, 2, 3, 4], "label_smoothing": 0.1}).eval()
    batch = torch.rand(4, 3, 32, 32), torch.arange(4)
    expected = torch.nn.functional.cross_entropy(
        classifier(batch[0]), batch[1], torch.tensor([1.0, 2, 3, 4]), label_smoothing=0.1
    )
    torch.testing.assert_close(classifier.training_step(batch, 0), expected)
    with pytest.raises(BloodcellError, match=r"loss\.label_smoothing=2; give a number from 0 to below 1"):
        build(loss={"label_smoothing": 2})


def test_images_are_augmented_in_training_alone():
    classifier = build(augment={"name": "mine", "rotation": 180.0})
    classifier.augment.forward = lambda images: torch.zeros_like(images, dtype=torch.float32)
    images, labels = torch.full((4, 3, 32, 32), 255, dtype=torch.uint8), torch.arange(4)
    classifier.training_step((images, labels), 0)
    classifier.eval()
    classifier.validation_step((images, labels), 0)
    with torch.no_grad():
        torch.testing.assert_close(classifier.outputs["val"][0][0], classifier(images))
    assert not torch.allclose(classifier.outputs["train"][0][0], classifier.outputs["val"][0][0])


class Rates(pl.Callback):
    """Notes the learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("scheduler", "best", "last"),
    [
        ({"_target_": "CosineAnnealingLR", "T_max": "total_steps"}, 0, 0.05 * (1 + math.cos(math.pi * 5 / 6)) / 2),
        (
            {"_target_": "OneCycleLR", "max_lr": 0.05, "total_steps": "total_steps", "pct_start": 0.5},
            2,
            0.05 / 25 / 1e4,
        ),
    ],
)
def test_schedulers_span_the_whole_training_step_by_step(fit, loader, scheduler, best, last):
    rates = Rates()
    fit(
        build(scheduler=scheduler | {"_target_": f"torch.optim.lr_scheduler.{scheduler['_target_']}"}),
        loader,
        callbacks=[rates],
    )
    assert len(rates.rates) == 6  # two epochs of three batches
    assert rates.rates[best] == pytest.approx(0.05)
    assert rates.rates[-1] == pytest.approx(last)
    assert rates.rates[best:] == sorted(rates.rates[best:], reverse=True)


def test_plateau_watches_the_validation_loss(fit, loader):
    scheduler = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "factor": 0.1, "patience": 0}
    results = Results()
    trainer = fit(build(scheduler=scheduler), loader, loader, epochs=1, callbacks=[results], enable_checkpointing=True)
    assert trainer.lr_scheduler_configs[0].monitor == "val/loss"
    assert trainer.lr_scheduler_configs[0].scheduler.best == pytest.approx(results.epochs[0]["val/loss"])


def test_a_scheduler_without_an_end_is_refused(fit, loader):
    scheduler = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": "total_steps"}
    with pytest.raises(BloodcellError, match=r"needs an end: set trainer\.max_epochs"):
        fit(build(scheduler=scheduler), loader, epochs=-1, limit_train_batches=1)


class Draws(pl.Callback):
    """Notes a random number of torch's as each epoch begins."""

    def __init__(self):
        self.numbers = []

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 0:
            self.numbers.append(float(torch.rand(1)))


def test_randomness_follows_from_seed_and_epoch(fit, loader):
    noted = {}
    for key, seed in (("first", 1), ("again", 1), ("other", 2)):
        torch.manual_seed(hash(key) % 1000)  # whatever was drawn before
        draws = Draws()
        fit(build(seed=seed), loader, epochs=3, callbacks=[draws])
        noted[key] = draws.numbers
    assert noted["first"] == noted["again"]
    assert len(set(noted["first"] + noted["other"])) == 6


def test_mixed_seeds_are_apart_and_valid():
    mixed = {_mix(seed, epoch, rank) for seed in range(-3, 20) for epoch in range(50) for rank in range(4)}
    assert len(mixed) == 23 * 50 * 4
    assert all(0 <= seed < 2**63 for seed in mixed)
    torch.manual_seed(max(mixed))


@pytest.fixture
def checkpoint(tmp_path, fit, loader):
    """Return a classifier that was trained, and the file that Lightning made of it."""
    classifier = build("frozen", loss={"class_weights": [1.0, 2.0, 3.0, 4.0]})
    trainer = fit(classifier, loader, loader, epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return classifier, tmp_path / "a.ckpt"


def test_a_checkpoint_is_all_that_is_needed(checkpoint):
    classifier, file = checkpoint
    loaded = load_classifier(file)
    assert loaded.classes == CLASSES
    assert loaded.hparams["preprocessing"] == {"image_size": 32}
    assert not any(module.training for module in loaded.modules())
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(loaded(images), classifier.eval()(images))
    assert load_checkpoint(file)["global_step"] == 3


def test_weights_files_are_not_wanted_again(checkpoint, tmp_path):
    _, file = checkpoint
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["model"]["weights"] = "/gone/weights.pth"
    torch.save(content, file)
    assert load_classifier(file).hparams["model"]["weights"] is None


def test_hyper_parameters_are_plain(checkpoint):
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        return all(map(plain, value)) if isinstance(value, list) else type(value) in (str, int, float, bool, type(None))

    assert plain(dict(torch.load(checkpoint[1], weights_only=True)["hyper_parameters"]))


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(BloodcellError, match=r"no checkpoint .*gone\.ckpt; give a run folder or a \.ckpt file"):
        load_checkpoint(tmp_path / "gone.ckpt")
    (tmp_path / "text.ckpt").write_text("words")
    with pytest.raises(BloodcellError, match=r"text\.ckpt is no checkpoint that can be read safely"):
        load_checkpoint(tmp_path / "text.ckpt")
    torch.save({"hyper_parameters": Payload(tmp_path / "executed")}, tmp_path / "evil.ckpt")
    with pytest.raises(BloodcellError, match=r"evil\.ckpt is no checkpoint that can be read safely"):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [[1], {}, {"state_dict": {}}, {"hyper_parameters": {"lr": 1}}, {"hyper_parameters": 3}]
)
def test_another_programs_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(
        BloodcellError, match=r"other\.ckpt is not a checkpoint of bloodcell: it names no model, classes"
    ):
        load_checkpoint(tmp_path / "other.ckpt")


def without_state(content):
    del content["state_dict"]


def without_a_tensor(content):
    del content["state_dict"]["net.head.logits.bias"]


def with_another_model(content):
    content["hyper_parameters"]["model"]["width"] = 0.5


def with_no_model(content):
    content["hyper_parameters"]["model"] = None


def with_more_classes(content):
    content["hyper_parameters"]["classes"].append("BAS")


@pytest.mark.parametrize(
    "spoil", [without_state, without_a_tensor, with_another_model, with_no_model, with_more_classes]
)
def test_a_checkpoint_whose_weights_do_not_fit(checkpoint, spoil):
    _, file = checkpoint
    content = torch.load(file, weights_only=True)
    spoil(content)
    torch.save(content, file)
    with pytest.raises(BloodcellError, match=r"a\.ckpt: the weights do not fit the model that it names") as raised:
        load_classifier(file)
    assert len(str(raised.value).splitlines()) == 1
