"""Run folders: their records, locks and checkpoints."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from bloodcell.runtime import distributed, locks
from bloodcell.runtime.command import command
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json, remove_temporaries, write_json

#: Parts of the configuration that do not change what a run computes.
_NEUTRAL = ("resume", "skip_finished", "cache", "outputs", "report", "report_title", "audit")

#: In a folder of results that are not complete: the command that has begun them.
_UNFINISHED = ".unfinished"

#: Files of a classifier that is exported to a folder.
EXPORTED, LABELS = "model.onnx", "config.json"

_PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scikit-learn",
    "pillow",
    "optuna",
)


def fingerprint(config: dict[str, Any], samples_digest: str) -> str:
    """Return 16 hexadecimal digits: the same for the same configuration, images and version of this package."""
    from bloodcell.runtime.version import __version__

    relevant = {key: value for key, value in config.items() if key not in _NEUTRAL}
    relevant = json.loads(json.dumps(relevant, default=str))  # keys as text: numbers and text have no order
    text = json.dumps([relevant, samples_digest, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_run(folder: Path) -> dict[str, Any]:
    """Return a run's `run.json`; empty if it cannot be read."""
    try:
        record = read_json(folder / "run.json")
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_run(folder: Path, **changes: Any) -> None:
    """Change entries of a run's `run.json`, in the first process."""
    if distributed.here().rank == 0:
        write_json({**read_run(folder), **changes}, folder / "run.json")


def begin(folder: Path, identity: str, samples: str = "") -> None:
    """Record that a run starts: command, fingerprint, digest of its samples, environment and versions."""
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder, status="running", fingerprint=identity, samples=samples, **circumstances())


def circumstances() -> dict[str, Any]:
    """Return what repeating a run takes: command, time, machine and versions."""
    return {
        "command": command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "host": socket.gethostname(),
            "system": platform.platform(),
            "processor": platform.machine(),
        },
        "python": platform.python_version(),
        "processes": (distributed.announced() or distributed.here()).size,
        "versions": {name: version for name in ("bloodcell", *_PACKAGES) if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def refuse_used(folder: Path, key: str = "hydra.run.dir") -> None:
    """Raise a BloodcellError if the folder for a new run or other results, which `key` names, is not empty."""
    there = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} if folder.exists() else set()
    if there - {"run.json"}:  # a run that was killed as it began leaves that alone
        further = f", or continue the run there with resume={folder}" if "run.json" in there else _begun_by(folder, key)
        raise BloodcellError(f"{folder} is not empty; new results need a new folder: choose another {key}{further}")


def _begun_by(folder: Path, key: str) -> str:
    """Return the end of a sentence on the command that has begun a folder, as it goes on; '' if none has."""
    try:
        work, _ = read_json(folder / _UNFINISHED)
    except (OSError, ValueError, TypeError):
        return ""
    place = "" if f"{key}=" in str(work) else f" {key}={folder}"
    return f", or go on with what was begun there, typed as it was: {work}{place}"


def begin_results(
    folder: Path, config: Any, key: str = "hydra.run.dir", free: Sequence[str] = (), again: bool = False
) -> None:
    """Make a new folder for results, which `key` names; one that the same command began and did not complete will do.

    The command may name the folder now, and its settings `free` may be others. With `again`, the folder holds results
    of the same work, which are to be replaced.

    Raises:
        BloodcellError: The folder is not empty, and holds something else.
    """
    mark = folder / _UNFINISHED
    settings = {name: value for name, value in asdict(config).items() if name not in free}
    ours = json.loads(json.dumps([_work(("hydra.run.dir", *free)), settings], default=str))
    try:
        begun = bool(read_json(mark) == ours)
    except (OSError, ValueError):
        begun = False
    if not begun:
        if not again:
            refuse_used(folder, key)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(ours, mark)
    refuse_links(folder)
    remove_temporaries(folder)


def _work(free: Sequence[str]) -> str:
    """Return the command without some settings."""
    return shlex.join(word for word in shlex.split(command()) if word.partition("=")[0] not in free)


def end_results(folder: Path) -> None:
    """Record that the results of `begin_results` are complete."""
    (folder / _UNFINISHED).unlink(missing_ok=True)


def refuse_links(folder: Path) -> None:
    """Raise a BloodcellError if a folder in a run's folder is a link, behind which files would be replaced."""
    for entry in folder.iterdir():
        if entry.is_symlink() and entry.is_dir():
            raise BloodcellError(f"{entry} is a link to another folder; put the folder itself there")


def refuse_finished(folder: Path) -> None:
    """Raise a BloodcellError if the run to continue has finished."""
    if read_run(folder).get("status") == "finished":
        raise BloodcellError(
            f"resume={folder}: that run has finished; evaluate it with evaluate.py checkpoint={folder}, "
            "or train it further with trainer.max_epochs=N"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run's folder in the job's first process; raise a BloodcellError if another job holds it."""
    if distributed.here().rank:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / ".lock", f"another process is working in {folder}; wait for it, or stop it first"):
        yield


def require_shared(folder: Path) -> None:
    """Raise a BloodcellError if this process of the job, on whatever machine, does not find the run's folder."""
    if not distributed.until((folder / "run.json").is_file):
        raise BloodcellError(
            f"{folder} is not there on {socket.gethostname()}; the machines of a job share run folder and cache: "
            "set hydra.run.dir and cache.root to a network file system"
        )


def find_runs(roots: list[Path], identity: str, finished: bool) -> list[Path]:
    """Return the folders of runs with the fingerprint `identity` at any depth below the roots, newest first.

    Either the finished ones, or those that neither finished nor are locked by a process.
    """
    found: dict[Path, str] = {}
    for file in {file.resolve() for root in roots if root.is_dir() for file in root.rglob("run.json")}:
        record = read_run(file.parent)
        if record.get("fingerprint") == identity and (record.get("status") == "finished") is finished:
            found[file.parent] = str(record.get("started", ""))
    newest = sorted(found, key=lambda folder: (found[folder], str(folder)), reverse=True)
    return newest if finished else [folder for folder in newest if not locks.is_locked(folder / ".lock")]


def checkpoint_of(path: Path) -> Path:
    """Return a run folder's best checkpoint, else its last, or an exported folder's ONNX file; a file stays as it is.

    Raises:
        BloodcellError: There is none.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise BloodcellError(f"no such run or checkpoint: {path}; give a run folder, a .ckpt or an .onnx file")
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    if is_exported_folder(path):
        return path / EXPORTED
    raise BloodcellError(f"{path} holds no checkpoint (checkpoints/best.ckpt); is it a run folder?")


def is_exported_folder(path: Path) -> bool:
    """Return whether a path is a folder that `export format=huggingface` wrote."""
    return (path / LABELS).is_file() and (path / EXPORTED).is_file()


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, or None."""
    folder = checkpoint.absolute().parents[1] if len(checkpoint.absolute().parents) > 1 else None
    return folder if folder and (folder / "run.json").is_file() else None
