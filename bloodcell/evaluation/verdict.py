"""What a classifier can be trusted with, in plain words, and what speaks against its figures."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bloodcell.metrics.by_class import ClassScores, Score
from bloodcell.metrics.cross_fit import Kept
from bloodcell.runtime.html import count, percent

#: From here on a class counts as reliable, if the whole interval of its recall and precision lies above.
RELIABLE = 0.90
#: Fewer sources of a class, and an accuracy whose interval is wider, call for a warning.
FEW, WIDE = 10, 0.15
#: Expected calibration errors up to here go unnoticed, and from here on mislead.
CALIBRATED, MISLEADING = 0.03, 0.08


@dataclass(frozen=True)
class Trust:
    """Classes by what the intervals of their recall and precision say of `RELIABLE`."""

    reliable: list[str]
    undecided: list[str]
    unreliable: list[str]


def trust_of(scores: list[ClassScores]) -> Trust:
    """Sort the classes that are in the images; where sources are unknown, none is reliable or unreliable."""
    there = [score for score in scores if score.images]
    reliable = [score.name for score in there if all(_from(one) >= RELIABLE for one in (score.recall, score.precision))]
    poor = [score.name for score in there if any(_to(one) < RELIABLE for one in (score.recall, score.precision))]
    return Trust(reliable, [score.name for score in there if score.name not in {*reliable, *poor}], poor)


def _from(score: Score) -> float:
    return score.interval.low if score.interval else 0.0


def _to(score: Score) -> float:
    return score.interval.high if score.interval else 1.0


def accuracy_line(figures: dict[str, float], name: str, unseen: bool) -> str:
    """Say how often the classifier is right, and on how much that rests.

    Args:
        figures: Of the images alone.
        name: Of the images.
        unseen: None of their sources is in training, which is known.
    """
    text = f"Right on {percent(figures['accuracy'])} of {count(figures['images'])} {name}"
    if "sources" not in figures:
        return f"{text}. Their sources are unknown, so nobody can say how far that figure can be trusted."
    low, high = f"{100 * figures['accuracy_low']:.0f}", percent(figures["accuracy_high"], 0)
    known = ", none of them in training" if unseen else ""
    return f"{text} (95\N{NO-BREAK SPACE}% interval {low} to {high}; {count(figures['sources'])} sources{known})."


def baseline_line(rows: pd.DataFrame) -> str:
    """Say what always naming the most frequent class would come to."""
    frequent = rows["label"].value_counts()
    share = percent(frequent.iloc[0] / len(rows))
    return f"For comparison: who always answers {frequent.index[0]} is right on {share} of them."


def certainty_line(confidence: float, accuracy: float, ece: float) -> str:
    """Say whether the classifier's own certainty can be believed.

    Args:
        confidence: Mean probability of the predicted class.
        accuracy: Share of the images that are right.
        ece: Expected calibration error.
    """
    claims = f"on average it claims {percent(confidence)} and is right on {percent(accuracy)}"
    if ece <= CALIBRATED:
        return f"Its certainty can be taken at its word: {claims}."
    much = "much " if ece >= MISLEADING else ""
    if abs(confidence - accuracy) < ece / 2:
        return f"Its certainty is off by {100 * ece:.1f} points, here upwards and there downwards: {claims}."
    way = "too sure of itself" if confidence > accuracy else "less sure than it could be"
    return f"It is {much}{way}: {claims}."


def abstention_line(kept: list[Kept] | None, known: bool) -> str:
    """Say what it can answer alone: at the lowest error rate at which that is most images, else at the highest.

    Args:
        kept: What became of each promise; None where there is a single source.
        known: The sources are; else a promise rests on images that may be copies of one another.
    """
    line = _abstention(kept)
    return line if known else f"If no image were a copy of another, which nobody knows: {line[0].lower()}{line[1:]}"


def _abstention(kept: list[Kept] | None) -> str:
    if kept is None:
        return "With a single source, nothing can be said of leaving doubtful images to a human."
    possible = [one for one in kept if one.risk is not None]
    if not possible:
        rate = percent(kept[-1].error_rate, 0)
        return (
            f"It cannot be left alone with any share of the images: not even {rate} errors can be promised, as it errs "
            "too much or as there are too few sources."
        )
    best = next((one for one in possible if one.coverage >= 0.5), possible[-1])
    if best.coverage == 1:
        return f"It can answer all images alone: at most {percent(best.error_rate, 0)} errors are promised."
    return (
        f"Left alone with the images that it is sure of, it answers {percent(best.coverage, 0)} with at most "
        f"{percent(best.error_rate, 0)} errors promised ({percent(best.risk or 0)} found); the others go to a human."
    )


def doubts(images: dict[str, pd.DataFrame], trained_on: frozenset[str]) -> list[str]:
    """Say which images are of sources in training, and of which the source is unknown.

    Args:
        images: Their name -> rows of the predictions table.
        trained_on: Sources of the training images.
    """
    return [line for name, rows in images.items() for line in _doubts(name.capitalize(), rows, trained_on - {""})]


def _doubts(name: str, rows: pd.DataFrame, trained_on: frozenset[str]) -> list[str]:
    found, unknown = [], int((rows["source"].fillna("") == "").sum())
    seen = rows.loc[rows["source"].isin(trained_on), "source"]
    if len(seen):
        found.append(
            f"{name}: {count(len(seen))} of {count(len(rows))} are of {count(seen.nunique())} sources that are in "
            "training, too. On them memory is measured, not skill."
        )
    if unknown:
        found.append(
            f"{name}: the source of {count(unknown)} of {count(len(rows))} is unknown. Copies of one cell may count as "
            "many, and no interval can be given; bloodcell audit finds the sources."
        )
    return found


def few(figures: dict[str, float], scores: list[ClassScores]) -> list[str]:
    """Say where the verdict, or what it says of a class, rests on few sources or none."""
    found = []
    if missing := [score.name for score in scores if not score.images]:
        found.append(f"No image of {', '.join(missing)} is there, so nothing is known of it.")
    if "sources" in figures and (wide := figures["accuracy_high"] - figures["accuracy_low"]) > WIDE:
        sources = count(figures["sources"])
        found.append(f"Few sources: {sources} tell the accuracy only to within {100 * wide:.0f} percentage points.")
    if rare := [f"{one.name} ({one.sources})" for one in scores if one.sources is not None and 0 < one.sources < FEW]:
        found.append(f"Few sources of {', '.join(rare)}: a few others might change the figures of these classes much.")
    if lost := figures.get("without_cell"):
        found.append(f"No cell was found in {count(lost)} images, which were taken whole.")
    return found
