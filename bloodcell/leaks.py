"""What every training says of its own split: images that share a source with training, or look as if they did."""

from __future__ import annotations

import sys
from pathlib import Path

from bloodcell.data.samples import Samples
from bloodcell.errors import BloodcellError


def check_leaks(samples: Samples, policy: str, audit_command: str) -> None:
    """Warn, or refuse to go on, where images outside training share a source with it.

    Where sources are known it is exact; else a probe of at most some seconds looks for copies.

    Args:
        samples: The samples with their splits.
        policy: `data.leak_check`: warn, error or off.
        audit_command: What to run to know the sources.

    Raises:
        BloodcellError: The policy is unknown, or is error and there is a leak.
    """
    if policy not in ("warn", "error", "off"):
        raise BloodcellError(f"data.leak_check={policy}; choose warn, error or off")
    if policy == "off":
        return
    message = known_leaks(samples) if samples.sources_known() else probed_leak(samples, audit_command)
    if message and policy == "error":
        raise BloodcellError(message)
    if message:
        print(f"warning: {message}", file=sys.stderr)


def known_leaks(samples: Samples) -> str | None:
    """Return one line on the images that share a source with training; None where there are none."""
    trained = set(samples.of_split("train").table["source"])
    parts = []
    for split in (name for name in samples.splits() if name != "train"):
        sources = samples.of_split(split).table["source"]
        shared = sources[sources.isin(trained)]
        if len(shared):
            parts.append(f"{len(shared):,} of {len(sources):,} {split} images ({shared.nunique()} sources)")
    if not parts:
        return None
    advice = "; data.split=grouped keeps them apart" if any(" val " in part for part in parts) else ""
    return f"leak: {', '.join(parts)} share a source with training: their accuracy is not that of unseen cells{advice}"


def probed_leak(samples: Samples, audit_command: str) -> str | None:
    """Return one line where validation images look like copies of training images; None where they do not."""
    from bloodcell.audit.probe import leak_probe

    train, val = samples.of_split("train"), samples.of_split("val")
    sides: list[list[Path] | list[str]] = []
    for part in (train, val):
        sides += [part.files(), part.table["label"].tolist()]
    probe = leak_probe(*sides)  # type: ignore[arg-type]
    return f"leak: {probe.message()}; find the sources: {audit_command}" if probe.leak else None
