"""Several trained classifiers as one: which they are, and what they were trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell import runs
from bloodcell.config import listed
from bloodcell.data.samples import Samples, read_samples
from bloodcell.engine import Engine, engine_of
from bloodcell.errors import BloodcellError


def load_members(given: Any) -> dict[Path, Any]:
    """Load the classifiers of one run folder, checkpoint or exported file, or of several.

    Args:
        given: A run folder, a .ckpt file or an exported one, or a list of them.

    Returns:
        File -> classifier, or engine of an exported file, in the order given; one or more.

    Raises:
        BloodcellError: A checkpoint is missing, damaged or named twice, or the classes differ.
    """
    checkpoints = [runs.checkpoint_of(Path(str(one)).expanduser()) for one in listed(given)]
    if not checkpoints:
        raise BloodcellError("checkpoint=[] names nothing; give run folders, .ckpt files or exported ones")
    if len({checkpoint.resolve() for checkpoint in checkpoints}) < len(checkpoints):
        raise BloodcellError(f"checkpoint: one is named twice in {', '.join(map(str, checkpoints))}; name each once")
    members = {checkpoint: _loaded(checkpoint) for checkpoint in checkpoints}
    first, *others = members
    for other in others:
        if set(members[other].classes) != set(members[first].classes):
            known = [f"{one} knows {', '.join(sorted(members[one].classes))}" for one in (first, other)]
            raise BloodcellError(f"only classifiers of the same classes go together: {'; '.join(known)}")
    return members


def load_engines(given: Any, device: str, backend: str = "auto", precision: str = "float32") -> list[Engine]:
    """Load the classifier of one run folder, checkpoint or exported file, or several of the same classes.

    Args:
        given: A run folder, a .ckpt file or an exported one, or a list of them.
        device: Where to compute. An exported file computes as it was exported, whatever this and the next two say.
        backend: See `engine_of`.
        precision: See `engine_of`.

    Raises:
        BloodcellError: A checkpoint is missing, damaged or named twice, or the classes differ; or there is no such
            backend.
    """
    members = load_members(given)
    return [
        one if isinstance(one, Engine) else engine_of(one, device, backend, precision, file)
        for file, one in members.items()
    ]


def _loaded(file: Path) -> Any:
    """Load what a file holds: as its ending says, an exported classifier or a checkpoint."""
    from bloodcell.exporting.opened import is_exported, load_exported

    if is_exported(file):
        return load_exported(file)
    from bloodcell.models.classifier import load_classifier  # with Lightning, which an exported file does without

    return load_classifier(file)


def training_samples(checkpoint: Path) -> Samples | None:
    """Return the samples that a checkpoint was trained on; None where its run folder is not there."""
    run_folder = runs.run_of(checkpoint)
    if run_folder is None or not (run_folder / "samples.csv").is_file():
        return None
    return read_samples(run_folder / "samples.csv").of_split("train")


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
