"""Lightning's ModelCheckpoint in a run's folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks

from bloodcell.models.classifier import load_checkpoint
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically


class ModelCheckpoint(callbacks.ModelCheckpoint):
    """Lightning's, several of which may watch one metric; `best` may have any file names.

    Lightning removes whatever folder a resumed run's checkpoint names. Here that is a file, which this process wrote or
    which lies in the run's folder of checkpoints.

    Attributes:
        name: The key in the configuration group.
        own: The run's folder of checkpoints. `best` keeps a copy of its best file there, as best.ckpt, for those who
            look for a run's best weights. None: there is none.
        written: The files that this process wrote.
        resumed: Whether the settings are those of a run that may be somebody else's.
    """

    name = "best"
    own: Path | None = None
    resumed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.written: set[Path] = set()

    @property
    def state_key(self) -> str:
        """Name the state in a checkpoint: `best` and `last` as Lightning does, others apart."""
        return super().state_key + ("" if self.name in ("best", "last") else self.name)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the scores of files, which are looked for in this callback's folder, wherever the run was before."""
        self.resumed = True
        former, paths = state_dict["dirpath"], ("best_model_path", "last_model_path", "kth_best_model_path")
        here = {key: self._here(state_dict[key], former) for key in paths}
        scores = {
            self._here(path, former): torch.tensor(float(score)) for path, score in state_dict["best_k_models"].items()
        }
        if (worst := here["kth_best_model_path"]) and worst not in scores:
            raise KeyError(worst)
        super().load_state_dict({**state_dict, **here, "best_k_models": scores, "dirpath": self.dirpath})

    def _here(self, path: str, former: str) -> str:
        """Return a path below the former folder as one below this callback's."""
        if not path:
            return ""
        file = Path(path)
        inside = file.is_relative_to(former) and ".." not in file.parts
        return str(Path(self.dirpath or "", file.relative_to(former) if inside else file.name))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch if it is wanted, and copy the best file if it has another name than the chosen one."""
        super().on_train_epoch_end(trainer, pl_module)
        best, chosen = Path(self.best_model_path), self.own / "best.ckpt" if self.own else None
        if self.name != "best" or not chosen or not trainer.is_global_zero or not best.is_file() or best == chosen:
            return
        chosen.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(chosen, lambda file: shutil.copyfile(best, file))

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        file = Path(filepath)
        if self.resumed and file.exists() and not self._may_replace(file) and not _is_of_run(file, trainer):
            raise BloodcellError(f"{file} is there already and not of this run; move it, or begin a new run")
        super()._save_checkpoint(trainer, filepath)
        self.written.add(file)

    def _remove_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        file = Path(filepath)
        if not file.is_file() or not trainer.is_global_zero:
            return
        if self._may_replace(file):
            file.unlink()
        else:
            say(f"note: {file} is no longer among the best, and stays: it is not in the run's folder")

    def _may_replace(self, file: Path) -> bool:
        return file in self.written or (self.own is not None and self.own in file.resolve().parents)


def _is_of_run(file: Path, trainer: pl.Trainer) -> bool:
    """Return whether a checkpoint has the first rows of a trainer's history, which no other run has."""
    # Lightning's connector sets the callbacks, which are declared nowhere
    (rows,) = [one.state_dict()["rows"] for one in trainer.callbacks if one.state_key == "History"]  # type: ignore[attr-defined]
    try:
        theirs = load_checkpoint(file)["callbacks"]["History"]["rows"]
        return bool(theirs) and repr(theirs) == repr(rows[: len(theirs)])
    except (BloodcellError, KeyError, TypeError):
        return False
