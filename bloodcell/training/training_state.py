"""The state of a training in a checkpoint, which may come from anyone: only values that fit are restored."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloodcell.models.classifier import Classifier, load_checkpoint
from bloodcell.models.finetune import parameter_groups
from bloodcell.runtime.errors import BloodcellError

#: Entries of a checkpoint that a training continues from.
_ENTRIES = {
    "epoch": int, "global_step": int, "state_dict": dict, "loops": dict, "callbacks": dict,
    "optimizer_states": list, "lr_schedulers": list,
}  # fmt: skip


def load_state(last: Path) -> dict[str, Any]:
    """Read the checkpoint that a training continues from, and check its entries, its history and its callbacks.

    Raises:
        BloodcellError: It is damaged, or another program's.
    """
    try:
        state = load_checkpoint(last)
    except BloodcellError as error:
        raise BloodcellError(f"{error}; {_BEGIN_AGAIN}") from error
    for name, kind in _ENTRIES.items():
        _require(isinstance(state.get(name), kind), last, name)
    _require(0 <= state["epoch"] < _MOST and 0 <= state["global_step"] < _MOST, last, "epoch")
    callbacks = state["callbacks"]
    _require(all(isinstance(one, dict) for one in callbacks.values()), last, "callbacks")
    rows = callbacks.get("History", {}).get("rows")
    _require(isinstance(rows, list) and all(_is_row(row) for row in rows), last, "history")
    stopping = [one for name, one in callbacks.items() if str(name).startswith("EarlyStopping")]
    counts = [one.get(key) for one in stopping for key in ("wait_count", "patience")]
    _require(all(type(count) is int for count in counts), last, "early stopping")
    return state


_BEGIN_AGAIN = "delete it, and the run begins again at its first epoch"
_MOST = 2**53  # of any count


def _require(fits: bool, last: Path, what: str) -> None:
    if not fits:
        raise BloodcellError(f"{last}: {what} does not fit this training; {_BEGIN_AGAIN}")


def _is_row(row: Any) -> bool:
    numbers = isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
    return numbers and all(isinstance(name, str) for name in row) and "epoch" in row


def fitting_state(last: Path, classifier: Classifier, trainer: Any) -> dict[str, Any]:
    """Return the state to continue from, each value of the kind and size that a new training of these settings has.

    Otherwise Lightning would load whatever it is, and a fused optimizer reads and writes beyond a tensor that is too
    small.

    Raises:
        BloodcellError: Something in it is of another training, or of none.
    """
    state, weights = load_state(last), classifier.state_dict()
    _require(same_form(state["state_dict"], weights), last, "state_dict")
    if {"current_model_state", "averaging_state"} & set(state):  # of a moving average
        _require(same_form(state.get("current_model_state"), weights), last, "current_model_state")
        _require(same_form(state.get("averaging_state"), {"n_averaged": torch.tensor(0)}), last, "averaging_state")
    loop = state["loops"].get("fit_loop")
    _require(same_form(loop, trainer.fit_loop.state_dict()), last, "loops")
    rows = state["callbacks"]["History"]["rows"]
    _require(loop["epoch_progress"]["current"]["processed"] == len(rows), last, "history")
    for callback in trainer.callbacks:
        if callback.state_dict():
            name = callback.state_key
            _require(_loads(callback, state["callbacks"].get(name)), last, name.partition("{")[0])
    device = trainer.strategy.root_device
    _require(_steps(classifier, state["optimizer_states"], state["lr_schedulers"], device), last, "optimizer_states")
    return {**state, "pytorch-lightning_version": version("pytorch-lightning")}


def same_form(given: Any, own: Any) -> bool:
    """Return whether a value is of the type and size of another, in all its parts; None stands for one plain value."""
    if isinstance(own, dict):
        alike = isinstance(given, dict) and set(given) == set(own)
        return alike and all(same_form(given[key], value) for key, value in own.items())
    if isinstance(own, list | tuple):
        alike = isinstance(given, list | tuple) and len(given) == len(own)
        return alike and all(map(same_form, given, own))
    if isinstance(own, Tensor):
        alike = isinstance(given, Tensor) and given.shape == own.shape
        return alike and given.is_floating_point() == own.is_floating_point()
    if own is None:
        return given is None or isinstance(given, str | int | float) or (isinstance(given, Tensor) and not given.ndim)
    if type(own) is int:
        return type(given) is int and min(own, 1) <= given < _MOST
    return type(given) in (int, float) if type(own) is float else type(given) is type(own)


def _loads(callback: Any, given: Any) -> bool:
    """Return whether a callback's state can be loaded, and has the form of its own if it is of this package."""
    own = callback.state_dict()
    free = {"rows", "best_k_models"} & set(own)  # they grow
    ours = type(callback).__module__.startswith("bloodcell.")  # others change the types of theirs, as a timer does
    if not isinstance(given, dict) or (ours and not same_form({**given, **{key: own[key] for key in free}}, own)):
        return False
    try:
        callback.load_state_dict(deepcopy(given))
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def _steps(classifier: Classifier, optimizers: list[Any], schedulers: list[Any], device: Any) -> bool:
    """Return whether the states of the optimizer and the scheduler fit new ones, and allow a step of no gradient."""
    groups = parameter_groups(classifier.finetune, classifier.net, classifier.hparams["optimizer"]["lr"])
    blank = [{**group, "params": [_blank(one, device) for one in group["params"]]} for group in groups]
    built = classifier.optimizers_of(blank, lambda: 10)
    optimizer, course = (built["optimizer"], [built["lr_scheduler"]]) if isinstance(built, dict) else (built, [])
    own = [one["scheduler"] for one in course]
    if len(optimizers) != 1 or len(schedulers) != len(own):
        return False
    try:
        return _optimizer_steps(optimizer, optimizers[0]) and all(map(_scheduler_steps, own, schedulers))
    except Exception:  # noqa: BLE001 - whatever torch says of values that make no sense
        return False


def _blank(parameter: Tensor, device: Any) -> Tensor:
    """Return zeros in place of a parameter, with a gradient of zeros."""
    blank = torch.zeros_like(parameter, device=device, requires_grad=True)
    blank.grad = torch.zeros_like(blank)
    return blank


def _optimizer_steps(optimizer: Any, given: Any) -> bool:
    groups = optimizer.state_dict()["param_groups"]
    if not isinstance(given["state"], dict) or len(given["param_groups"]) != len(groups):
        return False
    for number, own in enumerate(groups):  # another release of torch may have fewer settings, or more
        group = {**own, **{key: value for key, value in given["param_groups"][number].items() if key in own}}
        if not same_form(group, own) or group["params"] != own["params"]:
            return False
        given["param_groups"][number] = group
    optimizer.step(lambda: torch.zeros(()))
    fresh = optimizer.state_dict()["state"]
    for number, values in given["state"].items():
        if not same_form({key: values[key] for key in fresh[number]}, fresh[number]):
            return False
    optimizer.load_state_dict(deepcopy(given))
    optimizer.step(lambda: torch.zeros(()))
    return True


def _scheduler_steps(scheduler: Any, given: Any) -> bool:
    own = scheduler.state_dict()
    private = {key: value for key, value in own.items() if key.startswith("_")}  # torch's releases differ in these
    for key in set(given) - set(own):
        del given[key]
    if not same_form({**private, **given}, own):
        return False
    scheduler.load_state_dict({**deepcopy(given), "last_epoch": 0})  # its end may be reached
    scheduler.step(*([1.0] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
    return True
