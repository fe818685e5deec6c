"""Every kind of file that is called an image: its picture, or the reason why there is none, whoever reads it."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.data.image_check import check_images
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples
from bloodcell.runtime.console import counted
from tests.conftest import QUICK
from tests.inputs.conftest import assert_clear
from tests.inputs.pictures import NAMES, PICTURES, scene, write_all

pytestmark = [
    pytest.mark.inputs,
    pytest.mark.timeout(60, func_only=True),
    pytest.mark.skipif(sys.platform == "win32", reason="names, pipes and links of POSIX"),
]

#: Decodes one file in a process of its own and says the peak of its memory before and after, in kilobytes.
PEAK = """
import resource, sys
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    read_image(sys.argv[1])
except ImageError as error:
    print(error)
print(before, peak())
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Write all kinds into one folder, once: the folder and file -> what it must come to."""
    folder = tmp_path_factory.mktemp("corpus") / "pictures"
    return folder, write_all(folder)


def test_there_are_many_kinds_each_with_a_file_of_its_own():
    assert len({picture.file for picture in PICTURES}) == len({picture.name for picture in PICTURES}) == len(PICTURES)
    assert len(PICTURES) > 200


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_the_picture_or_the_reason(picture, tmp_path, count):
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / picture.file
    expected = picture.write(file)
    if isinstance(expected, str):
        with pytest.raises(ImageError, match=expected) as raised:
            read_image(file)
        assert len(str(raised.value).splitlines()) == 1
        assert len(str(raised.value)) < 200
        count("images, read alone", "refused")
        return
    found = read_image(file)
    assert (found.dtype, found.shape) == (np.uint8, expected.shape)
    np.testing.assert_allclose(found.astype(int), expected, rtol=0, atol=picture.atol)
    count("images, read alone", "right")


def test_prediction_takes_the_whole_folder(corpus, quick_run, tmp_path, command, count):
    folder, expected = corpus
    code, said, error = command(
        "predict", f"checkpoint={quick_run}", f"images={folder}", f"output={tmp_path / 'o.csv'}"
    )
    assert (code, error) == (0, "")
    table = pd.read_csv(tmp_path / "o.csv", keep_default_na=False).set_index("path")
    bad = pd.read_csv(tmp_path / "o.bad.csv", keep_default_na=False).set_index("path")["reason"]
    assert f"{counted(len(bad), 'file')} cannot be read" in said
    right = [file for file, come_to in expected.items() if not isinstance(come_to, str)]
    predictor, size = bloodcell.load(quick_run), Preprocessing(32)
    chances = [name for name in table if name.startswith("p_")]
    wanted = predictor.predict([size.pixels(np.ascontiguousarray(expected[file])) for file in right])
    for file, probabilities in zip(right, wanted[chances].to_numpy(), strict=True):
        found = table.loc[_written(file, folder), chances].to_numpy(float)
        np.testing.assert_allclose(found, probabilities, atol=0.02, err_msg=str(file))  # of lossy pictures a level
        count("images, predicted in one folder", "right")
    for file in set(expected) - set(right):
        assert re.search(expected[file], bad[_written(file, folder)]), file
        count("images, predicted in one folder", "refused")
    assert len(table) + len(bad) == len(expected)


def _written(file, folder):
    """Return a path as a table of a folder has it: bytes that are no UTF-8 as Python shows them."""
    return file.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize(
    "picture",
    [
        one
        for one in PICTURES
        if one.name.startswith(("a name", "a link", "a pipe", "a socket", "empty", "text", "CMYK"))
    ],
    ids=lambda picture: picture.name,
)
def test_prediction_of_one_file_that_is_named(picture, quick_run, tmp_path, monkeypatch, command, count):
    (tmp_path / "folder").mkdir()
    expected = picture.write(tmp_path / "folder" / picture.file)
    monkeypatch.chdir(tmp_path / "folder")
    name = os.fsencode(picture.file).decode("utf-8", "surrogateescape")
    quoted = name.replace("'", "\\'")
    output = tmp_path / "o.csv"
    code, _, error = command("predict", f"checkpoint={quick_run}", f"images='{quoted}'", f"output={output}")
    if isinstance(expected, str):
        assert_clear(code, error, "no image could be read")
        assert re.search(expected, pd.read_csv(tmp_path / "o.bad.csv")["reason"][0])
        count("images, named on the command line", "refused")
    elif code:  # ${...} stands for something else
        assert_clear(code, error, "no such file or folder|no user of this machine")
        count("images, named on the command line", "refused")
    else:
        with output.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.reader(opened))
        assert [row[0] for row in rows] == ["path", _written(Path(name), Path())]
        count("images, named on the command line", "right")


def test_the_check_before_training_has_the_same_reasons(corpus, cache, count):
    folder, expected = corpus
    expected = {file: come_to for file, come_to in expected.items() if _is_text(file)}  # the others are refused by name
    names = [file.name for file in expected]
    samples = Samples(pd.DataFrame({"path": names, "label": "a", "split": "", "source": "", "set": ""}), folder)
    found = check_images(samples, cache).set_index("path")["reason"]
    found = found[found != ""]
    for file, come_to in expected.items():
        if isinstance(come_to, str):
            assert re.search(come_to, found[file.name])
            count("images, checked before training", "refused")
        else:
            assert file.name not in found
            count("images, checked before training", "right")


@pytest.mark.timeout(200, func_only=True)
def test_training_lists_the_bad_ones_or_leaves_them_out(class_folders, tmp_path, command, count):
    root = class_folders({"a": 9, "b": 9})
    for name in ("a", "b"):
        write_all(root / name / "odd", step=8)
    for file in root.rglob("*"):
        if not _is_text(file):
            file.unlink()  # refused by name: see the next test
    arguments = [*QUICK, "data=imagefolder", f"data.root={root}", "trainer.max_epochs=1", "evaluate.figures=false"]
    code, _, error = command("train", *arguments)
    assert_clear(code, error, r"images cannot be read, e\.g\. .*\n.*data\.on_bad_image=skip")
    listed = pd.read_csv(tmp_path / "run" / "bad_images.csv", keep_default_na=False)
    count("images, in a training", "refused")
    shutil.rmtree(tmp_path / "run")
    code, _, error = command("train", *arguments, "data.on_bad_image=skip")
    assert code == 0, error
    kept = pd.read_csv(tmp_path / "run" / "samples.csv", keep_default_na=False)
    assert not set(kept["path"]) & set(listed["path"])
    regular = [
        file for file in root.rglob("*") if file.suffix.lower() in (".png", ".jpg", ".tif", ".webp", ".bmp", ".ppm")
    ]
    assert 0 < len(kept) < len(regular)
    count("images, in a training", "right")


def _is_text(file):
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(
    "kind", [one for one in PICTURES if "bomb" in one.name or "20,000 x 20,000" in one.name], ids=lambda one: one.name
)
def test_a_bomb_takes_no_memory(kind, tmp_path):
    kind.write(tmp_path / "bomb.png")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", PEAK, str(tmp_path / "bomb.png")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True, env=environment)
    before, after = map(int, done.stdout.split()[-2:])
    assert after - before < 100_000  # kB; its pixels, or what it inflates to, would be 100 MB to 1.2 GB


def test_a_file_that_may_not_be_read(tmp_path, write_image, as_nobody):
    file = write_image(tmp_path / "a.png")
    file.chmod(0)
    assert as_nobody(lambda: _reason(file)) == "cannot be read: Permission denied"


def _reason(file: Path) -> str:
    try:
        read_image(file)
    except ImageError as error:
        return str(error)
    return "read"


def test_names_differ_in_what_is_odd_about_them():
    assert len({scene(seed=number).tobytes() for number in range(len(NAMES))}) == len(NAMES)
