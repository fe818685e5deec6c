"""How often conformal sets contain the true class, class by class, with one threshold and with one for each class.

    python tests/benchmarks/sets_by_class.py [--runs 200]

Four classes; the rarer, the worse they are told from the others. Images of a source share most of their logits. The
sets are chosen on some sources and tested on 2,000 others, with the same promise. A line has the mean coverage over the
runs, over all and by class, the most common first, and the mean number of classes in a set.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.special import softmax

from bloodcell.metrics.conformal import class_thresholds, conformal_sets, conformal_threshold, coverage_by_source

SOURCES, LEVELS, SHARES, SKILLS = (60, 150, 400), (0.9, 0.95), (0.55, 0.25, 0.12, 0.08), (3.5, 3.0, 2.0, 1.0)
CLASSES = np.array(list("abcd"))


def simulate(rng, sources, copies=4):
    """Return predictions of some sources with `copies` images each."""
    label = np.repeat(rng.choice(4, sources, p=SHARES), copies)
    shared = np.repeat(rng.normal(size=(sources, 4)), copies, axis=0)
    logits = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.normal(size=(len(label), 4))
    logits += np.array(SKILLS)[label][:, None] * np.eye(4)[label]
    rows = pd.DataFrame(softmax(1.5 * logits, axis=1), columns=[f"p_{name}" for name in CLASSES])
    return rows.assign(path="", source=np.repeat(np.arange(sources), copies).astype(str), label=CLASSES[label])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    given, rng = parser.parse_args(), np.random.default_rng(0)
    new = simulate(rng, 2000)
    parts = [new["label"].to_numpy() == name for name in CLASSES]
    for sources in SOURCES:
        runs = [simulate(rng, sources) for _ in range(given.runs)]
        for level in LEVELS:
            for name, threshold in (("one threshold", conformal_threshold), ("one for each class", class_thresholds)):
                sets = [conformal_sets(new, threshold(rows, 1 - level)) for rows in runs]
                whole = np.mean([coverage_by_source(new, one) for one in sets])
                by_class = [np.mean([coverage_by_source(new[own], one[own]) for one in sets]) for own in parts]
                size = np.mean([one.sum(axis=1).mean() for one in sets])
                print(
                    f"{sources} sources, promised {level:.2f}, {name}: {whole:.3f}; by class "
                    f"{' '.join(f'{one:.3f}' for one in by_class)}; {size:.2f} classes"
                )


if __name__ == "__main__":
    main()
