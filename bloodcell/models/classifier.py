"""The LightningModule: how a net learns, and what is measured on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics.functional.classification import multiclass_accuracy

from bloodcell.data.augment import build_augment
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.metrics import confusion_rates
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.models.blocks import blocks_of
from bloodcell.models.finetune import apply_phase, parameter_groups
from bloodcell.models.losses import build_loss
from bloodcell.models.net import Net
from bloodcell.models.ood import Limits, from_plain
from bloodcell.models.schedulers import build_scheduler
from bloodcell.models.weights import load_safely
from bloodcell.runtime import distributed
from bloodcell.runtime.config import instantiate
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.data import InferenceConfig
from bloodcell.runtime.schema.model import FinetuneConfig, LossConfig, ModelConfig

Batch = tuple[Tensor, ...]


class Classifier(pl.LightningModule):
    """A net, its loss, its optimizer and its metrics.

    Every argument is a plain value, so that a checkpoint describes itself and loads with `weights_only=True`.

    Args:
        model, optimizer, scheduler, finetune, augment: The configuration groups of these names.
        classes: Class names, in the order of the logits.
        preprocessing: The fields of `bloodcell.data.preprocessing.Preprocessing`.
        loss: The `loss` configuration, but class_weights a list of numbers or None.
        seed: Determines dropout and augmentation of an epoch, together with its number.
    """

    def __init__(
        self,
        model: dict[str, Any],
        classes: list[str],
        preprocessing: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        finetune: dict[str, Any],
        augment: dict[str, Any],
        loss: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # logged at the end, with the figures
        self.classes = classes
        self.net = Net(ModelConfig.of(model), len(classes))
        self.augment = build_augment(augment)
        self.loss = build_loss(LossConfig(**{**loss, "class_weights": None}), loss["class_weights"])
        self.outputs: dict[str, list[Batch]] = {"train": [], "val": []}
        self.results: dict[str, dict[str, Tensor]] = {}  # of the latest epoch, for the loggers
        self.epoch_reached = 0  # in the checkpoint that was loaded, from 0
        self.limits: Limits | None = None  # in the checkpoint that was loaded
        self.confusion: Confusion | None = None  # of held-out sources, in the checkpoint that was loaded
        self.inference = InferenceConfig()  # in the checkpoint that was loaded
        self.finetune = FinetuneConfig(**finetune)
        apply_phase(self.finetune, self.net, epoch=0)

    @property
    def last_phase(self) -> int:
        """The first epoch, from 0, in which all blocks learn that ever do."""
        return self.finetune.last_phase(len(blocks_of(self.net.backbone)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, 3, H, W) or of pooled features (N, C)."""
        return cast(Tensor, self.net.head(inputs) if inputs.ndim == 2 else self.net(inputs))

    def setup(self, stage: str) -> None:
        """Give all that ever learns a gradient before processes begin: they share no gradient that comes later."""
        if distributed.here().size > 1:
            apply_phase(self.finetune, self.net, self.last_phase)

    def on_train_epoch_start(self) -> None:
        """Set the blocks that learn and the random numbers by the epoch alone, so a resumed run repeats both."""
        apply_phase(self.finetune, self.net, self.current_epoch)
        torch.manual_seed(_mix(self.hparams["seed"], self.current_epoch, self.global_rank))

    def training_step(self, batch: Any, _: int) -> Tensor | None:
        """Return the loss of one batch: (images or features, labels), and maybe the classes that each may have.

        If optimization is not automatic, the batch is a list of batches, and a step is taken for each.
        """
        if self.automatic_optimization:
            return self._loss_of(batch)
        optimizer: Any = self.optimizers()
        for one in batch:
            optimizer.zero_grad()
            self._loss_of(one).backward()  # type: ignore[no-untyped-call]  # torch's has no types
            optimizer.step()
        return None

    def _loss_of(self, batch: Batch) -> Tensor:
        inputs, labels, *known = batch
        if inputs.ndim == 4:
            with torch.autocast(inputs.device.type, enabled=False):  # colours need more digits than bf16 has
                inputs = self.augment(inputs)
        logits = self(inputs)
        self.outputs["train"].append((logits.detach(), labels))
        return cast(Tensor, self.loss(logits, labels, *known)) * self._share(labels)

    def _share(self, labels: Tensor) -> Tensor | float:
        """Return the weight of a process's mean loss with which the mean over processes is that over all images."""
        if distributed.here().size == 1:
            return 1.0
        weight = torch.ones(len(self.classes), device=labels.device) if self.loss.weight is None else self.loss.weight
        total = weight[labels].sum()
        mine = total.clone()
        torch.distributed.all_reduce(total)
        return mine * distributed.here().size / total

    def on_validation_epoch_start(self) -> None:
        """Give every process the batch-norm statistics of the first, which the checkpoint holds."""
        if distributed.here().size > 1 and not self.finetune.frozen:
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the logits of one batch until the epoch's end, in float32 at any training precision."""
        inputs, labels = batch
        with torch.autocast(inputs.device.type, enabled=False):
            self.outputs["val"].append((self(inputs), labels))

    def on_validation_epoch_end(self) -> None:
        """Compute the validation metrics."""
        self._finish("val")

    def on_train_epoch_end(self) -> None:
        """Compute the training metrics of the augmented images, with the weights of each step."""
        self._finish("train")
        if isinstance(scheduler := self.lr_schedulers(), ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics["val/loss"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a scheduler, except the plateau's, which `on_train_epoch_end` steps.

        Lightning would step it only after the epoch's checkpoint is written, so a resumed run would miss a step.
        """
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def _finish(self, split: str) -> None:
        """Compute and log an epoch's metrics at once from its logits."""
        logits, labels = (torch.cat(parts) for parts in zip(*self.outputs[split], strict=True))
        self.outputs[split].clear()
        if distributed.here().size > 1:
            logits, labels = _of_all(logits), _of_all(labels)
        logits, count = logits.float(), len(self.classes)
        accuracy = multiclass_accuracy(logits, labels, count, average="micro", validate_args=False)
        confusion = confusion_matrix(logits, labels, count)
        class_f1 = 2 * confusion.diagonal() / (confusion.sum(dim=0) + confusion.sum(dim=1)).clamp(min=1)
        self.results[split] = {"logits": logits, "labels": labels, "confusion": confusion}
        loss = torch.nn.functional.cross_entropy(logits, labels)  # plain, comparable whatever training minimises
        there = confusion.sum(dim=1) > 0
        class_f1 = class_f1.masked_fill(~there, math.nan)  # of a class without images there is none
        scalars = {"loss": loss, "accuracy": accuracy, "macro_f1": class_f1[there].mean()}
        scalars |= {f"f1_{name}": f1 for name, f1 in zip(self.classes, class_f1, strict=True)}
        for name, value in scalars.items():
            self.log(f"{split}/{name}", value, on_epoch=True, logger=False, prog_bar=name in ("loss", "accuracy"))

    def configure_optimizers(self) -> Any:
        """Build the optimizer of all parameters that ever learn, and the scheduler."""
        groups = parameter_groups(self.finetune, self.net, self.hparams["optimizer"]["lr"])
        return self.optimizers_of(groups, lambda: self.trainer.estimated_stepping_batches)

    def optimizers_of(self, groups: list[dict[str, Any]], steps: Callable[[], float]) -> Any:
        """Build the configured optimizer of groups of parameters, and the scheduler of a training of some steps."""
        optimizer, scheduler = self.hparams["optimizer"], self.hparams["scheduler"]
        if "fused" in optimizer and self._clips_in_mixed_precision():
            optimizer = {**optimizer, "fused": False}  # a fused step unscales the gradients itself, after the clipping
        built = instantiate(optimizer, groups)
        if scheduler["_target_"] is None:
            return built
        shares = [self.finetune.lr_decay**depth for depth in range(len(groups))]
        course = build_scheduler(scheduler, built, shares, steps)
        return {"optimizer": built, "lr_scheduler": course}

    def _clips_in_mixed_precision(self) -> bool:
        trainer = self._trainer  # None if there is none, which `self.trainer` refuses
        return trainer is not None and bool(trainer.gradient_clip_val) and "mixed" in str(trainer.precision)


def confusion_matrix(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the numbers of images, int64 (count, count) on the CPU, a row for each true class.

    If algorithms are deterministic, torchmetrics counts with N * count^2 numbers: 24 GB for 3,000 images of 1,000
    classes.
    """
    cells = (labels * count + logits.argmax(dim=1)).cpu()
    return torch.bincount(cells, minlength=count**2).reshape(count, count)


def _of_all(mine: Tensor) -> Tensor:
    """Return the rows (n, ...) of all processes in the order of one; each process has every size-th row."""
    parts = distributed.gather(mine.cpu())
    places = torch.cat([torch.arange(len(part)) * len(parts) + rank for rank, part in enumerate(parts)])
    return torch.cat(parts)[places.argsort()].to(mine.device)


def _mix(seed: int, epoch: int, rank: int) -> int:
    """Return a distinct seed for each seed, epoch and process (splitmix-like, 63 bits)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB + 1) & (2**63 - 1)
    return mixed ^ (mixed >> 31)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this package without running any code in it.

    Raises:
        BloodcellError: The file is missing, damaged, or another program's.
    """
    if not path.is_file():
        raise BloodcellError(f"no checkpoint {path}; give a run folder or a .ckpt file with checkpoint=...")
    try:
        checkpoint = load_safely(path)
    except Exception as error:
        reason = "is no checkpoint that can be read safely; it is damaged or another program's"
        raise BloodcellError(f"{path} {reason}") from error
    hparams = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(hparams, dict) or not {"model", "classes", "preprocessing"} <= set(hparams):
        raise BloodcellError(f"{path} is not a checkpoint of bloodcell: it names no model, classes and preprocessing")
    return cast(dict[str, Any], checkpoint)


def load_classifier(path: Path) -> Classifier:
    """Build the classifier that a checkpoint describes and load its weights; nothing else is needed.

    Raises:
        BloodcellError: See `load_checkpoint`; or the weights do not fit the description.
    """
    checkpoint = load_checkpoint(path)
    try:
        classifier = Classifier(**_described(checkpoint))
        classifier.load_state_dict(checkpoint["state_dict"])
        _restore_calibration(classifier, checkpoint)
    except BloodcellError as error:
        raise BloodcellError(f"{path}: {error}") from error
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BloodcellError(f"{path}: the weights do not fit the model that it names ({reason})") from error
    return classifier.eval()


def _described(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters of a checkpoint, checked before an absurd number can take the machine's memory."""
    hparams, state = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    classes, size = hparams["classes"], Preprocessing(**hparams["preprocessing"]).image_size
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no list of names")
    if len(set(classes)) < len(classes) or len(classes) != len(state["net.head.logits.bias"]):
        raise ValueError(f"it names {len(classes)} classes, and its weights are of other ones")
    hidden = hparams["model"]["head"]["hidden"]
    if hidden != len(state.get("net.head.hidden.bias", ())):
        raise ValueError(f"it names a hidden layer of {hidden}, and its weights are of another one")
    return {**hparams, "model": {**hparams["model"], "weights": None, "image_size": size}}


def _restore_calibration(classifier: Classifier, checkpoint: dict[str, Any]) -> None:
    """Check a classifier's weights, and set its temperature, limits, confusions and epoch from its checkpoint."""
    net = classifier.net
    if not all(bool(torch.isfinite(value).all()) for value in net.state_dict().values()):
        raise BloodcellError("some weights are no finite numbers; its training went astray, train it anew")
    temperature, epoch = checkpoint.get("temperature", 1.0), checkpoint.get("epoch", 0)
    if not isinstance(temperature, float) or not 0 < temperature < math.inf:
        raise BloodcellError(f"its temperature is {temperature!r}, which is no number above 0; the file is damaged")
    limits = from_plain(checkpoint["limits"]) if "limits" in checkpoint else None
    if limits is not None and limits.means.shape != (len(classifier.classes), net.width):
        raise BloodcellError("its limits are of another net; the file is damaged")
    confusion = confusion_rates.from_plain(checkpoint["confusion"]) if "confusion" in checkpoint else None
    if confusion is not None and confusion.classes != tuple(classifier.classes):
        raise BloodcellError("its confusions are of other classes; the file is damaged")
    if not isinstance(epoch, int):
        raise BloodcellError(f"its epoch is {epoch!r}, which is no whole number; the file is damaged")
    net.temperature, classifier.limits, classifier.epoch_reached = temperature, limits, epoch
    classifier.confusion = confusion
    classifier.inference = InferenceConfig(**checkpoint.get("inference", {}))  # an older one does not say


def parameter_counts(classifier: Classifier) -> tuple[int, int]:
    """Return the numbers of parameters that learn and that are frozen."""
    learn = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    return learn, sum(p.numel() for p in classifier.parameters()) - learn
