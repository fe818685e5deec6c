"""Lines that training prints before it starts."""

from __future__ import annotations

from shlex import quote
from typing import Any

from bloodcell.data.samples import Samples
from bloodcell.runtime.console import named
from bloodcell.runtime.schema.verbs import TrainConfig


def start_line(samples: Samples, classes: list[str], classifier: Any, device: str) -> str:
    """Describe images, net and device."""
    from bloodcell.models.classifier import parameter_counts

    counts = samples.table["split"].value_counts()
    parts = ", ".join(f"{split} {counts[split]:,}" for split in samples.splits())
    known = f" from {samples.table['source'].nunique():,} sources" if samples.sources_known() else ", sources unknown"
    learn, frozen = parameter_counts(classifier)
    later = f" at first; all that will learn do from epoch {last + 1}" if (last := classifier.last_phase) else ""
    return (
        f"{len(samples.table):,} images ({parts}){known}; {len(classes):,} classes: {named(classes)}\n"
        f"{classifier.hparams['model']['name']} on {device}: {learn:,} parameters learn, {frozen:,} are frozen{later}"
    )


def unfinished_phases(classifier: Any, max_epochs: int | None) -> list[str]:
    """Return a note if training ends before the last blocks learn."""
    if not max_epochs or max_epochs < 0 or classifier.last_phase < max_epochs:
        return []
    begin = classifier.last_phase + 1
    return [
        f"note: training ends with epoch {max_epochs}, but the last blocks learn from epoch {begin} on; lower "
        "finetune.blocks or finetune.block_epochs, or raise trainer.max_epochs"
    ]


def better_recipe(config: TrainConfig) -> list[str]:
    """Return a line after a training on class folders in which only the head learnt."""
    if config.data.kind != "imagefolder" or not config.finetune.frozen or config.data.root is None:
        return []
    return [
        "only the head has learnt, which is the quick baseline; all of the net learns, often far better, by: "
        f"bloodcell train {quote(config.data.root)}"
    ]


def partial_run(setting: str | None) -> list[str]:
    """Return a note if a setting leaves out batches."""
    what = "not all batches are used; no figure is that of a full run"
    return [f"note: {setting}: {what}"] if setting else []
