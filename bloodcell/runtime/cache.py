"""The verb `cache`: list or clear what is kept between runs."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from bloodcell.runtime import locks
from bloodcell.runtime.command import say_end
from bloodcell.runtime.config import cache_root, typed
from bloodcell.runtime.console import console, counted, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json
from bloodcell.runtime.schema.verbs import ClearCacheConfig

#: Folder below the cache root -> what it holds. test_reads.csv is a record and not listed: it is never cleared.
KINDS = {
    "features": "features of frozen backbones",
    "synthetic": "painted smears",
    "contents": "which file has which content",
    "checks": "which images can be read",
    "probes": "leak probes",
    "audits": "sources that audits found",
    "audit-progress": "audits that were interrupted",
    "reviews": "judged cells of folders",
}


@dataclass(frozen=True)
class Entry:
    """A file or folder that is kept."""

    kind: str  # a key of `KINDS`
    path: Path
    what: str  # a description
    size: int  # bytes
    changed: float  # when it was last written, seconds since 1970


def run(cfg: DictConfig) -> None:
    """List what is kept, or clear what `clear` names."""
    config = typed(cfg, ClearCacheConfig)
    root = cache_root(config.cache.root)
    if config.clear is None:
        show(entries(root), root)
        return
    with locks.locked(root / ".use.lock"):
        if count := locks.users(root):
            raise BloodcellError(f"{counted(count, 'other command')} at work with {root}; clear it when there is none")
        clear(entries(root), str(config.clear), root)


def entries(root: Path) -> list[Entry]:
    """Return all entries below a cache root, by kind, newest first."""
    found = []
    for kind in KINDS:
        paths = [path for path in (root / kind).glob("*") if not path.name.startswith(".")]
        found += sorted((_entry(kind, path) for path in paths), key=lambda entry: -entry.changed)
    return found


def clear(kept: list[Entry], wanted: str, root: Path) -> None:
    """Delete the entries of a kind, with a name, or all.

    Raises:
        BloodcellError: There is no such kind or name.
    """
    if wanted != "all" and wanted not in KINDS and wanted not in {entry.path.name for entry in kept}:
        raise BloodcellError(f"clear={wanted}: nothing of that name is kept; choose all, {', '.join(KINDS)}, or a name")
    gone = [entry for entry in kept if wanted in ("all", entry.kind, entry.path.name)]
    for entry in gone:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
    say(f"cleared {len(gone)} of {len(kept)} entries, {readable(sum(entry.size for entry in gone))}, from {root}")


def show(kept: list[Entry], root: Path) -> None:
    """Print a table of entries."""
    if not kept:
        say(f"nothing is kept in {root}")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("kind", "what", "size", "written", "name"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for entry in kept:
        day = datetime.fromtimestamp(entry.changed).strftime("%Y-%m-%d")
        table.add_row(entry.kind, entry.what, readable(entry.size), day, entry.path.name)
    say(f"{root}: {readable(sum(entry.size for entry in kept))}")
    console.print(table)
    say("clear=KIND, clear=NAME or clear=all removes; what is missing is computed again")
    say_end(then=["cache", "clear=KIND"])


def readable(size: int) -> str:
    """Return a size in kB, MB or GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def _entry(kind: str, path: Path) -> Entry:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    status = [file.stat() for file in files]
    changed = max((one.st_mtime for one in status), default=0.0)
    what = _describe_features(path) if kind == "features" else KINDS[kind]
    return Entry(kind, path, what, sum(one.st_size for one in status), changed)


def _describe_features(folder: Path) -> str:
    try:
        about = read_json(folder / "about.json")
        size, weights = about["preprocessing"]["image_size"], about["weights"][:6]
        indexes = [read_json(file)["files"] for file in folder.glob("chunk-*.json")]
        # an image's plain features are named by its content alone, those of its views also by what they are
        count = sum(bool(re.fullmatch(r"[0-9a-f]{32}", name)) for names in indexes for name in names)
        return f"{count:,} images, {about['model']} (weights {weights}) at {size} px, {about['backend']}"
    except (OSError, ValueError, KeyError, TypeError):
        return KINDS["features"]
