"""The configuration's types: what no type can say is checked as well, and each refusal names its key."""

import pytest
from omegaconf import OmegaConf

from bloodcell.runtime.config import plain, read_lists, read_names, typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import fingerprint
from bloodcell.runtime.schema.checks import figure_formats
from bloodcell.runtime.schema.data import DataConfig, FeaturesConfig
from bloodcell.runtime.schema.model import FinetuneConfig
from bloodcell.runtime.schema.verbs import AppConfig, EvaluateConfig, FinderConfig, TrainConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "gruoped"}, r"data\.split=gruoped; choose random, grouped or auto"),
        ({"val_fraction": 1.0}, r"data\.val_fraction=1\.0; give a number from 0 to below 1"),
        ({"val_fraction": float("nan")}, r"data\.val_fraction=nan"),
        ({"test_fraction": -0.1}, r"data\.test_fraction=-0\.1"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"folds": 1}, r"data\.folds=1; give 2 or more"),
        ({"folds": 3, "fold": 3}, r"data\.fold=3; with data\.folds=3 choose 0 to 2"),
        ({"seed": -1}, r"data\.seed=-1; give a whole number from 0"),
        ({"sampling": "equal"}, r"data\.sampling=equal; choose files or balanced"),
        ({"balance": 1.5}, r"data\.balance=1\.5; give a number from 0 to 1"),
        ({"epoch_size": 0}, r"data\.epoch_size=0; give a whole number of 1 or more, auto or null"),
        ({"batch_size": 0}, r"data\.batch_size=0; give a whole number of 1 or more"),
        ({"workers": 257}, r"data\.workers=257; give 0 to 256, or null"),
        ({"in_memory": "maybe"}, r"data\.in_memory=maybe; choose auto, true or false"),
        ({"on_bad_image": "ignore"}, r"data\.on_bad_image=ignore; choose error or skip"),
        ({"leak_check": "maybe"}, r"data\.leak_check=maybe; choose warn, error or off"),
        ({"table": "x.csv"}, r"data\.table is a key of data=table, and this is data=imagefolder"),
        ({"leave_out": "mine"}, r"data\.leave_out is a key of data=joint, and this is data=imagefolder"),
    ],
)
def test_a_value_of_the_data_that_makes_no_sense_is_refused(values, message):
    reader = {"_target_": "bloodcell.data.readers.read_imagefolder"}
    with pytest.raises(BloodcellError, match=message):
        DataConfig(root=None, reader=reader, **values)


def test_images_as_trained_take_no_setting_that_nothing_would_read():
    assert DataConfig(root="x").kind == "as_trained"
    with pytest.raises(BloodcellError, match=r"data\.split=random; .*data=imagefolder"):
        DataConfig(root="x", split="random")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "most"}, "finetune=most; choose frozen, full or gradual"),
        ({"name": "full", "lr_decay": 0.0}, r"finetune\.lr_decay=0\.0"),
        ({"name": "full", "lr_decay": 1.5}, r"finetune\.lr_decay=1\.5"),
        ({"name": "full", "batch_norm": "eval"}, r"finetune\.batch_norm=eval; choose train or frozen"),
        ({"name": "gradual", "head_epochs": -1}, r"finetune\.head_epochs=-1"),
        ({"name": "gradual", "block_epochs": 0}, r"finetune\.block_epochs=0"),
        ({"name": "full", "blocks": 0}, r"finetune\.blocks=0"),
    ],
)
def test_finetuning_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(BloodcellError, match=message):
        FinetuneConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cache": "sometimes"}, r"features\.cache=sometimes; choose auto, on or off"),
        ({"backend": "fast"}, r"features\.backend=fast; choose auto, onnx, compile or eager"),
        ({"precision": "half"}, r"features\.precision=half; choose null, float32, bf16 or int8"),
        ({"views": -1}, r"features\.views=-1"),
    ],
)
def test_features_that_make_no_sense_are_refused(values, message):
    with pytest.raises(BloodcellError, match=message):
        FeaturesConfig(**values)


@pytest.mark.parametrize(
    ("values", "frozen", "augmented", "kept"),
    [
        ({}, True, False, True),
        ({}, True, True, False),
        ({}, False, False, False),
        ({"cache": "off"}, True, False, False),
        ({"cache": False}, True, False, False),
        ({"views": 2}, True, True, True),
        ({"cache": "on"}, True, False, True),
    ],
)
def test_features_are_kept_if_each_image_stays_the_same(values, frozen, augmented, kept):
    assert FeaturesConfig(**values).keeps(frozen, augmented) is kept


@pytest.mark.parametrize(
    ("values", "frozen", "augmented", "message"),
    [
        ({"cache": "on"}, False, False, r"features\.cache=on needs finetune=frozen"),
        ({"cache": True}, True, True, r"features\.cache=on needs finetune=frozen, and augment=none"),
        ({"views": 2}, True, False, r"features\.views needs finetune=frozen, an augmentation"),
        ({"views": 2, "cache": "off"}, True, True, r"features\.views needs finetune=frozen, an augmentation"),
    ],
)
def test_features_that_cannot_be_kept_are_refused(values, frozen, augmented, message):
    with pytest.raises(BloodcellError, match=message):
        FeaturesConfig(**values).keeps(frozen, augmented)


def test_a_learning_rate_range_that_makes_no_sense_is_refused():
    with pytest.raises(BloodcellError, match=r"finder: min_lr=1\.0, max_lr=0\.1"):
        FinderConfig(min_lr=1.0, max_lr=0.1, steps=100)
    with pytest.raises(BloodcellError, match=r"finder\.steps=9; give 10 or more"):
        FinderConfig(min_lr=0.1, max_lr=1.0, steps=9)


@pytest.mark.parametrize(
    ("verb", "schema", "override", "message"),
    [
        ("train", TrainConfig, "seed=-1", "seed=-1; give a whole number from 0"),
        ("train", TrainConfig, "optimizer.lr=fast", r"optimizer\.lr=fast; give a number"),
        ("train", TrainConfig, "optimizer.lr=nan", r"optimizer\.lr=nan; give a number"),
        ("train", TrainConfig, "trainer.max_epochs=0", r"trainer\.max_epochs=0 leaves nothing to train on"),
        ("train", TrainConfig, "loss.label_smoothing=1.0", r"loss\.label_smoothing=1\.0"),
        ("train", TrainConfig, "model.std=[0,1,1]", r"model\.std=\[0\.0, 1\.0, 1\.0\]; give three numbers above 0"),
        ("train", TrainConfig, "model.mean=[1]", r"model\.mean=\[1\.0\]; give a list of 3 numbers"),
        ("train", TrainConfig, "model.head.pool=mean", r"model\.head\.pool=mean; choose avg or max"),
        ("evaluate", EvaluateConfig, "adapt=magic", "adapt=magic; choose none or batch_norm"),
        ("app", AppConfig, "port=70000", "port=70000; give 0 to 65,535"),
        ("app", AppConfig, "abstain_below=2.0", r"abstain_below=2\.0; give a number from 0 to 1"),
    ],
)
def test_a_composed_value_that_makes_no_sense_is_refused(compose, verb, schema, override, message):
    with pytest.raises(BloodcellError, match=message):
        typed(compose(override, verb=verb), schema)


def test_a_run_is_tested_unless_it_is_a_fold_or_one_of_many(compose):
    single = typed(compose(), TrainConfig)
    assert single.tests(many=False)
    assert not single.tests(many=True)
    assert not typed(compose("data.fold=1"), TrainConfig).tests(many=False)
    assert typed(compose("data.fold=1", "evaluate.test=true"), TrainConfig).tests(many=True)
    sets = ["data=joint", "data.sets={a: x, b: y}"]
    assert typed(compose(*sets, "data.leave_out=a"), TrainConfig).tests(many=True)


def test_names_that_are_numbers_and_words_have_one_fingerprint():
    def of(class_map):
        return fingerprint({"data": {"class_map": class_map}}, "digest")

    assert of({0: "x", "ig": None}) == of({"ig": None, "0": "x"}) != of({1: "x", "ig": None})


def test_a_text_of_names_is_read_as_text():
    assert read_names('{01: 1e3, "[a] b": ~, null: true, c=d: "null"}') == {
        "01": "1e3", "[a] b": None, "null": "true", "c=d": "null",
    }  # fmt: skip
    assert read_names("[epoch=3.ckpt, ä, 'x, y']") == ["epoch=3.ckpt", "ä", "x, y"]
    assert [read_names(text) for text in ("a", "[a", "{[a] b: c}", "[[a]]", "{a: [b]}")] == [None] * 5


def test_a_text_of_names_is_replaced_before_the_configuration_is_kept():
    cfg = OmegaConf.create({"data": {"sets": "{2019: a}", "root": "[b", "reader": {"sets": "${data.sets}"}}})
    read_lists(cfg)
    assert plain(cfg)["data"] == {"sets": {"2019": "a"}, "root": "[b", "reader": {"sets": {"2019": "a"}}}


def test_formats_of_figures():
    assert figure_formats(True) == ["png"]
    assert figure_formats(False) == figure_formats(None) == []
    assert figure_formats("svg") == ["svg"]
    assert figure_formats(["png", "pdf"]) == ["png", "pdf"]
    with pytest.raises(BloodcellError, match=r"evaluate\.figures=jpg; give true, false, or a list of png, pdf, svg"):
        figure_formats("jpg", "evaluate.figures")
