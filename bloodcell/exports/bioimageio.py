"""The package of an exported classifier for the BioImage Model Zoo, checked by the zoo's own programs."""

from __future__ import annotations

import gc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.exports.cover import cover
from bloodcell.inference.exported.metadata import INPUT, UNLIKE, About
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest
from bloodcell.runtime.run_folder import EXPORTED
from bloodcell.runtime.schema.publication import Publication

Array = np.ndarray[Any, np.dtype[Any]]

CARD, COVER, DESCRIPTION = "README.md", "cover.png", "rdf.yaml"
TAGS = (
    "transmission-light-microscopy", "2d", "cells", "pytorch", "image-classification", "onnx", "blood-cells",
    "haematology", "bloodcell",
)  # fmt: skip
SEED = 0


def require_bioimageio() -> None:
    """Refuse to export where the zoo's programs are missing."""
    if find_spec("bioimageio") is None or find_spec("bioimageio.core") is None:
        raise BloodcellError("format=bioimageio needs bioimageio.core: pip install 'bloodcell[bioimageio]'")


def write_package(folder: Path, file: Path, about: About, publication: Publication) -> None:
    """Complete a folder that has `EXPORTED` and `CARD`, and write it as the package `file` once it passes the tests.

    The test tensors and the cover are of painted cells: no image of a data set goes into the package.

    Args:
        folder: The folder, which gets the description, the test tensors and the cover.
        file: The zip file.
        about: The description in the ONNX file.
        publication: Its title, authors, licence and citations.

    Raises:
        BloodcellError: The zoo's programs refuse the description, or the test tensors do not come out again.
    """
    import onnx

    image = paint_photograph(CLASSES[0], np.random.default_rng(SEED))[0]
    outputs = _test_tensors(folder, image)
    cover(image, about.classes, outputs["probabilities"][0], folder / COVER)
    version = onnx.load(folder / EXPORTED, load_external_data=False).opset_import[0].version
    content = _content(folder, about, publication, outputs, version)
    with _quiet():
        _write_description(content, folder)
        _test(content, folder)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for one in sorted(folder.iterdir()):
            package.write(one, one.name)


def _test_tensors(folder: Path, image: Array) -> dict[str, Array]:
    """Write input and outputs as .npy files, and return the outputs by name, in the graph's order."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / EXPORTED, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]

    def run(images: Array) -> dict[str, Array]:
        return dict(zip(names, session.run(names, {INPUT: images}), strict=True))

    images = images_to_test(run, image)
    outputs = run(images)
    for name, tensor in {INPUT: images, **outputs}.items():
        np.save(folder / f"{name}.npy", tensor, allow_pickle=False)
    return outputs


def images_to_test(run: Callable[[Array], dict[str, Array]], image: Array) -> Array:
    """Return an image of a cell and, if the classifier does not flag it as unlike the training data, one that it flags.

    The zoo refuses outputs that are 0 everywhere, and so an output that flags none.

    Args:
        run: From uint8 images (N, H, W, 3) to the outputs by name.
        image: Of a cell, uint8 (H, W, 3).
    """
    cell = image[None]
    if run(cell).get(UNLIKE, np.array([True])).any():
        return cell
    noise = np.random.default_rng(SEED).integers(0, 256, image.shape).astype(np.uint8)
    pairs = [np.stack([image, other]) for other in (255 - image, noise, np.zeros_like(image))]
    return next((pair for pair in pairs if run(pair)[UNLIKE].any()), cell)


def _content(
    folder: Path, about: About, publication: Publication, outputs: dict[str, Array], opset: int
) -> dict[str, Any]:
    from bioimageio.spec.model.v0_5 import ModelDescr

    def described(name: str) -> dict[str, str]:
        return {"source": name, "sha256": file_digest(folder / name)}

    return {
        "type": "model",
        "format_version": ModelDescr.implemented_format_version,
        "name": publication.title,
        "description": f"Sorts images of single white blood cells into {len(about.classes)} classes. "
        "Not a medical device.",
        "authors": [_without_none(asdict(author)) for author in publication.authors],
        "cite": [_without_none(asdict(work)) for work in publication.cite],
        "license": publication.license,
        "tags": list(TAGS),
        "documentation": described(CARD),
        "covers": [described(COVER)],
        "inputs": [_input(described(f"{INPUT}.npy"))],
        "outputs": [_output(name, tensor, about, described(f"{name}.npy")) for name, tensor in outputs.items()],
        "weights": {"onnx": {**described(EXPORTED), "opset_version": opset}},
        "config": {"bloodcell": {"version": about.release, "checkpoint_sha256": about.source[0]}},
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _input(test_tensor: dict[str, str]) -> dict[str, Any]:
    """Return the description of the graph's input: images of any size, which the graph itself resizes."""
    sides = [{"type": "space", "id": side, "size": {"min": 16, "step": 1}} for side in ("y", "x")]
    return {
        "id": INPUT,
        "description": "RGB, upright, one white cell in each image",
        "axes": [{"type": "batch"}, *sides, {"type": "channel", "channel_names": ["red", "green", "blue"]}],
        "data": {"type": "uint8", "range": [0, 255]},
        "test_tensor": test_tensor,
    }


def _output(name: str, tensor: Array, about: About, test_tensor: dict[str, str]) -> dict[str, Any]:
    batch = {"type": "batch"}
    classes = {"type": "channel", "channel_names": about.classes}
    axes, data, words = {
        "probabilities": ([batch, classes], {"type": "float32", "range": [0, 1]}, "Calibrated, of each class"),
        "logits": ([batch, classes], {"type": "float32"}, "Before the temperature and the softmax"),
        "features": ([batch, {"type": "index", "size": tensor.shape[-1]}], {"type": "float32"}, "Input of the head"),
        UNLIKE: ([batch], {"type": "bool", "values": [False, True]}, "The image is unlike the training data"),
    }[name]
    return {"id": name, "description": words, "axes": axes, "data": data, "test_tensor": test_tensor}


def _write_description(content: dict[str, Any], folder: Path) -> None:
    """Write the description if it is one of the zoo; names of people and addresses are not looked up on the net."""
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description, save_bioimageio_yaml_only

    with ValidationContext(root=folder, perform_io_checks=False):
        description = build_description(content)
        if not isinstance(description, InvalidDescr):
            save_bioimageio_yaml_only(description, folder / DESCRIPTION)
    _require_passed(description, "refuses the description", "valid-format")


def _test(content: dict[str, Any], folder: Path) -> None:
    """Run the checks of `bioimageio test` that need no net."""
    from bioimageio.core import load_description_and_test
    from bioimageio.spec import ValidationContext

    offline = {**content, "authors": [{"name": one["name"]} for one in content["authors"]], "cite": []}
    with ValidationContext(root=folder):
        _require_passed(load_description_and_test(offline), "fails the test of the package", "passed")


def _require_passed(description: Any, what: str, wanted: str) -> None:
    summary = description.validation_summary
    if summary.status == wanted:
        return
    errors = [error for detail in summary.details for error in detail.errors]
    first = summary.status
    if errors:
        key = "title" if errors[0].loc == ("name",) else ".".join(map(str, errors[0].loc))
        first = f"{key}: {errors[0].msg}"
    raise BloodcellError(f"bioimageio {what} ({' '.join(first.split())[:200]}); nothing is written")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the zoo's programs from printing, as what is wrong is raised, and close the files that they leave open."""
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        logger.enable("bioimageio")
