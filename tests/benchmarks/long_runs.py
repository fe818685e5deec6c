"""Memory, open files and threads of a process over 20 jobs of a multirun, or over 200 epochs on kept features.

    python tests/benchmarks/long_runs.py jobs [--count 20] [OVERRIDE ...]
    python tests/benchmarks/long_runs.py epochs [--count 200] [OVERRIDE ...]

Linux. By default small painted smears and a small random backbone: what matters is what is left behind, not what is
learnt. Each job is a training as any other, with figures, pages, checkpoints and TensorBoard. Prints a line whenever a
job is over, or ten epochs are, and at the end the growth over the later half, from the mean of its first third to that
of its last. OVERRIDE changes the training, e.g. data=kaggle data.root=DIR experiment=cell_frozen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).parents[2]
SMALL = (
    "data.reader.train_photographs=20", "data.reader.test_photographs=6", "data.reader.copies=3",
    "model.weights=null", "model.width=0.35", "model.image_size=64", "data.workers=0", "trainer.gpus=0",
)  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["jobs", "epochs"])
    parser.add_argument("--count", type=int, help="jobs, or epochs")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = [*(options.overrides or SMALL), f"outputs={folder}"]
        if options.what == "jobs":
            count = options.count or 20
            rates = ",".join(f"{1e-3 * 1.1**number:.3g}" for number in range(count))
            own = ["data.seed=0", "trainer.max_epochs=3", f"hydra.sweep.dir={folder / 'sweep'}"]
            command = ["-m", *given, f"optimizer.lr={rates}", *own]
            watch(command, lambda: len(list((folder / "sweep").glob("*/metrics.json"))), 1, count)
        else:
            count = options.count or 200
            command = [
                *given,
                f"trainer.max_epochs={count}",
                "callbacks.early_stopping=null",
                f"hydra.run.dir={folder / 'run'}",
            ]
            watch(command, lambda: rows(folder / "run" / "history.csv"), 10, count)


def rows(file: Path) -> int:
    """Return the number of rows of a CSV file; 0 where there is none."""
    return max(0, len(file.read_text().splitlines()) - 1) if file.is_file() else 0


def watch(command: list[str], done: Callable[[], int], every: int, count: int) -> None:
    """Run train.py and print its size whenever so many more are done."""
    process = subprocess.Popen([sys.executable, "train.py", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    started, sizes = time.perf_counter(), [(0.0, 0, 0)]
    print(f"{'done':>5} {'seconds':>8} {'RSS MiB':>8} {'open files':>10} {'threads':>8}")
    while process.poll() is None:
        if (now := done()) >= every * len(sizes) and (size := size_of(process.pid)) is not None:
            sizes.append(size)
            print(f"{now:5} {time.perf_counter() - started:8.0f} {size[0]:8.1f} {size[1]:10} {size[2]:8}", flush=True)
        time.sleep(0.02)
    assert process.returncode == 0, f"exit code {process.returncode}"
    assert done() == count, f"{done()} of {count} done"
    later = sizes[1:][len(sizes) // 2 :]
    third = max(1, len(later) // 3)
    for position, unit in enumerate(("MiB", "open files", "threads")):
        growth = fmean(size[position] for size in later[-third:]) - fmean(size[position] for size in later[:third])
        print(f"growth over the later half: {growth:+.1f} {unit}")


def size_of(process: int) -> tuple[float, int, int] | None:
    """Return a process's resident memory in MiB, open files and threads; None where it has just ended."""
    folder = Path("/proc") / str(process)
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) / 1024, len(list((folder / "fd").iterdir())), int(status["Threads"])
    except (OSError, KeyError):
        return None


if __name__ == "__main__":
    main()
