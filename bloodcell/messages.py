"""What a training says of itself on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloodcell.data.samples import Samples


def start_line(samples: Samples, classes: list[str], classifier: Any, device: str) -> str:
    """Say what is trained on what."""
    from bloodcell.models.classifier import parameter_counts

    counts = samples.table["split"].value_counts()
    parts = ", ".join(f"{split} {counts[split]:,}" for split in samples.splits())
    known = f" from {samples.table['source'].nunique():,} sources" if samples.sources_known() else ", sources unknown"
    learn, frozen = parameter_counts(classifier)
    later = f" at first; all that will learn do from epoch {last + 1}" if (last := classifier.last_phase) else ""
    return (
        f"{len(samples.table):,} images ({parts}){known}; {len(classes)} classes: {', '.join(classes)}\n"
        f"{classifier.hparams['model']['name']} on {device}: {learn:,} parameters learn, {frozen:,} are frozen{later}"
    )


def missing_classes(samples: Samples, classes: list[str]) -> list[str]:
    """Say which classes a split lacks: its figures are then not those of all classes."""
    lacks = {split: sorted(set(classes) - set(samples.of_split(split).table["label"])) for split in samples.splits()}
    return [f"note: the {split} part has no image of {', '.join(names)}" for split, names in lacks.items() if names]


def unfinished_phases(classifier: Any, max_epochs: int | None) -> list[str]:
    """Say where training ends before all that is meant to learn does."""
    if not max_epochs or max_epochs < 0 or classifier.last_phase < max_epochs:
        return []
    begin = classifier.last_phase + 1
    return [
        f"note: training ends with epoch {max_epochs}, but the last blocks learn from epoch {begin} on; lower "
        "finetune.blocks or finetune.block_epochs, or raise trainer.max_epochs"
    ]


def end_line(metrics: dict[str, float], folder: Path) -> str:
    """Say what came out, and where it is."""
    from bloodcell.evaluation.by_source import lines

    return "\n".join(
        [f"chosen: epoch {metrics['best_epoch']} of {metrics['epochs']}; run folder {folder}", *lines(metrics)]
    )


def unaudited_sets(data: dict[str, Any], samples: Samples) -> list[str]:
    """Say which sets of a joint table have images of unknown source, and what finds the sources."""
    unknown = [name for name in samples.sets() if not samples.of_set(name).sources_known()]
    return [f"note: sources of {name} are unknown; find them: {audit_of_set(data, name)}" for name in unknown]


def audit_of_set(data: dict[str, Any], name: str) -> str:
    """Return the command that finds the sources of one of `data.sets`."""
    from bloodcell.data import joint

    return joint.audit_of_set(joint.named_sets(data["sets"])[name])


def leak_advice(data: dict[str, Any], samples: Samples) -> str:
    """Say what to do about copies in training that the sources do not tell of."""
    if unknown := [name for name in samples.sets() if not samples.of_set(name).sources_known()]:
        return f"find the sources: {'; '.join(audit_of_set(data, name) for name in unknown)}"
    if samples.sets():
        return "two of data.sets show the same cells; train without one of them"
    readers = {"read_kaggle": "kaggle", "read_imagefolder": "imagefolder", "read_table": "table"}
    name = readers.get(data["reader"]["_target_"].rpartition(".")[2], "synthetic")
    where = f"data.table={data['table']}" if name == "table" else f"data.root={samples.root}"
    return f"find the sources: bloodcell audit data={name} {where}"
