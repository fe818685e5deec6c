"""A net whose numbers overflow has no answer: an error of the image, and never a sure prediction."""

import dataclasses

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import numpy_helper

import bloodcell
from bloodcell.data.image_limits import ImageError
from bloodcell.inference.engine import NOT_FINITE, Pass
from bloodcell.inference.ensemble import Ensemble
from bloodcell.models.gradcam import NoMapError, grad_cam
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture
def broken(another):
    """A run whose weights are finite and so large that the logits overflow."""

    def overflow(checkpoint):
        head = [name for name in checkpoint["state_dict"] if ".head." in name and name.endswith("weight")]
        for name in head:
            checkpoint["state_dict"][name].fill_(3e38)
        assert head

    return another("broken", overflow)


@pytest.mark.parametrize("tta", ["none", "d4"])
@pytest.mark.parametrize("several", [False, True])
def test_predict_lists_the_images_and_exits_with_2(broken, quick_run, write_image, tmp_path, command, tta, several):
    write_image(tmp_path / "images" / "a.png")
    checkpoint = f"checkpoint=[{quick_run},{broken}]" if several else f"checkpoint={broken}"
    given = [checkpoint, f"images={tmp_path / 'images'}", f"output={tmp_path / 'o.csv'}", f"tta={tta}"]
    code, error = command("predict", *given)
    assert (code, error) == (2, "error: no image could be read\n")
    assert pd.read_csv(tmp_path / "o.csv").empty
    assert pd.read_csv(tmp_path / "o.bad.csv")["reason"].tolist() == [NOT_FINITE]


@pytest.mark.parametrize("keep", ["features.cache=on", "features.cache=off"])
def test_evaluation_names_the_image_in_one_line(broken, smears, command, keep):
    code, error = command("evaluate", f"checkpoint={broken}", keep)
    assert code == 1
    assert error.startswith(f"error: {smears.root}")
    assert error.endswith(f": {NOT_FINITE}\n")


def test_from_python_it_is_an_error(broken, write_image, tmp_path):
    predictor = bloodcell.load(broken)
    with pytest.raises(BloodcellError, match=r"a\.png: the net's numbers"):
        predictor.predict(write_image(tmp_path / "a.png"), on_bad_image="error")
    with pytest.raises(BloodcellError, match=r"^array_0: the net's numbers"):
        predictor.predict(np.zeros((9, 9, 3), np.uint8), on_bad_image="error")


def test_an_exported_file_that_overflows_for_a_bright_image_alone(exported, write_image, tmp_path):
    model = onnx.ModelProto.FromString(exported("onnx").read_bytes())
    scale, zero = (numpy_helper.from_array(np.float32(value), name) for name, value in (("most", 3e38), ("none", 0)))
    model.graph.initializer.extend([scale, zero])
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["small" if name == "logits" else name for name in names]
    make = onnx.helper.make_node
    model.graph.node.extend([
        make("Cast", ["images"], ["bright"], to=1), make("ReduceMax", ["bright"], ["top"], keepdims=0),
        make("Mul", ["top", "most"], ["large"]), make("Mul", ["large", "none"], ["added"]),
        make("Add", ["small", "added"], ["logits"]),
    ])  # fmt: skip
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    predictor = bloodcell.load(tmp_path / "x.onnx")
    assert np.isfinite(predictor.predict(np.zeros((9, 9, 3), np.uint8)).filter(like="p_").to_numpy()).all()
    with pytest.raises(BloodcellError, match="the net's numbers"):
        predictor.predict(np.full((9, 9, 3), 255, np.uint8), on_bad_image="error")


def test_the_others_of_a_group_keep_their_answers(quick_run):
    """One of three images overflows, in probabilities or in features; its neighbours are as without it."""
    engine = bloodcell.load(quick_run).ensemble.engines[0]
    way = engine.passes(3)

    def run(images):
        probabilities, features = way.run(images)
        return np.where(images.max(axis=(1, 2, 3))[:, None] == 0, np.nan, probabilities), features

    odd = dataclasses.replace(engine, passes=lambda _: Pass("odd", 1, run))
    pictures = [np.full((9, 9, 3), level, np.uint8) for level in (200, 0, 90)]
    (group,) = Ensemble([odd]).predict([pictures], 3, 1)
    (expected,) = Ensemble([engine]).predict([pictures[::2]], 2, 1)
    assert [reason for _, reason in group.bad] == [NOT_FINITE]
    assert len(group.given) == 3
    assert [image.max() for image in group.images] == [200, 90]
    np.testing.assert_allclose(group.probabilities, expected.probabilities, rtol=0, atol=1e-6)
    assert (group.cells, group.squares, group.blanks) == (expected.cells, expected.squares, expected.blanks)
    assert [len(one.probabilities) for one in group.members] == [2]


def test_the_page_does_not_start_with_it(broken, compose):
    from bloodcell.app import app
    from bloodcell.runtime.config import typed
    from bloodcell.runtime.schema.verbs import AppConfig

    cfg = compose(f"checkpoint={broken}", "device=cpu", verb="app")
    with pytest.raises(ImageError, match="the net's numbers"):
        app.application_of(typed(cfg, AppConfig))


def test_a_map_of_numbers_that_are_not_finite_is_none(learnt_run):
    net = bloodcell.load(learnt_run).ensemble.engines[0].trained().net
    net.blurring = None  # a blur is of one size of pictures
    last = [module for module in net.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
    with torch.no_grad():
        last.weight.fill_(3e38)
    with pytest.raises(NoMapError, match="not finite"):
        grad_cam(net, torch.zeros(1, 3, 96, 96, dtype=torch.uint8), torch.tensor([0]))
