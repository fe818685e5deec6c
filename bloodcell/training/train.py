"""The verb `train`: from a configuration to a run folder with a trained and evaluated classifier."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from bloodcell.audits.leaks import check_leaks, report_leak
from bloodcell.audits.overlap import weights_leak
from bloodcell.data.image_check import blank_lines, check_images, white_lines, without_bad_images
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.readers import data_set_name, existing_folder, load_samples
from bloodcell.data.samples import Samples, changes_since, digest, read_samples, with_contents, write_samples
from bloodcell.data.splits import assign_splits, require_classes
from bloodcell.evaluation.own_images import folder_within, keep_as_own, own_folder
from bloodcell.evaluation.results import JUDGING
from bloodcell.inference.predict_samples import predict_samples
from bloodcell.metrics.summary import read_metrics
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.command import continuation, keep_continuation, prediction_by, say_end
from bloodcell.runtime.config import cache_root, typed, uses_cache
from bloodcell.runtime.console import complain, counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import device_arguments, release_gpu_memory
from bloodcell.runtime.io import remove_temporaries, write_atomically, write_json
from bloodcell.runtime.launcher import launch, require, trainer_devices
from bloodcell.runtime.schema.checks import figure_formats
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.audit_first import audit_first
from bloodcell.training.checkpoint import refuse_no_further
from bloodcell.training.fit import Fitted, fit
from bloodcell.training.messages import better_recipe, partial_run
from bloodcell.training.saved_config import CHANGES, saved_configuration


def resume(folder: Path, overrides: list[str]) -> dict[str, float]:
    """Continue the run in a folder with its saved configuration; overrides may change what `CHANGES` names.

    A run that has finished is continued if `trainer.max_epochs` is among them, and `callbacks.early_stopping=null` if
    early stopping had ended it.

    Raises:
        BloodcellError: There is no such run, it has finished, or an override is not allowed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not run_folder.read_run(folder) or not (folder / "config.yaml").is_file():
        raise BloodcellError(f"resume={folder}: no run there (run.json, config.yaml); give a run folder")
    asked = {item: item.removeprefix("+").removeprefix("+") for item in overrides}
    further = any(item.startswith("trainer.max_epochs=") for item in asked.values())
    if not further:
        run_folder.refuse_finished(folder)
    if foreign := [item for item, bare in asked.items() if not CHANGES.match(bare) and not bare.startswith("hydra.")]:
        raise BloodcellError(f"resume= takes the run's own configuration; leave out {' '.join(foreign)}")
    parsed = OverridesParser.create().parse_overrides(list(filter(CHANGES.match, asked.values())))
    changes = {str(item.key_or_group): item.value() for item in parsed}
    cfg = saved_configuration(folder, changes)
    before = cfg.trainer.max_epochs
    for key, value in changes.items():
        if key != "logger":  # the group is there already
            OmegaConf.update(cfg, key, value, force_add=True)
    if "data.root" in changes and (folder / "samples.csv").is_file():
        moved = read_samples(folder / "samples.csv", str(existing_folder(str(changes["data.root"]))))
        _require_unchanged(folder, moved, cache_root(cfg.cache.root))
        write_samples(moved, folder / "samples.csv")
        if folder_within(moved):
            keep_as_own(moved, cache_root(cfg.cache.root))
    if further:
        refuse_no_further(folder, cfg, before)
    launch(*trainer_devices(cfg))
    return train(cfg, folder, resumed=True, further=further)


@uses_cache
def train(
    cfg: DictConfig,
    folder: Path,
    many: bool = False,
    resumed: bool = False,
    overrides: list[str] | None = None,
    further: bool = False,
) -> dict[str, float]:
    """Train and evaluate one classifier.

    Args:
        cfg: The configuration that `conf/train.yaml` composes.
        folder: The run folder; new, or with `resumed` that of an unfinished run.
        many: Whether this is one of many jobs, which by default does not evaluate the test part, and is skipped if an
            earlier run of the same configuration has finished.
        resumed: Whether to continue after the last complete epoch.
        overrides: The command line's part of the configuration, for the leaderboard.
        further: Whether a run may be continued that has finished, for more epochs.

    Returns:
        The content of the run's metrics.json.

    Raises:
        BloodcellError: The user made an error.
    """
    config = typed(cfg, TrainConfig)
    if not resumed and config.resume not in (None, "auto"):
        raise BloodcellError(f"resume={config.resume} continues one run: give it to train alone, without -m")
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    require(*trainer_devices(cfg))
    roots = [Path(config.outputs), folder.parent]
    if not resumed:
        distributed.once(lambda: audit_first(config, Path(config.outputs) / "audit" / folder.name))
    samples = distributed.once(lambda: samples_to_train(config, folder, resumed))
    images = digest(samples)
    identity = run_folder.fingerprint(asdict(config), images)
    if many and config.skip_finished and (finished := run_folder.find_runs(roots, identity, finished=True)):
        return _reuse(folder, finished[0])
    if not resumed and config.resume == "auto":
        folder, resumed = distributed.once(lambda: _newest_unfinished(roots, identity, folder))
    if resumed:
        run_folder.refuse_links(folder)
    with run_folder.locked(folder):
        distributed.once(lambda: _begin(cfg, folder, (identity, images), resumed, further))
        run_folder.require_shared(folder)
        choices = [item for item in overrides or [] if not item.startswith("hydra.")]
        run_folder.write_run(folder, status="running", overrides=choices, partial=config.trainer.partial)
        started = time.perf_counter()
        try:
            metrics = _train(config, samples, folder, devices, many, resumed)
            release_gpu_memory()
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            if isinstance(error, KeyboardInterrupt) and not many:
                keep_continuation(error, continuation(folder))
            run_folder.write_run(folder, status=status, error=distributed.cause_of(error)[:500])
            raise
        run_folder.write_run(folder, status="finished", error=None, seconds=round(time.perf_counter() - started, 1))
    if not many:
        look = folder / ("report.html" if config.report else "metrics.json")
        say_end(look, then=prediction_by([folder]))
        for line in better_recipe(config):
            say(line, whole=True)
    return metrics


def _begin(cfg: DictConfig, folder: Path, identity: tuple[str, str], resumed: bool, further: bool) -> None:
    """Record that a run starts, with its configuration; or check that it can be continued."""
    if not resumed:
        run_folder.refuse_used(folder)
    elif not further:
        run_folder.refuse_finished(folder)  # another process may have finished it meanwhile
    for part in (folder, folder / "checkpoints"):
        remove_temporaries(part)
    if not run_folder.read_run(folder):
        run_folder.begin(folder, *identity)
    if not (folder / "config.yaml").is_file():  # a run that was killed as it began lacks it
        write_atomically(folder / "config.yaml", lambda file: OmegaConf.save(cfg, file, resolve=True))


def _reuse(folder: Path, finished: Path) -> dict[str, float]:
    """Record the earlier run that finished this job, and return its metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json({"run": finished.as_posix()}, folder / "reused.json")
    say(f"already finished in {finished}; skip_finished=false repeats it")
    return read_metrics(finished)


def _newest_unfinished(roots: list[Path], identity: str, folder: Path) -> tuple[Path, bool]:
    """Return the newest unfinished run of the same configuration and True, else the new folder and False."""
    unfinished = run_folder.find_runs(roots, identity, finished=False)
    if not unfinished:
        say("resume=auto: no unfinished run of this configuration; starting a new one")
        return folder, False
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()  # Hydra made it for a new run
    return unfinished[0], True


def _train(
    config: TrainConfig, samples: Samples, folder: Path, devices: dict[str, Any], many: bool, resumed: bool
) -> dict[str, float]:
    samples = distributed.once(lambda: _checked(config, samples, folder, resumed))
    tests = config.tests(many)
    fitted = fit(config, samples, folder, devices, tests, resumed)
    splits = [split for split in samples.splits() if split == "val" or (tests and split != "train")]
    part, threads = samples.of_split(*splits), config.data.workers
    (raw,) = predict_samples([fitted.engine], part, config.evaluate.tta, threads)
    with progress(JUDGING):
        return distributed.once(lambda: conclude(config, folder, fitted, samples, raw))


def samples_to_train(config: TrainConfig, folder: Path, resumed: bool) -> Samples:
    """Return the configured images; those of the run's samples.csv if it is continued, so that no image changes parts.

    Raises:
        BloodcellError: The configuration is wrong; or images of the run are gone or have changed.
    """
    file = folder / "samples.csv"
    if not resumed or not file.is_file():
        return samples_of(config)
    try:
        recorded = read_samples(file)
    except BloodcellError as error:
        samples = samples_of(config)
        if digest(samples) != run_folder.read_run(folder).get("samples"):
            raise BloodcellError(
                f"resume={folder}: its samples.csv is damaged, and its images cannot be told; begin a new run"
            ) from error
        return samples  # the very ones, and samples.csv is written anew
    present = _require_unchanged(folder, recorded, cache_root(config.cache.root))
    with suppress(BloodcellError):  # what the folder is now may be no data set any more
        if added := set(load_samples(replace(config.data, root=str(recorded.root))).paths()) - set(recorded.paths()):
            say(f"{counted(len(added), 'image')} in {recorded.root} are not of this run; it goes on without them")
    return present


def _require_unchanged(folder: Path, recorded: Samples, cache: Path) -> Samples:
    """Return the samples of a run with their contents of today; raise a BloodcellError if they are not the recorded."""
    present = with_contents(recorded, cache)
    if difference := changes_since(recorded, present):
        raise BloodcellError(f"resume={folder}: {difference}")
    return present


def samples_of(config: TrainConfig) -> Samples:
    """Return the configured images with their splits and the sources that audits found."""
    known = with_saved_sources(load_samples(config.data), cache_root(config.cache.root))
    return assign_splits(known, config.data)


def _checked(config: TrainConfig, samples: Samples, folder: Path, resumed: bool) -> Samples:
    """Return readable samples and write them to the folder; leaks cause a warning or an error."""
    samples = readable(config, samples, folder)
    if "val" not in samples.splits():
        raise BloodcellError("there are no validation images; set data.val_fraction above 0")
    write_samples(samples, folder / "samples.csv")
    if not resumed:
        keep_as_own(samples, cache_root(config.cache.root))
    check_leaks(samples, config.data, cache_root(config.cache.root))
    report_leak(weights_leak(samples, config.model.weights), config.data.leak_check)
    return samples


def readable(config: TrainConfig, samples: Samples, folder: Path) -> Samples:
    """Return the samples without unreadable images, which are listed in the folder.

    Raises:
        BloodcellError: `data.on_bad_image` is error and some are unreadable, or a class is empty without them.
    """
    with progress("checking images") as report:
        checked = check_images(samples, cache_root(config.cache.root), report)
    samples = without_bad_images(samples, checked, config.data.on_bad_image, folder / "bad_images.csv")
    require_classes(samples.table)  # without bad images, a class may be empty
    for line in white_lines(checked):
        say(f"note: {line}")
    for line in blank_lines(checked):
        complain(f"warning: {line}")
    return samples


def conclude(
    config: TrainConfig, folder: Path, fitted: Fitted, samples: Samples, raw: list[pd.DataFrame]
) -> dict[str, float]:
    """Calibrate and evaluate the chosen weights, and write the run's results; return its metrics.

    `raw` holds the predictions of the parts to evaluate, from `predict_samples` at temperature 1.
    """
    from bloodcell.evaluation.report import Origin
    from bloodcell.evaluation.results import record_test_reads, test_reads, write_results
    from bloodcell.inference.calibration import calibrate, keep_calibration
    from bloodcell.metrics.reliability import tempered_table
    from bloodcell.training.callbacks.examples import write_examples
    from bloodcell.training.callbacks.tensorboard import writer_of

    classifier, extractor = fitted.engine.trained(), fitted.engine.extractor
    assert extractor is not None
    history = pd.read_csv(folder / "history.csv")
    compared = len(history) if any(getattr(one, "monitor", None) for one in fitted.trainer.callbacks) else 1
    calibration = calibrate(
        samples,
        raw[0],
        classifier.classes,
        extractor,
        config.evaluate.tta,
        temperature=config.calibrates,
        limits=config.limits,
        compared=compared,
        backbones=1 if config.finetune.frozen else compared,
        learner=fitted.training_extractor,
    )
    keep_calibration(calibration, config.inference, fitted.chosen, run_folder.checkpoint_of(folder))
    predictions, *others = (tempered_table(table, calibration.temperature) for table in raw)
    splits = [split for split in samples.splits() if split in set(predictions["split"])]
    cache = cache_root(config.cache.root)
    record_test_reads(cache, samples, splits, [folder])
    best_epoch = min(int(fitted.chosen["epoch"]) + 1, len(history))  # a checkpoint after the last epoch is one ahead
    partial = partial_run(config.trainer.partial)
    notes = (*partial, *test_reads(cache, samples, splits))
    origin = Origin(
        str(folder), classifier, calibration.temperature, notes, history, compared,
        heading=config.report_title, data=data_set_name(samples), preprocessing=fitted.engine.preprocessing,
    )  # fmt: skip
    root = own_folder(samples, cache, config.report or config.evaluate.figures)
    metrics, lines = write_results(
        folder,
        predictions,
        trained_on=frozenset(samples.of_split("train").table["source"]),
        root=root,
        figures=config.evaluate.figures,
        origin=origin,
        report=config.report,
        others={"tta=none": others[0]} if others else {},
        more={
            "best_epoch": best_epoch,
            "epochs": len(history),
            "epochs_compared": compared,
            "temperature": calibration.temperature,
            **({"partial": True} if partial else {}),
        },
    )
    if formats := figure_formats(config.evaluate.figures):
        from bloodcell.evaluation.figures import curves_figure, save

        save(curves_figure(history, best_epoch), folder / "figures" / "curves.png", formats)
    if (writer := writer_of(fitted.trainer)) and root:
        kept = extractor.features(samples.of_split("val")) if fitted.engine.keeps_features else None
        write_examples(writer, fitted.engine, predictions, root, len(history), kept)
    _log_hyperparameters(fitted.trainer, config, metrics)
    chosen = f"chosen: epoch {best_epoch} of {len(history)}; run folder {folder}"
    say("\n".join([chosen, *lines, *calibration.lines, *partial]))
    return metrics


#: TensorBoard shows the first five metrics and, sorted by name, the first five choices; the others take a click.
_HPARAM_METRICS = ("test/accuracy", "test/macro_f1", "val/accuracy", "val/loss", "val/macro_f1")


def _hparams(config: TrainConfig) -> dict[str, Any]:
    """Return the choices of a run for TensorBoard's HParams, those that differ most often first by name."""
    data, optimizer = config.data, str(config.optimizer["_target_"])
    further = {
        "augment": config.augment.name, "batch size": data.batch_size, "fold": data.fold, "split": data.split,
        "image size": data.image_size or config.model.image_size, "crop": data.crop,
        "scheduler": str(config.scheduler.get("_target_")).rpartition(".")[2],
        "label smoothing": config.loss.label_smoothing,
    }  # fmt: skip
    first = {"finetune": config.finetune.name, "learning rate": config.optimizer["lr"], "model": config.model.name}
    named = {f"training {name}": value for name, value in further.items()}
    return first | {"optimizer": optimizer.rpartition(".")[2], "seed": config.seed} | named


def _log_hyperparameters(trainer: Any, config: TrainConfig, metrics: dict[str, float]) -> None:
    """Log the run's choices to each logger, to TensorBoard with the metrics."""
    from pytorch_lightning.loggers import TensorBoardLogger

    values = asdict(config)
    chosen = {name: values[name] for name in ("model", "optimizer", "scheduler", "finetune", "augment", "loss", "seed")}
    chosen["data"] = {name: values["data"][name] for name in ("split", "fold", "image_size", "batch_size")}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(
                _hparams(config), {f"results/{n}": metrics[n] for n in _HPARAM_METRICS if n in metrics}
            )
        else:
            logger.log_hyperparams(chosen)
        logger.finalize("success")
