"""Several sets by the command line: trained, left out in turn, evaluated with classes in other letter case."""

import json
import re
import sys

import pandas as pd
import pytest
import torch

from bloodcell import cli
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import resume, train
from tests.conftest import BARE, QUICK, SMALL, data_config


@pytest.fixture(scope="module")
def sets(smears, tmp_path_factory):
    """Return the overrides that join the painted smears, in Kaggle's layout, with class folders of other names."""
    from PIL import Image

    mine = tmp_path_factory.mktemp("mine")
    names = {"EOSINOPHIL": "eosinophil", "LYMPHOCYTE": "lymphocyte", "NEUTROPHIL": "seg_neutrophil"}
    for number, row in enumerate(smears.of_split("test").table.itertuples()):
        if row.label in names:
            (mine / names[row.label]).mkdir(exist_ok=True)
            with Image.open(smears.root / row.path) as image:  # mirrored: other files, of no known source
                image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mine / names[row.label] / f"{number}.png")
    return (
        "data=joint",
        f"data.sets={{painted: {smears.root}, mine: {mine}}}",
        "data.class_map={seg_neutrophil: neutrophil}",
        "data.leak_check=off",
    )


def command(monkeypatch, verb, *arguments):
    monkeypatch.setattr(sys, "argv", [f"{verb}.py", *arguments])
    cli.main(verb)


def test_a_joint_run_from_start_to_end(monkeypatch, sets, tmp_path, capsys):
    run = tmp_path / "run"
    own = [f"outputs={tmp_path}", f"hydra.run.dir={run}", "data.sampling=balanced", "data.epoch_size=40"]
    command(monkeypatch, "train", *QUICK, *sets, *own, "scheduler=onecycle", "loss.own_classes=true")
    said = capsys.readouterr().out
    assert "4 classes: EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL" in said
    assert "note: sources of mine are unknown; find them: bloodcell audit data=imagefolder data.root=" in said
    samples = pd.read_csv(run / "samples.csv", keep_default_na=False)
    assert samples.groupby("set")["split"].unique().map(set).to_dict() == {
        name: {"train", "val", "test"} for name in ("painted", "mine")
    }
    config = json.loads((run / "run.json").read_text())
    assert config["status"] == "finished"
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * 3  # epochs of 40 images in batches of 16
    assert checkpoint["lr_schedulers"][0]["total_steps"] == 6
    command(monkeypatch, "evaluate", f"checkpoint={run}", "device=cpu", *BARE, f"hydra.run.dir={tmp_path / 'again'}")
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "again")]
    assert metrics[1]["test/accuracy"] == pytest.approx(metrics[0]["test/accuracy"], abs=1e-6)
    command(monkeypatch, "export", str(run), "format=reader", f"output={tmp_path / 'reader.ckpt'}")
    card = (tmp_path / "reader.md").read_text()
    assert "| class | painted | mine |" in card
    assert re.search(r"\| MONOCYTE \| \d+ \|  \|", card)  # mine has none
    assert str(tmp_path) not in card


def test_each_set_is_left_out_in_turn_and_tested(monkeypatch, sets, tmp_path, capsys):
    own = [f"outputs={tmp_path}", f"hydra.sweep.dir={tmp_path / 'many'}", "trainer.max_epochs=1"]
    classes = "data.classes=[eosinophil,lymphocyte,neutrophil]"
    command(monkeypatch, "train", "-m", *QUICK, *sets, *own, classes, "data.leave_out=painted,mine")
    table = pd.read_csv(tmp_path / "many" / "leave_one_lab_out.csv").set_index("set")
    for job, name in enumerate(("painted", "mine")):
        samples = pd.read_csv(tmp_path / "many" / str(job) / "samples.csv", keep_default_na=False)
        assert set(samples[samples["split"] == "test"]["set"]) == {name}
        assert set(samples[samples["split"] != "test"]["set"]) == {"painted", "mine"} - {name}
        metrics = json.loads((tmp_path / "many" / str(job) / "metrics.json").read_text())
        assert metrics["test/images"] == (samples["set"] == name).sum() == table.loc[name, "images"]
        predictions = pd.read_csv(tmp_path / "many" / str(job) / "predictions.csv", keep_default_na=False)
        tested = predictions[predictions["split"] == "test"]
        recall = (tested["label"] == tested["prediction"]).groupby(tested["label"]).mean().mean()
        assert table.loc[name, "macro_recall_by_source"] == pytest.approx(recall, abs=1e-6)
        assert pd.isna(table.loc[name, ["sources", "low", "high"]].astype(float)).all()  # sources are unknown
    said = capsys.readouterr().out
    assert f"mean of 2 sets {100 * table['macro_recall_by_source'].mean():.1f} %; worst " in said
    assert "mine, never seen: macro recall by source " in said


@pytest.mark.parametrize("kept", ["auto", pytest.param("off", marks=pytest.mark.slow)])
def test_an_interrupted_run_of_balanced_draws_resumes_to_the_same_end(compose, tmp_path, kept):
    from tests.test_training import assert_same_run, plug_pulled

    own = ["data.sampling=balanced", "data.epoch_size=30", f"features.cache={kept}", "data.in_memory=false"]
    cfg = compose(*QUICK, *SMALL, *own, "trainer.max_epochs=3", f"outputs={tmp_path}")
    train(cfg, tmp_path / "whole")
    with plug_pulled(1, batch=1):
        train(cfg, tmp_path / "broken")
    resume(tmp_path / "broken", [])
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_evaluate_ignores_the_letter_case_of_class_names(quick_run, compose, tmp_path, class_folders):
    root = class_folders({"Monocyte": 2, "neutrophil": 3, "ig": 1})
    arguments = [f"checkpoint={quick_run}", "data=imagefolder", f"data.root={root}", "device=cpu"]
    with pytest.raises(
        BloodcellError, match=r"class ig was not in training.*\n.*data\.classes=\[Monocyte,neutrophil\]"
    ):
        evaluate(compose(*arguments, *BARE, verb="evaluate"), tmp_path / "a")
    keep = "data.classes=[Monocyte,neutrophil]"
    assert evaluate(compose(*arguments, keep, *BARE, verb="evaluate"), tmp_path / "b")["test/images"] == 5
    predictions = pd.read_csv(tmp_path / "b" / "predictions.csv")
    assert predictions["label"].value_counts().to_dict() == {"NEUTROPHIL": 3, "MONOCYTE": 2}


def test_a_net_of_a_joint_run_knows_the_sources_of_each_set_alone(tmp_path):
    from bloodcell.audits.overlap import training_samples, training_sources

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.json").write_text("{}")
    rows = "a.png,x,train,kaggle/cell1,kaggle,/r\nb.png,x,val,kaggle/cell2,kaggle,/r\n"
    (tmp_path / "samples.csv").write_text("path,label,split,source,set,root\n" + rows)
    assert training_sources([training_samples(tmp_path / "checkpoints" / "best.ckpt")]) == {"kaggle/cell1", "cell1"}


def test_a_source_was_trained_on_where_one_of_its_images_was_under_whatever_name(tmp_path):
    from bloodcell.audits.overlap import trained_sources
    from bloodcell.data.samples import COLUMNS, Samples

    alone = Samples(pd.DataFrame([("a.png", "x", "train", "1", "")], columns=COLUMNS), tmp_path / "kaggle")
    rows = [("kaggle/a.png", "x", "train", "k/7", "k"), ("kaggle/b.png", "x", "test", "k/7", "k"),
            ("kaggle/c.png", "x", "test", "k/8", "k")]  # fmt: skip
    joint = Samples(pd.DataFrame(rows, columns=COLUMNS), tmp_path)
    assert trained_sources(joint, [alone, None]) == {"1", "k/7"}


def test_an_audit_is_of_one_set(compose, sets, tmp_path):
    from bloodcell.audits.audit import run_audit

    with pytest.raises(BloodcellError, match=r"bloodcell audit data=kaggle .*; bloodcell audit data=imagefolder"):
        run_audit(compose(*sets, verb="audit"), tmp_path / "audit")


def test_classes_are_not_balanced_twice(compose, tmp_path):
    with pytest.raises(BloodcellError, match="do the same twice; choose one"):
        train(compose(*QUICK, *SMALL, "data.sampling=balanced", "loss.class_weights=balanced"), tmp_path / "run")


def test_copies_across_sets_are_looked_for(monkeypatch, tmp_path):
    from bloodcell.audits.leaks import check_leaks
    from bloodcell.audits.probe import LeakProbe
    from bloodcell.data.samples import COLUMNS, Samples

    config = data_config(leak_check="error")
    rows = [("1", "a", "train", "x/1", "x"), ("2", "a", "val", "y/1", "y")]
    joined = Samples(pd.DataFrame(rows, columns=COLUMNS), tmp_path)
    monkeypatch.setattr("bloodcell.audits.probe.leak_probe", lambda *_: LeakProbe(0.9, 0.5, aligned=5, copies=4))
    advice = "two of data.sets show the same cells; train without one of them"
    with pytest.raises(BloodcellError, match=f"leak: 4 of 5 validation images .*; {advice}"):
        check_leaks(joined, config, tmp_path)
    left_out = Samples(joined.table.assign(split=["train", "test"]), tmp_path)
    with pytest.raises(BloodcellError, match=f"leak: 4 of 5 test images .*; {advice}"):
        check_leaks(left_out, config, tmp_path)
    check_leaks(Samples(joined.table.assign(set=""), tmp_path), config, tmp_path)
