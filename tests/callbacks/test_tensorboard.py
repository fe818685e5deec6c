"""What TensorBoard is given does not stay in memory: graphs are traced once, figures are gone after their epoch."""

import time
import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.runtime.config import typed
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.callbacks import examples, tensorboard
from bloodcell.training.callbacks.examples import principal_components, write_examples
from bloodcell.training.callbacks.tensorboard import TensorBoardReport, graph_of
from bloodcell.training.train import _hparams


def net(width):
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width)).eval()


def test_the_graph_of_an_architecture_is_traced_once(monkeypatch):
    """What TorchScript traced, it never forgets."""
    monkeypatch.setattr(tensorboard, "_GRAPHS", {})
    images = torch.zeros(1, 3, 8, 8)
    first = graph_of(net(4), images)
    assert graph_of(net(4), images) is first
    other = graph_of(net(5), images)
    assert other is not first
    assert graph_of(net(4), torch.zeros(1, 3, 9, 9)) is not first
    assert any("_convolution" in node.op for node in first[0].node)


def test_tracing_leaves_the_net_as_it_was(monkeypatch):
    monkeypatch.setattr(tensorboard, "_GRAPHS", {})
    given = net(4)
    graph_of(given, torch.zeros(1, 3, 8, 8))
    assert not any(module.training for module in given.modules())


def test_the_figures_of_an_epoch_do_not_stay(tmp_path, monkeypatch):
    """Hundreds of epochs would else leave a megabyte each behind."""
    drawn, draw = [], tensorboard.confusion_figure

    def watched(*arguments, **choices):
        figure = draw(*arguments, **choices)
        drawn.append(weakref.ref(figure))
        return figure

    monkeypatch.setattr(tensorboard, "confusion_figure", watched)
    logger = TensorBoardLogger(tmp_path)
    trainer = SimpleNamespace(current_epoch=0, loggers=[logger], is_global_zero=True)
    labels, logits = torch.tensor([0, 1, 1]), torch.eye(2)[[0, 1, 0]]
    results = {"confusion": torch.tensor([[1, 0], [1, 1]]), "labels": labels, "logits": logits}
    TensorBoardReport("").on_train_epoch_end(trainer, SimpleNamespace(results={"val": results}, classes=["a", "b"]))
    logger.finalize("success")
    assert len(drawn) == 1
    assert [figure() for figure in drawn] == [None]


def test_the_matrix_is_drawn_now_and_then_and_at_the_end(compose, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from bloodcell.training.train import train
    from tests.conftest import QUICK, SMALL

    own = ("trainer.max_epochs=4", "limits=false", "logger=tensorboard", f"outputs={tmp_path}")
    train(compose(*QUICK, *SMALL, *own), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Images("validation confusion matrix")] == [1, 4]
    assert [one.step for one in events.Scalars("loss/val")] == [1, 2, 3, 4]


def test_the_graph_opens_with_the_blocks(monkeypatch):
    monkeypatch.setattr(tensorboard, "_GRAPHS", {})

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)) for _ in range(4)))
            self.head = torch.nn.Flatten()

        def forward(self, images):
            return self.head(self.backbone(images - 0.5))

    traced = graph_of(Net(), torch.zeros(1, 3, 8, 8))[0].node
    outer = {node.name.partition("/")[0] for node in traced}
    blocks = {f"Sequential[{number}]" for number in range(4)}
    assert outer == {"input", "output", "normalisation", "Flatten[head]"} | blocks
    assert len({node.name for node in traced}) == len(traced)
    assert {source.partition("/")[0] for node in traced for source in node.input} <= outer


class Watched:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.images, self.places = {}, {}

    def add_image(self, tag, picture, epoch, dataformats):
        self.images[tag] = picture

    def add_embedding(self, features, **rest):
        self.places = {"features": features, **rest}


def an_engine(seconds=0.0):
    def run(batch):
        time.sleep(seconds)
        return None, batch.reshape(len(batch), -1)[:, :60].astype(np.float32)

    return SimpleNamespace(preprocessing=Preprocessing(32), passes=lambda _: SimpleNamespace(run=run))


def some_predictions(folder, images):
    colours = np.random.default_rng(0).integers(0, 255, (images, 3))
    for number, colour in enumerate(colours.tolist()):
        Image.new("RGB", (8, 8), tuple(colour)).save(folder / f"{number}.png")
    rows = pd.DataFrame({"path": [f"{number}.png" for number in range(images)], "split": "val", "label": "x"})
    sure = np.linspace(0.1, 0.9, images)
    return rows.assign(prediction=np.where(sure > 0.5, "y", "x"), p_y=sure, p_x=1 - sure), colours


def test_wrong_images_are_shown_as_the_net_saw_them_the_most_confident_first(tmp_path):
    rows, colours = some_predictions(tmp_path, 40)
    rows.loc[39, "split"] = "test"
    writer = Watched()
    write_examples(writer, an_engine(), rows, tmp_path, 3)
    tags = list(writer.images)
    assert len(tags) == 19
    assert tags[0] == f"wrong validation images/01 x as y, {100 * rows['p_y'][38]:.0f} % sure"
    assert writer.images[tags[0]].shape == (32, 32, 3)
    assert writer.images[tags[0]][0, 0].tolist() == colours[38].tolist()


def test_the_projector_has_features_with_their_thumbnails(tmp_path):
    rows, colours = some_predictions(tmp_path, 40)
    writer = Watched()
    write_examples(writer, an_engine(), rows, tmp_path, 3)
    names = pd.DataFrame(writer.places["metadata"], columns=writer.places["metadata_header"])
    assert sorted(names["path"]) == sorted(rows["path"])
    numbers = [int(path.removesuffix(".png")) for path in names["path"]]
    shown = (255 * writer.places["label_img"][:, :, 0, 0]).round().int().tolist()
    assert shown == colours[numbers].tolist()
    first, second = writer.places["features"][:2]
    apart = np.tile(colours[numbers[0]] - colours[numbers[1]], 20)
    assert np.linalg.norm(first - second) == pytest.approx(np.linalg.norm(apart), rel=1e-4)


def test_the_projector_takes_no_longer_than_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "SECONDS", 0.05)
    rows, _ = some_predictions(tmp_path, 60)
    writer = Watched()
    write_examples(writer, an_engine(seconds=0.06), rows, tmp_path, 3)
    assert len(writer.places["metadata"]) == examples.BATCH


def test_the_projector_takes_kept_features(tmp_path):
    rows, _ = some_predictions(tmp_path, 41)
    rows.loc[0, "split"] = "test"
    kept = np.random.default_rng(1).normal(size=(40, 60)).astype(np.float32)
    writer = Watched()
    write_examples(writer, SimpleNamespace(preprocessing=Preprocessing(32)), rows, tmp_path, 3, kept)
    numbers = [int(path.removesuffix(".png")) - 1 for _, _, path in writer.places["metadata"]]
    assert sorted(numbers) == list(range(40))
    first, second = writer.places["features"][:2]
    apart = kept[numbers[0]] - kept[numbers[1]]
    assert np.linalg.norm(first - second) == pytest.approx(np.linalg.norm(apart), rel=1e-4)


def test_components_keep_the_distances():
    features = np.random.default_rng(0).normal(size=(20, 400)).astype(np.float32)
    found = principal_components(features)
    assert found.shape == (20, 20)
    assert np.linalg.norm(found[3] - found[7]) == pytest.approx(np.linalg.norm(features[3] - features[7]), rel=1e-4)
    assert principal_components(np.repeat(features, 4, axis=0)).shape == (80, 50)


def test_hparams_begin_with_what_differs_most_often(compose):
    chosen = _hparams(typed(compose("optimizer=sgd", "optimizer.lr=0.02", "seed=7"), TrainConfig))
    first = {"finetune": "frozen", "learning rate": 0.02, "model": "mobilenet_v2", "optimizer": "SGD", "seed": 7}
    assert list(first) == sorted(chosen)[:5]  # TensorBoard shows five, sorted
    assert {name: chosen[name] for name in first} == first
