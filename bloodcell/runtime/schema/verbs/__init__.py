"""The whole configuration of each verb, a module a verb."""

from __future__ import annotations

from bloodcell.runtime.schema.verbs.adapt import AdaptConfig
from bloodcell.runtime.schema.verbs.app import AppConfig
from bloodcell.runtime.schema.verbs.audit import AuditConfig
from bloodcell.runtime.schema.verbs.cache import ClearCacheConfig
from bloodcell.runtime.schema.verbs.common import CommonConfig
from bloodcell.runtime.schema.verbs.differential import DifferentialConfig
from bloodcell.runtime.schema.verbs.evaluate import EvaluateConfig
from bloodcell.runtime.schema.verbs.export import ExportConfig
from bloodcell.runtime.schema.verbs.find_lr import FinderConfig, FindLrConfig
from bloodcell.runtime.schema.verbs.paint import PaintConfig
from bloodcell.runtime.schema.verbs.predict import PredictConfig
from bloodcell.runtime.schema.verbs.review import ReviewConfig
from bloodcell.runtime.schema.verbs.train import EndOfTrainingConfig, TrainConfig
from bloodcell.runtime.schema.verbs.tune import StudyConfig, TuneConfig

__all__ = [
    "SCHEMAS",
    "AdaptConfig",
    "AppConfig",
    "AuditConfig",
    "ClearCacheConfig",
    "CommonConfig",
    "DifferentialConfig",
    "EndOfTrainingConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FindLrConfig",
    "FinderConfig",
    "PaintConfig",
    "PredictConfig",
    "ReviewConfig",
    "StudyConfig",
    "TrainConfig",
    "TuneConfig",
]

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
