"""The verb `export`: there is a file only if it answers as the checkpoint does, and its card says what it is."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image

import bloodcell
from bloodcell.data.preprocessing import as_array
from bloodcell.exports.export import about_of, card_of, export
from bloodcell.exports.formats import FORMATS
from bloodcell.exports.model_card import card
from bloodcell.models.classifier import load_classifier
from bloodcell.models.ood import Limits, to_plain
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import checkpoint_of
from tests.conftest import BARE

#: Judges as a user's own program would, without the packages of training.
LIGHT = """
import sys, bloodcell
from bloodcell import cli
file, image, root = sys.argv[1:4]
table = bloodcell.load(file, device="cpu").predict(image)
assert len(table) == 1
for verb, *arguments in (
    ("predict", f"images={image}", "output=out.csv"),
    ("evaluate", "data=imagefolder", f"data.root={root}", "hydra.run.dir=evaluated", "report=false", "figures=false"),
):
    sys.argv = [verb, f"checkpoint={file}", "device=cpu", *arguments]
    cli.main(verb)
print("loaded:", *(name for name in ("pytorch_lightning", "lightning_fabric", "torchmetrics") if name in sys.modules))
"""


@pytest.fixture
def make(compose, tmp_path, exported, monkeypatch):
    """Export, with a file that is exported already in place of a new one: make(run, *overrides) -> file."""

    ready = exported("onnx").read_bytes()
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=lambda *_: ready))

    def run(checkpoint, *overrides):
        cfg = compose(f"checkpoint={checkpoint}", f"output={tmp_path / 'out' / 'x.onnx'}", *overrides, verb="export")
        (tmp_path / "out").mkdir(exist_ok=True)
        return export(cfg)

    return run


@pytest.fixture
def another(learnt_run, tmp_path):
    """Copy the run and change its checkpoint: another(name, change) -> run folder."""

    def copied(name, change=lambda checkpoint: None):
        folder = tmp_path / name
        shutil.copytree(learnt_run, folder, ignore=shutil.ignore_patterns("tensorboard", ".lock"))
        file = checkpoint_of(folder)
        checkpoint = torch.load(file, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, file)
        return folder

    return copied


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_others_run_the_file_by_what_it_says(exported, learnt_run, smears):
    session = onnxruntime.InferenceSession(exported("onnx"))
    about = json.loads(session.get_modelmeta().custom_metadata_map["bloodcell"])
    assert about["version"] == bloodcell.__version__
    assert about["preprocessing"]["image_size"] == 32
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    rows = pd.read_csv(learnt_run / "predictions.csv").query("split == 'test'").head(3)
    pictures = np.stack([as_array(smears.root / path) for path in rows["path"]])
    (found,) = session.run(["probabilities"], {"images": pictures})
    expected = rows[[f"p_{name}" for name in about["classes"]]].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_file_that_answers_otherwise_is_not_written(make, another, tmp_path):
    def other(checkpoint):
        checkpoint["state_dict"]["net.head.logits.bias"][0] += 0.01

    with pytest.raises(BloodcellError, match=r"answers otherwise .* differs by 0\.00.* 12 val images and 12 parts"):
        make(another("other", other))
    assert left(tmp_path / "out") == []


def test_a_full_disk_loses_nothing(make, learnt_run, tmp_path, monkeypatch):
    file = make(learnt_run)
    before = file.read_bytes(), card_of(file).read_text()
    write = Path.write_text

    def full(path, *arguments, **options):
        if path.name.startswith(".x.onnx.md"):
            raise OSError(errno.ENOSPC, "no space left", str(path))
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        make(learnt_run, "overwrite=true")
    assert (file.read_bytes(), card_of(file).read_text()) == before
    assert left(tmp_path / "out") == ["x.onnx", "x.onnx.md"]


def test_a_file_is_replaced_only_when_told(make, learnt_run, capsys):
    file = make(learnt_run)
    assert "largest difference of a probability" in capsys.readouterr().out
    with pytest.raises(BloodcellError, match=r"x\.onnx is there already; .* overwrite=true"):
        make(learnt_run)
    assert make(learnt_run, "overwrite=true") == file


def test_it_goes_into_the_run_if_no_output_is_given(make, another):
    run = another("own")
    assert make(run, "output=null") == run / "exported" / "model.onnx"


def test_without_the_runs_images_painted_cells_are_compared(make, learnt_run, tmp_path, capsys):
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(checkpoint_of(learnt_run).read_bytes())
    make(alone)
    assert "on 12 painted cells and 12 parts of them" in capsys.readouterr().out
    text = (tmp_path / "out" / "x.onnx.md").read_text()
    assert "its data are not known" in text
    assert "None are known" in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["format=tflite"], "format=tflite; choose onnx, torch, huggingface, bioimageio or reader"),
        (["laboratories=FILE.csv"], "laboratories=FILE.csv; only the card of format=reader has"),
        (["format=torch"], r"names no \.pt2 file"),
        (["output=there/is/none/x.onnx"], "there is no folder there/is/none"),
        (["output=x.pkl"], r"names no \.onnx file"),
        (["checkpoint=[a,b]"], "names 2, and one is exported at a time"),
        (["checkpoint=nowhere"], "no such run or checkpoint: nowhere"),
    ],
)
def test_what_is_wrong_is_one_clear_line(compose, learnt_run, tmp_path, overrides, said):
    given = [f"checkpoint={learnt_run}", f"output={tmp_path / 'x.onnx'}", *overrides]
    with pytest.raises(BloodcellError, match=said):
        export(compose(*given, verb="export"))
    assert left(tmp_path) == []


def test_a_run_without_a_checkpoint_and_an_exported_file_are_refused(compose, tmp_path, exported):
    with pytest.raises(BloodcellError, match="holds no checkpoint"):
        export(compose(f"checkpoint={tmp_path}", verb="export"))
    with pytest.raises(BloodcellError, match="is exported already; give the run"):
        export(compose(f"checkpoint={exported('onnx')}", verb="export"))


def test_a_net_that_torch_cannot_export_is_one_clear_line(compose, learnt_run, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr("torch.onnx.export", fails)
    with pytest.raises(BloodcellError, match=r"torch cannot export mobilenet_v2 to a \.onnx file \(no such operator\)"):
        export(compose(f"checkpoint={learnt_run}", f"output={tmp_path / 'x.onnx'}", verb="export"))


def test_the_card_says_what_it_was_made_of(exported, learnt_run):
    text = card_of(exported("onnx")).read_text()
    metrics = json.loads((learnt_run / "metrics.json").read_text())
    table = pd.read_csv(learnt_run / "samples.csv", dtype=str, keep_default_na=False)
    for name, rows in table.groupby("label"):
        counts = [str((rows["split"] == split).sum()) for split in dict.fromkeys(table["split"])]
        assert f"| {name} | {' | '.join(counts)} |" in text
    for split in ("val", "test"):
        low, high = (100 * metrics[f"{split}/accuracy_{end}"] for end in ("low", "high"))
        assert f"| {100 * metrics[f'{split}/accuracy']:.1f} % ({low:.0f} to {high:.0f}) |" in text
    assert "**Not a medical device.**" in text
    assert "cannot flag images that are unlike its training data" in text
    assert not re.search(r"\{[{%]|None|nan", text.replace(snippet(text), ""))


@pytest.mark.slow
def test_the_card_of_a_pt2_file_does_not_send_it_to_bloodcell(exported):
    text = card_of(exported("torch")).read_text()
    assert "bloodcell does not read this format" in text
    assert "bloodcell predict" not in text


def snippet(text):
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.parametrize("form", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_the_snippet_of_the_card_runs(exported, learnt_run, smears, tmp_path, monkeypatch, capsys, form):
    file = exported(form)
    (tmp_path / file.name).symlink_to(file)
    Image.open(smears.paths()[0]).save(tmp_path / "image.jpg", quality=100, subsampling=0)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()  # what was said when the file was written
    exec(compile(snippet(card_of(file).read_text()), "snippet", "exec"), {})
    told = eval(capsys.readouterr().out)
    table = bloodcell.load(learnt_run, device="cpu").predict("image.jpg")
    assert told == pytest.approx({name[2:]: table[name][0] for name in table if name.startswith("p_")}, abs=1e-5)


def test_the_card_of_a_classifier_of_cells_that_knows_its_limits(
    another, exported, smears, tmp_path, monkeypatch, capsys
):
    def change(checkpoint):
        checkpoint["hyper_parameters"]["preprocessing"]["crop"] = "cell"
        checkpoint["temperature"] = 1.5
        means, whitening = np.zeros((4, 1280), np.float32), np.ones((1280, 2), np.float32)
        limits = Limits(means, whitening, 1.0, {"0.05": 0.875, "0.01": None})
        checkpoint["limits"] = to_plain(limits)

    checkpoint = checkpoint_of(another("cells", change))
    text = card(about_of(load_classifier(checkpoint), checkpoint), checkpoint, Path("learnt.onnx"), "well")
    assert "at most 5 %, if the highest probability is 0.875 or more" in text
    assert "on `unlike` and on 2 error rates, hold together with a probability of at least 70 %" in text
    assert "temperature 1.500" in text
    assert "It does not look for the cell" in text
    assert re.search(r"shows the graph the square of [\d.]+ diameters around it: `cells=all`", text)
    (tmp_path / "learnt.onnx").symlink_to(exported("onnx"))
    Image.open(smears.paths()[0]).save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    code = snippet(text).replace('about["preprocessing"]', '{**about["preprocessing"], "crop": "cell"}')
    exec(compile(code, "snippet", "exec"), namespace := {})
    assert namespace["picture"].shape[0] == namespace["picture"].shape[1] == namespace["square"][2]
    assert sum(eval(capsys.readouterr().out).values()) == pytest.approx(1)


def test_predicting_and_evaluating_a_file_import_no_lightning(exported, smears, tmp_path):
    file, image = exported("onnx"), smears.paths()[0]
    for name in ("EOSINOPHIL", "NEUTROPHIL"):
        (tmp_path / "set" / name).mkdir(parents=True)
        own = smears.table["label"] == name
        for path in smears.table[own & (smears.table["split"] == "test")]["path"]:
            (tmp_path / "set" / name / Path(path).name).symlink_to(smears.root / path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", LIGHT, str(file), image, str(tmp_path / "set")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]
    assert left(tmp_path) == ["evaluated", "out.csv", "set"]
    assert json.loads((tmp_path / "evaluated" / "metrics.json").read_text())["test/images"] > 0


def test_a_file_is_not_adapted(exported, compose, tmp_path, smears):
    predictor = bloodcell.load(exported("onnx"), device="cpu")
    with pytest.raises(BloodcellError, match=r"learnt\.onnx holds a net that cannot be changed any more"):
        predictor.adapt(smears.paths()[:32])
    from bloodcell.evaluation.evaluate import evaluate

    cfg = compose(f"checkpoint={exported('onnx')}", "adapt=batch_norm", *BARE, verb="evaluate")
    with pytest.raises(BloodcellError, match="cannot be changed any more"):
        evaluate(cfg, tmp_path / "e")


def test_what_a_killed_export_left_is_removed(make, learnt_run, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".x.onnx.4711", ".x.onnx.md.4711"):
        (tmp_path / "out" / name).write_bytes(b"half")
    file = make(learnt_run)
    assert {one.name for one in file.parent.iterdir()} == {"x.onnx", "x.onnx.md"}


def test_the_card_shows_what_a_run_says_as_text(learnt_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(learnt_run, run, ignore=shutil.ignore_patterns("figures", ".lock"))
    odd = "x\n\n# Approved\n<script>alert(1)</script> [a](http://b) | c"
    record = json.loads((run / "run.json").read_text())
    record |= {"command": odd, "versions": {odd: odd}, "python": odd, "fingerprint": odd}
    (run / "run.json").write_text(json.dumps(record))
    (run / "metrics.json").write_text(json.dumps({"val/accuracy": 0.5, "val/images": odd, "epochs": [1]}))
    (run / "config.yaml").write_text("a: &a [x]\nb: *a\n")
    checkpoint = checkpoint_of(run)
    text = card(about_of(load_classifier(checkpoint), checkpoint), checkpoint, tmp_path / "x.onnx", "")
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert "\n# Approved" not in text
    assert "<script>" not in outside_code
    assert "[a](http" not in outside_code
    assert "\\<script\\>" in outside_code
    for versions in ([1], "x", None):
        (run / "run.json").write_text(json.dumps({**record, "versions": versions}))
        assert "# Approved" in card(
            about_of(load_classifier(checkpoint), checkpoint), checkpoint, tmp_path / "x.onnx", ""
        )
