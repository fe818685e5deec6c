"""What the net that finds cells sees: parts of the background, and haze taken off."""

import numpy as np
import pytest

from bloodcell.data.finder_input import BRIGHT, CLEAR, RAISED, clear_contrast, finder_input, normalised


def field(level, background=(200, 180, 190)):
    """Return a picture whose darkest hundredth has a part of its background."""
    picture = np.full((200, 200, 3), background, np.uint8)
    picture[80:100, 80:100] = np.round(level * np.array(background))
    return picture


def test_a_picture_is_seen_in_parts_of_its_background():
    seen = normalised(field(0.5))
    assert seen[0, 0] == pytest.approx([1, 1, 1])
    assert seen[90, 90] == pytest.approx([0.5, 0.5, 0.5], abs=0.005)


@pytest.mark.parametrize(("level", "seen"), [(0.2, 0.2), (CLEAR, CLEAR), (0.5, CLEAR), (0.9, 1 - 0.1 * RAISED)])
def test_haze_is_taken_off_until_the_darkest_places_are_as_in_a_clear_picture(level, seen):
    picture = field(level)
    raised = finder_input(picture, clear_contrast(picture))[0, :, 90, 90]
    assert raised == pytest.approx([seen] * 3, abs=0.01)


def test_what_is_brighter_than_the_background_and_what_is_black_stay_in_bounds():
    picture = field(0.6)
    picture[0], picture[1] = 255, 0
    raised = finder_input(picture, RAISED)
    assert raised.min() == 0
    assert raised.max() == BRIGHT
