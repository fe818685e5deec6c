"""Names of the photographs of BCCD that the cell finder does not learn from, a line each.

    python tests/benchmarks/finder_names.py RUN/sources.csv JPEGImages > NAMES.txt

`RUN` is that of `bloodcell audit data=kaggle`. It learns from the photographs behind TRAIN alone, but not from those of
a cell that TEST or TEST_SIMPLE has, too.
"""

import argparse
from pathlib import Path

import pandas as pd


def learnt_from(sources):
    """Return the photographs behind TRAIN whose cells TRAIN alone has, from an audit's table of sources."""
    train = sources["path"].str.contains("/TRAIN/")
    elsewhere = set(sources["photograph"][~train])
    shared = sources["photograph"][sources["source"].isin(set(sources["source"][~train]))]
    return set(sources["photograph"][train]) - elsewhere - set(shared)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("photographs", type=Path)
    given = parser.parse_args()
    kept = learnt_from(pd.read_csv(given.sources))
    print("\n".join(sorted(one.name for one in given.photographs.glob("*.jpg") if one.stem not in kept)))


if __name__ == "__main__":
    main()
