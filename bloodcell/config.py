"""The one place where configuration becomes objects."""

from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bloodcell import ranks
from bloodcell.errors import BloodcellError

#: Modules that `_target_` may name: configuration may come from a stranger, and a target is code that runs.
ALLOWED_TARGETS = ("bloodcell.", "pytorch_lightning.", "torch.optim.")


def config_dir() -> Path:
    """Return the folder of configuration files: inside an installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "conf"


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
        node: A mapping with `_target_`, a dotted name below one of `ALLOWED_TARGETS`.
        *args: Positional arguments that go first.
        **kwargs: Arguments that go over the node's own.

    Returns:
        Whatever the target returns. It is handed plain values, never configuration objects.

    Raises:
        BloodcellError: The target is not allowed, does not exist, lacks its package, or has no such argument.
    """
    values = dict(plain(node))
    target = values.pop("_target_")
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
    """Import a dotted name from the allow-list."""
    if not isinstance(target, str) or not target.startswith(ALLOWED_TARGETS):
        allowed = ", ".join(f"{name}*" for name in ALLOWED_TARGETS)
        raise BloodcellError(f"_target_={target!r} is not allowed; a target is one of {allowed}")
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BloodcellError(f"_target_={target}: {error}") from error


def cache_root(configured: str | None) -> Path:
    """Return the folder for all that is kept between runs: `cache.root`, $BLOODCELL_CACHE or the user's own.

    Raises:
        BloodcellError: The folder cannot be made.
    """
    import platformdirs

    default = os.environ.get("BLOODCELL_CACHE") or platformdirs.user_cache_dir("bloodcell", appauthor=False)
    root = Path(configured or default).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BloodcellError(
            f"cache.root: cannot make the folder {root} ({error.strerror}); set cache.root=DIR or BLOODCELL_CACHE"
        ) from error
    return root


def check_types(verb: str, overrides: list[str]) -> None:
    """Refuse an override of the command line whose value is of another type than the shipped one.

    Called while Hydra runs a job; a value that ships as null, and text in place of text, are not checked.

    Args:
        verb: The name of the configuration.
        overrides: The job's own, e.g. `optimizer.lr=fast`.

    Raises:
        BloodcellError: It names the key, what was given and what is wanted.
    """
    from hydra import compose
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = [item for item in OverridesParser.create().parse_overrides(overrides) if not item.is_delete()]
    chosen = [item for item in parsed if (config_dir() / str(item.key_or_group)).is_dir()]
    values = [item for item in parsed if item not in chosen and not item.is_add()]
    if not values:
        return
    shipped = compose(verb, overrides=[str(item.input_line) for item in chosen])
    for item in values:
        default = OmegaConf.select(shipped, item.key_or_group, throw_on_missing=False)
        if (wanted := _mismatch(default, item.value())) is not None:
            raise BloodcellError(f"{item.input_line}: {item.key_or_group} wants {wanted}, as in {default}")


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
    return ranks.once(lambda: Path(job.runtime.output_dir))


def _mismatch(default: Any, value: Any) -> str | None:
    """Say what kind of value is wanted where a given one is of another kind; None where it is not."""
    if default is None or value is None or isinstance(default, str):
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(default, float):
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    return None


def select(cfg: DictConfig, *groups: str) -> dict[str, Any]:
    """Return some top-level nodes of a configuration as one plain dictionary."""
    return {group: plain(cfg[group]) for group in groups}
