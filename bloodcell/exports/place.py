"""Where an exported classifier goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError

CARD = "README.md"
#: Files of an exported folder. One with others is nobody's to replace.
FOLDER_FILES = frozenset((run_folder.EXPORTED, run_folder.LABELS, CARD))


def card_of(file: Path) -> Path:
    """Return where the model card of an exported file is."""
    if file.suffix == ".ckpt":  # the package's reader, whose card stands beside it in the package
        return file.with_suffix(".md")
    return file.with_name(f"{file.name}.md")


def output_place(output: Any, checkpoint: Path, ending: str, alone: bool, overwrite: bool) -> Path:
    """Return where the export goes: `output`, else the folder `exported` of the run, else beside the checkpoint.

    Args:
        output: The setting.
        checkpoint: The checkpoint.
        ending: Of the file; '' if it is a folder.
        alone: Whether the file has a model card beside it.
        overwrite: Whether what is there may be replaced.

    Raises:
        BloodcellError: The folder around it is not there, the name has another ending, or something is there already.
    """
    place = _named(output, checkpoint, ending)
    if not place.parent.is_dir():
        raise BloodcellError(f"there is no folder {place.parent}; make it, or choose another output")
    there = [path for path in ([place, card_of(place)] if alone else [place]) if path.exists() or path.is_symlink()]
    if there and not overwrite:
        raise BloodcellError(f"{there[0]} is there already; choose another output, or overwrite=true")
    if there and not ending:
        _require_ours(place)
    return place


def _named(output: Any, checkpoint: Path, ending: str) -> Path:
    run = run_folder.run_of(checkpoint)
    if output is not None:
        place = Path(str(output)).expanduser()
    elif run:
        run_folder.refuse_links(run)
        place = run / "exported" / f"model{ending}"
        place.parent.mkdir(exist_ok=True)
    else:
        place = checkpoint.with_suffix(ending)
    if ending and (place.suffix.lower() != ending or place.is_dir()):
        raise BloodcellError(f"output={output} names no {ending} file, which this format has; give output=FILE{ending}")
    if not ending and (place.is_file() or place.suffix.lower() in (".onnx", ".pt2", ".zip")):
        raise BloodcellError(f"{place} is no folder, and this format is one; give output=FOLDER")
    return place


def _require_ours(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an export."""
    others = [] if folder.is_symlink() else sorted({path.name for path in folder.iterdir()} - FOLDER_FILES)
    if folder.is_symlink() or others:
        what = f"holds {others[0]}, which no export wrote" if others else "is a link"
        raise BloodcellError(f"{folder} {what}, so it is not replaced; choose another output")
