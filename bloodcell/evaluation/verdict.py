"""The sentences of report.html: what a classifier can be trusted with, and warnings about its metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from bloodcell.metrics.abstention import Promise
from bloodcell.metrics.by_class import ClassScores, faultless_sources, sources_needed
from bloodcell.metrics.summary import interval_words
from bloodcell.runtime.console import named
from bloodcell.runtime.html import count, percent

#: A class is reliable if the whole intervals of its recall and precision lie above.
RELIABLE = 0.90
#: A warning follows if a class has fewer sources, or if the interval of the accuracy is wider.
FEW, WIDE = 10, 0.15
#: Below the first, an expected calibration error is small; above the second, it misleads.
CALIBRATED, MISLEADING = 0.03, 0.08
#: Sources from which a small error shows that the confidence is well calibrated. By simulation
#: (tests/benchmarks/calibration_by_chance.py), a confidence that is 12 points too high is then found in 82 to 99 % of
#: the test sets; with 45 sources in 53 to 82 %, and with 20 in 38 to 67 %.
ENOUGH = 120


@dataclass(frozen=True)
class Trust:
    """Names of the classes, by the intervals of their recall and precision: above `RELIABLE`, neither, one below."""

    reliable: list[str]
    undecided: list[str]
    unreliable: list[str]


def trust_of(scores: list[ClassScores]) -> Trust:
    """Sort the classes that have an image; if sources are unknown, all are undecided."""
    limits = {one.name: (one.recall.limits, one.precision.limits) for one in scores if one.images}
    reliable = [name for name, both in limits.items() if all(low >= RELIABLE for low, _ in both)]
    unreliable = [name for name, both in limits.items() if any(high < RELIABLE for _, high in both)]
    return Trust(reliable, [name for name in limits if name not in {*reliable, *unreliable}], unreliable)


def size_lines(scores: list[ClassScores]) -> list[tuple[str, str]]:
    """Return each class with images and a sentence on how many sources it takes to call it reliable."""
    return [(one.name, _size_line(one)) for one in scores if one.images and one.sources]


def _size_line(scores: ClassScores) -> str:
    needed, now = sources_needed(scores, RELIABLE), f"there are {count(scores.sources or 0)}"
    if needed == math.inf:
        low = [name for name in ("recall", "precision") if (getattr(scores, name).value or 0) <= RELIABLE]
        return (
            f"more sources alone are not enough, as its {' and '.join(low)} {'is' if len(low) == 1 else 'are'} "
            f"not above {percent(RELIABLE, 0)}; without an error it takes {faultless_sources(RELIABLE)} sources; {now}."
        )
    if needed <= (scores.sources or 0):
        return f"shown to be reliable; {now} sources."
    return f"it takes about {count(math.ceil(needed))} sources with as few errors as now; {now}."


def accuracy_line(metrics: dict[str, float], name: str, unseen: bool) -> str:
    """Return a sentence on the accuracy on a part, given its metrics and a name for its images.

    With `unseen`, none of their sources is in training.
    """
    text = f"Right on {percent(metrics['accuracy'])} of {count(metrics['images'])} {name}"
    if "sources" not in metrics:
        return f"{text}. Their sources are unknown, so it is unknown how far this can be trusted."
    interval = f"95\N{NO-BREAK SPACE}% interval {interval_words(metrics, 'accuracy')}\N{NO-BREAK SPACE}%"
    known = ", none of them in training" if unseen else ""
    return f"{text} ({interval}; {count(metrics['sources'])} sources{known})."


def baseline_line(rows: pd.DataFrame) -> str:
    """Return a sentence on the accuracy of the most frequent class."""
    frequent = rows["label"].value_counts()
    share = percent(frequent.iloc[0] / len(rows))
    return f"For comparison: always answering {frequent.index[0]} would be right on {share} of them."


def confidence_line(confidence: float, accuracy: float, ece: float, by_chance: float, sources: int | None) -> str:
    """Return a sentence on the calibration, given mean confidence, accuracy and calibration error, all 0 to 1.

    An error up to `by_chance` shows nothing, nor does a small one with fewer than `ENOUGH` sources. If the number of
    `sources` is unknown, None, images may be copies of one another.
    """
    claims = f"on average it claims {percent(confidence)} and is right on {percent(accuracy)}"
    if ece <= CALIBRATED and (sources or 0) >= ENOUGH:
        return f"Its confidence is well calibrated: {claims}."
    if ece <= CALIBRATED:
        few = "but sources are unknown" if sources is None else f"but {count(sources)} sources are too few to be sure"
        return f"Its confidence may be well calibrated: {claims}; {few}."
    if ece <= by_chance + 1e-9:  # the most likely outcomes may be equal
        return (
            f"Its confidence may be well calibrated: {claims}; its calibration error of {100 * ece:.1f} points may be "
            f"chance, which makes up to {100 * by_chance:.1f} on these images."
        )
    return _if_no_copies(_miscalibration(confidence, accuracy, ece, claims), sources is not None)


def _if_no_copies(line: str, known: bool) -> str:
    return line if known else f"If no image is a copy of another, which is unknown: {line[0].lower()}{line[1:]}"


def _miscalibration(confidence: float, accuracy: float, ece: float, claims: str) -> str:
    much = "much " if ece >= MISLEADING else ""
    if abs(confidence - accuracy) < ece / 2:
        return f"Its confidence is off by {100 * ece:.1f} points, sometimes too high and sometimes too low: {claims}."
    direction = "too high" if confidence > accuracy else "too low"
    return f"Its confidence is {much}{direction}: {claims}."


def abstention_line(promises: list[Promise] | None, known: bool) -> str:
    """Return a sentence on the images that the classifier can answer alone.

    It is about the lowest error rate at which most images are answered, else about the highest. If there is a single
    source, there are no promises; if sources are not `known`, images may be copies of one another.
    """
    return _if_no_copies(_abstention(promises), known)


def _abstention(promises: list[Promise] | None) -> str:
    if promises is None:
        return "There is a single source, so no error rate can be promised."
    possible = [one for one in promises if one.attained]
    if not possible:
        rate = percent(promises[-1].error_rate, 0)
        return (
            f"It can answer no share of the images alone: not even {rate} errors can be promised; "
            f"{promises[-1].obstacle}."
        )
    best = next((one for one in possible if one.coverage >= 0.5), possible[-1])
    if best.coverage == 1:
        return f"It can answer all images alone: at most {percent(best.error_rate, 0)} errors are promised."
    return (
        f"If it answers only the images that it is sure of, it answers {percent(best.coverage, 0)} with at most "
        f"{percent(best.error_rate, 0)} errors promised ({percent(best.risk)} found); the others go to a human."
    )


def source_warnings(images: dict[str, pd.DataFrame], trained_on: frozenset[str]) -> list[str]:
    """Warn of images, by their name, whose source is in training or unknown."""
    found = []
    for name, rows in images.items():
        seen = rows.loc[rows["source"].isin(trained_on - {""}), "source"]
        if len(seen):
            found.append(
                f"{name.capitalize()}: {count(len(seen))} of {count(len(rows))} are of {count(seen.nunique())} sources "
                "that are in training, too. On them memory is measured, not skill."
            )
        if unknown := int((rows["source"].fillna("") == "").sum()):
            found.append(
                f"{name.capitalize()}: the source of {count(unknown)} of {count(len(rows))} is unknown. Copies of one "
                "cell may count as many, and no interval can be given; bloodcell audit finds the sources."
            )
    return found


def choice_warnings(names: dict[str, str], compared: int) -> list[str]:
    """Warn of validation parts, part -> name for its images, that chose this classifier among `compared` ones."""
    chose = [name for part, name in names.items() if part == "val"]
    return [
        f"{name.capitalize()}: they also chose the epoch, so all figures on them are optimistic."
        for name in chose
        if compared > 1
    ]


def few_warnings(metrics: dict[str, float], scores: list[ClassScores]) -> list[str]:
    """Warn of classes without images, of few sources, and of images without a cell."""
    found = []
    if missing := [score.name for score in scores if not score.images]:
        found.append(f"There is no image of {named(missing)}, so nothing is known about it.")
    if "sources" in metrics and (wide := metrics["accuracy_high"] - metrics["accuracy_low"]) > WIDE:
        sources = count(metrics["sources"])
        found.append(f"Few sources: {sources} tell the accuracy only to within {100 * wide:.0f} percentage points.")
    if rare := [f"{one.name} ({one.sources})" for one in scores if one.sources is not None and 0 < one.sources < FEW]:
        found.append(f"Few sources of {named(rare)}: with a few others, their scores might be very different.")
    if lost := metrics.get("without_cell"):
        found.append(f"No cell was found in {count(lost)} images, which were taken whole.")
    return found
