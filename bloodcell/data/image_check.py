"""Decoding every image once before training: which cannot be read, which show nothing, and which are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.blank import blank
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_picture
from bloodcell.data.samples import Samples, contents
from bloodcell.data.threads import map_in_order
from bloodcell.runtime.console import counted
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.kept_table import KeptTable


def check_images(samples: Samples, cache: Path, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Decode every image that no earlier check found good, and return a row for each image.

    Args:
        samples: The images.
        cache: The cache root, which keeps what was found by the content of the files.
        progress: Called every 64 images with the number of decoded images and of all images to decode.

    Returns:
        The columns path; reason, why the image cannot be read, empty if it can; white, the value that was taken for
        white because the file declares none, else NaN; blank: black, white or constant if the picture shows nothing,
        else empty; and pixels, 32 hexadecimal digits of what it shows.
    """
    names, kept = contents(samples), KeptTable(cache / "checks" / "images.db", ("white", "blank", "pixels"))
    known = {name: ("", *found) for name, found in kept.read(set(names)).items()}
    # only good images are kept: the reason (no permission, no memory, an old Pillow) may be gone, with the same content
    new = {name: path for name, path in zip(names, samples.files(), strict=True) if name not in known}
    for done, (name, found) in enumerate(zip(new, map_in_order(_checked, new.values(), cpu_count()), strict=True)):
        known[name] = found
        if progress and done % 64 == 0:
            progress(done, len(new))
    if good := [(name, *known[name][1:]) for name in new if not known[name][0]]:
        kept.add(good)
    rows = [(path, *known[name]) for path, name in zip(samples.table["path"], names, strict=True)]
    return pd.DataFrame(rows, columns=["path", "reason", "white", "blank", "pixels"]).astype({"white": float})


def _checked(path: Path) -> tuple[Any, ...]:
    """Return why an image cannot be read, its assumed white, whether it is blank, and the digest of its pixels."""
    try:
        picture = read_picture(path)
    except ImageError as error:
        return str(error), None, "", ""
    digest = hashlib.sha256(repr(picture.pixels.shape).encode())
    digest.update(picture.pixels.data)
    return "", picture.white, blank(picture.pixels), digest.hexdigest()[:32]


def blank_lines(checked: pd.DataFrame) -> list[str]:
    """Return a line on each kind of picture of `check_images` that shows nothing."""
    found = checked[checked["blank"] != ""]
    return [
        f"{counted(len(rows), 'image')} of {len(checked):,} {'is' if len(rows) == 1 else 'are'} {kind} all over, "
        f"e.g. {rows['path'].iloc[0]}; look at {'it' if len(rows) == 1 else 'them'}"
        for kind, rows in found.groupby("blank")
    ]


def white_lines(checked: pd.DataFrame) -> list[str]:
    """Return a line on the value that was taken for white in files of `check_images` that declare none."""
    whites = checked["white"].dropna()
    if whites.empty:
        return []
    most, few = whites.max(), whites.value_counts().sort_index()
    others = "".join(f"; {count:,} would fit {white:,.0f}" for white, count in few.items() if white != most)
    return [f"{counted(len(whites), 'file')} with more than 8 bits declare no white: {most:,.0f} is taken{others}"]


def without_bad_images(samples: Samples, checked: pd.DataFrame, policy: str, list_file: Path) -> Samples:
    """Return the samples that can be read, with the column pixels; list the others in a CSV file.

    Args:
        samples: The images.
        checked: What `check_images` found.
        policy: `data.on_bad_image`: error or skip.
        list_file: The CSV file.

    Raises:
        BloodcellError: There is a bad image and the policy is error; or no good image is left.
    """
    whites = checked["white"].dropna()
    table = samples.table.assign(pixels=checked["pixels"].to_numpy())
    samples = replace(samples, table=table, white=None if whites.empty else float(whites.max()))
    bad = checked.loc[checked["reason"] != "", ["path", "reason"]].reset_index(drop=True)
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
