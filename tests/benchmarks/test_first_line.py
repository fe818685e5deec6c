"""Every verb says something within two seconds, whatever it has to load."""

import pytest

from bloodcell.cli import VERBS
from tests.benchmarks.first_line import first_line


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_something_within_two_seconds(verb):
    seconds, said = min(first_line(verb, cold=True) for _ in range(2))
    assert said == "loading ..."
    assert seconds < 2
