"""What all verbs share."""

from __future__ import annotations

from dataclasses import dataclass

from bloodcell.runtime.schema.data import CacheConfig, FeaturesConfig


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """What all verbs share."""

    outputs: str
    cache: CacheConfig
    features: FeaturesConfig
