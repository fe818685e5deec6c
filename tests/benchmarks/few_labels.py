"""How well a reader that is adapted by a few labels of another laboratory knows its other cells: the learning curve.

    python tests/benchmarks/few_labels.py READER data.root=DIR [--labels 0 5 10 25 50] [--most 100] [--seeds 1]

READER has never seen the laboratory. Half of its sources give the labels, N cells of each class, of as many sources as
there are; the cells of the other half, at most `--most` of each class, test. Further words are keys of `bloodcell
adapt`, e.g. 'data.group_regex=/([^/_]+)_' or steps=60. Prints the balanced accuracy for each N, with its 95 % interval.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
from hydra import compose, initialize_config_dir

from bloodcell.data.classes import with_spelling_of
from bloodcell.data.labelled_cells import folds_of, read_labelled
from bloodcell.data.samples import Samples
from bloodcell.runtime.config import cache_root, config_dir, register_resolvers, typed
from bloodcell.runtime.console import muted
from bloodcell.runtime.hardware import device_arguments
from bloodcell.runtime.schema.verbs import AdaptConfig
from bloodcell.training.adapt import reader_of
from bloodcell.training.adaptation_outcome import balanced_accuracy, words_of
from bloodcell.training.adapted_reader import Adaptation, predictions_of, training_config


def configuration(words):
    """Return the configuration of `adapt` with these keys."""
    register_resolvers()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        return typed(compose("adapt", overrides=[*words, "hydra.job.name=adapt"]), AdaptConfig)


def in_turn(table, seed):
    """Return the rows of each class in an order that shows every source once before any is shown twice."""
    mixed = table.sample(frac=1, random_state=seed)
    source = mixed["source"].where(mixed["source"] != "", mixed["path"])
    turn = mixed.groupby([mixed["label"], source]).cumcount()
    return mixed.assign(turn=turn).sort_values("turn", kind="stable").drop(columns="turn")


def curve(adaptation, reader, samples, given, seed):
    """Yield the number of labels and the predictions of the other half's cells."""
    halves = folds_of(samples, 2, seed)[0].table
    pool, rest = (in_turn(halves[halves["split"] == name], seed) for name in ("train", "val"))
    tested = Samples(rest.groupby("label").head(given.most).reset_index(drop=True), samples.root)
    for count in given.labels:
        if count == 0:
            yield 0, predictions_of(reader, tested, given.tta or reader.tta)
            continue
        chosen = pool.groupby("label").head(count).assign(split="train")
        with tempfile.TemporaryDirectory() as folder:
            fitted = adaptation.fitted(Samples(chosen.reset_index(drop=True), samples.root), Path(folder))
        yield count, predictions_of(fitted.engine, tested, given.tta or reader.tta)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--labels", nargs="+", type=int, default=[0, 5, 10, 25, 50])
    parser.add_argument("--most", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tta")
    given = parser.parse_intermixed_args()
    config = configuration([f"checkpoint={given.reader}", *given.keys])
    reader = reader_of(config, "cpu")
    samples = with_spelling_of(read_labelled(config.data, cache_root(config.cache.root)), reader.classes)
    devices = device_arguments(config.trainer.gpus, config.trainer.accelerator, config.trainer.devices)
    classifier = reader.trained()
    adaptation = Adaptation(training_config(config, classifier), classifier, reader.classes, devices)
    found = []
    for seed in range(given.seeds):
        started = time.perf_counter()
        with muted():
            for count, rows in curve(adaptation, reader, samples, given, seed):
                found.append((count, rows))
                took, started = time.perf_counter() - started, time.perf_counter()
                recall = (rows["label"] == rows["prediction"]).groupby(rows["label"]).mean().round(2).to_dict()
                figure = f"{words_of(balanced_accuracy(rows))}, {took:.0f} s, {recall}"
                print(f"seed {seed}, {count:>3} labels a class: {figure}", flush=True)
    for count in given.labels if given.seeds > 1 else []:
        values = pd.Series([balanced_accuracy(rows).value for one, rows in found if one == count])
        mean, least = 100 * values.mean(), 100 * values.min()
        print(f"{count:>3} labels a class: {mean:.1f} % over {len(values)} draws, at least {least:.1f} %")


if __name__ == "__main__":
    main()
