"""Class names: mapped, left out, kept, and matched in any letter case."""

from pathlib import Path

import pytest

from bloodcell.data.classes import select_classes, with_spelling_of
from bloodcell.data.samples import Samples, samples_table
from bloodcell.runtime.errors import BloodcellError


def made(*labels, sets=None):
    samples = samples_table([(Path("/r", f"{i:02}.png"), name, "", "") for i, name in enumerate(labels)], Path("/r"))
    return samples if sets is None else Samples(samples.table.assign(set=sets), samples.root)


def labels(samples):
    return samples.table["label"].tolist()


def test_names_are_mapped_and_left_out_in_any_letter_case():
    samples = made("IG", "Seg_Neutrophil", "eosinophil")
    found = select_classes(samples, {"ig": None, "SEG_NEUTROPHIL": "neutrophil"}, None)
    assert labels(found) == ["neutrophil", "eosinophil"]
    assert found.table["path"].tolist() == ["01.png", "02.png"]
    assert found.table.index.tolist() == [0, 1]
    assert labels(samples) == ["IG", "Seg_Neutrophil", "eosinophil"]


def test_a_new_name_is_not_mapped_again():
    assert labels(select_classes(made("a", "b"), {"a": "b", "b": "c"}, None)) == ["b", "c"]


def test_a_new_name_joins_an_existing_class_in_other_letter_case():
    assert labels(select_classes(made("NEUTROPHIL", "band"), {"band": "neutrophil"}, None)) == ["NEUTROPHIL"] * 2


def test_joined_sets_share_class_names_with_the_first_spelling():
    assert labels(select_classes(made("EOS", "eos", "Mon", sets=["x", "y", "y"]), None, None)) == ["EOS", "EOS", "Mon"]


def test_spellings_of_one_name_are_one_class_and_said(capsys):
    found = select_classes(made("EOS ", "eos", "Mon", "Zelle-a\u0308", "zelle-\u00e4"), None, ["EOS", "ZELLE-\u00c4"])
    assert labels(found) == ["EOS", "EOS", "Zelle-\u00e4", "Zelle-\u00e4"]
    assert capsys.readouterr().out == (
        "note: names that differ in letter case, blanks or composed letters are one class: 'EOS ' and 'eos'; "
        "'Zelle-a\u0308' and 'zelle-\u00e4'\n"
    )
    assert labels(select_classes(made("a  b", "A B", "c"), {"a b": None}, None)) == ["c"]
    assert labels(select_classes(made("a", "b"), None, None)) == ["a", "b"]
    assert "note" in capsys.readouterr().out.splitlines()[0]


def test_names_like_numbers_and_values_are_names():
    assert labels(select_classes(made("null", "01", "1e3", "x"), None, [None, "1e3"])) == ["null", "1e3"]
    assert labels(select_classes(made("null", "01", "1"), {None: "a", "01": "b"}, None)) == ["a", "b", "1"]


def test_selected_classes_are_kept_after_the_mapping():
    found = select_classes(made("A", "b", "c"), {"c": "d"}, ["a", "D"])
    assert labels(found) == ["A", "d"]


def test_numeric_folder_names_can_be_mapped():
    assert labels(select_classes(made("1", "2"), {1: "one", "2": 2}, None)) == ["one", "2"]


@pytest.mark.parametrize(
    ("class_map", "classes", "message"),
    [
        ({"neutrophyl": "x"}, None, r"data\.class_map: no class 'neutrophyl' in the data; did you mean 'NEUTROPHIL'"),
        (None, ["qqq"], r"data\.classes: no class 'qqq' in the data; choose from: NEUTROPHIL, b"),
        ({"b": "c"}, ["b"], r"data\.classes: no class 'b' in the data"),
        ({"b": "c", "B": "d"}, None, "data.class_map names B twice"),
        ({"b": ["c"]}, None, "give the name to use, or null"),
        ({"b": None, "neutrophil": None}, None, "leave no image"),
        (None, [], r"data\.classes=\[\]; give a list"),
        (None, "b", r"data\.classes=b; give a list"),
    ],
)
def test_wrong_entries_are_refused(class_map, classes, message):
    with pytest.raises(BloodcellError, match=message):
        select_classes(made("NEUTROPHIL", "b"), class_map, classes)


def test_labels_take_the_checkpoints_spelling():
    assert labels(with_spelling_of(made("eos", "MON", "Mon"), ["EOS", "Mon", "b"])) == ["EOS", "Mon", "Mon"]
    assert labels(with_spelling_of(made("a", "A"), ["a", "A"])) == ["a", "A"]


def test_labels_take_the_checkpoints_composed_letters():
    assert labels(with_spelling_of(made("Zelle-\u00e4", "b"), ["Zelle-a\u0308", "b "])) == ["Zelle-a\u0308", "b "]


def test_advice_writes_odd_names_in_quotes():
    with pytest.raises(BloodcellError, match=r'data\.classes=\["1e3","\[a\] b"\], or'):
        with_spelling_of(made("[a] b", "1e3", "c"), ["1e3", "[a] b"])


def test_a_class_unknown_to_the_checkpoint_is_refused_with_advice():
    with pytest.raises(BloodcellError) as raised:
        with_spelling_of(made("eos", "IG"), ["EOS", "MON"])
    assert str(raised.value).splitlines() == [
        "class IG was not in training; the checkpoint knows EOS, MON",
        "keep only known classes with data.classes=[eos], or rename with data.class_map",
    ]
    with pytest.raises(BloodcellError, match=r"knows EOS, MON\nrename them with data\.class_map$"):
        with_spelling_of(made("IG", "x"), ["EOS", "MON"])
