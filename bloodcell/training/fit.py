"""From samples to trained weights: what is trained, on which rows, and the checkpoint that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloodcell.audit.advice import unaudited_sets
from bloodcell.data.samples import Samples
from bloodcell.inference.features import build_extractor
from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.config import cache_root
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import available_memory, keep_freed_memory
from bloodcell.runtime.signals import interruptible
from bloodcell.training.build import build_classifier, build_trainer, quiet
from bloodcell.training.messages import missing_classes, start_line, unfinished_phases


@dataclass(frozen=True)
class Fitted:
    """What training ends with.

    Attributes:
        classifier: The LightningModule, with the weights that were chosen.
        chosen: The content of the checkpoint that they come from.
        extractor: What passes images through its net.
        trainer: Lightning's Trainer, for its loggers.
    """

    classifier: Any
    chosen: dict[str, Any]
    extractor: Any
    trainer: Any


def fit(
    config: dict[str, Any],
    samples: Samples,
    folder: Path,
    devices: dict[str, Any],
    tests: bool,
    resumed: bool = False,
    watch: Sequence[Any] = (),
    kept: dict[str, Any] | None = None,
) -> Fitted:
    """Train a classifier and choose its weights.

    Args:
        config: The configuration.
        samples: Readable samples with their splits.
        folder: Where history.csv and checkpoints go.
        devices: The Trainer's accelerator and devices.
        tests: The test part will be predicted, so its features are computed with the others.
        resumed: Continue after the last whole epoch.
        watch: Further callbacks.
        kept: Where the latest training rows are kept for the next training; see `build_data`.
    """
    from bloodcell.models.backbones import state_digest
    from bloodcell.models.classifier import load_checkpoint
    from bloodcell.training.checkpoint import restored, stopped_early

    classifier = classifier_of(config, samples)
    source = {"weights": config["model"]["weights"], "digest": state_digest(classifier.net.backbone)}
    run_folder.write_run(folder, backbone=source)  # a path may hold other weights tomorrow
    last = folder / "checkpoints" / "last.ckpt"
    begun = resumed and distributed.once(last.is_file)
    ended = begun and distributed.once(lambda: stopped_early(restored(last)))
    trainer = build_trainer(config, folder, devices, resumed, classifier.frozen, watch)
    device = str(trainer.strategy.root_device)
    say(start_line(samples, classifier.classes, classifier, device))
    notes = missing_classes(samples, classifier.classes) + unaudited_sets(config["data"], samples)
    for line in notes + unfinished_phases(classifier, config["trainer"]["max_epochs"]):
        say(line)

    decoding = {"tta": config["evaluate"]["tta"], "device": device, "workers": config["data"]["workers"]}
    cache = cache_root(config["cache"]["root"])
    extractor = build_extractor(config, cache, classifier, **decoding)
    used = samples if tests else samples.of_split("train", "val")
    keep_function(classifier, samples, extractor)
    data = build_data(config, classifier, used, extractor, kept)
    if not ended:
        with interruptible():
            trainer.fit(classifier, datamodule=data, ckpt_path=str(last) if begun else None, weights_only=True)
    if not distributed.once(last.is_file):
        trainer.save_checkpoint(last)
    chosen = load_checkpoint(run_folder.checkpoint_of(folder))
    classifier.load_state_dict(chosen["state_dict"])
    # of the weights that were chosen
    return Fitted(classifier, chosen, build_extractor(config, cache, classifier, **decoding), trainer)


def classifier_of(config: dict[str, Any], samples: Samples) -> Any:
    """Build the classifier that training starts with; the seed begins here."""
    import pytorch_lightning as pl

    from bloodcell.data.preprocessing import Preprocessing

    quiet()
    keep_freed_memory()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    classes = sorted(set(samples.table.loc[samples.table["split"] == "train", "label"]))
    preprocessing = Preprocessing(**{name: config["data"][name] for name in ("image_size", "crop", "crop_size")})
    return build_classifier(config, samples, classes, preprocessing)


def keep_function(classifier: Any, samples: Samples, extractor: Any) -> None:
    """See to it that batch norm that will take each batch's statistics begins with the function that was pretrained."""
    from bloodcell.models.folded_batch_norm import unfold_where_folded

    if classifier.frozen or classifier.finetune.batch_norm == "frozen":
        return
    files = samples.of_split("train").paths()
    if count := unfold_where_folded(classifier.net, files, extractor.preprocessing, extractor.threads):
        say(f"batch norm is folded in these weights: it begins with the statistics of {count:,} training images")


def build_data(
    config: dict[str, Any], classifier: Any, samples: Samples, extractor: Any, kept: dict[str, Any] | None = None
) -> Any:
    """Build the LightningDataModule of what the samples are trained as: features or images.

    Args:
        config: The configuration.
        classifier: What will be trained.
        samples: What it will be trained on.
        extractor: Of its net.
        kept: Where the rows of the latest training of this process lie, which the next one takes where they are the
            same; None: nothing is kept.
    """
    from bloodcell.data.datamodule import BloodCellDataModule

    rows, views = training_rows(config, classifier, samples, extractor, kept)
    loading = loading_of(config)
    return BloodCellDataModule(
        samples, classifier.classes, extractor.preprocessing, **loading, seed=config["seed"], rows=rows, views=views
    )


def loading_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a user chooses of the loading of batches."""
    return {name: config["data"][name] for name in ("batch_size", "workers", "sampling", "balance", "epoch_size")}


def training_rows(
    config: dict[str, Any], classifier: Any, samples: Samples, extractor: Any, kept: dict[str, Any] | None = None
) -> tuple[Any, int]:
    """Return what training slices its batches from, and how many fixed views of each training image are in it.

    Features where the backbone is frozen and the images stay the same; else the decoded images where they fit into
    memory; else None, and each epoch decodes them.
    """
    views = config["features"]["views"] if extractor.root is not None else 0
    if extractor.root is None:
        size = extractor.preprocessing.image_size
        if not decoded_images_fit(config["data"]["in_memory"], len(samples.table), size):
            return None, 0
    key = rows_key(classifier, samples, extractor, views)
    if kept is not None and kept.get("key") == key:
        return kept["rows"], views
    if extractor.root is not None:
        rows = feature_rows(views, classifier, samples, extractor)
    else:
        rows = decoded_rows(samples, extractor)
    if kept is not None:
        kept.clear()  # one at a time: they are what is large
        kept.update(key=key, rows=rows)
    return rows, views


def rows_key(classifier: Any, samples: Samples, extractor: Any, views: int) -> str:
    """Return all that training rows depend on, as one text."""
    import json

    made = extractor.described() if extractor.root is not None else extractor.preprocessing.as_dict()
    changed = [classifier.augment.as_dict(), samples.of_split("train").paths()] if views else []
    return json.dumps([made, samples.paths(), views, changed], sort_keys=True)


def decoded_rows(samples: Samples, extractor: Any) -> Any:
    """Return the decoded images of the samples, uint8 (N, H, W, 3)."""
    import torch

    from bloodcell.data.decoder import decode_all

    with progress("decoding") as report:
        return torch.from_numpy(decode_all(samples.paths(), extractor.preprocessing, extractor.threads, report))


def feature_rows(views: int, classifier: Any, samples: Samples, extractor: Any) -> Any:
    """Return the features of the samples, then those of each fixed view of the training samples."""
    from bloodcell.inference.features import View, in_memory

    with progress("features") as report:
        rows = extractor.features(samples, report)
    train = samples.of_split("train")
    others = []
    for number in range(views):
        with progress(f"features of view {number + 1}/{views}") as report:
            others.append(extractor.features(train, report, View(classifier.augment, number)))
    return in_memory(rows.followed_by(others) if others else rows)


def decoded_images_fit(wanted: Any, images: int, size: int) -> bool:
    """Say whether training keeps all decoded images in memory: as asked for, or where they take a quarter of it.

    Raises:
        BloodcellError: `data.in_memory` is neither true, false nor auto.
    """
    if wanted not in (True, False, "auto"):
        raise BloodcellError(f"data.in_memory={wanted}; choose auto, true or false")
    return bool(wanted) if wanted != "auto" else images * size * size * 3 <= available_memory() // 4
