"""The state of an unfinished run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.models.classifier import load_checkpoint
from bloodcell.models.weights import write_checkpoint
from bloodcell.runtime import run_folder
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv


def restored(last: Path) -> dict[str, Any]:
    """Return the state after the last complete epoch of a run, and write its history.csv again.

    Raises:
        BloodcellError: The checkpoint is damaged.
    """
    state = _state(last)
    _drop_damaged(last.with_name("best.ckpt"))
    write_csv(pd.DataFrame(state["callbacks"]["History"]["rows"]), last.parents[1] / "history.csv")
    if moved(state["callbacks"].values(), last.parent.resolve()):
        write_checkpoint(state, last)
    return state


def _state(last: Path) -> dict[str, Any]:
    try:
        return load_checkpoint(last)
    except BloodcellError as error:
        raise BloodcellError(f"{error}; delete it, and the run begins again at its first epoch") from error


def refuse_no_further(folder: Path, epochs: Any, stopping: bool) -> None:
    """Raise a BloodcellError if a run has nothing to learn up to `epochs`, or has early stopping that has ended it."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return
    state = _state(last)
    done = len(state["callbacks"]["History"]["rows"])
    finished = run_folder.read_run(folder).get("status") == "finished"
    if isinstance(epochs, int) and 0 <= epochs < done + finished:
        raise BloodcellError(f"trainer.max_epochs={epochs}, but the run has done {done} epochs already; give more")
    if stopping and stopped_early(state):
        raise BloodcellError(
            f"resume={folder}: early stopping ended training after epoch {done}; add callbacks.early_stopping=null to "
            "train it further"
        )


def _drop_damaged(best: Path) -> None:
    """Delete a best checkpoint that cannot be read, which would be chosen at the end."""
    try:
        load_checkpoint(best) if best.is_file() else None
    except BloodcellError as error:
        best.unlink()
        say(f"{error}; it was deleted: the best of the remaining epochs will be chosen, or else the last")


def moved(callbacks: Iterable[dict[str, Any]], folder: Path) -> bool:
    """Change the paths in callbacks' states to the present folder of checkpoints; return whether any changed.

    Otherwise Lightning forgets the best epoch's score, and any later epoch replaces it. Files that the user keeps
    elsewhere stay there.
    """
    states = [state for state in callbacks if "dirpath" in state]
    former = {state["dirpath"] for state in states if Path(state["best_model_path"]).name == "last.ckpt"}
    elsewhere = [state for state in states if state["dirpath"] in former - {str(folder)}]
    for state in elsewhere:
        for key in ("best_model_path", "last_model_path", "kth_best_model_path"):
            state[key] = str(folder / Path(state[key]).name) if state[key] else ""
        state["best_k_models"] = {
            str(folder / Path(path).name): score for path, score in state["best_k_models"].items()
        }
        state["dirpath"] = str(folder)
    return bool(elsewhere)


def stopped_early(checkpoint: dict[str, Any]) -> bool:
    """Return whether early stopping had ended the training that a checkpoint comes from."""
    states = [state for name, state in checkpoint["callbacks"].items() if name.startswith("EarlyStopping")]
    return any(state["wait_count"] >= state["patience"] for state in states)
