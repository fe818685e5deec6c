"""The configuration's types: one dataclass a group, with the checks of its values.

Hydra takes them as the schema of `conf/`, so a misspelt key or a value of another type is refused while it composes;
what a type cannot say is checked when the object is made. A field without a default comes from `conf/`. A default is
how a run of a release before the field existed behaved.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from bloodcell.runtime.errors import BloodcellError

#: Seeds that numpy takes.
SEEDS = 2**32
#: Threads or processes that may decode.
MOST_WORKERS = 256
TTA = ("none", "flips", "d4")


def require(right: bool, key: str, value: Any, wanted: str) -> None:
    """Refuse a value of a configuration key.

    Args:
        right: Whether it may stay.
        key: As on the command line, e.g. `data.fold`.
        value: What was given.
        wanted: What to do, e.g. "give a whole number of 1 or more".

    Raises:
        BloodcellError: It is not right.
    """
    if not right:
        raise BloodcellError(f"{key}={value}; {wanted}")


def require_choice(key: str, value: Any, *choices: Any) -> None:
    """Refuse a value that is none of some choices; see `require`."""
    words = [{True: "true", False: "false", None: "null"}.get(choice, choice) for choice in choices]
    require(value in choices, key, value, f"choose {', '.join(words[:-1])} or {words[-1]}")


def require_seed(key: str, value: int) -> None:
    """Refuse a number that is no seed; see `require`."""
    require(0 <= value < SEEDS, key, value, f"give a whole number from 0 to {SEEDS - 1}")


def require_workers(key: str, value: int | None) -> None:
    """Refuse a number of threads that could only bring the machine down; see `require`."""
    require(value is None or 0 <= value <= MOST_WORKERS, key, value, f"give 0 to {MOST_WORKERS}, or null")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The `cache` group: what is kept between runs."""

    root: str | None


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """The `features` group: how a frozen backbone is computed, and whether its features are kept."""

    cache: Any = "auto"
    root: str | None = None
    backend: str = "auto"
    precision: str = "float32"
    views: int = 0

    def __post_init__(self) -> None:
        require_choice("features.cache", {True: "on", False: "off"}.get(self.cache, self.cache), "auto", "on", "off")
        require_choice("features.backend", self.backend, "auto", "onnx", "compile", "eager")
        require_choice("features.precision", self.precision, "float32", "bf16")
        require(self.views >= 0, "features.views", self.views, "give the number of fixed views, or 0")

    def keeps(self, frozen: bool, augmented: bool) -> bool:
        """Return whether the features of a net are kept.

        Args:
            frozen: Whether its backbone stays as it is.
            augmented: Whether training changes its images at random.

        Raises:
            BloodcellError: They are to be kept, and cannot be.
        """
        wanted = {True: "on", False: "off"}.get(self.cache, self.cache)  # YAML reads on and off as true and false
        if self.views and not (frozen and augmented and wanted != "off"):
            raise BloodcellError(
                "features.views needs finetune=frozen, an augmentation, e.g. augment=light, and the cache"
            )
        possible = frozen and (self.views > 0 or not augmented)
        if wanted == "on" and not possible:
            raise BloodcellError(
                "features.cache=on needs finetune=frozen, and augment=none or features.views; use features.cache=auto"
            )
        return possible and wanted != "off"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The `data` group: where the images come from, how they are split, read and drawn.

    `reader` names the function that reads them; an evaluation of a run's own images has none.
    """

    reader: dict[str, Any] = field(default_factory=dict)
    root: str | None
    split: str = "auto"
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int = 5
    fold: int | None = None
    group_regex: str | None = None
    class_map: Any = None
    classes: Any = None
    on_bad_image: str = "error"
    originals: str = "auto"
    leak_check: str = "warn"
    seed: int = 0
    image_size: int | None = None
    crop: str = "none"
    crop_size: float = 2.0
    batch_size: int = 32
    sampling: str = "files"
    balance: float = 1.0
    epoch_size: int | None = None
    workers: int | None = None
    in_memory: Any = "auto"
    # of one kind of data set each
    train_dir: str | None = None
    val_dir: str | None = None
    test_dir: str | None = None
    download: bool = False
    table: str | None = None
    sets: Any = None
    train_only: Any = field(default_factory=list)
    leave_out: Any = None

    def __post_init__(self) -> None:
        require_choice("data.split", self.split, "random", "grouped", "auto")
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            require(0 <= value < 1, f"data.{name}", value, "give a number from 0 to below 1")
        if self.val_fraction + self.test_fraction >= 1:
            raise BloodcellError("data.val_fraction and data.test_fraction leave nothing to train on; lower them")
        require_seed("data.seed", self.seed)
        require(self.folds >= 2, "data.folds", self.folds, "give 2 or more")
        wanted = f"with data.folds={self.folds} choose 0 to {self.folds - 1}"
        require(self.fold is None or 0 <= self.fold < self.folds, "data.fold", self.fold, wanted)
        require_choice("data.on_bad_image", self.on_bad_image, "error", "skip")
        require_choice("data.leak_check", self.leak_check, "warn", "error", "off")
        require_choice("data.sampling", self.sampling, "files", "balanced")
        require_choice("data.in_memory", self.in_memory, "auto", True, False)
        require(self.batch_size >= 1, "data.batch_size", self.batch_size, "give a whole number of 1 or more")
        require(0 <= self.balance <= 1, "data.balance", self.balance, "give a number from 0 to 1")
        one_or_more = "give a whole number of 1 or more, or null"
        require(self.epoch_size is None or self.epoch_size >= 1, "data.epoch_size", self.epoch_size, one_or_more)
        require_workers("data.workers", self.workers)
        self._refuse_keys_of_other_kinds()

    def _refuse_keys_of_other_kinds(self) -> None:
        """A key that nothing reads would be ignored without a word."""
        if self.kind == "as_trained":
            free = ("reader", "root", "on_bad_image")
            changed = [one.name for one in fields(self) if one.name not in free and self._is_set(one)]
            for key in changed[:1]:
                value = getattr(self, key)
                raise BloodcellError(
                    f"data.{key}={value}; the run has its images: leave it out, or name others by data=imagefolder"
                )
        kinds = {
            "train_dir": "imagefolder", "val_dir": "imagefolder", "test_dir": "imagefolder", "download": "kaggle",
            "table": "table", "sets": "joint", "train_only": "joint", "leave_out": "joint",
        }  # fmt: skip
        for key, kind in kinds.items():
            if getattr(self, key) and kind != self.kind:
                raise BloodcellError(f"data.{key} is a key of data={kind}, and this is data={self.kind}; leave it out")

    def _is_set(self, one: Field[Any]) -> bool:
        default = [] if one.default is MISSING else one.default
        return bool(getattr(self, one.name) != default)

    @property
    def kind(self) -> str:
        """The option of the group, e.g. imagefolder; as_trained if nothing is read."""
        return str(self.reader.get("_target_", "as_trained")).rpartition("read_")[2]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The `model.head` settings."""

    pool: str
    hidden: int
    dropout: float

    def __post_init__(self) -> None:
        require_choice("model.head.pool", self.pool, "avg", "max")
        if not 0 <= self.dropout < 1 or self.hidden < 0:
            raise BloodcellError(
                f"model.head: hidden={self.hidden}, dropout={self.dropout}; hidden is 0 or more, dropout 0 to below 1"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The `model` group: backbone and head."""

    name: str
    library: str
    weights: str | None
    width: float | None
    image_size: int
    mean: list[float]
    std: list[float]
    head: HeadConfig

    def __post_init__(self) -> None:
        require_choice("model.library", self.library, "torchvision", "timm")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers = len(values) == 3 and all(map(math.isfinite, values))
            require(numbers, f"model.{name}", values, "give a list of 3 numbers, of red, green and blue")
        require(min(self.std) > 0, "model.std", self.std, "give three numbers above 0")

    @classmethod
    def of(cls, values: dict[str, Any]) -> ModelConfig:
        """Return the settings that a checkpoint has as plain values."""
        return cls(**{**values, "head": HeadConfig(**values["head"])})


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """The `augment` group: the largest random change of each kind; 0 changes nothing."""

    name: str = ""  # none: no augmentation
    rotation: float = 0.0  # degrees, in either direction
    flip: bool = False  # mirror half of the images
    scale: float = 0.0  # zoom by a factor of 1 plus or minus this
    shift: float = 0.0  # share of the image's side, in either direction
    stain: float = 0.0  # factor of each stain's optical density; a tenth of it is added to the whole image
    white_balance: float = 0.0  # factor of red, green and blue
    brightness: float = 0.0  # factor
    contrast: float = 0.0  # factor, about the image's mean
    gamma: float = 0.0  # factor of the exponent
    blur: float = 0.0  # width of the Gaussian as a share of the image's side, from 0

    def __post_init__(self) -> None:
        factors = (self.scale, self.stain, self.white_balance, self.brightness, self.contrast, self.gamma)
        if min(self.rotation, self.shift, *factors, self.blur) < 0 or max(factors) >= 1 or self.blur > 0.1:
            raise BloodcellError("augment: values are 0 or more; the factors below 1, blur at most 0.1")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The `loss` group."""

    class_weights: str | None
    label_smoothing: float
    robust: float = 0.0

    def __post_init__(self) -> None:
        require_choice("loss.class_weights", self.class_weights, "balanced", None, "none")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "loss.label_smoothing", smoothing, "give a number from 0 to below 1")
        require(0 <= self.robust <= 1, "loss.robust", self.robust, "give a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """The `finetune` group: which part of the net learns in which epoch, and how fast.

    Args:
        name: frozen: the head; full: everything; gradual: the head, then one more block after the other.
        lr_decay: The learning rate of a block is that of the block above times this; the head is above the topmost.
        batch_norm: Of what learns; train: statistics of each batch; frozen: they stay as they are.
        head_epochs: gradual: epochs in which the head alone learns.
        block_epochs: gradual: epochs from one block to the next.
        blocks: full and gradual: how many blocks ever learn, from the top; None: all.
    """

    name: str
    lr_decay: float = 1.0
    batch_norm: str = "train"
    head_epochs: int = 0
    block_epochs: int = 1
    blocks: int | None = None

    def __post_init__(self) -> None:
        require_choice("finetune", self.name, "frozen", "full", "gradual")
        require(0 < self.lr_decay <= 1, "finetune.lr_decay", self.lr_decay, "give a number above 0, up to 1")
        require_choice("finetune.batch_norm", self.batch_norm, "train", "frozen")
        require(self.head_epochs >= 0, "finetune.head_epochs", self.head_epochs, "give 0 epochs or more")
        require(self.block_epochs >= 1, "finetune.block_epochs", self.block_epochs, "give 1 epoch or more")
        require(
            self.blocks is None or self.blocks >= 1, "finetune.blocks", self.blocks, "give 1 block or more, or null"
        )

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.name == "frozen"

    def most_blocks(self, count: int) -> int:
        """Return how many of a backbone's blocks ever learn.

        Raises:
            BloodcellError: More are wanted than there are.
        """
        if self.blocks is not None and self.blocks > count:
            raise BloodcellError(f"finetune.blocks={self.blocks}, but this model has {count} blocks; null means all")
        return 0 if self.frozen else self.blocks or count

    def trainable_blocks(self, epoch: int, count: int) -> int:
        """Return how many blocks, from the top, learn in an epoch.

        Args:
            epoch: From 0.
            count: The blocks of the backbone.
        """
        most = self.most_blocks(count)
        if self.name != "gradual":
            return most
        return min(most, max(0, (epoch - self.head_epochs) // self.block_epochs + 1))

    def last_phase(self, count: int) -> int:
        """Return the first epoch, from 0, in which all that ever learns does."""
        return self.head_epochs + (self.most_blocks(count) - 1) * self.block_epochs if self.name == "gradual" else 0


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The `trainer` group: each argument of Lightning's Trainer with its default, and gpus."""

    gpus: Any = None
    accelerator: str | None = None
    devices: Any = None
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Any = "auto"
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: Any = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    limit_predict_batches: Any = None
    overfit_batches: Any = 0.0
    fast_dev_run: Any = False
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = None
    log_every_n_steps: int | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    enable_checkpointing: bool | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    deterministic: Any = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: Any = None
    detect_anomaly: bool = False
    barebones: bool = False
    plugins: Any = None
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    default_root_dir: str | None = None
    enable_autolog_hparams: bool = True
    model_registry: str | None = None

    def __post_init__(self) -> None:
        """Refuse what Lightning takes as 0, and then fails on in the middle of the training."""
        for key in (
            "max_epochs", "max_steps", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch",
            "accumulate_grad_batches",
        ):  # fmt: skip
            if getattr(self, key) == 0:
                raise BloodcellError(f"trainer.{key}=0 leaves nothing to train on or to validate; give more than 0")
        require(self.num_nodes >= 1, "trainer.num_nodes", self.num_nodes, "give the number of machines")


@dataclass(frozen=True, kw_only=True)
class EndOfTrainingConfig:
    """The `evaluate` settings of a training: what is done with the trained net."""

    test: bool | None
    tta: str
    figures: bool

    def __post_init__(self) -> None:
        require_choice("evaluate.tta", self.tta, *TTA)


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

    def __post_init__(self) -> None:
        require_seed("seed", self.seed)
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
        """Whether a temperature is fitted. By default a fold has none: its predictions owe nothing to its labels."""
        return self.data.fold is None if self.calibrate is None else self.calibrate

    def tests(self, many: bool) -> bool:
        """Return whether the run ends with the test part.

        By default a single run does, a fold or one job of many does not; a set that is left out is there to be tested.
        """
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
    predictions: Any
    compare: bool
    splits: Any
    tta: str
    adapt: str
    device: Any
    devices: Any
    workers: int | None
    figures: bool
    report: bool

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, *TTA)
        require_choice("adapt", self.adapt, "none", "batch_norm")
        require_workers("workers", self.workers)


@dataclass(frozen=True, kw_only=True)
class PredictConfig(CommonConfig):
    """The configuration of `predict`."""

    checkpoint: Any
    images: Any
    output: str | None
    overwrite: bool
    abstain_below: float | None
    error_rate: float | None
    tta: str
    device: Any
    devices: Any
    workers: int | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, *TTA)
        require_workers("workers", self.workers)
        require_threshold(self.abstain_below, self.error_rate)


@dataclass(frozen=True, kw_only=True)
class AppConfig(CommonConfig):
    """The configuration of `app`."""

    checkpoint: Any
    host: str
    port: int
    max_megabytes: float
    max_pixels: int
    abstain_below: float | None
    error_rate: float | None
    tta: str
    device: Any
    open_browser: bool

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, *TTA)
        require_threshold(self.abstain_below, self.error_rate)
        require(0 <= self.port <= 65_535, "port", self.port, "give 0 to 65,535")
        megabytes = self.max_megabytes
        require(0.001 <= megabytes <= 1000, "max_megabytes", megabytes, "give a number from 0.001 to 1,000")


def require_threshold(abstain_below: float | None, error_rate: float | None) -> None:
    """Refuse thresholds of abstention that are none.

    Raises:
        BloodcellError: Both are given, or one that is no number from 0 to 1.
    """
    if abstain_below is not None and error_rate is not None:
        raise BloodcellError("abstain_below and error_rate both set the threshold; give one")
    for name, value in (("abstain_below", abstain_below), ("error_rate", error_rate)):
        require(value is None or 0 <= value <= 1, name, value, "give a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(CommonConfig):
    """The configuration of `export`."""

    checkpoint: Any
    format: str
    output: str | None
    overwrite: bool

    def __post_init__(self) -> None:
        require_choice("format", self.format, "onnx", "torch")


#: Verb -> the schema of its configuration.
SCHEMAS: dict[str, type[CommonConfig]] = {
    "train": TrainConfig,
    "find-lr": FindLrConfig,
    "tune": TuneConfig,
    "audit": AuditConfig,
    "cache": ClearCacheConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "app": AppConfig,
    "export": ExportConfig,
}
