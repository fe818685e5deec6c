"""The verb `audit`: from a data set to a verdict, tables, a report, and sources that later commands know.

The source of an image is the physical cell that it shows; copies and photographs of one cell share it.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from bloodcell.audits.audit_report import write_report
from bloodcell.audits.pipeline import audit
from bloodcell.audits.result import Audit
from bloodcell.data import joint
from bloodcell.data.known_sources import save_sources, with_saved_sources
from bloodcell.data.readers import absolute, load_samples
from bloodcell.data.samples import Samples, digest, with_contents
from bloodcell.data.splits import assign_splits
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import command, given, say_end
from bloodcell.runtime.config import cache_root, job_folder, typed, uses_cache
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv, write_json, write_text
from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.verbs import AuditConfig

#: Folders of original photographs in known layouts, at most three folders below the data root.
_ORIGINALS = ("JPEGImages", "originals")


def run(cfg: DictConfig) -> Audit:
    """Audit into the folder that Hydra chose."""
    return run_audit(cfg, job_folder())


@uses_cache
def run_audit(cfg: DictConfig, folder: Path) -> Audit:
    """Find the sources of a data set's images, report the leaks, and keep the sources for later commands.

    The new folder gets sources.csv, leaks.csv, conflicts.csv, duplicates.csv, unreadable.csv, verdict.txt and
    report.html.
    """
    config = typed(cfg, AuditConfig)
    found = audit_images(config.data, cache_root(config.cache.root), folder)
    say_end(folder / "report.html", then=["train", *given()])
    return found


def audit_images(data: DataConfig, cache: Path, folder: Path) -> Audit:
    """Audit the images of a data set; see `run_audit`. `cache` is the cache root."""
    samples = with_contents(load_samples(data), cache)
    if samples.sets():
        commands = "; ".join(joint.audit_command(place) for place in joint.named_sets(data.sets).values())
        raise BloodcellError(f"audit each data set alone, joint training knows their sources afterwards: {commands}")
    originals = originals_folder(data.originals, samples.root)
    audited = samples
    with suppress(BloodcellError):  # e.g. a class of one image: the given split alone is audited
        # the split of a training that does not know sources
        audited = assign_splits(samples, replace(data, split="random"))
    run_folder.begin_results(folder, data)
    say(f"{len(samples.table):,} images in {samples.root}; originals: {originals or 'none'}")
    intermediate = cache / "audit-progress" / digest(samples)
    with progress("auditing") as bar:
        found = audit(audited.table, samples.root, originals, intermediate, bar)
        bar(0, None, "audit: report")
        save_sources(samples, found.sources, cache)
        for name in ("sources", "leaks", "conflicts", "duplicates", "unreadable"):
            write_csv(getattr(found, name), folder / f"{name}.csv")
        write_text(found.verdict() + "\n", folder / "verdict.txt")
        write_json({"command": command(), "root": str(samples.root)}, folder / "audit.json")
        write_report(found, samples.root, folder / "report.html")
    run_folder.end_results(folder)
    shutil.rmtree(intermediate, ignore_errors=True)
    say(found.verdict())
    for line in moved_line(samples, audited, data, cache):
        say(line)
    say(f"tables in {folder}; later commands on this data know its sources")
    return found


def moved_line(samples: Samples, before: Samples, data: DataConfig, cache: Path) -> list[str]:
    """Return a line if the split that keeps sources together has other test images than the split before the audit."""
    try:
        after = assign_splits(with_saved_sources(samples, cache), replace(data, split="auto"))
    except BloodcellError as error:
        return [f"note: the images cannot be split by source yet: {error}"]
    then, now = (set(one.of_split("test").paths()) for one in (before, after))
    if not (moved := len(now - then)):
        return []
    return [f"from now on the split is by source: {moved:,} of {counted(len(now), 'test image')} were not in it before"]


def originals_folder(asked: str | None, root: Path) -> Path | None:
    """Return the folder of original photographs that `data.originals` asks for; None if there is none.

    It is auto (look below the data root for known layouts), none, or a folder; a BloodcellError if that does not exist.
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
