"""The configuration of a trial: that of the command line, with the trial's values over it."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bloodcell.runtime.config import mismatch, plain
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.tuning.search_space import Dimension

#: Keys of `data` that change how is learnt, not which images learn and validate.
LEARNING = (
    "batch_size", "sampling", "balance", "epoch_size", "image_size", "crop", "crop_size", "workers", "in_memory",
)  # fmt: skip
#: The verb's own part of the command line.
OWN = ("tune", "sweep", "study")


class Recipes:
    """Composes trials' configurations; Hydra must be at work.

    Args:
        overrides: The command line's, e.g. `optimizer=sgd`; the verb's own among them are left out.
    """

    def __init__(self, overrides: list[str]) -> None:
        self.overrides = [item for item in overrides if not _is_own(item)]
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    @cached_property
    def base(self) -> DictConfig:
        """The configuration without a trial's values."""
        return self._compose(())

    def is_group(self, key: str) -> bool:
        """Say whether a key chooses a file of a group, e.g. `optimizer`."""
        return "." not in key and OmegaConf.is_dict(self.base.get(key))

    def config(self, params: dict[str, Any]) -> DictConfig:
        """Return what `train.py` would compose with the values on its command line.

        Args:
            params: Key -> value.
        """
        groups = tuple(f"{key}={value}" for key, value in params.items() if self.is_group(key))
        config = copy.deepcopy(self._compose(groups))
        for key, value in params.items():
            if not self.is_group(key):
                OmegaConf.update(config, key, value)
        return config

    def _compose(self, groups: tuple[str, ...]) -> DictConfig:
        from hydra import compose

        if groups not in self.composed:
            self.composed[groups] = compose("train", overrides=[*self.overrides, *groups])
        return self.composed[groups]

    def check(self, space: list[Dimension]) -> None:
        """Compose the ends of every range.

        Raises:
            BloodcellError: A key is unknown, a value is of another type, or a key changes which images validate.
        """
        for one in space:
            if not self.is_group(one.key) and not _exists(self.base, one.key):
                raise BloodcellError(f"sweep: no configuration key '{one.key}'; {nearest(one.key, _keys(self.base))}")
            default = OmegaConf.select(self.base, one.key)
            for value in one.ends:
                if not self.is_group(one.key) and (wanted := mismatch(one.key, default, value)) is not None:
                    raise BloodcellError(f"sweep: {one.key}={value}: it wants {wanted}, as in {default}")
                if drawn_by(plain(self.config({one.key: value}))) != drawn_by(plain(self.base)):
                    raise BloodcellError(f"sweep: {one.key} changes which images validate, so no trial is like another")


def drawn_by(config: dict[str, Any]) -> dict[str, Any]:
    """Return all of a configuration that decides which images learn and which validate."""
    return {key: value for key, value in config["data"].items() if key not in LEARNING} | {"seed": config["seed"]}


def _is_own(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0].partition("@")[0].partition(".")[0]
    return key in (*OWN, "hydra")


def _exists(config: DictConfig, key: str) -> bool:
    """Say whether a dotted key is there, whatever its value."""
    *parents, name = key.split(".")
    node = OmegaConf.select(config, ".".join(parents)) if parents else config
    return OmegaConf.is_dict(node) and name in node


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Return every dotted key."""
    found = []
    for key in node:
        found.append(f"{prefix}{key}")
        child = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if child is not None and OmegaConf.is_dict(child) and not child._is_none():
            found += _keys(child, f"{prefix}{key}.")
    return found
