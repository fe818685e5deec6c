"""How much 25, 50 and 100 labels teach a reader if `review` chooses the cells, and if chance does, by simulation.

    python tests/benchmarks/next_cells.py READER data.root=DIR [--labels 25 50 100] [--seeds 3] [--head]

READER has never seen the laboratory, whose cells lie in folders by class; data.classes=[...] names those that it knows.
The reviewer gives each chosen cell its folder's class, 25 cells after the other, and `bloodcell adapt` learns from
them. Prints the balanced accuracy on all other cells. Further words are keys of `adapt`, e.g. steps=60. With --head, a
logistic regression on the reader's features learns in place of `adapt`: in seconds, so with many draws by chance.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from few_labels import configuration
from sklearn.linear_model import LogisticRegression

from bloodcell.data.classes import with_spelling_of
from bloodcell.data.labelled_cells import read_labelled
from bloodcell.data.samples import Samples
from bloodcell.evaluation.reviews.folder_cells import Folder, Reader
from bloodcell.evaluation.reviews.next_cells import next_cells
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.predictions import PROBABILITY
from bloodcell.runtime.config import cache_root
from bloodcell.runtime.console import muted
from bloodcell.runtime.hardware import device_arguments
from bloodcell.training.adapt import reader_of
from bloodcell.training.adapted_reader import Adaptation, predictions_of, training_config

ROUND = 25


def by_review(cells, shares, most):
    """Return rows as `review` chooses them, `ROUND` after `ROUND`, by the reader as it was."""
    chosen, free = [], np.ones(len(shares), bool)
    while len(chosen) < most:
        chosen += next_cells(shares, cells.features, free, min(ROUND, most - len(chosen)))
        free[chosen] = False
    return chosen


def by_head(cells, before):
    """Return a function that has a head learn from the chosen cells, and returns the predictions of the others."""
    features = cells.features.astype(np.float32)
    features -= features.mean(axis=0)
    features /= np.sqrt((features**2).sum(axis=1).mean())

    def learnt(chosen):
        head = LogisticRegression(C=30, class_weight="balanced", max_iter=200)
        head.fit(features[chosen], before["label"][chosen])
        return before[~chosen].assign(prediction=head.predict(features[~chosen]))

    return learnt


def by_adapt(config, reader, samples):
    """Return a function that has the reader learn from the chosen cells, and returns the predictions of the others."""
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    classifier = reader.trained()
    adaptation = Adaptation(training_config(config, classifier), classifier, reader.classes, devices)

    def learnt(chosen):
        known = Samples(samples.table[chosen].assign(split="train").reset_index(drop=True), samples.root)
        others = Samples(samples.table[~chosen].reset_index(drop=True), samples.root)
        with muted(), tempfile.TemporaryDirectory() as place:
            return predictions_of(adaptation.fitted(known, Path(place)).engine, others, "none")

    return learnt


def recall_of(rows):
    """Return the balanced accuracy of a table of predictions."""
    return float((rows["label"] == rows["prediction"]).groupby(rows["label"]).mean().mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--labels", nargs="+", type=int, default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--head", action="store_true")
    given = parser.parse_intermixed_args()
    config = configuration([f"checkpoint={given.reader}", *given.keys])
    reader, root = reader_of(config, "cpu"), cache_root(config.cache.root)
    samples = with_spelling_of(read_labelled(config.data, root), reader.classes)
    known = samples.table["label"].isin(reader.classes)
    samples = Samples(samples.table[known].sort_values("path").reset_index(drop=True), samples.root)
    folder = Folder(
        [str(samples.root)], str(samples.root), dict(zip(samples.table["path"], samples.paths(), strict=True))
    )
    judge = Reader(load_engines(given.reader, "cpu"), "none", "one", folder, 0.8, root)
    judge.judge(lambda *_: None)
    cells = judge.table()
    assert list(cells.table["path"]) == list(samples.table["path"])
    before = cells.table.assign(label=samples.table["label"])
    print(f"{len(samples.table)} cells; the reader: {recall_of(before):.3f}", flush=True)
    shares = cells.table[[PROBABILITY + name for name in judge.classes]].to_numpy(float)
    most = max(given.labels)
    orders = {"review": by_review(cells, shares, most)}
    orders |= {
        f"chance {one}": np.random.default_rng(one).permutation(len(shares))[:most] for one in range(given.seeds)
    }
    learnt = by_head(cells, before) if given.head else by_adapt(config, reader, samples)
    for count in given.labels:
        found = {}
        for name, order in orders.items():
            started, chosen = time.perf_counter(), np.isin(np.arange(len(shares)), order[:count])
            found[name] = recall_of(learnt(chosen))
            had, took = recall_of(before[~chosen]), time.perf_counter() - started
            if not given.head:
                print(
                    f"{count:>3} labels by {name:<9}: {found[name]:.3f} (the reader {had:.3f}), {took:.0f} s",
                    flush=True,
                )
        own, others = found.pop("review"), np.array(list(found.values()))
        print(
            f"{count:>3} labels: by review {own:.3f}, by chance {others.mean():.3f} (sd {others.std():.3f})", flush=True
        )


if __name__ == "__main__":
    main()
