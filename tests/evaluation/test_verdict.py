"""The verdict says what the metrics say, and warns if they say little."""

import pandas as pd
import pytest

from bloodcell.evaluation import verdict
from bloodcell.metrics.abstention import Promise
from bloodcell.metrics.by_class import ClassScores, Score
from bloodcell.metrics.intervals import Estimate


def spoken(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def scores(name, recall, precision, sources=50, images=100):
    made = [
        Score(sum(ends) / 2, Estimate(sum(ends) / 2, *ends, 50)) if ends else Score(0.9, None)
        for ends in (recall, precision)
    ]
    return ClassScores(name, images, sources, made[0], Score(0.9, None), made[1], Score(0.9, None))


def test_a_class_is_reliable_if_both_whole_intervals_are_and_not_if_one_lies_below():
    found = verdict.trust_of(
        [
            scores("good", (0.9, 1.0), (0.92, 0.99)),
            scores("unsure", (0.8, 0.95), (0.92, 0.99)),
            scores("poor", (0.95, 1.0), (0.5, 0.89)),
            scores("unknown", None, None, sources=None),
            scores("absent", (0.9, 1.0), (0.9, 1.0), sources=0, images=0),
        ]
    )
    assert found == verdict.Trust(["good"], ["unsure", "unknown"], ["poor"])


def test_the_accuracy_comes_with_its_interval_and_sources():
    figures = {"accuracy": 0.5873, "accuracy_low": 0.484, "accuracy_high": 0.7, "images": 2285, "sources": 62}
    assert spoken(verdict.accuracy_line(figures, "test images", unseen=False)) == (
        "Right on 58.7 % of 2,285 test images (95 % interval 48 to 70 %; 62 sources)."
    )
    assert "62 sources, none of them in training)." in verdict.accuracy_line(figures, "test images", unseen=True)
    unknown = {"accuracy": 0.5873, "images": 2285}
    assert "sources are unknown" in verdict.accuracy_line(unknown, "test images", unseen=True)


def test_the_most_frequent_class_is_the_baseline():
    assert "always answering b would be right on 75.0 %" in spoken(
        verdict.baseline_line(pd.DataFrame({"label": list("abbb")}))
    )


@pytest.mark.parametrize(
    ("confidence", "accuracy", "ece", "words"),
    [
        (0.9, 0.89, 0.02, "Its confidence is well calibrated"),
        (0.9, 0.6, 0.3, "Its confidence is much too high: on average it claims 90.0 % and is right on 60.0 %"),
        (0.8, 0.75, 0.05, "Its confidence is too high"),
        (0.6, 0.66, 0.06, "Its confidence is too low"),
        (0.8, 0.8, 0.06, "off by 6.0 points, sometimes too high and sometimes too low"),
    ],
)
def test_its_confidence_is_right_or_too_high_or_too_low(confidence, accuracy, ece, words):
    assert words in spoken(verdict.confidence_line(confidence, accuracy, ece, by_chance=0.045, sources=120))


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (5, "may be well calibrated: on average it claims 90.0 % and is right on 89.0 %; but 5 sources are too few"),
        (119, "but 119 sources are too few to be sure."),
        (120, "is well calibrated: on average it claims 90.0 % and is right on 89.0 %."),
        (None, "may be well calibrated: on average it claims 90.0 % and is right on 89.0 %; but sources are unknown."),
    ],
)
def test_few_sources_do_not_show_that_it_is_well_calibrated(sources, words):
    assert words in spoken(verdict.confidence_line(0.9, 0.89, 0.02, by_chance=0.05, sources=sources))


def test_what_may_be_chance_is_not_called_off():
    assert spoken(verdict.confidence_line(0.9, 0.85, 0.06, by_chance=0.061, sources=40)) == (
        "Its confidence may be well calibrated: on average it claims 90.0 % and is right on 85.0 %; its calibration "
        "error of 6.0 points may be chance, which makes up to 6.1 on these images."
    )
    assert "too high" in verdict.confidence_line(0.9, 0.85, 0.06, by_chance=0.059, sources=40)
    assert spoken(verdict.confidence_line(0.9, 0.85, 0.06, by_chance=0.05, sources=None)).startswith(
        "If no image is a copy of another, which is unknown: its confidence is too high"
    )


def test_what_it_can_do_alone():
    none, some = Promise(0.01, sources=60, needed=230), Promise(0.02, 0.99, 0.3, 0.01)
    most = Promise(0.05, 0.9, 0.82, 0.031)
    assert "answers 82 % with at most 5 % errors promised (3.1 % found)" in spoken(
        verdict.abstention_line([none, some, most], known=True)
    )
    assert "answers 30 % with at most 2 %" in spoken(verdict.abstention_line([none, some], known=True))
    assert "answer all images alone: at most 5 %" in spoken(
        verdict.abstention_line([Promise(0.05, 0.0, 1.0, 0.01)], known=True)
    )
    assert "can answer no share of the images alone: not even 1 % errors" in spoken(
        verdict.abstention_line([none], known=True)
    )
    assert "takes 230 sources without an error, and there are 60." in verdict.abstention_line([none], known=True)
    assert "single source" in verdict.abstention_line(None, known=True)
    assert spoken(verdict.abstention_line([most], known=False)).startswith(
        "If no image is a copy of another, which is unknown: if it answers only the images that it is sure of"
    )


def test_it_warns_of_figures_of_the_part_that_chose_the_epoch():
    names = {"test": "test images", "val": "validation images"}
    (line,) = verdict.choice_warnings(names, 15)
    assert line == "Validation images: they also chose the epoch, so all figures on them are optimistic."
    assert verdict.choice_warnings(names, 1) == []


def test_it_warns_of_sources_in_training_and_of_unknown_ones():
    rows = pd.DataFrame({"source": ["a", "a", "b", ""]})
    shared, unknown = verdict.source_warnings({"test images": rows}, frozenset({"a", ""}))
    assert shared.startswith("Test images: 2 of 4 are of 1 sources that are in training")
    assert unknown.startswith("Test images: the source of 1 of 4 is unknown")
    assert verdict.source_warnings({"test images": rows[2:3]}, frozenset({"a"})) == []


def test_it_warns_of_few_sources_of_missing_classes_and_of_images_without_a_cell():
    wide = {"accuracy_low": 0.5, "accuracy_high": 0.72, "sources": 62, "without_cell": 3}
    of = [scores("a", (0.9, 1.0), (0.9, 1.0)), scores("b", (0, 1), (0, 1), sources=4), scores("c", None, None, 0, 0)]
    missing, few, rare, lost = verdict.few_warnings(wide, of)
    assert missing.startswith("There is no image of c")
    assert "62 tell the accuracy only to within 22 percentage points" in few
    assert rare.startswith("Few sources of b (4)")
    assert lost.startswith("No cell was found in 3 images")
    assert verdict.few_warnings({"accuracy_low": 0.9, "accuracy_high": 0.95, "sources": 500}, of[:1]) == []
    assert verdict.few_warnings({}, [scores("a", None, None, sources=None)]) == []
