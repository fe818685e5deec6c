"""How often the report calls a perfectly calibrated classifier's confidence off, and whether it finds one that is.

    python tests/benchmarks/calibration_by_chance.py [--runs 100]

A source has 1, 2 to 11 or 5 to 39 images of about the same confidence. Whether they are right is drawn from it, with a
correlation of 0, 0.5, 0.9 or 1 between the images of a source (Gaussian copula). Old rule: an expected calibration
error above 0.03 is off. New rule: one above `ece_by_chance`, too. The last column has the share in which a classifier
that claims 0.12 too much is found. A line has the mean and the largest over the correlations.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.stats import norm

from bloodcell.evaluation.verdict import CALIBRATED
from bloodcell.metrics.reliability import ece_by_chance, reliability

SOURCES, COPIES, CORRELATIONS, TOO_HIGH = (20, 45, 120, 260), ((1, 2), (2, 12), (5, 40)), (0.0, 0.5, 0.9, 1.0), 0.12


def simulate(rng, sources, copies, correlation):
    """Return predictions of two classes that claim what is true, and the same confidences that claim too much."""
    source = np.repeat(np.arange(sources), rng.integers(*copies, sources))
    logit = 2 + 1.7 * rng.normal(size=sources)[source] + 0.6 * rng.normal(size=len(source))
    top = 0.98 / (1 + np.exp(-np.abs(logit)))
    shared, own = rng.normal(size=sources)[source], rng.normal(size=len(source))
    chance = norm.cdf(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)
    rows = pd.DataFrame({"path": "", "source": source.astype(str), "prediction": "a", "p_a": top, "p_b": 1 - top})
    truths = (top, np.maximum(top - TOO_HIGH, 0.2))
    return [rows.assign(label=np.where(chance < truth, "a", "b")) for truth in truths]


def called_off(rows):
    """Return whether the old rule calls the confidence off, and whether the new one does."""
    error = reliability(rows.assign(source="")).ece  # without the intervals, which take long
    return error > CALIBRATED, error > max(CALIBRATED, ece_by_chance(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    given, rng = parser.parse_args(), np.random.default_rng(0)
    for sources in SOURCES:
        for copies in COPIES:
            found = []
            for correlation in CORRELATIONS:
                runs = [simulate(rng, sources, copies, correlation) for _ in range(given.runs)]
                found.append(np.mean([(*called_off(calibrated), called_off(high)[1]) for calibrated, high in runs], 0))
            (old, new, power), (oldest, newest, _) = np.mean(found, axis=0), np.max(found, axis=0)
            print(
                f"{sources:3} sources of {copies[0]} to {copies[1] - 1} images: a calibrated classifier is called off "
                f"in {100 * old:.0f} % (at most {100 * oldest:.0f} %) by the old rule, {100 * new:.1f} % (at most "
                f"{100 * newest:.0f} %) by the new one; one that claims {TOO_HIGH} too much in {100 * power:.0f} %"
            )


if __name__ == "__main__":
    main()
