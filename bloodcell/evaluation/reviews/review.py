"""The verb `review`: all cells of a folder sorted by doubt, which to label next, and how well the readers agree.

The folder gets cells.csv, a row for each cell, the most doubtful first, and next.csv, those to label next.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.table import Table

from bloodcell.data.decision_feed import DecisionFeed
from bloodcell.evaluation.reviews.cell_decisions import Agreement, CellDecisions
from bloodcell.evaluation.reviews.folder_cells import Cells, Folder, Reader, folder_of
from bloodcell.evaluation.reviews.folder_slides import slides_in_folder
from bloodcell.evaluation.reviews.next_cells import doubt, next_cells
from bloodcell.inference.predict import engines_of, threshold_of
from bloodcell.inference.tta import as_trained
from bloodcell.metrics.predictions import PROBABILITY
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import answer_words, path_words, say_end
from bloodcell.runtime.config import cache_root, job_folder, listed, typed, uses_cache
from bloodcell.runtime.console import console, counted, printable, progress, say
from bloodcell.runtime.hardware import decoders
from bloodcell.runtime.html import percent
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.schema.verbs import AppConfig, ReviewConfig


@uses_cache
def run(cfg: DictConfig) -> Path:
    """Write the tables to the folder that Hydra chose, and return it."""
    folder = job_folder()
    review(typed(cfg, ReviewConfig), folder)
    return folder


def review(config: ReviewConfig, folder: Path) -> pd.DataFrame:
    """Judge the cells that are not judged yet, write the tables, and return that of all cells.

    Raises:
        BloodcellError: The configuration or an input is wrong.
    """
    run_folder.refuse_used(folder)
    pictures = folder_of(config.images)
    engines = engines_of(config)
    tta = as_trained(config.tta, [engine.tta for engine in engines])
    threshold = threshold_of(config.abstain_below, config.error_rate, engines, tta)
    reader = Reader(engines, config.tta, config.cells, pictures, threshold, cache_root(config.cache.root))
    with progress("judging the cells") as advance:
        reader.judge(lambda done, of: advance(done, of, "judging the cells"), decoders(config.workers))
    cells = reader.table()
    feed = DecisionFeed(corrections_file(config, pictures), engines[0].known)
    decisions = CellDecisions(feed, cells, config.reviewer or "", slides_in_folder(pictures, None))
    table = with_doubt(cells, decisions, config.next)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table, folder / "cells.csv")
    chosen = table[table["next"] != ""].sort_values("next", key=lambda one: one.astype(int))
    write_csv(chosen, folder / "next.csv")
    _say(table, chosen, cells, decisions.agreements())
    words = [*path_words("checkpoint", listed(config.checkpoint)), *answer_words(config.classes)]
    say_end(folder / "cells.csv", then=["app", *words, f"images={config.images}"])
    return table


def corrections_file(config: ReviewConfig | AppConfig, folder: Folder) -> Path:
    """Return the corrections file of a review: the one that is named, else corrections.csv in the folder."""
    if config.corrections is not None:
        return Path(config.corrections).expanduser()
    return Path(folder.base or ".") / "corrections.csv"


def with_doubt(cells: Cells, decisions: CellDecisions, count: int) -> pd.DataFrame:
    """Return the cells, the most doubtful first, with the columns doubt, confirmed, and next, 1 for the first one."""
    shares = cells.table[[name for name in cells.table if name.startswith(PROBABILITY)]].to_numpy(float)
    order = pd.Series("", cells.table.index, dtype=object)
    for place, row in enumerate(next_rows(cells, decisions, count), start=1):
        order.iloc[row] = str(place)
    at = cells.table.columns.get_loc("prediction")
    table = cells.table.copy()
    for name, values in (("next", order), ("confirmed", decisions.labels), ("doubt", doubt(shares).round(6))):
        table.insert(at, name, values)
    return table.sort_values("doubt", ascending=False, kind="stable")


def next_rows(cells: Cells, decisions: CellDecisions, count: int) -> list[int]:
    """Return the rows of the cells to label next."""
    shares = cells.table[[name for name in cells.table if name.startswith(PROBABILITY)]].to_numpy(float)
    open_cells = pd.Series(decisions.open_rows(), dtype=bool).to_numpy()
    return next_cells(shares, cells.features, open_cells, count)


def _say(table: pd.DataFrame, chosen: pd.DataFrame, cells: Cells, agreements: list[Agreement]) -> None:
    decided = int((table["confirmed"] != "").sum())
    say(f"{counted(len(table), 'cell')} in {counted(table['path'].nunique(), 'picture')}, {decided:,} with a label")
    if cells.unread:
        first, why = next(iter(cells.unread.items()))
        say(f"{counted(len(cells.unread), 'picture')} cannot be read, e.g. {first}: {why}")
    for one in agreements:
        say(agreement_line(one))
    if not len(chosen):
        return
    say("to label next:")
    shown = Table(box=None, pad_edge=False)
    for title in ("", "picture", *(["cell"] if "number" in table else []), "answer", "probability"):
        shown.add_column(title, justify="right" if title in ("", "cell", "probability") else "left", overflow="fold")
    for row in chosen.head(10).to_dict("records"):
        number = [str(row["number"])] if "number" in table else []
        texts = [row["next"], row["path"], *number, row["prediction"], percent(row["confidence"])]
        shown.add_row(*map(printable, texts))
    console.print(shown, markup=False)


def agreement_line(one: Agreement) -> str:
    """Return a sentence on the agreement of two readers."""
    both = f"{one.first} and {one.second} agree on {one.agreed:,} of {counted(one.cells, 'cell')}"
    if one.kappa is None:
        return f"{both}; kappa is not defined, as there is one label alone"
    return f"{both}; kappa {one.kappa.value:.2f} (95 % interval {one.kappa.low:.2f} to {one.kappa.high:.2f})"
