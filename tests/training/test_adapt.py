"""A reader is adapted by some labelled cells: which one is kept, by what figures, and what its run folder holds."""

import json
import os
import signal
import time
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import bloodcell
from bloodcell.data.samples import read_samples
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import checkpoint_of
from bloodcell.training.adapted_reader import with_outputs
from tests.conftest import clear
from tests.painted import known_field

#: Two of the reader's classes, and the colour that shows them in another laboratory.
COLOURS = {"LYMPHOCYTE": (220, 120, 120), "MONOCYTE": (120, 120, 220)}
SHORT = {"steps": 24, "trainer__gpus": 0, "report": False, "optimizer__lr": 5e-3, "augment": "none"}


def picture(file, colour, seed):
    noise = np.random.default_rng(seed).normal(0, 20, (32, 32, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(file)
    return str(file)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return a table of 20 labelled cells of two classes, from 5 sources each, and of 4 without a label."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [
        (picture(folder / name / f"{number}.png", colour, number), name if number < 10 else "", f"{name}{number // 2}")
        for name, colour in COLOURS.items()
        for number in range(12)
    ]
    pd.DataFrame(rows, columns=["path", "label", "group"]).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def adapted(learnt_run, labelled, tmp_path_factory):
    """Adapt the learnt run to the labelled cells, once."""
    outputs = tmp_path_factory.mktemp("outputs")
    return bloodcell.adapt(learnt_run, data="table", data__table=labelled, outputs=outputs, **SHORT)


def kept(run):
    return json.loads((run.folder / "adaptation.json").read_text())


def test_a_better_reader_is_kept_by_its_predictions_of_cells_it_did_not_learn(adapted, labelled):
    found, rows = kept(adapted), adapted.predictions
    labels = pd.read_csv(labelled, keep_default_na=False)
    labels = labels[labels["label"] != ""]
    assert found["kept"] == "adapted"
    assert found["cells"] == len(rows) == len(labels)
    assert found["classes"] == labels["label"].value_counts().to_dict()
    right = rows["label"] == rows["prediction"]
    assert found["after"]["value"] == pytest.approx(right.groupby(rows["label"]).mean().mean())
    assert found["before"]["value"] < found["after"]["value"]
    for figure in (found["before"], found["after"]):
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert found["why"].startswith("The adapted reader is kept: in 3 folds over sources")
    progress = json.loads((adapted.folder / "progress.json").read_text())
    assert progress == {"done": 6, "of": 6, "what": "done"}


def test_its_run_folder_is_one_like_any_other(adapted, learnt_run, labelled, tmp_path):
    classifier, reader = (load_classifier(checkpoint_of(folder)) for folder in (adapted.folder, learnt_run))
    assert classifier.classes == reader.classes
    assert classifier.confusion is not None
    files = list(pd.read_csv(labelled)["path"])[:3]
    table = bloodcell.load(adapted).predict(files)
    assert len(table) == 3
    record = json.loads((adapted.folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["kept"] == "adapted"
    assert record["command"].startswith("bloodcell adapt ")
    assert {"config.yaml", "samples.csv", "metrics.json"} <= {file.name for file in adapted.folder.iterdir()}
    assert not list(adapted.folder.glob(".fits-*"))


def test_what_the_reader_was_trained_on_is_still_known(adapted, learnt_run, capsys):
    bloodcell.evaluate(
        adapted, data="imagefolder", data__root=read_samples(learnt_run / "samples.csv").root / "images" / "TRAIN",
        report=False, figures=False, outputs=adapted.folder.parent,
    )  # fmt: skip
    assert "images were trained on by a member" in capsys.readouterr().err


def test_cells_that_the_reader_has_learnt_do_not_test_it(adapted, labelled, tmp_path, capsys):
    again = {"data": "table", "outputs": tmp_path, **SHORT}
    with pytest.raises(BloodcellError, match="the reader has learnt these cells before, so too few are left to test"):
        bloodcell.adapt(adapted, data__table=labelled, **again)
    rows = pd.read_csv(labelled, keep_default_na=False)
    rows.loc[rows["label"] == "", "label"] = "MONOCYTE"
    rows.assign(group="").to_csv(tmp_path / "more.csv", index=False)
    found = kept(bloodcell.adapt(adapted, data__table=tmp_path / "more.csv", **again))
    assert "note: the reader has learnt 20 cells of these before" in capsys.readouterr().out
    assert found["cells"] == 24
    assert "balanced accuracy on 4 cells" in found["why"]


def test_a_reader_that_adaptation_does_not_better_is_kept_unchanged(learnt_run, labelled, tmp_path):
    still = {**SHORT, "steps": 1, "optimizer__lr": 0.0, "scheduler": "none", "finetune__batch_norm": "frozen"}
    run = bloodcell.adapt(learnt_run, data="table", data__table=labelled, outputs=tmp_path, **still)
    found = kept(run)
    assert found["kept"] == "reader"
    assert found["why"].startswith("The reader is kept as it was")
    assert found["after"]["value"] <= found["before"]["value"]
    assert checkpoint_of(run.folder).read_bytes() == checkpoint_of(learnt_run).read_bytes()
    assert set(read_samples(run.folder / "samples.csv").table["split"]) == {"val"}


def test_a_signal_ends_it_and_leaves_nothing_that_loads(command, learnt_run, labelled, tmp_path):
    def stop():
        progress = tmp_path / "run" / "progress.json"
        while not progress.is_file() or "fold" not in progress.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=stop, daemon=True).start()
    words = [f"checkpoint={learnt_run}", "data=table", f"data.table={labelled}", "trainer.gpus=0", "steps=3000"]
    code, _ = command("adapt", *words)
    assert code == 143
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    with pytest.raises(BloodcellError, match="holds no checkpoint"):
        checkpoint_of(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint=[a,b]"], "adapt takes one reader, and 2 are given; give checkpoint=RUN"),
        (["data.crop=cell"], "data.crop=cell; the reader and adapt choose it; leave it out"),
        (["trainer.max_epochs=2"], "trainer.max_epochs=2; a training of adapt is one epoch; give its length by steps"),
        (["data=table", "data.table=a.csv", "corrections=b.csv"], "corrections= and data= both name labelled cells"),
        (["steps=0"], "steps=0; give 1 step or more"),
        (["data.root=null"], "data.root is not set; name the folder of images with data.root=DIR"),
    ],
)
def test_a_mistake_is_one_clear_line(command, learnt_run, tmp_path, words, message):
    code, error = command("adapt", f"checkpoint={learnt_run}", f"data.root={tmp_path}", "trainer.gpus=0", *words)
    clear(code, error, message)
    assert not list((tmp_path / "run").glob("*"))


def test_a_new_class_has_an_output_that_begins_as_the_mean_of_the_others():
    state = {"net.head.logits.weight": torch.eye(2), "net.head.logits.bias": torch.tensor([1.0, 3.0]), "x": None}
    found = with_outputs(state, 3)
    assert found["net.head.logits.weight"].tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert found["net.head.logits.bias"].tolist() == [1, 3, 2]


def test_cells_of_fields_and_a_new_class(learnt_run, tmp_path):
    """The page of a folder writes such corrections; whatever is kept, the new folder answers."""
    rows = []
    for seed in (0, 1):
        pixels, boxes = known_field(seed)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
        labels = ["LYMPHOCYTE", "MONOCYTE", "BLAST", "LYMPHOCYTE"]
        rows += [(f"{seed}.png", number, label, *boxes[number]) for number, label in enumerate(labels, start=1)]
    table = pd.DataFrame(rows, columns=["path", "cell", "label", "left", "top", "width", "height"])
    with pytest.raises(BloodcellError, match="knows no class BLAST"):
        bloodcell.adapt(learnt_run, tmp_path, table, outputs=tmp_path / "refused", **SHORT)
    run = bloodcell.adapt(learnt_run, tmp_path, table, new_classes=["BLAST"], outputs=tmp_path / "out", **SHORT)
    found = kept(run)
    assert found["classes"] == {"BLAST": 2, "LYMPHOCYTE": 4, "MONOCYTE": 2}
    assert f"over sources, its balanced accuracy on {found['cells']} cells" in found["why"]
    classes = set(load_classifier(checkpoint_of(run.folder)).classes)
    assert ("BLAST" in classes) == (found["kept"] == "adapted")
    assert set(run.table("samples")["source"]) == {"0.png", "1.png"}
    assert len(bloodcell.load(run).predict(tmp_path / "0.png", cells="one")) == 1
