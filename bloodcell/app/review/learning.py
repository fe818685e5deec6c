"""The adaptation that the page starts: a command of its own, whose folder says how far it is and what came out."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bloodcell.runtime import parent
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json

#: Seconds that a command has to end after it was asked to.
PATIENCE = 30


class Learning:
    """At most one adaptation at a time.

    Args:
        outputs: The folder of the run folders.
        root: The folder that the paths of the corrections are relative to.
        corrections: The file.
        slide_regex: Finds the slide in a path; None: it is unknown which cells belong together.

    Attributes:
        folder: The run folder of the adaptation that runs, or waits to be accepted or discarded; None: there is none.
    """

    def __init__(self, outputs: Path, root: Path, corrections: Path, slide_regex: str | None = None) -> None:
        self.outputs, self.root, self.corrections, self.slide_regex = outputs, root, corrections, slide_regex
        self.folder: Path | None = None
        self.checkpoint = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._why = ""

    def start(self, checkpoint: str, of_fields: bool) -> None:
        """Start an adaptation of a reader in a new run folder; cells of a field are kept together by `adapt` itself.

        Raises:
            BloodcellError: There is one already.
        """
        if self.folder is not None:
            raise BloodcellError("an adaptation is there already; accept or discard it first")
        folder = self.outputs / "adapt" / f"{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{uuid.uuid4().hex[:8]}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder, self.checkpoint, self._why = folder, checkpoint, ""
        command = [sys.executable, "-m", "bloodcell", "adapt", f"checkpoint={Path(checkpoint).absolute()}"]
        command += [f"corrections={self.corrections.absolute()}", f"data.root={self.root.absolute()}"]
        if self.slide_regex is not None and not of_fields:
            command.append(f"data.group_regex={self.slide_regex}")
        with self._log().open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"hydra.run.dir={folder}"],
                stdin=subprocess.PIPE,  # ends when this process does
                stdout=log,
                stderr=log,
                env=parent.environment(),
            )

    def state(self) -> dict[str, Any]:
        """Return plain values: state, one of none, runs, done and failed; done, of, what; result; why."""
        if self.folder is None:
            return {"state": "none", "why": self._why}
        code = self._process.poll() if self._process else 0
        if code is None:
            return {"state": "runs", "done": 0, "of": 1, "what": "starting", **self._read("progress.json")}
        result = self._read("adaptation.json")
        if code or not result:
            return {"state": "failed", "why": self._reason()}
        return {"state": "done", "folder": str(self.folder), "result": result}

    def cancel(self) -> None:
        """End the adaptation, and remove its folder."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._remove("cancelled")

    def accept(self) -> Path:
        """Return the run folder of the adapted reader, which stays.

        Raises:
            BloodcellError: None is done.
        """
        if self.state()["state"] != "done" or self.folder is None:
            raise BloodcellError("no adaptation is done")
        folder, self.folder = self.folder, None
        self._let_go()
        self._log(folder).unlink(missing_ok=True)
        return folder

    def close(self) -> None:
        """End what runs as the page is closed; an adaptation that is done stays."""
        if self._process is not None and self._process.poll() is None:
            self.cancel()

    def _remove(self, why: str) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._log().unlink(missing_ok=True)
        self.folder, self._why = None, why
        self._let_go()

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def _log(self, folder: Path | None = None) -> Path:
        folder = folder or self.folder
        assert folder is not None
        return folder.with_name(f"{folder.name}.log")

    def _read(self, name: str) -> dict[str, Any]:
        assert self.folder is not None
        with suppress(OSError, ValueError):
            found = read_json(self.folder / name)
            return found if isinstance(found, dict) else {}
        return {}

    def _reason(self) -> str:
        """Return the line with which the command has failed."""
        with suppress(OSError):
            lines = self._log().read_text(errors="replace").strip().splitlines()
            errors = [line for line in lines if line.startswith("error: ")]
            return (errors or lines or ["it ended without a word"])[-1].removeprefix("error: ")
        return "it ended without a word"
