"""What is said shows names, and does nothing that is in them."""

import pytest

from bloodcell.runtime.console import counted, printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("a\rb\x9bc\x7f", r"a\rb\x9bc\x7f"),
        ("Ä [bold]\n\tb 細胞", "Ä [bold]\n\tb 細胞"),
    ],
)
def test_control_characters_are_written_out(capsys, text, shown):
    assert printable(text) == shown
    say(text)
    assert "".join(capsys.readouterr().out.split()) == "".join(shown.split())


def test_one_is_not_several():
    assert [counted(number, "image") for number in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]
