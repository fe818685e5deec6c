"""Evaluating: from a checkpoint and images to a predictions table and what is said of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from omegaconf import DictConfig

from bloodcell import runs
from bloodcell.audit.keeping import with_kept_sources
from bloodcell.building import build_extractor
from bloodcell.config import cache_root, check_types, plain
from bloodcell.console import progress, say
from bloodcell.data.check import check_images, without_bad
from bloodcell.data.classes import spelt_as
from bloodcell.data.readers import load_samples
from bloodcell.data.samples import Samples, digest, read_samples
from bloodcell.errors import BloodcellError
from bloodcell.evaluation.by_source import lines
from bloodcell.evaluation.outputs import write_evaluation
from bloodcell.evaluation.predictions import predictions_table
from bloodcell.files import write_json
from bloodcell.machine import best_device


def run(cfg: DictConfig) -> dict[str, float]:
    """Evaluate in the folder that Hydra chose."""
    from hydra.core.hydra_config import HydraConfig

    job = HydraConfig.get()
    check_types("evaluate", list(job.overrides.task))
    return evaluate(cfg, Path(job.runtime.output_dir))


def evaluate(cfg: DictConfig, folder: Path) -> dict[str, float]:
    """Evaluate one checkpoint; architecture, classes and preprocessing are the checkpoint's own.

    Args:
        cfg: The configuration that `conf/evaluate.yaml` composes.
        folder: Where predictions, metrics, reports and figures go; a new one.

    Returns:
        The content of metrics.json.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    from bloodcell.data.transforms import Preprocessing
    from bloodcell.models.classifier import load_classifier

    config = plain(cfg)
    checkpoint = runs.checkpoint_of(Path(config["checkpoint"]).expanduser())
    classifier = load_classifier(checkpoint)
    device = best_device(config["device"])
    cache = cache_root(config["cache"]["root"])
    samples = _samples(config, checkpoint, cache)
    trained_on = training_sources(checkpoint)
    splits = chosen_splits(samples, config["splits"])
    samples = samples.of_split(*splits)
    samples = spelt_as(samples, classifier.classes)
    runs.refuse_used(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with progress("checking images") as report:
        bad = check_images(samples, cache, report)
    policy = config["data"].get("on_bad_image") or "error"
    samples = without_bad(samples, bad, policy, folder / "bad_images.csv")

    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    extractor = build_extractor(config, cache, classifier, preprocessing, device, config["workers"])
    predictions = predict_splits(extractor, classifier.classes, samples, splits)
    record_test_reads(cache, samples, splits, checkpoint)
    metrics = write_evaluation(predictions, folder, config["figures"], trained_on)
    write_json(metrics, folder / "metrics.json")
    write_json({"checkpoint": str(checkpoint.absolute()), "command": runs.command()}, folder / "evaluation.json")
    for line in lines(metrics):
        say(line)
    say(f"results in {folder}")
    return metrics


def training_sources(checkpoint: Path) -> frozenset[str]:
    """Return the sources that a checkpoint was trained on; none where its run folder is not there."""
    run_folder = runs.run_of(checkpoint)
    if run_folder is None or not (run_folder / "samples.csv").is_file():
        return frozenset()
    return read_samples(run_folder / "samples.csv").of_split("train").source_names()


def _samples(config: dict[str, Any], checkpoint: Path, cache: Path) -> Samples:
    """Return the run's own samples, or those of another data set, where an image without a split is a test image."""
    if "reader" in config["data"]:
        samples = with_kept_sources(load_samples(config["data"]), cache)
        table = samples.table.assign(split=samples.table["split"].replace("", "test"))
        return Samples(table, samples.root)
    run_folder = runs.run_of(checkpoint)
    if run_folder is None or not (run_folder / "samples.csv").is_file():
        raise BloodcellError(
            f"{checkpoint} lies in no run folder, so its images are unknown; name some: data=imagefolder data.root=DIR"
        )
    samples = read_samples(run_folder / "samples.csv", config["data"]["root"])
    if not samples.root.is_dir():
        raise BloodcellError(f"the run's images are no longer in {samples.root}; say where with data.root=DIR")
    return samples


def chosen_splits(samples: Samples, asked: list[str] | None) -> list[str]:
    """Return the splits to evaluate: those asked for, else all but train.

    Raises:
        BloodcellError: One is not there, or none is left.
    """
    present = samples.splits()
    splits = list(asked) if asked else [split for split in present if split != "train"]
    if missing := [split for split in splits if split not in present]:
        raise BloodcellError(f"splits={missing} are not in the data; it has {', '.join(present)}")
    if not splits:
        raise BloodcellError("the data has only a train part; evaluate it with splits=[train]")
    return splits


def predict_splits(extractor: Any, classes: list[str], samples: Samples, splits: list[str]) -> pd.DataFrame:
    """Return the predictions table of some splits.

    Args:
        extractor: The `Extractor` of the classifier's net.
        classes: The classifier's classes.
        samples: The samples.
        splits: Which of them.
    """
    part = samples.of_split(*splits)
    with progress("predicting") as report:
        probabilities = extractor.probabilities(part, report)
    return predictions_table(part.table, classes, probabilities)


def record_test_reads(cache: Path, samples: Samples, splits: list[str], by: Path) -> None:
    """Append each reading of a test part to test_reads.csv, so that a user sees how often it was looked at.

    Args:
        cache: The cache root.
        samples: The samples.
        splits: Which parts were read.
        by: The run folder or checkpoint that read them.
    """
    rows = []
    for split in splits:
        if split.startswith("test"):
            part = samples.of_split(split)
            rows.append(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "split": split,
                    "images": len(part.table),
                    "digest": digest(part),
                    "root": str(part.root.absolute()),
                    "by": str(by.absolute()),
                    "command": runs.command(),
                }
            )
    file = cache / "test_reads.csv"
    with FileLock(cache / ".test_reads.lock"):
        pd.DataFrame(rows).to_csv(file, mode="a", index=False, header=not file.exists()) if rows else None
