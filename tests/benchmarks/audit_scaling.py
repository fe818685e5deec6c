"""Cost of the audit without originals at several sizes, and the exponent of its growth.

    python tests/benchmarks/audit_scaling.py --images 2000 6000 18000 --folder /tmp/scaling

Paints one set of synthetic smears (5 copies a photograph) as large as the largest size and audits its first
photographs at each size. Prints wall time, processor time and the peak of memory for each, the exponent of a
straight line fitted to the logarithms, and the time that it gives for 100,000 images.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from bloodcell.audits.pipeline import audit
from bloodcell.data.synthetic.painter import CLASSES
from bloodcell.data.synthetic.smears import Smears, write_smears

COPIES = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 6000, 18000])
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    photographs = -(-max(options.images) // (COPIES * len(CLASSES)))
    smears = Smears(train_photographs=photographs, test_photographs=1, copies=COPIES)
    write_smears(options.folder / "smears", smears)
    truth = pd.read_csv(options.folder / "smears" / "truth.csv").sort_values("photograph", kind="stable")
    truth = truth[truth["split"] == "TRAIN"].reset_index(drop=True)
    seconds = [measure(truth.head(images), options.folder) for images in sorted(options.images)]
    exponent, offset = np.polyfit(np.log(sorted(options.images)), np.log(seconds), 1)
    print(f"exponent {exponent:.2f}; 100,000 images: {np.exp(offset + exponent * np.log(1e5)) / 60:.0f} CPU minutes")


def measure(samples: pd.DataFrame, folder: Path) -> float:
    """Audit some samples; return the processor time in seconds, which other work does not disturb."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    wall, start = time.monotonic(), time.process_time()
    found = audit(samples, folder / "smears", None, folder / "state")
    wall, spent = time.monotonic() - wall, time.process_time() - start
    agreement = adjusted_rand_score(samples["source"], found.sources["source"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(samples):7,} images: {wall:6.0f} s, {spent:6.0f} s of processor, peak {peak:.1f} GB, "
        f"adjusted Rand index {agreement:.4f}",
        flush=True,
    )
    return spent


if __name__ == "__main__":
    main()
