"""Readers: class folders and CSV files give the same samples table."""

import pytest

from bloodcell.data.readers import load_samples, read_imagefolder, read_synthetic, read_table, with_groups
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TrainConfig

COLUMNS = {"path_column": "path", "label_column": "label", "group_column": "group", "split_column": "split"}


def rows(samples):
    """Return path, label, split and source of each row."""
    return samples.table.iloc[:, :4].to_numpy().tolist()


@pytest.fixture
def table(tmp_path):
    """Write a CSV file and read it: table(text, root=None) -> Samples."""

    def read(text, root=None, encoding="utf-8", **columns):
        (tmp_path / "table.csv").write_bytes(text.encode(encoding))
        return read_table(str(tmp_path / "table.csv"), root, **(COLUMNS | columns))

    return read


def test_one_folder_has_no_splits(class_folders):
    root = class_folders({"b": 1, "a": 2})
    samples = read_imagefolder(str(root))
    assert rows(samples) == [["a/0.png", "a", "", ""], ["a/1.png", "a", "", ""], ["b/0.png", "b", "", ""]]
    assert samples.root == root
    assert all(file.is_file() for file in samples.files())


def test_split_folders_are_mapped_by_class_name(class_folders):
    # Numbered by position, c of TRAIN (2) would be another class than c of Test (0).
    samples = read_imagefolder(str(class_folders({"TRAIN/a": 1, "TRAIN/b": 1, "TRAIN/c": 1, "Test/c": 1, "val/b": 1})))
    assert [row[:3] for row in rows(samples)] == [
        ["TRAIN/a/0.png", "a", "train"],
        ["TRAIN/b/0.png", "b", "train"],
        ["TRAIN/c/0.png", "c", "train"],
        ["val/b/0.png", "b", "val"],
        ["Test/c/0.png", "c", "test"],
    ]


def test_named_folders(class_folders, tmp_path):
    root = class_folders({"here/a": 1, "there/a": 2})
    samples = read_imagefolder(None, train_dir=str(root / "here"), test_dir=str(root / "there"))
    assert samples.root == root
    assert [row[::2] for row in rows(samples)] == [
        ["here/a/0.png", "train"],
        ["there/a/0.png", "test"],
        ["there/a/1.png", "test"],
    ]


def test_a_test_folder_beside_a_root(class_folders):
    root = class_folders({"mine/a": 1, "mine/b": 1, "theirs/a": 1})
    samples = read_imagefolder(str(root / "mine"), test_dir=str(root / "theirs"))
    assert samples.table["split"].tolist() == ["", "", "test"]
    assert samples.table["path"].tolist()[-1] == (root / "theirs/a/0.png").as_posix()
    assert all(file.is_file() for file in samples.files())


def test_a_given_test_folder_replaces_the_one_in_the_root(class_folders):
    root = class_folders({"set/train/a": 1, "set/test/a": 1, "other/a": 3})
    samples = read_imagefolder(str(root / "set"), test_dir=str(root / "other"))
    assert samples.table["split"].tolist() == ["train", "test", "test", "test"]


def test_missing_settings_and_folders_are_reported(tmp_path, class_folders):
    with pytest.raises(BloodcellError, match=r"data\.root is not set; .*data\.root=DIR"):
        read_imagefolder(None)
    with pytest.raises(BloodcellError, match=r"data\.train_dir is not set"):
        read_imagefolder(None, test_dir=str(tmp_path))
    with pytest.raises(BloodcellError, match=r"no such folder: data\.root=.*gone"):
        read_imagefolder(str(tmp_path / "gone"))
    with pytest.raises(BloodcellError, match=r"no such folder: .*gone"):
        read_imagefolder(None, train_dir=str(tmp_path / "gone"))
    with pytest.raises(BloodcellError, match=r"no images found in .*one folder of images for each class"):
        read_imagefolder(str(class_folders({"a": 0, "b": 0})))


def test_a_tilde_means_the_home_folder(class_folders, monkeypatch):
    root = class_folders({"a": 1})
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("USERPROFILE", str(root.parent))
    assert read_imagefolder(f"~/{root.name}").root == root


def test_a_table_with_a_byte_order_mark_and_blanks(table, tmp_path):
    samples = table("path,label,group,split\nx/1.png, EOS ,p1,Train\nx\\2.png,NEU,,\n", encoding="utf-8-sig")
    assert rows(samples) == [["x/2.png", "NEU", "", ""], ["x/1.png", "EOS", "train", "p1"]]
    assert samples.root == tmp_path


@pytest.mark.parametrize("name", ["NA", "null", "None", "007", "1.0", "1e3", "NaN", "True", "01", "-"])
def test_names_stay_text(table, name):
    assert rows(table(f"path,label,group\n{name},{name},{name}\n")) == [[name, name, "", name]]


def test_column_names_in_capitals_and_with_blanks(table):
    samples = table(" Path ,LABEL,Group , sPlit\n1.png,a,p1,Test\n")
    assert rows(samples) == [["1.png", "a", "test", "p1"]]


def test_columns_that_are_not_read_are_named(table, capsys, tmp_path):
    table("path,label,patient_id,split\n1.png,a,7,train\n")
    said = "not read: patient_id; read are the columns path, label, group, split"
    assert capsys.readouterr().out == f"note: {tmp_path / 'table.csv'}: {said}\n"
    table("path,label,group,split\n1.png,a,7,train\n")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("column", ["group_column", "split_column", "path_column"])
def test_a_column_that_was_asked_for_must_be_there(table, column):
    with pytest.raises(BloodcellError, match=r"table\.csv has no column 'fold'; it has path, label, patient_id, part"):
        table("path,label,patient_id,part\n1.png,a,7,train\n", **{column: "fold"})
    with pytest.raises(BloodcellError, match="has the column 'patient_id', and no 'patientid'; write it so"):
        table("path,label,patient_id,part\n1.png,a,7,train\n", **{column: "patientid"})


def test_blanks_before_a_path_count_only_if_there_is_such_a_file(table, tmp_path):
    (tmp_path / " odd.png").write_bytes(b"")
    assert [row[0] for row in rows(table("label, path\na, odd.png\nb,  1.png\n"))] == [" odd.png", "1.png"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_separate_the_cells(table, mark):
    assert rows(table(f"path{mark}label\na,b.png{mark}x\n")) == [["a,b.png", "x", "", ""]]


def test_a_table_without_optional_columns_and_short_rows(table):
    assert rows(table("path,label\n1.png,a\n")) == [["1.png", "a", "", ""]]
    assert rows(table("path,label,group\n1.png,a\n")) == [["1.png", "a", "", ""]]


def test_a_corrections_file_has_the_pictures_whose_class_is_known(table, capsys):
    header = "path,cell,label,who,when,predicted\n"
    decisions = ["1.png,,a,x", "2.png,,a,x", "2.png,,b,y", "3.png,,no white cell,x", "4.png,,a,x", "4.png,,,x"]
    made = header + "".join(f"{one},2026-01-31T09:30:00Z,a\n" for one in [*decisions, "5.png,,a,x", "5.png,,b,x"])
    assert rows(table(made)) == [["1.png", "a", "", ""], ["5.png", "b", "", ""]]
    assert "table.csv: 3 pictures without a class on which all readers agree, left out" in capsys.readouterr().out
    with pytest.raises(BloodcellError, match=r"table\.csv has no picture with a class"):
        table(header + "1.png,,cannot tell,x,,\n")
    box = header.strip() + ",left,top,width,height\n1.png,2,a,x,,b,1,1,9,9\n"
    with pytest.raises(BloodcellError, match=r"decisions on cells of fields, e\.g\. of 1\.png; a training takes"):
        table(box)


def test_other_column_names(table):
    samples = table("file,cell,patient\n1.png,a,7\n", path_column="file", label_column="cell", group_column="patient")
    assert rows(samples) == [["1.png", "a", "", "7"]]


def test_paths_of_a_table_are_relative_to_the_root_or_absolute(table, tmp_path):
    (tmp_path / "pictures").mkdir()
    inside, outside = tmp_path / "pictures" / "in.png", tmp_path / "out.png"
    samples = table(f"path,label\n{inside},a\n{outside},a\nsub/x.png,a\n", root=str(tmp_path / "pictures"))
    assert sorted(samples.table["path"]) == sorted([outside.as_posix(), "in.png", "sub/x.png"])
    assert set(samples.files()) == {inside, outside, tmp_path / "pictures/sub/x.png"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.png,a\n", r"table\.csv has no column 'path'; it has file, label"),
        ("path|label\n1.png|a\n", r"has no column 'path'; it has path\|label"),
        ("path,label,grup\n1.png,a,7\n", r"table\.csv has the column 'grup', and no 'group'; write it so"),
        ("path,label,splt\n1.png,a,test\n", "has the column 'splt', and no 'split'"),
        ("paths,label\n1.png,a\n", "has the column 'paths', and no 'path'"),
        ("path,label,Split,split\n1.png,a,test,train\n", "has the columns 'Split' and 'split'; keep one of them"),
        ("path,label\n1.png,a\n2.png,\n", "row 3: no label"),
        ("path,label\n ,a\n", "row 2: no path"),
        ("path,label,split\n1.png,a,trian\n", "unknown split 'trian'; use train, val or test"),
        ("path,label\n", "lists no image"),
        ("", "is no CSV file"),
        ('path,label\n"1.png,a\n', "is no CSV file"),
        ("path,label\n1.png,a\n1.png,b\n", r"1\.png is there twice in"),
    ],
)
def test_errors_in_a_table_are_reported(table, text, message):
    with pytest.raises(BloodcellError, match=message):
        table(text)


def test_a_missing_table_and_one_that_is_not_text(table, tmp_path):
    with pytest.raises(BloodcellError, match=r"cannot read data\.table=.*gone\.csv: No such file"):
        read_table(str(tmp_path / "gone.csv"), None, **COLUMNS)
    with pytest.raises(BloodcellError, match="is no CSV file"):
        table("path,label\nä.png,a\n", encoding="latin-1")


def test_groups_are_read_from_paths(class_folders):
    samples = read_imagefolder(str(class_folders({"a/p1_x": 2, "b/p2_y": 1})))
    assert with_groups(samples, r"/(p\d)_").table["source"].tolist() == ["p1", "p1", "p2"]
    assert with_groups(samples, r"p\d_[xy]").table["source"].tolist() == ["p1_x", "p1_x", "p2_y"]
    assert samples.table["source"].tolist() == ["", "", ""]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(", "is no regular expression"),
        (r"(p1)_", r"finds no group in 1 of 3 paths, e\.g\. b/p2_y/0\.png"),
        (r"a/(p\d)|b", "finds no group in 1 of 3 paths"),  # matches, but its group is not used
        (r"x*", "finds no group in 2 of 3 paths|finds no group in 3 of 3"),  # matches the empty text
    ],
)
def test_an_expression_that_leaves_a_group_unknown_is_refused(class_folders, expression, message):
    samples = read_imagefolder(str(class_folders({"a/p1_x": 2, "b/p2_y": 1})))
    with pytest.raises(BloodcellError, match=message):
        with_groups(samples, expression)


def test_load_samples_follows_the_configuration(class_folders, compose):
    root = class_folders({"a/p1": 2, "b/p2": 2})
    cfg = compose("data=imagefolder", f"data.root={root.as_posix()}", r"data.group_regex='p\d'")
    samples = load_samples(typed(cfg, TrainConfig).data)
    assert samples.table["source"].tolist() == ["p1", "p1", "p2", "p2"]
    assert samples.sources_known()


def test_an_unknown_setting_of_the_smears_is_reported():
    with pytest.raises(BloodcellError, match=r"data\.reader: .*stregth"):
        read_synthetic(None, None, stregth="kaggle")
