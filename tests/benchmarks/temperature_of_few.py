"""What a temperature that is fitted to few sources does to the log loss on new data.

    python tests/benchmarks/temperature_of_few.py [--runs 100] [--imagined 0 10 20 40 80]

A source has one image of one of four classes; the logits are right at a true temperature. Each line has the mean change
of the log loss on new data, against temperature 1, by true temperature, then its mean over them, and the largest
temperature that was fitted. Imagined 0 is the old rule: the most likely temperature. As in a training, there is no
temperature if all images are right.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from bloodcell.metrics import reliability

SOURCES, TEMPERATURES = (2, 3, 5, 10, 20, 45, 130), (0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
CLASSES = np.array(list("abcd"))


def simulate(rng, sources, temperature):
    """Return logits, (sources, 4), and the probabilities and labels that are right at a temperature."""
    logits = 2 * rng.normal(size=(sources, 4)) + 3 * np.eye(4)[rng.integers(0, 4, sources)]
    chances = softmax(logits / temperature, axis=1)
    return logits, chances, (chances.cumsum(axis=1) < rng.random((sources, 1))).sum(axis=1).clip(max=3)


def fitted(rng, sources, temperature):
    """Return the temperature that is fitted to some sources; 1 if all are right."""
    logits, _, labels = simulate(rng, sources, temperature)
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    rows = pd.DataFrame(softmax(logits, axis=1), columns=[f"p_{name}" for name in CLASSES])
    return reliability.fit_temperature(rows.assign(source=np.arange(sources).astype(str), label=CLASSES[labels]))


def expected_loss(logits, chances, temperature):
    """Return the expected log loss at a temperature."""
    return float(-(chances * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--imagined", type=int, nargs="*", default=[0, reliability.IMAGINED])
    given = parser.parse_args()
    new = [simulate(np.random.default_rng(1), 4000, one)[:2] for one in TEMPERATURES]
    print(f"true temperature {TEMPERATURES}")
    for sources in SOURCES:
        for imagined in given.imagined:
            reliability.IMAGINED, rng = imagined, np.random.default_rng(0)
            changes, largest = [], 0.0
            for truth, (logits, chances) in zip(TEMPERATURES, new, strict=True):
                found = [fitted(rng, sources, truth) for _ in range(given.runs)]
                change = np.mean([expected_loss(logits, chances, one) for one in found])
                changes.append(change - expected_loss(logits, chances, 1.0))
                largest = max(largest, *found)
            print(
                f"{sources:3} sources, {imagined:2} imagined: {' '.join(f'{one:+.3f}' for one in changes)}; "
                f"mean {np.mean(changes):+.4f}, worst {max(changes):+.4f}, temperature up to {largest:.2f}"
            )


if __name__ == "__main__":
    main()
