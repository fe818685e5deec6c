"""The resumable CSV file: whatever a killed process left, the end is the very same bytes."""

import csv
import json
import os
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.runtime.errors import BloodcellError

NAMES = [f"{number}.png" for number in range(10)]
SETTINGS = {"checkpoint": "abc", "tta": "none"}


class KilledError(Exception):
    """Stands for a kill: the table's files stay as they are."""


def write(file, names=NAMES, settings=SETTINGS, overwrite=False, stop=None):
    """Write names in steps of three, every fourth of them bad; stop after so many steps."""
    table = ResumableCsv(file, overwrite)
    with table.held():
        left = names[table.start(["path", "value"], settings, names) :]
        for step, start in enumerate(range(0, len(left), 3)):
            if step == stop:
                raise KilledError
            part = left[start : start + 3]
            good = [[name, 1 / (1 + int(name[:-4]))] for name in part if int(name[:-4]) % 4]
            bad = [[name, "not an image"] for name in part if int(name[:-4]) % 4 == 0]
            table.add(part, good, bad, {"bad": len(bad)})
    return table


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path):
    """Return the content of an undisturbed folder."""
    write(tmp_path / "whole" / "t.csv")
    return content(tmp_path / "whole")


def test_both_files_and_nothing_else(whole, tmp_path):
    assert sorted(whole) == ["t.bad.csv", "t.csv"]
    table = pd.read_csv(tmp_path / "whole" / "t.csv")
    assert list(table["path"]) == [name for name in NAMES if int(name[0]) % 4]
    assert table["value"].to_list() == pytest.approx(
        [1 / (1 + number) for number in range(10) if number % 4], rel=1e-14
    )
    assert list(pd.read_csv(tmp_path / "whole" / "t.bad.csv")["path"]) == ["0.png", "4.png", "8.png"]


@pytest.mark.parametrize(
    "changes",
    [{"items": 10**12}, {"items": 10**30}, {"items": -1}, {"items": "3"}, {"items": 1.5}, {"items": None}, {"seen": 5},
     {"sizes": "ab"}, {"sizes": []}, {"sizes": ["a", "b"]}, {"sizes": [-1, 0]}, {"sizes": 5}, {"counts": 5},
     {"counts": {"bad": "x"}}, {"counts": [1]}, {"settings": 5}, {"settings": []}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_a_state_of_wrong_values_is_refused_and_nothing_is_lost(tmp_path, changes):
    with pytest.raises(KilledError):
        write(tmp_path / "t.csv", stop=2)
    state = tmp_path / "t.state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), **changes}))
    before = content(tmp_path)
    with pytest.raises(BloodcellError, match="is damaged|are not those"):
        write(tmp_path / "t.csv")
    assert content(tmp_path) == before


def test_a_state_of_all_items_and_more_is_refused(tmp_path):
    with pytest.raises(KilledError):
        write(tmp_path / "t.csv", [*NAMES[:6], "9.png"], stop=2)
    state = tmp_path / "t.state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "items": 10**12}))
    with pytest.raises(BloodcellError, match="its images are not those that are there now"):
        write(tmp_path / "t.csv", NAMES[:6])


@pytest.mark.parametrize("text", ["[" * 10**5, '{"settings":' * 10**5, "[1]", "5", "null"])
def test_a_state_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(KilledError):
        write(tmp_path / "t.csv", stop=2)
    (tmp_path / "t.state.json").write_text(text)
    with pytest.raises(BloodcellError, match="t.state.json is damaged"):
        write(tmp_path / "t.csv")


@pytest.mark.parametrize("ending", [".csv", ".bad.csv", ".state.json", ".lock"])
def test_what_a_link_points_to_is_not_written(tmp_path, ending):
    (tmp_path / "precious.txt").write_text("years")
    (tmp_path / f"t{ending}").symlink_to(tmp_path / "precious.txt")
    for overwrite in (False, True):
        with pytest.raises(BloodcellError, match=f"t{ending} is a link"):
            write(tmp_path / "t.csv", overwrite=overwrite)
    assert (tmp_path / "precious.txt").read_text() == "years"


@pytest.mark.parametrize("stop", range(4))
@pytest.mark.parametrize("rest", ["", '"9.png",0.0', '"9.png",0.1\n"8.p'])
def test_a_killed_process_goes_on_to_the_very_same_bytes(tmp_path, whole, stop, rest):
    file = tmp_path / "killed" / "t.csv"
    with pytest.raises(KilledError):
        write(file, stop=stop)
    for path in (file, file.with_suffix(".bad.csv")):  # what came after the last step
        with path.open("a") as opened:
            opened.write(rest)
    assert write(file).progress.counts == {"bad": 3}
    assert content(file.parent) == whole


def test_rows_are_on_the_disk_before_the_state_names_them(tmp_path, monkeypatch):
    on_disk, sync, replace = {}, os.fsync, Path.replace

    def synced(number):
        sync(number)
        on_disk[os.fstat(number).st_ino] = os.fstat(number).st_size

    def checked(self, target):
        assert target == tmp_path / "t.state.json"
        for name, size in zip(("t.csv", "t.bad.csv"), json.loads(self.read_text())["sizes"], strict=True):
            assert not size or on_disk[(tmp_path / name).stat().st_ino] == size
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", checked)
    write(tmp_path / "t.csv")
    assert len(on_disk) == 2


def test_a_complete_table_is_lost_to_no_full_disk(tmp_path, whole, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "whole" / "t.csv", overwrite=True)
    assert content(tmp_path / "whole") == whole


def test_a_table_without_bad_items_has_no_file_of_them(tmp_path):
    write(tmp_path / "t.csv", names=["1.png", "2.png"])
    assert list(content(tmp_path)) == ["t.csv"]


def test_what_is_complete_is_not_overwritten_unless_asked_for(tmp_path, whole):
    folder = tmp_path / "whole"
    with pytest.raises(BloodcellError, match=r"t\.csv is there already; .*overwrite=true"):
        write(folder / "t.csv", names=["1.png"])
    assert content(folder) == whole
    write(folder / "t.csv", names=["1.png"], overwrite=True)
    assert (folder / "t.csv").read_text() == '"path","value"\n"1.png",0.5\n'
    assert list(content(folder)) == ["t.csv"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {**SETTINGS, "tta": "d4"}}, "tta was none, and is d4 now"),
        ({"names": ["a.png", *NAMES[1:]]}, "its images are not those that are there now"),
        ({"names": NAMES[:2]}, "its images are not those that are there now"),
    ],
)
def test_what_was_begun_otherwise_is_refused(tmp_path, whole, change, said):
    file = tmp_path / "t" / "t.csv"
    with pytest.raises(KilledError):
        write(file, stop=2)
    before = content(file.parent)
    with pytest.raises(BloodcellError, match=said):
        write(file, **change)
    assert content(file.parent) == before
    write(file)  # as it was begun
    assert content(file.parent) == whole


def test_what_was_begun_otherwise_is_begun_again_where_asked_for(tmp_path, whole):
    file = tmp_path / "t" / "t.csv"
    with pytest.raises(KilledError):
        write(file, stop=1)
    file.parent.joinpath("t.state.json").write_text("{")
    with pytest.raises(BloodcellError, match=r"t\.state\.json is damaged.*overwrite=true"):
        write(file)
    write(file, overwrite=True)
    assert content(file.parent) == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", ",a remark of somebody\n"),  # a column more
        lambda text: text.replace('"', "").replace("\n", "\r\n") + 40 * "x,1\r\n",  # other quotes, and rows more
        lambda text: text.replace("\n", "\nnew,1\n", 1) + "new,2\n",  # a row in the middle
    ],
)
def test_a_table_that_a_spreadsheet_wrote_anew_is_refused_and_kept(tmp_path, change):
    with pytest.raises(KilledError):
        write(tmp_path / "t.csv", stop=2)
    changed = change((tmp_path / "t.csv").read_text())
    (tmp_path / "t.csv").write_text(changed, newline="")
    with pytest.raises(BloodcellError, match=r"t\.csv was changed, perhaps by a spreadsheet"):
        write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == changed.encode()


def test_a_file_that_lost_rows_is_refused(tmp_path):
    with pytest.raises(KilledError):
        write(tmp_path / "t.csv", stop=2)
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(BloodcellError, match=r"t\.csv is shorter than it was"):
        write(tmp_path / "t.csv")


def test_one_process_writes_at_a_time(tmp_path):
    with ResumableCsv(tmp_path / "t.csv").held(), pytest.raises(BloodcellError, match="another process is writing"):
        write(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["a\nb.png", "a\rb.png", 'say "x", y.png', "Zelle-ä-細胞-🩸.png", " .png", "", "1e5"])
def test_names_survive(tmp_path, name):
    table = ResumableCsv(tmp_path / "t.csv")
    with table.held():
        table.start(["path", "value"], {}, [name])
        table.add([name], [[name, 0.1]], [], {})
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as opened:
        assert list(csv.reader(opened))[1:] == [[name, "0.1"]]
    assert list(pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)["path"]) == [name]


def test_a_name_that_is_no_unicode_does_not_spoil_the_file(tmp_path):
    table = ResumableCsv(tmp_path / "t.csv")
    with table.held():
        table.start(["path"], {}, ["a\udcff.png"])
        table.add(["a\udcff.png"], [["a\udcff.png"]], [], {})
    assert list(pd.read_csv(tmp_path / "t.csv")["path"]) == [r"a\udcff.png"]


def test_its_own_files_are_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = ResumableCsv(tmp_path / "t.csv")
    assert all(table.is_own(name) for name in ("t.csv", "./t.bad.csv", str(tmp_path / "t.state.json"), "t.lock"))
    assert not any(table.is_own(name) for name in ("t.png", "other/t.csv"))


def begin_an_item(file):
    """Write an item, and two of three steps of the next one."""
    table = ResumableCsv(file)
    with suppress(KilledError), table.held():
        table.start(["path", "value"], SETTINGS, NAMES)
        table.add(NAMES[:1], [["0.png", 1]], [], {"rows": 1})
        table.add_step(3, [["1.png", 1], ["1.png", 2]], {"rows": 2}, 2, [])
        table.add_step(3, [["1.png", 3]], {"rows": 1}, 1, [[1, 2, 3, 4]])
        raise KilledError
    return table


def test_an_item_goes_on_after_its_last_step(tmp_path):
    file = tmp_path / "t.csv"
    begin_an_item(file)
    with file.open("a") as opened:
        opened.write('"1.png",')
    table = ResumableCsv(file)
    with table.held():
        assert table.start(["path", "value"], SETTINGS, NAMES) == 1
        begun = table.progress.begun
        assert (begun.steps, begun.of, begun.rows, begun.kept) == (2, 3, 3, [[1, 2, 3, 4]])
        assert table.since() == [["1.png", "1"], ["1.png", "2"], ["1.png", "3"]]
        table.add(NAMES[1:2], [["1.png", 4]], [], {"rows": 1})
        assert table.since() == []
    assert list(pd.read_csv(file)["value"]) == [1, 1, 2, 3, 4]
    assert table.progress.counts == {"rows": 5}


def test_an_item_that_turns_out_to_be_bad_leaves_no_row(tmp_path):
    file = tmp_path / "t.csv"
    begin_an_item(file)
    table = ResumableCsv(file)
    with table.held():
        assert table.start(["path", "value"], SETTINGS, NAMES) == 1
        table.withdraw()
        table.withdraw()  # there is none any more
        table.add(NAMES[1:2], [], [["1.png", "broken"]], {"bad": 1})
    assert list(pd.read_csv(file)["value"]) == [1]
    assert list(pd.read_csv(table.bad)["path"]) == ["1.png"]
    assert table.progress.counts == {"rows": 1, "bad": 1}


@pytest.mark.parametrize(
    "changes",
    [{"steps": "x"}, {"of": 1.5}, {"sizes": [10**9, 0]}, {"sizes": [1]}, {"sizes": [-1, 0]}, {"counts": {"rows": "x"}},
     {"counts": 5}, {"kept": [[1]]}, {"kept": [["a", "b", "c", "d"]]}, {"kept": 5}, {"rows": 10**30}, {"more": 1}],
)  # fmt: skip
def test_a_damaged_state_of_an_item_is_refused(tmp_path, changes):
    table = begin_an_item(tmp_path / "t.csv")
    state = json.loads(table.state.read_text())
    table.state.write_text(json.dumps(state | {"begun": state["begun"] | changes}))
    with pytest.raises(BloodcellError, match="is damaged"), ResumableCsv(table.file).held():
        ResumableCsv(table.file).start(["path", "value"], SETTINGS, NAMES)
