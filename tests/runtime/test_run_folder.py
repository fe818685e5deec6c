"""The folder of results: new, or begun by the same command."""

import re
from dataclasses import dataclass

import pytest

from bloodcell.runtime import command
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import begin_results, end_results


@dataclass(frozen=True)
class Settings:
    images: str


@pytest.fixture
def typed_in():
    """Say what was typed: typed_in("evaluate", "a=1")."""
    yield lambda *words: command.remember(["bloodcell", *words])
    command.remember([])


def test_results_go_on_by_the_command_that_began_them_and_another_is_told_it(typed_in, tmp_path):
    folder = tmp_path / "out"
    typed_in("differential", "my slides")
    begin_results(folder, Settings("my slides"))
    (folder / "cells.csv").touch()
    typed_in("differential", "my slides", f"hydra.run.dir={folder}")
    begin_results(folder, Settings("my slides"))
    typed_in("differential", "../my slides", f"hydra.run.dir={folder}")
    told = (
        f"go on with what was begun there, typed as it was: bloodcell differential 'my slides' hydra.run.dir={folder}"
    )
    with pytest.raises(BloodcellError, match=re.escape(told)):
        begin_results(folder, Settings("../my slides"))
    typed_in("differential", "my slides")
    end_results(folder)
    with pytest.raises(
        BloodcellError, match=r"is not empty; new results need a new folder: choose another hydra.run.dir$"
    ):
        begin_results(folder, Settings("my slides"))
