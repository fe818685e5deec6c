"""Evaluation: from a checkpoint and images to a predictions table and its results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.audits.overlap import overlap_warning, trained_sources, training_samples
from bloodcell.data.classes import with_spelling_of, without_classes
from bloodcell.data.image_check import blank_lines, check_images, white_lines, without_bad_images
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.readers import data_set_name, load_samples
from bloodcell.data.samples import Samples, changes_since, read_samples, with_contents
from bloodcell.evaluation.external import evaluate_files
from bloodcell.evaluation.own_images import folder_within, own_folder
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import (
    chosen_splits,
    recipes_compared,
    record_test_reads,
    test_reads,
    write_evaluation,
)
from bloodcell.inference.adaptation import MOST, adapted, require_own_statistics
from bloodcell.inference.engine import Engine
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict_samples import predict_samples
from bloodcell.inference.tta import as_trained
from bloodcell.metrics.summary import epochs_compared
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.config import cache_root, job_folder, listed, typed, uses_cache
from bloodcell.runtime.console import complain, named, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, decoders
from bloodcell.runtime.launcher import count_of, launch
from bloodcell.runtime.schema.verbs import EvaluateConfig


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate in the folder that Hydra chose."""
    folder = job_folder()
    launch(count_of(cfg.devices, str(cfg.device)), folder=folder)
    return evaluate(cfg, folder)


@uses_cache
def evaluate(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Evaluate one checkpoint, or the mean of several, each with its own architecture, classes and preprocessing.

    With `predictions`, a file of predictions is evaluated in place of a checkpoint. With `compare`, the first of
    several is compared with each of the others.

    Args:
        cfg: The configuration that `conf/evaluate.yaml` composes.
        folder: Where the results go; a new one.

    Returns:
        The content of metrics.json.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    config = typed(cfg, EvaluateConfig)
    check_systems(config)
    if config.predictions is not None:
        return distributed.once(lambda: evaluate_files(config, folder))
    cache = cache_root(config.cache.root)
    device, classes = best_device(config.device), config.classes
    engines = load_engines(config.checkpoint, device, config.features, cache, config.workers, classes)
    if config.adapt == "batch_norm":
        for engine in engines:
            require_own_statistics(engine.trained())
    files = [engine.file for engine in engines if engine.file is not None]
    whole, samples, splits = distributed.once(lambda: _checked(config, files[0], engines[0], cache, folder))
    if config.adapt == "batch_norm":
        engines = [adapted(engine, samples.paths(), decoders(config.workers)) for engine in engines]
        count = min(MOST, len(samples.table))
        say(f"batch norm has the statistics of {count:,} of these images, without their labels (adapt=batch_norm)")
    training = {file: training_samples(file) for file in files}
    distributed.once(lambda: warn_of_overlap(samples, training, moved=config.data.kind == "as_trained"))
    tta = as_trained(config.tta, [engine.tta for engine in engines])
    tables = predict_samples(engines, samples.of_split(*splits), tta, config.workers)
    predicted = dict(zip(files, tables, strict=True))

    def write() -> dict[str, Any]:
        record_test_reads(cache, samples, splits, files)
        paths = [str(file.absolute()) for file in files]
        record = {"checkpoint": paths if len(paths) > 1 else paths[0], "tta": tta, "adapt": config.adapt}
        if engines[0].left_out:
            record["classes"] = engines[0].classes
        trained_on = trained_sources(whole, training.values())
        origin = _origin(config, engines, tta, test_reads(cache, samples, splits), data_set_name(samples))
        named = config.data.root or config.data.kind != "as_trained"
        shows = config.figures or config.report
        root = folder_within(samples, shows) if named else own_folder(whole, cache, shows)
        return write_evaluation(config, folder, predicted, record, trained_on=trained_on, root=root, origin=origin)

    return distributed.once(write)


def check_systems(config: EvaluateConfig) -> None:
    """Check that the choices of `conf/evaluate.yaml` go together.

    Raises:
        BloodcellError: Checkpoint and predictions are both given, or neither; something is asked for that a file of
            predictions holds already; one system is to be compared, or several files of predictions are not.
    """
    files, checkpoints = listed(config.predictions), listed(config.checkpoint)
    if (config.predictions is None) == (config.checkpoint is None):
        given = "neither is" if config.predictions is None else "both are"
        raise BloodcellError(f"{given} given: choose checkpoint=RUN, or predictions=FILE.csv of any system")
    asked = {"tta": config.tta, "adapt": config.adapt, "classes": config.classes}
    made = {name: choice not in (None, "none") for name, choice in asked.items()}
    made["data"] = config.data.kind != "as_trained"
    if files and any(made.values()):
        extra = ", ".join(f"{name}=..." for name, chosen in made.items() if chosen)
        raise BloodcellError(f"predictions={config.predictions} are made and labelled already; leave out {extra}")
    if config.compare and len(files or checkpoints) < 2:
        raise BloodcellError("compare=true needs two or more: checkpoint=[A,B], or predictions=[A.csv,B.csv]")
    if len(files) > 1 and not config.compare:
        raise BloodcellError("several files of predictions are compared, not averaged; add compare=true, or give one")


def _checked(
    config: EvaluateConfig, first: Path, engine: Engine, cache: Path, folder: Path
) -> tuple[Samples, Samples, list[str]]:
    """Make the folder and return all samples, those to evaluate that can be read, and the names of their parts.

    Those of classes that the engine may not answer are not evaluated.
    """
    whole = _samples(config, first, cache)
    splits = chosen_splits(whole, config.splits)
    samples = without_classes(with_spelling_of(whole.of_split(*splits), engine.known), engine.left_out)
    run_folder.begin_results(folder, config)
    with progress("checking images") as advance:
        checked = check_images(samples, cache, advance)
    samples = without_bad_images(samples, checked, config.data.on_bad_image, folder / "bad_images.csv")
    for line in white_lines(checked):
        say(f"note: {line}")
    for line in blank_lines(checked):
        complain(f"warning: {line}")
    return whole, samples, splits


def _origin(config: EvaluateConfig, engines: list[Engine], tta: str, reads: list[str], data: str) -> Origin:
    """Return how the members' predictions were made; `reads` says how often the test parts of `data` were read."""
    asked = {"tta": tta, "adapt": config.adapt}
    notes = [f"{name}={value}" for name, value in asked.items() if value != "none"]
    if engines[0].left_out:
        notes.append(f"only {named(engines[0].classes)} are answered, and only images of these are evaluated")
    files = [engine.file for engine in engines if engine.file is not None]
    notes += [*reads, *dict.fromkeys(line for file in files for line in recipes_compared(run_folder.run_of(file)))]
    compared = math.prod(epochs_compared(run_folder.run_of(file)) for file in files)
    if len(engines) > 1:
        notes.append(f"the mean of {len(engines)} classifiers; the metrics of each are in members.csv")
    made = ", ".join(str(engine.file) for engine in engines)
    origin = Origin(made, notes=tuple(notes), compared=compared, heading=config.report_title, data=data)
    if len(engines) > 1:
        return origin
    (one,) = engines
    return replace(origin, classifier=one.classifier, temperature=one.temperature, preprocessing=one.preprocessing)


def warn_of_overlap(samples: Samples, training: dict[Path, Samples | None], moved: bool) -> None:
    """Warn if a member was trained on images that are evaluated, or if that cannot be known.

    `training` has the samples that each checkpoint was trained on. With `moved`, the samples to evaluate are the first
    run's own, and their folder may have moved since.
    """
    own = next(iter(training.values()))
    recorded = Samples(samples.table, own.root) if moved and own else samples
    if message := overlap_warning(recorded, training):
        complain(f"warning: {message}")
    unknown = [str(checkpoint) for checkpoint, known in training.items() if known is None]
    if unknown and len(training) > 1:
        complain(f"warning: no run folder says what {', '.join(unknown)} was trained on")


def _samples(config: EvaluateConfig, checkpoint: Path, cache: Path) -> Samples:
    """Return the run's own samples, or those of another data set, whose images without a split are test images."""
    if config.data.kind != "as_trained":
        samples = with_saved_sources(load_samples(config.data), cache)
        table = samples.table.assign(split=samples.table["split"].replace("", "test"))
        return Samples(table, samples.root)
    run = run_folder.run_of(checkpoint)
    if run is None or not (run / "samples.csv").is_file():
        raise BloodcellError(
            f"{checkpoint} lies in no run folder, so its images are unknown; name some: data=imagefolder data.root=DIR"
        )
    samples = read_samples(run / "samples.csv", config.data.root)
    if not samples.root.is_dir():
        raise BloodcellError(f"the run's images are no longer in {samples.root}; say where with data.root=DIR")
    present = with_contents(samples, cache)
    if (difference := changes_since(samples, present)) and "have changed" in difference:
        complain(f"warning: {difference}")
    return present
