"""What `bloodcell VERB --help` prints: examples, groups and keys, with the comments of the configuration files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bloodcell.runtime.config import config_dir, flat, groups, options

WIDTH, COLUMN = 80, 32

#: A comment that begins so stands at a key that the verb cannot do without.
NEEDED = "needed"

_KEY = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?: +(?P<value>.*?))?(?: +# (?P<comment>.*))?")
_GROUP = re.compile(r"  - (\w+): \S+ +# (.*)")


@dataclass(frozen=True)
class Settings:
    """What a verb reads, for the options that are chosen.

    Attributes:
        chosen: The option of each group, in the order of the files.
        purposes: What each group is for.
        keys: Each dotted key that is shown, and its value.
        said: Each dotted key with a comment, and the comment.
        needed: The keys that the verb cannot do without.
        own: The other keys that belong to no group; last those that all verbs share.
    """

    chosen: dict[str, str | None]
    purposes: dict[str, str]
    keys: dict[str, Any]
    said: dict[str, str]
    needed: list[str]
    own: list[str]

    def inside(self, group: str) -> list[str]:
        """Return the keys of a group that are not needed."""
        return [key for key in self.keys if key.startswith(f"{group}.") and key not in self.needed]


def settings(verb: str, overrides: Sequence[str] = ()) -> Settings:
    """Read the settings of a verb from the configuration and its comments.

    Raises:
        HydraException: An override names no group, option or key.
    """
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        cfg = compose(verb, overrides=list(overrides), return_hydra_config=True)
    # Hydra lists them from the last to the first
    chosen = {group: option for group, option in reversed(cfg.hydra.runtime.choices.items()) if group in groups()}
    plain = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    training = ["training"] if "data" in chosen and verb not in ("audit", "evaluate") else []
    files = [config_dir() / f"{name}.yaml" for name in ("common", *training, verb)]
    said = {key: comment for file in files for key, comment in comments(file)}
    shared = [key for key, _ in comments(files[0])]
    purposes = dict(_GROUP.findall("\n".join(file.read_text(encoding="utf-8") for file in files)))
    for group, option in chosen.items():
        said |= {f"{group}.{key}": comment for key, comment in _of_group(group, option)}
    keys = {key: value for key, value in flat(plain) if _is_shown(key, value)}
    needed = [key for key in keys if said.get(key, "").startswith(NEEDED)]
    own = [key for key in keys if key.partition(".")[0] not in chosen and key not in needed]
    own.sort(key=lambda key: key in shared)
    return Settings(chosen, purposes, keys, said, needed, own)


def page(verb: str, purpose: str, usage: str, overrides: list[str]) -> str:
    """Return the help of a verb, for the options that `overrides` choose.

    Raises:
        HydraException: An override names no group, option or key.
    """
    found = settings(verb, overrides)
    keys, said = found.keys, found.said
    lines = [f"bloodcell {verb}: {purpose}.", "", f"usage: {usage}", "", *(f"  {line}" for line in examples(verb)), ""]
    if found.needed:
        lines += ["== Needed ==", "", *_rows(found.needed, keys, said), ""]
    lines += ["== Settings: key=value ==", "", *_rows(found.own, keys, said), ""]
    for group, option in found.chosen.items():
        lines += [f"== {group}={option or 'null'}: {found.purposes[group]} =="]
        lines += [*_wrapped(f"options: {', '.join(sorted(options(group)))}", " " * 4), ""]
        lines += [*_rows(inside, keys, said), ""] if (inside := found.inside(group)) else []
    lines += [
        "-m runs the verb for each of several values, key=a,b; --cfg job prints the",
        "configuration; --hydra-help lists Hydra's other flags.",
        f'Tab completes: eval "$(bloodcell {verb} --shell-completion install=bash)"',
    ]
    return "\n".join(lines)


def _is_shown(key: str, value: Any) -> bool:
    """Leave out folders of keys, targets, and what readers take from other keys."""
    own = not (key.startswith("data.reader.") and isinstance(value, str) and value.startswith("${"))
    return own and not key.endswith("_target_") and not (isinstance(value, dict) and value)


def _of_group(group: str, option: str | None) -> Iterator[tuple[str, str]]:
    """Yield key and comment of all options of a group; those of the chosen one come last and win."""
    folder = config_dir() / group
    last = [folder / "base.yaml", folder / "default.yaml", folder / f"{option}.yaml"]
    for file in sorted(set(folder.glob("*.yaml")) - set(last)):
        yield from ((key, comment.removeprefix(f"{NEEDED}: ")) for key, comment in comments(file))
    for file in last:
        yield from comments(file) if file.is_file() else ()


def comments(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the comment of each line of a configuration file that has both."""
    path: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if found := _KEY.fullmatch(line):
            indent = len(found["indent"])
            path = [*((depth, name) for depth, name in path if depth < indent), (indent, found["key"])]
            if found["comment"]:
                yield ".".join(name for _, name in path), found["comment"]


def examples(verb: str) -> list[str]:
    """Return the commands in the comment that a verb's file begins with."""
    lines = (config_dir() / f"{verb}.yaml").read_text(encoding="utf-8").partition("\ndefaults:")[0].splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith(("# bloodcell ", "# python "))]


def _rows(names: list[str], keys: dict[str, Any], said: dict[str, str]) -> list[str]:
    """Return a line or more for each key with a comment, then the others together."""
    rows: list[str] = []
    for name in names:
        if name not in said:
            continue
        comment = said[name].removeprefix(NEEDED).lstrip(":, ")
        first = f"  {name}={text_of(keys[name])}"
        if len(first) >= COLUMN:
            rows += [*_wrapped(first, " " * 4), *_wrapped(" " * COLUMN + comment, " " * COLUMN)]
        else:
            rows += _wrapped(f"{first:<{COLUMN}}{comment}", " " * COLUMN)
    if others := " ".join(f"{name}={text_of(keys[name])}" for name in names if name not in said):
        rows += _wrapped(f"  also {others}", " " * 7)
    return rows


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def text_of(value: Any) -> str:
    """Return a value as one would type it; nothing for one that follows from other keys."""
    if isinstance(value, str) and ("${" in value or value == "???"):
        return ""
    text = str(yaml.safe_dump(value, default_flow_style=True, width=1000))
    return text.removesuffix("...\n").strip().replace(", ", ",")
