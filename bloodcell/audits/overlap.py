"""Which images or sources a classifier was trained on, and the overlap with those that are evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bloodcell.data.samples import Samples, read_samples
from bloodcell.runtime import run_folder

#: The training images of the reader that an adapted one comes from.
EARLIER = "reader_samples.csv"


def training_samples(path: Path) -> Samples | None:
    """Return the training samples of a run folder or of a file in one; None if it is neither."""
    run = path if path.is_dir() else run_folder.run_of(path)
    if run is None or not (run / "samples.csv").is_file():
        return None
    own = read_samples(run / "samples.csv").of_split("train")
    if not (file := run / EARLIER).is_file():
        return own
    earlier = read_samples(file)
    tables = [one.table.assign(path=one.paths()) for one in (own, earlier)]
    return Samples(pd.concat(tables, ignore_index=True).fillna(""), own.root)


def training_sources(training: Iterable[Samples | None]) -> frozenset[str]:
    """Return the known sources of some training samples."""
    return frozenset[str]().union(*(samples.source_names() for samples in training if samples))


def trained_sources(samples: Samples, training: Iterable[Samples | None]) -> frozenset[str]:
    """Return the sources that were trained on: by name, and each source of `samples` with an image that was.

    The samples are all that is evaluated, their training part included; unknown training samples are None.
    """
    known = [one for one in training if one]
    return (training_sources(known) | frozenset(samples.table.loc[_are_among(samples, known), "source"])) - {""}


def learnt(samples: Samples, training: Samples | None) -> pd.Series[bool]:
    """Return whether each image is one of some training images, or of the source of one that is."""
    among = _are_among(samples, [training] if training else [])
    source = samples.table["source"]
    return among | source.isin(set(source[among]) - {""})


def _are_among(samples: Samples, training: Iterable[Samples]) -> pd.Series:
    """Return whether each image is one of the training images: the same file, or the same pixels."""
    files, pixels = set[str](), set[str]()
    for one in training:
        files |= set(one.paths())
        pixels |= set(one.table.get("pixels", ())) - {""}
    table = samples.table
    shown = table["pixels"].isin(pixels) if "pixels" in table else False
    return pd.Series(samples.paths(), table.index, dtype=str).isin(files) | shown


def overlap_warning(samples: Samples, training: dict[Path, Samples | None]) -> str | None:
    """Return one line on the evaluated images that a member of an ensemble has seen; None if there are none.

    A member has seen an image if it was trained on that file or on the same pixels. For a validation image it is
    enough that another member was trained on an image of the same source. Test images that share a source with training
    are not counted: the figures of `test_disjoint` leave them out.

    The training is checkpoint -> its training samples, None if unknown; first the member whose run has these samples,
    if one has. The root of the samples is the one that the first member's run recorded.
    """
    first, *others = training.values()
    table = samples.table
    cousins = table["source"].isin(training_sources(others) - {""}) & (table["split"] == "val")
    seen = (_are_among(samples, [known for known in (first, *others) if known]) | cousins) & (table["split"] != "train")
    if not seen.any():
        return None
    counts = table.loc[seen, "split"].value_counts(sort=False)
    parts = [f"{count:,} of {(table['split'] == split).sum():,} {split}" for split, count in counts.items()]
    return (
        f"{' and '.join(parts)} images were trained on by a member, as they are or as another image of their source: "
        "these figures are not those of unseen cells; evaluate on a test part that none saw (splits=[test]), or use "
        "the out_of_fold.csv of a cross-validation"
    )


def weights_leak(samples: Samples, weights: str | None) -> str | None:
    """Return one line on the images outside training that the run of `model.weights` was trained on; None if none.

    The training images are known only if the weights are a run folder or a file in one.
    """
    if weights in (None, "DEFAULT"):
        return None
    learned = training_samples(Path(str(weights)).expanduser())
    if learned is None:
        return None
    sources, among = trained_sources(samples, [learned]), _are_among(samples, [learned])
    parts = []
    for split in (name for name in samples.splits() if name != "train"):
        known = (samples.table["source"].isin(sources) | among)[samples.table["split"] == split]
        parts += [f"{known.sum():,} of {len(known):,} {split} images"] if known.any() else []
    return f"leak: the run of model.weights={weights} was trained on {', '.join(parts)}" if parts else None
