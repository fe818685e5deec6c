"""Inliers between photographs that cannot show the same place: the null behind the audit's thresholds.

    python tests/benchmarks/audit_null.py --photographs DIR

No slide shows a field and its mirror image, so a photograph and another one's mirror image always differ. All such
pairs are aligned as the audit does it: with any map that augmentation can make (thresholds `STRONG`, `WEAK`) and
with the rigid maps between two photographs (threshold `OVERLAP`). Prints how often each count of inliers occurs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bloodcell.audits.chunks import parallel
from bloodcell.audits.geometry import align
from bloodcell.audits.keypoints import extract, mirror
from bloodcell.audits.originals import OVERLAP, STRONG, WEAK
from bloodcell.data.images import EXTENSIONS


def main() -> None:
    """Align and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    folder = parser.parse_args().photographs
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    records = parallel(extract, paths)
    mirrored = [mirror(record) for record in records]
    pairs = [(a, b) for a in range(len(records)) for b in range(a)]
    for rigid, thresholds in ((False, {"STRONG": STRONG, "WEAK": WEAK}), (True, {"OVERLAP": OVERLAP})):
        found = parallel(lambda pair, r=rigid: align(records[pair[0]], mirrored[pair[1]], rigid=r).inliers, pairs)
        counts = np.bincount(found)
        print(
            f"{'rigid maps' if rigid else 'any map'}: {len(pairs):,} pairs; at most {max(found)} inliers; {thresholds}"
        )
        print("  " + ", ".join(f"{inliers}: {n:,}" for inliers, n in enumerate(counts) if n), flush=True)


if __name__ == "__main__":
    main()
