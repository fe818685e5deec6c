"""Which of the images that are evaluated a classifier was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bloodcell.data.samples import Samples, read_samples
from bloodcell.runtime import run_folder


def training_samples(checkpoint: Path) -> Samples | None:
    """Return the samples that a checkpoint was trained on; None where its run folder is not there."""
    run = run_folder.run_of(checkpoint)
    if run is None or not (run / "samples.csv").is_file():
        return None
    return read_samples(run / "samples.csv").of_split("train")


def training_sources(training: Iterable[Samples | None]) -> frozenset[str]:
    """Return the sources of all that was trained on, so far as it is known."""
    return frozenset[str]().union(*(samples.source_names() for samples in training if samples))


def trained_sources(samples: Samples, training: Iterable[Samples | None]) -> frozenset[str]:
    """Return the sources that were trained on: by name, and those of the samples of which an image was, under any name.

    Args:
        samples: What is evaluated with all that its table holds besides, such as the training part of a set.
        training: What each member was trained on, None where that is unknown.
    """
    known = [one for one in training if one]
    files = {path for one in known for path in one.paths()}
    seen = [source for path, source in zip(samples.paths(), samples.table["source"], strict=True) if path in files]
    return (training_sources(known) | frozenset(seen)) - {""}


def overlap_warning(samples: Samples, training: dict[Path, Samples | None]) -> str | None:
    """Say how many images that are evaluated some member of an ensemble has seen; None where there are none.

    An image was seen where its file was trained on. A validation image was so, too, where another member, for whose
    training it was not set aside, was trained on an image of its source. Test images that share a source with training
    have figures without them, `test_disjoint`.

    Args:
        samples: What is evaluated, its root as the first member's run recorded it.
        training: Checkpoint -> what it was trained on, None where that is unknown; the member first whose samples
            they may be.
    """
    first, *others = training.values()
    table = samples.table
    files = {path for known in (first, *others) if known for path in known.paths()}
    sources = training_sources(others) - {""}
    seen = np.array([path in files for path in samples.paths()], bool)
    seen = (seen | (table["source"].isin(sources) & (table["split"] == "val"))) & (table["split"] != "train")
    if not seen.any():
        return None
    counts = table.loc[seen, "split"].value_counts(sort=False)
    parts = [f"{count:,} of {(table['split'] == split).sum():,} {split}" for split, count in counts.items()]
    return (
        f"{' and '.join(parts)} images were trained on by a member, as they are or as another image of their source: "
        "these figures are not those of unseen cells; evaluate on a test part that none saw (splits=[test]), or use "
        "the out_of_fold.csv of a cross-validation"
    )
