"""The LightningDataModule: labels by name, parts by split, features instead of images."""

from dataclasses import replace

import pytest
import torch

from bloodcell.data.datamodule import BloodCellDataModule
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.readers import read_imagefolder
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import data_config


@pytest.fixture
def samples(class_folders):
    # val has no class a: numbered by position, its c would be class 1.
    return read_imagefolder(str(class_folders({"train/a": 4, "train/b": 3, "train/c": 2, "val/b": 2, "val/c": 1})))


def module(samples, **options):
    rows, seed = options.pop("rows", None), options.pop("seed", 0)
    data = data_config(workers=0, **options)
    return BloodCellDataModule(samples, ["a", "b", "c"], Preprocessing(16), data, seed, rows)


def test_labels_are_positions_of_names_in_every_split(samples):
    data = module(samples)
    assert data.labels(samples.of_split("train")).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert data.labels(samples.of_split("val")).tolist() == [1, 1, 2]
    assert data.labels(samples.of_split("test")).dtype == torch.int64  # also without images
    other = BloodCellDataModule(samples, ["c", "b", "a"], Preprocessing(16), data_config())
    assert other.labels(samples.of_split("val")).tolist() == [1, 1, 0]


def test_an_unknown_class_is_refused(samples):
    data = BloodCellDataModule(samples, ["a", "b"], Preprocessing(16), data_config(workers=0))
    with pytest.raises(BloodcellError, match="class c is unknown; the classifier knows a, b"):
        data.train_dataloader()


def test_training_is_shuffled_and_validation_is_not(samples):
    data = module(samples, batch_size=4, seed=1)
    images, labels = (torch.cat(parts) for parts in zip(*data.train_dataloader(), strict=True))
    files, truth = samples.of_split("train").files(), data.labels(samples.of_split("train"))
    order = data.train_dataloader().sampler.order()
    assert order.tolist() != list(range(9))
    assert torch.equal(labels, truth[order])
    assert all(torch.equal(image, Preprocessing(16)(files[i])) for image, i in zip(images, order, strict=True))
    images, labels = (torch.cat(parts) for parts in zip(*data.val_dataloader(), strict=True))
    assert labels.tolist() == [1, 1, 2]
    assert torch.equal(images, torch.stack([Preprocessing(16)(file) for file in samples.of_split("val").files()]))


def test_features_go_with_their_rows(samples):
    features = torch.arange(12.0).view(12, 1)
    data = module(samples, batch_size=4, rows=features)
    seen = {
        float(row): int(label)
        for rows, labels in data.train_dataloader()
        for row, label in zip(rows, labels, strict=True)
    }
    assert seen == dict(enumerate([0, 0, 0, 0, 1, 1, 1, 2, 2]))
    rows, labels = next(iter(data.val_dataloader()))
    assert rows.flatten().tolist() == [9, 10, 11]
    assert labels.tolist() == [1, 1, 2]


def test_images_and_features_come_in_the_same_order(samples):
    by_image = module(samples, batch_size=4, seed=2).train_dataloader()
    by_feature = module(samples, batch_size=4, seed=2, rows=torch.zeros(12, 1)).train_dataloader()
    for epoch in (0, 1):
        for loader in (by_image, by_feature):
            loader.sampler.set_epoch(epoch)  # as Lightning does
        pairs = zip(by_image, by_feature, strict=True)
        assert all(torch.equal(one[1], other[1]) for one, other in pairs)


def test_without_a_validation_part_there_is_no_loader(samples):
    assert module(samples.of_split("train")).val_dataloader() == []


@pytest.mark.parametrize("rows", [None, torch.zeros(12, 1)])
def test_batches_of_joined_sets_name_the_classes_of_each_images_set(samples, rows):
    sets = ["one" if label == "c" or number % 2 else "two" for number, label in enumerate(samples.table["label"])]
    joined = replace(samples, table=samples.table.assign(set=sets))
    config = data_config(workers=0)
    data = BloodCellDataModule(joined, ["a", "b", "c"], Preprocessing(16), config, rows=rows, own_classes=True)
    ((_, labels, known),) = data.train_dataloader()
    own = {"one": [True, True, True], "two": [True, True, False]}
    assert sorted(known.tolist()) == sorted(own[name] for name in sets[:9])
    assert known[range(9), labels].all()
    assert len(next(iter(data.val_dataloader()))) == 2
