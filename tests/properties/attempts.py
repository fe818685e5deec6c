"""Trying something that may be refused, but only in a few clear lines."""

from bloodcell.runtime.errors import BloodcellError


def attempt(function, *arguments, **named):
    """Return what a function returns and None, or None and the lines in which it refuses; no other error passes."""
    try:
        return function(*arguments, **named), None
    except BloodcellError as error:
        refusal = str(error)
    assert 1 <= len(refusal.splitlines()) <= 3
    return None, refusal
