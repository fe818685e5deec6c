"""Training: the classifier, its training rows, and the checkpoint that is chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.audits.leaks import unaudited_sets
from bloodcell.data.classes import missing_classes
from bloodcell.data.crop import measured_extent
from bloodcell.data.one_cell import STAIN
from bloodcell.data.samples import SPLITS, Samples
from bloodcell.inference.engine import Engine, engine_of
from bloodcell.inference.features import Extractor, View, features_root, in_memory
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.config import cache_root
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.hardware import available_memory, free_gpu_memory, keep_freed_memory
from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.runtime.signals import interruptible
from bloodcell.training.build import build_classifier, build_trainer, quiet
from bloodcell.training.integer_features import training_extractor
from bloodcell.training.messages import partial_run, start_line, unfinished_phases
from bloodcell.training.settings import settled
from bloodcell.training.steps import steps_together

#: The parts that a training does not learn from.
HELD_OUT = tuple(split for split in SPLITS if split != "train")


@dataclass(frozen=True)
class Fitted:
    """The result of training."""

    engine: Engine  # the classifier with the chosen weights
    training_extractor: Extractor  # of the training images' features
    chosen: dict[str, Any]  # their checkpoint
    trainer: Any  # Lightning's, for its loggers


def fit(
    config: TrainConfig,
    samples: Samples,
    folder: Path,
    devices: dict[str, Any],
    tests: bool,
    resumed: bool = False,
    watch: Sequence[Any] = (),
    kept: dict[str, Any] | None = None,
    start: Callable[[], Any] | None = None,
) -> Fitted:
    """Train a classifier on samples with splits and choose its weights; history and checkpoints go to `folder`.

    With `tests`, the features of the test part are computed too, because it will be predicted. With `resumed`, training
    continues after the last complete epoch. `watch` has further callbacks; for `kept` see `training_rows`. `start`
    builds the classifier that training starts with; None: a new one of the configuration.
    """
    from bloodcell.models.backbones import state_digest
    from bloodcell.models.classifier import load_checkpoint
    from bloodcell.training.checkpoint import restored, stopped_early
    from bloodcell.training.training_state import fitting_state

    config = settled(config, samples)
    with progress("building the net"):
        classifier = start() if start else classifier_of(config, samples)
    source = {"weights": config.model.weights, "digest": state_digest(classifier.net.backbone)}
    run_folder.write_run(folder, backbone=source)  # a path may hold other weights tomorrow
    last = folder / "checkpoints" / "last.ckpt"
    begun = resumed and distributed.once(last.is_file)
    ended = begun and distributed.once(lambda: stopped_early(restored(last)))
    ended = ended and config.callbacks.get("early_stopping") is not None
    trainer = build_trainer(config, folder, devices, resumed, watch)
    device = str(trainer.strategy.root_device)
    say(start_line(samples, classifier.classes, classifier, device))
    notes = missing_classes(samples.table, classifier.classes) + unaudited_sets(config.data, samples)
    for line in notes + unfinished_phases(classifier, config.trainer.max_epochs) + partial_run(config.trainer.partial):
        say(line)

    extractor = extractor_of(config, classifier, device)
    used = samples if tests else samples.of_split("train", "val")
    keep_function(classifier, samples, extractor)
    learner = training_extractor(config.features, samples, extractor)
    data = build_data(config, classifier, used, extractor, learner, kept)
    data.together = steps_together(config, data.rows, trainer)
    classifier.automatic_optimization = data.together == 1
    if begun:
        trainer.strategy.checkpoint_io.state = fitting_state(last, classifier, trainer)
    if not ended:
        with interruptible():
            trainer.fit(classifier, datamodule=data, ckpt_path=str(last) if begun else None, weights_only=True)
        if config.trainer.profiler:
            say(f"profile: {folder / 'fit-profile.txt'}")
    if not distributed.once(last.is_file):
        trainer.save_checkpoint(last)
    chosen = load_checkpoint(run_folder.checkpoint_of(folder))
    classifier.load_state_dict(chosen["state_dict"])
    engine = _engine(config, classifier, device)
    assert engine.extractor is not None
    return Fitted(engine, engine.extractor if learner is extractor else learner, chosen, trainer)


def prepare(config: TrainConfig) -> None:
    """Silence Lightning and seed the random number generators."""
    import pytorch_lightning as pl

    quiet()
    keep_freed_memory()
    pl.seed_everything(config.seed, workers=True, verbose=False)


def classifier_of(config: TrainConfig, samples: Samples) -> Any:
    """Seed the random number generators and build a new classifier."""
    from bloodcell.data.preprocessing import Preprocessing

    prepare(config)
    classes = sorted(set(samples.table.loc[samples.table["split"] == "train", "label"]))
    size = config.model.image_size if config.data.image_size is None else config.data.image_size
    crop = config.data.crop
    extent = distributed.once(lambda: measured_extent(samples))
    finder = config.data.finder if crop == "cell" else STAIN
    preprocessing = Preprocessing(size, crop, config.data.crop_size, samples.white, extent, finder)
    return build_classifier(config, samples, classes, preprocessing)


def _engine(config: TrainConfig, classifier: Any, device: str) -> Engine:
    root = features_root(config.features, cache_root(config.cache.root), classifier.finetune.frozen, config.augmented)
    how = config.inference
    return engine_of(classifier, device, how.backend, how.precision, root=root, workers=config.data.workers)


def extractor_of(config: TrainConfig, classifier: Any, device: str) -> Extractor:
    """Return the extractor of a classifier's features with its present weights."""
    extractor = _engine(config, classifier, device).extractor
    assert extractor is not None
    return extractor


def keep_function(classifier: Any, samples: Samples, extractor: Extractor) -> None:
    """Unfold folded batch norm that will learn, so that training starts from the pretrained function."""
    from bloodcell.models.folded_batch_norm import unfold_where_folded

    if classifier.finetune.frozen or classifier.finetune.batch_norm == "frozen":
        return
    files = samples.of_split("train").paths()
    if count := unfold_where_folded(classifier.net, files, extractor.preprocessing, extractor.threads):
        say(f"batch norm is folded in these weights: it begins with the statistics of {count:,} training images")


def build_data(
    config: TrainConfig,
    classifier: Any,
    samples: Samples,
    extractor: Extractor,
    learner: Extractor,
    kept: dict[str, Any] | None = None,
) -> Any:
    """Build the LightningDataModule of features or images; see `training_rows`."""
    from bloodcell.data.datamodule import BloodCellDataModule

    rows, views = training_rows(config, classifier, samples, extractor, learner, kept)
    return BloodCellDataModule(
        samples, classifier.classes, extractor.preprocessing, config.data, config.seed, rows, views,
        least=1 if config.finetune.frozen or config.finetune.batch_norm == "frozen" else 2,
        repeats=bool(config.trainer.overfit_batches),
        own_classes=config.loss.own_classes,
    )  # fmt: skip


def training_rows(
    config: TrainConfig,
    classifier: Any,
    samples: Samples,
    extractor: Extractor,
    learner: Extractor,
    kept: dict[str, Any] | None,
) -> tuple[Any, int]:
    """Return the rows that batches are drawn from, and the number of fixed views of each training image in them.

    The rows are features if the backbone is frozen and the images are not augmented; else decoded images if they fit
    into memory; else None, and each epoch decodes them. If they fit into the memory of a GPU that trains, they are
    there. `kept` holds the latest rows for the next training. `learner` computes the features of training images.
    """
    keeps = extractor.root is not None
    views = config.features.views if keeps else 0
    if not keeps and not decoded_images_fit(config.data, len(samples.table), extractor.preprocessing.image_size):
        return None, 0
    made: Any = extractor.preprocessing.of_whole_images().as_dict()
    if keeps:
        made = [one.described() for one in (extractor, learner)]
    changed = [classifier.augment.as_dict()] if views else []
    if views or learner is not extractor:
        changed.append(samples.of_split("train").paths())
    key = json.dumps([made, samples.paths(), views, changed], sort_keys=True)  # all that the rows depend on
    if kept is not None and kept.get("key") == key:
        return kept["rows"], views
    rows = feature_rows(views, classifier, samples, extractor, learner) if keeps else decoded_rows(samples, extractor)
    rows = on_gpu(rows, extractor.backbone.device)
    if kept is not None:
        kept.clear()  # rows are large, so only the latest are kept
        kept.update(key=key, rows=rows)
    return rows, views


def decoded_rows(samples: Samples, extractor: Extractor) -> Any:
    """Return the decoded images of the samples, uint8 (N, H, W, 3)."""
    import torch

    from bloodcell.data.decoder import decode_all

    with progress("decoding") as report:
        return torch.from_numpy(decode_all(samples.paths(), extractor.preprocessing, extractor.threads, report))


def feature_rows(views: int, classifier: Any, samples: Samples, extractor: Extractor, learner: Extractor) -> Any:
    """Return the features of the samples, then of each fixed view of the training samples."""
    train = samples.of_split("train")
    with progress("features") as report:
        if learner is extractor:
            rows: Any = extractor.features(samples, report)
        else:
            held_out = samples.of_split(*HELD_OUT)
            parts: list[Any] = [learner.features(train, report)]
            parts += [extractor.features(held_out, report)] if len(held_out.table) else []
            trains = (samples.table["split"] == "train").to_numpy()
            rows = parts[0].followed_by(parts[1:]).at(np.argsort(np.argsort(~trains, kind="stable")))
    others = []
    for number in range(views):
        with progress(f"features of view {number + 1}/{views}") as report:
            others.append(learner.features(train, report, View(classifier.augment, number)))
    return in_memory(rows.followed_by(others) if others else rows)


def on_gpu(rows: Any, device: str) -> Any:
    """Return rows in the memory of an NVIDIA GPU if a quarter of what is free there suffices, else where they are."""
    import torch

    fits = device.startswith("cuda") and torch.is_tensor(rows) and rows.nbytes <= free_gpu_memory(device) // 4
    return rows.to(device) if fits else rows


def decoded_images_fit(data: DataConfig, images: int, size: int) -> bool:
    """Return whether training keeps all decoded images in memory; auto: if a quarter of it suffices."""
    if data.in_memory != "auto":
        return bool(data.in_memory)
    return images * size * size * 3 <= available_memory() // 4
