"""The one exception for everything that a user can get wrong, and what to say of a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BloodcellError(Exception):
    """A mistake or a lack that the user can mend.

    The message says what is wrong, where, and what to do next, in at most three lines. The command line
    prints it without a traceback and exits with a code that is not 0.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """Name the most alike valid name, whatever the letter case, or all where there are few."""
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
