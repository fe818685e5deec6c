"""A second opinion on disputed labels: the votes of nets that never saw the data set.

    python tests/benchmarks/second_opinion.py NET [NET ...] --samples RUN/samples.csv [--set kaggle]
        [--suspects suspected_labels.csv] [--images 16] [--output votes.csv]

Disputed are the cells with two labels in the training and validation parts of RUN's samples, and those that a
cross-validation suspects (`experiment=cross_validation` writes suspected_labels.csv). A NET is a run that was trained
without the set, e.g. with `data.leave_out=kaggle`; one that has learnt from an image of it is refused. A net has one
vote for each cell under each of its labels: the class of the highest mean probability over its images. Prints a row for
each cell and label, and writes them. They are votes, no corrections: a net that never saw the laboratory errs often.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import bloodcell
from bloodcell.audits.overlap import trained_sources, training_samples
from bloodcell.data.samples import Samples, read_samples

SEED = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, vote and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+", type=Path)
    parser.add_argument("--samples", type=Path, required=True, help="samples.csv of a run on the set, with its sources")
    parser.add_argument("--set", default="", help="of several joined sets, the one in dispute")
    parser.add_argument("--suspects", type=Path, help="suspected_labels.csv of a cross-validation")
    parser.add_argument("--images", type=int, default=16, help="of each cell under each label, at most")
    parser.add_argument("--output", type=Path, default=Path("votes.csv"))
    options = parser.parse_args(arguments)
    samples = read_samples(options.samples)
    samples = (samples.of_set(options.set) if options.set else samples).of_split("train", "val")
    suspects = None if options.suspects is None else pd.read_csv(options.suspects, dtype={"source": str})
    table = votes(disputed(samples, suspects, options.images), options.nets)
    table.to_csv(options.output, index=False)
    print(table.drop(columns="path").to_string(index=False))
    print(f"{len(table)} labels of {table['source'].nunique()} cells: {options.output}; votes, no corrections")


def disputed(samples: Samples, suspects: pd.DataFrame | None, images: int) -> Samples:
    """Return at most so many images of each disputed cell under each of its labels, drawn at random.

    Those are the cells with several labels, and those that are suspected under the label that is suspected.
    """
    table = samples.table[samples.table["source"] != ""]
    chosen = table.groupby("source")["label"].transform("nunique") > 1
    if suspects is not None:
        pairs = set(zip(suspects["source"].str.rpartition("/")[2], suspects["label"].str.lower(), strict=True))
        own = zip(table["source"].str.rpartition("/")[2], table["label"].str.lower(), strict=True)
        chosen |= pd.Series([pair in pairs for pair in own], table.index)
    found = table[chosen].sample(frac=1, random_state=SEED).groupby(["source", "label"]).head(images)
    return Samples(found.sort_values(["source", "label", "path"]).reset_index(drop=True), samples.root)


def votes(samples: Samples, nets: Sequence[Path]) -> pd.DataFrame:
    """Return a row for each cell and label: source, label, images, path of one, and each net's vote and its share.

    The columns are vote_1, p_1 and so on, in the order of the nets; `for_label` is the number of nets that vote for the
    label, and `most` the class with most votes.

    Raises:
        SystemExit: Nothing is disputed, or a net was trained on one of these images.
    """
    if samples.table.empty:
        raise SystemExit("no label is disputed: no cell has two, and none is suspected")
    cells = samples.table.groupby(["source", "label"])
    table = cells.agg(images=("path", "size"), path=("path", "first")).reset_index()
    for number, net in enumerate(nets, 1):
        if trained_sources(samples, [training_samples(net)]) & samples.source_names():
            raise SystemExit(f"{net} was trained on some of these cells; give nets that never saw the set")
        answers = bloodcell.load(net).predict(samples.paths(), on_bad_image="error", cells="one")
        classes = [name for name in answers if name.startswith("p_")]
        means = answers[classes].groupby([samples.table["source"], samples.table["label"]]).mean()
        table[f"vote_{number}"] = means.idxmax(axis=1).str.removeprefix("p_").to_numpy()
        table[f"p_{number}"] = means.max(axis=1).round(3).to_numpy()
    cast = table[[f"vote_{number}" for number in range(1, len(nets) + 1)]]
    agreed = cast.apply(lambda column: column.str.lower() == table["label"].str.lower())
    return table.assign(for_label=agreed.sum(axis=1), most=cast.mode(axis=1)[0])


if __name__ == "__main__":
    main()
