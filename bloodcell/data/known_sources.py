"""Sources found by an audit, saved in the cache for later commands on the same files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from bloodcell.data.samples import Samples, cache_file, identities
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv


def save_sources(samples: Samples, sources: pd.DataFrame, cache: Path) -> Path:
    """Save an audit's sources, a row per sample in the same order, below the cache root and return the file."""
    file = cache_file(samples, cache / "audits")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv(sources.assign(identity=identities(samples.files()), rows=len(sources)), file)
    return file


def with_saved_sources(samples: Samples, cache: Path) -> Samples:
    """Return the samples with the sources that an earlier audit found; given sources stay.

    A file that has changed since the audit has no saved source.

    Raises:
        BloodcellError: The saved file is damaged. Ignoring it could put one cell into both training and test.
    """
    file = cache_file(samples, cache / "audits")
    if not file.is_file():
        return samples
    try:
        saved = pd.read_csv(file, dtype=str, keep_default_na=False)
        if set(saved["rows"]) - {str(len(saved))}:
            raise ValueError("rows are missing")
        saved = saved.set_index("identity")["source"]
    except (ValueError, KeyError) as error:
        raise BloodcellError(
            f"{file}, which held the sources of these images, is damaged; delete it and audit again"
        ) from error
    saved = saved[~saved.index.duplicated()]
    found = saved.reindex(identities(samples.files())).fillna("").to_numpy()
    given = samples.table["source"]
    return replace(samples, table=samples.table.assign(source=given.where(given != "", found)))
