"""Differential counts: known numbers, what is never narrower, what few sources cannot prove, coverage."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import binomtest

from bloodcell.metrics.confusion_rates import Confusion, confusion_of_table, from_plain, to_plain
from bloodcell.metrics.differential import Cells, cells_needed, count_cells, differential_of
from bloodcell.metrics.intervals import TAIL
from bloodcell.metrics.shares import likely_shares, share_limits
from bloodcell.runtime.errors import BloodcellError

NAMES = ("neutrophil", "lymphocyte", "monocyte", "basophil")
RATES = np.array([[0.9, 0.02, 0.03, 0.05], [0.02, 0.9, 0.07, 0.01], [0.1, 0.1, 0.8, 0.0], [0.05, 0.0, 0.0, 0.95]])


def confusion(sources=50, rates=RATES):
    return Confusion(NAMES, tuple(map(tuple, (sources * rates).tolist())), (float(sources),) * len(NAMES))


def simulation():
    path = Path(__file__).parents[1] / "benchmarks" / "differential_coverage.py"
    spec = importlib.util.spec_from_file_location("differential_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def limits(differential, name):
    (one,) = [share for share in differential.shares if share.name == name]
    return one.low, one.share, one.high


def by_optimiser(rates, predicted, known):
    """Shares of highest likelihood with known rates by scipy, as logarithms of ratios."""

    def loss(logits):
        shares = np.exp(logits - np.logaddexp.reduce(logits))
        return -(predicted @ np.log(shares @ rates) + known @ np.log(shares))

    logits = minimize(loss, np.zeros(len(known)), tol=1e-12, options={"maxiter": 5000}).x
    return np.exp(logits - np.logaddexp.reduce(logits))


@pytest.mark.parametrize(
    ("predicted", "known"),
    [((140, 40, 14, 12), (0, 0, 0, 0)), ((140, 40, 4, 3), (0, 0, 0, 0)), ((70, 20, 4, 3), (20, 10, 6, 4))],
    ids=["inside", "at the border", "some confirmed"],
)
def test_shares_are_those_of_highest_likelihood(predicted, known):
    predicted, known = np.array(predicted, float), np.array(known, float)
    found = likely_shares(1e9 * RATES[None], predicted[None], known[None])[0]
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, by_optimiser(RATES, predicted, known), atol=2e-4)
    if not known.any():
        solved = np.linalg.solve(RATES.T, predicted / predicted.sum())
        assert np.allclose(found, solved, atol=2e-4) == (solved.min() > 0)


def white_settings():
    """Shares in the blood of three classes of white cells and two others; accuracy, cells and held-out sources."""
    few, many = np.array([0.6, 0.25, 0.03, 0.02, 0.1]), np.array([0.3, 0.1, 0.02, 0.5, 0.08])
    return [
        (shares, *setting) for shares in (few, many) for setting in ((0.8, 50, 10), (0.9, 200, 50), (0.95, 1000, 300))
    ]


@pytest.mark.parametrize(("shares", "accuracy", "cells", "sources"), white_settings())
def test_intervals_of_shares_among_white_cells_have_the_truth(shares, accuracy, cells, sources):
    """The share of each white class among the white cells, and that of each other class among these and itself."""
    rng, runs, white = np.random.default_rng(2), 200, np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    rates = np.where(np.eye(5) == 1, accuracy, (1 - accuracy) / 4)
    evidence = np.stack([rng.multinomial(sources, row, size=runs) for row in rates], axis=1).astype(float)
    predicted = rng.multinomial(cells, shares @ rates, size=runs).astype(float)
    among = np.maximum(white, np.eye(5))
    share, low, high = share_limits(evidence, predicted, 0 * predicted, among=among)
    truth = shares / (among @ shares)
    assert ((low <= share) & (share <= high)).all()
    assert share[:, :3].sum(1) == pytest.approx(1)
    covered = ((low <= truth) & (truth <= high)).mean(0)
    assert covered.min() > 0.92
    assert covered.mean() > 0.95
    if cells == 1000:
        np.testing.assert_allclose(share.mean(0), truth, atol=0.01)


def test_other_cells_are_told_per_100_white_cells_by_the_same_correction():
    """5 % of neutrophils are called platelets: without a platelet, a slide shows some."""
    names, rates = ("neutrophil", "lymphocyte", "platelet"), np.array([[0.95, 0, 0.05], [0, 1, 0], [0, 0, 1]])
    known = Confusion(names, tuple(map(tuple, (3000 * rates).tolist())), (3000.0,) * 3)
    found = differential_of(Cells(names, (760, 200, 40), (0, 0, 0)), known)
    assert [one.name for one in found.shares] == ["neutrophil", "lymphocyte"]
    assert [one.share for one in found.shares] == pytest.approx([0.8, 0.2], abs=1e-3)
    (platelets,) = found.others
    assert (platelets.count, found.cells) == (40, 960)
    assert platelets.low <= platelets.per_100 == pytest.approx(0, abs=0.1)
    assert 0.1 < platelets.high < 3
    with pytest.raises(BloodcellError, match="there is no white cell to count"):
        differential_of(Cells(names, (0, 0, 9), (0, 0, 0)), known)


@pytest.mark.parametrize("known", [None, 50])
def test_the_only_class_of_white_cells_has_all_of_them(known):
    names = ("leukocyte", "Nucleated_red_blood_cells")
    rates = None if known is None else Confusion(names, ((45.0, 5.0), (5.0, 45.0)), (50.0, 50.0))
    found = differential_of(Cells(names, (30, 10), (0, 0)), rates)
    assert [(one.share, one.low, one.high) for one in found.shares] == [(1, 1, 1)]
    assert found.others[0].low < found.others[0].per_100 < found.others[0].high < 100
    assert found.table()["share"].isna().tolist() == [False, True]


def test_cells_tell_about_confusions_that_few_sources_leave_open():
    """Of 5 sources of b one was taken for a: if no a is predicted, b is hardly ever taken for it."""
    evidence, predicted = np.array([[5.0, 0.0, 0.0], [1.0, 3.0, 1.0], [0.0, 0.0, 5.0]]), np.array([0.0, 80.0, 20.0])
    found = likely_shares(evidence[None], predicted[None], np.zeros((1, 3)))[0]
    assert found[0] < 1e-3
    sure = likely_shares(1e9 * evidence[None], predicted[None], np.zeros((1, 3)))[0]
    assert sure[1] < found[1] + 0.2


def test_many_slides_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    evidence, predicted = 20 * rng.dirichlet(np.ones(4), (8, 4)), rng.integers(0, 50, (8, 4)) + 1.0
    known = rng.integers(0, 3, (8, 4)).astype(float)
    together = share_limits(evidence, predicted, known)
    alone = [share_limits(evidence[[k]], predicted[[k]], known[[k]]) for k in range(8)]
    for place in range(3):
        np.testing.assert_allclose(together[place], [one[place][0] for one in alone], atol=1e-9)


def by_grid(evidence, predicted, share):
    """Log-likelihood of two classes, given the first one's share, at the best of many rates."""
    first, second = np.meshgrid(*[np.linspace(1e-4, 1 - 1e-4, 400)] * 2, indexing="ij")
    chance = share * first + (1 - share) * second
    terms = ((predicted[0], chance), (predicted[1], 1 - chance), (evidence[0, 0], first), (evidence[0, 1], 1 - first))
    terms += ((evidence[1, 0], second), (evidence[1, 1], 1 - second))
    return sum(count * np.log(one) for count, one in terms).max()


@pytest.mark.parametrize("upper", [True, False])
def test_limits_are_those_of_the_profile_likelihood(upper):
    """With the half cell, half source and quarter of one that a limit of the first class adds in its direction."""
    evidence, predicted = np.array([[20.0, 0.0], [0.0, 20.0]]), np.array([30.0, 70.0])
    limits = share_limits(evidence[None], predicted[None], np.zeros((1, 2)))[1:]
    evidence[:, int(upper)] += 0.5, 0.25
    predicted[1 - upper] += 0.5
    best = max(by_grid(evidence, predicted, share) for share in np.linspace(0.1, 0.5, 41))
    student = 2.0860  # of 20 sources
    assert best - by_grid(evidence, predicted, limits[upper][0, 0]) == pytest.approx(student**2 / 2, abs=0.02)


@pytest.mark.parametrize(
    ("count", "cells", "low", "high"),
    [(0, 100, 0, 4), (1, 100, 0, 5), (5, 100, 2, 11), (10, 100, 5, 18), (50, 100, 40, 60), (10, 200, 2, 9)],
)
def test_counting_alone_has_the_limits_that_haematologists_know(count, cells, low, high):
    """In percent, as in the tables of 95 % limits for counts of 100 and 200 cells."""
    found = differential_of(count_cells(("a", "b"), ["a"] * count + ["b"] * (cells - count)), None)
    assert not found.corrected
    lower, share, upper = limits(found, "a")
    assert (round(100 * lower), share, round(100 * upper)) == (low, count / cells, high)
    exact = binomtest(count, cells).proportion_ci(method="exact")
    assert (lower, upper) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_if_a_human_has_confirmed_all_cells_the_confusion_does_not_matter():
    cells = count_cells(NAMES, [], ["neutrophil"] * 60 + ["lymphocyte"] * 40)
    found = differential_of(cells, confusion(3))
    assert found.corrected
    assert found.shares == differential_of(cells, None).shares
    assert (found.cells, found.confirmed) == (100, 100)


@pytest.mark.parametrize("sources", [3, 30, 3000])
@pytest.mark.parametrize("rates", [RATES, np.eye(4)], ids=["errs", "never errs"])
def test_no_interval_is_narrower_than_that_of_counting(sources, rates):
    rng = np.random.default_rng(sources)
    for total in (20, 200, 2000):
        predicted = rng.multinomial(total, (0.7, 0.2, 0.095, 0.005)).astype(float)
        share, low, high = (one[0] for one in share_limits(sources * rates[None], predicted[None], np.zeros((1, 4))))
        for k in range(4):
            at_most = binomtest(int(np.floor(share[k] * total)), total).proportion_ci(method="exact")
            at_least = binomtest(int(np.ceil(share[k] * total)), total).proportion_ci(method="exact")
            assert low[k] <= at_least.low + 1e-9
            assert at_most.high <= high[k] + 1e-9
            assert low[k] <= share[k] <= high[k]


def test_the_confusion_corrects_the_share():
    """Of 1,000 cells with 80 % neutrophils, 5 % of which are taken for basophils, 40 are no basophils."""
    shares = np.array([0.8, 0.15, 0.04, 0.01])
    predicted = tuple((1000 * shares @ RATES).round().astype(int).tolist())
    found = differential_of(Cells(NAMES, predicted, (0,) * 4), confusion(3000))
    low, share, high = limits(found, "basophil")
    assert predicted[3] == 51
    assert share == pytest.approx(0.01, abs=0.002)
    assert low < 0.01 < high < 0.04
    raw = limits(differential_of(Cells(NAMES, predicted, (0,) * 4), None), "basophil")
    assert raw[0] > 0.035


def test_few_sources_do_not_prove_that_nothing_is_confused():
    cells = Cells(NAMES, (700, 200, 70, 30), (0,) * 4)
    few, many = (differential_of(cells, confusion(sources, np.eye(4))) for sources in (10, 3000))
    assert [limits(found, "basophil")[1] for found in (few, many)] == pytest.approx([0.03, 0.03], abs=1e-4)
    assert limits(few, "basophil")[0] < 1e-6  # they may all be neutrophils
    assert limits(many, "basophil")[0] > 0.015
    widths = [[one.half_width for one in found.shares] for found in (many, few)]
    assert all(wide > narrow for narrow, wide in zip(*widths, strict=True))


def test_a_class_without_held_out_sources_leaves_the_others_unsure():
    counts = np.vstack([50 * RATES[:3], np.zeros(4)])
    unseen = Confusion(NAMES, tuple(map(tuple, counts.tolist())), (50.0, 50.0, 50.0, 0.0))
    cells = Cells(NAMES, (50, 30, 10, 10), (0,) * 4)
    found, seen = differential_of(cells, unseen), differential_of(cells, confusion(50))
    assert limits(found, "basophil")[2] > limits(seen, "basophil")[2] + 0.1


def test_confirmed_cells_narrow_the_interval():
    cells, sure = Cells(NAMES, (70, 20, 5, 5), (0,) * 4), Cells(NAMES, (35, 10, 2, 3), (35, 10, 3, 2))
    some, known = differential_of(cells, confusion(20)), differential_of(sure, confusion(20))
    assert all(a.half_width > b.half_width for a, b in zip(some.shares, known.shares, strict=True))
    assert [one.count for one in some.shares] == [one.count for one in known.shares] == [70, 20, 5, 5]


def test_the_order_of_cells_does_not_matter_and_the_draws_are_always_the_same():
    rng = np.random.default_rng(0)
    predicted = rng.choice(NAMES, 200, p=(0.7, 0.2, 0.07, 0.03))
    once = differential_of(count_cells(NAMES, predicted, ["basophil"]), confusion())
    assert differential_of(count_cells(NAMES, rng.permutation(predicted), ["basophil"]), confusion()) == once
    assert once.table()["class"].tolist() == list(NAMES)
    assert once.table()["share"].sum() == pytest.approx(1)
    assert (once.cells, once.confirmed, once.table()["count"].sum()) == (201, 1, 201)


def rows_of(images):
    """A predictions table of (label, prediction, source, number of images)."""
    rows = [one[:3] for one in images for _ in range(one[3])]
    table = pd.DataFrame(rows, columns=["label", "prediction", "source"])
    table["path"] = [f"{k}.png" for k in range(len(table))]
    return table.assign(**{f"p_{name}": 0.25 for name in NAMES})


def test_copies_of_a_source_count_as_one():
    table = rows_of(
        [
            ("neutrophil", "neutrophil", "a", 30),
            ("neutrophil", "basophil", "b", 10),
            ("neutrophil", "neutrophil", "c", 3),
            ("neutrophil", "monocyte", "c", 1),
            ("lymphocyte", "lymphocyte", "d", 5),
            ("blast", "basophil", "e", 5),
        ]
    )
    found = confusion_of_table(table)
    assert found.classes == NAMES
    assert found.counts == ((1.75, 0, 0.25, 1.0), (0, 1.0, 0, 0), (0,) * 4, (0,) * 4)
    assert 3 <= found.sources[0] < 4
    assert found.sources[1:] == (1.0, 0.0, 0.0)
    assert confusion_of_table(table.sample(frac=1, random_state=0)) == found
    np.testing.assert_allclose(found.evidence.sum(1), [found.sources[0], 1, 1, 1])


def test_images_of_unknown_source_are_sources_of_their_own():
    table = rows_of([("monocyte", "monocyte", "", 7), ("monocyte", "basophil", "", 2)])
    found = confusion_of_table(table)
    assert found.counts[2] == (0, 0, 7.0, 2.0)
    assert found.sources[2] == 9


def test_no_held_out_rows_are_no_evidence():
    found = confusion_of_table(rows_of([("blast", "basophil", "e", 5)]))
    assert found.sources == (0.0,) * 4
    assert found.evidence.tolist() == np.eye(4).tolist()


def test_a_checkpoint_keeps_the_confusion(tmp_path):
    found = confusion_of_table(rows_of([("monocyte", "monocyte", "a", 3), ("monocyte", "basophil", "b", 1)]))
    torch.save({"confusion": to_plain(found)}, tmp_path / "last.ckpt")
    assert from_plain(torch.load(tmp_path / "last.ckpt", weights_only=True)["confusion"]) == found
    unknown = confusion_of_table(rows_of([("monocyte", "monocyte", "", 3)]), provisional=True)
    assert from_plain(to_plain(unknown)).provisional


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": [[1.0]]}, "do not fit together"),
        ({"counts": [[1.0, -1.0], [0.0, 1.0]]}, "do not fit together"),
        ({"counts": [[1.0, float("nan")], [0.0, 1.0]]}, "do not fit together"),
        ({"sources": [1.0, float("inf")]}, "do not fit together"),
        ({"sources": [1.0]}, "do not fit together"),
        ({"classes": ["a", "a"]}, "do not fit together"),
        ({"classes": []}, "do not fit together"),
        ({"counts": [[1.0, 0.0], [0.0]]}, "not whole"),
        ({"counts": "many"}, "not whole"),
        ({"sources": None}, "do not fit together"),
        ({"classes": None}, "not whole"),
    ],
)
def test_damaged_confusions_are_one_line(change, said):
    plain = {"classes": ["a", "b"], "counts": [[1.0, 0.0], [0.0, 1.0]], "sources": [1.0, 1.0]}
    assert from_plain(plain).classes == ("a", "b")
    with pytest.raises(BloodcellError, match=said) as error:
        from_plain(plain | change)
    assert "\n" not in str(error.value)
    for key in plain:
        with pytest.raises(BloodcellError, match="not whole"):
            from_plain({name: value for name, value in plain.items() if name != key})


def test_what_cannot_be_counted_is_said():
    with pytest.raises(BloodcellError, match="no cell to count"):
        count_cells(NAMES, [])
    with pytest.raises(BloodcellError, match="'blast' cannot be counted; the classes are neutrophil"):
        count_cells(NAMES, ["neutrophil", "blast"])
    with pytest.raises(BloodcellError, match="the confusion of a, b, c, d"):
        differential_of(count_cells(NAMES, ["neutrophil"]), replace(confusion(), classes=("a", "b", "c", "d")))


@pytest.mark.parametrize("known", [None, confusion(1000)], ids=["counting alone", "known confusion"])
def test_so_many_more_cells_narrow_the_interval(known):
    cells = Cells(NAMES, (70, 20, 6, 4), (0,) * 4)
    more = cells_needed(cells, known, "neutrophil", 0.05)
    grown = Cells(NAMES, tuple(round(n * (1 + more / 100)) for n in cells.predicted), (0,) * 4)
    assert differential_of(grown, known).shares[0].half_width == pytest.approx(0.05, rel=0.1)
    assert cells_needed(grown, known, "neutrophil", 0.06) == 0


def test_no_number_of_cells_helps_if_the_confusion_is_hardly_known():
    cells = Cells(NAMES, (70, 20, 6, 4), (0,) * 4)
    assert cells_needed(cells, confusion(10), "neutrophil") is None
    confirmed = Cells(NAMES, (0,) * 4, cells.predicted)
    assert cells_needed(confirmed, confusion(10), "neutrophil") == cells_needed(cells, None, "neutrophil") > 200


def test_coverage_in_hard_settings():
    """Most settings and runs: ``python tests/benchmarks/differential_coverage.py``."""
    of = simulation()
    for setting in (("normal", "rarest class", 0.9, 200, 10), ("two", "weak class", 0.9, 50, 50)):
        held_out, cells = of.simulate(setting, 150, np.random.default_rng(0))
        truth, covered = np.array(of.SHARES[setting[0]]), {}
        for method in (of.ours, of.counted):
            low, high = method(held_out, cells, 1)
            covered[method] = ((low <= truth) & (truth <= high)).mean(0)
        assert covered[of.ours].min() > 0.91
        assert covered[of.counted].min() < 0.8


def test_intervals_of_all_shares_together_hold_those_of_each_alone():
    evidence, predicted = np.array([[[45.0, 3, 2], [4, 40, 1], [0, 2, 30]]]), np.array([[120.0, 60, 20]])
    share, low, high = share_limits(evidence, predicted, 0 * predicted)
    same, lower, higher = share_limits(evidence, predicted, 0 * predicted, TAIL / 3)
    assert np.array_equal(share, same)
    assert (lower <= low).all()
    assert (high < higher).all()
    assert (higher - lower < 1.5 * (high - low)).all()
