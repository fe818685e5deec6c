"""What is said shows names whole, does nothing that is in them, and tells what goes on."""

import io
import logging
import sys
import time
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress

from bloodcell.data.loaders import EpochBatches, Several
from bloodcell.runtime import console as printing
from bloodcell.runtime.console import (
    complain,
    counted,
    duration,
    muted,
    others_muted,
    printable,
    progress,
    say,
    state_of,
    wrapped,
)
from bloodcell.training.callbacks.history import epoch_line
from bloodcell.training.callbacks.progress import EpochProgress

#: Names of up to 40 letters, of three scripts; the letters of the last ones are two columns wide.
NAMES = [
    "segmentkernige_neutrophile_Granulozyten_", "stabkernige_neutrophile_Granulozyten_xyz", "basophil", "eosinophil",
    "Сегментоядерный_нейтрофил", "палочкоядерный_нейтрофил", "моноцит", "лимфоцит",
    "嗜酸性粒细胞", "嗜碱性粒细胞", "淋巴细胞", "单核细胞",
]  # fmt: skip


@pytest.fixture
def terminal(monkeypatch):
    """Make a terminal of 80 columns the place of all lines: terminal() -> what was written to it."""
    file = io.StringIO()
    made = Console(file=file, force_terminal=True, width=80, highlight=False, soft_wrap=True, emoji=False)
    monkeypatch.setattr(printing, "console", made)
    return file.getvalue


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("a\rb\x9bc\x7f", r"a\rb\x9bc\x7f"),
        ("Ä [bold]\n\tb 細胞", "Ä [bold]\n\tb 細胞"),
        ("cell :smile:", "cell :smile:"),
    ],
)
def test_control_characters_are_written_out(capsys, text, shown):
    assert printable(text) == shown
    say(text)
    assert "".join(capsys.readouterr().out.split()) == "".join(shown.split())


def test_one_is_not_several():
    assert [counted(number, "image") for number in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]


def test_a_terminal_breaks_lines_between_words_and_no_name(terminal):
    line = f"{len(NAMES)} classes: {', '.join(NAMES)}"
    say(line)
    lines = terminal().splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert " ".join(lines) == line
    assert len(lines) < 7, "lines are filled"


def test_a_path_is_never_broken_and_a_command_stays_one_line(terminal):
    path = "/folder" * 15
    assert wrapped(f"results in {path} and more", 80) == f"results in\n{path}\nand more"
    say(f"next: bloodcell predict FOLDER checkpoint={path} output=FILE.csv", whole=True)
    assert terminal().count("\n") == 1


def test_a_log_gets_lines_as_they_are(capsys):
    say("word " * 40)
    complain("warning: " + "word " * 40)
    said = capsys.readouterr()
    assert said.out.count("\n") == said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "epochs"),
    [
        ({"epoch": 100, "train/loss": 12.345, "train/accuracy": 1.0, "val/loss": 12.345, "val/accuracy": 1.0}, 100),
        ({"epoch": 7, "train/loss": 0.5, "train/accuracy": 0.98}, None),
    ],
)
def test_the_line_of_an_epoch_fits_on_a_terminal(row, epochs):
    line = epoch_line(row, epochs, 123.4)
    assert len(line) <= 80
    assert f"loss {row['train/loss']:.3f}" in line
    assert f"{100 * row['train/accuracy']:.1f} %" in line
    assert ("val" in line) == ("val/loss" in row)


def test_rate_and_remaining_time_are_those_of_the_work_that_was_done():
    now = 0.0
    bar = Progress(get_time=lambda: now, disable=True)
    number = bar.add_task("decoding", total=1200)
    task = bar.tasks[0]
    assert state_of(task) == "0 of 1,200, 0 s"
    bar.update(number, completed=900)  # done before: it does not count as speed
    for second in range(1, 6):
        now = float(second)
        bar.update(number, advance=20)
    assert state_of(task) == "1,000 of 1,200, 20 a second, 10 s left"
    assert [duration(one) for one in (0, 89, 90, 5399, 5400)] == ["0 s", "89 s", "2 min", "90 min", "1.5 h"]


def test_a_log_hears_after_a_while_what_goes_on(capsys):
    with progress("decoding", silence=0.05) as advance:
        advance(3, 12)
        time.sleep(0.2)
    assert capsys.readouterr().out == "decoding ...\n"
    with progress("decoding", silence=0.5):
        pass
    assert capsys.readouterr().out == ""


def test_progress_is_silent_while_other_lines_come(capsys):
    with progress("training", silence=0.3):
        for epoch in range(8):
            say(f"epoch {epoch}")
            time.sleep(0.1)
    assert "training" not in capsys.readouterr().out
    with progress("training", silence=0.1):
        say("epoch 1")
        time.sleep(0.5)
    assert capsys.readouterr().out == "epoch 1\ntraining ...\n"


def test_a_bar_names_each_step_and_vanishes(terminal):
    with progress("audit") as advance:
        advance(5, 8, "audit: key points")
        time.sleep(0.15)
        say("found one")
        advance(0, None, "audit: report")
        time.sleep(0.15)
        with progress("inner"):
            time.sleep(0.15)
    said = terminal()
    assert "audit: key points" in said
    assert "5 of 8" in said
    assert "of 8" not in said.partition("audit: report")[2]
    assert "inner" in said
    assert said.count("found one\n") == 1
    assert said.endswith("\x1b[2K")  # the bar's line is cleared


def test_a_long_name_leaves_the_bar_on_its_line(terminal):
    with progress("features of view 12/16 " * 3) as advance:
        advance(123_456, 1_234_567)
        time.sleep(0.15)
    frame = terminal().rpartition("features")[2].partition("\n")[0]
    assert frame.startswith(" of view 12/16 f ")
    assert "123,456 of 1,234,567" in frame


def test_inside_muted_only_progress_goes_on(terminal):
    with progress("trial 3 of 20"), muted():
        say("nobody reads this")
        with progress("features"):
            time.sleep(0.15)
    assert "trial 3 of 20" in terminal()
    assert "nobody" not in terminal()
    assert "features" not in terminal()


def test_what_libraries_print_is_hidden_and_progress_is_not(capsys):
    with others_muted():
        print("from a library")
        say("from us")
    say("afterwards")
    assert capsys.readouterr().out == "from us\nafterwards\n"
    assert logging.root.manager.disable == 0


def test_an_epoch_shows_its_batches(monkeypatch):
    shown = []
    monkeypatch.setattr("bloodcell.training.callbacks.progress.progress", lambda what: _recorded(shown))
    trainer = SimpleNamespace(
        max_epochs=15, current_epoch=2, num_training_batches=8, num_val_batches=[3], train_dataloader=None
    )
    bar = EpochProgress()
    bar.setup(trainer, None, "fit")
    bar.on_train_batch_end(trainer, None, {}, [], 4)
    bar.on_validation_batch_end(trainer, None, {}, [], 2, 0)
    trainer.num_training_batches = 4
    trainer.train_dataloader = SimpleNamespace(sampler=Several(EpochBatches(None, 29, 2), 4))
    for number in (2, 3):  # of four batches each but the last, of three
        bar.on_train_batch_end(trainer, None, {}, [], number)
    assert shown[:2] == [(5, 8, "epoch 3/15, batches"), (3, 3, "validation, batches")]
    assert shown[2:] == [(12, 15, "epoch 3/15, batches"), (15, 15, "epoch 3/15, batches")]
    bar.teardown(trainer, None, "fit")
    assert shown[-1] == "over"


class _recorded:  # noqa: N801 - it stands for a function
    def __init__(self, shown):
        self.shown = shown

    def __enter__(self):
        return lambda done, total, what=None: self.shown.append((done, total, what))

    def __exit__(self, *_):
        self.shown.append("over")


def test_standard_error_of_a_terminal_is_broken_too(terminal, monkeypatch):
    file = io.StringIO()
    file.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", file)
    complain("warning: " + ", ".join(NAMES))
    assert max(map(cell_len, file.getvalue().splitlines())) <= 80
