"""The verb `evaluate`: from checkpoints or files of predictions to a folder of results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.audit.overlap import overlap_warning, trained_sources, training_samples
from bloodcell.data.classes import spelt_as
from bloodcell.data.image_check import check_images, without_bad
from bloodcell.data.known_sources import with_kept_sources
from bloodcell.data.readers import load_samples
from bloodcell.data.samples import Samples, read_samples
from bloodcell.evaluation.external import evaluate_files
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import chosen_splits, record_test_reads, write_evaluation
from bloodcell.inference.engine import Engine
from bloodcell.inference.features import build_extractor
from bloodcell.inference.loader import load_members
from bloodcell.inference.predict_splits import judge_splits, predict_splits
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.config import cache_root, job_folder, listed, plain
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device
from bloodcell.runtime.launcher import count_of, launch


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate in the folder that Hydra chose."""
    folder = job_folder("evaluate")
    launch(count_of(cfg.devices, str(cfg.device)), folder=folder)
    return evaluate(cfg, folder)


def evaluate(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Evaluate one checkpoint, or the mean of several; architecture, classes and preprocessing are each one's own.

    With `predictions`, a file of predictions is evaluated in place of a checkpoint. With `compare`, the first of
    several is compared with each of the others.

    Args:
        cfg: The configuration that `conf/evaluate.yaml` composes.
        folder: Where predictions, metrics, reports and figures go; a new one.

    Returns:
        The content of metrics.json.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    from bloodcell.models.batch_norm_adaptation import check_adapt, require_own_statistics

    config = plain(cfg)
    check_choices(config)
    if config["predictions"] is not None:
        return distributed.once(lambda: evaluate_files(config, folder))
    adapts = check_adapt(config["adapt"])
    members = load_members(config["checkpoint"])
    if adapts:
        for one in members.values():
            require_own_statistics(one.trained() if isinstance(one, Engine) else one)
    device, cache = best_device(config["device"]), cache_root(config["cache"]["root"])
    extractors = {
        checkpoint: build_extractor(config, cache, classifier, config["tta"], device, config["workers"])
        for checkpoint, classifier in members.items()
        if not isinstance(classifier, Engine)
    }
    first = next(iter(members))
    whole, samples, splits = distributed.once(lambda: _samples(config, first, members[first].classes, cache, folder))
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

    def write() -> dict[str, Any]:
        record_test_reads(cache, samples, splits, members)
        paths = [str(checkpoint.absolute()) for checkpoint in members]
        record = {"checkpoint": paths if len(paths) > 1 else paths[0], "tta": config["tta"], "adapt": config["adapt"]}
        trained_on = trained_sources(whole, training.values())
        return write_evaluation(
            config, folder, predicted, record, trained_on=trained_on, root=samples.root, origin=_origin(config, members)
        )

    return distributed.once(write)


def check_choices(config: dict[str, Any]) -> None:
    """Check that the choices of `conf/evaluate.yaml` go together.

    Raises:
        BloodcellError: They do not.
    """
    files, checkpoints = config["predictions"], config["checkpoint"]
    if (files is None) == (checkpoints is None):
        given = "neither is" if files is None else "both are"
        raise BloodcellError(f"{given} given: choose checkpoint=RUN, or predictions=FILE.csv of any system")
    made = {"tta": config["tta"] != "none", "adapt": config["adapt"] != "none", "data": "reader" in config["data"]}
    if files is not None and any(made.values()):
        extra = ", ".join(f"{name}=..." for name, chosen in made.items() if chosen)
        raise BloodcellError(f"predictions={files} are made and labelled already; leave out {extra}")
    if config["compare"] not in (True, False):
        raise BloodcellError(f"compare={config['compare']}; choose true or false")
    if config["compare"] and len(listed(files) or listed(checkpoints)) < 2:
        raise BloodcellError("compare=true needs two or more: checkpoint=[A,B], or predictions=[A.csv,B.csv]")
    if len(listed(files)) > 1 and not config["compare"]:
        raise BloodcellError("several files of predictions are compared, not averaged; add compare=true, or give one")


def _samples(
    config: dict[str, Any], checkpoint: Path, classes: list[str], cache: Path, folder: Path
) -> tuple[Samples, Samples, list[str]]:
    """Make the folder and return all samples, the readable ones to evaluate, and the names of their splits."""
    whole = _all_samples(config, checkpoint, cache)
    splits = chosen_splits(whole, config["splits"])
    samples = spelt_as(whole.of_split(*splits), classes)
    run_folder.refuse_used(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with progress("checking images") as advance:
        bad = check_images(samples, cache, advance)
    policy = config["data"].get("on_bad_image") or "error"
    return whole, without_bad(samples, bad, policy, folder / "bad_images.csv"), splits


def _all_samples(config: dict[str, Any], checkpoint: Path, cache: Path) -> Samples:
    """Return the run's own samples, or those of another data set, in which an image without a split is a test image."""
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


def adapt_members(extractors: dict[Path, Any], samples: Samples, device: str) -> None:
    """Give each net the batch-norm statistics of the images, without their labels, and print how many there were."""
    from bloodcell.models.batch_norm_adaptation import adapt_to_files

    for extractor in extractors.values():

        def adapted(extractor: Any = extractor) -> tuple[int, dict[str, Any]]:
            count = adapt_to_files(extractor.net, samples.paths(), extractor.preprocessing, extractor.threads, device)
            return count, {name: value.cpu() for name, value in extractor.net.state_dict().items()}

        count, state = distributed.once(adapted)
        extractor.net.load_state_dict(state)
    say(f"batch norm has the statistics of {count:,} of these images, without their labels (adapt=batch_norm)")


def _origin(config: dict[str, Any], members: dict[Path, Any]) -> Origin:
    """Return how the members' predictions were made."""
    notes = [f"{name}={config[name]}" for name in ("tta", "adapt") if config[name] != "none"]
    if len(members) > 1:
        notes.append(f"the mean of {len(members)} classifiers; the metrics of each are in members.csv")
        return Origin(", ".join(map(str, members)), notes=tuple(notes))
    ((checkpoint, classifier),) = members.items()
    if isinstance(classifier, Engine):
        return Origin(str(checkpoint), None, classifier.temperature, tuple(notes))
    return Origin(str(checkpoint), classifier, classifier.net.temperature, tuple(notes))


def warn_of_overlap(samples: Samples, training: dict[Path, Samples | None], moved: bool) -> None:
    """Warn if a member was trained on images that are evaluated, or if that cannot be known.

    Args:
        samples: The samples that are evaluated.
        training: Checkpoint -> the samples that it was trained on.
        moved: The samples are the first run's own, whose folder may lie elsewhere by now.
    """
    own = next(iter(training.values()))
    recorded = Samples(samples.table, own.root) if moved and own else samples
    if message := overlap_warning(recorded, training):
        print(f"warning: {message}", file=sys.stderr)
    unknown = [str(checkpoint) for checkpoint, known in training.items() if known is None]
    if unknown and len(training) > 1:
        print(f"warning: no run folder says what {', '.join(unknown)} was trained on", file=sys.stderr)
