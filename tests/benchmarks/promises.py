"""Whether promises and sets hold for sources that had no part in choosing their thresholds, on any predictions.

    python tests/benchmarks/promises.py PREDICTIONS.csv [--splits 20]

PREDICTIONS.csv is a predictions.csv or out_of_fold.csv whose sources are known. In each split a random half of the
sources chooses the threshold and the others judge it; a line has the medians over the splits. Of a promise: in how
many splits one was made, the share of answers that was promised and found, and the errors among them; broken counts
the splits in which the errors found were more than promised (those of a half scatter, so some are by chance). Of sets:
the share that holds the true class, its least and most, and the mean number of classes.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from bloodcell.metrics.abstention import promise, risk_coverage
from bloodcell.metrics.by_source import source_weights, sources_known
from bloodcell.metrics.conformal import conformal_sets, conformal_threshold, coverage_by_source
from bloodcell.metrics.predictions import splits_of

RATES, ALPHAS = (0.01, 0.02, 0.05, 0.1), (0.02, 0.05, 0.1, 0.2)


def halves(rows, rng):
    """Return the rows of a random half of the sources, and those of the others."""
    sources = np.unique(rows["source"])
    chosen = rows["source"].isin(rng.permutation(sources)[: len(sources) // 2])
    return rows[chosen], rows[~chosen]


def found_at(rows, threshold):
    """Coverage and risk by source at a threshold; 0 and NaN where nothing is answered."""
    curve = risk_coverage(rows)
    answered = curve[curve["threshold"] >= threshold]
    return (answered["coverage"].iloc[-1], answered["risk"].iloc[-1]) if len(answered) else (0.0, np.nan)


def promised(parts, rate):
    """Print what became of the promises of one rate."""
    rows = []
    for choose, judge in parts:
        made = promise(choose, rate)
        if made.attained:
            rows.append((made.coverage, *found_at(judge, made.threshold)))
    text = f"at most {100 * rate:3.0f} % errors: promised in {len(rows):2} of {len(parts)} splits"
    if rows:
        said, coverage, risk = np.array(rows).T
        text += (
            f"; answers {100 * np.median(said):5.1f} % promised, {100 * np.median(coverage):5.1f} % found "
            f"({100 * np.median(coverage - said):+.1f}), errors {100 * np.nanmedian(risk):4.1f} %, "
            f"broken {int((risk > rate).sum())}"
        )
    print(text)


def covered(parts, alpha):
    """Print how often the sets of one level hold the truth."""
    shares, sizes = [], []
    for choose, judge in parts:
        sets = conformal_sets(judge, conformal_threshold(choose, alpha))
        shares.append(100 * coverage_by_source(judge, sets))
        sizes.append(source_weights(judge) @ sets.sum(axis=1))
    median = np.median(shares)
    print(
        f"sets for {100 * (1 - alpha):3.0f} %: {median:5.1f} % hold the true class ({median - 100 * (1 - alpha):+.1f}; "
        f"{min(shares):.1f} to {max(shares):.1f}), {np.median(sizes):.2f} classes"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    given = parser.parse_args()
    text = dict.fromkeys(("path", "source", "set", "label", "prediction"), str)
    for name, rows in splits_of(pd.read_csv(given.predictions, dtype=text, keep_default_na=False)).items():
        if not sources_known(rows):
            print(f"{name}: sources unknown")
            continue
        print(f"{name}: {len(rows):,} images of {rows['source'].nunique():,} sources, {given.splits} splits in halves")
        rng = np.random.default_rng(0)
        parts = [halves(rows, rng) for _ in range(given.splits)]
        for rate in RATES:
            promised(parts, rate)
        for alpha in ALPHAS:
            covered(parts, alpha)


if __name__ == "__main__":
    main()
