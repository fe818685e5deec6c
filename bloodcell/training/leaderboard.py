"""The end of a multirun: a table of validation metrics, best first."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from bloodcell.data.readers import data_set_name
from bloodcell.data.samples import read_samples
from bloodcell.metrics.registry import Place, shown_in
from bloodcell.metrics.summary import read_metrics
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import prediction_by, say_end
from bloodcell.runtime.config import plain, read_config
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.io import read_json, write_csv
from bloodcell.runtime.user_errors import one_clear_line


class Leaderboard(Callback):
    """Hydra's callback at the end of a multirun: leaderboard.csv, a table on the terminal, and reports of the folds."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write and show the leaderboard; exit with 1 if this or a job fails: Hydra only warns of other exceptions."""
        try:
            with one_clear_line():
                failed = write_leaderboard(
                    Path(config.hydra.sweep.dir), bool(config.get("report")), config.get("report_title")
                )
        except Exception:  # noqa: BLE001 - a fault of the program shows its traceback
            traceback.print_exc()
            failed = True
        if failed:
            raise SystemExit(1)


def write_leaderboard(folder: Path, report: bool, heading: str | None = None) -> bool:
    """Write and show a multirun's leaderboard and cross-validations; return whether a job failed."""
    table = leaderboard(folder)
    if table.empty:
        return False
    write_csv(table, folder / "leaderboard.csv")
    show(table, folder)
    from bloodcell.training import cross_validation, laboratories

    with progress("out-of-fold predictions"):
        summary = cross_validation.out_of_fold(table, folder)
    sets = laboratories.left_out(table, folder)
    for line in (*cross_validation.lines(summary), *laboratories.lines(sets)):
        say(line)
    if len(summary) and report:
        samples = read_samples(Path(table["run"].iloc[0]) / "samples.csv")
        with progress("reports"):
            cross_validation.write_fold_reports(summary, folder, samples.root, heading, data_set_name(samples))
    done = table[table["status"].isin(["finished", "reused"])]
    files = (laboratories.FILE, "suspected_labels.csv", "report.html")
    found = [folder / name for name in files if (folder / name).is_file()]
    chosen = done["run"] if len(summary) else done["run"][:1]  # the nets of all folds, or the best one
    say_end(folder / "leaderboard.csv", *found, then=prediction_by(list(chosen)) if len(chosen) else [])
    return bool((table["status"] == "failed").any())


def leaderboard(folder: Path) -> pd.DataFrame:
    """Return a row for each job of a multirun, without test metrics: best validation macro F1 first, failures last."""
    jobs = sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=_job_number)
    table = pd.DataFrame([row for job in jobs if (row := _row(job))])
    return table if table.empty else table.sort_values("val/macro_f1", ascending=False, kind="stable")


def _row(job: Path) -> dict[str, Any]:
    """Return the row of a job, empty if its folder holds no run."""
    reused = job / "reused.json"
    run = Path(read_json(reused)["run"]) if reused.is_file() else job
    if not (record := run_folder.read_run(run)):
        return {}
    metrics = read_metrics(run) if record.get("status") == "finished" else {}
    fold, folds = _fold(run)
    return {
        "job": job.name, "status": "reused" if run is not job else record.get("status", ""),
        "overrides": " ".join(record.get("overrides") or []), "fold": fold, "folds": folds,
        "partial": record.get("partial") or "",
        **{name: metrics.get(name) for name in _columns()},
        "run": run.as_posix(), "error": record.get("error") or "",
    }  # fmt: skip


def _columns() -> dict[str, tuple[str, int]]:
    """Return result column -> (title, digits after the point)."""
    metrics = {f"val/{metric.name}": (metric.title, 3) for metric in shown_in(Place.LEADERBOARD)}
    return metrics | {"best_epoch": ("best epoch", 0)}


def _fold(run: Path) -> tuple[str, str]:
    """Return a run's fold and the number of folds, empty if it has none."""
    try:
        data = plain(read_config(run / "config.yaml").get("data"))
    except (OSError, ValueError):
        return "", ""
    known = isinstance(data, dict) and data.get("fold") is not None
    return (str(data["fold"]), str(data.get("folds"))) if known else ("", "")


def _job_number(folder: Path) -> tuple[int, str]:
    return (int(folder.name), "") if folder.name.isdigit() else (10**9, folder.name)


def show(table: pd.DataFrame, folder: Path) -> None:
    """Print the leaderboard: numbers in columns, then the job's own choices, which may be long."""
    columns = _columns()
    say(f"leaderboard (validation, so the best is optimistic): {folder / 'leaderboard.csv'}")
    titles = {name: max(len(title), 6) for name, (title, _) in columns.items()}
    say("  ".join([" job", *(f"{title:>{titles[name]}}" for name, (title, _) in columns.items())]))
    shared = set.intersection(*(set(text.split()) for text in table["overrides"]))
    for row in table.to_dict("records"):
        choices = " ".join(item for item in row["overrides"].split() if item not in shared or len(table) == 1)
        values = [f"{row[name]:.{digits}f}" if pd.notna(row[name]) else "" for name, (_, digits) in columns.items()]
        numbers = [f"{value:>{width}}" for value, width in zip(values, titles.values(), strict=True)]
        ended = "" if row["status"] == "finished" else row["status"]
        status = ": ".join(text for text in (ended, row["partial"], row["error"]) if text)
        say("  ".join(text for text in (f"{row['job']:>4}", *numbers, choices, status) if text))
