"""Loading trained classifiers: run folders, checkpoints and exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloodcell.inference import reader
from bloodcell.inference.answers import chosen_classes
from bloodcell.inference.engine import Engine, engine_of
from bloodcell.inference.exported.model_folder import check_labels
from bloodcell.inference.features import features_root
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import listed
from bloodcell.runtime.console import named, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.data import INT8, FeaturesConfig


def load_engines(
    given: Any,
    device: str,
    features: FeaturesConfig | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    classes: Any = None,
) -> list[Engine]:
    """Load one classifier, or several of the same classes.

    Args:
        given: A run folder, a .ckpt file, an exported file or folder, or a list of them.
        device: Where to compute; exported files ignore it and `features`.
        features: The `features` group; None: its defaults.
        cache: The cache root, for the features of frozen backbones; None: they are not kept.
        workers: Decoding threads; None: one per core.
        classes: Names of those that may be answered, in any spelling; None: all.

    Raises:
        BloodcellError: A checkpoint is missing, damaged or named twice, the classes differ, or a name is none of them.
    """
    paths = [Path(str(one)).expanduser() for one in listed(given)]
    files = [run_folder.checkpoint_of(path) for path in paths]
    if not files:
        raise BloodcellError("checkpoint=[] names nothing; give run folders, .ckpt or .onnx files")
    if len({file.resolve() for file in files}) < len(files):
        raise BloodcellError(f"checkpoint: one is named twice in {', '.join(map(str, files))}; name each once")
    chosen = features or FeaturesConfig()
    if chosen.precision == INT8:
        raise BloodcellError(
            "features.precision=int8 is for training; here, give a file in integers: bloodcell export precision=int8"
        )
    with progress("loading the classifier"):
        engines = [_load(file, device, chosen, cache, workers) for file in files]
        for path, engine in zip(paths, engines, strict=True):
            if run_folder.is_exported_folder(path) and engine.classifier is None:
                check_labels(path, engine)
    first, *others = engines
    for other in others:
        if set(other.classes) != set(first.classes):
            known = [f"{one.file} knows {named(sorted(one.classes))}" for one in (first, other)]
            raise BloodcellError(f"only classifiers of the same classes go together: {'; '.join(known)}")
    return engines if classes is None else _answering(engines, chosen_classes(classes, first.classes))


def _answering(engines: list[Engine], classes: list[str]) -> list[Engine]:
    """Return the engines that answer by some classes alone; a line says so."""
    chosen = [engine.answering(classes) for engine in engines]
    if others := chosen[0].left_out:
        say(
            f"only {named(classes)} are answered, not {named(others)} (classes=...); figures and promises of the "
            "classifier, which are of all its classes, do not hold"
        )
    return chosen


def _load(file: Path, device: str, features: FeaturesConfig, cache: Path | None, workers: int | None) -> Engine:
    from bloodcell.inference.exported.onnx_engine import is_exported, load_exported

    if is_exported(file):
        return load_exported(file)
    from bloodcell.models.classifier import load_classifier  # with Lightning, which exported files do not need

    try:
        classifier = load_classifier(file)
    except BloodcellError as error:
        if file != reader.FILE:
            raise
        raise BloodcellError(f"{error}; install the package anew, or name another with checkpoint=...") from error
    root = features_root(features, cache, classifier.finetune.frozen) if cache else None
    backend = classifier.inference.backend if features.backend == "auto" else features.backend
    precision = features.precision or classifier.inference.precision
    return engine_of(classifier, device, backend, precision, file, root, workers)
