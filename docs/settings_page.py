"""The page of all settings, from the files in conf/ and their comments."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bloodcell.cli import VERBS, WORDS
from bloodcell.runtime.config import config_dir, flat, options, register_resolvers
from bloodcell.runtime.help import Settings, examples, settings, text_of


def settings_page() -> str:
    """Return the sections of the verbs, then those of the groups, in Markdown."""
    register_resolvers()
    found = {verb: settings(verb) for verb in VERBS}
    groups = {group: verb for verb, one in reversed(found.items()) for group in one.chosen}
    verbs = [_verb(verb, one, found["train"]) for verb, one in found.items()]
    return "\n".join([*verbs, *(_group(group, found[groups[group]]) for group in _ordered(found.values()))])


def _ordered(found: Iterable[Settings]) -> list[str]:
    return list(dict.fromkeys(group for one in found for group in one.chosen))


def _verb(verb: str, found: Settings, training: Settings) -> str:
    usage = " ".join(f"bloodcell {verb} {WORDS[VERBS[verb].takes]} [group=option] [key=value] ...".split())
    lines = [f"\n## bloodcell {verb}\n", f"{_sentence(VERBS[verb].purpose)}\n"]
    lines += ["```", usage, "", *examples(verb), "```\n"]
    trains = verb != "train" and "model" in found.chosen
    lines += _keys([key for key in (*found.needed, *found.own) if not (trains and key in training.own)], found)
    if trains:
        lines += ["It also takes the settings of [bloodcell train](#bloodcell-train).\n"]
    if found.chosen:
        chosen = (f"[{group}](#group-{group})" for group in found.chosen)
        lines += [f"Groups: {', '.join(chosen)}.\n"]
    return "\n".join(lines)


def _group(group: str, found: Settings) -> str:
    lines = [f"\n## Group {group}\n", f"{_sentence(found.purposes[group])}\n"]
    for option in sorted(options(group)):
        file = config_dir() / group / f"{option}.yaml"
        if option == found.chosen[group]:  # what it sets is listed below
            lines += [f"`{group}={option}` (default)", f": {_purpose(file)}", ""]
        else:
            lines += [f"`{group}={option}`", f": {' '.join([_purpose(file), *_changes(file)])}", ""]
    if keys := found.inside(group):
        lines += ["The keys, with their defaults:\n", *_keys(keys, found)]
    return "\n".join(lines)


def _keys(names: list[str], found: Settings) -> list[str]:
    """Return a definition of each key with a comment, then the others together."""
    lines = []
    for name in names:
        if comment := found.said.get(name):
            lines += [_setting(name, found.keys[name]), f": {_escaped(comment)}", ""]
    if others := [_setting(name, found.keys[name]) for name in names if name not in found.said]:
        lines += [f"Also: {', '.join(others)}.", ""]
    return lines


def _setting(name: str, value: Any) -> str:
    return f"`{name}={text_of(value)}`"


def _purpose(file: Path) -> str:
    """Return the comment that a file begins with."""
    parts = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("#   "):
            command, _, meaning = line.removeprefix("#").strip().partition("   ")
            parts.append(f"`{command}`" + (f" ({_escaped(meaning.strip())})" if meaning else ""))
        elif not line.startswith("# @package"):
            parts.append(_escaped(line.removeprefix("#").strip()))
    return _sentence(" ".join(part for part in parts if part))


def _changes(file: Path) -> list[str]:
    """Return sentences: what an option extends, and the groups and keys that it sets."""
    text = file.read_text(encoding="utf-8")
    values = yaml.safe_load(text) or {}
    defaults = values.pop("defaults", [])
    extended = [one for one in defaults if isinstance(one, str) and one not in ("_self_", "base")]
    pairs = [pair for one in defaults if isinstance(one, dict) for pair in one.items()]
    parts = [f"{group.removeprefix('override ').removeprefix('/')}={option}" for group, option in pairs]
    below = "" if "# @package _global_" in text else f"{file.parent.name}."
    leaves = [(key, value) for key, value in flat(values) if not isinstance(value, dict) and "_target_" not in key]
    parts += [f"{below}{key}={text_of(value)}" for key, value in leaves if text_of(value)]
    said = {"Extends": extended, "Sets": parts}
    return [f"{verb} {', '.join(f'`{part}`' for part in some)}." for verb, some in said.items() if some]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _escaped(text: str) -> str:
    """Keep Markdown from reading signs of a comment."""
    return "".join(f"\\{sign}" if sign in "\\*_{}[]<>#|$" else sign for sign in text)
