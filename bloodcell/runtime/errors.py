"""The exception for errors that a user can correct, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
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
