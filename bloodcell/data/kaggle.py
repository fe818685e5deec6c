"""The Kaggle set of blood cells: its folder layout and its download."""

from __future__ import annotations

import os
from pathlib import Path

from bloodcell.data.folders import visible_folders
from bloodcell.data.layouts import class_folder_rows, split_folders
from bloodcell.data.readers import absolute
from bloodcell.data.samples import Samples, samples_table
from bloodcell.runtime.config import cache_root as cache_folder
from bloodcell.runtime.errors import BloodcellError

HANDLE = "paultimothymooney/blood-cells"
CLASSES = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")

#: Number of images of each split, used to check a download.
COUNTS = {"train": 9957, "test": 2487, "test_simple": 71}

#: images/ is two folders below Kaggle's root; the user may have put it up to two folders deeper.
_DEPTH = 4

#: The environment variable that names kagglehub's cache folder.
_CACHE = "KAGGLEHUB_CACHE"


def read_kaggle(root: str | None, download: bool, cache_root: str | None) -> Samples:
    """Read TRAIN, TEST and TEST_SIMPLE from `root`, which is the folder `images` or any folder above it.

    A download without `root` is stored in the cache.

    Raises:
        BloodcellError: The set is missing or incomplete, or the download failed.
    """
    folder = absolute(root) if root else cache_folder(cache_root) / "kaggle"
    kagglehubs = folder / "datasets" / HANDLE / "versions"
    images = next((found for place in (folder, kagglehubs) if place.is_dir() and (found := find_images(place))), None)
    if download and _counts(images) != COUNTS:
        images = find_images(_download(folder))
        _require_all(folder, images)
    if images is None:
        raise BloodcellError(
            f"no Kaggle blood-cell images (images/TRAIN with {', '.join(CLASSES)}) in {folder}\n"
            f"set data.root=DIR or BLOODCELL_DATA, or fetch them with data.download=true"
        )
    if not root:
        _require_all(folder, images)  # the unpacking of an earlier download may have been interrupted
    splits = split_folders(images)
    return samples_table([row for split in splits for row in class_folder_rows(splits[split], split)], folder)


def find_images(root: Path, depth: int = _DEPTH) -> Path | None:
    """Return the folder that holds TRAIN with the four classes, searching `depth` levels below `root`."""
    folders = visible_folders(root)
    train = next((folder for folder in folders if folder.name.lower() == "train"), None)
    if train and set(CLASSES) <= {folder.name.upper() for folder in visible_folders(train)}:
        return root
    if depth == 0 or len(folders) > 50:  # e.g. a home folder is not searched
        return None
    return next((found for folder in folders if (found := find_images(folder, depth - 1))), None)


def _download(folder: Path) -> Path:
    """Download the set with kagglehub into a cache in `folder` and return the folder of the set.

    kagglehub continues an interrupted download only in its cache, not in an `output_dir`, which must be empty.
    """
    try:
        import kagglehub
    except ModuleNotFoundError as error:
        raise BloodcellError("data.download=true needs kagglehub: pip install 'bloodcell[download]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    cache = os.environ.get(_CACHE)
    os.environ[_CACHE] = str(folder)
    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BloodcellError(
            f"could not download {HANDLE}: {reason}\n"
            f"the same command continues the download; or fetch it in a browser, unpack it and set data.root=DIR"
        ) from error
    finally:
        os.environ.pop(_CACHE)
        os.environ.update({_CACHE: cache} if cache else {})


def _counts(images: Path | None) -> dict[str, int]:
    """Return the number of images of each split."""
    splits = split_folders(images) if images else {}
    return {split: len(class_folder_rows(splits[split], split)) if split in splits else 0 for split in COUNTS}


def _require_all(folder: Path, images: Path | None) -> None:
    if (found := _counts(images)) != COUNTS:
        raise BloodcellError(
            f"the download in {folder} is incomplete: it has {found}, the set has {COUNTS}; delete it and try again"
        )
