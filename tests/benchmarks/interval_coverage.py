"""Coverage and width of 95 % intervals on simulated test sets of few sources with many copies each.

    python tests/benchmarks/interval_coverage.py [--runs 1000] [--designs test cv] [--output table.csv]
    python tests/benchmarks/interval_coverage.py --few

The truth is the expected figure: a source's chance of a right image is drawn from a beta distribution with the
class's accuracy as mean and rho as intra-class correlation (over the classes: a Dirichlet), its images from that.
Every design is crossed with four accuracies, four ways of spreading them over the classes and five rho: three that all
classes have, and 0.05 in the class or classes with most sources but 0.99 in the others, and the reverse.

With ``--few``: the exact coverage of the accuracy if there are few sources, each of them all right or all wrong, the
least over the true accuracies of the classes; beside it, that of the class limits combined in squares alone.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import betaincinv
from scipy.stats import norm, t

from bloodcell.metrics import intervals
from bloodcell.metrics.parts import Parts

DESIGNS = {  # sources of EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL; images of each, or None: 33 to 155 a source
    "test": ((13, 6, 4, 48), 620),
    "uneven": ((13, 6, 4, 48), None),
    "one": ((13, 6, 1, 48), 620),
    "two": ((13, 6, 2, 48), 620),
    "one_two": ((2, 1, 13, 48), 620),
    "cv": ((75, 27, 16, 159), 2490),
    "ones": ((1, 1, 1, 1), 620),
    "threes": ((3, 3, 3, 3), 620),
    "few rare": ((60, 60, 4, 60), (600, 600, 40, 600)),
    "two rare": ((10, 60, 5, 150), (100, 900, 25, 4500)),
    "few with most images": ((20, 20, 6, 60), (200, 200, 3000, 600)),
}
#: Images of each source, by class, of which each source has all right or all wrong.
FEW = {
    **{f"one class, {n}": [[10] * n] for n in (1, 2, 3, 4, 5, 6, 8, 10, 12)},
    **{f"one class, {n}, one has 80 %": [[4 * (n - 1), *[1] * (n - 1)]] for n in (3, 5, 10)},
    "one class, 5, each half the last": [[16, 8, 4, 2, 1]],
    "two classes, 1 each": [[10]] * 2,
    "two classes, 2 each": [[10] * 2] * 2,
    "two classes, 5 each": [[10] * 5] * 2,
    "two classes, 1 of 90 % and 1": [[90], [10]],
    "four classes, 1 each": [[10]] * 4,
    "four classes, 2 each": [[10] * 2] * 4,
    "four classes, 3 each": [[10] * 3] * 4,
    "four classes, 1, 2, 3, 6": [[10] * n for n in (1, 2, 3, 6)],
}
ACCURACIES = (0.6, 0.75, 0.9, 0.97)
RHOS = {"0.3": (0.3, 0.3), "0.6": (0.6, 0.6), "0.9": (0.9, 0.9), "small": (0.99, 0.05), "large": (0.05, 0.99)}
SPREADS = {
    "equal": (0, 1.0, 1.0),
    "monocytes": (2, 3.0, 0.85),
    "monocytes only": (2, 3.7, 0.95),
    "neutrophils": (3, 2.2, 0.8),
}
FIGURES = ("accuracy", "accuracy by source", "macro recall by source", "macro F1 by source")
Z = norm.ppf(0.975)


def spread(accuracy, name):
    """Accuracies of the classes, (4,), whose mean is `accuracy` and of which one is worse."""
    worse, factor, largest = SPREADS[name]
    error = min(factor * (1 - accuracy), largest)
    classes = np.full(4, 1 - (4 * (1 - accuracy) - error) / 3)
    classes[worse] = 1 - error
    return classes


def images_of(design, rng):
    """Images of each source, one array a class."""
    sources, total = DESIGNS[design]
    drawn = [rng.integers(33, 156, n) for n in sources]
    if total is None:
        return drawn
    totals = np.broadcast_to(total, len(drawn))
    return [np.maximum(np.round(m * t / m.sum()), 2).astype(int) for m, t in zip(drawn, totals, strict=True)]


def correlations(design, name):
    """Intra-source correlation of each class, (4,): the first of `RHOS` in all but the classes with most sources."""
    sources, (small, large) = np.array(DESIGNS[design][0]), RHOS[name]
    return np.where(sources < sources.max(), small, large)


def simulate(images, accuracy, rho, runs, rng):
    """Images by predicted class, (runs, sources, 4), and the expected confusion, (4, 4); rho is one or (4,)."""
    expected = np.array([np.roll([p, *(1 - p) * np.array([0.2, 0.2, 0.6])], c) for c, p in enumerate(accuracy)])
    counts = []
    for m, row, alike in zip(images, expected, np.broadcast_to(rho, len(images)), strict=True):
        shape = np.maximum(row * (1 - alike) / alike, 1e-12)
        size = (runs, len(m), 4)  # gamma variables of tiny shape, by their logarithms
        log = np.log(rng.gamma(shape + 1, size=size)) + np.log(rng.random(size)) / shape
        chance = np.exp(log - log.max(-1, keepdims=True))
        counts.append(rng.multinomial(np.tile(m, (runs, 1)), chance / chance.sum(-1, keepdims=True)))
    return np.concatenate(counts, axis=1), expected


def weights_of(figure, images):
    """Weights of the parts within their class, one array a class, and of the classes, (4,)."""
    if figure == "accuracy":
        return [m / m.sum() for m in images], np.array([m.sum() for m in images]) / sum(m.sum() for m in images)
    held = np.array([len(m) for m in images])
    return [np.full(n, 1 / n) for n in held], held / held.sum() if figure == "accuracy by source" else np.full(4, 0.25)


def macro_f1(rows, held):
    """Macro F1 of row-normalised confusions, (..., 4, 4), of classes with `held` sources."""
    m = rows * held[:, None]
    return (2 * np.diagonal(m, axis1=-2, axis2=-1) / (m.sum(-1) + m.sum(-2))).mean(-1)


def ours(figure, images, counts):
    """The project's intervals, low and high, (runs,)."""
    label = np.repeat(np.arange(4), [len(m) for m in images])
    weights, share = weights_of(figure, images)
    flat, found = np.concatenate(weights), []
    padded = np.pad(counts, ((0, 0), (0, 0), (0, 1))).astype(float)
    for run in padded:
        parts = Parts(tuple("ELMN"), label, np.arange(len(label)), run)
        if figure.startswith("macro F1"):
            estimate = intervals.confusion_estimate(parts, intervals.macro_f1)
        else:
            estimate = intervals.mean_estimate(parts, flat, share)
        found.append((estimate.low, estimate.high))
    return tuple(np.array(found).T)


class Linear:
    """What the alternatives need of runs of one corner, for the figures that are weighted means."""

    def __init__(self, figure, images, counts):
        self.images, (self.weights, self.share) = images, weights_of(figure, images)
        ends = np.cumsum([len(m) for m in images])[:-1]
        split = np.split(counts, ends, axis=1)
        self.correct = [k[:, :, c] / m for c, (k, m) in enumerate(zip(split, images, strict=True))]
        self.by_class = np.array([y @ w for y, w in zip(self.correct, self.weights, strict=True)])
        self.value = self.share @ self.by_class

    def size(self):
        """Effective images of each class, with the intra-source correlation as in the package, (4, runs)."""
        within, whole = 0 * self.value, 0 * self.value + 0.5
        for y, m in zip(self.correct, self.images, strict=True):
            if len(m) > 1:
                inside = y * (1 - y) * m / (m - 1)
                within = within + inside.sum(1)
                whole = whole + inside.sum(1) + len(m) * y.var(axis=1, ddof=1) - (inside / m).sum(1)
        rho = np.clip(1 - within / np.maximum(whole, 0.5), 0, 1)
        pairs = zip(self.weights, self.images, strict=True)
        return np.array([1 / ((w**2).sum() * rho + (w**2 / m).sum() * (1 - rho)) for w, m in pairs])

    def variances(self):
        """Variance of each class's share of the figure by its sources, (4, runs); 0 for one source."""
        found = []
        for y, w, p, a in zip(self.correct, self.weights, self.by_class, self.share, strict=True):
            n = len(w)
            found.append(a**2 * n / max(n - 1, 1) * ((w * (y - p[:, None])) ** 2).sum(1))
        return np.array(found)


def naive_binomial(x):
    """Wilson as if all images were independent."""
    return wilson(x.value, sum(m.sum() for m in x.images))


def percentile_bootstrap(x, draws=400):
    """Sources drawn with replacement within their classes; percentiles of the figure."""
    rng, figure = np.random.default_rng(0), 0.0
    for y, w, a in zip(x.correct, x.weights, x.share, strict=True):
        drawn = rng.multinomial(len(w), np.full(len(w), 1 / len(w)), size=draws) * w
        figure = figure + a * (y @ drawn.T) / drawn.sum(1)
    return np.quantile(figure, 0.025, axis=1), np.quantile(figure, 0.975, axis=1)


def student_t(x):
    """Linearised variance by source, Student's t with Satterthwaite's degrees of freedom."""
    v, n = x.variances(), np.array([[max(len(m) - 1, 1)] for m in x.images])
    freedom = np.maximum(v.sum(0) ** 2 / np.maximum((v**2 / n).sum(0), 1e-300), 1)
    half = t.ppf(0.975, freedom) * np.sqrt(v.sum(0))
    return x.value - half, x.value + half


def korn_graubard(x):
    """Clopper and Pearson at the effective size of the whole figure (Korn & Graubard 1998)."""
    sources, v, p = sum(len(m) for m in x.images), x.variances().sum(0), np.clip(x.value, 0, 1)
    size = np.where(v > 1e-12, p * (1 - p) / np.maximum(v, 1e-12), sources)
    size = np.maximum(size * (t.ppf(0.975, sources - 1) / t.ppf(0.975, sources - 4)) ** 2, 1)
    return clopper_pearson(p, size)


def mover(limits):
    """Class limits at the package's effective size, distances added in squares."""

    def interval(x):
        low, high = limits(np.clip(x.by_class, 0, 1), x.size())
        squares = x.share[:, None] ** 2
        below, above = squares * (x.by_class - low) ** 2, squares * (high - x.by_class) ** 2
        return x.value - np.sqrt(below.sum(0)), x.value + np.sqrt(above.sum(0))

    return interval


def wilson(p, n):
    """Wilson's limits."""
    centre, half = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)


def clopper_pearson(p, n, a=1.0):
    """Beta limits: `a` 1 is Clopper and Pearson, 1/2 Jeffreys."""
    hits, misses, tiny = p * n, (1 - p) * n, 1e-9
    low = betaincinv(np.maximum(hits + 1 - a, tiny), misses + a, 0.025)
    high = betaincinv(hits + a, np.maximum(misses + 1 - a, tiny), 0.975)
    return np.where(hits > tiny, low, 0), np.where(misses > tiny, high, 1)


def jackknife_f1(images, counts):
    """Macro F1: delete-one-source jackknife within classes, normal limits."""
    held = np.array([len(m) for m in images])
    split = np.split(counts, np.cumsum(held)[:-1], axis=1)
    shares = [k / m[:, None] for k, m in zip(split, images, strict=True)]
    rows = np.stack([y.mean(1) for y in shares], axis=1)
    value, variance = macro_f1(rows, held), 0.0
    for c, y in enumerate(shares):
        n, without = held[c], np.repeat(rows[:, None], held[c], axis=1)
        if n > 1:
            without[:, :, c] = (rows[:, None, c] * n - y) / (n - 1)
            variance = variance + (n - 1) * macro_f1(without, held).var(axis=1)
    return value - Z * np.sqrt(variance), value + Z * np.sqrt(variance)


ALTERNATIVES: dict[str, Callable] = {
    "naive binomial": naive_binomial,
    "percentile bootstrap": percentile_bootstrap,
    "Student t": student_t,
    "Korn-Graubard": korn_graubard,
    "Wilson, combined": mover(wilson),
    "Jeffreys, combined": mover(lambda p, n: clopper_pearson(p, n, 0.5)),
    "halfway, combined": mover(lambda p, n: clopper_pearson(p, n, 0.75)),
    "Clopper-Pearson, combined": mover(clopper_pearson),
}


def intervals_of(figure, images, counts) -> Iterator[tuple]:
    """Name, low and high of every method for one figure."""
    yield "bloodcell", *ours(figure, images, counts)
    if figure.startswith("macro F1"):
        yield "jackknife", *jackknife_f1(images, counts)
        return
    runs = Linear(figure, images, counts)
    for name, method in ALTERNATIVES.items():
        yield name, *method(runs)


def truth_of(figure, images, expected):
    """The figure that the simulation's population has."""
    if figure.startswith("macro F1"):
        return macro_f1(expected, np.array([len(m) for m in images]))
    return weights_of(figure, images)[1] @ expected.diagonal()


def corners(design, runs, seed):
    """One row for each corner, figure and method."""
    rng = np.random.default_rng(seed)
    images = images_of(design, rng)
    for accuracy, name, rho in ((a, s, r) for a in ACCURACIES for s in SPREADS for r in RHOS):
        counts, expected = simulate(images, spread(accuracy, name), correlations(design, rho), runs, rng)
        for figure in FIGURES:
            truth = truth_of(figure, images, expected)
            for method, low, high in intervals_of(figure, images, counts):
                low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
                covered = np.mean((low <= truth + 1e-9) & (truth <= high + 1e-9))
                corner = {"design": design, "accuracy": accuracy, "spread": name, "rho": rho, "figure": figure}
                width = high - low
                yield corner | {"method": method, "coverage": covered, "width": width.mean(), "narrowest": width.min()}


def of_few(images):
    """Accuracy in each way that sources may be all right or all wrong, and its limits by method.

    `images` are those of each source, by class; the first axis of all that is returned are the 2 ** S ways.
    """
    label, m = np.repeat(np.arange(len(images)), [len(one) for one in images]), np.concatenate(images).astype(float)
    held = np.bincount(label, m)
    ways = (np.arange(2 ** len(m))[:, None] >> np.arange(len(m)) & 1).astype(float)
    found, weights = [], (m, held)
    for way in ways:
        counts = np.zeros((len(m), len(images) + 1))
        counts[np.arange(len(m)), label], counts[:, -1] = m * way, m * (1 - way)
        estimate = intervals.mean_estimate(
            Parts(tuple("abcd"[: len(images)]), label, np.arange(len(m)), counts), *weights
        )
        found.append((estimate.low, estimate.high))
    right = np.stack([np.bincount(label, m * way, len(held)) for way in ways]) / held
    size = held**2 / np.bincount(label, m**2)
    share = held / held.sum()
    outer = np.where((right @ share >= 0.5)[:, None], intervals.INNER, 1.0)
    low, high = np.stack([intervals.class_limits(p, size, a) for p, a in zip(right, outer, strict=True)], axis=1)
    below, above = (np.sqrt(((share * away) ** 2).sum(1)) for away in (right - low, high - right))
    squares = np.maximum(right @ share - below, 0), np.minimum(right @ share + above, 1)
    return ways, label, share, {"bloodcell": tuple(np.array(found).T), "squares alone": squares}


def coverage_of_few(images):
    """Least coverage and mean width, at accuracies above 0.85, of each method for the design `images`."""
    grid = np.linspace(0.02, 0.995, 79)
    ways, label, share, methods = of_few(images)
    truths = [np.full(len(share), p) for p in grid]
    truths += [np.where(np.arange(len(share)) == c, p, q) for c, p, q in product(range(len(share)), grid, (0.9, 1))]
    chance = np.stack([np.where(ways > 0, truth[label], 1 - truth[label]).prod(1) for truth in truths])
    value, row = np.array(truths) @ share, {}
    for name, (low, high) in methods.items():
        covered = (low <= value[:, None] + 1e-9) & (value[:, None] <= high + 1e-9)
        row[f"{name} covers at least"] = (chance * covered).sum(1).min()
        row[f"{name} width"] = (chance @ (high - low))[: len(grid)][grid > 0.85].mean()
    return row


def summary(table):
    """Least and mean coverage, mean width and narrowest interval of each method."""
    by = table.groupby([c for c in ("design", "figure", "method") if c in table], sort=False)
    columns = {"least": ("coverage", "min"), "mean": ("coverage", "mean"), "width": ("width", "mean")}
    return by.agg(corners=("coverage", "size"), **columns, narrowest=("narrowest", "min")).round(3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--designs", nargs="+", choices=list(DESIGNS), default=list(DESIGNS))
    parser.add_argument("--output", type=Path, help="CSV with a row for each corner, figure and method")
    parser.add_argument("--few", action="store_true", help="exact coverage with few sources, all right or all wrong")
    args = parser.parse_args()
    if args.few:
        rows = [{"design": name} | coverage_of_few(images) for name, images in FEW.items()]
        print(pd.DataFrame(rows).round(3).to_string(index=False))
        return
    rows = []
    for design in args.designs:
        rows += corners(design, args.runs, args.seed)
        print(summary(pd.DataFrame(r for r in rows if r["design"] == design)).to_string(), flush=True)
    table = pd.DataFrame(rows)
    print("\nall designs\n" + summary(table.drop(columns="design")).to_string())
    if args.output:
        table.to_csv(args.output, index=False)


if __name__ == "__main__":
    main()
