"""Sources that an audit found are kept by the files' identity, and known to every later command on them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bloodcell.data.samples import Samples, identities
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv


def keep(samples: Samples, sources: pd.DataFrame, cache: Path) -> Path:
    """Keep the outcome of an audit and return the file.

    Args:
        samples: The samples that were audited.
        sources: The audit's sources, a row a sample in the same order.
        cache: The cache root.
    """
    file = _file(samples.root, cache)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv(sources.assign(identity=identities(samples.files()), rows=len(sources)), file)
    return file


def with_kept_sources(samples: Samples, cache: Path) -> Samples:
    """Return the samples with the sources that an earlier audit found; a source that is given stays.

    A file that has changed since counts as unknown.

    Args:
        samples: The samples.
        cache: The cache root.

    Raises:
        BloodcellError: What was kept is damaged: without it, a split would put one cell on both sides.
    """
    file = _file(samples.root, cache)
    if not file.is_file():
        return samples
    try:
        kept = pd.read_csv(file, dtype=str, keep_default_na=False)
        if set(kept["rows"]) - {str(len(kept))}:
            raise ValueError("rows are missing")
        kept = kept.set_index("identity")["source"]
    except (ValueError, KeyError) as error:
        raise BloodcellError(
            f"{file} is damaged, which held the sources of these images; delete it, and audit again"
        ) from error
    kept = kept[~kept.index.duplicated()]
    found = kept.reindex(identities(samples.files())).fillna("").to_numpy()
    given = samples.table["source"]
    return replace(samples, table=samples.table.assign(source=given.where(given != "", found)))


def _file(root: Path, cache: Path) -> Path:
    return cache / "audits" / f"{hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]}.csv"
