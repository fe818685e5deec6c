"""Coverage and half-width of the 95 % intervals of paired differences, beside those of the plain t.

    python tests/benchmarks/paired_coverage.py [--runs 300] [--designs test cv]

In a part, an image is right under the one system alone, under the other alone, or alike, by chances that are drawn
for each part from a Dirichlet distribution with the class's means and the intra-source correlation rho. Every design
is crossed with three rates of difference, three ways of spreading them over the classes, three shares of them in
favour of the one system, and three rho; a row is a design and a figure: mean and least coverage over its corners. In
some designs, one source has 80 % of the images of each class, or two or three have 80 % between them. Beside it: the
same without a limit of the weights (uneven), and the plain t.
"""

import argparse
from itertools import product

import numpy as np
import pandas as pd

from bloodcell.metrics import paired
from bloodcell.metrics.paired import mean_difference
from bloodcell.metrics.parts import count_parts
from bloodcell.metrics.registry import METRICS

DESIGNS = {  # sources of the four classes
    "test": (13, 6, 4, 48),
    "two": (13, 6, 2, 48),
    "alike": (10, 10, 10, 10),
    "cv": (75, 27, 16, 159),
    "one dominates 6": (6,),
    "one dominates 20": (20,),
    "one dominates 40": (40,),
    "one dominates each": (13, 6, 4, 48),
    "two dominate 20": (20,),
    "two dominate 40": (40,),
    "three dominate 20": (20,),
    "three dominate 40": (40,),
    "three dominate each": (13, 6, 4, 48),
}
DOMINATES = 0.8  # share of one, two or three sources in the images of their class, in the designs of that name
DOMINATING = {"one": 1, "two": 2, "three": 3}
RATES, BETTER, RHOS = (0.01, 0.05, 0.15), (0.5, 0.8, 1.0), (0.1, 0.5, 0.9)
METHODS = {"ours": (1.0, paired.MOST), "uneven": (1.0, np.inf), "t": (0.0, np.inf)}  # prior, most
SPREADS = {"equal": (1, 1, 1, 1), "third": (0.25, 0.25, 3, 0.25), "third only": (0, 0, 4, 0)}


def simulated(rng, sources, rates, better, rho, runs, dominating=0):
    """Parts of a test set, their differences in many runs, (runs, P), and the expected difference of each class."""
    drawn = [rng.integers(5, 40, n) for n in sources]
    for images in drawn if dominating else ():
        others = images[dominating:].sum()
        images[:dominating] = round(others * DOMINATES / (1 - DOMINATES) / dominating)
    apart, truth = [], []
    for images, rate in zip(drawn, rates, strict=True):
        shape = np.maximum(np.array([rate * better, rate * (1 - better), 1 - rate]) * (1 - rho) / rho, 1e-9)
        size = (runs, len(images), 3)  # gamma variables of tiny shape, by their logarithms
        log = np.log(rng.gamma(shape + 1, size=size)) + np.log(rng.random(size)) / shape
        chances = np.exp(log - log.max(-1, keepdims=True))
        counts = rng.multinomial(np.tile(images, (runs, 1)), chances / chances.sum(-1, keepdims=True))
        apart.append((counts[..., 0] - counts[..., 1]) / images)
        truth.append(rate * (2 * better - 1))
    rows = [("abcd"[c], f"{c}-{s}") for c, images in enumerate(drawn) for s, m in enumerate(images) for _ in range(m)]
    labels = [label for label, _ in rows]
    return count_parts(labels, labels, [source for _, source in rows]), np.concatenate(apart, axis=1), np.array(truth)


def covered(found, truth):
    """Share of the intervals that hold the truth."""
    return np.mean([one.low - 1e-12 <= truth <= one.high + 1e-12 for one in found])


def corners(design, runs, rng):
    """A row for each corner of a design and figure: coverage and mean half-width of each method."""
    sources = DESIGNS[design]
    spreads = SPREADS.values() if len(sources) == 4 else [SPREADS["equal"]]
    for rate, spread, better, rho in product(RATES, spreads, BETTER, RHOS):
        rates = np.minimum(rate * np.array(spread), 0.6)[: len(sources)]
        dominating = DOMINATING[design.split()[0]] if "dominate" in design else 0
        parts, apart, truths = simulated(rng, sources, rates, better, rho, runs, dominating)
        for metric in METRICS:
            if not metric.weights:
                continue
            weight, share = metric.weights(parts)
            truth, row = truths @ share / share.sum(), {"design": design, "figure": metric.name}
            for name, (prior, most) in METHODS.items():
                paired.MOST = most
                found = [mean_difference(parts, run, weight, share, prior) for run in apart]
                row[f"{name} covers"] = covered(found, truth)
                row[f"{name} half-width"] = np.mean([one.high - one.low for one in found]) / 2
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--designs", nargs="+", choices=list(DESIGNS), default=list(DESIGNS))
    args, rng = parser.parse_args(), np.random.default_rng(0)
    table = pd.DataFrame([row for design in args.designs for row in corners(design, args.runs, rng)])
    grouped = table.groupby(["design", "figure"], sort=False)
    least = grouped[[f"{name} covers" for name in METHODS]].min().add_suffix(" at least")
    print(grouped.mean().join(least).round(3).to_string())


if __name__ == "__main__":
    main()
