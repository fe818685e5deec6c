"""Sources found by an audit, saved in the cache for later commands on the same images.

The source is the physical cell, photograph, slide or patient that an image comes from.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bloodcell.data.samples import Samples, contents, with_contents
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv


def save_sources(samples: Samples, sources: pd.DataFrame, cache: Path) -> Path:
    """Save an audit's sources, a row per sample in the same order, below the cache root and return the file."""
    known = contents(samples)
    name = hashlib.sha256("".join(sorted(known)).encode()).hexdigest()[:16]
    file = cache / "audits" / f"{name}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv(sources.assign(content=known, rows=len(sources)), file)
    return file


def with_saved_sources(samples: Samples, cache: Path) -> Samples:
    """Return the samples with their contents, and with the sources that an earlier audit found; given sources stay.

    Images are known by their content, wherever they are now. Of several audits, the one with most of the images counts,
    the latest if they are equal; an image that it has not seen has no saved source.

    Raises:
        BloodcellError: A saved file is damaged. Ignoring it could put one cell into both training and test.
    """
    samples = with_contents(samples, cache)
    audits = sorted((cache / "audits").glob("*.csv"), key=lambda file: file.stat().st_mtime, reverse=True)
    found = max((_sources_by(file, samples) for file in audits), key=lambda one: (one != "").sum(), default=None)
    if found is None:
        return samples
    given = samples.table["source"]
    return replace(samples, table=samples.table.assign(source=given.where(given != "", found.to_numpy())))


def _sources_by(file: Path, samples: Samples) -> pd.Series:
    """Return the source of each sample that an audit found, empty if it has not seen the image."""
    try:
        saved = pd.read_csv(file, dtype=str, keep_default_na=False)
        if set(saved["rows"]) - {str(len(saved))}:
            raise ValueError("rows are missing")
        older = "identity" in saved  # by path, size and time
        saved = saved.set_index("identity" if older else "content")["source"]
    except (ValueError, KeyError) as error:
        raise BloodcellError(
            f"{file}, which holds the sources of images, is damaged; delete it and audit again"
        ) from error
    saved = saved[~saved.index.duplicated()]
    return saved.reindex([_path_and_time(path) for path in samples.paths()] if older else contents(samples)).fillna("")


def _path_and_time(file: str) -> str:
    try:
        status = os.stat(file)  # noqa: PTH116 - one call for each of many files
    except OSError:
        return ""
    return f"{file}|{status.st_size}|{status.st_mtime_ns}"
