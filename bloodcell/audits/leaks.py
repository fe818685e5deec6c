"""Leaks between training and the other splits, by known sources or by a probe; every training reports them."""

from __future__ import annotations

import shlex
from itertools import combinations
from pathlib import Path

import pandas as pd

from bloodcell.data import joint
from bloodcell.data.samples import Samples, digest
from bloodcell.runtime.console import complain, counted
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json, write_json
from bloodcell.runtime.schema.data import DataConfig


def check_leaks(samples: Samples, data: DataConfig, cache: Path) -> None:
    """Warn of images outside training that share a source with it, or refuse to continue.

    Known sources give the exact number. For unknown ones a probe of at most some seconds looks for copies; also between
    sets that were joined, since an audit of each alone cannot find copies across them.

    Args:
        samples: The samples with their splits.
        data: The `data` group: what to do about a leak, and what to advise.
        cache: The cache root, where the probe's outcome is kept for the same split of the same files.

    Raises:
        BloodcellError: The policy is error and there is a leak.
    """
    policy, advice = data.leak_check, leak_advice(data, samples)
    if policy == "off":
        return
    known, joined = known_leaks(samples, data.split), bool(samples.sets())
    report_leak(known, policy)
    report_leak(identical_images(samples), policy)
    if joined or (known is None and not samples.sources_known()):
        rest = Samples(samples.table[~_shared(samples)].reset_index(drop=True), samples.root)
        for split in ("val", "test") if joined else ("val",):  # a set that was left out is the test part
            report_leak(probed_leak(rest, split, advice, cache), policy)


def report_leak(message: str | None, policy: str) -> None:
    """Print a warning of a leak, or raise a BloodcellError, as `data.leak_check` asks."""
    if message and policy == "error":
        raise BloodcellError(message)
    if message and policy == "warn":
        complain(f"warning: {message}")


def known_leaks(samples: Samples, split: str) -> str | None:
    """Return one line on the images that share a known source with training; None if there are none.

    `split` is `data.split`, which a split that was drawn has followed.
    """
    table, parts = samples.table.assign(shared=_shared(samples)), []
    for name in samples.splits():
        part = table[table["split"] == name]
        if count := part["shared"].sum():
            sources = part.loc[part["shared"], "source"].nunique()
            parts.append(f"{count:,} of {len(part):,} {name} images ({sources} sources)")
    if not parts:
        return None
    unknown = int((table["source"] == "").sum())
    if unknown:
        advice = f"give the source of the other {counted(unknown, 'image')}, and data.split=grouped keeps them apart"
    elif split == "random":
        advice = "data.split=grouped keeps them apart, if your folders or table do not fix the parts"
    else:
        advice = "your folders or table fix the parts: move all images of a source into one of them"
    return (
        f"leak: {', '.join(parts)} share a source with training: their accuracy is not that of unseen cells; {advice}"
    )


def identical_images(samples: Samples) -> str | None:
    """Return one line on images that are in two parts, pixel for pixel; None if there are none.

    Images that share a known source with training are not counted again.
    """
    if "pixels" not in samples.table:
        return None
    table = samples.table[~_shared(samples)]
    found = []
    for earlier, later in combinations(samples.splits(), 2):
        sides = [table[table["split"] == split].drop_duplicates("pixels") for split in (earlier, later)]
        both = sides[0].merge(sides[1], on="pixels")
        if len(both):
            count = int(((table["split"] == later) & table["pixels"].isin(both["pixels"])).sum())
            where = {"train": "training", "val": "validation"}.get(earlier, earlier)
            example = f"{both['path_x'][0]} = {both['path_y'][0]}"
            found.append(f"{counted(count, f'{later} image')} also in {where}, e.g. {example}")
    if not found:
        return None
    return (
        f"leak: the same pictures are in two parts: {'; '.join(found)}: their accuracy is not that of unseen cells; "
        "keep one of each"
    )


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
        found = read_json(file)["message"]
    except (OSError, ValueError, KeyError, TypeError):
        from bloodcell.audits.probe import leak_probe

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
    return f"find the sources: {shlex.join(['bloodcell', 'audit', f'data={data.kind}', where])}"


def _audits_needed(data: DataConfig, samples: Samples) -> dict[str, str]:
    """Return the audit command of each joined set that has images of unknown source."""
    unknown = [name for name in samples.sets() if not samples.of_set(name).sources_known()]
    return {name: joint.audit_command(joint.named_sets(data.sets)[name]) for name in unknown}
