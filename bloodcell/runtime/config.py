"""The one place where configuration becomes objects."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError

#: How a `_target_` may begin: configuration may come from a stranger, and a target is code that runs. No more than
#: `conf/` and a choice of other optimizers, callbacks and loggers need: elsewhere are functions that write any file.
ALLOWED_TARGETS = (
    "bloodcell.training.callbacks.",
    "bloodcell.data.joint.read_joint",
    "bloodcell.data.kaggle.read_kaggle",
    "bloodcell.data.readers.read_",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "torch.optim.",
    "optuna.samplers.",
    "optuna.pruners.",
)

#: Where a target of an older run was -> where it is now.
MOVED = {
    "bloodcell.callbacks.stopping.EarlyStopping": "bloodcell.training.callbacks.early_stopping.EarlyStopping",
    "bloodcell.callbacks.averaging.MovingAverage": "bloodcell.training.callbacks.ema.MovingAverage",
}

#: Parts of a configuration to which anything may be added: what it makes says what it takes.
_OPEN = ("callbacks", "hydra", "logger", "sweep", "trainer")
_ABSENT = object()


def config_dir() -> Path:
    """Return the folder of configuration files: inside an installed package, or beside it in a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def register_resolvers() -> None:
    """Register what `conf/` interpolates: `${run_tag:}`, eight random characters, the same in one process."""
    tag = uuid.uuid4().hex[:8]
    OmegaConf.register_new_resolver("run_tag", lambda: tag, replace=True)


def plain(node: Any) -> Any:
    """Return a configuration node as plain dicts, lists and values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def listed(given: Any) -> list[Any]:
    """Return what a key holds that takes one value or a list of them; nothing for null."""
    if given is None:
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def instantiate(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Call what `node._target_` names with the node's other entries and the given arguments.

    Args:
        node: A mapping with `_target_`, the dotted name of a class or function that `ALLOWED_TARGETS` lets through.
        *args: Positional arguments that go first.
        **kwargs: Arguments that go over the node's own.

    Returns:
        Whatever the target returns. It is handed plain values, never configuration objects.

    Raises:
        BloodcellError: The target is not allowed, does not exist, lacks its package, or has no such argument.
    """
    values = dict(plain(node))
    target = values.pop("_target_")
    target = MOVED.get(target, target) if isinstance(target, str) else target
    function = _locate(target)
    try:
        return function(*args, **{**values, **kwargs})
    except TypeError as error:
        if f"{target.rpartition('.')[2]}" in str(error) or "__init__()" in str(error):
            raise BloodcellError(f"{target}: {error}") from error
        raise
    except (ModuleNotFoundError, ValueError) as error:
        raise BloodcellError(f"{target}: {' '.join(str(error).split())}") from error


def _locate(target: Any) -> Any:
    """Import a class or function from the allow-list.

    It counts where a thing is defined, too: a module's attributes are also whatever it imports, such as `os`.
    """
    if not isinstance(target, str) or not target.startswith(ALLOWED_TARGETS):
        raise _not_allowed(target)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BloodcellError(f"_target_={target}: {error}") from error
    callable_here = inspect.isclass(found) or inspect.isfunction(found)
    if not callable_here or not f"{found.__module__}.{found.__qualname__}".startswith(ALLOWED_TARGETS):
        raise _not_allowed(target)
    return found


def _not_allowed(target: Any) -> BloodcellError:
    allowed = ", ".join(f"{name}*" if name.endswith((".", "_")) else name for name in ALLOWED_TARGETS)
    return BloodcellError(f"_target_={target!r} is not allowed; a target is a class or function of {allowed}")


def cache_root(configured: str | None) -> Path:
    """Return the folder for all that is kept between runs: `cache.root`, $BLOODCELL_CACHE or the user's own.

    Raises:
        BloodcellError: The folder cannot be made.
    """
    import platformdirs

    default = os.environ.get("BLOODCELL_CACHE") or platformdirs.user_cache_dir("bloodcell", appauthor=False)
    root = Path(str(configured or default)).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BloodcellError(
            f"cache.root: cannot make the folder {root} ({error.strerror}); set cache.root=DIR or BLOODCELL_CACHE"
        ) from error
    return root


def check_types(verb: str, overrides: list[str]) -> None:
    """Refuse an override of the command line whose value is of another type than the shipped one.

    Called while Hydra runs a job; a value that ships as null, and text in place of text, are not checked. Nor may
    a key be taken away that something reads, or one be added that nothing does.

    Args:
        verb: The name of the configuration.
        overrides: The job's own, e.g. `optimizer.lr=fast`.

    Raises:
        BloodcellError: It names the key, what was given and what is wanted.
    """
    from hydra import compose
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    chosen = [item for item in parsed if (config_dir() / str(item.key_or_group)).is_dir()]
    for item in parsed:
        if item.is_delete() and not _optional(str(item.key_or_group)):
            raise BloodcellError(f"{item.input_line}: {item.key_or_group} is needed; give it another value instead")
    rest = [item for item in parsed if item not in chosen and not item.is_delete()]
    if not rest:
        return
    shipped = compose(verb, overrides=[str(item.input_line) for item in chosen])
    refuse_mismatches(shipped, [str(item.input_line) for item in rest if not item.is_add()])
    for item in rest:
        if (item.is_add() or item.is_force_add()) and not _has_reader(str(item.key_or_group), shipped):
            raise BloodcellError(f"{item.input_line}: nothing reads {item.key_or_group}; --help lists what there is")


def _has_reader(key: str, shipped: DictConfig) -> bool:
    """Say whether a key that is added to a configuration changes anything: an object takes what it is given."""
    steps = key.split(".")
    parents = [OmegaConf.select(shipped, ".".join(steps[:count])) for count in range(1, len(steps))]
    return (
        steps[0] in _OPEN
        or OmegaConf.select(shipped, key, default=_ABSENT) is not _ABSENT
        or any(isinstance(parent, DictConfig) and "_target_" in parent for parent in parents)
    )


def refuse_mismatches(shipped: DictConfig, overrides: list[str]) -> None:
    """Refuse an override whose value is of another type than that of a configuration; see `check_types`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for item in OverridesParser.create().parse_overrides(overrides):
        key = str(item.key_or_group)
        default = plain(OmegaConf.select(shipped, key, throw_on_missing=False))
        if (wanted := mismatch(key, default, item.value())) is not None:
            shown = f", as in {default}" if not isinstance(default, dict) else ""
            raise BloodcellError(f"{item.input_line}: {key} wants {wanted}{shown}")


def job_folder(verb: str) -> Path:
    """Return the folder that Hydra chose for the job that it runs, in the first process where there are several.

    Args:
        verb: As in `check_types`.

    Raises:
        BloodcellError: An override is not of the right type; see `check_types`.
    """
    from hydra.core.hydra_config import HydraConfig

    job = HydraConfig.get()
    check_types(verb, list(job.overrides.task))
    return distributed.once(lambda: Path(job.runtime.output_dir))


def _optional(key: str) -> bool:
    """Say whether a key may be taken away: a callback, a logger, or an argument that its target has a default for."""
    group, _, rest = key.partition(".")
    needed = ("", "lr", "_target_")
    return key == "experiment" or (group in ("callbacks", "logger", "optimizer", "scheduler") and rest not in needed)


def mismatch(key: str, default: Any, value: Any) -> str | None:
    """Say what kind of value is wanted where a given one is of another kind; None where it is not."""
    if default is None or (value is None and _nullable(key, default)):
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        return None if _is_number(value, type(default)) else _NUMBERS[type(default)]
    if isinstance(default, str):
        listed = isinstance(value, list) and key != "trainer.devices"  # the positions of GPUs
        return "text" if value is None or listed or isinstance(value, dict) else None
    if isinstance(default, dict):
        return None if isinstance(value, dict) else f"settings: {', '.join(default) or 'none'}"
    same = isinstance(value, list) and len(value) == len(default)
    if default and (not same or any(mismatch(key, *pair) for pair in zip(default, value, strict=True))):
        return f"a list of {len(default)}"
    return None


_NUMBERS: dict[type, str] = {int: "a whole number", float: "a number"}


def _is_number(value: Any, kind: type) -> bool:
    """Say whether a value is a finite number, and whole where the kind is int."""
    wanted = int if kind is int else int | float
    return isinstance(value, wanted) and not isinstance(value, bool) and math.isfinite(value)


def _nullable(key: str, default: Any) -> bool:
    """Say whether null may stand for a shipped value: no callback, logger, pruner, or what others choose."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        return key.startswith("trainer.")
    if isinstance(default, dict):
        return key.startswith(("callbacks.", "logger.", "tune.pruner"))
    return key != "outputs"


def select(cfg: DictConfig, *groups: str) -> dict[str, Any]:
    """Return some top-level nodes of a configuration as one plain dictionary."""
    return {group: plain(cfg[group]) for group in groups}
