"""Two processes work on one job as one does: the same tables and metrics, every image once, every file once."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from tests.painted import field
from tests.runtime.conftest import NET, ONE, SRUN, TWO, done, python, start_each, train_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # some start six processes that load torch

#: Predicts in groups of four; the first process is killed after the second group.
STOPS = """
import os, signal
from bloodcell.inference import predict, resumable_csv
from bloodcell.cli import main
predict.GROUP = predict.FIELDS = 4
add = resumable_csv.ResumableCsv.add
def once_more(self, *arguments):
    if self.progress.items > 7:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *arguments)
if "GOES_ON" not in os.environ:
    resumable_csv.ResumableCsv.add = once_more
main("predict")
"""


def assert_alike(one, two, atol):
    """Assert that two runs learnt the same, up to the order of sums."""
    first, second = (pd.read_csv(run / "history.csv") for run in (one, two))
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=atol)
    assert first["train/loss"].min() < first["train/loss"].iloc[0]
    before, after = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, two)
    )
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=max(atol, 1e-5)) for name in before)
    first, second = (pd.read_csv(run / "predictions.csv", keep_default_na=False) for run in (one, two))
    assert first["path"].is_unique
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=atol)
    first, second = (json.loads((run / "metrics.json").read_text()) for run in (one, two))
    assert second == pytest.approx(first, abs=atol)


def test_training_in_two_processes_is_that_of_one(pair):
    (one, _), (two, _) = pair
    assert_alike(one, two, 1e-6)
    rows = pd.read_csv(two / "predictions.csv")
    assert rows["split"].value_counts().to_dict() == {"test": 21, "val": 13}


@pytest.mark.parametrize("finetune", ["full", "gradual"])
def test_fine_tuning_in_two_processes_is_that_of_one(odd, tmp_path, finetune):
    # few steps: sooner or later a near tie in a ReLU or in max pooling falls the other way, as sums are rounded
    # otherwise, and from then on the gradients differ by more than rounding
    choices = [f"finetune={finetune}", "finetune.batch_norm=frozen", "trainer.max_epochs=2"]
    choices += ["finetune.head_epochs=1", "finetune.blocks=2"] if finetune == "gradual" else ["data.in_memory=false"]
    for name, how in {"one": ONE, "two": TWO}.items():
        train_in(tmp_path / name, odd, how, *choices)
    assert_alike(tmp_path / "one", tmp_path / "two", 1e-4)


def test_two_processes_write_every_file_once(pair):
    (one, alone), (two, together) = pair
    names = [{file.relative_to(run).as_posix() for file in run.rglob("*") if "tensorboard" not in file.parts}
             for run in (one, two)]  # fmt: skip
    assert names[0] == names[1]
    assert len(list(two.rglob("events.out.*"))) == len(list(one.rglob("events.out.*")))
    assert list(pd.read_csv(two / "history.csv")["epoch"]) == [1, 2, 3]
    lines = [
        [line for line in one.stdout.splitlines() if "..." not in line] for one in (alone, together)
    ]  # no progress
    assert len(lines[0]) == len(lines[1]) > 5
    assert together.stderr == alone.stderr
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    assert len(pd.read_csv(f"{two}-cache/test_reads.csv")) == 1
    assert [folder.name for folder in two.parent.iterdir() if "cache" not in folder.name] == ["one", "two"]


def test_two_processes_divide_the_features(pair):
    def rows(run):
        indexes = sorted(Path(f"{run}-cache").rglob("chunk-*.json"))
        return [json.loads(index.read_text())["files"] for index in indexes]

    one, two = (rows(run) for run, _ in pair)
    assert len(two) > len(one)
    assert sorted(name for names in two for name in names) == sorted(name for names in one for name in names)


@pytest.mark.parametrize("features", [["cache=on"], ["cache=off"], ["backend=eager", "cache=off"]])
def test_evaluating_in_two_processes_is_that_of_one(pair, tmp_path, features):
    shared = [f"checkpoint={pair[0][0]}", "device=cpu", "splits=[train,val,test]", "tta=flips", "figures=false"]
    shared += [f"features.{choice}" for choice in features]
    for name, devices in {"one": 1, "two": 2}.items():
        line = ["evaluate.py", *shared, f"devices={devices}", f"hydra.run.dir={tmp_path / name}"]
        done(line, tmp_path / f"{name}-cache")
    assert len(pd.read_csv(tmp_path / "two" / "predictions.csv")) == 59 + 13 + 21
    for file in ("predictions.csv", "metrics.json", "gain.json", "classification_report.json", "failures.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert len(pd.read_csv(tmp_path / "two-cache" / "test_reads.csv")) == 1


def test_predicting_in_two_processes_is_that_of_one_killed_or_not(pair, odd, tmp_path):
    images = shutil.copytree(odd, tmp_path / "images")
    (images / "test" / "MONOCYTE" / "05.png").write_bytes(b"none")
    shared = [f"checkpoint={pair[0][0]}", f"images={images}", "device=cpu"]
    for name, devices in {"one": 1, "two": 2, "killed": 2}.items():
        line = ["-c", STOPS, *shared, f"devices={devices}", f"output={tmp_path / name}.csv"]
        if name == "killed":
            result = python(line, tmp_path / "cache")
            killed = "error: process 0 of 2 was killed (SIGKILL); the others were ended\n"
            assert (result.returncode, result.stderr) == (1, killed)
            assert (tmp_path / "killed.state.json").is_file()
        done(line, tmp_path / "cache", GOES_ON="1")
    for name in ("two", "killed"):
        for ending in (".csv", ".bad.csv"):
            assert (tmp_path / f"{name}{ending}").read_bytes() == (tmp_path / f"one{ending}").read_bytes()
    assert sorted(file.name for file in tmp_path.glob("two*")) == ["two.bad.csv", "two.csv"]
    assert len(pd.read_csv(tmp_path / "two.csv")) == 93


def test_predicting_fields_in_two_processes_is_that_of_one_killed_or_not(pair, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(18):
        Image.fromarray(field(number)).save(tmp_path / "images" / f"{number:02}.png")
    shared = [f"checkpoint={pair[0][0]}", f"images={tmp_path / 'images'}", "device=cpu", "cells=all"]
    for name, devices in {"one": 1, "two": 2, "killed": 2}.items():
        folders = [f"overlays={tmp_path / name / 'drawn'}", f"geojson={tmp_path / name / 'boxes'}"]
        line = ["-c", STOPS, *shared, *folders, f"devices={devices}", f"output={tmp_path / name / 'o.csv'}"]
        if name == "killed":
            assert python(line, tmp_path / "cache").returncode == 1
            assert (tmp_path / "killed" / "o.state.json").is_file()
        done(line, tmp_path / "cache", GOES_ON="1")
    one, *others = ({file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
                    for name in ("one", "two", "killed"))  # fmt: skip
    assert len(one) == 1 + 2 * 18
    assert others == [one, one]


def test_an_exported_file_in_two_processes_is_that_of_one(pair, odd, tmp_path):
    file = tmp_path / "net.onnx"
    done(["-m", "bloodcell", "export", f"checkpoint={pair[0][0]}", "format=onnx", f"output={file}"], tmp_path / "cache")
    for name, devices in {"one": 1, "two": 2}.items():
        shared = [f"checkpoint={file}", "device=cpu", f"devices={devices}"]
        data = ["data=imagefolder", f"data.root={odd}", "splits=[train,val,test]", "figures=false"]
        done(["evaluate.py", *shared, *data, f"hydra.run.dir={tmp_path / name}"], tmp_path / "cache")
        table = f"output={tmp_path / name}.csv"
        done(["-m", "bloodcell", "predict", *shared, f"images={odd}", table], tmp_path / "cache")
    assert len(pd.read_csv(tmp_path / "two" / "predictions.csv")) == 59 + 13 + 21
    for name in ("/predictions.csv", "/metrics.json", ".csv"):
        assert Path(f"{tmp_path}/one{name}").read_bytes() == Path(f"{tmp_path}/two{name}").read_bytes(), name


@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_torchrun_and_srun_start_the_processes(pair, odd, tmp_path, by):
    line = ["train.py", *NET, f"data.root={odd}", "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=6"]
    line += [f"outputs={tmp_path / 'outputs'}"]
    if by == "torchrun":
        done(["-m", "torch.distributed.run", "--nproc-per-node=2", *line], tmp_path / "cache")
    else:
        codes, printed = start_each(line, tmp_path / "cache", SRUN)
        assert codes == [0, 0], printed
        assert printed[1] == ""
    (run,) = (tmp_path / "outputs" / "train").iterdir()
    for file in ("history.csv", "predictions.csv"):
        assert (run / file).read_bytes() == (pair[1][0] / file).read_bytes()
