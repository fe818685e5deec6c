"""Settings of `audit`."""

from __future__ import annotations

from dataclasses import dataclass

from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class AuditConfig(CommonConfig):
    """The configuration of `audit`."""

    data: DataConfig
