"""The audit before a training, so that its split and its intervals rest on cells and not on files."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from bloodcell.audits.audit import audit_images
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.readers import load_samples
from bloodcell.runtime.config import cache_root
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.schema.verbs import TrainConfig

#: Seconds of one core for each image, measured by tests/benchmarks/audit_scaling.py; and of an audit that is quick.
SECONDS_AN_IMAGE, QUICK = 0.03, 60


def audit_first(config: TrainConfig, folder: Path) -> None:
    """Audit the images if `audit` is auto, their sources are unknown, and it takes less than a minute; else say so.

    Args:
        config: That of the training.
        folder: Where the audit's report and tables go; a new one.
    """
    if config.audit is None:
        return
    cache = cache_root(config.cache.root)
    samples = with_saved_sources(load_samples(config.data), cache)
    if samples.sets() or samples.sources_known():
        return
    count = len(samples.table)
    seconds = count * SECONDS_AN_IMAGE / cpu_count()
    if seconds > QUICK:
        say(
            f"an audit of {counted(count, 'image')} takes some {seconds / 60:.0f} minutes; until then it is unknown "
            f"which show the same cell, and the figures may be too good: bloodcell audit {quote(str(samples.root))}"
        )
        return
    audit_images(config.data, cache, folder)
