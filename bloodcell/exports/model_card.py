"""The model card of an exported classifier: its data, figures, limits and use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from bloodcell.data.samples import read_samples
from bloodcell.evaluation.report import name_of
from bloodcell.inference.exported.metadata import KEY, About
from bloodcell.metrics.abstention import CONFIDENCE, joint_confidence, least_sources
from bloodcell.metrics.confusions import MOST
from bloodcell.metrics.registry import Metric, Place, shown_in
from bloodcell.metrics.summary import interval_words, parts_in, read_metrics
from bloodcell.models.ood import Limits
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import plain, read_config
from bloodcell.runtime.console import named
from bloodcell.runtime.schema.publication import Publication

#: How a split came about, by its setting.
SPLITS = {
    "auto": "by source where sources are known, else as the folders have it or at random",
    "grouped": "by source: all images of a cell or photograph are on one side",
    "random": "at random: images of one cell may be on both sides",
}


def card(about: About, checkpoint: Path, file: Path, compared: str, publication: Publication | None = None) -> str:
    """Return the card as Markdown.

    Args:
        about: The description in the file.
        checkpoint: The checkpoint that was exported; if it lies in a run folder, data and figures come from there.
        file: The exported file.
        compared: How it was compared with the checkpoint.
        publication: Title, authors, licence and citations, if there are any.
    """
    run = run_folder.run_of(checkpoint)
    return template("card.md").render(
        about=about,
        file=file.name,
        kind=file.suffix.lower(),
        key=KEY,
        compared=compared,
        publication=publication or Publication(),
        confidence=CONFIDENCE,
        together=joint_confidence(1 + len(about.limits.abstention)) if about.limits else None,
        promises=promises(about.limits),
        not_promised=_not_promised(about),
        data=_data(run) if run else None,
        most=MOST,
        columns=[metric.title for metric in shown_in(Place.CARD)],
        metrics=_metrics(run) if run else [],
        tta=_config(run, "evaluate").get("tta", "none") if run else "none",
        record=run_folder.read_run(run) if run else {},
    )


def template(name: str) -> Template:
    """Return the template of a card, with the filters plain, named and line."""
    pages = Environment(
        loader=PackageLoader("bloodcell.exports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    pages.filters |= {"plain": _plain, "named": named, "line": _line}
    return pages.get_template(name)


def _plain(text: Any) -> str:
    """Return a text so that Markdown shows it as it is, in a table too."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|~" else letter for letter in str(text))
    return " ".join(escaped.split())


def _line(text: Any) -> str:
    """Return a text as one line, which cannot end a block of code."""
    return " ".join(str(text).split())


def promises(limits: Limits | None) -> list[tuple[str, float]]:
    """Return the promised error rates, as text, each with the lowest confidence that it holds for."""
    rates = limits.abstention if limits else {}
    return [(f"{100 * float(rate):g} %", least) for rate, least in rates.items() if least is not None]


def _not_promised(about: About) -> list[tuple[str, int]]:
    """Return the other error rates, as text, and how many sources each takes at least."""
    rates = about.limits.abstention if about.limits else {}
    return [(f"{100 * float(rate):g} %", least_sources(float(rate))) for rate, least in rates.items() if least is None]


def _data(run: Path) -> dict[str, Any] | None:
    """Return the data that a run was trained and measured on; None if its samples are not recorded."""
    if not (run / "samples.csv").is_file():
        return None
    samples = read_samples(run / "samples.csv")
    table = samples.table
    config = _config(run, "data")
    counted = pd.crosstab(table["label"], table["split"])[samples.splits()]
    sources = table[table["source"] != ""].groupby("split")["source"].nunique()
    return {
        "name": samples.root.name,
        "sets": [name for name in samples.sets() if name],
        "splits": samples.splits(),
        "counts": [(name, row.tolist()) for name, row in counted.iterrows()],
        "others": counted[MOST:].sum().tolist(),
        "sources": [int(sources.get(split, 0)) for split in samples.splits()],
        "known": samples.sources_known(),
        "shared": _shared(table),
        "how": SPLITS.get(str(config.get("split", "auto")), str(config.get("split"))),
        "fold": config.get("fold"),
    }


def _shared(table: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Return for each split but train: name, number of images that share a source with train, number of images."""
    learnt = set(table.loc[table["split"] == "train", "source"]) - {""}
    others = table[table["split"] != "train"].groupby("split", sort=False)["source"]
    return [(str(split), int(rows.isin(learnt).sum()), len(rows)) for split, rows in others]


def _config(run: Path, group: str) -> dict[str, Any]:
    """Return a group of a run's configuration; empty if it cannot be read."""
    try:
        found = plain(read_config(run / "config.yaml").get(group))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _metrics(run: Path) -> list[dict[str, Any]]:
    """Return name, images, sources and the metrics as text of each part that the run measured."""
    return [
        {
            "name": name_of(part),
            "images": int(values["images"]) if "images" in values else None,
            "sources": int(values["sources"]) if "sources" in values else "unknown",
            "cells": [_cell(metric, values) for metric in shown_in(Place.CARD)],
        }
        for part, values in parts_in(read_metrics(run)).items()
    ]


def _cell(metric: Metric, values: dict[str, float]) -> str:
    """Return a metric as text: a share with its interval in percent, else a number."""
    if metric.name not in values:
        return "unknown" if metric.has_interval else ""
    if not metric.has_interval:
        return f"{values[metric.name]:.3f}"
    interval = f" ({interval_words(values, metric.name)})" if f"{metric.name}_low" in values else ""
    return f"{100 * values[metric.name]:.1f} %{interval}"
