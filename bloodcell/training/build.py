"""From a training configuration to the LightningModule and the Trainer."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples
from bloodcell.runtime import distributed
from bloodcell.runtime.config import instantiate
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import has_bf16, has_cuda
from bloodcell.runtime.schema.model import FinetuneConfig
from bloodcell.runtime.schema.trainer import TrainerConfig
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.runtime.signals import raise_on_sigterm


def build_classifier(config: TrainConfig, samples: Samples, classes: list[str], preprocessing: Preprocessing) -> Any:
    """Build the LightningModule from plain values, which go into its checkpoints."""
    from bloodcell.models.classifier import Classifier
    from bloodcell.models.losses import balanced_weights

    weights = None
    if config.loss.class_weights == "balanced":
        counts = samples.of_split("train").table["label"].value_counts()
        weights = balanced_weights([int(counts[name]) for name in classes])
    return Classifier(
        model={**asdict(config.model), "image_size": preprocessing.image_size},  # the input's real size
        classes=classes,
        preprocessing=preprocessing.as_dict(),
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        finetune=asdict(config.finetune),
        augment=asdict(config.augment),
        loss={**asdict(config.loss), "class_weights": weights},
        seed=config.seed,
    )


def build_trainer(
    config: TrainConfig, folder: Path, devices: dict[str, Any], resumed: bool, watch: Sequence[Any] = ()
) -> Any:
    """Build Lightning's Trainer with the configured loggers and callbacks, and those of `watch`; see `trainer_of`."""
    from bloodcell.runtime.console import console
    from bloodcell.training.callbacks.history import History
    from bloodcell.training.callbacks.progress import EpochProgress
    from bloodcell.training.callbacks.tensorboard import TensorBoardReport

    watched = bool(config.trainer.enable_progress_bar and console.is_terminal and distributed.here().rank == 0)
    loggers = [_logger(node, folder, resumed) for node in config.logger.values()]
    callbacks = [
        History(folder / "history.csv", say),
        TensorBoardReport(OmegaConf.to_yaml(asdict(config))),
        *([EpochProgress()] if watched else []),
        *(_callback(name, node, folder) for name, node in config.callbacks.items() if node is not None),
        *watch,
    ]
    changes = {"callbacks": callbacks, "logger": loggers, "enable_progress_bar": watched}
    return trainer_of(config.trainer, devices, config.finetune, **changes)


def trainer_of(trainer: TrainerConfig, devices: dict[str, Any], finetune: FinetuneConfig, **changes: Any) -> Any:
    """Build Lightning's Trainer for accelerator and devices; `changes` replace configured arguments.

    Raises:
        BloodcellError: The Trainer refuses an argument.
    """
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from bloodcell.training.callbacks.checkpoint_io import AtomicCheckpointIO

    arguments = {**asdict(trainer), **devices, **changes}
    del arguments["gpus"]
    on_gpu = devices["accelerator"] in ("gpu", "cuda") or (devices["accelerator"] == "auto" and has_cuda())
    arguments["precision"] = precision(arguments["precision"], finetune.frozen, "cuda" if on_gpu else "cpu")
    arguments["plugins"] = [AtomicCheckpointIO(), *(arguments["plugins"] or [])]
    strategy_for(arguments, gradual=finetune.name == "gradual")
    try:
        return pl.Trainer(**arguments)
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise BloodcellError(f"trainer: {' '.join(str(error).split())}") from error


def strategy_for(arguments: dict[str, Any], gradual: bool) -> None:
    """Change the Trainer's arguments to those of one process of several, or of one alone.

    Raises:
        BloodcellError: Several processes have another strategy than ddp.
    """
    asked, place = str(arguments["strategy"]), distributed.here()
    if place.size == 1:
        arguments["strategy"] = "auto" if asked == "ddp" else arguments["strategy"]
        return
    if asked not in ("auto", "ddp", "ddp_find_unused_parameters_true"):
        raise BloodcellError(f"trainer.strategy={asked}: several devices learn by ddp; leave trainer.strategy out")
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from pytorch_lightning.callbacks import LambdaCallback

    arguments["strategy"] = "ddp_find_unused_parameters_true" if gradual else asked.replace("auto", "ddp")
    arguments["use_distributed_sampler"] = False  # Lightning's repeats images; ours does not
    # torchrun's variables are set, also in processes that srun started
    arguments["plugins"] = [*arguments["plugins"], TorchElasticEnvironment()]
    # Lightning's handler of SIGTERM broadcasts to processes that may be busy elsewhere, and hangs
    arguments["callbacks"] = [*arguments["callbacks"], LambdaCallback(on_train_start=raise_on_sigterm)]
    if not isinstance(arguments["devices"], list):
        arguments["devices"] = place.local_size


def _callback(name: str, node: dict[str, Any], folder: Path) -> Any:
    """Build a callback; a ModelCheckpoint writes into the run's folder at the end of each epoch."""
    if not isinstance(node, dict) or "_target_" not in node:
        raise BloodcellError(
            f"callbacks.{name}={node}: the chosen group `callbacks` has no callback of this name; leave it out, or "
            f"switch it off: callbacks.{name}=null"
        )
    if not str(node["_target_"]).endswith("ModelCheckpoint"):
        return instantiate(node)
    return instantiate(
        node,
        dirpath=str(folder / "checkpoints"),
        enable_version_counter=False,
        save_on_train_epoch_end=True,  # the epoch's schedulers and history are then part of the checkpoint
    )


def _logger(node: dict[str, Any], folder: Path, resumed: bool) -> Any:
    """Build a logger; a resumed TensorBoard log drops what followed the last checkpoint."""
    from bloodcell.models.classifier import load_checkpoint

    if not resumed or not str(node["_target_"]).endswith("TensorBoardLogger"):
        return instantiate(node, save_dir=str(folder))
    last = folder / "checkpoints" / "last.ckpt"
    purged = load_checkpoint(last)["epoch"] + 2 if last.is_file() else 0
    return instantiate(node, save_dir=str(folder), purge_step=purged)


def precision(asked: Any, frozen: bool, device: str) -> Any:
    """Return Lightning's precision: bf16 if the backbone learns and the device multiplies bf16 in hardware."""
    if asked != "auto":
        return asked
    return "bf16-mixed" if not frozen and has_bf16(device) else "32-true"


def quiet() -> None:
    """Silence messages of Lightning that do not apply here."""
    if not has_cuda():  # else torch loads NVIDIA's library at each step of an optimizer
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "The '.*_dataloader' does not have many workers",  # the count follows from the machine
        "Checkpoint directory .* exists and is not empty",  # a resumed run's own
        "The number of training batches .* is smaller than the logging interval",  # nothing is logged by step
        "Found .* module\\(s\\) in eval mode at the start of training",  # a frozen backbone is meant to be
        "Trying to infer the `batch_size`",
        "It is recommended to use `self.log\\(.*sync_dist=True",  # every process has the figures of all images
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning 2.6 on torch 2.14
    ):
        warnings.filterwarnings("ignore", message=message)
