"""What TensorBoard is given does not stay in memory: graphs are traced once, figures are gone after their epoch."""

import weakref
from types import SimpleNamespace

import torch
from pytorch_lightning.loggers import TensorBoardLogger

from bloodcell.training.callbacks import tensorboard
from bloodcell.training.callbacks.tensorboard import TensorBoardReport, graph_of


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

    train(compose(*QUICK, *SMALL, "trainer.max_epochs=4", "limits=false", f"outputs={tmp_path}"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Images("validation confusion matrix")] == [1, 4]
    assert [one.step for one in events.Scalars("val/loss")] == [1, 2, 3, 4]
