"""The verb `audit`: from a data set to a verdict, tables, a page of pictures, and sources that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from bloodcell.audit.advice import audit_of_set
from bloodcell.audit.audit_report import write_report
from bloodcell.audit.pipeline import audit, forget
from bloodcell.audit.result import Audit
from bloodcell.data.known_sources import keep
from bloodcell.data.readers import absolute, load_samples
from bloodcell.data.samples import Samples, digest
from bloodcell.data.splits import assign_splits, split_arguments
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import cache_root, job_folder, typed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv, write_json
from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.verbs import AuditConfig

#: Where original photographs lie in the sets that have them, relative to a folder at most three below the root.
_ORIGINALS = ("JPEGImages", "originals")


def run(cfg: DictConfig) -> Audit:
    """Audit into the folder that Hydra chose."""
    return run_audit(cfg, job_folder())


def run_audit(cfg: DictConfig, folder: Path) -> Audit:
    """Find the sources of a data set's images, say what follows, and keep them for later commands.

    Args:
        cfg: The configuration that `conf/audit.yaml` composes.
        folder: Where sources.csv, leaks.csv, conflicts.csv, duplicates.csv, unreadable.csv, verdict.txt and
            report.html go; a new one.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    config = typed(cfg, AuditConfig)
    cache = cache_root(config.cache.root)
    samples = load_samples(config.data)
    if names := samples.sets():
        commands = "; ".join(audit_of_set(config.data, name) for name in names)
        raise BloodcellError(f"an audit is of one data set, and joint training knows its sources: {commands}")
    originals = originals_folder(config.data.originals, samples.root)
    judged = _with_split(samples, config.data)
    run_folder.refuse_used(folder)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{len(samples.table):,} images in {samples.root}; originals: {originals or 'none'}")
    state = cache / "audit-progress" / digest(samples)
    with progress("auditing") as bar:
        found = audit(judged.table, samples.root, originals, state, _phases(bar))
    keep(samples, found.sources, cache)
    for name in ("sources", "leaks", "conflicts", "duplicates", "unreadable"):
        write_csv(getattr(found, name), folder / f"{name}.csv")
    (folder / "verdict.txt").write_text(found.verdict() + "\n", encoding="utf-8")
    write_json({"command": run_folder.command(), "root": str(samples.root)}, folder / "audit.json")
    write_report(found, samples.root, folder / "report.html")
    forget(state)  # a command that was stopped before goes on from there
    say(found.verdict())
    say(f"report and tables in {folder}; later commands on this data know its sources")
    return found


def _with_split(samples: Samples, data: DataConfig) -> Samples:
    """Judge the split that is given, or the random one that training would draw without knowing sources.

    Where no split can be drawn (a class of one image, say), the given one is judged alone.
    """
    asked = {**split_arguments(data), "split": "random"}
    try:
        return assign_splits(samples, **asked)
    except BloodcellError:
        return samples


def _phases(bar: Callable[[int, int], None]) -> Callable[[int, int, str], None]:
    return lambda done, total, phase: bar(done, total)


def originals_folder(asked: str | None, root: Path) -> Path | None:
    """Return the folder of original photographs.

    Args:
        asked: `data.originals`: auto: found below the root where its layout is known; none; or a folder.
        root: The data root.

    Raises:
        BloodcellError: A folder is named that is not there.
    """
    if asked in (None, "none"):
        return None
    if asked != "auto":
        folder = absolute(str(asked))
        if not folder.is_dir():
            raise BloodcellError(f"no such folder: data.originals={folder}; give an existing one, auto or none")
        return folder
    patterns = [f"{'*/' * depth}{name}" for depth in range(4) for name in _ORIGINALS]
    return next((found for pattern in patterns for found in sorted(root.glob(pattern)) if found.is_dir()), None)
