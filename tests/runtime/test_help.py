"""What --help prints, and words in place of `key=value`."""

from __future__ import annotations

import re
import sys

import pytest

from bloodcell import cli
from bloodcell.runtime.config import options
from tests.conftest import clear


@pytest.fixture
def help_of(monkeypatch, capsys):
    """Return a function of a verb and its overrides that gives its help."""

    def call(verb, *overrides):
        monkeypatch.setattr(sys, "argv", ["bloodcell", verb, "--help", *overrides])
        cli.main()
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_has_usage_examples_and_settings_in_80_columns(help_of, verb):
    said = help_of(verb)
    assert said.startswith(f"bloodcell {verb}: {cli.VERBS[verb].purpose}.\n\nusage: bloodcell {verb} ")
    assert len(re.findall(r"^  (?:bloodcell|python) ", said, re.MULTILINE)) >= 2
    assert max(map(len, said.splitlines())) <= 80
    assert "_target_" not in said
    assert "hydra." not in said


def test_a_key_stands_with_the_comment_of_its_file(help_of):
    said = help_of("train", "finetune=full", "data=imagefolder")
    assert re.search(r"  seed=0 +seed of splits, initial weights", said)
    assert re.search(r"  finetune.blocks=null +how many blocks of the backbone learn,", said)
    assert re.search(r"  data.test_dir=null +the folder of the test part\n", said)
    assert "== finetune=full: which part of the net learns, and when ==\noptions: frozen, full, gradual" in said
    assert all(option in said for option in options("model"))
    assert "trainer.accumulate_grad_batches=1" in said  # a key that stands in no file


def test_what_is_needed_stands_first(help_of):
    needed, _, others = help_of("predict").partition("== Settings")
    assert re.search(r"  images=null +\w", needed)
    assert "checkpoint" not in needed.partition("== Needed")[2]
    assert re.search(r"  tta=null +none \| flips \| d4", others)
    assert "  data.sets=" in help_of("train", "data=joint").partition("== Settings")[0]


def test_help_refuses_an_option_that_does_not_exist(command):
    clear(*command("train", "--help", "model=mobilenetv3"), "no option 'mobilenetv3' in group 'model'")


@pytest.mark.parametrize(
    ("verb", "arguments", "overrides"),
    [
        ("train", ["my cells", "seed=3"], ["experiment=own_folder", "data.root=my cells", "seed=3"]),
        ("train", ["data.root=cells"], ["experiment=own_folder", "data.root=cells"]),
        ("train", ["data.root=cells", "data=table"], ["data.root=cells", "data=table"]),
        ("train", ["data.root=a", "data.reader.copies=3"], ["data.root=a", "data.reader.copies=3"]),
        ("train", ["model=mobilenetv2", "trainer.gpus=1"], ["model=mobilenetv2", "trainer.gpus=1"]),
        ("tune", ["cells"], ["data=imagefolder", "data.root=cells"]),
        ("audit", ["cells", "data=kaggle"], ["data.root=cells", "data=kaggle"]),
        ("evaluate", ["a/run", "--cfg", "job"], ["checkpoint=a/run", "--cfg", "job"]),
        ("evaluate", ["a", "compare=true", "b"], ['checkpoint=["a", "b"]', "compare=true"]),
        ("predict", ["a.png", "ä, b.png", "-m"], ['images=["a.png", "ä, b.png"]', "-m"]),
    ],
)
def test_words_stand_for_what_the_verb_takes(verb, arguments, overrides):
    assert cli.read_arguments(verb, arguments) == (overrides, False)


def test_a_path_with_an_equals_sign_is_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "seed=0"
    folder.mkdir()
    for path in (str(folder), "./seed=0"):
        assert cli.read_arguments("predict", [path, "tta=d4"]) == ([f"images={path}", "tta=d4"], False)
    assert cli.read_arguments("tune", ["seed=0"]) == (["seed=0"], False)  # without a slash it is a choice
    assert cli.read_arguments("predict", ["no/seed=0"]) == (["no/seed=0"], False)


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("cache", ["features"], ["cannot read 'features'", "choices are written key=value"]),
        ("train", ["one", "two"], ["cannot read 'two'"]),
        ("predict", ["one", "images=two"], ["one and images= are given; give one of them"]),
        ("evaluate", ["missing", "data=synthetic"], ["missing"]),
    ],
)
def test_words_that_say_nothing(command, verb, arguments, words):
    clear(*command(verb, *arguments), *words)


def test_a_folder_is_audited_by_its_name_alone(class_folders, monkeypatch, capsys, tmp_path):
    root = class_folders({"a": 6, "b": 6})
    own = [f"hydra.run.dir={tmp_path / 'audit'}", f"cache.root={tmp_path / 'cache'}"]  # no other test knows its sources
    monkeypatch.setattr(sys, "argv", ["bloodcell", "audit", str(root), *own])
    cli.main()
    assert (tmp_path / "audit" / "audit.json").is_file() or "12 images" in capsys.readouterr().out
