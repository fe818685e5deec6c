"""Seconds from Enter to the first line of each verb, as a table: `python tests/benchmarks/first_line.py`.

Cold: Python's compiled files are not used, as in the first start after an installation. The files themselves may be in
the system's memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bloodcell.cli import VERBS

ROOT = Path(__file__).parents[2]


def first_line(verb: str, cold: bool) -> tuple[float, str]:
    """Start a verb, and return the seconds until its first line, and the line; the process is then ended."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BLOODCELL_CACHE": folder}
        if cold:
            environment["PYTHONPYCACHEPREFIX"] = folder
        started = time.perf_counter()
        line = [sys.executable, "-m", "bloodcell", verb]
        with subprocess.Popen(
            line, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            seconds = time.perf_counter() - started
            process.kill()
    return seconds, said


def main() -> None:
    """Print the table."""
    print("| verb | compiled | cold | first line |\n|---|---|---|---|")
    for verb in VERBS:
        first_line(verb, cold=False)
        (warm, said), (cold, _) = first_line(verb, cold=False), first_line(verb, cold=True)
        print(f"| {verb} | {warm:.2f} s | {cold:.2f} s | {said} |")


if __name__ == "__main__":
    main()
