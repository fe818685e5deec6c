"""Who is who in a job of several processes, how they share work, and which numbers of them are refused."""

import pytest
import torch

from bloodcell.data.loaders import EpochBatches, ImageDataset, image_loader
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import ShuffleSampler
from bloodcell.runtime import distributed, hardware, launcher
from bloodcell.runtime.distributed import Place
from bloodcell.runtime.errors import BloodcellError
from tests.runtime.conftest import SRUN, TORCHRUN, python, start_each

#: Two processes meet and do everything that they can do together.
TOGETHER = """
from bloodcell.runtime import distributed
distributed.start()
here = distributed.here()
assert (here.size, here.local_size) == (2, 2) and here.sharing == 2
called = []
assert distributed.once(lambda: called.append(1) or distributed.here().size) == 1 and len(called) == (here.rank == 0)
assert distributed.gather(f"of {here.rank}") == ["of 0", "of 1"]
items = list(range(5))
assert distributed.share(items) == [[0, 2, 4], [1, 3]][here.rank]
assert list(distributed.in_turn(iter(distributed.share(items)))) == items
assert list(distributed.in_turn(iter(distributed.share([7])))) == [7] and list(distributed.in_turn(iter([]))) == []
distributed.barrier()
distributed.stop()
assert distributed.here().size == 1
print("done")
"""


@pytest.fixture
def as_place(monkeypatch):
    """Be one process of several without meeting them: as_place(rank, size, ...)."""
    return lambda *place, **more: monkeypatch.setattr(distributed, "here", lambda: Place(*place, **more))


@pytest.fixture
def set_variables(monkeypatch, alone):
    def set_all(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_one_process_is_the_first_of_one(alone):
    assert distributed.announced() is None
    assert distributed.here() == Place(rank=0, size=1)
    assert distributed.once(lambda: 5) == 5
    assert distributed.gather(5) == [5]
    assert distributed.share([1, 2]) == [1, 2]
    assert list(distributed.in_turn(iter([1, 2]))) == [1, 2]
    assert distributed.reports(ValueError())


def test_torchrun_announces_a_place(set_variables):
    set_variables(TORCHRUN[1])
    assert distributed.announced() == Place(rank=1, size=2, local_rank=1, local_size=2)


def test_srun_announces_a_place(set_variables, monkeypatch):
    set_variables({**SRUN[1], "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3"})
    assert distributed.announced() == Place(rank=3, size=4, local_rank=1, local_size=2)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert distributed.announced() is None


def test_a_batch_script_of_slurm_is_one_process(set_variables, monkeypatch):
    set_variables(SRUN[0])
    monkeypatch.delenv("SLURM_STEP_ID")
    assert distributed.announced() is None


@pytest.mark.parametrize("places", [TORCHRUN, pytest.param(SRUN, marks=pytest.mark.slow)], ids=["torchrun", "srun"])
def test_two_processes_work_together(tmp_path, places):
    codes, printed = start_each(["-c", TOGETHER], tmp_path, places)
    assert codes == [0, 0], printed
    assert [text.splitlines()[-1] for text in printed] == ["done", "done"]  # Gloo may say more before


@pytest.mark.parametrize(("count", "size"), [(59, 2), (64, 2), (65, 2), (7, 3), (49, 4), (2, 2)])
def test_each_image_of_an_epoch_is_taken_by_one_process(as_place, count, size):
    batch, shares = 8, []
    for rank in range(size):
        as_place(rank, size)
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


@pytest.mark.parametrize("count", [16, 17, 18, 19, 20, 31])
def test_no_process_has_a_last_image_alone(as_place, count):
    shares = []
    for rank in range(2):
        as_place(rank, 2)
        shares.append([part.tolist() for part in EpochBatches(ShuffleSampler(count, seed=3), count, 8, least=2)])
    assert all(len(part) >= 2 for parts in shares for part in parts)
    assert len(shares[0]) == len(shares[1]) == (2 if count >= 20 else 1)
    assert sorted(position for parts in shares for part in parts for position in part) == list(range(count))


def test_each_file_is_read_by_one_process(as_place, tmp_path, write_image):
    files = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(7)]
    images, seen = ImageDataset(files, torch.arange(7), Preprocessing(16)), []
    for rank in range(2):
        as_place(rank, 2)
        loader = image_loader(images, 2, 0, ShuffleSampler(7, seed=0))
        assert loader.batch_sampler.sampler.epoch == 0  # where Lightning sets it
        seen += [label for _, labels in loader for label in labels.tolist()]
    assert sorted(seen) == list(range(7))


def test_fewer_images_than_processes_are_refused(as_place):
    as_place(0, 3)
    with pytest.raises(BloodcellError, match="2 images cannot be shared by 3 processes"):
        EpochBatches(None, 2, 8)


def test_processes_share_cores_and_memory(as_place):
    cores, memory = hardware.cpu_count(), hardware.available_memory()
    as_place(0, 4, 0, 2, sharing=cores)
    assert hardware.cpu_count() == 1
    assert hardware.available_memory() < 0.7 * memory


def test_how_many_devices_are_asked_for(set_variables, monkeypatch):
    assert [launcher.count_of(devices) for devices in (None, 1, "3", [0, 2])] == [1, 1, 3, 2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [launcher.count_of(devices) for devices in ("auto", -1)] == [4, 4]
    assert launcher.count_of("auto", "cpu") == 1
    set_variables(TORCHRUN[0])
    assert launcher.count_of("auto") == 2


@pytest.mark.parametrize("wrong", [0, True, "two", []])
def test_an_odd_number_of_devices_is_refused(wrong):
    with pytest.raises(BloodcellError, match=r"devices=.*; give a number"):
        launcher.count_of(wrong)


def test_other_numbers_than_were_started_are_refused(as_place):
    as_place(0, 4, 0, 2)
    launcher.require(2, 2)
    with pytest.raises(
        BloodcellError, match=r"number of processes, 4 with 2 on each machine; set trainer\.devices=2 and"
    ):
        launcher.require(4, 1)


def test_a_training_from_python_has_one_device(compose, tmp_path):
    from bloodcell.training.train import train

    with pytest.raises(BloodcellError, match=r"processes, 1 with 1 on each machine; set trainer\.devices=1"):
        train(compose("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"), tmp_path / "run")


def test_several_machines_are_not_started_from_here(alone):
    with pytest.raises(BloodcellError, match=r"trainer.num_nodes=2: start the command on each machine with torchrun"):
        launcher.launch(2, 2)


@pytest.mark.parametrize(
    "verb", ["adapt", "audit", "cache", "differential", "find-lr", "tune", "app", "export", "paint"]
)
def test_verbs_of_one_process_are_refused_in_two(verb, set_variables, monkeypatch, capsys):
    from bloodcell.cli import main

    set_variables(TORCHRUN[0])
    monkeypatch.setattr("sys.argv", ["bloodcell", verb])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {verb} works in one process, and 2 were started; start it without them\n"


def test_help_needs_no_other_process(tmp_path):
    result = python(["train.py", "--cfg", "job"], tmp_path, **TORCHRUN[1])
    assert result.returncode == 0
    assert "max_epochs" in result.stdout
    assert not any(tmp_path.iterdir())
