"""TensorBoard: sample batch, graph, configuration, confusion matrices and PR curves."""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from bloodcell.evaluation.figures import confusion_figure
from bloodcell.metrics.confusions import MOST
from bloodcell.runtime.hardware import short_lived

#: Architecture and input shape -> traced graph. TorchScript keeps each trace, 30 MB for MobileNetV2, until the process
#: ends, so the jobs of a multirun share them.
_GRAPHS: dict[str, Any] = {}

#: Least seconds between two drawings of the confusion matrix: an epoch of kept features takes no longer than one.
DRAW_SECONDS = 10.0


def graph_of(net: torch.nn.Module, images: Tensor) -> Any:
    """Return the graph of a net with input images (N, 3, H, W), traced once for each architecture."""
    from torch.utils.tensorboard._pytorch_graph import graph

    key = f"{net}{tuple(images.shape)}{images.device}"
    if key not in _GRAPHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the writer traces by TorchScript, which is deprecated
            # a copy: the writer leaves every module in training mode, a frozen backbone too
            _GRAPHS[key] = graph(copy.deepcopy(net), images)  # type: ignore[no-untyped-call]
    return _GRAPHS[key]


class TensorBoardReport(pl.Callback):
    """Writes an augmented batch, the graph and the configuration (YAML) once, and results of each epoch."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.drawn_at, self.drawn_epoch = -DRAW_SECONDS, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write what does not change, unless the run is resumed."""
        writer = writer_of(trainer)
        if writer is None or trainer.current_epoch > 0:
            return
        writer.add_text("configuration", f"```yaml\n{self.config}\n```", 0)
        images = self._images(trainer)
        if images is None:
            return
        with torch.random.fork_rng(), torch.no_grad():  # keeps the run reproducible
            shown = pl_module.augment(images.to(pl_module.device)).float()
        writer.add_images("augmented training batch", shown / 255 if shown.max() > 1 else shown, 0)
        writer._get_file_writer().add_graph(graph_of(pl_module.net, images[:1].float().to(pl_module.device) / 255))

    def _images(self, trainer: pl.Trainer) -> Tensor | None:
        """Return up to 16 training images, uint8 (N, 3, size, size)."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        files = data.samples.of_split("train").files()
        files = files[:: max(1, len(files) // 16)][:16]  # spread over the classes, which follow each other
        return torch.stack([data.preprocessing(file) for file in files]) if files else None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the confusion matrix of the validation part, now and then; of up to `MOST` classes, each PR curve."""
        writer = writer_of(trainer)
        results = pl_module.results.get("val")
        if writer is None or results is None:
            return
        step = trainer.current_epoch + 1
        if time.monotonic() - self.drawn_at >= DRAW_SECONDS:
            self._draw(writer, pl_module, step)
        if len(pl_module.classes) > MOST:
            return
        probabilities = results["logits"].softmax(dim=1)
        for number, name in enumerate(pl_module.classes):
            if (there := results["labels"] == number).any():
                writer.add_pr_curve(f"validation/{name}", there, probabilities[:, number], step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw the confusion matrix of the last epoch."""
        writer, step = writer_of(trainer), trainer.current_epoch
        if writer is not None and "val" in pl_module.results and step > self.drawn_epoch:
            self._draw(writer, pl_module, step)

    def _draw(self, writer: Any, pl_module: Any, epoch: int) -> None:
        with short_lived():
            write_confusion(writer, pl_module.results["val"]["confusion"], pl_module.classes, epoch)
        self.drawn_at, self.drawn_epoch = time.monotonic(), epoch


def write_confusion(writer: Any, matrix: Tensor, classes: list[str], epoch: int) -> None:
    """Draw the confusion matrix (C, C) of an epoch's validation."""
    figure = confusion_figure(matrix.cpu().numpy(), classes, f"validation, epoch {epoch}", normalise=True)
    writer.add_figure("validation confusion matrix", figure, epoch)


def writer_of(trainer: pl.Trainer) -> Any:
    """Return the SummaryWriter of a trainer's TensorBoard logger, in the first process; None if there is none."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            return logger.experiment
    return None
