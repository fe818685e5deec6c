"""Tab in a shell: verbs, groups, options, keys and choices."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bloodcell import cli
from bloodcell.runtime.completion import SCRIPTS, candidates
from tests.runtime.conftest import ROOT, environment


@pytest.mark.parametrize(
    ("line", "start", "found"),
    [
        ("bloodcell ", "", list(cli.VERBS)),
        ("bloodcell ex", "", ["export"]),
        ("bloodcell train model=res", "model=", ["model=resnet18", "model=resnet50"]),
        ("python train.py optimizer=ad", "optimizer=", ["optimizer=adam", "optimizer=adamw"]),
        ("bloodcell predict tta=", "tta=", ["tta=none", "tta=flips", "tta=d4"]),
        ("bloodcell train features.cache=o", "features.cache=", ["features.cache=on", "features.cache=off"]),
        ("bloodcell train see", "", ["seed="]),
        ("bloodcell train opt", "", ["optimizer.", "optimizer="]),
        ("bloodcell train optimizer=sgd optimizer.mo", "", ["optimizer.momentum="]),
        ("bloodcell evaluate adap", "", ["adapt="]),
        ("bloodcell train 'data.root=a b' see", "", ["seed="]),
        ("bloodcell train --mu", "", ["--multirun"]),
        ("bloodcell train data.root=/tmp/", "data.root=", []),  # the shell's own files
        ("bloodcell evaluate opt", "", []),
    ],
)
def test_what_a_word_may_become(line, start, found):
    assert candidates(line, list(cli.VERBS)) == (start, found)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_verb_prints_the_script_and_how_to_use_it(monkeypatch, capsys, shell):
    monkeypatch.setattr(sys, "argv", ["bloodcell", "train", "--shell-completion", f"install={shell}"])
    cli.main()
    said = capsys.readouterr().out
    assert said.startswith(SCRIPTS[shell])
    assert f"bloodcell train --shell-completion install={shell}" in said.rpartition("# In this shell")[2]


BASH = """
eval "$({python} -m bloodcell train --shell-completion install=bash)"
complete -p bloodcell python
COMP_WORDS=({python} train.py model=mob) COMP_LINE="{python} train.py model=mob"
COMP_POINT=${{#COMP_LINE}}
_bloodcell
echo "${{COMPREPLY[@]}}"
COMP_WORDS=({python} -m bloodcell evaluate adap) COMP_LINE="{python} -m bloodcell evaluate adap"
COMP_POINT=${{#COMP_LINE}}
_bloodcell
echo "${{COMPREPLY[@]}}"
COMP_WORDS=({python} other.py model=mob) COMP_LINE="{python} other.py model=mob" COMPREPLY=()
_bloodcell
echo "${{#COMPREPLY[@]}}"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no bash")
def test_bash_completes_what_the_script_says(tmp_path):
    script = BASH.format(python=sys.executable)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=environment(tmp_path)
    )
    *registered, option, key, other = done.stdout.splitlines()
    assert [line.split()[-1] for line in registered] == ["bloodcell", "python"]
    assert (option, key, other) == ("mobilenetv2", "adapt=", "0")


@pytest.mark.slow
def test_an_answer_takes_less_than_a_second(tmp_path):
    line = [sys.executable, "-m", "bloodcell", "--shell-completion", "query=bash"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(line, check=True, cwd=ROOT, env=environment(tmp_path, COMP_LINE="bloodcell train "))
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1
