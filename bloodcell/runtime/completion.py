"""Completion in the shell: verbs, groups, options, keys and their choices; files are left to the shell.

Hydra's own takes one configuration for a program, so it knows no verbs; and it composes that for each value.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from bloodcell.runtime.errors import BloodcellError, nearest

#: Each script calls the very program that is being typed, with the line so far.
_BASH = """\
_bloodcell() {
    local IFS=$'\\n' program=("${COMP_WORDS[0]}")
    case "${COMP_WORDS[0]} ${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
        *python*" -m bloodcell") program+=(-m bloodcell) ;;
        *python*" "*train.py" "*|*python*" "*evaluate.py" "*) program+=("${COMP_WORDS[1]}") ;;
        *python*) return ;;
    esac
    COMPREPLY=($(COMP_LINE="${COMP_LINE:0:COMP_POINT}" "${program[@]}" --shell-completion query=bash 2>/dev/null))
}
complete -o nospace -o bashdefault -o default -F _bloodcell bloodcell python python3
"""
_ZSH = """\
_bloodcell() {
    local found program=("${words[1]}")
    case "${words[1,3]}" in
        *python*" -m bloodcell") program+=(-m bloodcell) ;;
        *python*" "*train.py*|*python*" "*evaluate.py*) program+=("${words[2]}") ;;
        *python*) _files; return ;;
    esac
    found=(${(f)"$(COMP_LINE="$LBUFFER" "${program[@]}" --shell-completion query=zsh 2>/dev/null)"})
    if (( $#found )); then compadd -Q -S '' -- $found; else _files; fi
}
compdef _bloodcell bloodcell python python3
"""
_FISH = """\
function _bloodcell
    set -l line (commandline -cp)
    env COMP_LINE="$line" bloodcell --shell-completion query=fish 2>/dev/null
end
complete -c bloodcell -a '(_bloodcell)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_FLAGS = ("--help", "--multirun", "--cfg", "--shell-completion")
_CHOICES = re.compile(r"[\w.-]+(?: \| [\w.-]+)+")


def answer(arguments: list[str], verbs: Iterable[str]) -> str | None:
    """Return what `--shell-completion install=SHELL` or `query=SHELL` prints; None if that is not asked for.

    Raises:
        BloodcellError: There is no such shell.
    """
    asked = next((item.partition("=") for item in arguments if item.startswith(("install=", "query="))), None)
    if asked is None or not {"-sc", "--shell-completion"} & set(arguments):
        return None
    what, _, shell = asked
    if shell not in SCRIPTS:
        raise BloodcellError(f"--shell-completion {what}={shell}; {nearest(shell, SCRIPTS)}")
    if what == "install":
        return f"{SCRIPTS[shell]}{_how_to(shell)}"
    if "COMP_LINE" not in os.environ:
        return None
    start, found = candidates(os.environ["COMP_LINE"], list(verbs))
    cut = len(start) if shell == "bash" else 0  # bash takes what follows the equals sign for the word
    return "\n".join(one[cut:] for one in found)


def _how_to(shell: str) -> str:
    """Return comments that say how to use a script."""
    line = "bloodcell train --shell-completion install=" + shell
    how = f"{line} | source" if shell == "fish" else f'eval "$({line})"'
    where = {"bash": "~/.bashrc", "zsh": "~/.zshrc, after compinit", "fish": "~/.config/fish/config.fish"}[shell]
    return f"# In this shell: {how}\n# In each new one: put that line into {where}"


def candidates(line: str, verbs: list[str]) -> tuple[str, list[str]]:
    """Return the part of the last word up to its equals sign, and the words that it may become.

    Args:
        line: The command line up to the cursor.
        verbs: The verbs of the program.
    """
    words, word = _split(line)
    if words[1:3] == ["-m", "bloodcell"]:
        words = words[2:]
    elif len(words) > 1 and "python" in Path(words[0]).name:
        words = [words[0], Path(words[1]).stem, *words[2:]]  # train.py is the verb train
    key, equals, _ = word.partition("=")
    if len(words) < 2:
        found = verbs
    elif equals:
        found = [f"{key}={value}" for value in _values(key)]
    else:
        found = [*_FLAGS] if word.startswith("-") else _next_keys(_keys(words[1], words[2:]), word)
    return key + equals if equals else "", [one for one in found if one.startswith(word)]


def _split(line: str) -> tuple[list[str], str]:
    """Return the whole words of an unfinished line, and the last one, which may be empty."""
    *whole, word = line.split(" ")
    try:
        return shlex.split(" ".join(whole)), word
    except ValueError:  # a quote is still open
        return whole, word


def _values(key: str) -> list[str]:
    """Return the options of a group, or the choices that the comment of a key lists."""
    from bloodcell.runtime.config import config_dir, groups, options
    from bloodcell.runtime.help import comments

    if key in groups():
        return sorted(options(key))
    group, _, name = key.partition(".")
    folder = config_dir() / group if group in groups() else config_dir()
    said = dict(one for file in sorted(folder.glob("*.yaml")) for one in comments(file))
    found = _CHOICES.search(said.get(name if folder != config_dir() else key, ""))
    return found[0].split(" | ") if found else []


def _keys(verb: str, words: list[str]) -> list[str]:
    """Return the groups and keys of a verb, for the options that are chosen in the line so far."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from bloodcell.runtime.config import config_dir, flat, groups, options, register_resolvers

    register_resolvers()
    named = [word.partition("=") for word in words]
    chosen = [f"{group}={option}" for group, _, option in named if group in groups() and option in options(group)]
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        try:
            cfg = compose(verb, overrides=chosen, return_hydra_config=True)
        except HydraException:  # a group that the verb has not
            cfg = compose(verb, return_hydra_config=True)
    own = [group for group in cfg.hydra.runtime.choices if group in groups()]
    settings = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    keys = [
        key for key, value in flat(settings) if not key.endswith("_target_") and not (value and isinstance(value, dict))
    ]
    return [*(f"{group}=" for group in own), *(f"{key}=" for key in keys)]


def _next_keys(keys: list[str], word: str) -> list[str]:
    """Return keys that begin with a word, each up to its next dot: data. for an empty word, data.root= for data."""
    found = (re.match(rf"{re.escape(word)}[^.]*\.?", key) for key in keys if key.startswith(word))
    return sorted({one[0] for one in found if one})
