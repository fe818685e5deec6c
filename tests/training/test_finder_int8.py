"""The finder in 8-bit integers: what it says beside the float32 file, and what the package carries."""

import hashlib

import cv2
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from PIL import Image

from bloodcell.data.cells import INTEGERS, MODEL, SIDES, seen_cells, size_at
from bloodcell.data.finder_input import normalised
from bloodcell.training.finder_int8 import SOURCE, in_integers, main
from tests.benchmarks.finding import matched
from tests.painted import known_field


@pytest.fixture(scope="module")
def pictures():
    return [known_field(seed)[0] for seed in range(4)]


def test_the_integers_of_the_package_are_made_from_its_float32_file():
    session = ort.InferenceSession(str(INTEGERS))
    assert session.get_modelmeta().custom_metadata_map == {SOURCE: hashlib.sha256(MODEL.read_bytes()).hexdigest()}
    assert hashlib.sha256(INTEGERS.read_bytes()).hexdigest() in MODEL.with_suffix(".md").read_text(encoding="utf-8")
    assert INTEGERS.stat().st_size < 1_100_000


def test_both_files_of_the_package_see_the_same_cells(pictures):
    same = seen = 0
    for picture in pictures:
        for side in SIDES:
            scaled = cv2.resize(picture, size_at(picture, side))
            wanted, found = (seen_cells(net, scaled, side, picture.shape, 0.5) for net in (MODEL, INTEGERS))
            boxes = [(cell.left, cell.top, cell.width, cell.height) for cell in wanted]
            same, seen = same + matched(found, boxes), seen + max(len(wanted), len(found))
    assert seen >= 30
    assert same >= 0.95 * seen


def test_integers_say_what_the_float32_file_says(pictures):
    content = in_integers(MODEL.read_bytes(), pictures[:2])
    assert b".py" not in content  # paths of this machine
    integers, exact = ort.InferenceSession(content), ort.InferenceSession(str(MODEL))
    for shape in ((260, 416), (77, 104), (5, 9)):
        picture = cv2.resize(pictures[3], shape[::-1], interpolation=cv2.INTER_AREA)
        inputs = {"image": np.ascontiguousarray(normalised(picture).transpose(2, 0, 1)[None])}
        (heat, size), (wanted, wanted_size) = integers.run(None, inputs), exact.run(None, inputs)
        np.testing.assert_allclose(heat, wanted, atol=0.1)
        np.testing.assert_allclose(size[:, :, wanted[0, 0] > 0.3], wanted_size[:, :, wanted[0, 0] > 0.3], rtol=0.1)


def test_the_same_pictures_give_the_same_file(tmp_path, capsys):
    picture, boxes = known_field(0)
    Image.fromarray(picture).save(tmp_path / "field.png")
    columns = ["image", "left", "top", "width", "height"]
    pd.DataFrame([("field.png", *box) for box in boxes], columns=columns).to_csv(tmp_path / "boxes.csv")
    for name in ("one.onnx", "other.onnx"):
        main([str(tmp_path), "--output", str(tmp_path / name)])
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
    assert "kB, from 1 picture" in capsys.readouterr().out


def test_a_folder_without_pictures_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--output", str(tmp_path / "finder.onnx")])
    assert "give another folder" in capsys.readouterr().err
