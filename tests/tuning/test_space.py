"""The search space: what a sweep file may contain, and that each key becomes the override of its name."""

import pytest

pytest.importorskip("optuna", reason="it comes with the extra tune")

import hydra
from hydra import initialize_config_dir
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from bloodcell.runtime.config import config_dir, plain, register_resolvers
from bloodcell.runtime.errors import BloodcellError
from bloodcell.tuning.search_space import read_space, suggest
from bloodcell.tuning.trial_config import TrialConfigs
from tests.conftest import QUICK, SMALL

SWEEPS = sorted(file.stem for file in (config_dir() / "sweep").glob("*.yaml"))


@pytest.fixture
def configs():
    """Return the TrialConfigs of a command line; Hydra is at work for as long as the test."""
    register_resolvers()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        yield lambda *overrides: TrialConfigs([*QUICK, *SMALL, *overrides])


def test_keys_may_be_nested_or_dotted():
    nested = read_space({"optimizer": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}, "seed": {"choices": [1, 2]}})
    dotted = read_space({"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "seed": {"choices": [1, 2]}})
    assert nested == dotted
    assert nested == {"optimizer.lr": FloatDistribution(1e-4, 1e-2, log=True), "seed": CategoricalDistribution([1, 2])}


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({}, "sweep is empty"),
        (None, "sweep is empty"),
        ({"optimizer": {"lr": 3}}, r"optimizer\.lr=3; give a range"),
        ({"a": {"low": 1}}, "a; give choices, or numbers for low, high"),
        ({"a": {"low": 1, "high": "x"}}, "a; give choices, or numbers"),
        ({"a": {"low": True, "high": 2}}, "a; give choices, or numbers"),
        ({"a": {"low": float("nan"), "high": 2}}, "a; give choices, or numbers"),
        ({"a": {"low": 1, "high": 2, "log": "no"}}, "true or false for log"),
        ({"a": {"low": 1, "high": 1}}, "from 1 to 1; low must be below high"),
        ({"a": {"low": 2, "high": 1}}, "`low <= high` must hold"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "`low > 0` must hold|`low >= 1` must hold"),
        ({"a": {"low": 1.0, "high": 2, "log": True, "step": 1}}, "`step` is not supported when `log` is true"),
        ({"a": {"low": 0, "high": 1, "step": 0.3}}, "not divisible by `step`"),
        ({"a": {"low": 0.0, "high": 1, "step": 0}}, "`step > 0` must hold"),
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

    assert suggest(Third(), {"a": FloatDistribution(0.0, 1.0, step=0.1)}) == {"a": 0.3}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_shipped_sweep_is_of_keys_that_are_there(configs, sweep):
    made = configs("finetune=full")
    made.check(read_space(plain(hydra.compose("tune", overrides=[f"sweep={sweep}"]).sweep)))


@pytest.mark.parametrize(
    ("key", "range_", "words"),
    [
        ("optimizer.lrr", FloatDistribution(1e-3, 1e-2), r"no configuration key 'optimizer\.lrr'; did you mean"),
        (
            "optimzer",
            CategoricalDistribution(["adam", "sgd"]),
            "no configuration key 'optimzer'; did you mean 'optimizer'",
        ),
        ("trainer.max_epochs", FloatDistribution(1.5, 3.0), r"trainer\.max_epochs=1\.5; give a whole number"),
        ("seed", IntDistribution(0, 9), "seed changes which images validate"),
        ("data.fold", IntDistribution(0, 4), r"data\.fold changes which images validate"),
        ("data.val_fraction", FloatDistribution(0.1, 0.5), r"data\.val_fraction changes which images validate"),
    ],
)
def test_keys_that_cannot_vary(configs, key, range_, words):
    with pytest.raises(BloodcellError, match=words):
        configs().check({key: range_})


def test_a_trial_is_composed_as_the_command_line_would_be(configs):
    made = configs("scheduler=onecycle", "tune.trials=3", "~sweep.loss")
    params = {"optimizer": "sgd", "optimizer.lr": 0.5, "model.head.hidden": 0, "data.epoch_size": None}
    given = ["optimizer=sgd", "optimizer.lr=0.5", "model.head.hidden=0", "data.epoch_size=null"]
    expected = hydra.compose("train", overrides=[*QUICK, *SMALL, "scheduler=onecycle", *given])
    assert plain(made.config(params)) == plain(expected)
    assert plain(made.config({"optimizer.lr": 0.25}))["scheduler"]["max_lr"] == 0.25
    assert plain(made.config({})) == plain(made.base), "one trial's values are not another's"
