"""The labelled cells that a reader is adapted by: their classes, their folds, and cells that are cut out of fields."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.data.cells import Cell
from bloodcell.data.corrected_cells import cut_out, labelled_cells_of
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL
from bloodcell.data.labelled_cells import folds_of, read_labelled, with_known_classes
from bloodcell.data.one_cell import NET, STAIN
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv
from tests.conftest import data_config
from tests.painted import known_field

CLASSES = ["lymphocyte", "monocyte"]


def samples(labels, sources, folder):
    pairs = enumerate(zip(labels, sources, strict=True))
    rows = [(f"{number}.png", label, "train", source, "") for number, (label, source) in pairs]
    return Samples(pd.DataFrame(rows, columns=COLUMNS), folder)


@pytest.fixture
def field(tmp_path):
    """Write a painted field of 8 cells in a folder, and return the folder, the picture and its boxes."""
    picture, boxes = known_field(0)
    (tmp_path / "slide_1").mkdir()
    Image.fromarray(picture).save(tmp_path / "slide_1" / "field.png")
    return tmp_path, picture, boxes


def corrections(folder, rows):
    columns = ["path", "cell", "label", "who", "when", "predicted", "left", "top", "width", "height"]
    write_csv(pd.DataFrame(rows, columns=columns), folder / "corrections.csv")
    return folder / "corrections.csv"


def decision(label, number, box, who="a"):
    return ("slide_1/field.png", number, label, who, "", "", *box)


@pytest.mark.parametrize(("crop", "finder", "apart"), [("none", STAIN, 1), ("cell", STAIN, 1), ("cell", NET, 10)])
def test_a_cell_is_cut_out_as_the_reader_sees_it_in_its_field(field, tmp_path, crop, finder, apart):
    root, picture, boxes = field
    file = corrections(root, [decision(CLASSES[i % 2], i + 1, box) for i, box in enumerate(boxes)])
    preprocessing = Preprocessing(48, crop, extent=1.5, finder=finder)
    found = cut_out(labelled_cells_of(file), root, preprocessing, tmp_path / "cells")
    assert list(found.table["label"]) == [CLASSES[i % 2] for i in range(len(boxes))]
    assert set(found.table["source"]) == {"slide_1/field.png"}
    assert all(path.startswith("slide_1/field.png/") for path in found.table["path"])  # an expression finds the slide
    for path, box in zip(found.files(), boxes, strict=True):
        seen = preprocessing.cut_cells(picture, [Cell(*box)])[0][0]
        assert np.abs(preprocessing.pixels(path).astype(int) - seen).mean() < apart


def test_cells_without_an_agreed_class_are_left_out(field, capsys):
    root, _, boxes = field
    moved = (boxes[4][0] + 2, *boxes[4][1:])  # the same cell, as another finder saw it
    rows = [
        decision("lymphocyte", 1, boxes[0]), decision(NO_CELL, 2, boxes[1]), decision(CANNOT_TELL, 3, boxes[2]),
        decision("lymphocyte", 4, boxes[3]), decision("monocyte", 4, boxes[3], "b"),
        decision("monocyte", 5, boxes[4]), decision("monocyte", 5, moved, "b"),
    ]  # fmt: skip
    found = labelled_cells_of(corrections(root, rows))
    assert [(cell.label, cell.box) for cell in found] == [("lymphocyte", boxes[0]), ("monocyte", boxes[4])]
    assert "3 cells without a class on which all readers agree, left out" in capsys.readouterr().out
    with pytest.raises(BloodcellError, match="has no cell with a class on which all readers agree"):
        labelled_cells_of(corrections(root, rows[1:3]))


def test_a_path_that_leads_out_of_the_folder_is_cut_out_inside(field, tmp_path):
    root, _, boxes = field
    rows = [("../" + root.name + "/slide_1/field.png", 1, "lymphocyte", "", "", "", *boxes[0])]
    found = cut_out(labelled_cells_of(corrections(root, rows)), root, Preprocessing(48), tmp_path / "run" / "cells")
    assert all(file.is_relative_to(tmp_path / "run" / "cells") for file in found.files())


def test_a_picture_that_is_gone_is_one_clear_line(field, tmp_path):
    root, _, boxes = field
    cells = labelled_cells_of(corrections(root, [decision("lymphocyte", 1, boxes[0])]))
    with pytest.raises(BloodcellError, match=r"field.png: no such file; say with data.root=DIR where the pictures are"):
        cut_out(cells, tmp_path / "elsewhere", Preprocessing(48), tmp_path / "cells")


def test_labels_are_classes_of_the_reader_or_new_ones(tmp_path):
    known = samples(["Lymphocyte", "monocyte", "blast"], ["", "", ""], tmp_path)
    with pytest.raises(
        BloodcellError, match=r"knows no class blast, but lymphocyte, monocyte; .*new_classes=\[blast\]"
    ):
        with_known_classes(known, CLASSES, [])
    assert list(with_known_classes(known, CLASSES, ["blast"]).table["label"]) == ["lymphocyte", "monocyte", "blast"]
    with pytest.raises(BloodcellError, match="new_classes=giant: there is no labelled cell of it"):
        with_known_classes(known, CLASSES, ["blast", "giant"])
    with pytest.raises(BloodcellError, match="all cells are labelled lymphocyte"):
        with_known_classes(samples(["lymphocyte"] * 2, ["", ""], tmp_path), CLASSES, [])


@pytest.mark.parametrize("sources", [[""] * 12, [f"s{i // 3}" for i in range(12)], ["a", "a", "a", *[""] * 9]])
def test_each_cell_tests_once_and_no_source_on_both_sides(tmp_path, sources):
    cells = samples(["a", "b"] * 6, sources, tmp_path)
    folds = folds_of(cells, 3, seed=0)
    tested = pd.concat([fold.table[fold.table["split"] == "val"] for fold in folds])
    assert sorted(tested["path"]) == sorted(cells.table["path"])
    for fold in folds:
        parts = dict(list(fold.table.groupby("split")["source"]))
        assert not (set(parts["train"]) & set(parts["val"]) - {""})
    with pytest.raises(BloodcellError, match="all labelled cells are of one source"):
        folds_of(samples(["a", "b"], ["s", "s"], tmp_path), 3, seed=0)


def test_rows_without_a_label_and_test_images_are_left_out(tmp_path, write_image, capsys):
    for number in range(4):
        write_image(tmp_path / f"{number}.png", seed=number)
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(4)], "label": ["a", "b", "", "a"]})
    table.assign(split=["", "train", "", "test"]).to_csv(tmp_path / "labels.csv", index=False)
    reader = {
        "_target_": "bloodcell.data.readers.read_table", "table": str(tmp_path / "labels.csv"), "root": None,
        "path_column": "path", "label_column": "label", "group_column": "group", "split_column": "split",
    }  # fmt: skip
    found = read_labelled(data_config(reader=reader), tmp_path / "cache").table
    assert list(zip(found["label"], found["split"], strict=True)) == [("a", "train"), ("b", "train")]
    said = capsys.readouterr().out
    assert "1 row without a label, left out" in said
    assert "1 image of the test part left out" in said
