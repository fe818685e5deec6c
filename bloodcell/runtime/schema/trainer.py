"""The group `trainer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require


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
        """Refuse zeros that Lightning accepts and fails on during training."""
        for key in (
            "max_epochs", "max_steps", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch",
            "accumulate_grad_batches",
        ):  # fmt: skip
            if getattr(self, key) == 0:
                raise BloodcellError(f"trainer.{key}=0 leaves nothing to train on or to validate; give more than 0")
        require(self.num_nodes >= 1, "trainer.num_nodes", self.num_nodes, "give the number of machines")
