"""Several data sets in one table: order, sources, and splits as for each set alone."""

import pytest

from bloodcell.audits.leaks import leak_advice, unaudited_sets
from bloodcell.data.joint import read_joint
from bloodcell.data.kaggle import CLASSES
from bloodcell.data.known_sources import save_sources
from bloodcell.data.readers import load_samples, read_imagefolder
from bloodcell.data.splits import assign_splits
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TrainConfig


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give each test a cache of its own: the images are the same in all, and so would be the sources of an audit."""
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sets(class_folders, tmp_path):
    """Write three sets, Kaggle's layout among them: sets["kaggle"] is a folder."""
    names = [f"images/{split}/{name}" for split in ("TRAIN", "TEST") for name in CLASSES]
    kaggle = class_folders({name: 6 if "TRAIN" in name else 2 for name in names}, tmp_path / "all/kaggle")
    mine = class_folders({"eosinophil": 10, "Neutrophil": 7, "ig": 3}, tmp_path / "all/mine")
    (tmp_path / "list.csv").write_text("path,label,group\n" + "".join(f"mine{i}.png,ig,g{i // 2}\n" for i in range(4)))
    return {"kaggle": str(kaggle), "mine": str(mine), "list": str(tmp_path / "list.csv")}


@pytest.fixture
def load(compose):
    """Read data=joint: load({"a": DIR, "b": DIR}, "data.leave_out=a") -> (samples, data group)."""

    def read(sets, *overrides):
        named = ",".join(f"{name}: {place}" for name, place in sets.items())
        data = typed(compose("data=joint", f"data.sets={{{named}}}", *overrides), TrainConfig).data
        return load_samples(data), data

    return read


def pick(sets, *names):
    return {name: sets[name] for name in names}


def audited(place, cache, per_source=2):
    """Save the sources of an imagined audit of class folders: every two images of a class share a source."""
    samples = read_imagefolder(place)
    found = [f"{row.label}{int(row.path.split('/')[-1][0]) // per_source}" for row in samples.table.itertuples()]
    save_sources(samples, samples.table[["path"]].assign(source=found), cache)


def test_paths_of_joined_sets_are_relative_to_their_common_folder(load, sets):
    samples, _ = load(pick(sets, "kaggle", "mine"))
    assert samples.sets() == ["kaggle", "mine"]
    assert samples.table["set"].value_counts().to_dict() == {"kaggle": 32, "mine": 20}
    assert samples.root.name == "all"
    assert samples.table["path"].iloc[0] == "kaggle/images/TRAIN/EOSINOPHIL/0.png"
    assert all(file.is_file() for file in samples.files())
    assert set(samples.table["label"]) == {*CLASSES, "ig"}
    assert set(samples.table[samples.table["set"] == "mine"]["label"]) == {"EOSINOPHIL", "NEUTROPHIL", "ig"}
    assert set(samples.table[samples.table["set"] == "kaggle"]["split"]) == {"train", "test"}


def test_a_list_is_named_after_its_folders_and_a_table_is_read_with_its_groups(sets):
    samples = read_joint([sets["mine"], sets["list"]], None)
    assert samples.sets() == ["mine", "list"]
    assert samples.of_set("list").table["source"].tolist() == ["list/g0", "list/g0", "list/g1", "list/g1"]
    assert not samples.of_set("mine").sources_known()


def test_sources_of_an_audit_have_the_sets_name(load, sets, cache):
    audited(sets["mine"], cache)
    samples, data = load(pick(sets, "kaggle", "mine"))
    assert set(samples.of_set("kaggle").table["source"]) == {""}
    mine = samples.of_set("mine")
    assert mine.sources_known()
    assert all(source.startswith("mine/") for source in mine.table["source"])
    assert mine.table["source"].nunique() == 5 + 4 + 2
    assert {"mine/ig0", "ig0"} <= mine.source_names()
    note = f"sources of kaggle are unknown; find them: bloodcell audit data=kaggle data.root={sets['kaggle']}"
    assert unaudited_sets(data, samples) == [f"note: {note}"]
    assert leak_advice(data, samples) == f"find the sources: {note.partition('them: ')[2]}"


def test_groups_of_two_sets_do_not_collide(load, sets):
    samples, _ = load(pick(sets, "kaggle", "mine"), r"data.group_regex='(\d)\.png'")
    assert samples.sources_known()
    assert {"kaggle/0", "mine/0"} <= set(samples.table["source"])


@pytest.mark.parametrize("fold", [None, 0, 2])
def test_a_set_is_split_as_it_would_be_alone(load, sets, compose, cache, fold):
    audited(sets["mine"], cache)
    overrides = [f"data.fold={'null' if fold is None else fold}", "data.folds=3", "seed=4"]
    joint, data = load(pick(sets, "kaggle", "mine"), *overrides)
    split = assign_splits(joint, data)
    assert split.table["path"].tolist() == joint.table["path"].tolist()
    for name, part in (("kaggle", "kaggle"), ("mine", "imagefolder")):
        options = [f"data={part}", f"data.root={sets[name]}", "data.val_fraction=0.15"]
        alone = typed(compose(*options, *overrides), TrainConfig).data
        samples = load_samples(alone)
        if name == "mine":
            samples = type(samples)(samples.table.assign(source=joint.of_set("mine").table["source"]), samples.root)
        expected = assign_splits(samples, alone).table
        assert split.of_set(name).table["split"].tolist() == expected["split"].tolist()
        assert [f"{name}/{path}" for path in expected["path"]] == split.of_set(name).table["path"].tolist()


def test_a_set_that_only_trains(load, sets):
    samples, data = load(pick(sets, "kaggle", "mine"), "data.train_only=[kaggle]", "data.fold=1", "data.folds=3")
    table = assign_splits(samples, data).table
    assert set(table[table["set"] == "kaggle"]["split"]) == {"train"}
    assert set(table[table["set"] == "mine"]["split"]) == {"train", "val", "test"}


def test_a_set_that_is_left_out_is_the_test_part(load, sets):
    samples, data = load(pick(sets, "kaggle", "mine"), "data.leave_out=mine", "data.class_map={ig: null}")
    table = assign_splits(samples, data).table
    assert table.groupby("set")["split"].unique().map(set).to_dict() == {"kaggle": {"train", "val"}, "mine": {"test"}}
    assert len(table) == 24 + 17  # Kaggle's own test part is gone


def test_a_class_that_only_the_set_left_out_has_is_not_tested(load, sets, capsys):
    table = load_and_split(load, pick(sets, "kaggle", "mine"), "data.leave_out=mine").table
    assert set(table.loc[table["set"] == "mine", "label"]) == {"EOSINOPHIL", "NEUTROPHIL"}
    assert "note: mine: 3 images of ig not tested: no other set has them" in capsys.readouterr().out


def test_a_set_may_read_its_sources_from_its_paths(load, sets):
    named = {"kaggle": sets["kaggle"], "mine": f"{{root: {sets['mine']}, group_regex: '(\\w+)/'}}"}
    samples, data = load(named)
    assert set(samples.of_set("mine").table["source"]) == {"mine/ig", "mine/eosinophil", "mine/Neutrophil"}
    assert not samples.of_set("kaggle").sources_known()
    assert unaudited_sets(data, samples)[0].startswith("note: sources of kaggle are unknown")


def test_given_test_images_can_be_left_out(load, sets):
    samples, data = load(pick(sets, "kaggle", "mine"), "data.leave_out=kaggle", "data.drop_test=true",
                         "data.classes=[eosinophil,neutrophil]")  # fmt: skip
    table = assign_splits(samples, data).table
    whole = samples.of_set("kaggle").table
    assert set(table.loc[table["set"] == "kaggle", "path"]) == set(whole.loc[whole["split"] == "train", "path"])
    assert set(table.loc[table["set"] == "kaggle", "split"]) == {"test"}


def load_and_split(load, sets, *overrides):
    samples, data = load(sets, *overrides)
    return assign_splits(samples, data)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.leave_out=kagle"], r"data\.leave_out: no data set 'kagle'; did you mean 'kaggle'"),
        (["data.train_only=[other]"], r"data\.train_only: no data set 'other'; choose from: kaggle, mine"),
        (["data.train_only=[mine]", "data.leave_out=mine"], "cannot train and test"),
        (["data.train_only=[mine]", "data.leave_out=kaggle"], "at least one must be left to validate"),
        (["data.train_only=[mine,kaggle]"], "at least one must be left to validate"),
        (["data.split=grouped"], "data set kaggle: data.split=grouped needs the source of every image; 32 of 32"),
        (
            ["data.class_map={eosinophil: null, neutrophil: null}"],
            r"data set kaggle \(LYMPHOCYTE, MONOCYTE\) has no class in common with the others \(ig\); rename",
        ),
    ],
)
def test_sets_that_cannot_be_split(load, sets, overrides, message):
    with pytest.raises(BloodcellError, match=message):
        load_and_split(load, pick(sets, "kaggle", "mine"), *overrides)


def test_sets_that_cannot_be_joined(sets, tmp_path):
    kaggle, mine = sets["kaggle"], sets["mine"]
    (tmp_path / "again.csv").write_text(f"path,label\n{mine}/ig/0.png,ig\n")
    (tmp_path / "link").symlink_to(mine)
    for wrong, message in [
        ({"kaggle": kaggle}, r"names 1 set; .*data\.sets=\{a: DIR, b: DIR\}"),
        ({}, "names no set"),
        (kaggle, r"data\.sets=/.*give two or more"),
        ({"a": kaggle, "b": None}, "None is no folder and no CSV table"),
        ({"a": kaggle, "b": "/no/such"}, "no such folder: /no/such"),
        ({"a": kaggle, "b": "/no/such.csv"}, r"no such CSV table: /no/such\.csv"),
        ({"a": mine, "b": str(tmp_path / "link")}, "a and b are the same"),
        ([mine, str(tmp_path / "all" / ".." / "all" / "mine")], "are the same"),
        ({"a": mine, "b": str(tmp_path / "again.csv")}, r"ig/0\.png is in two of data\.sets, a and b"),
        ({"a/b": mine, "b": kaggle}, "'a/b' cannot name a set"),
        ({"a": mine, "b": {"root": kaggle, "regex": "x"}}, "no key 'regex' of a set; give root and group_regex"),
        ({"a": mine, "b": {"group_regex": "x"}}, "None is no folder and no CSV table"),
        ({"a": kaggle, "b": {"root": mine, "group_regex": "("}}, r"data\.sets\.b\.group_regex='\(' is no regular"),
        ({"a": kaggle, "b": {"root": mine, "group_regex": "x"}}, "'x' finds no group in 20 of 20 paths, e.g"),
    ]:
        with pytest.raises(BloodcellError, match=message):
            read_joint(wrong, None)


def test_two_folders_of_one_name_are_refused(class_folders, tmp_path):
    folders = [str(class_folders({"a": 1}, tmp_path / side / "images")) for side in ("left", "right")]
    with pytest.raises(BloodcellError, match="two sets are called images"):
        read_joint(folders, None)
