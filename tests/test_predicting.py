"""The verb `predict`: whatever lies in a folder, and however often it is killed, the table is whole."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bloodcell
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference import predict as predict_verb
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.predict import predict, threshold_of
from bloodcell.inference.prediction_counts import count_lines
from bloodcell.models.ood import Limits
from bloodcell.runtime.errors import BloodcellError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and signals of POSIX")

#: Predicts in groups of four, and is killed with half of the third one written.
KILLED = """
import os, signal, sys
from bloodcell.inference import predict
from bloodcell.cli import main
predict.GROUP = 4
sync = os.fsync
def cut_off(number):
    sync(number)
    content = open("out.csv", "rb").read()
    if os.fstat(number).st_ino == os.stat("out.csv").st_ino and len(content.splitlines()) > 8:
        os.truncate("out.csv", len(content) - 20)
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = cut_off
main("predict")
"""


@pytest.fixture
def predicted(compose, quick_run, tmp_path):
    """Predict in this process: predicted(images, key="value") -> the table."""

    def run(images, *overrides, name="out.csv"):
        output = tmp_path / "results" / name
        cfg = compose(f"checkpoint={quick_run}", f"output={output}", *overrides, verb="predict")
        cfg.images = [str(one) for one in images] if isinstance(images, list) else str(images)
        predict(cfg)
        return pd.read_csv(output, keep_default_na=False)

    return run


@pytest.fixture
def pictures(tmp_path, write_image):
    """Return a folder of 13 images and two files that are none."""
    folder = tmp_path / "pictures"
    for number in range(13):
        write_image(folder / f"{number:02}.png", seed=number)
    (folder / "05x.jpg").write_text("<html>404</html>")
    (folder / "99.png").write_bytes(b"")
    return folder


def command(arguments, cwd, code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=200, check=False, cwd=cwd, env=environment)


def test_the_same_probabilities_as_the_run_evaluation_and_the_predictor(predicted, quick_run, smears):
    rows = pd.read_csv(quick_run / "predictions.csv", dtype={"path": str})
    rows = rows[rows["split"] == "test"]
    found = predicted(smears.root).set_index("path").loc[rows["path"]]
    chances = [name for name in found if name.startswith("p_")]
    predictor = bloodcell.load(quick_run, device="cpu").predict([smears.root / path for path in rows["path"]])
    for other in (rows, predictor):
        np.testing.assert_allclose(found[chances].to_numpy(), other[chances].to_numpy(), rtol=0, atol=1e-6)
        assert list(found["prediction"]) == list(other["prediction"])
    assert found["confidence"].to_numpy() == pytest.approx(found[chances].max(axis=1).to_numpy())


def test_after_a_wrong_folder_the_right_one_takes_the_same_output(predicted, write_image, tmp_path, capsys):
    for name in ("svg/a.svg", "svg/b.svg", "svg/c", "bad/a.png", "gif/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    write_image(tmp_path / "gif" / "a.gif")
    write_image(tmp_path / "gif" / "b.GIF", seed=1)
    with pytest.raises(
        BloodcellError, match=r"^no image in images=.*svg, but 2 \.svg files, 1 file without ending; give"
    ):
        predicted(tmp_path / "svg")
    assert not (tmp_path / "results" / "out.csv").exists()
    assert predicted(tmp_path / "bad").empty  # its list of bad files is complete
    capsys.readouterr()
    assert [Path(path).name for path in predicted(tmp_path / "gif")["path"]] == ["a.gif", "b.GIF"]
    assert "note: not read, as no images by the ending: 1 .txt file" in capsys.readouterr().out
    assert not (tmp_path / "results" / "out.bad.csv").exists()
    assert len(predicted(tmp_path / "gif" / "*.gif", name="pattern.csv")) == 1
    with pytest.raises(BloodcellError, match="is there already"):
        predicted(tmp_path / "gif")


@posix
@pytest.mark.timeout(60)
def test_a_folder_of_all_that_can_go_wrong(predicted, write_image, tmp_path):
    folder = tmp_path / "mess"
    good = ["a.png", "line\nbreak.png", "return\rin.png", "Zelle-ä-細胞.jpg", 'q"u,ote.png', "x.jpg/in.png"]
    for number, name in enumerate(good):
        write_image(folder / name, seed=number)
    whole = write_image(folder / "truncated.png", size=(64, 64)).read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "notes.txt").write_text("no image, and not called one")
    write_image(folder / ".hidden.png")
    write_image(folder / ".hidden" / "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "loop").symlink_to(folder)
    (folder / "x.jpg" / "loop").symlink_to(folder)
    write_image(folder / "jpeg-called.png", format="jpeg")  # what counts is the content
    write_image(folder / "png-called.jpg", format="png")
    longest = "l" * 251 + ".png"
    write_image(folder / longest)
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "input.png").symlink_to("/dev/stdin")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(folder / "socket.png"))  # the whole path may be too long for one
    table = predicted(folder)
    listener.close()
    good += ["jpeg-called.png", "png-called.jpg", longest]
    assert sorted(table["path"]) == sorted(good)
    bad = pd.read_csv(tmp_path / "results" / "out.bad.csv").set_index("path")["reason"]
    reasons = dict(bad.items())
    assert reasons.pop("truncated.png").startswith("cannot be decoded")
    assert reasons == {
        "empty.jpg": "empty file",
        "page.jpg": "not an image",
        "pipe.png": "not a regular file",
        "socket.png": "not a regular file",
        "endless.png": "not a regular file",
        "input.png": "not a regular file",
        "gone.png": "no such file",
        "itself.png": "cannot be read: Too many levels of symbolic links",
    }


@posix
@pytest.mark.timeout(60)
def test_what_is_given_by_name_is_read_whatever_its_ending(predicted, write_image, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    bare = write_image(tmp_path / "scan", format="png")
    table = predicted([bare, tmp_path / "pipe"])
    assert list(table["path"]) == [str(bare)]
    bad = pd.read_csv(tmp_path / "results" / "out.bad.csv")
    assert bad.to_numpy().tolist() == [[str(tmp_path / "pipe"), "not a regular file"]]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_that_are_no_unicode_and_folders_too_deep(predicted, write_image, tmp_path, monkeypatch):
    folder = tmp_path / "odd"
    write_image(folder / os.fsdecode(b"latin-\xe4.png"))
    monkeypatch.chdir(folder)
    for _ in range(20):  # of 250 letters each: below, no path reaches
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    Path("below.png").write_bytes(next(folder.glob("latin*")).read_bytes())
    os.chdir(folder)
    write_image(folder / "z.png")
    table = predicted(folder)
    ((path, reason),) = pd.read_csv(tmp_path / "results" / "out.bad.csv").to_numpy()
    assert path.startswith("d" * 250)
    assert reason == "cannot be read: File name too long"
    assert list(table["path"]) == [r"latin-\udce4.png", "z.png"]


def test_files_that_vanish_or_change_after_they_are_listed_are_bad(predicted, write_image, tmp_path, monkeypatch):
    folder = tmp_path / "moving"
    files = [write_image(folder / f"{number}.png", seed=number) for number in range(4)]
    decoded = Ensemble._decoded

    def late(*arguments):
        files[0].unlink()
        files[1].write_bytes(files[1].read_bytes()[:100])
        files[2].unlink()
        files[2].mkdir()
        return decoded(*arguments)

    monkeypatch.setattr(Ensemble, "_decoded", late)
    assert list(predicted(folder)["path"]) == [files[3].name]
    bad = pd.read_csv(tmp_path / "results" / "out.bad.csv")["reason"].tolist()
    assert bad[0] == "no such file"
    assert bad[1].startswith("cannot be decoded")
    assert bad[2] == "not a regular file"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_said(predicted, pictures, tmp_path):
    closed = [pictures / "00.png", pictures / "folder"]
    closed[1].mkdir()
    for path in closed:
        path.chmod(0)
    assert len(predicted(pictures)) == 12
    bad = pd.read_csv(tmp_path / "results" / "out.bad.csv").set_index("path")["reason"]
    assert [bad[str(path)] for path in closed] == ["cannot be read: Permission denied"] * 2


def test_the_table_may_lie_in_the_folder_of_the_images(quick_run, pictures, compose):
    output = pictures / "found.csv"
    cfg = compose(f"checkpoint={quick_run}", f"output={output}", "overwrite=true", verb="predict")
    cfg.images = str(pictures)
    assert [predict(cfg)["images"] for _ in range(2)] == [13, 13]
    cfg.images = str(pictures / "*")
    assert predict(cfg)["images"] == 13


@posix
@pytest.mark.slow
def test_killed_and_run_again_gives_the_very_same_bytes(quick_run, pictures, tmp_path, compose, monkeypatch, capsys):
    arguments = [f"checkpoint={quick_run}", f"images={pictures}", "output=out.csv", "abstain_below=0.5", "device=cpu"]
    once, killed = tmp_path / "once", tmp_path / "killed"
    for folder in (once, killed):
        folder.mkdir()
    assert command(arguments, killed, KILLED).returncode == -signal.SIGKILL
    left = (killed / "out.csv").read_bytes()
    assert len(left.splitlines()) > 6
    assert not left.endswith(b"\n")
    assert {path.name for path in killed.iterdir()} <= {"out.csv", "out.bad.csv", "out.state.json", "out.lock"}

    monkeypatch.setattr(predict_verb, "GROUP", 4)
    monkeypatch.chdir(killed)
    with pytest.raises(BloodcellError, match="tta was none, and is flips now"):
        predict(compose(*arguments, "tta=flips", verb="predict"))
    for folder in (once, killed):
        monkeypatch.chdir(folder)
        counts = predict(compose(*arguments, verb="predict"))
        assert (counts["images"], counts["bad"]) == (13, 2)
        assert sorted(path.name for path in folder.iterdir()) == ["out.bad.csv", "out.csv"]
    for name in ("out.csv", "out.bad.csv"):
        assert (killed / name).read_bytes() == (once / name).read_bytes()
    assert "13 images, 8 of them before it was interrupted" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(BloodcellError, match=r"out\.csv is there already"):
        predict(compose(*arguments, verb="predict"))


def test_with_no_image_that_can_be_read_it_leaves_with_2(monkeypatch, quick_run, tmp_path, capsys):
    (tmp_path / "x.jpg").write_text("none")
    arguments = [f"checkpoint={quick_run}", f"images={tmp_path}", f"output={tmp_path / 'o.csv'}"]
    monkeypatch.setattr(sys, "argv", ["bloodcell", *arguments])
    with pytest.raises(SystemExit) as caught:
        bloodcell_main()
    assert caught.value.code == 2
    assert "no image could be read" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "o.bad.csv")["reason"].tolist() == ["not an image"]


def bloodcell_main():
    from bloodcell.cli import main

    main("predict")


def test_the_cell_is_said_where_it_is_looked_for(another, compose, smears, tmp_path):
    def crop(checkpoint):
        checkpoint["hyper_parameters"]["preprocessing"]["crop"] = "cell"

    output, smear = tmp_path / "o.csv", smears.paths()[0]
    Image.new("RGB", (60, 40), "grey").save(tmp_path / "grey.png")
    cfg = compose(f"checkpoint={another('cropped', crop)}", f"output={output}", verb="predict")
    cfg.images = [smear, str(tmp_path / "grey.png")]
    assert predict(cfg)["without cell"] == 1
    table = pd.read_csv(output, dtype=str, keep_default_na=False)
    assert list(table["cell"]) == ["found", "none"]
    square = Preprocessing(32, crop="cell").square(read_image(smear))
    assert table[["left", "top", "side"]].to_numpy().tolist() == [list(map(str, square)), ["", "", ""]]


def test_whoever_is_less_sure_is_abstained_from(predicted, pictures, quick_run):
    every = predicted(pictures)
    columns = [name for name in every if not name.startswith("p_")]
    assert columns == ["path", "prediction", "confidence"]  # no empty ones: there are no limits, cells, abstentions
    again = bloodcell.load(quick_run, device="cpu").predict([pictures / path for path in every["path"]])
    exact = again.filter(like="p_").max(axis=1)
    least = float(exact.median())  # the table's have six digits
    some = predicted(pictures, f"abstain_below={least!r}", "overwrite=true")
    assert list(some["abstained"]) == list(exact < least)


def test_numbers_are_short_and_paths_relative_to_the_only_folder(predicted, pictures, tmp_path):
    folder = predicted(pictures)
    assert folder["path"].tolist() == [f"{number:02}.png" for number in range(13)]
    assert sorted(pd.read_csv(tmp_path / "results" / "out.bad.csv")["path"]) == ["05x.jpg", "99.png"]
    text = (tmp_path / "results" / "out.csv").read_text(encoding="utf-8")
    digits = [len(cell.split("e")[0].replace(".", "").lstrip("0")) for cell in re.findall(r",(\d[^,\n]*)", text)]
    assert 4 < max(digits) <= 6
    several = predicted([pictures / "00.png", pictures / "01.png"], name="two.csv")
    assert several["path"].tolist() == [str(pictures / "00.png"), str(pictures / "01.png")]


def test_the_end_counts_classes_and_folders_in_80_columns(tmp_path):
    table = tmp_path / "o.csv"
    long = "a folder of a very long name/and another/" * 2
    rows = [("a/1.png", "x"), ("a/2.png", "y"), ("a/3.png", "x"), (f"{long}4.png", "y"), ("5.png", "z" * 90)]
    table.write_text("path,prediction,p_x\n" + "".join(f"{path},{name},0\n" for path, name in rows), encoding="utf-8")
    lines = count_lines(table)
    assert [line.split()[:3] for line in lines[:3]] == [
        ["predicted", "class", "images"], ["x", "2", "40.0"], ["y", "2", "40.0"],
    ]  # fmt: skip
    assert [line.split() for line in lines if line.startswith("a ")] == [["a", "3", "x", "67", "%,", "y", "33", "%"]]
    assert any(line.startswith(".") for line in lines)
    assert max(map(len, lines)) <= 80
    table.write_text("path,prediction,p_x\na/1.png,x,0\na/2.png,x,0\n", encoding="utf-8")
    assert len(count_lines(table)) == 2  # a single folder is not listed
    table.write_text("path,prediction\n", encoding="utf-8")
    assert count_lines(table) == []
    table.write_text("path,prediction\n" + "".join(f"{n}/1.png,x\n" for n in range(14)), encoding="utf-8")
    assert count_lines(table)[-1] == "and 2 others"


def test_flags_follow_the_limits(predicted, pictures, monkeypatch):
    load, found = predict_verb.load_engines, []

    def with_limits(*arguments, **choices):
        (engine,) = load(*arguments, **choices)
        means = np.zeros((len(engine.classes), engine.classifier.net.width), np.float32)
        whitening = np.eye(means.shape[1], dtype=np.float32)  # so every image has a score of 1
        engine.limits = Limits(means, whitening, 0.5, {"0.05": 0.5, "0.01": None})
        found.append(engine)
        return [engine]

    monkeypatch.setattr(predict_verb, "load_engines", with_limits)
    table = predicted(pictures, "error_rate=0.05")
    assert set(table["unlike"]) <= {True, "True"}
    assert list(table["abstained"]) == list(table["confidence"] < 0.5)
    assert threshold_of(None, 0.05, found, "none") == 0.5
    with pytest.raises(BloodcellError, match=r"error_rate=0\.01 cannot be promised; it takes at least 230 .*: 0\.05"):
        threshold_of(None, 0.01, found, "none")
    with pytest.raises(BloodcellError, match="promised with tta=none, not with tta=d4"):
        threshold_of(None, 0.05, found, "d4")
    with pytest.raises(BloodcellError, match="several classifiers made no promise"):
        threshold_of(None, 0.05, found * 2, "none")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["error_rate=0.05"], "this checkpoint made no promise; use abstain_below"),
        (["error_rate=0.05", "abstain_below=0.8"], "give one"),
        (["abstain_below=80"], "a number from 0 to 1"),
        (["output=null"], "output=FILE.csv"),
        (["output=results.xlsx"], "names no CSV file"),
        (["tta=some"], "tta=some"),
        (["features.backend=fast"], "features.backend=fast"),
    ],
)
def test_what_is_wrong_is_one_clear_line(predicted, pictures, tmp_path, overrides, said):
    with pytest.raises(BloodcellError, match=said):
        predicted(pictures, *overrides)
    assert not list((tmp_path / "results").glob("*"))


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_output_that_is_no_regular_file_is_refused_before_anything_is_loaded(compose, tmp_path, kind):
    output = tmp_path / "out.csv"
    if kind == "pipe":
        os.mkfifo(output)
    else:
        output.symlink_to("/dev/zero")
    cfg = compose("checkpoint=gone", "images=gone", f"output={output}", "overwrite=true", verb="predict")
    with pytest.raises(BloodcellError, match=r"^output=.*out\.csv is no regular file"):
        predict(cfg)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_images_must_be_given(compose):
    with pytest.raises(BloodcellError, match="images is not set"):
        predict(compose("checkpoint=a", "output=o.csv", verb="predict"))


@posix
@pytest.mark.slow
def test_five_thousand_images_take_no_more_memory_than_five_hundred(quick_run, write_image, tmp_path):
    files = [write_image(tmp_path / "few" / f"{number}.jpg", size=(320, 240), seed=number) for number in range(5)]
    folder = tmp_path / "many"
    folder.mkdir()
    measured = []
    for count in (500, 5000):
        for number in range(len(list(folder.iterdir())), count):
            (folder / f"{number}.jpg").symlink_to(files[number % 5])
        code = "import resource\nfrom bloodcell.cli import main\nmain('predict')\n"
        code += "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        arguments = [f"checkpoint={quick_run}", f"images={folder}", f"output={count}.csv", "device=cpu", "cells=one"]
        done = command(arguments, tmp_path, code)
        assert done.returncode == 0, done.stderr
        assert len(pd.read_csv(tmp_path / f"{count}.csv")) == count
        measured.append(int(done.stdout.split("peak")[1]))
    assert measured[1] < measured[0] + 40_000  # kB; 5,000 pictures are 1.1 GB


@pytest.mark.parametrize(("count", "sizes"), [(3, [3]), (128, [16] * 8), (200, [64, 64, *[16] * 4, 8])])
def test_the_last_groups_are_small_so_that_all_threads_end_together(count, sizes):
    groups = list(predict_verb.grouped(iter(map(str, range(count))), count))
    assert [len(group) for group in groups] == sizes
    assert [name for group in groups for name in group] == list(map(str, range(count)))


def test_pictures_that_show_nothing_are_counted(predicted, tmp_path, write_image, capsys):
    folder = tmp_path / "mixed"
    write_image(folder / "cell.png")
    for name, level in (("black", 3), ("white", 255), ("grey", 130)):
        Image.new("L", (40, 30), level).save(folder / f"{name}.png")
    assert len(predicted(folder)) == 4
    assert "3 black, white or constant all over" in capsys.readouterr().out
