"""The recipe of `adapt`: all of a trained classifier, the reader, learns a little more from some labelled cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.inference.engine import Engine
from bloodcell.inference.predict_samples import predict_samples
from bloodcell.runtime.console import muted
from bloodcell.runtime.schema.data import FeaturesConfig
from bloodcell.runtime.schema.model import ModelConfig
from bloodcell.runtime.schema.verbs import AdaptConfig, EndOfTrainingConfig, TrainConfig
from bloodcell.training.fit import Fitted, fit, prepare

#: Share of their usual weight that classes without labels have in the softmax of the training.
OTHERS = 0.1


def training_config(config: AdaptConfig, reader: Any) -> TrainConfig:
    """Return the configuration of the trainings: the reader's net, and its way to predict, by eager PyTorch.

    Few images are predicted, for which no faster backend is worth building.
    """
    data = replace(config.data, epoch_size=config.steps * config.data.batch_size)
    inference = reader.inference
    return TrainConfig(
        outputs=config.outputs,
        cache=config.cache,
        features=FeaturesConfig(cache="off", backend="eager", precision=inference.precision),
        data=data,
        model=replace(ModelConfig.of(reader.hparams["model"]), weights=None),
        augment=config.augment,
        loss=config.loss,
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        finetune=config.finetune,
        callbacks={},
        logger={},
        trainer=replace(config.trainer, max_epochs=1),
        evaluate=EndOfTrainingConfig(test=False, tta=inference.tta, figures=False),
        seed=config.seed,
        resume=None,
        skip_finished=False,
    )


def starting_classifier(config: TrainConfig, reader: Any, classes: Sequence[str], labelled: set[str]) -> Any:
    """Return a copy of a reader that can learn, with an output more for each class that it does not know.

    Args:
        config: That of the training.
        reader: The classifier; not changed.
        classes: Its classes, in its order, and then the new ones.
        labelled: The classes that have labels.
    """
    from bloodcell.models.classifier import Classifier
    from bloodcell.models.losses import PartialCrossEntropy

    prepare(config)
    own: dict[str, Any] = {
        "model": {**reader.hparams["model"], "weights": None},
        "classes": list(classes),
        "preprocessing": dict(reader.hparams["preprocessing"]),
    }
    groups: dict[str, Any] = {name: asdict(getattr(config, name)) for name in ("finetune", "augment", "loss")}
    groups["loss"]["class_weights"] = None
    classifier = Classifier(**own, **groups, optimizer=config.optimizer, scheduler=config.scheduler, seed=config.seed)
    classifier.load_state_dict(with_outputs(reader.state_dict(), len(classes)))
    known = [name in labelled for name in classes]
    classifier.loss = PartialCrossEntropy(known, OTHERS, label_smoothing=config.loss.label_smoothing)
    classifier.inference = config.inference
    return classifier


def with_outputs(state: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return a state dict with a number of classes; the new outputs are the mean of those that are there."""
    import torch

    changed = dict(state)
    for name in ("net.head.logits.weight", "net.head.logits.bias"):
        rows = state[name]
        mean = rows.mean(dim=0, keepdim=True)
        changed[name] = torch.cat([rows, *[mean] * (classes - len(rows))])
    return changed


@dataclass
class Adaptation:
    """Adapts one reader, to several choices of labelled cells of the same samples table.

    Attributes:
        config: That of the trainings.
        reader: The classifier.
        classes: Its classes, in its order, and then the new ones.
        devices: Lightning's accelerator and devices.
    """

    config: TrainConfig
    reader: Any
    classes: list[str]
    devices: dict[str, Any]
    kept: dict[str, Any] = field(default_factory=dict)  # the decoded images

    def fitted(self, samples: Samples, folder: Path) -> Fitted:
        """Train on the part train of some samples, and write to a folder; nothing is chosen by other parts."""
        labelled = set(samples.of_split("train").table["label"])
        start = partial(starting_classifier, self.config, self.reader, self.classes, labelled)
        folder.mkdir(parents=True, exist_ok=True)
        with muted():
            return fit(self.config, samples, folder, self.devices, tests=False, kept=self.kept, start=start)


def predictions_of(engine: Engine, samples: Samples, tta: str) -> pd.DataFrame:
    """Return the predictions table of some samples, in their order."""
    with muted():
        return predict_samples([engine], samples, tta)[0][0]


def features_of(engine: Engine, samples: Samples) -> Any:
    """Return the pooled features of some samples, float32 (N, F)."""
    assert engine.extractor is not None
    return np.asarray(engine.extractor.features(samples)[:])
