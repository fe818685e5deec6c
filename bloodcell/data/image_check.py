"""Decoding every image once before training; results are saved by path, size and modification time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bloodcell.data.images import ImageError, read_image
from bloodcell.data.samples import Samples, cache_file, identities
from bloodcell.data.threads import map_in_order
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_csv


def check_images(samples: Samples, cache: Path, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Decode every image that no earlier check found good, and return the bad ones with columns path and reason.

    The result is saved below the cache root. `progress` is called every 64 images with the number of decoded images and
    of all images to decode.
    """
    names, file = identities(samples.files()), cache_file(samples, cache / "checks")
    known = _saved_reasons(file)
    # bad images are decoded again: the reason (no permission, no memory, an old Pillow) may be gone, and this changes
    # neither path nor size nor time
    new = {name: path for name, path in zip(names, samples.files(), strict=True) if known.get(name) != ""}
    reasons = map_in_order(_reason, new.values(), cpu_count())
    for done, (name, reason) in enumerate(zip(new, reasons, strict=True)):
        known[name] = reason
        if progress and done % 64 == 0:
            progress(done, len(new))
    if new:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_csv(pd.DataFrame({"identity": names, "reason": [known[name] for name in names]}), file)
    bad = [(path, known[name]) for path, name in zip(samples.table["path"], names, strict=True) if known[name]]
    return pd.DataFrame(bad, columns=["path", "reason"])


def _saved_reasons(file: Path) -> dict[str, str]:
    """Return identity -> reason (empty for a good image) of an earlier check; nothing if the file is damaged."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return dict(zip(table["identity"], table["reason"], strict=True))
    except (OSError, ValueError, KeyError):
        return {}


def _reason(path: Path) -> str:
    try:
        read_image(path)
    except ImageError as error:
        return str(error)
    return ""


def without_bad_images(samples: Samples, bad: pd.DataFrame, policy: str, list_file: Path) -> Samples:
    """Return the samples without the bad images that `check_images` found, and list those in a CSV file.

    Raises:
        BloodcellError: There is a bad image and the policy, `data.on_bad_image`, is error; or no good image is left.
    """
    if bad.empty:
        return samples
    write_csv(bad, list_file)
    if policy == "error":
        raise BloodcellError(
            f"{len(bad)} of {len(samples.table)} images cannot be read, e.g. {bad['path'][0]}: {bad['reason'][0]}\n"
            f"all are listed in {list_file}; repair them, or leave them out with data.on_bad_image=skip"
        )
    rest = samples.table[~samples.table["path"].isin(set(bad["path"]))].reset_index(drop=True)
    if rest.empty:
        raise BloodcellError(f"no image in {samples.root} can be read; the reasons are in {list_file}")
    return replace(samples, table=rest)
