"""How many wrong labels a cross-validation finds: some are planted on painted smears, and sought among the suspects.

    python tests/benchmarks/label_errors.py [--seed 0] [--share 0.05] [--photographs 80] [--folder DIR]

A share of the sources gets the label of another class, all copies alike. Nets are trained from nothing on these labels,
in three folds grouped by source, which takes about four minutes on one core. Prints the share of the planted errors in
the worst tenth of the ranking of all sources, and what comes of the suspects; the bar is 80 % in the worst tenth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bloodcell import cli
from bloodcell.data.readers import read_synthetic
from bloodcell.metrics.label_errors import label_quality

#: A small net on the cells alone: it learns from nothing in a minute a fold.
CHOICES = (
    "experiment=cross_validation", "data=table", "data.test_fraction=0", "data.folds=3", "data.fold=0,1,2",
    "data.image_size=64", "data.crop=cell", "model.weights=null", "model.width=0.35", "model.head.hidden=0",
    "model.head.dropout=0", "model.mean=[0.6,0.6,0.6]", "model.std=[0.2,0.2,0.2]", "finetune=full", "optimizer=adamw",
    "optimizer.lr=0.003", "optimizer.weight_decay=0.02", "scheduler=onecycle", "trainer.max_epochs=12",
    "callbacks.early_stopping.patience=100", "trainer.gpus=0", "logger=none", "evaluate.figures=false",
)  # fmt: skip


def main() -> None:
    """Plant, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.05, help="of the sources, whose label is wrong")
    parser.add_argument("--photographs", type=int, default=80, help="a class, of which there are 4 copies each")
    parser.add_argument("--folder", type=Path, help="where all goes and stays; else it is taken away")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        smears = read_synthetic(
            None, str(folder), train_photographs=options.photographs, test_photographs=2, copies=4, seed=options.seed
        ).of_split("train", "val")
        table = pd.DataFrame({"path": smears.paths(), "label": smears.table["label"], "group": smears.table["source"]})
        wrong, truth = planted(table, options.share, options.seed)
        start = time.perf_counter()
        report(out_of_fold(wrong, folder, options.seed), truth)
        print(f"{time.perf_counter() - start:.0f} s")


def planted(table: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the table with another label on a share of its groups, and group -> true label of those."""
    rng = np.random.default_rng(seed)
    classes = sorted(table["label"].unique())
    truth = dict(table[["group", "label"]].drop_duplicates().to_numpy())
    chosen = rng.permutation(sorted(truth))[: round(share * len(truth))].tolist()
    wrong = {name: str(rng.choice([label for label in classes if label != truth[name]])) for name in chosen}
    return table.assign(label=table["group"].map({**truth, **wrong})), {name: truth[name] for name in chosen}


def out_of_fold(table: pd.DataFrame, folder: Path, seed: int) -> Path:
    """Cross-validate on the table by the product's own command, and return the multirun's folder."""
    table.to_csv(folder / "images.csv", index=False)
    told = (f"data.table={folder / 'images.csv'}", f"cache.root={folder}", f"outputs={folder}", f"seed={seed}")
    sys.argv = ["train.py", *CHOICES, *told, f"hydra.sweep.dir={folder / 'folds'}"]
    cli.main("train")
    return folder / "folds"


def report(multirun: Path, truth: dict[str, str]) -> None:
    """Print how many of the planted errors are found, and how right the suggestions are."""
    predictions = pd.read_csv(multirun / "out_of_fold.csv", dtype={"path": str, "source": str})
    suspects = pd.read_csv(multirun / "suspected_labels.csv", dtype={"source": str})
    ranking = label_quality(predictions)
    worst = ranking["source"][: round(len(ranking) / 10)]
    found = suspects[suspects["source"].isin(list(truth))]
    right = (found["suggested"] == found["source"].map(truth)).sum()
    true = predictions["source"].map(truth).fillna(predictions["label"])
    print(f"{len(ranking)} sources, {len(truth)} of them labelled wrong; "
          f"{(predictions['prediction'] == true).mean():.1%} of the images are predicted right")  # fmt: skip
    print(f"in the worst tenth of the ranking: {worst.isin(list(truth)).sum()} of {len(truth)}, "
          f"{worst.isin(list(truth)).sum() / len(truth):.1%}")  # fmt: skip
    print(f"suspected: {len(suspects)}, of which {len(found)} are wrong and {right} of those get the true label")


if __name__ == "__main__":
    main()
