"""The description in an exported file comes back as it was written, and nothing else is taken for it."""

import json

import numpy as np
import pytest

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.exported.metadata import About, read_about
from bloodcell.models.ood import Limits
from bloodcell.runtime.errors import BloodcellError

MEANS, WHITENING = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((2, 5), (5, 3)))
LIMITS = Limits(MEANS, WHITENING, 12.5, {"0.05": 0.9, "0.01": None}, "flips")
ABOUT = About(["eosinophil", "Zelle-ä"], 1.25, Preprocessing(96, "cell", 2.5), "net", ("ab" * 32, "12"), LIMITS)
TOLD = json.loads(ABOUT.text())


def test_all_comes_back():
    told = read_about(ABOUT.text())
    for name in ("classes", "temperature", "preprocessing", "model", "source", "release"):
        assert getattr(told, name) == getattr(ABOUT, name)
    assert (told.limits.means == MEANS).all()
    assert (told.limits.whitening == WHITENING).all()
    assert (told.limits.threshold, told.limits.abstention, told.limits.tta) == (12.5, LIMITS.abstention, "flips")
    assert read_about(About(["a", "b"], 1.0, Preprocessing(), "net", ("", "")).text()).limits is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "reads format 1"),
        ({"classes": "ab"}, "incomplete"),
        ({"classes": ["a", "a"]}, "incomplete"),
        ({"classes": ["a", 3]}, "incomplete"),
        ({"classes": ["a", "b", "c"]}, "incomplete"),
        ({"temperature": -1.0}, "incomplete"),
        ({"temperature": "hot"}, "incomplete"),
        ({"temperature": float("nan")}, "incomplete"),
        ({"preprocessing": {"image_size": 10**9}}, "image_size"),
        ({"preprocessing": {"size": 3}}, "incomplete"),
        ({"limits": {"means": 3}}, "incomplete"),
        (
            {"limits": {**TOLD["limits"], "means": {"shape": [9, 9], "float32": "AAAA"}}},
            "incomplete",
        ),
    ],
)
def test_what_is_damaged_is_refused(changes, said):
    with pytest.raises(BloodcellError, match=said):
        read_about(json.dumps({**TOLD, **changes}))


@pytest.mark.parametrize("text", [None, "", "null", "[]", "{}", "no json", "[" * 100_000])
def test_what_another_program_says_is_refused(text):
    with pytest.raises(BloodcellError, match="bloodcell did not export it"):
        read_about(text)
