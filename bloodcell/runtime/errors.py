"""The exception for errors that a user can correct; names: misspelt, in several spellings, and as they are written."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable


class BloodcellError(Exception):
    """An error that the user can correct.

    Its message, at most three lines, says what is wrong, where, and what to do next; it is printed without traceback.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """Suggest the most similar valid name, ignoring case; list all if none is similar and there are few.

    If names have dots, those beside the name come first. Neither the name itself nor a part of its path is suggested.
    """
    names = sorted(other for other in set(valid) if other != name and not name.startswith(f"{other}."))
    path, _, leaf = name.rpartition(".")
    beside = [other for other in names if path and other.rpartition(".")[0] == path]
    first = (leaf, _leaves(beside), 0.6) if beside else (name, {other.casefold(): other for other in names}, 0.6)
    for text, among, cutoff in (first, (leaf, _leaves(names), 1.0 if beside else 0.75)):
        if alike := difflib.get_close_matches(text.casefold(), among, n=1, cutoff=cutoff):
            return f"did you mean '{among[alike[0]]}'?"
    listed = beside or names
    return f"choose from: {', '.join(listed)}" if 0 < len(listed) <= 30 else "see --help"


def _leaves(names: list[str]) -> dict[str, str]:
    return {other.rpartition(".")[2].casefold(): other for other in reversed(names)}


def written(name: str) -> str:
    """Return a name as it stands in a list of the command line: in double quotes if it needs them."""
    return name if re.fullmatch(r"[A-Za-z_/][\w./ +-]*(?<! )", name, re.ASCII) else json.dumps(name, ensure_ascii=False)


def folded(name: str) -> str:
    """Return what is the same for two spellings of a name: letter case, blanks, composed letters do not count."""
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold())
