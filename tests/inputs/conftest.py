"""What every test of bad input shares: the command line in this process, and the count of what came of the inputs."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest

from bloodcell import cli
from tests.conftest import QUICK, SMALL

#: (group, outcome) -> number of inputs, of tests that passed.
COUNTS = Counter()


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:  # the properties come from other processes, too
        COUNTS.update(tuple(value) for name, value in report.user_properties if name == "bad input")


@pytest.fixture
def count(request):
    """Count an input: count("images", "right") or count("images", "refused"); the summary shows the sums."""

    def counted(group, outcome):
        assert outcome in ("right", "refused")
        request.node.user_properties.append(("bad input", (group, outcome)))

    return counted


@pytest.fixture(scope="session")
def unfinished(compose, tmp_path_factory):
    """Return a run that could go on for a third epoch."""
    from bloodcell.training.train import train

    folder = tmp_path_factory.mktemp("stranger") / "run"
    choices = ("finetune=full", "callbacks=ema", "scheduler=cosine", "optimizer=adamw", "logger=none", "limits=false")
    train(compose(*QUICK, *SMALL, *choices, "calibrate=false", f"outputs={folder.parent}"), folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "failed"}))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("max_epochs: 2", "max_epochs: 3"))
    return folder


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Run a verb in this process: command("predict", "a=1") -> (exit code, standard output, standard error)."""

    def run(verb, *arguments):
        folder = [] if verb in ("predict", "cache") else [f"hydra.run.dir={tmp_path / 'run'}"]
        monkeypatch.setattr(sys, "argv", ["bloodcell", *arguments, *folder])
        code = 0
        try:
            cli.main(verb)
        except SystemExit as left:
            code = left.code
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def refused(command, count):
    """Run a verb that is to be refused in one to three lines: refused(group, words, verb, argument, ...)."""

    def run(group, words, verb, *arguments):
        code, _, error = command(verb, *arguments)
        assert_clear(code, error, words)
        count(group, "refused")

    return run


@pytest.fixture
def train_refused(refused, smears):
    """The same of a quick training on small smears, unless other data are given: train_refused(group, words, ...)."""

    def run(group, words, *arguments):
        data = () if any(argument.startswith("data=") for argument in arguments) else SMALL
        refused(group, words, "train", *QUICK, *data, *arguments)

    return run


def assert_clear(code, error, words):
    """Assert that an error is one to three lines, without a traceback, and has what matters."""
    import re

    lines = error.strip().splitlines()
    assert code not in (0, None), "it was accepted"
    assert 1 <= len(lines) <= 3, error
    assert lines[0].startswith("error: ")
    assert "Traceback" not in error
    assert re.search(words, error), error


def pytest_terminal_summary(terminalreporter):
    if not COUNTS:
        return
    terminalreporter.section("bad inputs")
    groups = sorted({group for group, _ in COUNTS})
    terminalreporter.write_line(f"{'inputs':<44}{'tried':>8}{'right':>8}{'refused in 1 to 3 lines':>26}")
    for group in [*groups, "all"]:
        names = groups if group == "all" else [group]
        right, bad = (sum(COUNTS[name, outcome] for name in names) for outcome in ("right", "refused"))
        terminalreporter.write_line(f"{group:<44}{right + bad:>8}{right:>8}{bad:>26}")


@pytest.fixture
def as_nobody(tmp_path):
    """Call a function in a child that has no rights, as root may read everything: as_nobody(function) -> its text."""
    import os

    def call(function):
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.getuid() and folder != folder.parent:
                folder.chmod(folder.stat().st_mode | 0o755)
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            try:
                if os.getuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                text = str(function())
            except BaseException as error:  # noqa: BLE001 - the parent asserts that there is none
                text = f"{type(error).__name__}: {error}"
            os.write(writing, text.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as said:
            text = said.read()
        os.waitpid(child, 0)
        return text

    return call
