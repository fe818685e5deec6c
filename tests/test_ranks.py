"""Several processes work on one job as one does: the same tables and figures, every image once, every file once."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from bloodcell.data.loaders import EpochBatches, image_loader
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import ShuffleSampler
from bloodcell.models import classifier
from bloodcell.runtime import distributed, hardware, launcher
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.signals import Terminated

pytestmark = pytest.mark.timeout(1200)  # some start six processes that load torch
ROOT = Path(__file__).parents[1]
STARTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NNODES", "SLURM_JOB_NAME")

#: A net that learns something of few images in no time.
NET = (
    "model=resnet18", "model.weights=null", "model.image_size=32", "model.head.dropout=0", "data.workers=0",
    "trainer.precision=32-true", "trainer.max_epochs=3", "data.leak_check=off", "data=imagefolder",
)  # fmt: skip

#: Two processes meet, and do all that they do together.
TOGETHER = """
import os
import sys
from pathlib import Path
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.signals import Terminated
distributed.start()
here = distributed.here()
called = []
assert distributed.once(lambda: called.append(1) or distributed.here().size) == 1 and len(called) == (here.rank == 0)
assert distributed.gather(f"of {here.rank}") == ["of 0", "of 1"]
items = list(range(5))
assert distributed.share(items) == [[0, 2, 4], [1, 3]][here.rank]
assert list(distributed.in_turn(iter(distributed.share(items)))) == items
assert list(distributed.in_turn(iter(distributed.share([7])))) == [7] and list(distributed.in_turn(iter([]))) == []
def fails():
    raise BloodcellError("it fails")
try:
    distributed.once(fails)
except BloodcellError as error:
    assert isinstance(error, distributed.EndedError) is (here.rank == 1), error
assert distributed.gather(None) == [None, None]  # and they go on
print("done", flush=True)
if here.rank == 1:
    os._exit(0)  # without a word, and without waiting for the threads of its connections
try:
    distributed.barrier()
except distributed.EndedError as error:
    print(distributed.cause_of(error))
    distributed.leave(5)
"""

#: Trains, and lets one process end in the second epoch.
ENDS = """
import os, signal
from bloodcell.runtime import distributed
from bloodcell.cli import main
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.signals import Terminated
from bloodcell.models.classifier import Classifier
whole = Classifier.training_step
def step(self, batch, number):
    if self.current_epoch == 1 and distributed.here().rank == 1:
        if os.environ["ENDS"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise BloodcellError("this one fails")
    return whole(self, batch, number)
Classifier.training_step = step
main("train")
"""

#: Predicts in groups of four, and ends after the second one.
STOPS = """
import os, signal
from bloodcell.inference import predict, resumable_csv
from bloodcell.cli import main
predict.GROUP = 4
add = resumable_csv.GrowingTable.add
def once_more(self, *arguments):
    if self.items > 7:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *arguments)
if "GOES_ON" not in os.environ:
    resumable_csv.GrowingTable.add = once_more
main("predict")
"""


@pytest.fixture
def alone(monkeypatch):
    """Take away what torchrun or srun would have set."""
    for name in (*STARTED, *SLURM):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def as_rank(monkeypatch):
    """Be one process of several without meeting them: as_rank(rank, size, ...)."""

    def be(*place, **more):
        monkeypatch.setattr(distributed, "_here", distributed.Place(*place, **more))

    return be


def environment(cache, **more):
    kept = {name: value for name, value in os.environ.items() if name not in (*STARTED, *SLURM)}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "BLOODCELL_CACHE": str(cache), **more}


def command(line, cache, **more):
    """Run Python with some arguments, two processes where they say so, and return what became of it."""
    return subprocess.run(
        [sys.executable, *map(str, line)], capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
        env=environment(cache, **more),
    )  # fmt: skip


def done(line, cache, **more):
    result = command(line, cache, **more)
    assert result.returncode == 0, result.stderr
    return result


def started(line, cache, places):
    """Start a process at each place, given by its variables, and return their exit codes and what they said."""
    begun = [
        subprocess.Popen([sys.executable, *map(str, line)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         cwd=ROOT, env=environment(cache, **place)) for place in places
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[0] for process in begun]
    return [process.returncode for process in begun], said


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def places(**names):
    """Return the variables of two processes: names with what each has, a pair where they differ."""
    return [
        {name: str(value[n] if isinstance(value, tuple) else value) for name, value in names.items()} for n in (0, 1)
    ]


TORCHRUN = {"RANK": (0, 1), "LOCAL_RANK": (0, 1), "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
BY_SRUN = {
    "SLURM_STEP_ID": 0, "SLURM_JOB_NAME": "cells", "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2, "SLURM_NNODES": 1,
    "SLURM_PROCID": (0, 1), "SLURM_LOCALID": (0, 1), "SLURM_NODEID": 0, "SLURM_NODELIST": "localhost",
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ one process


def test_one_process_is_the_first_of_one(alone):
    assert distributed.announced() is None
    assert (distributed.here().rank, distributed.here().size) == (0, 1)
    assert distributed.once(lambda: 5) == 5
    assert distributed.gather(5) == [5]
    assert list(distributed.in_turn(iter([1, 2]))) == [1, 2]


def test_torchrun_and_srun_say_who_one_is(alone, monkeypatch):
    for name, value in places(**TORCHRUN)[1].items():
        monkeypatch.setenv(name, value)
    assert distributed.announced() == distributed.Place(1, 2, 1, 2)
    for name in TORCHRUN:
        monkeypatch.delenv(name)
    for name, value in {**places(**BY_SRUN)[1], "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.announced() == distributed.Place(3, 4, 1, 2)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert distributed.announced() is None
    monkeypatch.setenv("SLURM_JOB_NAME", "cells")
    monkeypatch.delenv("SLURM_STEP_ID")  # a script of SLURM's, which has not called srun
    assert distributed.announced() is None


@pytest.mark.parametrize(("count", "size"), [(59, 2), (64, 2), (65, 2), (7, 3), (49, 4), (2, 2)])
def test_each_image_of_an_epoch_is_taken_by_one_process(as_rank, count, size):
    batch, shares = 8, []
    for rank in range(size):
        as_rank(rank, size)
        sampler = ShuffleSampler(count, seed=3)
        sampler.set_epoch(4)
        batches = EpochBatches(sampler, count, batch)
        shares.append([part.tolist() for part in batches])
        assert len(shares[-1]) == len(batches)
        assert all(shares[-1])
    together = [sorted(position for part in parts for position in part) for parts in zip(*shares, strict=True)]
    order = sampler.order().tolist()
    assert sorted(position for parts in together for position in parts) == list(range(count))
    whole = [sorted(order[start : start + batch * size]) for start in range(0, count, batch * size)]
    assert together[:-1] == whole[: len(together) - 1]  # what one process with larger batches would take
    assert len(whole) - len(together) == (count > batch * size and 0 < count % (batch * size) < size)


def test_files_are_shared_as_rows_are(as_rank, tmp_path, write_image):
    files = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(7)]
    seen = []
    for rank in range(2):
        as_rank(rank, 2)
        loader = image_loader(files, Preprocessing(16), 2, 0, torch.arange(7), ShuffleSampler(7, seed=0))
        assert loader.batch_sampler.sampler.epoch == 0  # where Lightning sets it
        seen += [label for _, labels in loader for label in labels.tolist()]
    assert sorted(seen) == list(range(7))


def test_fewer_images_than_processes_are_refused(as_rank):
    as_rank(0, 3)
    with pytest.raises(BloodcellError, match="2 images cannot be shared by 3 processes"):
        EpochBatches(None, 2, 8)


@pytest.mark.parametrize("count", [1, 7, 8])
def test_rows_of_all_processes_are_in_the_order_of_one(monkeypatch, count):
    rows = torch.randn(count, 4)
    monkeypatch.setattr(distributed, "gather", lambda mine: [rows[rank::3] for rank in range(3)])
    assert torch.equal(classifier._of_all(rows[0::3]), rows)


def test_processes_share_cores_and_memory(as_rank):
    cores, memory = hardware.cpu_count(), hardware.available_memory()
    as_rank(0, 4, 0, 2, sharing=cores)
    assert hardware.cpu_count() == 1
    assert hardware.available_memory() < 0.7 * memory


def test_how_many_devices_are_asked_for(alone, monkeypatch):
    assert [launcher.count_of(devices) for devices in (None, 1, "3", [0, 2])] == [1, 1, 3, 2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [launcher.count_of(devices) for devices in ("auto", -1)] == [4, 4]
    assert launcher.count_of("auto", "cpu") == 1
    for name, value in places(**TORCHRUN)[0].items():
        monkeypatch.setenv(name, value)
    assert launcher.count_of("auto") == 2
    for wrong in (0, True, "two", []):
        with pytest.raises(BloodcellError, match=r"devices=.*; give a number"):
            launcher.count_of(wrong)


def test_other_numbers_than_were_started_are_refused(as_rank):
    as_rank(0, 4, 0, 2)
    launcher.require(2, 2)
    with pytest.raises(BloodcellError, match=r"4 processes were started, 2 on each machine, but trainer.devices=4"):
        launcher.require(4, 1)
    as_rank()
    launcher.require(1, 1)
    with pytest.raises(BloodcellError, match=r"here it is one: set trainer.devices=1"):
        launcher.require(2, 1)


def test_what_one_process_does_is_refused_in_several(alone, monkeypatch):
    launcher.check_verb("audit", many=False)
    for name, value in places(**TORCHRUN)[0].items():
        monkeypatch.setenv(name, value)
    launcher.check_verb("train", many=False)
    for verb in ("audit", "cache", "find-lr", "tune", "app", "export"):
        with pytest.raises(BloodcellError, match=f"{verb} works in one process, and 2 were started"):
            launcher.check_verb(verb, many=False)
    with pytest.raises(BloodcellError, match="a multirun works in one process"):
        launcher.check_verb("train", many=True)


def test_several_machines_are_not_started_from_here(alone):
    with pytest.raises(BloodcellError, match=r"trainer.num_nodes=2: start the command on each machine with torchrun"):
        launcher.launch(2, 2)


def test_a_training_in_this_process_has_one_device(compose, tmp_path):
    from bloodcell.training.train import train

    with pytest.raises(BloodcellError, match=r"here it is one: set trainer.devices=1"):
        train(compose("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"), tmp_path / "run")


# --------------------------------------------------------------------------------------------- two processes


def test_two_processes_work_together_and_notice_an_end(tmp_path):
    codes, said = started(["-c", TOGETHER], tmp_path, places(**TORCHRUN, MASTER_PORT=free_port()))
    assert codes == [5, 0], said
    assert said == [f"done\n{distributed.ENDED}\n", "done\n"]


@pytest.fixture(scope="module")
def odd(smears, tmp_path_factory):
    """Return a folder of 59 images to train, 13 to validate and 21 to test on: numbers that two do not divide."""
    root = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")):
        files, tests = (sorted((smears.root / "images" / part / name).iterdir()) for part in ("TRAIN", "TEST"))
        held = 3 + (number == 0)
        for split, part in {"val": files[:held], "train": files[held:], "test": tests[number > 0 :]}.items():
            (root / split / name).mkdir(parents=True)
            for file in part:
                shutil.copy(file, root / split / name)
    return root


ONE = ("trainer.gpus=0", "data.batch_size=12")
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=6")


def train_in(folder, odd, how, *learning, **more):
    line = ["train.py", *NET, f"data.root={odd}", *how, *learning, f"hydra.run.dir={folder}"]
    return done(line, f"{folder}-cache", **more)


@pytest.fixture(scope="module")
def pair(odd, tmp_path_factory):
    """Return the runs of one process and of two, of a frozen backbone, each with a cache of its own."""
    root = tmp_path_factory.mktemp("pair")
    runs = [root / "one", root / "two"]
    return [
        (run, train_in(run, odd, how, "optimizer=sgd", "optimizer.lr=1e-2"))
        for run, how in zip(runs, (ONE, TWO), strict=True)
    ]


def assert_alike(one, two, atol):
    """Assert that two runs learnt the same, up to the order of sums."""
    first, second = (pd.read_csv(run / "history.csv") for run in (one, two))
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=atol)
    assert first["train/loss"].min() < first["train/loss"].iloc[0]
    before, after = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, two)
    )
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=max(atol, 1e-5)) for name in before)
    assert_same_tables(one / "predictions.csv", two / "predictions.csv", atol)
    first, second = (json.loads((run / "metrics.json").read_text()) for run in (one, two))
    assert second == pytest.approx(first, abs=atol)


def assert_same_tables(one, two, atol=1e-6):
    first, second = (pd.read_csv(file, keep_default_na=False) for file in (one, two))
    assert list(first["path"]) == list(second["path"])
    assert first["path"].is_unique
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=atol)


@pytest.mark.slow
def test_training_in_two_processes_is_that_of_one(pair):
    (one, _), (two, _) = pair
    assert_alike(one, two, 1e-6)
    rows = pd.read_csv(two / "predictions.csv")
    assert rows["split"].value_counts().to_dict() == {"test": 21, "val": 13}


@pytest.mark.slow
@pytest.mark.parametrize("finetune", ["full", "gradual"])
def test_fine_tuning_in_two_processes_is_that_of_one(odd, tmp_path, finetune):
    learning = [f"finetune={finetune}", "finetune.batch_norm=frozen", "optimizer=sgd", "optimizer.lr=1e-2"]
    learning += ["finetune.head_epochs=1", "finetune.blocks=2"] if finetune == "gradual" else ["data.in_memory=false"]
    for name, how in {"one": ONE, "two": TWO}.items():
        train_in(tmp_path / name, odd, how, *learning)
    assert_alike(tmp_path / "one", tmp_path / "two", 1e-4)


@pytest.mark.slow
def test_two_processes_write_every_file_once(pair):
    (one, alone), (two, together) = pair
    names = [{file.relative_to(run).as_posix() for file in run.rglob("*") if "tensorboard" not in file.parts}
             for run in (one, two)]  # fmt: skip
    assert names[0] == names[1]
    assert len(list(two.rglob("events.out.*"))) == len(list(one.rglob("events.out.*")))
    assert list(pd.read_csv(two / "history.csv")["epoch"]) == [1, 2, 3]
    assert len(together.stdout.splitlines()) == len(alone.stdout.splitlines())
    assert together.stderr == alone.stderr
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    assert len(pd.read_csv(f"{two}-cache/test_reads.csv")) == 1
    assert [folder.name for folder in two.parent.iterdir() if "cache" not in folder.name] == ["one", "two"]


@pytest.mark.slow
def test_two_processes_divide_the_features(pair):
    def rows(run):
        indexes = sorted(Path(f"{run}-cache").rglob("chunk-*.json"))
        return [json.loads(index.read_text())["files"] for index in indexes]

    one, two = (rows(run) for run, _ in pair)
    assert len(two) > len(one)
    assert sorted(name for names in two for name in names) == sorted(name for names in one for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("features", ["features.cache=on", "features.cache=off", "features.backend=eager"])
def test_evaluating_in_two_processes_is_that_of_one(pair, tmp_path, features):
    shared = [
        f"checkpoint={pair[0][0]}",
        "device=cpu",
        "splits=[train,val,test]",
        "tta=flips",
        features,
        "figures=false",
    ]
    shared += ["features.cache=off"] if "backend" in features else []
    for name, devices in {"one": 1, "two": 2}.items():
        line = ["evaluate.py", *shared, f"devices={devices}", f"hydra.run.dir={tmp_path / name}"]
        done(line, tmp_path / f"{name}-cache")
    assert len(pd.read_csv(tmp_path / "two" / "predictions.csv")) == 59 + 13 + 21
    for file in ("predictions.csv", "metrics.json", "gain.json", "classification_report.json", "failures.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert len(pd.read_csv(tmp_path / "two-cache" / "test_reads.csv")) == 1


@pytest.mark.slow
def test_predicting_in_two_processes_is_that_of_one_killed_or_not(pair, odd, tmp_path):
    images = shutil.copytree(odd, tmp_path / "images")
    (images / "test" / "MONOCYTE" / "05.png").write_bytes(b"none")
    shared = [f"checkpoint={pair[0][0]}", f"images={images}", "device=cpu"]
    for name, devices in {"one": 1, "two": 2, "killed": 2}.items():
        line = ["-c", STOPS, *shared, f"devices={devices}", f"output={tmp_path / name}.csv"]
        if name == "killed":
            result = command(line, tmp_path / "cache")
            assert result.returncode == 1
            assert "process 0 of 2 was killed (SIGKILL)" in result.stderr
            assert (tmp_path / "killed.state.json").is_file()
        done(line, tmp_path / "cache", GOES_ON="1")
    for name in ("two", "killed"):
        for ending in (".csv", ".bad.csv"):
            assert (tmp_path / f"{name}{ending}").read_bytes() == (tmp_path / f"one{ending}").read_bytes()
    assert sorted(file.name for file in tmp_path.glob("two*")) == ["two.bad.csv", "two.csv"]
    assert len(pd.read_csv(tmp_path / "two.csv")) == 93


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_torchrun_and_srun_start_the_processes(pair, odd, tmp_path, by):
    line = ["train.py", *NET, f"data.root={odd}", "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=6"]
    line += ["optimizer=sgd", "optimizer.lr=1e-2", f"outputs={tmp_path / 'outputs'}"]
    if by == "torchrun":
        done(["-m", "torch.distributed.run", "--nproc-per-node=2", *line], tmp_path / "cache")
    else:
        codes, said = started(line, tmp_path / "cache", places(**BY_SRUN, MASTER_PORT=free_port()))
        assert codes == [0, 0], said
        assert said[1] == ""
    (run,) = (tmp_path / "outputs" / "train").iterdir()
    assert (run / "history.csv").read_bytes() == (pair[1][0] / "history.csv").read_bytes()
    assert (run / "predictions.csv").read_bytes() == (pair[1][0] / "predictions.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "said", "kept"),
    [
        ("killed", "process 1 of 2 was killed (SIGKILL); the others were ended", distributed.ENDED),
        ("fails", "this one fails", "process 1: this one fails"),
    ],
)
def test_the_end_of_one_process_ends_all_and_the_run_goes_on(pair, odd, tmp_path, ends, said, kept):
    line = [
        "-c",
        ENDS,
        *NET,
        f"data.root={odd}",
        *TWO,
        "optimizer=sgd",
        "optimizer.lr=1e-2",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    result = command(line, tmp_path / "cache", ENDS=ends)
    assert result.returncode == 1
    assert result.stderr == f"error: {said}\n"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) in [
        ("failed", kept),
        ("interrupted", ""),
    ]  # as soon as it was asked to end
    done(["train.py", f"resume={tmp_path / 'run'}"], tmp_path / "cache")
    for file in ("history.csv", "predictions.csv", "metrics.json"):
        assert (tmp_path / "run" / file).read_bytes() == (pair[1][0] / file).read_bytes(), file


@pytest.mark.slow
def test_a_mistake_in_two_processes_is_one_line(odd, tmp_path):
    shared = ["train.py", *NET, f"data.root={odd}", f"outputs={tmp_path / 'outputs'}"]
    several = command([*shared, *TWO, "-m", "seed=1,2"], tmp_path)
    assert (several.returncode, several.stderr) == (
        1, "error: a multirun works on one device; start jobs of several devices one by one\n"
    )  # fmt: skip
    for wrong, message in {
        "trainer.num_nodes=2": "2 processes were started, 2 on each machine, but trainer.devices=2 and trainer.num",
        "data.batch_size=0": "data.batch_size=0; give a whole number of 1 or more",
        "data.nonsense=1": "no configuration key 'data.nonsense'",
        "trainer.strategy=fsdp": "trainer.strategy=fsdp: several devices learn by ddp",
        "model.weights=DEFAULT": "the pretrained weights of resnet18 could not be downloaded",
    }.items():
        line = [*shared, "trainer=ddp", "trainer.accelerator=cpu", wrong]
        no_network = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path / "hub")}
        codes, said = started(line, tmp_path, places(**TORCHRUN, **no_network, MASTER_PORT=free_port()))
        lines = [line for text in said for line in text.splitlines() if line.startswith("error")]
        assert sorted(codes) in ([1, 1], [1, distributed.SILENT])
        assert len(lines) == 1, said
        assert lines[0].startswith(f"error: {message}")
        assert not any("Traceback" in text for text in said)
        assert sum(text.count("Downloading") for text in said) == (wrong == "model.weights=DEFAULT")


@pytest.mark.parametrize(
    ("codes", "ended"),
    [
        ({2: distributed.SILENT, 1: -15, 0: -15}, 1),  # the first has said why, and was ended before it came to its end
        ({2: distributed.SILENT, 1: 1, 0: 143}, 1),
        ({1: 2, 0: -15}, 2),
        ({1: -9, 0: -15}, "process 1 of 3 was killed (SIGKILL)"),
        ({1: -15, 0: 143}, "process 1 of 3 was killed (SIGTERM)"),
    ],
)
def test_what_ended_several_processes(monkeypatch, codes, ended):
    end_with(monkeypatch, codes)
    if isinstance(ended, str):
        with pytest.raises(BloodcellError, match=re.escape(ended)):
            launcher._launch(3)
    else:
        assert launcher._launch(3) == ended


def test_one_of_several_that_is_asked_to_end_ends_the_job(monkeypatch):
    end_with(monkeypatch, {1: 143, 0: 143})
    with pytest.raises(Terminated):
        launcher._launch(3)


def end_with(monkeypatch, codes):
    """Let the processes that are launched end with these codes."""
    from torch.distributed.elastic.multiprocessing import errors
    from torch.distributed.launcher import api

    def launched(*_):
        failures = {rank: SimpleNamespace(exitcode=code, timestamp=0) for rank, code in codes.items()}
        raise errors.ChildFailedError("x", failures)

    monkeypatch.setattr(api, "elastic_launch", lambda *_: launched)
    monkeypatch.setattr(errors.ChildFailedError, "format_msg", lambda _: "")
