"""The whole configuration of each verb."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import (
    CELLS,
    TTA,
    figure_formats,
    require,
    require_choice,
    require_one_group,
    require_seed,
    require_threshold,
    require_workers,
)
from bloodcell.runtime.schema.data import CacheConfig, DataConfig, FeaturesConfig, InferenceConfig
from bloodcell.runtime.schema.model import AugmentConfig, FinetuneConfig, LossConfig, ModelConfig
from bloodcell.runtime.schema.publication import Publication, read_publication, require_authors_and_license
from bloodcell.runtime.schema.trainer import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class EndOfTrainingConfig:
    """The `evaluate` settings of a training."""

    test: bool | None
    tta: str
    figures: Any

    def __post_init__(self) -> None:
        require_choice("evaluate.tta", self.tta, *TTA)
        figure_formats(self.figures, "evaluate.figures")


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """What all verbs share."""

    outputs: str
    cache: CacheConfig
    features: FeaturesConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(CommonConfig):
    """The configuration of `train`."""

    data: DataConfig
    model: ModelConfig
    augment: AugmentConfig
    loss: LossConfig
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    finetune: FinetuneConfig
    callbacks: dict[str, Any]
    logger: dict[str, Any]
    trainer: TrainerConfig
    evaluate: EndOfTrainingConfig
    seed: int
    resume: str | None
    skip_finished: bool
    calibrate: bool | None = False
    limits: bool = False
    report: bool = False
    report_title: str | None = None
    audit: str | None = None

    def __post_init__(self) -> None:
        require_seed("seed", self.seed)
        require_choice("audit", self.audit, None, "auto")
        rate = self.optimizer.get("lr")
        require(isinstance(rate, int | float) and math.isfinite(rate), "optimizer.lr", rate, "give a number above 0")
        if self.loss.class_weights == "balanced" and self.data.sampling == "balanced":
            raise BloodcellError("data.sampling=balanced and loss.class_weights=balanced do the same twice; choose one")
        self.features.keeps(self.finetune.frozen, self.augmented)

    @property
    def augmented(self) -> bool:
        """Whether training changes its images at random."""
        return self.augment.name != "none"

    @property
    def calibrates(self) -> bool:
        """Whether a temperature is fitted; by default not for a fold, whose predictions must not use its labels."""
        return self.data.fold is None if self.calibrate is None else self.calibrate

    @property
    def inference(self) -> InferenceConfig:
        """How its classifier predicts unless asked otherwise."""
        chosen = self.features
        return InferenceConfig(
            tta=self.evaluate.tta, backend=chosen.backend, precision=chosen.precision or InferenceConfig.precision
        )

    def tests(self, many: bool) -> bool:
        """Return whether the run evaluates the test part: by default a single run, or one that leaves out a set."""
        if self.evaluate.test is not None:
            return self.evaluate.test
        return self.data.leave_out is not None or (not many and self.data.fold is None)


@dataclass(frozen=True, kw_only=True)
class FinderConfig:
    """The `finder` settings of `find-lr`."""

    min_lr: float
    max_lr: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.min_lr < self.max_lr < math.inf:
            raise BloodcellError(
                f"finder: min_lr={self.min_lr}, max_lr={self.max_lr}; give min_lr above 0 and below max_lr"
            )
        require(self.steps >= 10, "finder.steps", self.steps, "give 10 or more")


@dataclass(frozen=True, kw_only=True)
class FindLrConfig(TrainConfig):
    """The configuration of `find-lr`."""

    finder: FinderConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.resume is None, "resume", self.resume, "find-lr continues no run; leave it out")
        for key in ("fast_dev_run", "profiler"):
            value = getattr(self.trainer, key)
            require(not value, f"trainer.{key}", value, "find-lr takes finder.steps steps; leave it out")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The `tune` settings of `tune`."""

    trials: int
    workers: int
    metric: str
    folds: Any
    storage: str | None
    name: str | None
    sampler: dict[str, Any]
    pruner: Any

    def __post_init__(self) -> None:
        for key in ("trials", "workers"):
            require(getattr(self, key) >= 1, f"tune.{key}", getattr(self, key), "give a whole number of 1 or more")


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainConfig):
    """The configuration of `tune`; `sweep` maps keys to ranges."""

    tune: StudyConfig
    sweep: Any
    study: str


@dataclass(frozen=True, kw_only=True)
class AuditConfig(CommonConfig):
    """The configuration of `audit`."""

    data: DataConfig


@dataclass(frozen=True, kw_only=True)
class ClearCacheConfig(CommonConfig):
    """The configuration of `cache`."""

    clear: Any


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(CommonConfig):
    """The configuration of `evaluate`."""

    data: DataConfig
    checkpoint: Any
    classes: Any
    predictions: Any
    compare: bool
    splits: Any
    tta: str | None
    adapt: str
    device: Any
    devices: Any
    workers: int | None
    figures: Any
    report: bool
    report_title: str | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("adapt", self.adapt, "none", "batch_norm")
        figure_formats(self.figures)
        require_workers("workers", self.workers)


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(CommonConfig):
    """The configuration of `adapt`."""

    checkpoint: Any
    corrections: str | None
    new_classes: Any
    steps: int
    data: DataConfig
    augment: AugmentConfig
    loss: LossConfig
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    finetune: FinetuneConfig
    trainer: TrainerConfig
    seed: int
    report: bool
    report_title: str | None

    def __post_init__(self) -> None:
        require_seed("seed", self.seed)
        require(self.steps >= 1, "steps", self.steps, "give 1 step or more")
        own = {"fold": None, "crop": "none", "image_size": None, "epoch_size": None, "sets": None}
        for key, usual in own.items():
            value = getattr(self.data, key)
            require(value == usual, f"data.{key}", value, "the reader and adapt choose it; leave it out")
        for key, off in {"class_weights": "none", "robust": 0.0, "own_classes": False}.items():
            value = getattr(self.loss, key)
            require(value == off, f"loss.{key}", value, "adapt has a loss of its own, but for loss.label_smoothing")
        epochs = self.trainer.max_epochs
        require(epochs == 1, "trainer.max_epochs", epochs, "a training of adapt is one epoch; give its length by steps")
        if self.corrections is not None and (self.data.kind != "imagefolder" or self.data.train_dir):
            raise BloodcellError("corrections= and data= both name labelled cells; give one of them")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(CommonConfig):
    """The configuration of `predict`."""

    checkpoint: Any
    classes: Any
    images: Any
    output: str | None
    overwrite: bool
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    cells: str
    corrections: str | None
    overlays: str | None
    geojson: str | None
    rois: str | None
    device: Any
    devices: Any
    workers: int | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, *CELLS)
        for key in ("overlays", "geojson", "rois"):
            wanted = self.cells in ("auto", "all") or getattr(self, key) is None
            require(wanted, key, getattr(self, key), f"it has the cells of fields, and this is cells={self.cells}")
        require_workers("workers", self.workers)
        require_threshold(self.abstain_below, self.error_rate)


@dataclass(frozen=True, kw_only=True)
class DifferentialConfig(CommonConfig):
    """The configuration of `differential`."""

    checkpoint: Any
    classes: Any
    images: Any
    slide_regex: str | None
    corrections: str | None
    cells: str
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    device: Any
    workers: int | None
    report: bool

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, "all", "auto", "one")
        require_workers("workers", self.workers)
        require_threshold(self.abstain_below, self.error_rate)
        if self.slide_regex is not None:
            require_one_group("slide_regex", self.slide_regex)


@dataclass(frozen=True, kw_only=True)
class ReviewConfig(CommonConfig):
    """The configuration of `review`."""

    checkpoint: Any
    classes: Any
    images: Any
    corrections: str | None
    reviewer: str | None
    next: int
    cells: str
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    device: Any
    workers: int | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, *CELLS)
        require_threshold(self.abstain_below, self.error_rate)
        require_workers("workers", self.workers)
        require(0 <= self.next <= 1000, "next", self.next, "give 0 to 1,000 cells")


@dataclass(frozen=True, kw_only=True)
class AppConfig(CommonConfig):
    """The configuration of `app`."""

    checkpoint: Any
    classes: Any
    images: Any
    corrections: str | None
    reviewer: str | None
    blind: bool
    slide_regex: str | None
    host: str
    port: int
    max_megabytes: float
    max_pixels: int
    cells: str
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    device: Any
    open_browser: bool

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, *CELLS)
        require_threshold(self.abstain_below, self.error_rate)
        require(0 <= self.port <= 65_535, "port", self.port, "give 0 to 65,535")
        require(self.images is not None or not self.blind, "blind", self.blind, "it goes with images=FOLDER")
        if self.slide_regex is not None:
            require_one_group("slide_regex", self.slide_regex)
        megabytes = self.max_megabytes
        require(0.001 <= megabytes <= 1000, "max_megabytes", megabytes, "give a number from 0.001 to 1,000")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(CommonConfig):
    """The configuration of `export`."""

    checkpoint: Any
    format: str
    precision: str
    output: str | None
    overwrite: bool
    title: str | None
    authors: Any
    license: str | None
    cite: Any
    laboratories: str | None

    def __post_init__(self) -> None:
        require_choice("format", self.format, "onnx", "torch", "huggingface", "bioimageio", "reader")
        wanted = "only the card of format=reader has the figures of laboratories; leave it out"
        require(self.laboratories is None or self.format == "reader", "laboratories", self.laboratories, wanted)
        require_choice("precision", self.precision, "float32", "int8")
        if self.precision == "int8" and self.format != "onnx":
            raise BloodcellError(f"precision=int8 is for format=onnx, not for format={self.format}")
        publication = self.publication
        if self.format == "bioimageio":
            require_authors_and_license(publication)

    @property
    def publication(self) -> Publication:
        """What only people know of the exported classifier."""
        return read_publication(self.title, self.authors, self.license, self.cite)


@dataclass(frozen=True, kw_only=True)
class PaintConfig(CommonConfig):
    """The configuration of `paint`."""

    output: str | None
    slides: int
    cells: int
    shares: Any
    seed: int

    def __post_init__(self) -> None:
        for key in ("slides", "cells"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "give a whole number of 1 or more")
        require_seed("seed", self.seed)
        shares = list(self.shares.values()) if isinstance(self.shares, dict) else []
        right = all(isinstance(one, int | float) and one >= 0 for one in shares)
        right = self.shares is None or (right and math.isclose(sum(shares), 1, abs_tol=1e-6))
        require(right, "shares", self.shares, "give shares that add up to 1, e.g. {LYMPHOCYTE: 0.4, MONOCYTE: 0.6}")


#: Verb -> the schema of its configuration.
SCHEMAS: dict[str, type[CommonConfig]] = {
    "train": TrainConfig,
    "find-lr": FindLrConfig,
    "tune": TuneConfig,
    "audit": AuditConfig,
    "cache": ClearCacheConfig,
    "adapt": AdaptConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "differential": DifferentialConfig,
    "review": ReviewConfig,
    "app": AppConfig,
    "export": ExportConfig,
    "paint": PaintConfig,
}
