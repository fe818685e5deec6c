"""Every image is decoded once before training; what was found is kept by path, size and time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bloodcell.data.images import ImageError, read_image
from bloodcell.data.samples import Samples, identities
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_csv

Progress = Callable[[int, int], None]


def check_images(samples: Samples, cache: Path, progress: Progress | None = None) -> pd.DataFrame:
    """Decode every image that was not found good before and return the bad ones.

    Args:
        samples: The samples.
        cache: The cache root; the result is kept in its folder `checks`.
        progress: Called now and then with the number of images looked at and of all.

    Returns:
        Columns path and reason, a row per image that cannot be read.
    """
    names = identities(samples.files())
    file = cache / "checks" / f"{hashlib.sha256(str(samples.root.absolute()).encode()).hexdigest()[:16]}.csv"
    known = _read(file)
    # A failure may pass (no permission, no memory, another Pillow), and leaves path, size and time as they were.
    new = [(name, path) for name, path in zip(names, samples.files(), strict=True) if known.get(name) != ""]
    with ThreadPoolExecutor(cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        for done, (name, reason) in enumerate(pool.map(_check, new)):
            known[name] = reason
            if progress and done % 64 == 0:
                progress(done, len(new))
    if new:
        kept = set(names)
        rows = [(name, reason) for name, reason in known.items() if name in kept]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_csv(pd.DataFrame(rows, columns=["identity", "reason"]), file)
    bad = [(path, known[name]) for path, name in zip(samples.table["path"], names, strict=True) if known[name]]
    return pd.DataFrame(bad, columns=["path", "reason"])


def _read(file: Path) -> dict[str, str]:
    """Return identity -> reason (empty: fine) of an earlier check; nothing where there is no readable one."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return dict(zip(table["identity"], table["reason"], strict=True))
    except (OSError, ValueError, KeyError):
        return {}


def _check(item: tuple[str, Path]) -> tuple[str, str]:
    name, path = item
    try:
        read_image(path)
    except ImageError as error:
        return name, str(error)
    return name, ""


def without_bad(samples: Samples, bad: pd.DataFrame, policy: str, listed: Path) -> Samples:
    """Refuse or leave out bad images.

    Args:
        samples: The samples.
        bad: What `check_images` returned.
        policy: `data.on_bad_image`: error or skip.
        listed: The file that lists them all, for the message.

    Raises:
        BloodcellError: There is a bad image and the policy is error, or nothing is left.
    """
    if bad.empty:
        return samples
    write_csv(bad, listed)
    if policy == "error":
        raise BloodcellError(
            f"{len(bad)} of {len(samples.table)} images cannot be read, e.g. {bad['path'][0]}: {bad['reason'][0]}\n"
            f"all are listed in {listed}; mend them, or leave them out with data.on_bad_image=skip"
        )
    rest = samples.table[~samples.table["path"].isin(set(bad["path"]))].reset_index(drop=True)
    if rest.empty:
        raise BloodcellError(f"no image in {samples.root} can be read; the reasons are in {listed}")
    return replace(samples, table=rest)
