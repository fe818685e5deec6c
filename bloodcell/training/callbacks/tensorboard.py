"""TensorBoard: sample batch, graph, configuration, confusion matrices and PR curves."""

from __future__ import annotations

import copy
import time
import warnings
from collections import Counter
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

#: Least seconds between two drawings of the confusion matrix; an epoch on kept features takes no longer than one.
DRAW_SECONDS = 10.0


def tag_of(name: str) -> str:
    """Return TensorBoard's tag of a metric: it sorts by tag, so accuracy and loss come first, both parts side by side.

    That of val/loss is loss/val, that of val/f1_NEU per class F1/NEU val.
    """
    part, _, metric = name.partition("/")
    if part not in ("train", "val"):
        return {"images_per_second": "speed/images per second"}.get(name, f"optimizer/{name}")
    if metric.startswith("f1_"):
        return f"per class F1/{metric.removeprefix('f1_')} {part}"
    return f"{metric}/{part}"


def graph_of(net: torch.nn.Module, images: Tensor) -> Any:
    """Return a net's graph with input images (N, 3, H, W), by blocks, traced once an architecture, on the CPU."""
    from torch.utils.tensorboard._pytorch_graph import graph

    key = f"{net}{tuple(images.shape)}"
    if key not in _GRAPHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the writer traces by TorchScript, which is deprecated
            # a copy: the writer leaves every module in training mode, a frozen backbone too; traced here, since the
            # writer would trace it twice to compare; neither function has types
            traced = torch.jit.trace(copy.deepcopy(net).cpu().eval(), images.cpu(), check_trace=False)  # type: ignore[no-untyped-call]
            _GRAPHS[key] = by_blocks(graph(traced, images.cpu()))  # type: ignore[no-untyped-call]
    return _GRAPHS[key]


def by_blocks(traced: Any) -> Any:
    """Rename the nodes of a traced graph so that it opens with the blocks of the net, not with one box of all.

    A scope that holds more than half of the nodes is a box around the blocks, and is left out of the names.
    """
    nodes, left_out = traced[0].node, list[str]()
    while True:
        shown = [_without(left_out, node.name) for node in nodes]
        scopes = Counter(name.partition("/")[0] for name in shown if "/" in name)
        scope, count = scopes.most_common(1)[0] if scopes else ("", 0)
        inner = {_without([*left_out, scope], node.name) for node in nodes}
        if 2 * count <= len(shown) or len(inner) < len(shown):
            break
        left_out.append(scope)
    for node, name in zip(nodes, shown, strict=True):
        node.name = name
        node.input[:] = [_without(left_out, one) for one in node.input]
    return traced


def _without(scopes: list[str], name: str) -> str:
    """Return a node's name without its outer scopes; what is in no module of these normalises the input."""
    for scope in scopes:
        inner = name.removeprefix(f"{scope}/")
        name = f"normalisation/{inner}" if inner != name and "[" not in inner + scope else inner
    return name


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
        gpu = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.random.fork_rng(gpu), torch.no_grad():  # keeps the run reproducible
            shown = pl_module.augment(images.to(pl_module.device)).float()
        writer.add_images("training batch, augmented", shown / 255 if shown.max() > 1 else shown, 0)
        writer._get_file_writer().add_graph(graph_of(pl_module.net, images[:1].float() / 255))

    def _images(self, trainer: pl.Trainer) -> Tensor | None:
        """Return up to 16 training images, uint8 (N, 3, size, size)."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in `fit`
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
