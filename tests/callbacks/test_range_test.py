"""The range test: the rates of each step, their losses, and where it ends."""

import numpy as np
import pytest
import pytorch_lightning as pl

from bloodcell.training.callbacks.lr_range_test import RangeTest, smoothed
from bloodcell.training.find_lr import grown_rates, growth
from tests.models.conftest import build

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode"),
]


def test_smoothing_moves_nothing_aside():
    """A step stays where it is and what is straight stays straight: the steepest descent is not late."""
    step = np.r_[np.ones(50), np.zeros(51)]
    slope = np.gradient(smoothed(step, 100))
    assert slope.argmin() in (49, 50)
    assert smoothed(np.arange(100.0), 100)[20:80] == pytest.approx(np.arange(20.0, 80.0))


class Noted(pl.Callback):
    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("gathered", [1, 2])
def test_all_groups_keep_their_ratios_and_a_step_may_gather_batches(fit, loader, gathered):
    rates, noted = grown_rates(1e-5, 1e-2, 12), Noted()
    test = RangeTest(rates)
    sgd = {"_target_": "torch.optim.SGD", "lr": rates[0]}
    classifier = build({"name": "full", "lr_decay": 0.5}, optimizer=sgd, scheduler=growth(rates))
    options = {"max_steps": 12, "limit_val_batches": 0, "accumulate_grad_batches": gathered}
    fit(classifier, loader, epochs=-1, callbacks=[test, noted], **options)
    table = test.table()
    assert list(table["lr"]) == rates
    assert [each[0] for each in noted.rates] == pytest.approx(rates, rel=1e-9)
    for each in noted.rates:
        assert each == pytest.approx([each[0] * 0.5**depth for depth in range(20)])
    assert table["loss"].iloc[0] == pytest.approx(np.log(4), abs=0.5)


def test_it_ends_where_the_loss_diverges(fit, loader):
    rates = grown_rates(1e-3, 1e6, 60)
    test = RangeTest(rates)
    sgd = {"_target_": "torch.optim.SGD", "lr": rates[0]}
    classifier = build("full", optimizer=sgd, scheduler=growth(rates))
    fit(classifier, loader, epochs=-1, callbacks=[test], max_steps=60, limit_val_batches=0)
    table = test.table()
    assert 10 < len(table) < 60
    assert np.isfinite(table["loss"]).all()
    assert len(test.losses) > len(table) or table["smoothed"].iloc[-1] > 4 * table["smoothed"].min()
