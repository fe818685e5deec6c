"""The study in its database: opened by every worker, and refused if its trials could not be compared."""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

from bloodcell.data.samples import Samples
from bloodcell.runtime.config import flat
from bloodcell.runtime.errors import BloodcellError
from bloodcell.tuning.trial_config import PLACES, lies_in

#: Seconds between two heartbeats of a worker, and without one until its trial is retried.
HEARTBEAT, GRACE = 10, 60
#: How often a trial is retried whose worker died.
RETRIES = 5
#: How often, a second apart, a database is asked before it counts as absent.
TRIES = 5
#: Parts of the configuration that change no trial's value; `PLACES` do not, either.
NEUTRAL = ("resume", "skip_finished", "report", "logger", "data.reader")


def require_optuna() -> None:
    """Silence what Optuna says of each trial; raise BloodcellError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise BloodcellError(f"tune needs Optuna ({error}); pip install 'bloodcell[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats, plots


def without_password(text: str) -> str:
    """Return a text with the passwords of URLs replaced by stars."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", text)


def open_storage(url: str | None, folder: Path) -> Any:
    """Return the database of a URL, or `study.db` in a folder.

    A worker gives a heartbeat to its trial. After `GRACE` seconds without one, the next worker that looks marks the
    trial as failed and adds one with the same values.

    Raises:
        BloodcellError: There is no such database, or no driver for it.
    """
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    url = url or f"sqlite:///{(folder / 'study.db').absolute().as_posix()}"
    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}  # seconds that a writer waits
    retry = RetryHeartbeatStaleTrialCallback(RETRIES)
    for remaining in reversed(range(TRIES)):
        try:
            return RDBStorage(
                url, engine, heartbeat_interval=HEARTBEAT, grace_period=GRACE, heartbeat_stale_trial_callback=retry
            )
        except (ImportError, SQLAlchemyError, ValueError, RuntimeError) as error:
            if not isinstance(error, DBAPIError) or not remaining:
                said = without_password(f"tune.storage={url}: {' '.join(str(error).split())[:200]}")
                raise BloodcellError(f"{said}; give a URL such as postgresql+psycopg://USER@HOST/NAME") from error
            time.sleep(1)  # another worker may be creating the tables
    raise AssertionError("the last try returns or raises")


def open_study(storage: Any, name: str, direction: Any, identity: dict[str, Any]) -> Any:
    """Return the study of a name, created if there is none, with the identity that makes its trials comparable.

    Raises:
        BloodcellError: The study exists with another identity.
    """
    import optuna

    study = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
    elif part := next((part for part, value in identity.items() if known.get(part) != value), None):
        before, now = known.get(part), identity[part]
        if isinstance(before, dict):
            key = next(key for key in sorted({*before, *now}) if before.get(key) != now.get(key))
            before, now = f"{key} {before.get(key)}", now.get(key)
        difference = f"{before}, now {now}"[:160]
        raise BloodcellError(f"the study '{name}' has another {part} ({difference}); give study=ANOTHER_FOLDER")
    return study


def identity_of(
    base: dict[str, Any], space: dict[str, Any], metric: str, folds: list[int] | None, samples: Samples
) -> dict[str, Any]:
    """Return what makes the trials of a study comparable, as plain values: its settings, and a digest of its images."""
    values = {key: value for key, value in flat(base) if not isinstance(value, dict)}
    kept = {key: value for key, value in values.items() if not lies_in(key, NEUTRAL + PLACES)}
    columns = [samples.table[name].astype(str) for name in samples.table.columns]
    sizes = [str(Path(file).stat().st_size) for file in samples.paths()]
    text = "\n".join(map("|".join, zip(*columns, sizes, strict=True)))  # the same in whatever folder the images lie
    plain = json.loads(json.dumps({"search space": space, "metric": metric, "folds": folds, "configuration": kept}))
    return {**plain, "data": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]}


def finished_trials(study: Any) -> list[Any]:
    """Return the trials that are complete, pruned or failed by an error of their own, in their order.

    A trial whose worker died or was interrupted is in the database as failed, beside its retry; the retry alone counts.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {number for trial in trials for number in retries_of(trial)}
    ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in retried]
    return [trial for trial in ended if trial.state.name != "FAIL" or failure(trial)]


def retries_of(trial: Any) -> list[int]:
    """Return the numbers of the trials that a trial retries."""
    return list(trial.system_attrs.get("retry_history", []))


def failure(trial: Any) -> str:
    """Return why a trial failed; empty if it did not, or if its worker died and it is retried."""
    given_up = f"its process ended {RETRIES + 1} times before the trial did; is memory short?"
    reason = given_up if len(retries_of(trial)) >= RETRIES else ""
    return str(trial.user_attrs.get("error", reason)) if trial.state.name == "FAIL" else ""
