"""Batches: their order depends on seed and epoch, and not on the number of workers."""

import re

import pytest
import torch

from bloodcell.data import loaders
from bloodcell.data.image_limits import ImageError
from bloodcell.data.loaders import (
    EpochBatches,
    ImageDataset,
    RowsDataset,
    image_loader,
    rows_loader,
    worker_count,
)
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import ShuffleSampler
from bloodcell.runtime.user_errors import user_message


@pytest.fixture
def files(tmp_path, write_image):
    return [write_image(tmp_path / f"{i}.png", seed=i) for i in range(7)]


def images(files):
    return ImageDataset(files, torch.arange(len(files)), Preprocessing(16))


def test_epochs_differ_and_each_repeats():
    sampler = ShuffleSampler(50, seed=3)
    orders = []
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert list(sampler) == orders[-1]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    again = ShuffleSampler(50, seed=3)
    again.set_epoch(2)
    assert list(again) == orders[2]
    assert list(ShuffleSampler(50, seed=4)) != orders[0]
    assert len(sampler) == 50


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_any_whole_number_is_a_seed(seed):
    assert sorted(ShuffleSampler(5, seed)) == [0, 1, 2, 3, 4]


def test_the_order_does_not_use_the_global_generator(files):
    before = torch.get_rng_state()
    list(ShuffleSampler(5, 0))
    list(image_loader(images(files), 4, workers=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_slices_of_the_order():
    sampler = ShuffleSampler(10, seed=0)
    batches = EpochBatches(sampler, 10, 4)
    batches.set_epoch(5)
    assert sampler.epoch == 5
    assert len(batches) == 3
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat(list(batches)), sampler.order())
    assert [batch.tolist() for batch in EpochBatches(None, 5, 3)] == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1]), (5, 4, [5])],
)
def test_a_last_image_alone_joins_the_batch_before(files, count, batch, sizes):
    sampler = ShuffleSampler(count, seed=0)
    batches = EpochBatches(sampler, count, batch, least=2)
    assert [len(part) for part in batches] == sizes
    assert len(batches) == len(sizes)
    assert torch.equal(torch.cat(list(batches)), sampler.order())
    some = ImageDataset([files[0]] * count, torch.arange(count), Preprocessing(16))
    loader = image_loader(some, batch, 0, sampler, least=2)
    assert [labels.tolist() for _, labels in loader] == [part.tolist() for part in batches]
    assert len(loader) == len(sizes)


def test_rows_have_the_order_of_the_sampler():
    inputs, labels = torch.arange(20.0).view(10, 2), torch.arange(10)
    sampler = ShuffleSampler(10, seed=1)
    where = torch.arange(10)[None]
    loader = rows_loader(RowsDataset(inputs, where, labels, sampler), 4)
    assert len(loader) == 3
    seen = list(loader)
    assert torch.equal(torch.cat([part for _, part in seen]), sampler.order())
    assert torch.equal(torch.cat([part for part, _ in seen]), inputs[sampler.order()])
    plain = list(rows_loader(RowsDataset(inputs, where, labels), 100))
    assert len(plain) == 1
    assert torch.equal(plain[0][0], inputs)


def test_each_epoch_uses_the_next_view():
    """Rows: of 3 samples, the last for validation, then two views of the two training samples."""
    rows, labels = torch.tensor([[0.0], [1], [2], [10], [11], [20], [21]]), torch.tensor([0, 1])
    sampler = ShuffleSampler(2, seed=0)
    loader = rows_loader(RowsDataset(rows, torch.tensor([[3, 4], [5, 6]]), labels, sampler), 2)
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        ((inputs, shown),) = list(loader)
        assert (inputs[:, 0] - shown).unique().tolist() == [10 + 10 * (epoch % 2)]


def test_images_in_memory_are_channels_first():
    rows = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    inputs, _ = RowsDataset(rows, torch.tensor([[0, 1]]), torch.tensor([0, 1]))[torch.tensor([1])]
    assert inputs.shape == (1, 3, 4, 5)
    assert torch.equal(inputs[0], rows[1].permute(2, 0, 1))


def test_a_dataset_gives_images_with_labels(files):
    image, label = images(files)[2]
    assert image.shape == (3, 16, 16)
    assert torch.equal(image, Preprocessing(16)(files[2]))
    assert label == 2
    assert len(images(files)) == 7


@pytest.mark.timeout(120)
def test_workers_change_nothing(files):
    epochs = {}
    for workers in (0, 2):
        sampler = ShuffleSampler(7, seed=1)
        loader = image_loader(images(files), 3, workers, sampler)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            epochs[workers, epoch] = list(loader)
    for epoch in (0, 1):
        for (inputs, labels), (inputs_2, labels_2) in zip(epochs[0, epoch], epochs[2, epoch], strict=True):
            assert torch.equal(inputs, inputs_2)
            assert torch.equal(labels, labels_2)
    order = [torch.cat([labels for _, labels in epochs[0, epoch]]).tolist() for epoch in (0, 1)]
    assert order[0] != order[1]


def test_without_a_sampler_images_have_the_order_of_the_files(files):
    batches = [batch for batch, _ in image_loader(images(files), 3, workers=0)]
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat(batches), torch.stack([Preprocessing(16)(file) for file in files]))
    assert list(image_loader(images([]), 3, workers=0)) == []


def test_the_number_of_workers_depends_on_cores_and_images(monkeypatch):
    monkeypatch.setattr(loaders, "cpu_count", lambda: 4)
    assert worker_count(None, 999) == 0
    assert worker_count(None, 1000) == 4
    assert worker_count(0, 10**6) == 0
    assert worker_count(3, 1) == 3
    monkeypatch.setattr(loaders, "cpu_count", lambda: 64)
    assert worker_count(None, 10**6) == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["removed", "cut off", "a folder"])
def test_a_file_that_goes_bad_during_the_training_is_named_in_one_line(write_image, tmp_path, workers, damage):
    good = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(4)]
    bad = write_image(tmp_path / "bad: one.png", seed=9)
    content = bad.read_bytes()
    bad.unlink()
    if damage == "cut off":
        bad.write_bytes(content[: len(content) // 2])
    elif damage == "a folder":
        bad.mkdir()
    loader = image_loader(ImageDataset([*good, bad], torch.arange(5), Preprocessing(16)), 2, workers)
    batches = iter(loader)
    with pytest.raises(ImageError) as raised:
        list(batches)
    if workers:
        batches._shutdown_workers()  # as Lightning does; if only the error holds it, torch waits 5 s for each worker
    message = user_message(raised.value)
    reason = {"removed": "no such file", "cut off": "cannot be decoded: .*", "a folder": "not a regular file"}[damage]
    hint = "it was readable when the training began: restore the file and go on with resume=RUN, or start again with"
    assert re.fullmatch(rf"{bad}: {reason}; {hint} data\.on_bad_image=skip", message)
