"""The groups `data`, `features` and `cache`."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import TTA, require, require_choice, require_count, require_seed, require_workers

BACKENDS = ("auto", "onnx", "compile", "eager")
PRECISIONS = ("float32", "bf16")
#: A precision of training images alone: what is judged is judged in float32.
INT8 = "int8"


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The `cache` group: what is kept between runs."""

    root: str | None


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How a classifier predicts unless it is asked otherwise: as at the end of its training. Kept in the checkpoint."""

    tta: str = "none"
    backend: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, *TTA)
        require_choice("features.backend", self.backend, *BACKENDS)
        require_choice("features.precision", self.precision, *PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """The `features` group: how features of a frozen backbone are computed, and whether they are kept."""

    cache: Any = "auto"
    root: str | None = None
    backend: str = "auto"
    precision: str | None = "float32"  # None: as in training
    views: int = 0

    def __post_init__(self) -> None:
        require_choice("features.cache", {True: "on", False: "off"}.get(self.cache, self.cache), "auto", "on", "off")
        require_choice("features.backend", self.backend, *BACKENDS)
        require_choice("features.precision", self.precision, None, *PRECISIONS, INT8)
        require(self.views >= 0, "features.views", self.views, "give the number of fixed views, or 0")

    def keeps(self, frozen: bool, augmented: bool) -> bool:
        """Return whether the features of a net with a frozen backbone or augmented images are kept.

        Raises:
            BloodcellError: `cache` or `views` demand it, and it is not possible.
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
    """The `data` group: where the images come from, how they are split, read and drawn."""

    reader: dict[str, Any] = field(default_factory=dict)  # names a function; empty: a run's own images
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
    finder: int = 1  # as in configurations of runs that do not name it
    batch_size: int = 32
    sampling: str = "files"
    balance: float = 1.0
    epoch_size: Any = None
    workers: int | None = None
    in_memory: Any = "auto"
    # keys of one `kind` each
    train_dir: str | None = None
    val_dir: str | None = None
    test_dir: str | None = None
    download: bool = False
    table: str | None = None
    sets: Any = None
    train_only: Any = field(default_factory=list)
    leave_out: Any = None
    drop_test: bool = False

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
        require_choice("data.crop", self.crop, "none", "cell", "auto")
        require(self.finder in (1, 2), "data.finder", self.finder, "choose 1 or 2")
        require_choice("data.in_memory", self.in_memory, "auto", True, False)
        require(self.batch_size >= 1, "data.batch_size", self.batch_size, "give a whole number of 1 or more")
        require(0 <= self.balance <= 1, "data.balance", self.balance, "give a number from 0 to 1")
        require_count("data.epoch_size", self.epoch_size)
        require_workers("data.workers", self.workers)
        self._refuse_keys_of_other_kinds()

    def _refuse_keys_of_other_kinds(self) -> None:
        """Refuse keys that would be ignored."""
        if self.kind == "as_trained":
            for one in fields(self):
                value = getattr(self, one.name)
                default = [] if one.default is MISSING else one.default
                if one.name not in ("reader", "root", "on_bad_image") and value != default:
                    wanted = "the run has its images: leave it out, or name others by data=imagefolder"
                    raise BloodcellError(f"data.{one.name}={value}; {wanted}")
        kinds = {
            "train_dir": "imagefolder", "val_dir": "imagefolder", "test_dir": "imagefolder", "download": "kaggle",
            "table": "table", "sets": "joint", "train_only": "joint", "leave_out": "joint",
            "drop_test": "joint",
        }  # fmt: skip
        for key, kind in kinds.items():
            if getattr(self, key) and kind != self.kind:
                raise BloodcellError(f"data.{key} is a key of data={kind}, and this is data={self.kind}; leave it out")

    @property
    def kind(self) -> str:
        """The option of the group, e.g. imagefolder; as_trained if nothing is read."""
        return str(self.reader.get("_target_", "as_trained")).rpartition("read_")[2]
