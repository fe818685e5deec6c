"""The notebook's job from start to end, cold and warm, beside the Keras notebook's time.

    python tests/benchmarks/main_job.py --root DIR [--weights FILE] [--rounds 3] [--keras [SECONDS]] [--timed 15]

DIR is the Kaggle set. Cold: no cache of any kind. Warm: again, with what the cold run kept. Each is a process of its
own: imports, check of all images, leak probe, features, 15 epochs, evaluation of validation and test parts, figures.
`--keras` times the Keras notebook's 15 epochs and test before that, in an environment with TensorFlow that it makes in
`--environment`; with `--timed N`, by N epochs. With a number, that is taken for its seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keras", type=float, nargs="?", const=0.0, default=2025.0)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "keras")
    parser.add_argument("--timed", type=int, default=15, help="epochs of the Keras notebook that run")
    options = parser.parse_args()
    keras = options.keras or keras_seconds(options.environment, options.root, options.timed)
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
        print(f"{kind}: median {median(taken):.1f} s, {keras / median(taken):.1f} times as fast as Keras")


def keras_seconds(environment: Path, root: Path, epochs: int) -> float:
    """Return the seconds of the Keras notebook's job, in an environment that is made if it is not there."""
    python = environment / "bin" / "python"
    if not (environment / "ready").is_file():
        venv.create(environment, with_pip=True, clear=True)
        packages = ["tensorflow-cpu>=2.19", "pandas", "pillow", "scipy"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (environment / "ready").touch()
    images = root / "dataset2-master" / "dataset2-master" / "images"
    script = Path(__file__).with_name("keras_notebook.py")
    command = [str(python), str(script), "--images", str(images), "--timed", str(epochs)]
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=bare).stdout.splitlines()[-2:]
    print(*said, sep="\n", flush=True)
    return float(said[-1].split()[-2])


def timed(command: list[str]) -> float:
    """Return the seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
