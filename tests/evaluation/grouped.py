"""Simulated predictions of sources with many copies each."""

import numpy as np
import pandas as pd

CLASSES = ("a", "b", "c", "d")


def simulated(rng, sources, skill=3.0, alike=0.7, copies=(5, 40)):
    """Return a predictions table of sources whose copies are about as easy as one another.

    Args:
        rng: The generator.
        sources: How many.
        skill: How far the true class's logit is above the others, in standard deviations of a logit.
        alike: Share of the variance of the logits that the copies of a source have in common.
        copies: The least of a source, and one more than the most.
    """
    source = np.repeat(np.arange(sources), rng.integers(*copies, sources))
    label = rng.choice(4, sources, p=[0.4, 0.3, 0.2, 0.1])[source]
    shared, own = rng.normal(size=(sources, 4))[source], rng.normal(size=(len(source), 4))
    logits = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own + skill * np.eye(4)[label]
    exponential = np.exp(1.5 * logits)
    probabilities = exponential / exponential.sum(axis=1, keepdims=True)
    names = np.array(CLASSES)
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(source))], "split": "val"})
    table = table.assign(
        source=[f"s{i}" for i in source], label=names[label], prediction=names[probabilities.argmax(1)]
    )
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES])], axis=1)


def halves(table, rng):
    """Return the rows of a random half of the sources, and those of the others."""
    sources = np.unique(table["source"])
    chosen = table["source"].isin(rng.permutation(sources)[: len(sources) // 2])
    return table[chosen], table[~chosen]
