"""Leaks between training and the other splits, by known sources or by a probe; every training reports them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from bloodcell.data import joint
from bloodcell.data.samples import Samples, digest
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_json
from bloodcell.runtime.schema.data import DataConfig


def check_leaks(samples: Samples, policy: str, advice: str, cache: Path) -> None:
    """Warn of images outside training that share a source with it, or refuse to continue.

    Known sources give the exact number. For unknown ones a probe of at most some seconds looks for copies; also between
    sets that were joined, since an audit of each alone cannot find copies across them.

    The policy is `data.leak_check`; the advice is what to do about copies that the probe finds. The probe's outcome is
    kept below the cache root for the same split of the same files.

    Raises:
        BloodcellError: The policy is error and there is a leak.
    """
    if policy == "off":
        return
    known, joined = known_leaks(samples), bool(samples.sets())
    report_leak(known, policy)
    if joined or (known is None and not samples.sources_known()):
        rest = Samples(samples.table[~_shared(samples)].reset_index(drop=True), samples.root)
        for split in ("val", "test") if joined else ("val",):  # a set that was left out is the test part
            report_leak(probed_leak(rest, split, advice, cache), policy)


def report_leak(message: str | None, policy: str) -> None:
    """Print a warning of a leak, or raise a BloodcellError, as `data.leak_check` asks."""
    if message and policy == "error":
        raise BloodcellError(message)
    if message and policy == "warn":
        print(f"warning: {message}", file=sys.stderr)


def known_leaks(samples: Samples) -> str | None:
    """Return one line on the images that share a known source with training; None if there are none."""
    table, parts = samples.table.assign(shared=_shared(samples)), []
    for split in samples.splits():
        part = table[table["split"] == split]
        if count := part["shared"].sum():
            sources = part.loc[part["shared"], "source"].nunique()
            parts.append(f"{count:,} of {len(part):,} {split} images ({sources} sources)")
    if not parts:
        return None
    advice = "; data.split=grouped keeps them apart" if any(" val " in part for part in parts) else ""
    return f"leak: {', '.join(parts)} share a source with training: their accuracy is not that of unseen cells{advice}"


def _shared(samples: Samples) -> pd.Series:
    """Return whether each image is outside training and shares a known source with it."""
    table, training = samples.table, samples.table["split"] == "train"
    return table["source"].isin(set(table.loc[training, "source"]) - {""}) & ~training


def probed_leak(samples: Samples, split: str, advice: str, cache: Path) -> str | None:
    """Return one line if images of a split look like copies of training images; None if they do not."""
    sides = samples.of_split("train", split)
    if split not in sides.splits():
        return None
    file = cache / "probes" / f"{digest(sides)}.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["message"]
    except (OSError, ValueError, KeyError, TypeError):
        from bloodcell.audit.probe import leak_probe

        train, other = sides.of_split("train"), sides.of_split(split)
        probe = leak_probe(train.files(), list(train.table["label"]), other.files(), list(other.table["label"]))
        found = probe.message({"val": "validation"}.get(split, split)) if probe.leak else None
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json({"message": found}, file)
    return f"leak: {found}; {advice}" if found else None


def unaudited_sets(data: DataConfig, samples: Samples) -> list[str]:
    """Return a note for each joined set that has images of unknown source, with the command that finds the sources."""
    commands = _audits_needed(data, samples)
    return [f"note: sources of {name} are unknown; find them: {command}" for name, command in commands.items()]


def leak_advice(data: DataConfig, samples: Samples) -> str:
    """Return what to do about copies in training whose sources are unknown or named differently."""
    if commands := _audits_needed(data, samples):
        return f"find the sources: {'; '.join(commands.values())}"
    if samples.sets():
        return "two of data.sets show the same cells; train without one of them"
    where = f"data.table={data.table}" if data.kind == "table" else f"data.root={samples.root}"
    return f"find the sources: bloodcell audit data={data.kind} {where}"


def _audits_needed(data: DataConfig, samples: Samples) -> dict[str, str]:
    """Return the audit command of each joined set that has images of unknown source."""
    unknown = [name for name in samples.sets() if not samples.of_set(name).sources_known()]
    return {name: joint.audit_command(joint.named_sets(data.sets)[name]) for name in unknown}
