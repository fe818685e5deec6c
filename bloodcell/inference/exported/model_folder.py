"""Folders of an exported classifier for the Hugging Face Hub: an ONNX file, and a file that says what it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bloodcell.inference.engine import Engine
from bloodcell.inference.exported.metadata import INPUT, OUTPUTS, UNLIKE, About
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import EXPORTED, LABELS

LARGEST = 4 * 2**20  # bytes of config.json; one with 10,000 classes has 1 MB


def labels_text(about: About) -> str:
    """Return the content of config.json: class names by index, as other libraries write them, and the input."""
    described = {
        "model_type": "bloodcell",
        "architectures": [about.model],
        **_answers(about),
        "num_channels": 3,
        "image_size": about.preprocessing.image_size,
        "onnx": {
            "file": EXPORTED,
            "input": f"{INPUT}: uint8 (N, H, W, 3), RGB, upright, of any size; the graph resizes and normalises",
            "outputs": [*OUTPUTS, UNLIKE] if about.limits else list(OUTPUTS),
        },
        "bloodcell_version": about.release,
    }
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"


def check_labels(folder: Path, engine: Engine) -> None:
    """Refuse a folder whose config.json says otherwise than its ONNX file: one of the two was changed.

    Args:
        folder: The folder, which may be a stranger's.
        engine: What its ONNX file was loaded as.

    Raises:
        BloodcellError: They differ, or config.json cannot be read.
    """
    told = _read(folder / LABELS)
    for key, value in _answers(engine).items():
        if told.get(key) != value:
            raise BloodcellError(
                f"{folder}: {key} in {LABELS} is not that in {EXPORTED}, which is what counts; export the run again"
            )


def _answers(known: About | Engine) -> dict[str, Any]:
    """Return all that its answers depend on besides the graph."""
    return {
        "id2label": {str(index): name for index, name in enumerate(known.classes)},
        "label2id": {name: index for index, name in enumerate(known.classes)},
        "preprocessing": known.preprocessing.as_dict(),
        "temperature": known.temperature,
        "tta": known.tta,
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
        plain = json.loads(content) if len(content) <= LARGEST else None
    except (OSError, ValueError, RecursionError) as error:
        raise BloodcellError(f"{file} cannot be read; download or export the folder again") from error
    if not isinstance(plain, dict):
        raise BloodcellError(f"{file} is no description of a classifier; download or export the folder again")
    return plain
