"""Settings of `cache`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class ClearCacheConfig(CommonConfig):
    """The configuration of `cache`."""

    clear: Any
