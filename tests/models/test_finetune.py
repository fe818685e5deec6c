"""Fine-tuning: what learns in which epoch, how fast, and that nothing else moves."""

import pytest
import pytorch_lightning as pl
import torch

from bloodcell.models.blocks import blocks_of
from bloodcell.models.classifier import load_classifier, parameter_counts
from bloodcell.models.finetune import apply_phase
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import FinetuneConfig
from tests.models.conftest import build, changed, state_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode"),
]

GRADUAL = {
    "name": "gradual", "head_epochs": 1, "block_epochs": 1, "blocks": None, "lr_decay": 0.5, "batch_norm": "train",
}  # fmt: skip
#: MobileNetV2's head of 256 and 4, then its blocks from the top.
HEAD = 1280 * 256 + 256 + 256 * 4 + 4
BLOCKS = [412_160, 473_920, 320_000, 320_000, 155_264, 118_272, 118_272, 66_624]


@pytest.mark.parametrize(
    ("head_epochs", "block_epochs", "blocks", "expected", "last"),
    [
        (1, 1, None, [0, 1, 2, 3, 4, 4, 4], 4),
        (0, 1, None, [1, 2, 3, 4, 4, 4, 4], 3),
        (2, 2, None, [0, 0, 1, 1, 2, 2, 3], 8),
        (1, 3, 2, [0, 1, 1, 1, 2, 2, 2], 4),
        (1, 1, 1, [0, 1, 1, 1, 1, 1, 1], 1),
    ],
)
def test_blocks_of_each_epoch(head_epochs, block_epochs, blocks, expected, last):
    finetune = FinetuneConfig(name="gradual", head_epochs=head_epochs, block_epochs=block_epochs, blocks=blocks)
    assert [finetune.trainable_blocks(epoch, 4) for epoch in range(7)] == expected
    assert finetune.last_phase(4) == last
    most = finetune.most_blocks(4)
    assert finetune.trainable_blocks(last, 4) == most > finetune.trainable_blocks(last - 1, 4)


def test_frozen_and_full_have_one_phase():
    assert [FinetuneConfig(name="frozen").trainable_blocks(epoch, 4) for epoch in (0, 9)] == [0, 0]
    assert [FinetuneConfig(name="full").trainable_blocks(epoch, 4) for epoch in (0, 9)] == [4, 4]
    assert FinetuneConfig(name="frozen").last_phase(4) == FinetuneConfig(name="full").last_phase(4) == 0


def test_more_blocks_than_there_are():
    with pytest.raises(BloodcellError, match=r"finetune\.blocks=20, but this model has 19 blocks"):
        build({**GRADUAL, "blocks": 20})


def test_numbers_of_parameters_that_learn_in_each_epoch():
    classifier = build(GRADUAL, width=None, head={"pool": "max", "hidden": 256, "dropout": 0.2})
    total = 2_223_872 + HEAD
    assert parameter_counts(classifier) == (HEAD, 2_223_872)
    for epoch in range(25):
        apply_phase(classifier.finetune, classifier.net, epoch)
        learn, frozen = parameter_counts(classifier)
        assert learn + frozen == total
        if epoch <= len(BLOCKS):
            assert learn == HEAD + sum(BLOCKS[:epoch])
        assert (learn == total) is (epoch >= 19)
    apply_phase(classifier.finetune, classifier.net, 0)  # a function of the epoch alone: back as well
    assert parameter_counts(classifier) == (HEAD, 2_223_872)


class Snapshots(pl.Callback):
    """Keeps the net's state as each epoch begins, and checks the modes at each step."""

    def __init__(self):
        self.states, self.modes = [], []

    def on_train_epoch_start(self, trainer, module):
        self.states.append(state_of(module))

    def on_train_batch_start(self, trainer, module, batch, index):
        blocks = blocks_of(module.net.backbone)
        self.modes.append([any(m.training for part in block.modules for m in part.modules()) for block in blocks])


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_what_does_not_learn_yet_does_not_move_by_a_bit(fit, loader, optimizer):
    """With weight decay, momentum and validation in between: neither weights nor statistics."""
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    rule = {"_target_": f"torch.optim.{optimizer}", "lr": 1e-3, "weight_decay": 0.1, "fused": True, **options}
    classifier, seen = build({**GRADUAL, "lr_decay": 1.0}, optimizer=rule), Snapshots()
    fit(classifier, loader, epochs=4, callbacks=[seen])
    states = [*seen.states, state_of(classifier)]
    for epoch in range(4):
        moved = {int(key.split(".")[1]) for key in changed(states[epoch], states[epoch + 1], "backbone")}
        assert moved == set(range(19 - epoch, 19))
        learning = [False] * (19 - epoch) + [True] * epoch
        assert seen.modes[3 * epoch : 3 * epoch + 3] == [learning] * 3
    for key in states[0]:
        if key.startswith("backbone.18"):
            assert not torch.equal(states[1][key], states[2][key]), key  # all of a block that learns, statistics too


@pytest.mark.parametrize("finetune", [{"name": "full"}, {**GRADUAL, "head_epochs": 0, "lr_decay": 1.0}])
def test_frozen_batch_norm_keeps_statistics_and_learns_scale_and_shift(fit, loader, finetune):
    adam = {"_target_": "torch.optim.Adam", "lr": 0.01}
    classifier = build({**finetune, "batch_norm": "frozen"}, optimizer=adam)
    before = state_of(classifier)
    fit(classifier, loader, epochs=1)
    moved = changed(before, state_of(classifier), "backbone")
    assert not any("running_" in key or key.endswith("num_batches_tracked") for key in moved)
    assert {"backbone.18.0.weight", "backbone.18.1.weight", "backbone.18.1.bias"} <= moved


class GroupRates(pl.Callback):
    """Notes each group's rate at each step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])


SCHEDULERS = {
    "none": {"_target_": None},
    "cosine": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": "total_steps"},
    "onecycle": {
        "_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.05, "total_steps": "total_steps",
        "pct_start": 0.3,
    },
    "plateau": {
        "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "factor": 0.1, "patience": 0, "threshold": 10.0,
        "eps": 0.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("finetune", [{"name": "full", "lr_decay": 0.5}, GRADUAL])
def test_each_block_learns_at_a_share_of_the_rate_above(fit, loader, scheduler, finetune):
    noted = GroupRates()
    fit(build(finetune, scheduler=SCHEDULERS[scheduler]), loader, epochs=4, callbacks=[noted])
    assert len(noted.rates) == 12
    for rates in noted.rates:
        assert rates == pytest.approx([rates[0] * 0.5**depth for depth in range(20)], rel=1e-9)
    heads = [rates[0] for rates in noted.rates]
    assert (max(heads), len(set(heads)) > 1) == (pytest.approx(0.05, rel=0.05), scheduler != "none")


def test_groups_are_named_and_hold_what_ever_learns():
    classifier = build({**GRADUAL, "blocks": 2})
    groups = classifier.configure_optimizers().param_groups
    assert [group["name"] for group in groups] == ["head", "18", "17"]
    assert [group["lr"] for group in groups] == [0.05, 0.025, 0.0125]
    held = {id(parameter) for group in groups for parameter in group["params"]}
    blocks = blocks_of(classifier.net.backbone)[-2:]
    assert held == {id(p) for p in [*classifier.net.head.parameters(), *blocks[0].parameters, *blocks[1].parameters]}


@pytest.mark.parametrize("finetune", ["frozen", "full"])
def test_one_rate_is_one_group_in_the_order_of_the_net(finetune):
    classifier = build(finetune)
    (group,) = classifier.configure_optimizers().param_groups
    learning = [parameter for parameter in classifier.net.parameters() if parameter.requires_grad]
    assert list(map(id, group["params"])) == list(map(id, learning))


def test_a_gradual_checkpoint_is_evaluated_like_any(fit, loader, tmp_path):
    classifier = build(GRADUAL)
    fit(classifier, loader, epochs=3).save_checkpoint(tmp_path / "a.ckpt")
    loaded = load_classifier(tmp_path / "a.ckpt")
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(loaded(images), classifier.eval()(images))
