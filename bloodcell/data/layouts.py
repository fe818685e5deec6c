"""Layouts of data sets in folders: one folder per class, with or without folders for the splits.

Whatever could mean something else is refused, so that the name of a part, a fold or a folder of masks is never a class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from bloodcell.data.folder_names import image_of_mask, is_of_masks, kind_of, mentions_split, split_of
from bloodcell.data.folders import endings_of, image_files, is_image, visible_entries, visible_files, visible_folders
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.errors import BloodcellError, folded, written

#: Class folder -> its images, each with the folder below the class folder that it is in, empty if in none.
_Found = dict[Path, list[tuple[Path, str]]]

_NAME_PARTS = "name the parts, each a folder of classes: data.train_dir=DIR data.val_dir=DIR data.test_dir=DIR"


def split_folders(root: Path, named: Collection[str] = ()) -> dict[str, Path]:
    """Return split -> folder for the folders in `root` that hold folders and have the name of a split.

    Splits in `named` are left out, because their folders are given otherwise. A line names folders that are not read.

    Raises:
        BloodcellError: Two folders mean the same split, or another folder seems to belong to the data as well.
    """
    found: dict[str, Path] = {}
    others = []
    for folder in visible_folders(root):
        split = split_of(folder.name)
        if not split or not visible_folders(folder):  # a class may be called "test", but only a split holds folders
            others.append(folder)
        elif split in found and split not in named:
            raise BloodcellError(
                f"{found[split].name} and {folder.name} both mean the {split} part; rename or remove one; {_NAME_PARTS}"
            )
        else:
            found[split] = folder
    _check_others(root, found, others)
    return {split: folder for split, folder in found.items() if split not in named}


def _check_others(root: Path, parts: dict[str, Path], others: list[Path]) -> None:
    """Refuse folders beside the parts that may be parts or classes as well; name those that are not read."""
    names = {folder: {folded(inner.name) for inner in visible_folders(folder)} for folder in others}
    classes = {folded(inner.name) for folder in parts.values() for inner in visible_folders(folder)}
    like_parts = [folder for folder in others if names[folder] and mentions_split(folder.name)]
    if not parts and len({mentions_split(folder.name) for folder in like_parts}) < 2:
        return
    for folder in others:
        lost_train = "train" not in parts and split_of(folder.name) == "train"
        if folder in like_parts or names[folder] & classes or folded(folder.name) in classes or lost_train:
            raise BloodcellError(
                f"{folder.name} in {root}, beside {_listed([*parts.values()] or others)}: {_NAME_PARTS}"
            )
    counts = {folder.name: sum(1 for _ in image_files(folder)) for folder in others}
    if unread := [f"{name} ({counted(count, 'image')})" for name, count in counts.items() if count]:
        say(f"note: {root}: not read: {', '.join(unread)}, as no part with class folders")


def _listed(folders: list[Path]) -> str:
    return ", ".join(folder.name for folder in folders[:5])


def class_folder_rows(root: Path, split: str) -> list[tuple[Path, str, str, str]]:
    """Return (file, class name, split, empty source) of every image in `root`, which holds one folder per class.

    If no split is given, each class folder may hold a folder per split. Masks with the name of an image beside them, or
    in a folder of masks, are left out; a line counts them and all other files that are not read.

    Raises:
        BloodcellError: `root` is missing or holds no class folder, a folder is no class by its name, or a class has no
            file that can be read.
    """
    if not root.is_dir():
        raise BloodcellError(f"no such folder: {root}; give an existing one with data.root=DIR")
    if not (folders := visible_folders(root)):
        raise BloodcellError(f"no class folders in {root}; it should hold one folder of images per class")
    files = {folder: list(visible_files(folder)) for folder in folders}
    found = {folder: _images(folder, inside) for folder, inside in files.items()}
    full = [folder for folder in folders if found[folder]]
    nested = [folder for folder in full if all(inner for _, inner in found[folder])]
    _check_names(root, full, nested, split)
    _check_inner(root, full, nested, found)
    _check_inner_splits(root, found, split)
    _say_unread(root, files, found)
    return [(file, folder.name, split or split_of(inner), "") for folder in full for file, inner in found[folder]]


def _images(folder: Path, files: list[Path]) -> list[tuple[Path, str]]:
    """Return the images of a class, each with the folder below the class folder that it is in, without masks."""
    images = [(file, file.relative_to(folder).parts[:-1]) for file in files if is_image(file)]
    stems = {file.with_suffix("") for file, _ in images}
    return [
        (file, parts[0] if parts else "")
        for file, parts in images
        if file.with_name(image_of_mask(file.stem) or "?") not in stems and not any(map(is_of_masks, parts))
    ]


def _check_names(root: Path, full: list[Path], nested: list[Path], split: str) -> None:
    """Refuse folders that are no classes by their names, and a single folder that holds others."""
    parts = [folder for folder in full if split_of(folder.name)]
    odd = [folder for folder in full if kind_of(folder.name)]
    odd = odd or (parts if len(parts) > 1 or parts == full or set(parts) & set(nested) else [])
    kinds = dict.fromkeys(kind_of(folder.name) or "parts of a data set" for folder in odd)
    if not odd and len(full) == len(nested) == 1 and split in ("", "train"):
        odd, kinds = full, {"what holds the class folders": ""}
    if not odd:
        return
    rest = [folder for folder in nested if not is_of_masks(folder.name)]
    if len(odd) < len(full):
        advice = f"move it out of {root}"
    elif not rest:
        advice = "put the images into one folder per class"
    elif len(rest) > 1 and odd == parts:
        advice = f"give data.root={root}"
    elif len(rest) == 1 or any(split_of(inner.name) for inner in visible_folders(rest[0])):
        advice = f"give {f'data.{split}_dir' if split else 'data.root'}={rest[0]}"
    else:
        advice = f"read them as data sets: {_joined(rest)}"
    raise BloodcellError(f"{_listed(odd)} in {root}: no class, but by the name {' and '.join(kinds)}; {advice}")


def _joined(folders: list[Path]) -> str:
    """Return how to train on several data sets and to test on the last."""
    names = ",".join(map(written, map(str, folders)))
    return f"data=joint 'data.sets=[{names}]', with data.leave_out={folders[-1].name} to test on one"


def _check_inner(root: Path, full: list[Path], nested: list[Path], found: _Found) -> None:
    """Refuse folders that hold the same folders of words, or parts with folders: they may be data sets.

    If the same folders may be patients, slides or magnifications, a line says which are the classes.
    """
    if len(full) < 2 or nested != full:
        return
    deep = {folder / inner for folder in full for _, inner in found[folder] if split_of(inner)}
    deep = {folder for folder in deep if visible_folders(folder)}
    inside = Counter(name for folder in full for name in {folded(inner) for _, inner in found[folder]})
    names = sorted(name for name in inside if not (split_of(name) or kind_of(name)))
    shared = [name for name in names if inside[name] > 1 and not any(map(str.isdigit, name))]
    if len(shared) > 1 or deep:
        raise BloodcellError(
            f"{_listed(full)} in {root} hold {', '.join(shared[:5]) or 'parts with folders'}: which are the classes? "
            f"If the inner ones, {_joined(full)}; if the outer ones, list the images: data=table"
        )
    if names:
        say(f"note: {root}: the classes are {_listed(full)}, and not the folders in them, {', '.join(names[:5])}")


def _check_inner_splits(root: Path, found: _Found, split: str) -> None:
    """Refuse class folders of which only some images are in a folder for a split, or in two for one split."""
    places = {(folder, inner) for folder, images in found.items() for _, inner in images}
    parts = {(folder, inner) for folder, inner in places if split_of(inner)}
    twice = Counter((folder, split_of(inner)) for folder, inner in parts)
    if parts and (split or parts < places or max(twice.values()) > 1):
        folder, inner = min(parts)
        raise BloodcellError(
            f"{folder.name}/{inner} in {root}: a folder for a part inside a class, but not every image is in one, or "
            "two mean one part; give every class folder train, val and test, or none"
        )


def _say_unread(root: Path, files: dict[Path, list[Path]], found: _Found) -> None:
    """Print one line on what is not read.

    Raises:
        BloodcellError: A class folder holds files, but none that is read.
    """
    if lost := [one for one in files if files[one] and not found[one] and not is_of_masks(one.name)]:
        seen = endings_of(file for file in files[lost[0]] if not is_image(file)) or "masks alone"
        raise BloodcellError(
            f"class folder {_listed(lost)} in {root} has no image that can be read, but {seen}; convert them to PNG, "
            "add the right ending, or move the folder away"
        )
    images = {file for inside in found.values() for file, _ in inside}
    unread = [file for inside in files.values() for file in inside if file not in images]
    masks, loose = sum(map(is_image, unread)), endings_of(file for file in visible_entries(root) if not file.is_dir())
    stems = Counter(file.with_suffix("") for file in images)
    alike = sorted(stem.relative_to(root).as_posix() for stem, count in stems.items() if count > 1)
    said = [
        counted(masks, "mask") if masks else "",
        endings_of(file for file in unread if not is_image(file)),
        f"in no class folder {loose}" if loose else "",
        f"empty class folders: {empty}" if (empty := _listed([one for one in files if not files[one]])) else "",
    ]
    if any(said):
        say(f"note: {root}: not read: {'; '.join(filter(None, said))}")
    if alike:
        say(f"note: {root}: {len(alike):,} pairs of images differ in the ending alone, e.g. {alike[0]}; is one a mask?")
