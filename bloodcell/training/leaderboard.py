"""The end of a multirun: a table of validation figures, best first."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from bloodcell.data.samples import read_samples
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import plain
from bloodcell.runtime.console import say
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.user_errors import one_clear_line


class Leaderboard:
    """Hydra's callback that ends a multirun: leaderboard.csv, a table on the terminal, and the pages of its folds."""

    def __getattr__(self, name: str) -> Any:
        """Answer Hydra's other events with nothing to do."""
        if name.startswith("on_"):
            return lambda **_: None
        raise AttributeError(name)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write and show the leaderboard; leave with 1 where a job failed, or where that cannot be done.

        Hydra makes a warning of any exception but `SystemExit`.
        """
        try:
            with one_clear_line():
                failed = conclude(Path(config.hydra.sweep.dir), bool(config.get("report")))
        except Exception:  # noqa: BLE001 - the program's own faults show where they are from
            traceback.print_exc()
            failed = True
        if failed:
            raise SystemExit(1)


def conclude(folder: Path, report: bool) -> bool:
    """Write and show the leaderboard and the pages of its folds; say whether a job failed.

    Args:
        folder: The multirun's folder.
        report: Whether the folds get a page.
    """
    table = leaderboard(folder)
    if table.empty:
        return False
    write_csv(table, folder / "leaderboard.csv")
    show(table, folder)
    from bloodcell.training import cross_validation

    summary = cross_validation.out_of_fold(table, folder)
    for line in cross_validation.lines(summary):
        say(line)
    if len(summary) and report:
        from bloodcell.training.cross_validation import report_folds

        report_folds(summary, folder, read_samples(Path(table["run"].iloc[0]) / "samples.csv").root)
    return bool((table["status"] == "failed").any())


def leaderboard(folder: Path) -> pd.DataFrame:
    """Return a row per job of a multirun, best validation macro F1 first, failures last; no test figure is in it.

    Args:
        folder: The multirun's folder, with a folder a job.
    """
    rows = []
    for job in sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=_job_number):
        reused = job / "reused.json"
        run = Path(json.loads(reused.read_text(encoding="utf-8"))["run"]) if reused.is_file() else job
        if not (record := run_folder.read_run(run)):
            continue
        metrics = _metrics(run) if record.get("status") == "finished" else {}
        rows.append({
            "job": job.name, "status": "reused" if run is not job else record.get("status", ""),
            "overrides": " ".join(record.get("overrides") or []), **_fold(run),
            **{name: metrics.get(name) for name in ("val/accuracy", "val/macro_f1", "val/loss", "best_epoch")},
            "run": run.as_posix(), "error": record.get("error") or "",
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.sort_values("val/macro_f1", ascending=False, kind="stable", na_position="last") if rows else table


def _fold(run: Path) -> dict[str, str]:
    """Return the fold that a run validates on, and of how many; empty where it is no fold."""
    data = plain(OmegaConf.load(run / "config.yaml"))["data"] if _has_config(run) else {}
    fold = data.get("fold")
    return {"fold": "" if fold is None else str(fold), "folds": "" if fold is None else str(data["folds"])}


def _has_config(run: Path) -> bool:
    return (run / "config.yaml").is_file()


def _job_number(folder: Path) -> tuple[int, str]:
    return (int(folder.name), "") if folder.name.isdigit() else (10**9, folder.name)


def _metrics(run: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run / "metrics.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def show(table: pd.DataFrame, folder: Path) -> None:
    """Print the leaderboard."""
    from rich.markup import escape
    from rich.table import Table

    from bloodcell.runtime.console import console

    shown = Table(title=f"leaderboard (validation) - {escape(str(folder / 'leaderboard.csv'))}")
    shown.add_column("job", justify="right")
    shown.add_column("overrides", overflow="fold")
    for name in ("accuracy", "macro F1", "loss", "best epoch"):
        shown.add_column(name, justify="right")
    shown.add_column("status", overflow="fold")
    shared = set.intersection(*(set(text.split()) for text in table["overrides"]))
    for row in table.to_dict("records"):
        choices = " ".join(item for item in row["overrides"].split() if item not in shared or len(table) == 1)
        figures = [f"{row[k]:.{d}f}" if pd.notna(row[k]) else "" for k, d in _SHOWN.items()]
        status = f"{row['status']}: {row['error']}" if row["error"] else row["status"]
        shown.add_row(row["job"], escape(choices), *figures, escape(status))
    console.print(shown)


#: Column -> digits after the point.
_SHOWN = {"val/accuracy": 3, "val/macro_f1": 3, "val/loss": 3, "best_epoch": 0}
