"""The notebook's job from start to end, cold and warm, beside the Keras notebook's time.

    python tests/benchmarks/main_job.py --root DIR [--weights FILE] [--rounds 3] [--keras 1151]

DIR is the Kaggle set. Cold: no cache of any kind. Warm: again, with what the cold run kept. Each is a process of its
own: imports, check of all images, leak probe, features, 15 epochs, evaluation of validation and test parts, figures.
`--keras` is the time in seconds of the Keras notebook's 15 epochs and test on the same machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keras", type=float, default=1151.0)
    options = parser.parse_args()
    command = [sys.executable, str(ROOT / "train.py"), "data=kaggle", f"data.root={options.root.resolve()}"]
    command += ["experiment=notebook", *([f"model.weights={options.weights.resolve()}"] if options.weights else [])]
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for kind, taken in seconds.items():
                taken.append(timed([*command, f"cache.root={folder}/cache", f"hydra.run.dir={folder}/{kind}"]))
        print(
            f"round {number + 1}: " + ", ".join(f"{kind} {taken[-1]:.1f} s" for kind, taken in seconds.items()),
            flush=True,
        )
    for kind, taken in seconds.items():
        print(f"{kind}: median {median(taken):.1f} s, {options.keras / median(taken):.1f} times as fast as Keras")


def timed(command: list[str]) -> float:
    """Return the seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
