"""Small smears with known truth, painted once a session."""

from pathlib import Path

import pandas as pd
import pytest

from bloodcell.data.synthetic.smears import Smears, write_smears


@pytest.fixture(scope="session")
def smears(tmp_path_factory):
    """Return a function: strength -> (folder, truth); 8 photographs a class and 2 cells photographed twice."""
    made: dict[str, tuple[Path, pd.DataFrame]] = {}

    def make(strength):
        if strength not in made:
            folder = tmp_path_factory.mktemp("smears") / strength
            write_smears(folder, Smears(4, 2, 5, strength, rescans=2, seed=7))
            truth = pd.read_csv(folder / "truth.csv")
            truth["split"] = truth["split"].str.lower()
            made[strength] = folder, truth
        return made[strength]

    return make
