"""Evaluating: from a checkpoint and images to a predictions table and what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from bloodcell.audit.overlap import overlap_warning, trained_sources, training_samples
from bloodcell.data.classes import spelt_as
from bloodcell.data.image_check import check_images, without_bad
from bloodcell.data.known_sources import with_kept_sources
from bloodcell.data.readers import load_samples
from bloodcell.data.samples import Samples, read_samples
from bloodcell.evaluation.comparison import compare, compares
from bloodcell.evaluation.external import judge, judges
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import chosen_splits, conclude, record_test_reads
from bloodcell.inference.engine import Engine
from bloodcell.inference.features import build_extractor
from bloodcell.inference.loader import load_members
from bloodcell.inference.predict_splits import judge_splits, predict_splits
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.config import cache_root, job_folder, plain
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device
from bloodcell.runtime.io import write_json
from bloodcell.runtime.launcher import count_of, launch


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate in the folder that Hydra chose."""
    folder = job_folder("evaluate")
    launch(count_of(cfg.devices, str(cfg.device)), folder=folder)
    return evaluate(cfg, folder)


def evaluate(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Evaluate one checkpoint, or the mean of several; architecture, classes and preprocessing are each one's own.

    With `predictions`, a file of predictions is evaluated in place of a checkpoint. With `compare`, several of either
    are judged beside each other.

    Args:
        cfg: The configuration that `conf/evaluate.yaml` composes.
        folder: Where predictions, metrics, reports and figures go; a new one.

    Returns:
        The content of metrics.json; with `compare`, the figures by checkpoint or file.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    from bloodcell.models.batch_norm_adaptation import check_adapt, require_own_statistics

    config = plain(cfg)
    if judges(config):
        return distributed.once(lambda: judge(config, folder))
    compares(config)  # an odd choice is refused before anything is computed
    adapts = check_adapt(config["adapt"])
    members = load_members(config["checkpoint"])
    first = next(iter(members))
    if adapts:
        for one in members.values():
            require_own_statistics(one.trained() if isinstance(one, Engine) else one)
    device = best_device(config["device"])
    cache = cache_root(config["cache"]["root"])
    extractors = {
        checkpoint: build_extractor(config, cache, classifier, config["tta"], device, config["workers"])
        for checkpoint, classifier in members.items()
        if not isinstance(classifier, Engine)
    }
    whole, samples, splits = distributed.once(lambda: _checked(config, first, members[first].classes, cache, folder))
    if adapts:
        adapt_members(extractors, samples, device)
    training = {checkpoint: training_samples(checkpoint) for checkpoint in members}
    distributed.once(lambda: warn_of_overlap(samples, training, moved="reader" not in config["data"]))
    predicted = {
        checkpoint: predict_splits(extractors[checkpoint], classifier.classes, samples, splits)
        if checkpoint in extractors
        else judge_splits(classifier, samples, splits, config["tta"], config["workers"])
        for checkpoint, classifier in members.items()
    }
    return distributed.once(lambda: _written(config, members, predicted, training, whole, samples, splits, folder))


def _checked(
    config: dict[str, Any], checkpoint: Path, classes: list[str], cache: Path, folder: Path
) -> tuple[Samples, Samples, list[str]]:
    """Make the folder and return all samples, those to evaluate that can be read, and the names of their parts."""
    whole = _samples(config, checkpoint, cache)
    splits = chosen_splits(whole, config["splits"])
    samples = spelt_as(whole.of_split(*splits), classes)
    run_folder.refuse_used(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with progress("checking images") as advance:
        bad = check_images(samples, cache, advance)
    policy = config["data"].get("on_bad_image") or "error"
    return whole, without_bad(samples, bad, policy, folder / "bad_images.csv"), splits


def _written(
    config: dict[str, Any],
    members: dict[Path, Any],
    predicted: dict[Path, list[pd.DataFrame]],
    training: dict[Path, Samples | None],
    whole: Samples,
    samples: Samples,
    splits: list[str],
    folder: Path,
) -> dict[str, Any]:
    """Write what the members' predictions come to, and return it: what `evaluate` does."""
    cache, beside = cache_root(config["cache"]["root"]), compares(config)
    for checkpoint in members:
        record_test_reads(cache, samples, splits, checkpoint)
    trained_on = trained_sources(whole, training.values())
    if beside:
        metrics = compare({checkpoint: tables[0] for checkpoint, tables in predicted.items()}, folder, trained_on)
    else:
        origin = _origin(config, members)
        metrics = conclude(predicted, folder, config["figures"], trained_on, samples.root, origin)
    absolute = [str(checkpoint.absolute()) for checkpoint in members]
    record = {
        "checkpoint": absolute if len(absolute) > 1 else absolute[0],
        "tta": config["tta"],
        "adapt": config["adapt"],
        "compare": beside,
    }
    write_json({**record, "command": run_folder.command()}, folder / "evaluation.json")
    say(f"results in {folder}")
    return metrics


def adapt_members(extractors: dict[Path, Any], samples: Samples, device: str) -> None:
    """Give each net the batch-norm statistics of the images, of which no label is used, and say so."""
    from bloodcell.models.batch_norm_adaptation import adapt_to_files

    for extractor in extractors.values():

        def adapted(extractor: Any = extractor) -> tuple[int, dict[str, Any]]:
            count = adapt_to_files(extractor.net, samples.paths(), extractor.preprocessing, extractor.threads, device)
            return count, {name: value.cpu() for name, value in extractor.net.state_dict().items()}

        count, state = distributed.once(adapted)
        extractor.net.load_state_dict(state)
    say(f"batch norm has the statistics of {count:,} of these images, without their labels (adapt=batch_norm)")


def _origin(config: dict[str, Any], members: dict[Path, Any]) -> Origin | None:
    """Return how the members' predictions come about; None where no page is wanted."""
    if not config["report"]:
        return None
    notes = [f"{name}={config[name]}" for name in ("tta", "adapt") if config[name] != "none"]
    if len(members) > 1:
        notes.append(f"the mean of {len(members)} classifiers; the figures of each are in members.csv")
        return Origin(", ".join(map(str, members)), notes=tuple(notes))
    ((checkpoint, classifier),) = members.items()
    if isinstance(classifier, Engine):
        return Origin(str(checkpoint), None, classifier.temperature, tuple(notes))
    return Origin(str(checkpoint), classifier, classifier.net.temperature, tuple(notes))


def warn_of_overlap(samples: Samples, training: dict[Path, Samples | None], moved: bool) -> None:
    """Warn where some member was trained on what is evaluated, or where that cannot be known.

    Args:
        samples: What is evaluated.
        training: Checkpoint -> what it was trained on.
        moved: The samples are the first run's own, whose folder may lie elsewhere by now.
    """
    own = next(iter(training.values()))
    recorded = Samples(samples.table, own.root) if moved and own else samples
    if message := overlap_warning(recorded, training):
        print(f"warning: {message}", file=sys.stderr)
    unknown = [str(checkpoint) for checkpoint, known in training.items() if known is None]
    if unknown and len(training) > 1:
        print(f"warning: no run folder says what {', '.join(unknown)} was trained on", file=sys.stderr)


def _samples(config: dict[str, Any], checkpoint: Path, cache: Path) -> Samples:
    """Return the run's own samples, or those of another data set, where an image without a split is a test image."""
    if "reader" in config["data"]:
        samples = with_kept_sources(load_samples(config["data"]), cache)
        table = samples.table.assign(split=samples.table["split"].replace("", "test"))
        return Samples(table, samples.root)
    run = run_folder.run_of(checkpoint)
    if run is None or not (run / "samples.csv").is_file():
        raise BloodcellError(
            f"{checkpoint} lies in no run folder, so its images are unknown; name some: data=imagefolder data.root=DIR"
        )
    samples = read_samples(run / "samples.csv", config["data"]["root"])
    if not samples.root.is_dir():
        raise BloodcellError(f"the run's images are no longer in {samples.root}; say where with data.root=DIR")
    return samples
