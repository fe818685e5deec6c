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
from bloodcell.runtime.errors import BloodcellError, nearest
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
    from bloodcell.training.callbacks.history import History
    from bloodcell.training.callbacks.progress import EpochProgress
    from bloodcell.training.callbacks.tensorboard import TensorBoardReport

    watched = bool(config.trainer.enable_progress_bar and distributed.here().rank == 0)
    loggers = [_logger(name, node, folder, resumed) for name, node in config.logger.items()]
    callbacks = [
        History(folder / "history.csv", say),
        TensorBoardReport(OmegaConf.to_yaml(asdict(config))),
        *([EpochProgress()] if watched else []),
        *(_callback(name, node, folder) for name, node in config.callbacks.items() if node is not None),
        *watch,
    ]
    profiler = profiler_of(config.trainer.profiler, folder)
    changes = {"callbacks": callbacks, "logger": loggers, "enable_progress_bar": False, "profiler": profiler}
    return trainer_of(config.trainer, devices, config.finetune, **changes)


def trainer_of(trainer: TrainerConfig, devices: dict[str, Any], finetune: FinetuneConfig, **changes: Any) -> Any:
    """Build Lightning's Trainer for accelerator and devices; `changes` replace configured arguments.

    Raises:
        BloodcellError: The Trainer refuses an argument.
    """
    import pytorch_lightning as pl
    import torch
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from bloodcell.training.callbacks.checkpoint_io import AtomicCheckpointIO

    arguments = {**asdict(trainer), **overfitting(trainer.overfit_batches), **devices, **changes}
    del arguments["gpus"]
    on_gpu = devices["accelerator"] in ("gpu", "cuda") or (devices["accelerator"] == "auto" and has_cuda())
    arguments["precision"] = precision(arguments["precision"], finetune.frozen, "cuda" if on_gpu else "cpu")
    arguments["plugins"] = [AtomicCheckpointIO(), *(arguments["plugins"] or [])]
    strategy_for(arguments, gradual=finetune.name == "gradual")
    # deterministic=warn would write NaN into every new tensor of a GPU, which nothing reads
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch makes it at run time
    try:
        return pl.Trainer(**arguments)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise BloodcellError(f"trainer: {' '.join(str(error).split())}") from error


def overfitting(batches: Any) -> dict[str, Any]:
    """Return the Trainer's arguments that limit it to some batches; its own would replace the sampler."""
    if not batches:
        return {}
    fewer = {"limit_val_batches": batches} if isinstance(batches, int) else {}
    return {"overfit_batches": 0.0, "limit_train_batches": batches, **fewer}


def profiler_of(name: str | None, folder: Path) -> Any:
    """Return Lightning's profiler of a name, which writes its report to fit-profile.txt in the folder; None: none."""
    from pytorch_lightning import profilers

    kinds: dict[str, Any] = {
        "simple": profilers.SimpleProfiler, "advanced": profilers.AdvancedProfiler,
        "pytorch": profilers.PyTorchProfiler,
    }  # fmt: skip
    return kinds[name](dirpath=folder, filename="profile") if name else None


def strategy_for(arguments: dict[str, Any], gradual: bool) -> None:
    """Change the Trainer's arguments to those of one process of several, or of one alone."""
    asked, place = arguments["strategy"], distributed.here()
    if place.size == 1:
        arguments["strategy"] = "auto"
        return
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
    kind = str(node["_target_"]).rpartition(".")[2]
    if kind in _INSTEAD:
        raise BloodcellError(f"callbacks.{name}: {kind} would fight with what is here already; {_INSTEAD[kind]}")
    _check_monitor(name, node)
    return _checkpoint_callback(name, node, folder / "checkpoints") if kind == "ModelCheckpoint" else instantiate(node)


#: Lightning's callback -> what to use instead.
_INSTEAD = {
    "BackboneFinetuning": "use finetune=gradual",
    "BaseFinetuning": "use finetune=gradual",
    "LearningRateFinder": "use the verb find-lr",
    "BatchSizeFinder": "set data.batch_size",
    "StochasticWeightAveraging": "use callbacks=ema",
    "ModelPruning": "a pruned net cannot be loaded again; leave it out",
    "RichProgressBar": "use trainer.enable_progress_bar",
    "TQDMProgressBar": "use trainer.enable_progress_bar",
}


def _check_monitor(name: str, node: dict[str, Any]) -> None:
    """Refuse a metric that training does not measure, and the wrong one of min and max."""
    monitor, mode = node.get("monitor"), node.get("mode", "min")
    if monitor is None or str(monitor).startswith(("train/f1_", "val/f1_")):
        return
    best = {f"{part}/{metric}": sense for part in ("train", "val") for metric, sense in _BEST.items()}
    if monitor not in best:
        raise BloodcellError(f"callbacks.{name}.monitor={monitor}; {nearest(str(monitor), best)}")
    if mode != best[monitor]:
        sense = {"min": "lower", "max": "higher"}[best[monitor]]
        raise BloodcellError(f"callbacks.{name}.mode={mode}, but a {sense} {monitor} is better: mode={best[monitor]}")


_BEST = {"loss": "min", "accuracy": "max", "macro_f1": "max"}


def _checkpoint_callback(name: str, node: dict[str, Any], folder: Path) -> Any:
    """Build a ModelCheckpoint that writes at the end of epochs, into the run's folder unless it has a `dirpath`.

    Whatever else is kept, `best` keeps the best in best.ckpt and `last` the last in last.ckpt, as all else expects.
    """
    from bloodcell.training.callbacks.model_checkpoint import ModelCheckpoint

    values = {key: value for key, value in node.items() if key != "_target_"}
    where, file = str(values.pop("dirpath", None) or folder), values.pop("filename", None)
    if name == "last" and (where, file, values.get("monitor")) != (str(folder), "last", None):
        raise BloodcellError("callbacks.last: resume=RUN needs last.ckpt; leave out filename, dirpath and monitor")
    if name == "best" and (values.get("monitor") is None or values.get("every_n_train_steps")):
        raise BloodcellError("callbacks.best: it compares whole epochs by a monitor; without: callbacks.best=null")
    if where == str(folder) and file in {"best", "last"} - {name}:
        raise BloodcellError(f"callbacks.{name}.filename={file} is that of callbacks.{file}; give another")
    if values.get("save_top_k", 1) not in (0, 1) and file is not None and "{" not in file:
        file += "-{epoch}"  # else one file is all of them
    built = instantiate(
        {"_target_": f"{ModelCheckpoint.__module__}.{ModelCheckpoint.__name__}", **values},
        dirpath=where,
        filename=file,
        enable_version_counter=False,
        save_on_train_epoch_end=True,  # the epoch's schedulers and history are then part of the checkpoint
    )
    built.name, built.own = name, folder.resolve()
    return built


def _logger(name: str, node: dict[str, Any], folder: Path, resumed: bool) -> Any:
    """Build a logger, whose files are in the run's folder.

    A resumed TensorBoard log drops what followed the last checkpoint.
    """
    from bloodcell.training.training_state import load_state

    last = folder / "checkpoints" / "last.ckpt"
    if not resumed or not str(node["_target_"]).endswith("TensorBoardLogger"):
        built = instantiate(node, save_dir=str(folder))
    else:
        purged = load_state(last)["epoch"] + 2 if last.is_file() else 0
        built = instantiate(node, save_dir=str(folder), purge_step=purged)
    for place in (getattr(built, "root_dir", None), built.log_dir):
        if place is not None and not Path(place).resolve().is_relative_to(folder.resolve()):
            raise BloodcellError(f"logger.{name}: {place} is not in the run's folder; choose another name and version")
    return built


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
    logging.getLogger("pytorch_lightning.callbacks.model_summary").setLevel(logging.INFO)  # its table is asked for
    for message in (
        "The '.*_dataloader' does not have many workers",  # the count follows from the machine
        "Total length of `list` across ranks is zero",  # a training without a validation part
        "Checkpoint directory .* exists and is not empty",  # a resumed run's own
        "The number of training batches .* is smaller than the logging interval",  # nothing is logged by step
        "Found .* module\\(s\\) in eval mode at the start of training",  # a frozen backbone is meant to be
        "Trying to infer the `batch_size`",
        "Be aware that when using `ckpt_path`, callbacks used",  # early stopping was switched off on purpose
        "`ModelCheckpoint\\(monitor=.*could not find the monitored key",  # before the first validation
        "It is recommended to use `self.log\\(.*sync_dist=True",  # every process has the figures of all images
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning 2.6 on torch 2.14
    ):
        warnings.filterwarnings("ignore", message=message)
