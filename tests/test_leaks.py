"""Leaks of a split are reported: exactly if sources are known, by a probe if they are not."""

import shlex
from dataclasses import replace

import pandas as pd
import pytest

from bloodcell.audits.leaks import check_leaks, identical_images, known_leaks, leak_advice
from bloodcell.data.joint import audit_command
from bloodcell.data.known_sources import save_sources, with_saved_sources
from bloodcell.data.readers import read_imagefolder, with_groups
from bloodcell.data.samples import Samples
from bloodcell.data.splits import assign_splits
from bloodcell.metrics.parts import parts_of
from bloodcell.metrics.registry import METRICS
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import data_config


def table(tmp_path, rows):
    return Samples(pd.DataFrame(rows, columns=["path", "label", "split", "source"]), tmp_path)


def test_shared_sources_are_counted_exactly(tmp_path):
    samples = table(
        tmp_path,
        [("1", "a", "train", "x"), ("2", "a", "train", "y"), ("3", "a", "val", "x"), ("4", "a", "val", "x"),
         ("5", "a", "val", "z"), ("6", "a", "test", "y"), ("7", "a", "test", "w")],
    )  # fmt: skip
    message = known_leaks(samples, "random")
    assert "2 of 3 val images (1 sources), 1 of 2 test images (1 sources) share a source with training" in message
    assert "data.split=grouped" in message


def test_a_split_by_source_has_no_leak(smears, capsys, tmp_path):
    samples = assign_splits(smears, data_config())
    assert known_leaks(samples, "auto") is None
    check_leaks(samples, data_config(leak_check="error"), tmp_path)
    assert capsys.readouterr().err == ""


def test_policies(smears, capsys, tmp_path):
    leaky = assign_splits(smears, data_config(split="random"))
    check_leaks(leaky, data_config(leak_check="off"), tmp_path)
    assert capsys.readouterr().err == ""
    check_leaks(leaky, data_config(), tmp_path)
    assert capsys.readouterr().err.startswith("warning: leak: ")
    with pytest.raises(BloodcellError, match="share a source with training"):
        check_leaks(leaky, data_config(leak_check="error"), tmp_path)


def test_the_probe_finds_copies_whose_source_is_unknown(smears, capsys, tmp_path, monkeypatch):
    unknown = replace(smears, table=smears.table.assign(source=""))
    check_leaks(assign_splits(unknown, data_config()), data_config(), tmp_path)
    assert "validation images looked at show a cell of a training image" in (said := capsys.readouterr().err)
    assert "find the sources: bloodcell audit data=" in said
    monkeypatch.setattr("bloodcell.audits.probe.leak_probe", lambda *_: pytest.fail("looked again"))
    check_leaks(assign_splits(unknown, data_config()), data_config(), tmp_path)
    assert capsys.readouterr().err == said  # cached for the same split of the same files


def test_the_probe_of_joined_sets_finds_copies_with_other_source_names(smears, capsys, tmp_path):
    leaky = assign_splits(smears, data_config(split="random")).table.assign(set="one")
    check_leaks(replace(smears, table=leaky), data_config(), tmp_path)
    said = capsys.readouterr().err
    assert said.count("warning:") == 1  # the known ones, once
    assert "share a source with training" in said
    named = leaky.assign(source=leaky["source"] + "/" + leaky["split"])
    check_leaks(replace(smears, table=named), data_config(), tmp_path)
    assert "validation images looked at show a cell of a training image" in capsys.readouterr().err


def test_kept_sources_return_by_identity(class_folders, tmp_path):
    root = class_folders({"a": 3, "b": 3})
    samples = read_imagefolder(str(root))
    sources = samples.table[["path"]].assign(source=["s0", "s0", "s1", "s2", "s3", "s3"])
    assert not with_saved_sources(samples, tmp_path / "cache").sources_known()
    save_sources(samples, sources, tmp_path / "cache")
    known = with_saved_sources(samples, tmp_path / "cache")
    assert list(known.table["source"]) == ["s0", "s0", "s1", "s2", "s3", "s3"]
    changed = root / samples.table["path"][2]
    changed.write_bytes(changed.read_bytes() + b" ")
    assert list(with_saved_sources(samples, tmp_path / "cache").table["source"]) == ["s0", "s0", "", "s2", "s3", "s3"]


def test_the_advice_can_be_pasted_into_a_shell(class_folders, tmp_path):
    root = class_folders({"a": 1, "b": 1}, tmp_path / "my cells")
    data = data_config(reader={"_target_": "bloodcell.data.readers.read_imagefolder"}, root=str(root))
    advice = leak_advice(data, read_imagefolder(str(root)))
    assert shlex.split(advice)[-4:] == ["bloodcell", "audit", "data=imagefolder", f"data.root={root}"]
    assert shlex.split(audit_command(root)) == ["bloodcell", "audit", "data=imagefolder", f"data.root={root}"]


def test_a_given_group_goes_over_the_audit(class_folders, tmp_path):
    root = class_folders({"a": 2})
    samples = read_imagefolder(str(root))
    save_sources(samples, samples.table[["path"]].assign(source=["s", "s"]), tmp_path)
    given = replace(samples, table=samples.table.assign(source=["patient1", ""]))
    assert list(with_saved_sources(given, tmp_path).table["source"]) == ["patient1", "s"]


def test_the_same_pictures_in_two_parts_are_counted_with_an_example(tmp_path, capsys):
    rows = [
        ("t/1", "train", "p"), ("t/2", "train", "q"), ("v/1", "val", "p"), ("v/2", "val", "r"),
        ("e/1", "test", "q"), ("e/2", "test", "r"), ("e/3", "test", "q"), ("e/4", "test", "s"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["path", "split", "pixels"]).assign(label="a", source="", set="")
    message = identical_images(Samples(table, tmp_path))
    assert "1 val image also in training, e.g. t/1 = v/1; 2 test images also in training, e.g. t/2 = e/1; " in message
    assert "1 test image also in validation, e.g. v/2 = e/2" in message
    with pytest.raises(BloodcellError, match="the same pictures are in two parts"):
        check_leaks(Samples(table, tmp_path), data_config(leak_check="error"), tmp_path)
    known = table.assign(
        source=["a", "b", "a", "c", "b", "d", "b", "e"]
    )  # v/1, e/1 and e/3 are counted by their source
    assert "leak: the same pictures are in two parts: 1 test image also in validation" in identical_images(
        Samples(known, tmp_path)
    )
    assert identical_images(Samples(table[table["split"] != "test"].assign(pixels=list("abcd")), tmp_path)) is None


def test_advice_helps(tmp_path):
    rows = [("1", "a", "train", "x"), ("2", "a", "val", "x"), ("3", "a", "val", "y")]
    assert known_leaks(table(tmp_path, rows), "auto").endswith(
        "your folders or table fix the parts: move all images of a source into one of them"
    )
    partly = known_leaks(table(tmp_path, [*rows, ("4", "a", "train", "")]), "auto")
    assert "give the source of the other 1 image, and data.split=grouped keeps them apart" in partly


def test_a_given_slide_or_patient_counts_and_not_the_cells_that_an_audit_found(tmp_path):
    files = [tmp_path / f"patient{number // 4}" / f"{number}.png" for number in range(8)]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([number]))
    table = pd.DataFrame({"path": [f"{file.parent.name}/{file.name}" for file in files], "label": "a", "set": ""})
    samples = Samples(table.assign(split="test", source=""), tmp_path)
    cells = pd.DataFrame({"source": [f"cell {number}" for number in range(8)]})
    save_sources(samples, cells, tmp_path / "cache")
    assert with_saved_sources(samples, tmp_path / "cache").table["source"].nunique() == 8
    grouped = with_saved_sources(with_groups(samples, "(patient[0-9])"), tmp_path / "cache")
    assert set(grouped.table["source"]) == {"patient0", "patient1"}
    right = [
        grouped.table.assign(prediction=["a"] * 6 + ["b"] * 2, source=one)
        for one in (grouped.table["source"], cells["source"])
    ]
    patients, alone = (METRICS[0].estimate(parts_of(rows)) for rows in right)
    assert (patients.sources, alone.sources) == (2, 8)
    assert patients.high - patients.low > 1.3 * (alone.high - alone.low)
