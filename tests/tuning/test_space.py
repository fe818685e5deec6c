"""The search space: what a sweep file may say, and that each key becomes the override of its name."""

import hydra
import pytest
from hydra import initialize_config_dir

from bloodcell.runtime.config import config_dir, plain, register_resolvers
from bloodcell.runtime.errors import BloodcellError
from bloodcell.tuning.search_space import Dimension, read_space
from bloodcell.tuning.trial_config import Recipes
from tests.conftest import QUICK, SMALL

SWEEPS = sorted(file.stem for file in (config_dir() / "sweep").glob("*.yaml"))


@pytest.fixture
def recipes():
    """Return the Recipes of a command line; Hydra is at work for as long as the test."""
    register_resolvers()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        yield lambda *overrides: Recipes([*QUICK, *SMALL, *overrides])


def test_keys_may_be_nested_or_dotted():
    nested = read_space({"optimizer": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}, "seed": {"choices": [1, 2]}})
    dotted = read_space({"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "seed": {"choices": [1, 2]}})
    assert nested == dotted
    assert nested == [Dimension("optimizer.lr", 1e-4, 1e-2, log=True), Dimension("seed", choices=(1, 2))]


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({}, "sweep is empty"),
        (None, "sweep is empty"),
        ({"optimizer": {"lr": 3}}, r"optimizer\.lr=3; give a range"),
        ({"a": {"low": 1}}, "a; give low and high, or choices"),
        ({"a": {"low": 1, "high": "x"}}, "a; low, high and step are numbers"),
        ({"a": {"low": True, "high": 2}}, "a; low, high and step are numbers"),
        ({"a": {"low": float("nan"), "high": 2}}, "a; low, high and step are numbers"),
        ({"a": {"low": 1, "high": 2, "log": "no"}}, r"a\.log=no; choose true or false"),
        ({"a": {"low": 2, "high": 1}}, "from 2 to 1; low must be below high"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "with log, low must be above 0"),
        ({"a": {"low": 1, "high": 2, "log": True, "step": 1}}, "log and step exclude"),
        ({"a": {"low": 0, "high": 1, "step": 0.3}}, "step=0.3 must divide it"),
        ({"a": {"low": 0, "high": 1, "step": 0}}, "step=0 must divide it"),
        ({"a": {"low": 0, "high": 1, "base": 10}}, "a has 'base'; a range has low, high, log, step, choices"),
        ({"a": {"choices": [1]}}, "two different values or more"),
        ({"a": {"choices": [1, 1]}}, "two different values or more"),
        ({"a": {"choices": [[1], [2]]}}, "two different values or more"),
        ({"a": {"choices": [1, 2], "low": 1}}, "and no range"),
        ({"a.b": {"choices": [1, 2]}, "a": {"b": {"choices": [1, 2]}}}, r"a\.b is there twice"),
    ],
)
def test_what_is_no_range(sweep, words):
    with pytest.raises(BloodcellError, match=words):
        read_space(sweep)


def test_a_step_leads_to_numbers_that_can_be_read():
    class Third:
        def suggest_float(self, *_, **__):
            return 0.1 * 3

    assert Dimension("a", 0.0, 1.0, step=0.1).suggest(Third()) == 0.3


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_shipped_sweep_is_of_keys_that_are_there(recipes, sweep):
    made = recipes("finetune=full")
    made.check(read_space(plain(hydra.compose("tune", overrides=[f"sweep={sweep}"]).sweep)))


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        (
            Dimension("optimizer.lrr", 1e-3, 1e-2),
            r"no configuration key 'optimizer\.lrr'; did you mean 'optimizer\.lr'",
        ),
        (Dimension("optimzer", choices=("adam", "sgd")), "no configuration key 'optimzer'; did you mean 'optimizer'"),
        (Dimension("trainer.max_epochs", 1.5, 3.0), r"trainer\.max_epochs=1\.5: it wants a whole number"),
        (Dimension("seed", 0, 9), "seed changes which images validate"),
        (Dimension("data.fold", 0, 4), r"data\.fold changes which images validate"),
        (Dimension("data.val_fraction", 0.1, 0.5), r"data\.val_fraction changes which images validate"),
    ],
)
def test_keys_that_cannot_vary(recipes, dimension, words):
    with pytest.raises(BloodcellError, match=words):
        recipes().check([dimension])


def test_a_trial_is_composed_as_the_command_line_would_be(recipes):
    made = recipes("scheduler=onecycle", "tune.trials=3", "~sweep.loss")
    params = {"optimizer": "sgd", "optimizer.lr": 0.5, "model.head.hidden": 0, "data.epoch_size": None}
    given = ["optimizer=sgd", "optimizer.lr=0.5", "model.head.hidden=0", "data.epoch_size=null"]
    expected = hydra.compose("train", overrides=[*QUICK, *SMALL, "scheduler=onecycle", *given])
    assert plain(made.config(params)) == plain(expected)
    assert plain(made.config({"optimizer.lr": 0.25}))["scheduler"]["max_lr"] == 0.25
    assert plain(made.config({})) == plain(made.base), "one trial's values are not another's"
