"""What is unlike the training data is known by its features, unseen cells of the known classes are rarely flagged."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples, read_samples
from bloodcell.inference.backends import Backbone
from bloodcell.inference.calibration import MOST, spread
from bloodcell.inference.features import Extractor
from bloodcell.metrics.abstention import least_sources, promise
from bloodcell.metrics.confusion_rates import confusion_of_table
from bloodcell.metrics.predictions import predictions_table
from bloodcell.models.classifier import Classifier, load_checkpoint, load_classifier
from bloodcell.models.ood import (
    FLAGGED,
    MOST_FLAGGED,
    Fold,
    fit_limits,
    fit_limits_by_folds,
    from_plain,
    score,
    to_plain,
    unlike_threshold,
)
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import resume, train
from tests.conftest import QUICK, SMALL

CLASSES = ["a", "b", "c"]
WIDTH = 40


def cells(count, seed, centres=None):
    """Draw features (count, WIDTH) about the centres of three classes, wider in some directions, and their labels."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, WIDTH) * 8 + 4 if centres is None else centres
    labels = np.arange(count) % len(centres)
    spreads = np.linspace(0.3, 1.5, WIDTH)
    return (centres[labels] + rng.normal(0, spreads, (count, WIDTH))).astype(np.float32), labels


def rows_of(labels, sources=None, sure=0.9):
    """Return rows of a predictions table, all of them right."""
    names = sources if sources is not None else [f"s{i}" for i in range(len(labels))]
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "split": "val", "source": names})
    probabilities = np.full((len(labels), 3), (1 - sure) / 2)
    probabilities[np.arange(len(labels)), labels] = sure
    return predictions_table(table.assign(label=np.array(CLASSES)[labels]), CLASSES, probabilities)


@pytest.fixture(scope="module")
def limits():
    val, labels = cells(400, 1)
    return fit_limits(*cells(600, 0), val, rows_of(labels), "flips")


def test_known_classes_are_rarely_flagged_and_others_are(limits):
    unseen, others = cells(4000, 2)[0], cells(500, 3, centres=np.eye(5, WIDTH)[3:] * 8 + 4)[0]
    assert (score(limits, unseen) > limits.threshold).mean() <= FLAGGED
    assert (score(limits, others) > limits.threshold).mean() > 0.99
    assert limits.means.shape == (3, WIDTH)
    assert limits.whitening.shape == (WIDTH, WIDTH)
    assert limits.means.dtype == limits.whitening.dtype == np.float32


def test_limits_of_a_net_that_learnt_all_cells_come_from_the_folds():
    """The second of four classes has no cell; a net of a fold does not know its own validation cells as well."""
    features, drawn = cells(300, 0)
    labels, parts = np.array([0, 2, 3])[drawn], np.arange(300) // 100
    rows = rows_of(drawn)
    folds = [Fold(parts == number, features[parts != number], features[parts == number]) for number in range(3)]
    found = fit_limits_by_folds(features, labels, folds, rows, 4, "flips")
    assert found.means.shape == (4, WIDTH)
    unseen, others = cells(2000, 2)[0], cells(200, 3, centres=np.eye(5, WIDTH)[3:] * 8 + 4)[0]
    assert (score(found, unseen) > found.threshold).mean() <= FLAGGED + 0.02
    assert (score(found, others) > found.threshold).mean() > 0.9
    assert found.abstention["0.1"] is not None
    provisional = fit_limits_by_folds(features, labels, folds, rows, 4, "flips", provisional=True)
    assert set(provisional.abstention.values()) == {None}


def test_the_score_is_the_mahalanobis_distance_of_features_of_unit_length(limits):
    features = cells(50, 4)[0]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    inverse = limits.whitening.astype(float) @ limits.whitening.T.astype(float)
    apart = unit[:, None] - limits.means[None]
    expected = np.einsum("nci,ij,ncj->nc", apart, inverse, apart).min(axis=1)
    np.testing.assert_allclose(score(limits, features), expected, rtol=1e-4)
    np.testing.assert_allclose(score(limits, 7 * features), score(limits, features), rtol=1e-5)
    assert np.isfinite(score(limits, np.zeros((1, WIDTH)))).all()


def test_features_that_never_vary_do_no_harm():
    """Such as a channel that is always 0; a few images make a covariance of all directions."""
    (learnt, labels), (val, truth) = cells(30, 0), cells(60, 1)
    learnt[:, 20:] = val[:, 20:] = 0
    found = fit_limits(learnt, labels, val, rows_of(truth))
    assert np.isfinite(score(found, val)).all()
    assert 0 < found.threshold < np.inf


def test_the_threshold_is_kept_over_many_draws():
    """At most FLAGGED of what is to come is flagged, in nine of ten draws, though training images lie nearer."""
    rng, broken = np.random.default_rng(0), 0
    for _ in range(300):
        drawn = rng.normal(size=120)
        threshold, _ = unlike_threshold(drawn, rows_of(np.zeros(120, int)))
        broken += (rng.normal(size=20_000) > threshold).mean() > FLAGGED
    assert 0 < broken / 300 <= 0.1 + 0.03


def test_the_threshold_is_kept_if_the_same_sources_chose_the_backbone():
    """The backbone of 15 whose scores on these sources are lowest flags more of what is to come than it seems to."""
    rng, rows, broken = np.random.default_rng(0), rows_of(np.zeros(120, int)), np.zeros(2)
    for _ in range(100):
        drawn = rng.normal(size=(15, 120))
        lucky = drawn[np.sort(drawn, axis=1)[:, -3].argmin()]
        # the least share above a threshold is exact: the backbones are equally good
        above = [norm.sf(unlike_threshold(lucky, rows, backbones)[0]) for backbones in (1, 15)]
        broken += np.array(above) > FLAGGED
    assert broken[0] > 40
    assert broken[1] <= 10


def test_the_threshold_is_the_score_that_the_binomial_allows():
    """Of 120 sources, 2 may lie above for one backbone, and none for 15 or more: binom.cdf of 0.05 by hand."""
    scores, rows = np.arange(120.0), rows_of(np.zeros(120, int))
    chances = [sum(math.comb(120, k) * 0.05**k * 0.95 ** (120 - k) for k in range(most + 1)) for most in range(4)]
    for backbones in (1, 2, 15, 40):
        allowed = max(most for most in range(4) if chances[most] <= 0.1 / backbones)
        assert unlike_threshold(scores, rows, backbones) == (119 - allowed, FLAGGED)
    assert [unlike_threshold(scores, rows, many)[0] for many in (1, 15)] == [117, 119]


def test_every_source_counts_one():
    """Hundreds of copies of one odd source leave the threshold where one image of it would."""
    values = np.random.default_rng(0).normal(size=60)
    once = unlike_threshold(np.r_[values, 99.0], rows_of(np.zeros(61, int)))
    names = [f"s{i}" for i in range(60)] + ["s60"] * 500
    often = unlike_threshold(np.r_[values, np.full(500, 99.0)], rows_of(np.zeros(560, int), names))
    assert once == often == (99, FLAGGED)


@pytest.mark.parametrize(("sources", "backbones", "share"), [
    (45, 1, 0.05), (44, 1, 0.06), (16, 1, 0.14), (15, 1, 0.15), (98, 15, 0.05), (97, 15, 0.06), (31, 15, 0.15),
])  # fmt: skip
def test_few_sources_promise_a_larger_share(sources, backbones, share):
    """Above the highest of N scores lies at most a share q of what is to come, but for a chance of (1 - q) ** N."""
    assert (1 - share) ** sources <= 0.1 / backbones < (1 - share + 0.01) ** sources or share == FLAGGED
    rows = rows_of(np.zeros(sources, int))
    assert unlike_threshold(np.arange(float(sources)), rows, backbones) == (sources - 1, share)


def test_the_larger_share_is_kept_over_many_draws():
    drawn, rows = np.random.default_rng(0).normal(size=(400, 16)), rows_of(np.zeros(16, int))
    found = [unlike_threshold(one, rows) for one in drawn]
    broken = np.mean([norm.sf(threshold) > share for threshold, share in found])
    assert 0.04 < broken <= 0.1 + 0.03


def test_very_few_sources_set_no_threshold():
    assert least_sources(FLAGGED) == 45
    assert least_sources(MOST_FLAGGED) == 15
    with pytest.raises(BloodcellError, match="wants 15 val sources; there are 14"):
        unlike_threshold(np.arange(14.0), rows_of(np.zeros(14, int)))
    with pytest.raises(BloodcellError, match="wants 31 val sources; there are 30"):
        unlike_threshold(np.arange(30.0), rows_of(np.zeros(30, int)), backbones=15)


def test_abstention_is_what_is_promised_of_the_validation_rows():
    val, labels = cells(120, 1)
    rows = rows_of(labels)
    found = fit_limits(*cells(200, 0), val, rows)
    assert found.abstention == {"0.01": None, **dict.fromkeys(("0.02", "0.05", "0.1"), 0.0)}
    assert [promise(rows, float(rate)).attained for rate in found.abstention] == [False, True, True, True]


def test_limits_are_kept_as_plain_values(limits, tmp_path):
    torch.save({"limits": to_plain(limits)}, tmp_path / "a.ckpt")
    again = from_plain(torch.load(tmp_path / "a.ckpt", weights_only=True)["limits"])
    for field in dataclasses.fields(limits):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(limits, field.name))
    lists = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in to_plain(limits).items()}
    np.testing.assert_array_equal(score(from_plain(lists), cells(5, 9)[0]), score(limits, cells(5, 9)[0]))


@pytest.mark.parametrize(
    "odd",
    [
        {"means": None},
        {"means": torch.zeros(3)},
        {"whitening": torch.zeros(7, 7)},
        {"threshold": float("nan")},
        {"threshold": "high"},
        {"abstention": [0.5]},
        {"flagged": 0.0},
        {"flagged": "few"},
    ],
)
def test_odd_limits_are_refused(limits, odd):
    with pytest.raises(BloodcellError, match="its limits .* the file is damaged"):
        from_plain({**to_plain(limits), **odd})
    missing = {key: value for key, value in to_plain(limits).items() if key not in odd}
    if "flagged" in odd:  # an older release kept none, and took sources enough for 5 %
        assert from_plain(missing).flagged == FLAGGED
        return
    with pytest.raises(BloodcellError, match="its limits are not whole"):
        from_plain(missing)


def test_training_images_are_spread_over_the_sources(tmp_path):
    names = [f"many{i // 3000}" for i in range(6000)] + [f"few{i}" for i in range(500)] + ["rare"]
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(names))], "label": "x", "source": names, "split": ""})
    table.loc[table["source"] == "rare", "label"] = "y"
    chosen = spread(Samples(table, tmp_path)).table
    assert len(chosen) == MOST
    counts = chosen["source"].value_counts()
    assert (counts.drop(["many0", "many1"]) == 1).all()
    assert abs(counts["many0"] - counts["many1"]) <= 1
    assert chosen.equals(spread(Samples(table, tmp_path)).table)
    assert len(spread(Samples(table[:100], tmp_path)).table) == 100


@pytest.fixture(scope="module")
def many_smears():
    """Painted smears with sources enough in the validation part, and few images of each."""
    return ("data.reader.train_photographs=40", "data.reader.test_photographs=2", "data.reader.copies=1")


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["finetune=full", "augment=light", "evaluate.tta=flips"]])
def test_a_run_keeps_its_limits_and_a_resumed_one_has_the_same(
    compose, many_smears, tmp_path, capsys, monkeypatch, extra
):
    own = [*QUICK, *many_smears, *extra, "data.val_fraction=0.4", "evaluate.figures=false", f"outputs={tmp_path}"]
    train(compose(*own), tmp_path / "one")
    start = Classifier.on_train_epoch_start

    def fails_in_epoch_2(self):
        if self.current_epoch == 1:
            raise RuntimeError("pulled the plug")
        start(self)

    monkeypatch.setattr(Classifier, "on_train_epoch_start", fails_in_epoch_2)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(compose(*own), tmp_path / "two")
    monkeypatch.setattr(Classifier, "on_train_epoch_start", start)
    resume(tmp_path / "two", [])
    assert " ".join(capsys.readouterr().out.split()).count("out-of-distribution images are flagged") == 2
    kept = [load_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt") for name in ("one", "two")]
    one, other = (checkpoint["limits"] for checkpoint in kept)
    assert all(torch.equal(one[key], other[key]) for key in ("means", "whitening"))
    assert all(one[key] == other[key] for key in ("threshold", "abstention", "tta"))
    classifier = load_classifier(tmp_path / "one" / "checkpoints" / "best.ckpt")
    limits = classifier.limits
    assert limits.tta == ("flips" if extra else "none")
    assert kept[0]["confusion"] == kept[1]["confusion"]

    table = pd.read_csv(tmp_path / "one" / "predictions.csv", keep_default_na=False)
    val = table[table["split"] == "val"].reset_index(drop=True)
    samples = Samples(val, read_samples(tmp_path / "one" / "samples.csv").root)
    assert classifier.confusion == confusion_of_table(val)
    assert sum(map(sum, classifier.confusion.counts)) == pytest.approx(val["source"].nunique())
    scores = score(limits, features_of(classifier, samples))
    above = (scores > limits.threshold * (1 + 1e-4)).mean()
    assert 0 <= above <= FLAGGED
    assert np.isclose(scores, limits.threshold, rtol=1e-3).any()  # it is the score of a validation image
    assert json.loads((tmp_path / "one" / "metrics.json").read_text())["epochs_compared"] == 2
    for rate, confidence in limits.abstention.items():
        made = promise(val, float(rate), compared=2)
        assert made.attained == (confidence is not None)
        assert not made.attained or confidence == pytest.approx(made.threshold, rel=1e-9)


def features_of(classifier, samples):
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    backbone = Backbone(classifier.net, preprocessing.image_size, "eager")
    return np.asarray(Extractor(classifier.net, preprocessing, backbone, None, workers=1).features(samples)[:])


def test_without_validation_of_unseen_sources_nothing_is_known(compose, tmp_path, capsys):
    own = [*QUICK, *SMALL, "trainer.max_epochs=1", "evaluate.figures=false", f"outputs={tmp_path}"]
    train(compose(*own, "data.split=random"), tmp_path / "random")
    train(compose(*own, "data.val_fraction=0.2"), tmp_path / "few")
    train(compose(*own, "data.val_fraction=0.4", "limits=false"), tmp_path / "off")
    said = " ".join(capsys.readouterr().out.split())
    assert "out-of-distribution images are not flagged: " in said
    assert "val images share a source with training; data.split=grouped keeps them apart" in said
    assert "that takes 15 val sources, and there are" in said
    for name in ("random", "few", "off"):
        file = tmp_path / name / "checkpoints" / "best.ckpt"
        assert "limits" not in load_checkpoint(file)
        classifier = load_classifier(file)
        assert classifier.limits is None
        assert (classifier.confusion is None) == (name != "few")  # a few sources tell little of confusions, but some


@pytest.mark.parametrize(("choice", "more"), [
    ("finetune=full", ", and, as the val sources are few, up to 6 % of ordinary unseen cells, too"),
    ("finetune=frozen", ""),
])  # fmt: skip
def test_only_a_backbone_that_learns_is_chosen_with_the_epoch(compose, tmp_path, capsys, choice, more):
    """50 sources promise 5 % of one backbone, and 6 % of the best of two."""
    cells = ("data.reader.train_photographs=25", "data.reader.test_photographs=2", "data.reader.copies=1")
    own = [*QUICK, *cells, choice, "data.val_fraction=0.4", "report=false", f"outputs={tmp_path}"]
    train(compose(*own), tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    flags = f"out-of-distribution images are flagged{more}; promised: "
    assert f"limits by 50 val sources that chose among 2 epochs: {flags}" in said
    limits = load_classifier(tmp_path / "run" / "checkpoints" / "best.ckpt").limits
    assert limits.flagged == (0.06 if more else FLAGGED)


@pytest.mark.parametrize(
    ("confusion", "said"),
    [
        ({"classes": ["a", "b"], "counts": [[1, 0], [0, 1]], "sources": [1, 1]}, "its confusions are of other classes"),
        ({"classes": ["a", "b"]}, "its confusions are not whole"),
        (None, "its confusions are not whole"),
        ([1], "its confusions are not whole"),
    ],
)
def test_damaged_confusions_are_refused(another, confusion, said):
    run = another("odd", lambda checkpoint: checkpoint.update(confusion=confusion))
    with pytest.raises(BloodcellError, match=rf"best\.ckpt: {said}.*; the file is damaged"):
        load_classifier(run / "checkpoints" / "best.ckpt")


def test_limits_of_another_net_are_refused(another, limits):
    run = another("odd", lambda checkpoint: checkpoint.update(limits=to_plain(limits)))
    with pytest.raises(BloodcellError, match=r"best\.ckpt: its limits are of another net"):
        load_classifier(run / "checkpoints" / "best.ckpt")
