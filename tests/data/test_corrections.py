"""Corrections files: what is read and refused, what is appended, and which decision is on which cell."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pandas as pd
import pytest

from bloodcell.data.confirmed_cells import DISAGREEMENT, confirmed, confirmed_column, is_class
from bloodcell.data.correction_lines import COLUMNS
from bloodcell.data.corrections import (
    CANNOT_TELL,
    NO_CELL,
    Corrections,
    Decision,
    as_file,
    read_corrections,
)
from bloodcell.data.decision_feed import DecisionFeed
from bloodcell.data.decision_log import append_decisions
from bloodcell.runtime.errors import BloodcellError

HEADER = ",".join(COLUMNS)
WHEN = "2026-01-31T09:30:00Z"


def decision(label="a", path="1.png", who="x", **values):
    return Decision(path=path, label=label, who=who, when=WHEN, **values)


def on(left, top, label, who="x", side=10):
    """Return a decision on a cell, whose box has its upper left corner there."""
    return decision(label, who=who, cell=1, box=(left, top, side, side))


def test_what_is_appended_is_read(tmp_path):
    file = tmp_path / "new" / "corrections.csv"
    one = decision('a "b", c', path="ä/1,2.png", predicted="b", cell=3, box=(1.5, 2, 123456.5, 4))
    several = [one, decision(""), decision(NO_CELL), decision(CANNOT_TELL)]
    append_decisions(file, several[:1])
    append_decisions(file, several[1:])
    assert list(read_corrections(file).decisions) == several
    assert file.read_text(encoding="utf-8").splitlines()[1] == (
        '"ä/1,2.png","3","a ""b"", c","x","2026-01-31T09:30:00Z","b","1.5","2","123456.5","4"'
    )
    assert Decision(path="1.png", label="a").when < Decision(path="1.png", label="a").when  # microseconds of UTC


def test_a_decision_that_is_repeated_is_kept_once_and_one_that_is_made_again_twice(tmp_path):
    file = tmp_path / "corrections.csv"
    made = [decision("a"), decision("b", path="2.png"), decision("a", who="y")]
    append_decisions(file, made)
    append_decisions(file, made[:2])
    assert list(read_corrections(file).decisions) == made
    changed = [decision("b"), decision("a")]  # at the same time: a coarse clock
    for one in changed:
        append_decisions(file, [one])
    assert list(read_corrections(file).decisions) == made + changed


def test_every_half_line_is_left_out_and_then_cut_off(tmp_path, capsys):
    file = tmp_path / "corrections.csv"
    append_decisions(file, [decision("a")])
    first = file.read_bytes()
    head = first.splitlines(keepends=True)[0]
    append_decisions(file, [decision("b", cell=1, box=(1, 2, 30, 40))])
    whole = file.read_bytes()
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        decisions = read_corrections(file, ["a", "b"]).decisions
        expected = sum(size >= len(lines) - 1 for lines in (first, whole))  # a line that lacks its end alone is whole
        assert [one.label for one in decisions] == ["a", "b"][:expected], size
        kept = size in (0, len(head) - 1, len(head), len(first) - 1, len(first), len(whole) - 1, len(whole))
        assert ("the last line is half written" in capsys.readouterr().out) != kept, size
        append_decisions(file, [decision("c")])
        assert [one.label for one in read_corrections(file).decisions] == [*["a", "b"][:expected], "c"], size
        assert capsys.readouterr().out == ""


def test_other_programs_may_write_the_file(tmp_path):
    file = tmp_path / "corrections.csv"
    file.write_bytes(
        b"\xef\xbb\xbfPath;Label;Cell;Left;Top;Width;Height\r\n1.png;a;2.0;1;2;3;4\r\n\r\n2.png; ;;;;;\r\n3.png;b;;;;;"
    )
    found = read_corrections(file, ["a", "b"]).decisions
    assert [(one.path, one.label, one.cell, one.box) for one in found] == [
        ("1.png", "a", 2, (1, 2, 3, 4)), ("2.png", "", None, None), ("3.png", "b", None, None),
    ]  # fmt: skip
    file.write_text(f"{HEADER}\r\n1.png,,a,,,,,,,", newline="")  # a spreadsheet: no quotes, and no end of the last line
    append_decisions(file, [decision("b")])
    assert [one.label for one in read_corrections(file).decisions] == ["a", "b"]
    with as_file(pd.DataFrame({"path": ["1.png"], "label": ["a"], "left": [np.nan]})[["path", "label"]]) as written:
        assert read_corrections(written).decisions[0].label == "a"
    with as_file(file) as same:
        assert same == file


def test_a_file_with_a_byte_order_mark_is_read_added_to_and_followed(tmp_path):
    file = tmp_path / "corrections.csv"
    file.write_text(f"{HEADER}\r\n1.png,,a,x,{WHEN},,,,,\r\n", encoding="utf-8-sig", newline="")
    feed = DecisionFeed(file, ["a", "b"])
    assert feed.add([decision("b")]) == {"1.png"}
    assert [one.label for one in feed.decisions] == ["a", "b"]
    assert feed.decisions == list(read_corrections(file, ["a", "b"]).decisions)
    assert feed.readings == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,who\n1.png,x\n", "has no column 'label'; it has path, who"),
        ("path,label,left,top\n1.png,a,1,1\n", "has left, top, but not all of left, top, width, height"),
        ("path,label\n1.png,a\n2.png,c\n", "row 3: label 'c' is no class; there are a, b, cannot tell, no white cell"),
        ("path,label\n,a\n", "row 2: no path"),
        ("path,label,who\n1.png,a\n2.png,b,x\n", "row 2: 2 cells, and the header has 3"),
        (f"{HEADER}\n1.png,0,a,x,{WHEN},b,1,1,9,9\n", "row 2: cell is '0'; give its number in the picture, from 1"),
        (f"{HEADER}\n1.png,1.5,a,x,{WHEN},b,1,1,9,9\n", "row 2: cell is '1.5'"),
        (f"{HEADER}\n1.png,one,a,x,{WHEN},b,1,1,9,9\n", "row 2: cell is 'one'"),
        (f"{HEADER}\n1.png,1,a,x,{WHEN},b,,,,\n", "row 2: cell 1 has no box; a cell is found by left, top"),
        (f"{HEADER}\n1.png,1,a,x,{WHEN},b,1,1,9,\n", "row 2: its box is 1, 1, 9, ; give left, top, width, height"),
        (f"{HEADER}\n1.png,1,a,x,{WHEN},b,1,1,0,9\n", "row 2: its box is 1, 1, 0, 9"),
        (f"{HEADER}\n1.png,1,a,x,{WHEN},b,nan,1,9,9\n", "row 2: its box is nan"),
        (f"{HEADER}\n1.png,,a,x,31.1.2026,b,,,,\n", "row 2: when is '31.1.2026'; give a time in UTC"),
        (f"{HEADER}\n1.png,,a,x,2026-01-31T09:30:00+01:00,b,,,,\n", "row 2: when is"),
        ("path,label,Path\n1.png,a,b\n", "has the columns"),
        ("path,labell\n1.png,a\n", "has the column 'labell', and no 'label'"),
        ("nothing like it", "has no column 'path'; it has nothing like it"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_row(tmp_path, text, words):
    file = tmp_path / "corrections.csv"
    file.write_text(text)
    with pytest.raises(BloodcellError) as caught:
        read_corrections(file, ["a", "b"])
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_corrections_file_is_refused_and_stays(tmp_path):
    with pytest.raises(BloodcellError, match="cannot read corrections=.*none.csv: No such file"):
        read_corrections(tmp_path / "none.csv")
    file = tmp_path / "table.csv"
    file.write_text("path,label\n1.png,a\n")
    with pytest.raises(BloodcellError, match="has the columns path, label, not path, cell, label, .*; choose another"):
        append_decisions(file, [decision()])
    with pytest.raises(BloodcellError, match="has a line break"):
        append_decisions(tmp_path / "new.csv", [decision(path="1\n.png")])
    assert file.read_text() == "path,label\n1.png,a\n"
    assert not (tmp_path / "new.csv").exists()
    with pytest.raises(BloodcellError, match="it is no regular file"):
        append_decisions(tmp_path, [decision()])
    with pytest.raises(BloodcellError, match="the classifier has the class 'no white cell'"):
        read_corrections(file, ["a", NO_CELL])


def test_a_decision_is_on_the_cell_whose_box_has_its_centre():
    """Centres: 5 5 is in the first box alone, 14 5 in both and nearer to the second's, 40 40 in none."""
    boxes = [(0, 0, 15, 10), (8, 0, 14, 10)]
    found = confirmed([on(0, 0, "a"), on(9, 0, "b"), on(35, 35, "a")], boxes)
    assert found == (["a", "b"], 1)
    assert confirmed([on(0, 0, "a")], []) == ([], 1)
    assert confirmed([decision("a")], boxes) == (["", ""], 1)  # of a picture of one cell
    assert confirmed([decision("a")], boxes[:1]) == (["a"], 0)
    assert confirmed([decision("a")], None) == (["a"], 0)
    assert confirmed([on(0, 0, "a")], None) == ([""], 1)  # on a cell of a field, and the picture is taken as one cell


def test_two_cells_that_are_now_found_as_one_are_not_mistaken_for_two_decisions_on_one():
    """The centres are 8 and 12 pixels from that of the box; the decision on the farther cell matches none."""
    near, far, box = on(0, 0, "a"), on(20, 0, "b"), [(0, 0, 26, 10)]
    assert confirmed([near, far], box) == confirmed([far, near], box) == (["a"], 1)
    assert confirmed([near, far, on(0, 0, "b"), on(20, 0, "")], box) == (["b"], 0)


def test_the_last_decision_of_a_person_holds_and_several_persons_have_to_agree():
    boxes = [(0, 0, 10, 10)]
    assert confirmed([on(0, 0, "a"), on(1, 1, "b")], boxes) == (["b"], 0)  # its box has moved a little
    assert confirmed([on(0, 0, "a"), on(1, 1, "")], boxes) == ([""], 0)
    assert confirmed([on(0, 0, "a"), on(0, 0, "b", who="y")], boxes) == ([DISAGREEMENT], 0)
    assert confirmed([on(0, 0, "a"), on(0, 0, CANNOT_TELL, who="y")], boxes) == ([DISAGREEMENT], 0)
    assert confirmed([on(0, 0, "a"), on(0, 0, "b", who="y"), on(0, 0, "", who="y")], boxes) == (["a"], 0)
    assert confirmed([on(0, 0, "a"), on(0, 0, "b", who="y"), on(0, 0, "b")], boxes) == (["b"], 0)
    assert confirmed([on(50, 0, "a"), on(50, 0, "b"), on(80, 0, "a"), on(80, 0, "")], boxes) == ([""], 1)
    assert [is_class(label) for label in ("a", "", NO_CELL, CANNOT_TELL, DISAGREEMENT)] == [True, *[False] * 4]


def test_a_table_has_a_label_for_each_row_and_every_decision_is_accounted_for(tmp_path):
    cells = pd.DataFrame({"path": ["1.png", "2.png", "1.png"], "left": [0, 0, 50], "top": 0, "width": 10, "height": 10})
    made = (on(50, 0, "b"), on(20, 20, "a"), decision("a", path="2.png"), decision("a", path="none.png"))
    column, unmatched = confirmed_column(cells, Corrections(tmp_path, made, ""))
    assert list(column) == ["", "a", "b"]
    assert unmatched == {"1.png": 1, "none.png": 1}
    column, unmatched = confirmed_column(cells[["path"]][:2], Corrections(tmp_path, made, ""))
    assert list(column) == ["", "a"]
    assert unmatched == {"1.png": 2, "none.png": 1}


def write_on(file, who, number):
    """Decide on each cell that is not in the file: what a page goes on with after its server was killed."""
    there = {one.path for one in read_corrections(file).decisions if one.who == who} if file.exists() else set()
    for place in range(number):
        if f"{place}.png" not in there:
            append_decisions(file, [Decision(path=f"{place}.png", label="a", who=who)])


@pytest.mark.slow
def test_two_writers_that_are_killed_five_times_lose_and_double_nothing(tmp_path):
    file, number, chance = tmp_path / "corrections.csv", 1000, random.Random(1)
    context = multiprocessing.get_context("spawn")

    def begin(who):
        writer = context.Process(target=write_on, args=(file, who, number))
        writer.start()
        return writer

    def lines(of=b"\n"):
        return file.read_bytes().count(of) if file.exists() else 0

    writers = {who: begin(who) for who in "xy"}
    for kill in range(5):
        who = "xy"[kill % 2]
        while lines(f'"{who}"'.encode()) < number * (kill + 1) // 7:  # its own: the other one may be far ahead
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)
        before = read_corrections(file).decisions  # they are on the disk
        os.kill(writers[who].pid, signal.SIGKILL)
        writers[who].join()
        assert writers[who].exitcode == -signal.SIGKILL
        assert read_corrections(file).decisions[: len(before)] == before
        writers[who] = begin(who)
    for one in writers.values():
        one.join()
        assert one.exitcode == 0
    made = [(one.who, one.path) for one in read_corrections(file).decisions]
    assert len(made) == len(set(made)) == 2 * number
    assert file.read_bytes().endswith(b"\n")
    assert lines() == 1 + 2 * number
