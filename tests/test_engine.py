"""The one way to compute: each backend, each number of images and each member's order of classes gives the same."""

import numpy as np
import pytest

from bloodcell.inference.backends import WORTH_BUILDING
from bloodcell.inference.engine import engine_of
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.loader import load_engines
from bloodcell.models.ood import Limits
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.data import FeaturesConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def engine(quick_run):
    (engine,) = load_engines(quick_run, "cpu")
    return engine


def test_few_images_pass_eager_pytorch_and_many_the_fastest_backend(engine):
    engine = engine_of(engine.trained(), "cpu")  # the run itself names a backend
    few, many = engine.passes(WORTH_BUILDING - 1), engine.passes(WORTH_BUILDING)
    assert few.name.startswith("eager")
    assert many.name.startswith("onnx")
    first, second = engine.predict(IMAGES, few), engine.predict(IMAGES, many)
    np.testing.assert_allclose(first.probabilities, second.probabilities, rtol=0, atol=1e-6)
    seen = [way.run(IMAGES)[1] for way in (few, many)]
    np.testing.assert_allclose(*seen, rtol=0, atol=2e-5)
    assert first.probabilities.dtype == np.float64
    assert first.probabilities.sum(axis=1) == pytest.approx(1)
    assert first.unlike is None


def test_a_backend_that_is_named_is_taken_for_any_number(quick_run):
    (engine,) = load_engines(quick_run, "cpu", FeaturesConfig(backend="onnx"))
    assert engine.passes(1).name.startswith("onnx")


def test_what_is_unlike_is_told_by_the_limits(engine, monkeypatch):
    _, features = engine.passes(len(IMAGES)).run(IMAGES)
    unit = features.astype(float) / np.linalg.norm(features, axis=1, keepdims=True)
    which = int(unit.var(axis=0).argmax())
    one = np.zeros((unit.shape[1], 1), np.float32)
    one[which] = 1  # the score is then the square of that feature
    square = unit[:, which] ** 2
    threshold = float(np.sort(square)[len(square) // 2 - 1 : len(square) // 2 + 1].mean())
    limits = Limits(np.zeros((len(engine.classes), len(one)), np.float32), one, threshold, {})
    monkeypatch.setattr(engine, "limits", limits)
    assert engine.predict(IMAGES).unlike.tolist() == (square > threshold).tolist()
    assert 0 < engine.predict(IMAGES).unlike.sum() < len(IMAGES)


def test_an_ensemble_takes_the_mean_in_the_order_of_the_first(engine, quick_run):
    (other,) = load_engines(quick_run, "cpu")
    other.classes = other.classes[::-1]
    (alone,) = Ensemble([engine]).predict([list(IMAGES)], 11)
    (both,) = Ensemble([engine, other]).predict([list(IMAGES)], 11)
    expected = (alone.probabilities + alone.probabilities[:, ::-1]) / 2
    np.testing.assert_allclose(both.probabilities, expected, rtol=0, atol=1e-12)


def test_a_group_without_an_image_that_can_be_read(engine, tmp_path):
    (group,) = Ensemble([engine]).predict([[tmp_path / "absent.png"]], 1)
    assert group.bad == [(tmp_path / "absent.png", "no such file")]
    assert group.probabilities.shape == (0, len(engine.classes))


def test_groups_are_taken_as_they_are_needed(engine):
    taken = []
    groups = (taken.append(number) or [IMAGES[0]] for number in range(1000))
    next(Ensemble([engine]).predict(groups, 1000, threads=2))
    assert len(taken) <= 5


def test_an_unknown_backend_is_one_clear_line(quick_run):
    with pytest.raises(BloodcellError, match=r"features\.backend=fast"):
        FeaturesConfig(backend="fast")
