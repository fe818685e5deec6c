"""A file of predictions is read as it was written, and what would lead to wrong figures is one clear line."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.predictions_csv import read_predictions, write_predictions
from bloodcell.metrics.summary import metrics_of
from bloodcell.runtime.errors import BloodcellError

HEADER = "path,split,source,label,prediction,p_EOS,p_MON,p_NEU"
ROWS = ("a.png,val,s1,EOS,EOS,0.7,0.2,0.1", "b.png,test,,MON,NEU,0.1,0.3,0.6", "c.png,test,s2,EOS,EOS,1,0,0")


@pytest.fixture
def written(tmp_path):
    """Write lines into a file: written("label,p_a", "a,1") -> the file."""

    def write(*lines, name="mine.csv"):
        (tmp_path / name).write_bytes("\n".join(lines).encode())
        return tmp_path / name

    return write


def test_what_was_written_is_read_to_the_last_bit(tmp_path):
    generator = np.random.default_rng(0)
    samples = pd.DataFrame(
        {
            "path": [f"a b/é{i}, 1.png" for i in range(40)],
            "split": ["val"] * 20 + ["test"] * 20,
            "source": ["", "s,1"] * 20,
            "label": ["NA", "LYM", "1", "p_odd"] * 10,
            "set": ["one", "two"] * 20,
            "cell": ["found", "none"] * 20,
        }
    )
    probabilities = generator.dirichlet([1, 2, 0.1, 1e-3, 3], 40)
    table = predictions_table(samples, ["NA", "LYM", "1", "p_odd", "never"], probabilities)
    write_predictions(table, tmp_path / "mine.csv")
    pd.testing.assert_frame_equal(read_predictions(tmp_path / "mine.csv"), table, check_exact=True)


def test_a_label_and_probabilities_are_enough(written):
    table = read_predictions(written("p_b,label,p_a,comment", "0.25,a,0.75,x", "0.9,a,0.1,y"))
    assert list(table.columns) == ["path", "split", "source", "label", "prediction", "p_b", "p_a"]
    assert table.to_numpy().tolist() == [
        ["row_2", "test", "", "a", "a", 0.25, 0.75],
        ["row_3", "test", "", "a", "b", 0.9, 0.1],
    ]
    assert metrics_of(table)["test/f1_b"] is None  # which has no image


def test_columns_are_known_in_capitals_and_semicolons_separate_them(written):
    table = read_predictions(written("Path;LABEL;Split;p_cell;p_set", "x.png;set;val;0.25;0.75"))
    assert table[["path", "label", "split"]].to_numpy().tolist() == [["x.png", "set", "val"]]
    with pytest.raises(BloodcellError, match=r"the column 'splt', and no 'split'; write it so"):
        read_predictions(written("label,splt,p_a,p_b", "a,val,0.5,0.5"))


def test_spaces_blank_lines_and_other_names_of_splits_are_taken(written):
    lines = ["\ufeffpath, label ,split,p_a,p_b", "x\\1.png, a ,Validation, 0.5 ,0.5", "", "y.png,b,,1e-3,0.999", "", ""]
    table = read_predictions(written(*lines))
    assert table[["path", "label", "split"]].to_numpy().tolist() == [["x/1.png", "a", "val"], ["y.png", "b", "test"]]
    with pytest.raises(BloodcellError, match=r"mine\.csv, row 4: label 'c' has no column 'p_c'"):
        read_predictions(written(*(line.replace(".png,b", ".png,c") for line in lines)))


def test_rounded_probabilities_may_tie_and_sum_to_nearly_1(written):
    table = read_predictions(written("label,prediction,p_a,p_b,p_c", "b,b,0.4,0.4,0.2", "a,c,0.333,0.333,0.3333"))
    assert table["prediction"].tolist() == ["b", "c"]
    assert read_predictions(written("label,p_a,p_b", "b,0.5,0.5"))["prediction"].tolist() == ["a"]


def test_the_same_file_may_be_in_two_splits_and_sets(written):
    lines = ["path,split,set,label,p_a,p_b", "x,val,one,a,1,0", "x,test,one,a,1,0", "x,test,two,a,1,0"]
    assert len(read_predictions(written(*lines))) == 3
    with pytest.raises(BloodcellError, match=r"row 5: the test part has 'x' twice; list each image once"):
        read_predictions(written(*lines, "x,test,two,b,1,0"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.7,0.2", "0.7,0.25", "row 2: its probabilities sum to 1.05, not to 1"),
        ("0.1,0.3,0.6", "0.1,0.3,0.5989", "row 3: its probabilities sum to 0.9989, not to 1"),
        ("0.1,0.3,0.6", "0.1,-0.3,1.2", "row 3: p_MON is '-0.3'; a probability is a number from 0 to 1"),
        ("0.1,0.3,0.6", "0.1,high,0.6", "row 3: p_MON is 'high'"),
        ("0.1,0.3,0.6", "0.1,0.3,", "row 3: p_NEU is ''"),
        ("0.1,0.3,0.6", "nan,0.3,0.6", "row 3: p_EOS is 'nan'"),
        ("0.1,0.3,0.6", "0.1,inf,0.6", "row 3: p_MON is 'inf'"),
        ("0.1,0.3,0.6", "0.1,-inf,0.6", "row 3: p_MON is '-inf'"),
        ("0.1,0.3,0.6", "10,30,60", "row 3: p_EOS is '10'"),
        (",MON,NEU", ",,NEU", "row 3: no label"),
        (",MON,NEU", ",Mon,NEU", "row 3: label 'Mon' has no column 'p_Mon'; there are EOS, MON, NEU"),
        (",MON,NEU", ",MON,MON", "row 3: prediction is 'MON', but 'NEU' is more probable"),
        (",MON,NEU", ",MON,BAS", "row 3: prediction 'BAS' is no class; there are EOS, MON, NEU"),
        (",MON,NEU", ",MON,", "row 3: prediction '' is no class"),
        ("c.png", "b.png", "row 4: the test part has 'b.png' twice"),
        ("c.png", "", "row 4: no path"),
        ("c.png,test", "c.png,../../x", "row 4: split is '../../x'; choose from test, test_simple, train, val"),
        ("source", "set", "row 3: set is ''; give a name without / [ ], in every row or none"),
        ("source", "cell", "row 2: cell is 's1'; it is found, none or empty"),
        ("1,0,0", "1,0,0,0", "is no CSV file: Error tokenizing data. C error: Expected 8 fields in line 4, saw 9"),
        ("label", "class", "has no column 'label'; it has path, split, source, class"),
        ("p_MON", "p_EOS", "has the column 'p_EOS' twice"),
        ("p_MON", "p_", "the column 'p_' names no class"),
    ],
)
def test_what_is_wrong_is_one_clear_line(written, old, new, words):
    file = written(*"\n".join((HEADER, *ROWS)).replace(old, new, 1).split("\n"))
    with pytest.raises(BloodcellError) as raised:
        read_predictions(file)
    assert str(file) in str(raised.value)
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no CSV file: it is empty"),
        (b"\n\n", "is no CSV file"),
        (b",,\n,,\n", "is no CSV file: it is empty"),
        (b"label,p_a\n", "lists no image; it should have a row for each"),
        (b"label,p_a\n\n,\n", "lists no image"),
        (b"label\na\n", "has no column p_CLASS with a class's probabilities; it has label"),
        (b"words without end", "has no column 'label'; it has words without end"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "is no CSV file"),
        (b'label,p_a\n"a,1\n', "is no CSV file"),
        (b'label,p_a\n"a\nb",1\n', r"row 2: label 'a\nb' has no column 'p_a\nb'; there are a"),
    ],
)
def test_what_is_no_table_of_predictions(tmp_path, content, words):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(BloodcellError) as raised:
        read_predictions(tmp_path / "mine.csv")
    assert words in str(raised.value)
    assert "mine.csv" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_file(tmp_path):
    with pytest.raises(BloodcellError, match=r"cannot read predictions=.*: Is a directory"):
        read_predictions(tmp_path)
    with pytest.raises(BloodcellError, match=r"cannot read predictions=.*absent\.csv: No such file"):
        read_predictions(tmp_path / "absent.csv")
