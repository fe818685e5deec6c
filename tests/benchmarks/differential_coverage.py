"""Coverage and width of 95 % intervals of the shares in a differential count, on simulated slides.

    python tests/benchmarks/differential_coverage.py [--runs 100] [--again 2000] [--output table.csv]

A slide has 50 to 1,000 cells of five classes with shares of 0.5 to 70 %. The classifier is right on 75 to 98 % of them;
its errors are spread over the other classes, or go to the next class, or to the rarest one, or most of them are of one
weak class. Its confusion is known from 10 to 300 held-out sources of each class, drawn anew in each run. The truth is
the share in the blood. Every setting has an interval for each of the five classes: a corner.

With ``--again``, the 20 corners of least coverage are simulated again with so many runs: of thousands of corners with
few runs, some are low by chance alone. With ``--quapy``, so many runs of a few settings by QuaPy too, if it is
installed (``pip install quapy``): its bootstrap of adjusted counts, of the cells alone as it is by default, and of
held-out cells and cells, with the loop over held-out cells written here, as that of release 0.2.3 raises an error.

With ``--others 2``, the last two classes are no white cells: shares are those among the first three, and that of each
of the last two is the share among these three and itself. Only the methods of the project know of that.
"""

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from bloodcell.metrics.intervals import TAIL, class_limits
from bloodcell.metrics.shares import likely_shares, share_limits

SHARES = {  # in the blood, of five classes
    "normal": (0.70, 0.20, 0.07, 0.025, 0.005),
    "balanced": (0.2, 0.2, 0.2, 0.2, 0.2),
    "two": (0.45, 0.45, 0.08, 0.015, 0.005),
    "mixed": (0.005, 0.60, 0.005, 0.195, 0.195),
}
ERRORS = ("spread", "next class", "rarest class", "weak class")
ACCURACIES = (0.75, 0.9, 0.98)
CELLS = (50, 200, 1000)
SOURCES = (10, 50, 300)
KEYS = ["shares", "errors", "accuracy", "cells", "sources"]
CLASSES = 5
SURE = 1e6  # times the evidence: rates that are known for sure
FEW = (("normal", "spread", 0.9, 200, 50), ("normal", "rarest class", 0.9, 200, 10), ("two", "weak class", 0.9, 50, 50))


def confusion(errors, accuracy):
    """Confusion rates, a row for each true class, (5, 5)."""
    wrong, others = np.full(CLASSES, 1 - accuracy), 1 - np.eye(CLASSES)
    if errors == "weak class":  # the second one
        weak = min(3 * (1 - accuracy), 0.6)
        wrong[:] = (wrong.sum() - weak) / (CLASSES - 1)
        wrong[1] = weak
    if errors == "next class":
        others = np.roll(np.eye(CLASSES), 1, axis=1)
    if errors == "rarest class":  # the last one, whose own errors go to the first
        others = np.eye(CLASSES)[[4, 4, 4, 4, 0]]
    return np.diag(1 - wrong) + wrong[:, None] * others / others.sum(1, keepdims=True)


def simulate(setting, runs, rng):
    """Held-out sources by true and predicted class, (runs, 5, 5), and cells by predicted class, (runs, 5)."""
    shares, errors, accuracy, cells, sources = setting
    rates = confusion(errors, accuracy)
    held_out = np.stack([rng.multinomial(sources, row, size=runs) for row in rates], axis=1)
    return held_out.astype(float), rng.multinomial(cells, SHARES[shares] @ rates, size=runs).astype(float)


def groups(others):
    """The classes among which the share of each class is, a row of (5, 5)."""
    return np.maximum(np.arange(CLASSES) < CLASSES - others, np.eye(CLASSES))


def ours(held_out, cells, draws, others=0):
    """The project's limits."""
    return share_limits(held_out, cells, 0 * cells, among=groups(others))[1:]


def ours_together(held_out, cells, draws, others=0):
    """The project's limits for all shares at once."""
    return share_limits(held_out, cells, 0 * cells, TAIL / CLASSES, groups(others))[1:]


def counted(held_out, cells, draws):
    """Clopper and Pearson of what the classifier predicts."""
    total = cells.sum(1, keepdims=True)
    return class_limits(cells / total, total, 1.0)


def corrected(held_out, cells, draws):
    """Clopper and Pearson around the shares of highest likelihood, as if the confusion were known."""
    return class_limits(likely_shares(SURE * held_out, cells, 0 * cells), cells.sum(1, keepdims=True), 1.0)


def inverted(held_out, cells, draws):
    """Bootstrap of held-out sources and cells, the confusion matrix inverted, the shares clipped; percentiles."""
    rng, found = np.random.default_rng(0), []
    for sources, counts in zip(held_out, cells, strict=True):
        drawn = [rng.multinomial(int(row.sum()), row / row.sum(), size=draws) / row.sum() for row in sources]
        rates = np.stack(drawn, axis=1).swapaxes(1, 2) + 1e-9 * np.eye(CLASSES)
        predicted = rng.multinomial(int(counts.sum()), counts / counts.sum(), size=draws) / counts.sum()
        shares = np.clip(np.linalg.solve(rates, predicted[..., None])[..., 0], 0, 1)
        found.append(np.quantile(shares / shares.sum(1, keepdims=True), (0.025, 0.975), axis=0))
    return tuple(np.array(found).swapaxes(0, 1))


def redrawn(held_out, cells, draws):
    """Posterior draws with half a source and half a cell more everywhere, of highest likelihood; percentiles."""
    rng, found = np.random.default_rng(0), []
    for sources, counts in zip(held_out, cells, strict=True):
        rates = rng.standard_gamma(sources + 0.5, (draws, CLASSES, CLASSES))
        predicted = rng.dirichlet(counts + 0.5, draws) * counts.sum()
        shares = likely_shares(SURE * rates / rates.sum(2, keepdims=True), predicted, 0 * predicted)
        found.append(np.quantile(shares, (0.025, 0.975), axis=0))
    return tuple(np.array(found).swapaxes(0, 1))


METHODS = {
    "bloodcell": ours,
    "bloodcell, all together": ours_together,
    "counting alone": counted,
    "corrected, counting alone": corrected,
    "matrix inverted, bootstrap": inverted,
    "likelihood, posterior draws": redrawn,
}


def quapy_methods():
    """QuaPy's bootstraps, as `METHODS`; empty if it is not installed."""
    try:
        from quapy.method.aggregative import ACC
        from quapy.method.confidence import AggregativeBootstrap
    except ImportError:
        return {}
    from joblib import parallel_config
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """A classifier whose input is its prediction."""

        def __init__(self):
            self.classes_ = np.arange(CLASSES)

        def __sklearn_is_fitted__(self):
            return True

        def fit(self, given, labels):
            return self

        def predict(self, given):
            return given

    def limits(sources, counts, resamples):
        true, predicted = (np.repeat(place.ravel(), sources.ravel().astype(int)) for place in np.indices(sources.shape))
        rng, fitted = np.random.default_rng(0), []
        for _ in range(resamples):
            chosen = np.arange(len(true)) if resamples == 1 else rng.integers(0, len(true), len(true))
            fitted.append(ACC(Given(), fit_classifier=False, val_split=None, solver="exact-cc"))
            fitted[-1].aggregation_fit(predicted[chosen], true[chosen])
        bootstrap = AggregativeBootstrap(fitted[0], 1, 500 // resamples, random_state=0)
        bootstrap.quantifiers = fitted
        with parallel_config("sequential"):
            region = bootstrap.aggregate_conf(np.repeat(np.arange(CLASSES), counts.astype(int)))[1]
        return region.I_low, region.I_high

    def method(resamples):
        return lambda held_out, cells, draws: tuple(
            np.array([limits(*one, resamples) for one in zip(held_out, cells, strict=True)]).swapaxes(0, 1)
        )

    return {"QuaPy, cells": method(1), "QuaPy, held-out cells and cells": method(50)}


def corners(setting, runs, seed, methods, draws, others=0):
    """A row for each method and class: coverage, also of all classes together, truth above and below, and width."""
    held_out, cells = simulate(setting, runs, np.random.default_rng(seed))
    truth, rows = SHARES[setting[0]] / (groups(others) @ SHARES[setting[0]]), []
    for name, method in methods.items():
        low, high = method(held_out, cells, draws)
        above, below = (high < truth - 1e-12).mean(0), (low > truth + 1e-12).mean(0)
        together = np.full(CLASSES, ((low <= truth + 1e-12) & (truth <= high + 1e-12)).all(1).mean())
        columns = zip(
            range(CLASSES), truth, 1 - above - below, above, below, (high - low).mean(0), together, strict=True
        )
        names = ("class", "truth", "coverage", "above", "below", "width", "together")
        rows += [dict(zip(KEYS, setting, strict=True), method=name) | dict(zip(names, c, strict=True)) for c in columns]
    return rows


def summary(table):
    """Least and mean coverage, the share of corners below 0.93, mean width, and coverage of all classes, by method."""
    columns = {"least": ("coverage", "min"), "mean": ("coverage", "mean"), "width": ("width", "mean")}
    columns |= {"together": ("together", "mean"), "least_together": ("together", "min")}
    by = table.assign(low=table["coverage"] < 0.93).groupby("method", sort=False)
    return by.agg(corners=("coverage", "size"), **columns, below_93=("low", "mean")).round(3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--again", type=int, default=0, help="runs of the 20 corners of least coverage, once more")
    parser.add_argument("--quapy", type=int, default=0, help="runs of a few settings by QuaPy too, if it is installed")
    parser.add_argument("--draws", type=int, default=400, help="of each method that draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="take each so many-th setting alone")
    parser.add_argument("--others", type=int, default=0, help="the last so many classes are no white cells")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--output", type=Path, help="CSV with a row for each corner and method")
    args = parser.parse_args()
    methods = {name: METHODS[name] for name in args.methods}
    if args.others:
        methods = {name: partial(one, others=args.others) for name, one in methods.items()}
    settings = list(product(SHARES, ERRORS, ACCURACIES, CELLS, SOURCES))[:: args.every]
    rows = [
        row
        for k, setting in enumerate(settings)
        for row in corners(setting, args.runs, [args.seed, k], methods, args.draws, args.others)
    ]
    table = pd.DataFrame(rows)
    print(f"{len(settings)} settings\n{summary(table).to_string()}", flush=True)
    for key in ("cells", "sources"):
        of_ours = table[table["method"] == args.methods[0]].assign(method=lambda t, key=key: t[key])
        print(f"\n{args.methods[0]}, by {key}\n{summary(of_ours).to_string()}", flush=True)
    if args.output:
        table.to_csv(args.output, index=False)
    if args.again:
        again(table, args, methods)
    if args.quapy:
        by_quapy = {**methods, **(found := quapy_methods())}
        rows = [row for s in FEW for row in corners(s, args.quapy, [args.seed, 2], by_quapy, args.draws)]
        print(f"\n{len(FEW)} settings{'' if found else '; QuaPy is not installed'}")
        print(summary(pd.DataFrame(rows)).to_string())


def again(table, args, methods):
    """Print the coverage of the worst corners of the first method, simulated anew."""
    first = args.methods[0]
    worst = table[table["method"] == first].nsmallest(20, "coverage")
    settings = dict.fromkeys(worst[KEYS].itertuples(index=False, name=None))
    one = {first: methods[first]}
    rows = [
        row
        for k, s in enumerate(settings)
        for row in corners(s, args.again, [args.seed, 1, k], one, args.draws, args.others)
    ]
    found = worst[[*KEYS, "class"]].merge(pd.DataFrame(rows).drop(columns="method"), on=[*KEYS, "class"])
    print(f"\n{first}: the corners of least coverage again, {args.again:,} runs")
    print(found.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
