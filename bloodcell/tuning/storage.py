"""The study in its storage: opened by whoever comes, and refused to who would make it another one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloodcell.data.samples import Samples
from bloodcell.runtime.errors import BloodcellError

#: Seconds that a process waits for its turn at a database in a file.
PATIENCE = 60
#: How often, a second apart, a database on a server is asked before it counts as absent.
TRIES = 5
#: Parts of the configuration that differ between machines, or change no trial's value.
NEUTRAL = ("outputs", "cache", "resume", "skip_finished", "report", "logger")
#: Keys of `data` and `trainer` of the same kind.
NEUTRAL_KEYS = {
    "data": ("root", "workers", "in_memory"),
    "trainer": ("gpus", "accelerator", "devices", "enable_progress_bar"),
}


#: The password in a URL.
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]+@")


def without_password(text: str) -> str:
    """Return a text in which no URL has its password."""
    return _PASSWORD.sub(r"\1:***@", text)


def is_file(url: str | None) -> bool:
    """Say whether a storage is a database in a file, which is for one machine."""
    return url is None or url.startswith("sqlite")


def turn_of(url: str | None, folder: Path) -> Path:
    """Return the lock file under which workers claim trials: beside a database in a file, or in the folder."""
    if url is None:
        return folder / "study.db.lock"
    file = url.rpartition(":///")[2].partition("?")[0]
    return Path(f"{file}.lock") if is_file(url) and file else folder / "workers" / ".turn"


def require_optuna() -> None:
    """Raise one clear line where Optuna is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise BloodcellError(f"tune wants Optuna ({error}); pip install 'bloodcell[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str | None, folder: Path) -> Any:
    """Return the storage of a URL, or of study.db in a folder.

    Raises:
        BloodcellError: There is no such storage, or no driver for it.
    """
    from filelock import FileLock
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    given = url or f"sqlite:///{(folder / 'study.db').absolute().as_posix()}"
    try:
        with FileLock(turn_of(url, folder)):  # two processes that make the tables at once disturb each other
            return _storage_of(given)
    except (ArgumentError, ImportError, SQLAlchemyError, ValueError, RuntimeError) as error:
        said = without_password(f"tune.storage={given}: {' '.join(str(error).split())[:200]}")
        raise BloodcellError(f"{said}; give a URL such as postgresql://USER@HOST/NAME") from error


def _storage_of(url: str) -> Any:
    """Return the storage of a URL; where another machine makes its tables at this moment, once they are there."""
    import optuna
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    waits = {"connect_args": {"timeout": PATIENCE}} if is_file(url) else {}
    for remaining in range(TRIES - 1, -1, -1):
        try:
            return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=waits))
        except (IntegrityError, OperationalError, ProgrammingError):
            if is_file(url) or not remaining:
                raise
            time.sleep(1.0)
    raise AssertionError("the last try returns or raises")


@contextmanager
def database_errors() -> Iterator[None]:
    """Say in one line what a database could not do."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise BloodcellError(
            f"the study's storage failed ({reason}); the same command with study=FOLDER goes on"
        ) from error


def open_study(storage: Any, name: str, direction: Any, identity: dict[str, Any]) -> Any:
    """Return the study of a name, which is made where there is none.

    Args:
        storage: What `open_storage` returned.
        name: Of the study.
        direction: maximize or minimize.
        identity: What makes its trials comparable: name -> plain value.

    Raises:
        BloodcellError: The study is there with another identity.
    """
    import optuna

    study = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
        return study
    if changed := [part for part in identity if identity[part] != known.get(part)]:
        raise BloodcellError(
            f"the study '{name}' was begun with another {changed[0]} ({_difference(known, identity, changed[0])}); "
            "give study=ANOTHER_FOLDER"
        )
    return study


def _difference(known: dict[str, Any], given: dict[str, Any], part: str) -> str:
    """Name the first key in which a part differs, with both values where they are short."""
    before, now = known.get(part), given[part]
    key = ""
    while isinstance(before, dict) and isinstance(now, dict):
        name = next(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
        key, before, now = f"{key}.{name}".lstrip("."), before.get(name), now.get(name)
    return f"{key} {before}, now {now}".strip()[:160]


def identity_of(
    base: dict[str, Any], space: dict[str, Any], metric: str, folds: list[int] | None, samples: Samples
) -> dict[str, Any]:
    """Return what makes the trials of a study comparable.

    Args:
        base: The configuration without a trial's values.
        space: Key -> range.
        metric: The figure that is looked at.
        folds: Over which it is averaged.
        samples: The images with their splits.
    """
    kept = {key: value for key, value in base.items() if key not in NEUTRAL}
    for part, keys in NEUTRAL_KEYS.items():
        kept[part] = {key: value for key, value in base[part].items() if key not in keys}
    kept["data"] = {key: value for key, value in kept["data"].items() if key != "reader"}
    plain = json.loads(json.dumps({"search space": space, "metric": metric, "folds": folds, "configuration": kept}))
    return {**plain, "data": images_digest(samples)}


def images_digest(samples: Samples) -> str:
    """Return 16 hexadecimal digits of the images' names, sizes, labels, splits and sources, wherever they lie."""
    columns = [samples.table[name].astype(str) for name in samples.table.columns]
    sizes = [str(os.stat(file).st_size) for file in samples.paths()]  # noqa: PTH116
    text = "\n".join(map("|".join, zip(*columns, sizes, strict=True)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def silence() -> None:
    """Leave out what Optuna warns of at each trial; each line names why it is of no use here."""
    for message in (
        ".*is an experimental feature.*",  # what is used of it is covered by our tests
        "Choices for a categorical distribution should be.*",  # null is one
    ):
        warnings.filterwarnings("ignore", message=message, module="optuna.*")
