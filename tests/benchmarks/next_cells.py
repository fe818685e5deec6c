"""How much 25, 50 and 100 labels teach a reader if `review` chooses the cells, and if chance does, by simulation.

    python tests/benchmarks/next_cells.py READER data.root=DIR [--labels 25 50 100] [--seeds 1]

READER has never seen the laboratory, whose cells lie in folders by class; data.classes=[...] names those that it knows.
The reviewer gives each chosen cell its folder's class, 25 cells after the other, and `bloodcell adapt` learns from
them. Prints the balanced accuracy on all other cells. Further words are keys of `adapt`, e.g. steps=60.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from few_labels import configuration

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


def recall_of(rows):
    """Return the balanced accuracy of a table of predictions."""
    return float((rows["label"] == rows["prediction"]).groupby(rows["label"]).mean().mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--labels", nargs="+", type=int, default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, default=1)
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
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    classifier = reader.trained()
    adaptation = Adaptation(training_config(config, classifier), classifier, reader.classes, devices)
    shares = cells.table[[PROBABILITY + name for name in judge.classes]].to_numpy(float)
    most = max(given.labels)
    orders = {"review": by_review(cells, shares, most)}
    orders |= {
        f"chance {one}": np.random.default_rng(one).permutation(len(shares))[:most] for one in range(given.seeds)
    }
    for count in given.labels:
        for name, order in orders.items():
            started, chosen = time.perf_counter(), np.isin(np.arange(len(shares)), order[:count])
            learnt = Samples(samples.table[chosen].assign(split="train").reset_index(drop=True), samples.root)
            others = Samples(samples.table[~chosen].reset_index(drop=True), samples.root)
            with muted(), tempfile.TemporaryDirectory() as place:
                engine = adaptation.fitted(learnt, Path(place)).engine
                value = recall_of(predictions_of(engine, others, "none"))
            had, took = recall_of(before[~chosen]), time.perf_counter() - started
            print(f"{count:>3} labels by {name:<9}: {value:.3f} (the reader there {had:.3f}), {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
