"""Configuration: its folder, its schemas, and the objects that it names."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import FrozenInstanceError, is_dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bloodcell.runtime import distributed, locks
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import SCHEMAS

Schema = TypeVar("Schema")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: How a `_target_` may begin. A configuration may come from anyone and a target is code that runs, so only optimizers,
#: callbacks, loggers and what `conf/` needs are allowed: other modules have functions that write files.
ALLOWED_TARGETS = (
    "bloodcell.training.callbacks.early_stopping.EarlyStopping",
    "bloodcell.training.callbacks.ema.MovingAverage",
    "bloodcell.training.callbacks.model_checkpoint.ModelCheckpoint",
    "bloodcell.data.joint.read_joint",
    "bloodcell.data.kaggle.read_kaggle",
    "bloodcell.data.readers.read_",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "torch.optim.",
    "optuna.samplers.",
    "optuna.pruners.",
)

#: Keys whose values are names or places, or lists or dicts of them: text, even if one looks like a number.
NAMES = (
    "checkpoint", "images", "corrections", "overlays", "geojson", "rois", "predictions", "data.root",
    "data.train_dir", "data.val_dir", "data.test_dir", "data.table",
    "title", "authors", "license", "cite", "new_classes", "classes",
    "data.class_map", "data.classes", "data.sets", "data.train_only", "data.leave_out", "data.reader.path_column",
    "data.reader.label_column", "data.reader.group_column", "data.reader.split_column",
)  # fmt: skip

#: Targets that moved: name in older runs -> name now.
MOVED = {
    "bloodcell.callbacks.stopping.EarlyStopping": "bloodcell.training.callbacks.early_stopping.EarlyStopping",
    "bloodcell.callbacks.averaging.MovingAverage": "bloodcell.training.callbacks.ema.MovingAverage",
}

#: Type of an argument's default -> (accepted types, in words).
_WANTED: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
}


def config_dir() -> Path:
    """Return the folder of configuration files: inside an installed package, or beside it in a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def read_config(file: Path) -> DictConfig:
    """Read the saved configuration of a run, whose values were resolved when it was written.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such configuration. An alias and an interpolation count as none: a few lines of them grow
            to any size.
    """
    try:
        text = "*large" if file.stat().st_size > _MOST_BYTES else file.read_text(encoding="utf-8")
        if "${" in text or _grows(text):
            raise ValueError("it has an alias or an interpolation, or is larger than any")
        read = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"it is no YAML: {error}") from error
    if not isinstance(read, DictConfig):
        raise ValueError("it holds no keys")
    return read


#: Of a saved configuration. One with 3,000 names of classes has 0.1 MB and 12,000 tokens.
_MOST_BYTES, _MOST_TOKENS, _MOST_DEPTH = 2**20, 50_000, 50


def _grows(text: str) -> bool:
    """Return whether a YAML text has an alias, or takes long to read."""
    depth = 0
    for number, token in enumerate(yaml.scan(text)):
        name = type(token).__name__
        depth += name.endswith("StartToken") - name.endswith("EndToken")
        if name == "AliasToken" or depth > _MOST_DEPTH or number > _MOST_TOKENS:
            return True
    return False


def groups() -> list[str]:
    """Return the names of the configuration groups."""
    return [folder.name for folder in config_dir().iterdir() if folder.is_dir() and folder.name != "hydra"]


def options(group: str) -> list[str]:
    """Return the names of a group's options."""
    return [file.stem for file in (config_dir() / group).glob("*.yaml") if file.stem != "base"]


def register_resolvers() -> None:
    """Register the schemas; `${run_tag:}`, eight random characters for each process; and `${set_names:}`."""
    tag = uuid.uuid4().hex[:8]
    OmegaConf.register_new_resolver("run_tag", lambda: tag, replace=True)
    OmegaConf.register_new_resolver("set_names", _set_names, replace=True)
    _register_schemas()


def _set_names(sets: Any) -> str:
    """Return the names of `data.sets` as the values of a sweep, e.g. `'a','b'`."""
    if not isinstance(sets, DictConfig | ListConfig):
        return "''"  # which is no set; the check of data.sets says what is wrong
    places = [Path(str(place)) for place in sets]
    names = sets if isinstance(sets, DictConfig) else [one.stem if one.suffix == ".csv" else one.name for one in places]
    return ",".join("'{}'".format(str(name).replace("'", r"\'")) for name in names)


@functools.cache
def _register_schemas() -> None:
    for verb, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{verb}_schema", node=_open(schema), provider="bloodcell")


def _open(schema: type[Any]) -> DictConfig:
    """Return a schema as a node that can be changed: OmegaConf takes a frozen dataclass for a read-only node."""
    node: DictConfig = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    for name, kind in get_type_hints(schema).items():
        if isinstance(kind, type) and is_dataclass(kind):
            node[name] = _open(kind)
    return node


def typed(cfg: DictConfig, schema: type[Schema], group: str = "") -> Schema:
    """Return a composed configuration as its dataclass, interpolations resolved and values checked.

    `group` names a part of a configuration, so that errors name its keys in full.

    Raises:
        BloodcellError: A value makes no sense.
        OmegaConfBaseException: A key is unknown, missing, or of another type.
    """
    if group:
        merged: Any = cast(DictConfig, OmegaConf.merge({group: _open(schema)}, {group: cfg}))[group]
    else:
        merged = OmegaConf.merge(_open(schema), cfg)
    read_lists(merged)
    try:
        return cast(Schema, OmegaConf.to_object(merged))
    except FrozenInstanceError as error:  # of a key that was added with a plus sign
        key = str(error).split("'")[1]
        raise BloodcellError(f"+{key}: nothing reads a key of this name; --help lists the keys") from error


class _Text(yaml.BaseLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML in which every value is text, but for null."""


_Text.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("(null|Null|NULL|~|)$"), ["n", "N", "~", ""])
_Text.add_constructor("tag:yaml.org,2002:null", lambda *_: None)


def read_lists(cfg: DictConfig | ListConfig) -> None:
    """Put lists and dicts of names in place of their text, which the command line has for those with odd names."""
    for key in NAMES:
        if isinstance(value := OmegaConf.select(cfg, key), str) and (read := read_names(value)) is not None:
            OmegaConf.update(cfg, key, read, merge=False)


def read_names(text: str) -> list[Any] | dict[str, Any] | None:
    """Return a list `[a, b]` or dict `{a: b}` of names, each as text whatever it looks like; None if it is neither."""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    try:
        read = yaml.load(text, _Text)
    except (yaml.YAMLError, TypeError):
        return None
    if isinstance(read, dict):
        read = {"null" if name is None else name: value for name, value in read.items()}
    values = [*read, *read.values()] if isinstance(read, dict) else read
    return read if all(isinstance(value, str | None) for value in values) else None


def plain(node: Any) -> Any:
    """Return a configuration node as plain dicts, lists and values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key of plain dicts in one another, and its value, which may be a dict again."""
    for name, value in node.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")


def listed(given: Any) -> list[Any]:
    """Return a value or list of values as a list; null is an empty list."""
    if given is None:
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def instantiate(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the class or function `node._target_` with the node's other entries, as plain values.

    `args` go first, and `kwargs` override the node's entries.

    Raises:
        BloodcellError: The target is not allowed, does not exist, lacks its package, or has no such argument.
    """
    values = dict(plain(node))
    target = values.pop("_target_")
    target = MOVED.get(target, target) if isinstance(target, str) else target
    function = _locate(target)
    _check_arguments(target, function, {**values, **kwargs})
    try:
        return function(*args, **{**values, **kwargs})
    except TypeError as error:
        if target.rpartition(".")[2] in str(error) or "__init__()" in str(error):
            raise BloodcellError(f"{target}: {error}") from error
        raise
    except (ModuleNotFoundError, ValueError) as error:
        raise BloodcellError(f"{target}: {' '.join(str(error).split())}") from error


def _check_arguments(target: str, function: Any, values: dict[str, Any]) -> None:
    """Refuse an argument of another type than its default: many classes accept it and fail during training."""
    for name, parameter in inspect.signature(function).parameters.items():
        kind = type(parameter.default)
        if name not in values or kind not in _WANTED:
            continue
        if kind is int and "float" in str(parameter.annotation):
            kind = float
        value = values[name]
        accepted, words = _WANTED[kind]
        right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
        if not right or (kind is float and not math.isfinite(value)):
            raise BloodcellError(f"{target}: {name}={value}; give {words}")


def _locate(target: Any) -> Any:
    """Import a class or function that is allowed, and defined in an allowed module: modules also import e.g. `os`."""
    found: Any = None
    if isinstance(target, str) and target.startswith(ALLOWED_TARGETS):
        module, _, name = target.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise BloodcellError(f"_target_={target}: {error}") from error
    callable_here = inspect.isclass(found) or inspect.isfunction(found)
    if callable_here and f"{found.__module__}.{found.__qualname__}".startswith(ALLOWED_TARGETS):
        return found
    allowed = ", ".join(f"{name}*" if name.endswith((".", "_")) else name for name in ALLOWED_TARGETS)
    raise BloodcellError(f"_target_={target!r} is not allowed; a target is a class or function of {allowed}")


def cache_root(configured: str | None) -> Path:
    """Return the cache folder: `cache.root`, else $BLOODCELL_CACHE, else the user's cache.

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


def uses_cache(verb: Callable[Concatenate[DictConfig, Arguments], Result]) -> Callable[..., Result]:
    """Mark the cache folder of a configuration as in use while a verb works with it: nothing there is cleared."""

    @functools.wraps(verb)
    def marked(cfg: DictConfig, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with locks.in_use(cache_root(cfg.cache.root)):
            return verb(cfg, *arguments, **named)

    return marked


def job_folder() -> Path:
    """Return the folder that Hydra chose for the job, of several processes that of the first."""
    from hydra.core.hydra_config import HydraConfig

    return distributed.once(lambda: Path(HydraConfig.get().runtime.output_dir))


def whole_job_folder() -> Path:
    """Return the folder of all jobs of a multirun, else that of the one job."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    return Path(job.sweep.dir if job.mode == RunMode.MULTIRUN else job.runtime.output_dir)
