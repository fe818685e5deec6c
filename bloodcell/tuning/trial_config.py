"""The configuration of a trial: that of the command line, with the trial's values over it."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bloodcell.runtime.config import flat, plain, typed
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.runtime.user_errors import user_message

#: Keys of `data` that change how a trial learns, not which images it learns from and validates on.
LEARNING = (
    "batch_size", "sampling", "balance", "epoch_size", "image_size", "crop", "crop_size", "finder", "workers",
    "in_memory",
)  # fmt: skip
#: Keys that belong to a machine or a folder and not to an experiment.
PLACES = ("data.root", "data.workers", "data.in_memory", "cache", "outputs", "features.root", "trainer.gpus",
          "trainer.accelerator", "trainer.devices", "trainer.enable_progress_bar")  # fmt: skip
#: The verb's own part of the command line.
OWN = ("tune", "sweep", "study", "hydra")


class TrialConfigs:
    """Composes trials' configurations; Hydra must be at work.

    Args:
        overrides: The command line's, e.g. `optimizer=sgd`; the verb's own among them are left out.
    """

    def __init__(self, overrides: list[str]) -> None:
        self.overrides = [item for item in overrides if not lies_in(key_of(item), OWN)]
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    @property
    def base(self) -> DictConfig:
        """The configuration without a trial's values."""
        return self._compose(())

    def is_group(self, key: str) -> bool:
        """Return whether a key chooses a file of a group, e.g. `optimizer`."""
        return "." not in key and OmegaConf.is_dict(self.base.get(key))

    def config(self, params: dict[str, Any]) -> DictConfig:
        """Return what `train.py` would compose with the values, by key, on its command line."""
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

    def check(self, space: dict[str, Any]) -> None:
        """Compose a configuration for each end of every range.

        Raises:
            BloodcellError: A key is unknown, a value is of another type, or a key changes which images validate.
        """
        known = [key for key, _ in flat(plain(self.base))]
        drawn = drawn_by(typed(self.base, TrainConfig))
        for key, distribution in space.items():
            group = self.is_group(key)
            if not group and key not in known:
                raise BloodcellError(f"sweep: no configuration key '{key}'; {nearest(key, known)}")
            for value in getattr(distribution, "choices", None) or (distribution.low, distribution.high):
                try:
                    config = typed(self.config({key: value}), TrainConfig)
                except (OmegaConfBaseException, BloodcellError) as error:
                    raise BloodcellError(f"sweep: {user_message(error)}") from error
                if drawn_by(config) != drawn:
                    raise BloodcellError(f"sweep: {key} changes which images validate, so trials could not be compared")


def drawn_by(config: TrainConfig) -> dict[str, Any]:
    """Return what decides which images a configuration learns from and validates on."""
    return {key: value for key, value in asdict(config.data).items() if key not in LEARNING} | {"seed": config.seed}


def lies_in(key: str, parts: tuple[str, ...]) -> bool:
    """Return whether a dotted key is one of some parts of a configuration, or lies in one."""
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def key_of(override: str) -> str:
    """Return the key of an override of the command line."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
