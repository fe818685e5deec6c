"""The Kaggle set of blood cells: its folder layout, and its download."""

from __future__ import annotations

import os
from pathlib import Path

from bloodcell.data.folders import ClassFolders, split_folders, visible_folders
from bloodcell.data.readers import absolute
from bloodcell.data.samples import Samples, samples_table
from bloodcell.runtime.config import cache_root as cache_folder
from bloodcell.runtime.errors import BloodcellError

HANDLE = "paultimothymooney/blood-cells"
CLASSES = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")

#: Images of each split of the whole set, by which a download is verified.
COUNTS = {"train": 9957, "test": 2487, "test_simple": 71}

#: From Kaggle's own root to images/ it is two folders; one more for a folder that the user made.
_DEPTH = 4

#: Where kagglehub keeps what it downloads.
_CACHE = "KAGGLEHUB_CACHE"


def read_kaggle(root: str | None, download: bool, cache_root: str | None) -> Samples:
    """Read TRAIN, TEST and TEST_SIMPLE, found at any depth of Kaggle's layout below `root`.

    Args:
        root: Any folder above, or the folder `images` itself.
        download: Fetch the set where it is absent.
        cache_root: `cache.root`, where a download without `root` goes.

    Raises:
        BloodcellError: The set is not there, or could not be fetched whole.
    """
    folder = absolute(root) if root else cache_folder(cache_root) / "kaggle"
    images = _find(folder)
    if download and (images is None or count(images) != COUNTS):
        images = find_images(fetch(folder))
        verify(folder, images)
    if images is None:
        raise BloodcellError(
            f"no Kaggle blood-cell images (images/TRAIN with {', '.join(CLASSES)}) in {folder}\n"
            f"set data.root=DIR or BLOODCELL_DATA, or fetch them with data.download=true"
        )
    if not root:
        verify(folder, images)  # our own download: its unpacking may have been interrupted
    splits = split_folders(images)
    return samples_table([row for split in splits for row in ClassFolders(splits[split]).rows(split)], folder)


def _find(folder: Path) -> Path | None:
    """Return the folder of images below `folder`, or where kagglehub puts it there."""
    places = [place for place in (folder, folder / "datasets" / HANDLE / "versions") if place.is_dir()]
    return next((images for place in places if (images := find_images(place))), None)


def find_images(root: Path, depth: int = _DEPTH) -> Path | None:
    """Return the folder that holds TRAIN with the four classes, searching `depth` levels below `root`."""
    folders = visible_folders(root)
    train = next((folder for folder in folders if folder.name.lower() == "train"), None)
    if train and set(CLASSES) <= {folder.name.upper() for folder in visible_folders(train)}:
        return root
    if depth == 0 or len(folders) > 50:  # a home folder is not searched through
        return None
    return next((found for folder in folders if (found := find_images(folder, depth - 1))), None)


def fetch(folder: Path) -> Path:
    """Download the set with kagglehub into its cache, placed in `folder`, and return where in it the set is.

    kagglehub continues an interrupted download in its cache only, not in an `output_dir`, which it wants empty.

    Raises:
        BloodcellError: kagglehub is not installed, or the download failed.
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


def count(images: Path | None) -> dict[str, int]:
    """Return the number of images of each split of the set."""
    splits = split_folders(images) if images else {}
    return {split: len(ClassFolders(splits[split])) if split in splits else 0 for split in COUNTS}


def verify(folder: Path, images: Path | None) -> None:
    """Check that a download holds every class and as many images as the set has.

    Raises:
        BloodcellError: Something is missing.
    """
    if (found := count(images)) != COUNTS:
        raise BloodcellError(
            f"the download in {folder} is not whole: it has {found}, the set has {COUNTS}; delete it and try again"
        )
