"""The configuration of a run that goes on, which may be somebody else's: it writes nowhere but in the run's folder.

What the user names again on the command line is trusted.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bloodcell.runtime.config import MOVED, config_dir, options, plain, read_config
from bloodcell.runtime.errors import BloodcellError, nearest

#: What may be changed of a run that goes on.
CHANGES = re.compile(
    r"trainer\.|data\.root=|cache\.root=|features\.root=|logger[.=]|callbacks\.\w+\.dirpath=|"
    r"callbacks\.(?!best=|last=)\w+=null$"
)

_LIGHTNING = "pytorch_lightning.callbacks."
#: Callbacks that write no file but where the run's folder is. Others of Lightning replace, or remove, any file.
_CALLBACKS = frozenset((
    "bloodcell.training.callbacks.early_stopping.EarlyStopping", "bloodcell.training.callbacks.ema.MovingAverage",
    *(_LIGHTNING + name for name in (
        "DeviceStatsMonitor", "EarlyStopping", "GradientAccumulationScheduler", "LearningRateMonitor",
        "ModelCheckpoint", "ModelSummary", "RichModelSummary", "Timer",
    )),
))  # fmt: skip
#: Loggers whose files are in the run's folder; others send, or write where their settings say.
_LOGGERS = frozenset(("pytorch_lightning.loggers.CSVLogger", "pytorch_lightning.loggers.TensorBoardLogger"))


def saved_configuration(folder: Path, changes: dict[str, Any]) -> DictConfig:
    """Read the configuration of a run's folder, before `changes` of the command line: dotted keys and their values.

    The cache is the user's, not that of the run, and so is the logger if one is chosen anew.

    Raises:
        BloodcellError: It is damaged, or would write outside the folder without having been told so.
    """
    try:
        cfg = read_config(folder / "config.yaml")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise BloodcellError(f"resume={folder}: its config.yaml is damaged ({reason}); begin a new run") from error
    if not {"seed", "data", "model", "trainer", "outputs", "cache"} <= set(cfg):
        raise BloodcellError(f"resume={folder}: its config.yaml is not that of a training; begin a new run")
    own = {"cache.root": None, "features.root": None, "outputs": str(folder.parent), "trainer.default_root_dir": None}
    for key, value in own.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    if isinstance(logger := changes.get("logger"), str):
        if logger not in options("logger"):
            raise BloodcellError(f"logger={logger}; {nearest(logger, options('logger'))}")
        cfg.logger = OmegaConf.load(config_dir() / "logger" / f"{logger}.yaml")
    else:
        _check_loggers(folder, _nodes(folder, cfg, "logger"))
    _check_callbacks(folder, _nodes(folder, cfg, "callbacks"), changes)
    return cfg


def _nodes(folder: Path, cfg: DictConfig, group: str) -> dict[Any, Any]:
    """Return the nodes of a group that are not switched off."""
    found = plain(cfg.get(group)) or {}
    if not isinstance(found, dict):
        raise BloodcellError(f"resume={folder}: its config.yaml is damaged ({group}); begin a new run")
    return {name: node for name, node in found.items() if node is not None}


def _target(node: Any) -> Any:
    target = node.get("_target_") if isinstance(node, dict) else None
    return MOVED.get(target, target) if isinstance(target, str) else None


def _check_loggers(folder: Path, loggers: dict[Any, Any]) -> None:
    for name, node in loggers.items():
        if _target(node) not in _LOGGERS:
            raise BloodcellError(
                f"resume={folder}: logger.{name} may send to any server, or write anywhere: "
                "if you trust it, name it again (logger=wandb), else logger=none"
            )


def _check_callbacks(folder: Path, callbacks: dict[Any, Any], changes: dict[str, Any]) -> None:
    for name, node in callbacks.items():
        key = f"callbacks.{name}"
        if key in changes:
            continue
        if _target(node) not in _CALLBACKS:
            raise BloodcellError(f"resume={folder}: {key} may write anywhere; go on without it: {key}=null")
        if (place := node.get("dirpath")) is not None and f"{key}.dirpath" not in changes:
            raise BloodcellError(f"resume={folder}: {key}.dirpath={place}; if you mean this folder, name it again")
        file = PurePath(str(node.get("filename") or ""))
        if file.is_absolute() or ".." in file.parts:
            raise BloodcellError(f"resume={folder}: {key}.filename={file} is in another folder; begin a new run")
