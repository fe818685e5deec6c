"""The verb `adapt`: from a reader and some labelled cells of another laboratory to a reader of that laboratory.

    bloodcell adapt checkpoint=READER data.root=DIR                          a folder of class folders
    bloodcell adapt checkpoint=READER data=table data.table=LABELS.csv       rows without a label are left out
    bloodcell adapt checkpoint=READER corrections=corrections.csv data.root=DIR
    bloodcell.adapt(READER, DIR), bloodcell.adapt(READER, DIR, corrections=FILE)

A reader is a trained classifier, whatever trained it; without one, that of the package is adapted. `corrections` is the
file of `bloodcell.data.corrections`, which the page and other programs write; its paths are relative to data.root, or
else to its own folder. `hydra.run.dir=OUT` names the new run folder. In it there are

- progress.json, replaced whole at each step: {"done": 3, "of": 7, "what": "fold 3 of 5"}; at the end done is of;
- adaptation.json, at the end: {"kept": "adapted" | "reader", "cells": N, "classes": {CLASS: N}, "before": {"value",
  "low", "high"}, "after": the same, "why": one sentence}. Both figures are the balanced accuracy on the labelled cells,
  0 to 1, with a 95 % interval: `before` of the reader, `after` of the adapted one by cross-validation, over sources if
  any are known, else over images. No cell is tested by a net that it trained or chose;
- what every run has: config.yaml, run.json, samples.csv, predictions.csv (by the cross-validation), metrics.json,
  report.html, and checkpoints/best.ckpt, with temperature, limits and confusions of its own. It is written last, so a
  command that was stopped leaves nothing that loads.

If the adapted reader is not better, kept is "reader" and the checkpoint is the reader's file, unchanged. SIGINT and
SIGTERM end the command with 130 and 143; a mistake of the user is one line on standard error, and 1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bloodcell.data.corrected_cells import LabelledCell, cut_out, labelled_cells_of
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.labelled_cells import read_labelled, with_known_classes
from bloodcell.data.readers import absolute, existing_folder, selected
from bloodcell.data.samples import Samples, digest
from bloodcell.evaluation.own_images import keep_as_own
from bloodcell.inference.engine import Engine
from bloodcell.inference.loader import load_engines
from bloodcell.inference.reader import named_or_reader
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.command import prediction_by, say_end
from bloodcell.runtime.config import cache_root, job_folder, listed, plain, typed, uses_cache
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, device_arguments
from bloodcell.runtime.io import write_atomically
from bloodcell.runtime.launcher import require, trainer_devices
from bloodcell.runtime.schema.data import FeaturesConfig
from bloodcell.runtime.schema.verbs import AdaptConfig
from bloodcell.training.adaptation_outcome import Steps
from bloodcell.training.adaptation_run import AdaptationRun
from bloodcell.training.adapted_reader import training_config
from bloodcell.training.train import readable


def run(cfg: DictConfig) -> dict[str, Any]:
    """Adapt in the folder that Hydra chose."""
    return adapt(cfg, job_folder())


@uses_cache
def adapt(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Adapt a reader to the laboratory of some labelled cells; the module says what is written.

    Args:
        cfg: The configuration that `conf/adapt.yaml` composes.
        folder: The run folder; a new one.

    Returns:
        The content of adaptation.json.

    Raises:
        BloodcellError: The user made an error.
    """
    config = typed(cfg, AdaptConfig)
    require(*trainer_devices(cfg))
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    reader = reader_of(config, best_device("cpu" if devices["accelerator"] == "cpu" else None))
    given = _given(config)
    run_folder.refuse_used(folder)
    with run_folder.locked(folder), _recorded(cfg, config, reader, folder):
        steps = Steps(folder / "progress.json", 3 + config.data.folds)
        steps.begin("reading the cells")
        samples = _samples(config, reader, given, folder)
        outcome = AdaptationRun(config, reader, samples, folder, devices, steps).outcome()
        run_folder.write_run(folder, samples=digest(samples), kept=outcome["kept"])
    steps.end()
    look = folder / ("report.html" if config.report else "adaptation.json")
    say_end(look, then=prediction_by([folder]))
    return outcome


def reader_of(config: AdaptConfig, device: str) -> Engine:
    """Load the reader.

    Raises:
        BloodcellError: There are several, it cannot be read, or it is an exported file, which cannot learn.
    """
    if len(given := listed(named_or_reader(config.checkpoint))) != 1:
        raise BloodcellError(f"adapt takes one reader, and {len(given)} are given; give checkpoint=RUN")
    (engine,) = load_engines(given, device, FeaturesConfig(backend="eager", precision=None))
    engine.trained()
    return engine


def _given(config: AdaptConfig) -> Samples | list[LabelledCell]:
    """Return the labelled cells, those of corrections before they are cut out."""
    if config.corrections is None:
        return read_labelled(config.data, cache_root(config.cache.root))
    return labelled_cells_of(absolute(config.corrections))


def _samples(config: AdaptConfig, reader: Engine, given: Samples | list[LabelledCell], folder: Path) -> Samples:
    """Return the labelled cells that can be read, of the part train, with the reader's names of the classes."""
    cache = cache_root(config.cache.root)
    if not isinstance(given, Samples):
        root = existing_folder(config.data.root) if config.data.root else absolute(str(config.corrections)).parent
        cells = cut_out(given, root, reader.preprocessing, folder / "cells")
        given = with_saved_sources(selected(cells, config.data), cache)
    samples = with_known_classes(given, reader.classes, [str(name) for name in listed(config.new_classes)])
    samples = readable(training_config(config, reader.trained()), samples, folder)
    keep_as_own(samples, cache)
    return samples


@contextmanager
def _recorded(cfg: DictConfig, config: AdaptConfig, reader: Engine, folder: Path) -> Iterator[None]:
    """Record in run.json how the run is repeated, and how it ended; a run that failed leaves no checkpoint."""
    name = str(reader.file.absolute()) if reader.file else ""
    run_folder.begin(folder, run_folder.fingerprint(asdict(config), name))
    run_folder.write_run(folder, reader=name)
    saved = OmegaConf.create({**plain(cfg), "evaluate": {"tta": reader.tta}})
    write_atomically(folder / "config.yaml", lambda file: OmegaConf.save(saved, file))
    started = time.perf_counter()
    try:
        yield
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run_folder.write_run(folder, status=status, error=distributed.cause_of(error)[:500])
        raise
    run_folder.write_run(folder, status="finished", error=None, seconds=round(time.perf_counter() - started, 1))
