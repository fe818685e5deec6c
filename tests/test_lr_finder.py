"""The learning-rate finder: the course of the rates, the suggestion, and what a run of it leaves."""

import contextlib

import numpy as np
import pandas as pd
import pytest

from bloodcell.runtime.config import plain
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.find_lr import find_lr, grown_rates, suggested_rate
from tests.conftest import QUICK, SMALL


def test_rates_grow_by_one_factor():
    rates = grown_rates(1e-6, 1.0, 61)
    assert (rates[0], rates[-1], len(rates)) == (pytest.approx(1e-6), pytest.approx(1.0), 61)
    assert np.diff(np.log10(rates)) == pytest.approx(0.1)


def test_the_suggestion_is_the_steepest_descent_before_the_lowest_loss():
    lr = np.geomspace(1e-6, 1.0, 121)
    falls = 2 - 1 / (1 + np.exp(-4 * (np.log10(lr) + 3)))  # steepest at 1e-3
    rises = np.exp(6 * (np.log10(lr) + 0.7))
    losses = falls + np.where(lr > 0.1, rises, 0)
    scatter = np.random.default_rng(0).normal(size=121)
    assert suggested_rate(table_of(lr, losses, losses + 0.1 * scatter)) == pytest.approx(1e-3, rel=0.15)
    for nothing in (
        table_of(lr, np.arange(121.0), np.arange(121.0)),  # it rises from the first step on
        table_of(lr[:0], losses[:0], losses[:0]),
        table_of(lr, losses, losses + scatter),  # it falls by 1, and a single loss scatters by 1
    ):
        with pytest.raises(BloodcellError, match="falls at no learning rate of the range beyond its scatter"):
            suggested_rate(nothing)


def table_of(lr, losses, noisy):
    return pd.DataFrame({"lr": lr, "loss": noisy, "smoothed": losses})


#: Batches that are large enough for a curve.
LARGE = ("data.batch_size=64", "finder.steps=60")


@pytest.mark.slow
@pytest.mark.parametrize("finetune", ["full", "gradual"])
def test_on_painted_images_the_rate_is_sane_and_found_again(compose, tmp_path, finetune, capsys):
    arguments = [*QUICK, *SMALL, *LARGE, f"finetune={finetune}", "scheduler=onecycle", "callbacks=ema"]
    cfg = compose(*arguments, verb="find-lr")
    rate = find_lr(cfg, tmp_path / "one")
    assert 5e-5 <= rate <= 1e-2
    assert f"optimizer.lr={rate:.1e}" in capsys.readouterr().out.replace("\n", "")
    assert find_lr(cfg, tmp_path / "two") == rate
    one, two = ((tmp_path / name / "lr_finder.csv").read_bytes() for name in ("one", "two"))
    assert one == two
    table = pd.read_csv(tmp_path / "one" / "lr_finder.csv")
    assert list(table) == ["lr", "loss", "smoothed"]
    assert table["smoothed"].min() < table["smoothed"].iloc[0]
    names = {file.name for file in (tmp_path / "one").iterdir()}
    assert names == {"config.yaml", "lr_finder.csv", "lr_finder.png"}


def test_a_head_on_features_that_say_nothing_has_no_rate(compose, tmp_path):
    """A random backbone in evaluation mode gives each image all but the same features."""
    cfg = compose(*QUICK, *SMALL, "finder.steps=60", verb="find-lr")
    with pytest.raises(BloodcellError, match="falls at no learning rate"):
        find_lr(cfg, tmp_path / "run")
    assert (tmp_path / "run" / "lr_finder.csv").is_file()


def test_gradual_is_tested_with_all_blocks_learning(compose, tmp_path):
    whole = [*QUICK, *SMALL, "finder.steps=10", "finder.max_lr=1e-3"]
    tables = []
    for choice in ("gradual", "full"):
        with contextlib.suppress(BloodcellError):  # in ten steps it may not fall; the table is written before
            find_lr(compose(*whole, f"finetune={choice}", "finetune.lr_decay=0.5", verb="find-lr"), tmp_path / choice)
        tables.append((tmp_path / choice / "lr_finder.csv").read_bytes())
    assert tables[0] == tables[1]


def test_the_verb_takes_all_that_training_takes(compose):
    trains, finds = plain(compose()), plain(compose(verb="find-lr"))
    assert {key: value for key, value in finds.items() if key != "finder"} == trains


def test_a_used_folder_is_refused(compose, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BloodcellError, match="is not empty"):
        find_lr(compose(*QUICK, *SMALL, verb="find-lr"), tmp_path)
