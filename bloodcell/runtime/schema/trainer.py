"""The group `trainer`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require, require_choice, require_count

#: Lightning's precisions that keep the weights in float32, as evaluation and export do.
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The `trainer` group: each argument of Lightning's Trainer with its default, and gpus."""

    gpus: Any = None
    accelerator: str | None = None
    devices: Any = None
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Any = "auto"
    max_epochs: Any = None
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
        """Refuse zeros that Lightning accepts and fails on during training."""
        for key in (
            "max_epochs", "max_steps", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch",
            "accumulate_grad_batches",
        ):  # fmt: skip
            if getattr(self, key) == 0:
                raise BloodcellError(f"trainer.{key}=0 leaves nothing to train on or to validate; give more than 0")
        require_count("trainer.max_epochs", self.max_epochs, least=-1)
        require(self.num_nodes >= 1, "trainer.num_nodes", self.num_nodes, "give the number of machines")
        if str(self.precision) not in ("32", "16", "bf16"):  # Lightning's short names
            require_choice("trainer.precision", self.precision, *PRECISIONS)
        if self.strategy not in ("auto", "ddp", "ddp_find_unused_parameters_true"):
            raise BloodcellError(
                f"trainer.strategy={self.strategy}: several devices learn by ddp; leave trainer.strategy out"
            )
        if self.accelerator is not None:
            require_choice("trainer.accelerator", self.accelerator, "auto", "cpu", "gpu", "cuda", "mps")
        require_choice("trainer.profiler", self.profiler, None, "simple", "advanced", "pytorch")
        clip = self.gradient_clip_val
        require(clip is None or 0 <= clip < math.inf, "trainer.gradient_clip_val", clip, "give a number of 0 or more")

    @property
    def partial(self) -> str | None:
        """The setting by which not all batches are used, e.g. trainer.fast_dev_run=5; None: all are."""
        for name in ("fast_dev_run", "overfit_batches", "limit_train_batches", "limit_val_batches"):
            value = getattr(self, name)
            if value and not (isinstance(value, float) and value == 1):  # 1.0 is all, 1 is one batch
                return f"trainer.{name}={value}"
        return None
