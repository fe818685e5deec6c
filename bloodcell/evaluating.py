"""Evaluating: from a checkpoint and images to a predictions table and what is said of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from omegaconf import DictConfig

from bloodcell import ranks, runs
from bloodcell.audit.keeping import with_kept_sources
from bloodcell.building import build_extractor
from bloodcell.comparing import compare, compares
from bloodcell.config import cache_root, job_folder, listed, plain
from bloodcell.console import progress, say
from bloodcell.data.check import check_images, without_bad
from bloodcell.data.classes import spelt_as
from bloodcell.data.readers import load_samples
from bloodcell.data.samples import Samples, digest, read_samples
from bloodcell.engine import Engine
from bloodcell.ensemble import load_members, overlap_warning, trained_sources, training_samples
from bloodcell.errors import BloodcellError
from bloodcell.evaluation.by_source import lines
from bloodcell.evaluation.failures import write_failures
from bloodcell.evaluation.gain import write_gain
from bloodcell.evaluation.outputs import write_evaluation, write_members
from bloodcell.evaluation.predictions import averaged, predictions_table
from bloodcell.files import write_atomically, write_json
from bloodcell.jury import GROUP, Jury
from bloodcell.launching import count_of, launch
from bloodcell.machine import best_device
from bloodcell.models.tta import judgement
from bloodcell.reporting import Origin, report


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
    from bloodcell.judging import judge, judges
    from bloodcell.models.adaptation import check_adapt, require_own_statistics

    config = plain(cfg)
    if judges(config):
        return ranks.once(lambda: judge(config, folder))
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
    whole, samples, splits = ranks.once(lambda: _checked(config, first, members[first].classes, cache, folder))
    if adapts:
        adapt_members(extractors, samples, device)
    training = {checkpoint: training_samples(checkpoint) for checkpoint in members}
    ranks.once(lambda: warn_of_overlap(samples, training, moved="reader" not in config["data"]))
    predicted = {
        checkpoint: predict_splits(extractors[checkpoint], classifier.classes, samples, splits)
        if checkpoint in extractors
        else judge_splits(classifier, samples, splits, config["tta"], config["workers"])
        for checkpoint, classifier in members.items()
    }
    return ranks.once(lambda: _written(config, members, predicted, training, whole, samples, splits, folder))


def _checked(
    config: dict[str, Any], checkpoint: Path, classes: list[str], cache: Path, folder: Path
) -> tuple[Samples, Samples, list[str]]:
    """Make the folder and return all samples, those to evaluate that can be read, and the names of their parts."""
    whole = _samples(config, checkpoint, cache)
    splits = chosen_splits(whole, config["splits"])
    samples = spelt_as(whole.of_split(*splits), classes)
    runs.refuse_used(folder)
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
    write_json({**record, "command": runs.command()}, folder / "evaluation.json")
    say(f"results in {folder}")
    return metrics


def adapt_members(extractors: dict[Path, Any], samples: Samples, device: str) -> None:
    """Give each net the batch-norm statistics of the images, of which no label is used, and say so."""
    from bloodcell.models.adaptation import adapt_to_files

    for extractor in extractors.values():

        def adapted(extractor: Any = extractor) -> tuple[int, dict[str, Any]]:
            count = adapt_to_files(extractor.net, samples.paths(), extractor.preprocessing, extractor.threads, device)
            return count, {name: value.cpu() for name, value in extractor.net.state_dict().items()}

        count, state = ranks.once(adapted)
        extractor.net.load_state_dict(state)
    say(f"batch norm has the statistics of {count:,} of these images, without their labels (adapt=batch_norm)")


def conclude(
    predicted: dict[Path, list[pd.DataFrame]],
    folder: Path,
    figures: bool,
    trained_on: frozenset[str],
    root: Path | None,
    origin: Origin | None,
) -> dict[str, float]:
    """Average the members' predictions, write what they come to and what the averages gain, and say it.

    Args:
        predicted: Checkpoint -> what `predict_splits` returns.
        folder: Where it goes.
        figures: Draw confusion matrices, and pictures of the failures.
        trained_on: Sources of the training images of all members.
        root: What the images' paths are relative to; None: they are not there, so failures have no pictures.
        origin: How the predictions came about, for report.html; None: it is not wanted.
    """
    predictions = averaged([tables[0] for tables in predicted.values()])
    others = {}
    if any(len(tables) > 1 for tables in predicted.values()):
        others["tta=none"] = averaged([tables[-1] for tables in predicted.values()])
    if len(predicted) > 1:
        members = {str(checkpoint): tables[0] for checkpoint, tables in predicted.items()}
        write_members(members, folder / "members.csv", trained_on)
        others |= members
    metrics = write_evaluation(predictions, folder, figures, trained_on)
    write_failures(predictions, root, folder, figures)
    write_json(metrics, folder / "metrics.json")
    if origin:
        report(predictions, folder / "report.html", origin, trained_on, root)
    for line in [*lines(metrics), *write_gain(predictions, others, folder, trained_on)]:
        say(line)
    return metrics


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
    splits = listed(asked) if asked else [split for split in present if split != "train"]
    if missing := [split for split in splits if split not in present]:
        raise BloodcellError(f"splits={missing} are not in the data; it has {', '.join(present)}")
    if not splits:
        raise BloodcellError("the data has only a train part; evaluate it with splits=[train]")
    return splits


def predict_splits(extractor: Any, classes: list[str], samples: Samples, splits: list[str]) -> list[pd.DataFrame]:
    """Return the predictions table of some splits, and where it is a mean over symmetries, that of the identity alone.

    Args:
        extractor: The `Extractor` of the classifier's net.
        classes: The classifier's classes.
        samples: The samples.
        splits: Which of them.
    """
    part = samples.of_split(*splits)
    with progress("predicting") as advance:
        probabilities, cells = extractor.predict(part, advance)
    rows, temperature = part.table.assign(cell=cells), extractor.net.temperature
    looked_at = [probabilities, probabilities[:1]] if len(probabilities) > 1 else [probabilities]
    return [predictions_table(rows, classes, judgement(several, temperature)) for several in looked_at]


def judge_splits(
    engine: Engine, samples: Samples, splits: list[str], tta: str, threads: int | None
) -> list[pd.DataFrame]:
    """Return what `predict_splits` does, of the engine of an exported file, which keeps no features.

    Args:
        engine: The engine.
        samples: The samples.
        splits: Which of them.
        tta: The symmetries that are averaged over.
        threads: That decode; None: as the machine has cores.

    Raises:
        BloodcellError: An image cannot be read.
    """
    part = samples.of_split(*splits)
    files = part.paths()
    groups = ranks.share([files[start : start + GROUP] for start in range(0, len(files), GROUP)])
    tables = []
    for looked_at in dict.fromkeys([tta, "none"]):
        chances, cells = [np.empty((0, len(engine.classes)))], []
        with progress("predicting") as advance:
            for group in ranks.in_turn(Jury([engine], looked_at).judge(groups, len(files), threads)):
                for file, reason in group.bad:
                    raise BloodcellError(f"{file}: {reason}")
                chances.append(group.probabilities)
                cells += group.cells
                advance(len(cells), len(files))
        tables.append(predictions_table(part.table.assign(cell=cells), engine.classes, np.concatenate(chances)))
    return tables


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
    if not rows:
        return
    file = cache / "test_reads.csv"
    with FileLock(cache / ".test_reads.lock"):
        before = file.read_bytes() if file.exists() else b""
        lines = pd.DataFrame(rows).to_csv(index=False, header=not before, lineterminator="\n").encode()
        write_atomically(file, lambda temporary: temporary.write_bytes(before + lines))
