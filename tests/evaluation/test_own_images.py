"""The report of a run shows images that the user trained on, or that lie in the folder that he named, and no other."""

import base64
import io
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.data.samples import read_samples
from bloodcell.evaluation.evaluate import evaluate


@pytest.fixture
def private(tmp_path):
    """Write a picture that is not of the run, all of one colour."""
    file = tmp_path / "private" / "letter.png"
    file.parent.mkdir()
    Image.new("RGB", (64, 64), (250, 3, 130)).save(file)
    return file


@pytest.fixture
def strangers(quick_run, private, tmp_path):
    """Copy the run with another samples.csv: strangers("a path") -> its folder, and the folder of images it names."""

    def copied(form):
        folder, images = tmp_path / "run", tmp_path / "images"
        shutil.copytree(quick_run, folder, ignore=shutil.ignore_patterns("tensorboard", ".lock"))
        shutil.copytree(read_samples(quick_run / "samples.csv").root, images)
        table = pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False)
        path = {"absolute": str(private), "above": "../private/letter.png", "link": "link.png", "root": "letter.png"}[
            form
        ]
        (images / "link.png").symlink_to(private)
        shutil.copy(private, images / "letter.png") if form == "root" else None
        table = table.drop(columns=["content", "pixels"], errors="ignore").assign(root=str(images))
        table.loc[table["split"] == "val", "path"] = path
        table.to_csv(folder / "samples.csv", index=False)
        return folder, images

    return copied


def shows(page):
    """Return whether a page has a picture of the private colour."""
    for found in re.findall(r"data:image/\w+;base64,([\w+/=]+)", page.read_text()):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB")).astype(int)
        if (np.abs(pixels - (250, 3, 130)).max(axis=2) < 30).mean() > 0.005:
            return True
    return False


def judged(compose, folder, out, *extra):
    evaluate(compose(f"checkpoint={folder}", "splits=[val]", "device=cpu", *extra, verb="evaluate"), out)
    return out / "report.html"


@pytest.mark.parametrize("form", ["absolute", "above", "link", "root"])
def test_a_strangers_run_shows_no_file_of_this_machine(compose, strangers, tmp_path, capsys, form):
    folder, images = strangers(form)
    assert not shows(judged(compose, folder, tmp_path / "out"))
    assert "no pictures: this run was not begun here" in " ".join(capsys.readouterr().out.split())
    assert shows(judged(compose, folder, tmp_path / "named", f"data.root={images}")) is (form == "root")


def test_an_own_run_shows_its_images_also_if_they_moved(compose, quick_run, tmp_path):
    page = judged(compose, quick_run, tmp_path / "own")
    root = shutil.copytree(read_samples(quick_run / "samples.csv").root, tmp_path / "moved")
    moved = judged(compose, quick_run, tmp_path / "out", f"data.root={root}")
    pictures = [len(re.findall("data:image", one.read_text())) for one in (page, moved)]
    assert pictures[0] == pictures[1] > 0
