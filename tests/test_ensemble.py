"""Several checkpoints as one: the mean of what each says, and honest on what each was trained on."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import bloodcell
from bloodcell import cli
from bloodcell.audits.overlap import overlap_warning, trained_sources, training_samples
from bloodcell.data.samples import COLUMNS, Samples, read_samples
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.predictions import averaged
from bloodcell.models.classifier import Classifier
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import train
from tests.conftest import BARE, QUICK, SMALL
from tests.models.test_cells import picture
from tests.models.test_tta import calibrated

CLASSES = ["EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"]


def last_layer(checkpoint):
    return [key for key in checkpoint["state_dict"] if key.startswith("net.head.logits.")]


def reversed_classes(checkpoint):
    checkpoint["hyper_parameters"]["classes"] = CLASSES[::-1]
    checkpoint.pop("confusion", None)  # of the classes in their former order
    for key in last_layer(checkpoint):
        checkpoint["state_dict"][key] = checkpoint["state_dict"][key].flip(0)


def shaken(checkpoint):
    """Make another net of it, whose predictions differ from image to image."""
    classifier = Classifier(**checkpoint["hyper_parameters"])
    classifier.load_state_dict(checkpoint["state_dict"])
    calibrated(classifier.net)
    generator = torch.Generator().manual_seed(0)
    checkpoint["state_dict"] = classifier.state_dict()
    for key in last_layer(checkpoint):
        checkpoint["state_dict"][key] += 0.3 * torch.randn(checkpoint["state_dict"][key].shape, generator=generator)


def shaken_and_reversed(checkpoint):
    shaken(checkpoint)
    reversed_classes(checkpoint)


def evaluated(compose, folder, *checkpoints, extra=()):
    chosen = f"checkpoint=[{','.join(map(str, checkpoints))}]"
    metrics = evaluate(compose(chosen, "device=cpu", "figures=false", *extra, *BARE, verb="evaluate"), folder)
    return metrics, pd.read_csv(folder / "predictions.csv", keep_default_na=False)


def probabilities(table):
    return table[[f"p_{name}" for name in CLASSES]].to_numpy()


def test_the_mean_is_by_class_name_whatever_their_order(quick_run, another, compose, tmp_path, capsys):
    other = another("other", shaken_and_reversed)
    _, one = evaluated(compose, tmp_path / "a", quick_run)
    _, two = evaluated(compose, tmp_path / "b", other)
    metrics, both = evaluated(compose, tmp_path / "c", quick_run, other)
    assert list(two.filter(like="p_")) == [f"p_{name}" for name in CLASSES[::-1]]
    assert list(both.filter(like="p_")) == [f"p_{name}" for name in CLASSES]
    assert (one["prediction"] != two["prediction"]).any()
    np.testing.assert_allclose(probabilities(both), (probabilities(one) + probabilities(two)) / 2, atol=1e-12)
    assert [CLASSES[best] for best in probabilities(both).argmax(axis=1)] == both["prediction"].tolist()
    assert metrics["val/accuracy"] == pytest.approx((both.query("split == 'val'").eval("label == prediction")).mean())

    members = pd.read_csv(tmp_path / "c" / "members.csv")
    assert members["checkpoint"].tolist() == [str(run / "checkpoints" / "best.ckpt") for run in (quick_run, other)]
    for row, alone in zip(members.to_dict("records"), ("a", "b"), strict=True):
        expected = json.loads((tmp_path / alone / "metrics.json").read_text())
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-5)  # six digits
    gain = json.loads((tmp_path / "c" / "gain.json").read_text())
    assert list(gain) == members["checkpoint"].tolist()
    for name, accuracy in zip(gain, members["test/accuracy"], strict=True):
        found = gain[name]["test"]["accuracy"]
        assert found["value"] == pytest.approx(metrics["test/accuracy"] - accuracy, abs=1e-6)
        assert found["low"] < found["value"] < found["high"]
    said = capsys.readouterr().out
    assert said.count("test gain over ") == said.count("val gain over ") == 2


def test_one_checkpoint_has_no_members_and_no_gain(quick_run, compose, tmp_path):
    evaluated(compose, tmp_path / "a", quick_run)
    assert not (tmp_path / "a" / "members.csv").exists()
    assert not (tmp_path / "a" / "gain.json").exists()


def test_members_may_have_other_backbones_and_sizes(quick_run, compose, tmp_path):
    extra = ["model=resnet18", "model.weights=null", "model.width=null", "data.image_size=40", "trainer.max_epochs=1"]
    other = tmp_path / "other"
    quick = [item for item in QUICK if "model" not in item and "epochs" not in item]
    train(compose(*quick, *SMALL, *extra, "evaluate.test=false", f"outputs={tmp_path}"), other)
    _, one = evaluated(compose, tmp_path / "a", quick_run)
    _, two = evaluated(compose, tmp_path / "b", other)
    _, both = evaluated(compose, tmp_path / "c", quick_run, other)
    np.testing.assert_allclose(probabilities(both), (probabilities(one) + probabilities(two)) / 2, atol=1e-12)


def test_other_classes_are_one_clear_line(quick_run, another):
    def renamed(checkpoint):
        checkpoint["hyper_parameters"]["classes"] = ["BASOPHIL", *CLASSES[1:]]
        checkpoint.pop("confusion", None)

    with pytest.raises(BloodcellError, match=r"of the same classes.*EOSINOPHIL.*; .*other.* knows BASOPHIL"):
        load_engines([quick_run, another("other", renamed)], "cpu")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["checkpoint=[]"], ["names nothing"]),
        (["checkpoint=[{run},{run}/checkpoints/best.ckpt]"], ["named twice"]),
        (["checkpoint=[{run},/no/such]"], ["no such run or checkpoint: /no/such"]),
        (["checkpoint={run}", "tta=rotate"], ["tta=rotate; choose null, none, flips or d4"]),
    ],
)
def test_the_command_line_refuses(refused, quick_run, arguments, words):
    shown = [item.format(run=quick_run) for item in arguments]
    error = refused(shown)
    assert all(word in error for word in words)


def test_images_that_another_member_was_trained_on_are_said(quick_run, another, monkeypatch, capsys, tmp_path):
    """As in folds: what validates here trains there."""
    swap = {"train": "val", "val": "train"}
    fold = another("fold", shaken, lambda table: table.assign(split=table["split"].replace(swap)))
    own = (pd.read_csv(quick_run / "samples.csv")["split"] == "val").sum()
    shown = [f"checkpoint=[{quick_run},{fold}]", "device=cpu", "figures=false"]
    for splits, warned in ((["splits=[val]"], True), (["splits=[test]"], False)):
        folder = f"hydra.run.dir={tmp_path / splits[0][8:-1]}"
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *shown, *splits, folder])
        cli.main("evaluate")
        error = capsys.readouterr().err
        assert (f"warning: {own} of {own} val images were trained on by a member" in error) is warned
        assert ("out_of_fold.csv" in error) is warned


def test_another_image_of_a_source_counts_in_validation_and_unknown_training_is_said(quick_run):
    samples = read_samples(quick_run / "samples.csv")
    val = samples.of_split("val")
    training = samples.of_split("train")
    source = val.table["source"].iloc[0]
    cousin = type(training)(training.table.iloc[:1].assign(source=source, path="elsewhere.png"), training.root)
    count = (val.table["source"] == source).sum()
    whole = samples.of_split("val", "test")
    assert overlap_warning(whole, {"a": training, "b": training}) is None
    found = overlap_warning(whole, {"a": training, "b": cousin})
    assert found.startswith(f"{count} of {len(val.table)} val images were trained on")
    assert overlap_warning(whole, {"a": cousin, "b": None}) is None  # its own split is known to its own training


def test_a_checkpoint_without_run_folder_is_said_and_the_first_run_may_have_moved(
    quick_run, another, compose, tmp_path, capsys, smears
):
    alone = tmp_path / "alone.ckpt"
    shutil.copy(another("other", shaken) / "checkpoints" / "best.ckpt", alone)
    moved = tmp_path / "moved"
    shutil.copytree(smears.root, moved)
    swap = {"train": "val", "val": "train"}
    fold = another("fold", shaken, lambda table: table.assign(split=table["split"].replace(swap)))
    evaluated(compose, tmp_path / "a", quick_run, fold, alone, extra=["splits=[val]", f"data.root={moved}"])
    error = capsys.readouterr().err
    assert "val images were trained on by a member" in error
    assert f"no run folder says what {alone} was trained on" in error
    assert training_samples(alone) is None


def test_unseen_test_sources_are_those_that_no_member_saw(quick_run, another, compose, tmp_path):
    table = pd.read_csv(quick_run / "samples.csv")
    seen = table[table["split"] == "test"]["source"].iloc[0]
    rest = table[table["split"] == "test"]["source"].nunique() - 1

    def with_test_source(table):
        return table.assign(split=table["split"].where(table["source"] != seen, "train"))

    metrics, _ = evaluated(compose, tmp_path / "a", quick_run, another("other", shaken, with_test_source))
    assert metrics["test_disjoint/sources"] == rest
    gain = json.loads((tmp_path / "a" / "gain.json").read_text())
    assert all(found["test_disjoint"]["accuracy"]["sources"] == rest for found in gain.values())


def test_symmetries_are_averaged_and_their_gain_is_against_none(quick_run, another, compose, tmp_path, capsys):
    other = another("other", shaken)
    _, plain = evaluated(compose, tmp_path / "a", quick_run, other)
    metrics, both = evaluated(compose, tmp_path / "b", quick_run, other, extra=["tta=flips"])
    gain = json.loads((tmp_path / "b" / "gain.json").read_text())
    before = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert len(gain) == 3
    for name in ("accuracy", "accuracy_by_source", "macro_recall_by_source"):
        found = gain["tta=none"]["test"][name]
        assert found["value"] == pytest.approx(metrics[f"test/{name}"] - before[f"test/{name}"])
    assert np.abs(probabilities(both) - probabilities(plain)).max() > 1e-3
    assert "test gain over tta=none, in points: accuracy" in capsys.readouterr().out
    assert json.loads((tmp_path / "b" / "evaluation.json").read_text())["tta"] == "flips"
    loaded = bloodcell.load([quick_run, other], device="cpu", tta="flips")
    root = read_samples(quick_run / "samples.csv").root
    table = loaded.predict([root / path for path in both["path"][:5]])
    np.testing.assert_allclose(probabilities(table), probabilities(both)[:5], atol=1e-4)


def test_unknown_sources_are_said(compose, class_folders, tmp_path, capsys):
    root = class_folders({"a": 8, "b": 8})
    own = ["data=imagefolder", f"data.root={root}", "evaluate.tta=flips", "trainer.max_epochs=1"]
    train(compose(*QUICK, *own, f"outputs={tmp_path}"), tmp_path / "run")
    gain = json.loads((tmp_path / "run" / "gain.json").read_text())["tta=none"]["val"]
    assert list(gain) == ["accuracy"]
    assert gain["accuracy"]["low"] is None
    assert "sources unknown, so no honest interval" in capsys.readouterr().out.split("gain over tta=none")[1]


def test_a_training_refuses_an_unknown_choice_before_it_starts(compose, tmp_path):
    with pytest.raises(BloodcellError, match="tta=turned; choose"):
        train(compose(*QUICK, *SMALL, "evaluate.tta=turned", f"outputs={tmp_path}"), tmp_path / "run")
    assert not (tmp_path / "run" / "history.csv").exists()


def test_a_run_and_its_evaluation_say_where_no_cell_was_found(compose, tmp_path, capsys, monkeypatch):
    from PIL import Image

    from bloodcell.inference import features

    for number in range(24):
        file = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number % 4 < 3, number % 9)).save(file)
    own = ["data=imagefolder", f"data.root={tmp_path / 'images'}", "data.crop=cell", "data.val_fraction=0.4"]
    train(compose(*QUICK, *own, "data.leak_check=off", f"outputs={tmp_path}"), tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "predictions.csv", keep_default_na=False)
    numbers = table["path"].str.extract(r"(\d+)\.png")[0].astype(int)
    assert table["cell"].tolist() == ["found" if number % 4 < 3 else "none" for number in numbers]
    said = " ".join(capsys.readouterr().out.split())
    assert (table["cell"] == "none").any()
    for split, rows in table.groupby("split", sort=False):
        assert f"{(rows['cell'] == 'none').sum()} of {len(rows)} {split}" in said.split("no cell was found in ")[1]

    monkeypatch.setattr(features, "decode", lambda *_: pytest.fail("decoded again"))
    # from the warm store
    _, again = evaluated(compose, tmp_path / "a", tmp_path / "run", extra=["features.backend=eager"])
    assert again["cell"].tolist() == table["cell"].tolist()
    assert "no cell was found in" in capsys.readouterr().out
    table = bloodcell.load(tmp_path / "run", device="cpu").predict([picture(True), picture(False)])
    assert table["cell"].tolist() == ["found", "none"]


def test_cells_are_those_of_the_first_table_that_looked():
    rows = pd.DataFrame({"path": ["x"], "split": "val", "source": "", "label": "a", "prediction": "a", "p_a": 1.0})
    tables = [rows.assign(cell=""), rows.assign(cell="none"), rows]
    assert averaged(tables)["cell"].tolist() == ["none"]
    assert averaged(tables[:1])["cell"].tolist() == [""]
    assert "cell" not in averaged(tables[2:])


def test_one_run_on_its_own_training_images_is_warned_of(quick_run, compose, tmp_path, capsys):
    samples = read_samples(quick_run / "samples.csv")
    table = samples.of_split("train").table.assign(split="")
    table["path"] = [str(samples.root / path) for path in table["path"]]
    table.to_csv(tmp_path / "images.csv", index=False)
    config = compose(
        f"checkpoint={quick_run}", "data=table", f"data.table={tmp_path / 'images.csv'}", *BARE, verb="evaluate"
    )
    evaluate(config, tmp_path / "out")
    assert f"{len(table):,} of {len(table):,} test images were trained on" in capsys.readouterr().err


def test_images_that_were_trained_on_are_known_by_their_pixels_wherever_they_are(tmp_path):
    rows = [("a/1.png", "a", "train", "x", "", "p1"), ("a/2.png", "a", "train", "", "", "p2")]
    learned = Samples(pd.DataFrame(rows, columns=[*COLUMNS, "pixels"]), tmp_path / "here")
    elsewhere = [("copy.bmp", "a", "test", "", "", "p1"), ("new.bmp", "a", "test", "y", "", "p9")]
    evaluated = Samples(pd.DataFrame(elsewhere, columns=[*COLUMNS, "pixels"]), tmp_path / "there")
    assert overlap_warning(evaluated, {tmp_path: learned}).startswith("1 of 2 test images were trained on by a member")
    assert trained_sources(evaluated, [learned]) == {"x"}
    older = Samples(learned.table[COLUMNS], learned.root)  # its run did not keep the pixels
    assert overlap_warning(evaluated, {tmp_path: older}) is None
