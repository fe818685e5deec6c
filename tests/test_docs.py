"""The documentation says what the program does: links, quoted errors, and the keys of each command."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from bloodcell.cli import VERBS
from bloodcell.runtime.config import config_dir, flat, groups, options
from bloodcell.runtime.help import settings
from bloodcell.runtime.version import __version__

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_lead_somewhere(name):
    """The pages of the site are checked by its build."""
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    local = [link.partition("#")[::2] for link in links if "://" not in link]
    assert local
    for file, anchor in local:
        assert (ROOT / file).is_file(), file
        assert not anchor or anchor in _anchors(ROOT / file), f"{file}#{anchor}"


def _anchors(file):
    titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_citation_and_changelog_are_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert cited["version"] == re.search(r"^## (\S+?),? ", changes, re.MULTILINE)[1] == __version__


def test_the_page_of_settings_has_every_key_with_its_comment(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    page = importlib.import_module("settings_page").settings_page()
    named = set(re.findall(r"`([\w.-]+)=", page))
    for verb in VERBS:
        found = settings(verb)
        others = {"data.reader", "scheduler.max_lr"}  # shown by its keys; the same as optimizer.lr
        assert set(found.keys) - others <= named, verb
        assert set(found.chosen) <= named, verb
    assert "`seed=0`\n: seed of splits, initial weights" in page
    assert "`scheduler.pct_start=0.3`" in page  # a key of one option that is not the default
    assert page.count("\n## bloodcell ") == len(VERBS)


def test_quoted_errors_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^`(.+)`\n: ", page, re.MULTILINE)
    assert len(quoted) >= 25
    messages = {message for file in (ROOT / "bloodcell").rglob("*.py") for message in _messages(file)}
    for line in quoted:
        assert any(line in message for message in messages), line


def _messages(file):
    """Yield each text of a module; `...` stands for what an f-string puts in."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def _commands():
    """Return page, verb and arguments of each command line in the documentation."""
    lines = [(page.name, line) for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    start = re.compile(rf"(?:bloodcell ({'|'.join(VERBS)})|(?:python |^ +)(train|evaluate)\.py)\b([^`#]*)")
    return [(page, found[1] or found[2], found[3]) for page, line in lines for found in start.finditer(line)]


@cache
def _settings(compose, verb):
    """Return the keys of a verb, those of all options of its groups too, and its groups."""
    whole = compose("hydra.job.name=x", verb=verb)
    keys = {key for key, _ in flat(OmegaConf.to_container(whole))}
    mine = [group for group in groups() if group in keys or group in ("experiment", "debug")]
    for group in mine:
        for file in (config_dir() / group).glob("*.yaml"):
            values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            values.pop("defaults", None)
            keys |= {f"{group}.{key}" for key, _ in flat(values)}
    return keys, mine


@pytest.mark.parametrize("name", ["README.md", "docs/notebook.md"])
def test_figures_with_an_interval_are_those_of_the_results(name):
    results, page = ((ROOT / file).read_text(encoding="utf-8") for file in ("RESULTS.md", name))
    found = re.findall(r"[\d.]+ % \(\d+ to \d+", page)
    assert len(found) >= 4
    assert [figure for figure in found if figure not in results] == []


def test_the_quickstart_has_the_readmes_figures_of_the_demo():
    rows = [re.findall(r"^\| `make demo` .*$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
            for name in ("README.md", "docs/quickstart.md")]  # fmt: skip
    assert rows[0] == rows[1] != []


def test_commands_name_keys_and_options_that_exist(compose):
    checked = 0
    for page, verb, arguments in _commands():
        keys, mine = _settings(compose, verb)
        for sign, key, value in re.findall(r"(?<![\w.=\"'{(/-])[\"']?([+~]?)([a-z][\w.]*)=([^\s'\"]*)", arguments):
            checked += 1
            where = f"{page}: {verb} {sign}{key}={value}"
            if key in mine:
                assert set(value.strip("[]").split(",")) <= {*options(key), "null", "tuned", "mine"}, where
            else:
                assert key in keys or key.startswith("hydra.") or key == "install" or sign, where
    assert checked > 150
