"""What every training says of its own split: images that share a source with training, or look as if they did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from bloodcell.audit.overlap import trained_sources
from bloodcell.data.samples import Samples, digest, read_samples
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_json


def check_leaks(samples: Samples, policy: str, advice: str, cache: Path) -> None:
    """Warn, or refuse to go on, where images outside training share a source with it.

    Where sources are known it is exact. A probe of at most some seconds looks for copies of the others, and for those
    between sets that were joined, which an audit of each alone cannot know.

    Args:
        samples: The samples with their splits.
        policy: `data.leak_check`: warn, error or off.
        advice: What to do about copies that the probe finds.
        cache: The cache root, where the probe's outcome is kept for the same split of the same files.

    Raises:
        BloodcellError: The policy is unknown, or is error and there is a leak.
    """
    if policy not in ("warn", "error", "off"):
        raise BloodcellError(f"data.leak_check={policy}; choose warn, error or off")
    if policy == "off":
        return
    known, joined = known_leaks(samples), bool(samples.sets())
    say_leak(known, policy)
    if joined or (known is None and not samples.sources_known()):
        rest = without_known_leaks(samples)
        for split in ("val", "test") if joined else ("val",):  # a set that was left out is the test part
            say_leak(probed_leak(rest, split, advice, cache), policy)


def say_leak(message: str | None, policy: str) -> None:
    """Warn of a leak, or refuse to go on, as `data.leak_check` says.

    Raises:
        BloodcellError: The policy is error and there is a leak.
    """
    if message and policy == "error":
        raise BloodcellError(message)
    if message and policy == "warn":
        print(f"warning: {message}", file=sys.stderr)


def weights_leak(samples: Samples, weights: str | None) -> str | None:
    """Return one line on images outside training that the run knows whose backbone is taken; None where it knows none.

    Args:
        samples: The samples with their splits.
        weights: `model.weights`. What a file of weights was trained on is not known, unless it lies in a run folder.
    """
    path = Path(str(weights or "")).expanduser()
    run = run_folder.run_of(path) if path.suffix == ".ckpt" else path
    if weights in (None, "DEFAULT") or run is None or not (run / "samples.csv").is_file():
        return None
    learned = read_samples(run / "samples.csv").of_split("train")
    files, sources = set(learned.paths()), trained_sources(samples, [learned])
    parts = []
    for split in (name for name in samples.splits() if name != "train"):
        part = samples.of_split(split)
        known = part.table["source"].isin(sources) | pd.Series(part.paths()).isin(files)
        parts += [f"{known.sum():,} of {len(known):,} {split} images"] if known.any() else []
    return f"leak: the run of model.weights={weights} was trained on {', '.join(parts)}" if parts else None


def known_leaks(samples: Samples) -> str | None:
    """Return one line on the images that share a known source with training; None where there are none."""
    trained = set(samples.of_split("train").table["source"]) - {""}
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


def without_known_leaks(samples: Samples) -> Samples:
    """Return the samples without the images outside training that `known_leaks` tells of."""
    table = samples.table
    training = table["split"] == "train"
    known = table["source"].isin(set(table.loc[training, "source"]) - {""}) & ~training
    return Samples(table[~known].reset_index(drop=True), samples.root)


def probed_leak(samples: Samples, split: str, advice: str, cache: Path) -> str | None:
    """Return one line where images of a split look like copies of training images; None where they do not."""
    sides = samples.of_split("train", split)
    if split not in sides.splits():
        return None
    file = cache / "probes" / f"{digest(sides)}.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["message"]
    except (OSError, ValueError, KeyError, TypeError):
        found = _probe(sides, split)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json({"message": found}, file)
    return f"leak: {found}; {advice}" if found else None


def _probe(samples: Samples, split: str) -> str | None:
    """Return the probe's figures where it smells; else None."""
    from bloodcell.audit.probe import leak_probe

    train, other = samples.of_split("train"), samples.of_split(split)
    probe = leak_probe(train.files(), train.table["label"].tolist(), other.files(), other.table["label"].tolist())
    return probe.message({"val": "validation"}.get(split, split)) if probe.leak else None
