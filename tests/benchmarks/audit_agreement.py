"""How well one audit's grouping agrees with another's, e.g. without the original photographs and with them.

    python tests/benchmarks/audit_agreement.py --truth RUN/sources.csv --found RUN/sources.csv [--parts TRAIN TEST]

Prints the sources of each, the adjusted Rand index, and the part of the images in groups that mix different sources,
over the images whose path has a folder of one of the names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from sklearn.metrics import adjusted_rand_score


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["TRAIN", "TEST"])
    options = parser.parse_args()
    truth, found = (pd.read_csv(file).set_index("path")["source"] for file in (options.truth, options.found))
    chosen = [path for path in truth.index if set(options.parts) & set(path.split("/"))]
    truth, found = truth[chosen], found[chosen]
    print(f"{len(chosen):,} images; {truth.nunique()} sources in the first, {found.nunique()} in the second")
    print(f"adjusted Rand index {adjusted_rand_score(truth, found):.4f}")
    print(f"images in groups that mix sources: {(truth.groupby(found).transform('nunique') > 1).mean():.2%}")


if __name__ == "__main__":
    main()
