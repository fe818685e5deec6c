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


def end_line(metrics: dict[str, float], folder: Path) -> str:
    """Say what came out, and where it is."""
    from bloodcell.evaluation.by_source import lines

    return "\n".join(
        [f"best epoch {metrics['best_epoch']} of {metrics['epochs']}; run folder {folder}", *lines(metrics)]
    )


def audit_command(data: dict[str, Any], samples: Samples) -> str:
    """Return the command that finds the sources of a run's images."""
    readers = {"read_kaggle": "kaggle", "read_imagefolder": "imagefolder", "read_table": "table"}
    name = readers.get(data["reader"]["_target_"].rpartition(".")[2], "synthetic")
    where = f"data.table={data['table']}" if name == "table" else f"data.root={samples.root}"
    return f"bloodcell audit data={name} {where}"
