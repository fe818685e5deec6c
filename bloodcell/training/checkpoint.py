"""The state of an unfinished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from bloodcell.models.classifier import load_checkpoint
from bloodcell.runtime import run_folder
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv
from bloodcell.training.training_state import load_state


def restored(last: Path) -> dict[str, Any]:
    """Return the state after the last complete epoch of a run, and write its history.csv again.

    Raises:
        BloodcellError: The checkpoint is damaged.
    """
    state = load_state(last)
    _drop_damaged(last.with_name("best.ckpt"))
    write_csv(pd.DataFrame(state["callbacks"]["History"]["rows"]), last.parents[1] / "history.csv")
    return state


def refuse_no_further(folder: Path, cfg: Any, before: Any) -> None:
    """Refuse to train a run further that has nothing to learn up to its new `trainer.max_epochs`; it was `before`.

    Raises:
        BloodcellError: It has done so many epochs, early stopping had ended it, or its learning rate has a course with
            an end, which no further epoch can have.
    """
    epochs, stopping = cfg.trainer.max_epochs, OmegaConf.select(cfg, "callbacks.early_stopping") is not None
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return
    state = load_state(last)
    done = len(state["callbacks"]["History"]["rows"])
    finished = run_folder.read_run(folder).get("status") == "finished"
    if isinstance(epochs, int) and 0 <= epochs < done + finished:
        raise BloodcellError(f"trainer.max_epochs={epochs}, but the run has done {done} epochs already; give more")
    if epochs != before and "total_steps" in cfg.scheduler.values():
        raise BloodcellError(
            f"resume={folder}: its learning rate ends with its last epoch ({cfg.scheduler['_target_']}); "
            f"train anew with more epochs, or begin a run from its backbone: model.weights={folder}"
        )
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


def stopped_early(checkpoint: dict[str, Any]) -> bool:
    """Return whether early stopping had ended the training that a checkpoint comes from."""
    states = [state for name, state in checkpoint["callbacks"].items() if str(name).startswith("EarlyStopping")]
    return any(state["wait_count"] >= state["patience"] for state in states)
