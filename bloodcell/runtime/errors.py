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
    """Suggest the most similar valid name, ignoring case; list all if none is similar and there are few."""
    names = {other.casefold(): other for other in sorted(valid)}
    folded = name.casefold()
    leaf = folded.rpartition(".")[2]
    alike = (
        difflib.get_close_matches(folded, names, n=1, cutoff=0.6)
        or [key for key in names if difflib.SequenceMatcher(None, leaf, key.rpartition(".")[2]).ratio() > 0.75][:1]
    )
    if alike:
        return f"did you mean '{names[alike[0]]}'?"
    return f"choose from: {', '.join(names.values())}" if len(names) <= 30 else "see --help"


def written(name: str) -> str:
    """Return a name as it stands in a list of the command line: in double quotes if it needs them."""
    return name if re.fullmatch(r"[A-Za-z_/][\w./ +-]*(?<! )", name, re.ASCII) else json.dumps(name, ensure_ascii=False)


def folded(name: str) -> str:
    """Return what is the same for two spellings of a name: letter case, blanks, composed letters do not count."""
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold())
