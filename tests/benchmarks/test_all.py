"""Benchmarks that need no other data run on little: one that the code has left behind is seen in time."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
SMALL = (
    "data.reader.train_photographs=6", "data.reader.test_photographs=2", "data.reader.copies=3", "model.weights=null",
    "model.width=0.25", "model.image_size=32", "data.workers=0", "trainer.gpus=0", "features.backend=eager",
)  # fmt: skip
#: Arguments, and what is among the words that are printed; RUN, ROOT and OUT stand for a run, its images, a new folder.
BENCHMARKS = {
    "audit_scaling": ("--images 60 120 --folder OUT", "120"),
    "calibration_by_chance": ("--runs 2", "by the new one"),
    "differential_coverage": ("--runs 2 --draws 20 --every 150 --again 2", "least coverage again"),
    "extraction": ("--root ROOT --images 40 --backends onnx eager", "eager"),
    "finding": ("ROOT", "a cell in"),
    "finetuning": ("--batches 2 --rounds 1", "compute only"),
    "gpu": ("--device cpu --tiny --seconds 12 --out OUT", "0.70 is"),
    "head": ("--train 200 --val 100 --epochs 2 --rounds 1", "epoch"),
    "interval_coverage": ("--runs 3", "jackknife"),
    "long_runs": (f"epochs {' '.join(SMALL)} --count 20", "growth over the later half"),
    "marginal_cost": ("--folder OUT --images 40 80 --size 32", "80"),
    "painted_differential": ("RUN OUT --slides 2 --cells 8", "mean absolute error"),
    "paired_coverage": ("--runs 3", "ours covers"),
    "predict_many": ("--run RUN --files 2000 --kills 0", "the same bytes"),
    "predicting": ("--run RUN --count 60 --repeats 1", "median ratio"),
    "promises": ("RUN/predictions.csv --splits 2", "promised"),
    "promises_after_choice": ("--runs 2", "worst setting"),
    "report": ("--images 200 --sources 20", "MB"),
    "sets_by_class": ("--runs 2", "one for each class"),
    "temperature_of_few": ("--runs 2", "worst"),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs(quick_run, smears, tmp_path, name):
    given, said = BENCHMARKS[name]
    places = {"RUN": str(quick_run), "ROOT": str(smears.root), "OUT": str(tmp_path / "out")}
    for word, place in places.items():
        given = given.replace(word, place)
    command = [sys.executable, str(FOLDER / f"{name}.py"), *given.split()]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parents[1])
    assert result.returncode == 0, result.stderr
    assert said in result.stdout
