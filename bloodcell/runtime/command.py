"""The command that started this process, and the commands that it suggests: as they are typed into a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bloodcell.runtime import distributed
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import written

_typed: list[str] = []  # arguments of the command line; empty if the package is used from Python
_called = False


def remember(arguments: list[str], called: bool = False) -> None:
    """Keep the command line before Hydra's and our own changes to `sys.argv`; `called`: by a call in Python."""
    global _called
    _typed[:], _called = arguments, called


def called_from_python() -> bool:
    """Return whether a verb was called from Python: that program cannot be started again in several processes."""
    return _called


def command() -> str:
    """Return the command that repeats this run in a shell in the same folder."""
    typed = _typed or sys.argv
    return shlex.join([*_started_as(typed[0]), *typed[1:]])


def keep_continuation(error: BaseException, text: str) -> None:
    """Keep with an interruption the command that goes on, for its line; without, that is the same command again."""
    error.continuation = text  # type: ignore[attr-defined]  # read by `user_errors`


def continuation(run: Path | None = None, *more: str) -> str:
    """Return the command that goes on with this one: with the training in the folder `run`, or the same with `more`."""
    if run is None:
        return f"{command()}{''.join(f' {shlex.quote(item)}' for item in more)}"
    return shlex.join([*_verb_words("train"), f"resume={run}"])


def given(*leaving: str) -> list[str]:
    """Return the arguments of the command line that another verb takes too.

    Flags, keys of Hydra and keys that begin with `leaving` are left out.
    """
    first = _typed[:1] + _typed[2:] if _typed and not _typed[0].endswith(("train.py", "evaluate.py")) else _typed
    return [word for word in first[1:] if not word.startswith(("-", "hydra.", *leaving))]


def say_end(*look: object, then: Sequence[object] = ()) -> None:
    """Print the last lines of a verb: what to look at, and the command to go on with.

    Args:
        look: Files and folders.
        then: The verb and its arguments; FOLDER and the like stand for what the user has.
    """
    if look:
        say(f"look at: {shlex.join(map(str, look))}", whole=True)
    if then and not _called:  # from Python, a command of the shell is no next step
        say(f"next: {shlex.join([*program(), *map(str, then)])}", whole=True)


def prediction_by(checkpoints: Sequence[object]) -> list[str]:
    """Return the words that predict other images by a checkpoint, by the mean of several, or by none: by the reader."""
    return ["predict", "FOLDER", *checkpoint_words(checkpoints), "output=FILE.csv"]


def checkpoint_words(checkpoints: Sequence[object]) -> list[str]:
    """Return the word that names some checkpoints; for none there is none."""
    return _with_key("checkpoint", list(map(str, checkpoints)))


def path_words(key: str, paths: Sequence[object]) -> list[str]:
    """Return the words that name what a verb looks at, by its key if a path alone would be taken for a choice."""
    texts = list(map(str, paths))
    return _with_key(key, texts) if any("=" in text or text[:1] in "-~+" for text in texts) else texts


def _with_key(key: str, texts: list[str]) -> list[str]:
    named = ",".join(texts)
    return [f"{key}={named if len(texts) == 1 else f'[{named}]'}"] if texts else []


def answer_words(classes: Sequence[object] | None) -> list[str]:
    """Return the word that names the only answers; for none there is none."""
    return [f"classes=[{','.join(written(str(name)) for name in classes)}]"] if classes else []


def program() -> list[str]:
    """Return the words that start this program with any verb, as the shell finds it."""
    return ["bloodcell"] if shutil.which("bloodcell") else [_python(), "-m", "bloodcell"]


def _verb_words(verb: str) -> list[str]:
    name = (_typed or sys.argv)[0]
    return _started_as(name) if Path(name).name == f"{verb}.py" else [*_started_as(name), verb]


def _started_as(name: str) -> list[str]:
    """Return the words before the arguments, of a process whose `sys.argv[0]` is `name`."""
    path, python = Path(name), _torchrun() or [_python()]
    if path.name == "__main__.py":
        return [*python, "-m", path.parent.name]
    if path.suffix == ".py" or len(python) > 1:
        return [*python, name]
    found = shutil.which(path.name)
    return [path.name if found and Path(found).absolute() == path.absolute() else name]


def _python() -> str:
    """Return Python as it was called."""
    called = sys.orig_argv[0] if sys.orig_argv else "python"
    return called if "python" in Path(called).name else "python"


def _torchrun() -> list[str]:
    """Return the words that stand for Python if the user's torchrun started this process; else none."""
    place = distributed.announced()
    if place is None or os.environ.get("TORCHELASTIC_RUN_ID", distributed.OWN) == distributed.OWN:
        return []
    machines = place.size // place.local_size
    several = [f"--nnodes={machines}"] if machines > 1 else []
    return ["torchrun", *several, f"--nproc-per-node={place.local_size}"]
