"""docs/tutorial.ipynb runs in a kernel of its own, and what it says is so."""

import json
import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"

#: What the last cell prints: facts from the namespace of the notebook.
FACTS = """
import json
print(json.dumps({
    "leaks": len(audit.leaks),
    "pairs": [list(pair) for pair in zip(audit.leaks["path_a"], audit.leaks["path_b"])],
    "shared": shared,
    "run": str(run.folder),
    "evaluation": str(evaluation.folder),
    "report": str(evaluation.report),
    "shown": results.loc[("grouped", "test")].to_dict(),
    "right": 100 * float(right.mean()),
    "sure": [float(sure.mean()), float(right[sure].mean()), float(right[~sure].mean())],
    "no_cell": strange["cell"].to_list(),
    "unlike": float(table["unlike"].mean()),
    "same": float((again["prediction"] == table["prediction"]).mean()),
    "file": str(file),
}))
"""


def test_nothing_that_a_run_leaves_is_in_the_file():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Run the notebook: its facts, its code cells with their outputs, and its folder."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    folder = tmp_path_factory.mktemp("tutorial")
    notebook = nbformat.read(NOTEBOOK, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS))
    paths = [str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"BLOODCELL_CACHE": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(paths)}
    client = nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)  # raises if a cell does
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return json.loads(cells[-1].outputs[-1].text), cells[:-1], folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:zmq.*", "ignore::Warning:jupyter_client.*")
def test_the_tutorial_says_what_is_so(told):
    facts, _, folder = told
    sources = _true_sources(folder / "smears" / "truth.csv")
    assert facts["leaks"] == len(facts["pairs"]) > 20
    assert all(sources[a] == sources[b] for a, b in facts["pairs"])
    assert facts["shared"]["random"] > 20
    assert facts["shared"]["grouped"] == 0
    kept = json.loads((Path(facts["run"]) / "metrics.json").read_text())
    again = json.loads((Path(facts["evaluation"]) / "metrics.json").read_text())
    for end, name in {"": "accuracy", "_low": "from", "_high": "to"}.items():
        assert facts["shown"][name] == pytest.approx(100 * kept[f"test/accuracy{end}"])
        assert again[f"test/accuracy{end}"] == kept[f"test/accuracy{end}"]
    assert facts["right"] == pytest.approx(100 * kept["test/accuracy"])
    assert kept["test/accuracy_low"] > 0.5  # it learns: chance is 0.25
    share, right, rest = facts["sure"]
    assert 0.1 < share < 1
    assert right > rest
    assert facts["no_cell"] == ["none", "none"]
    assert facts["unlike"] < 0.2
    assert facts["same"] == 1
    assert Path(facts["report"]).is_file()
    assert Path(facts["file"]).is_file()


@pytest.mark.slow
def test_its_output_is_short_and_plain(told):
    _, cells, _ = told
    for cell in cells:
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        assert len(printed.splitlines()) < 40, cell.source
        assert "\x1b" not in printed
        assert not [output for output in cell.outputs if "<pre" in str(output.get("data", {}).get("text/html", ""))]


def _true_sources(file):
    import pandas as pd

    return pd.read_csv(file).set_index("path")["source"].to_dict()
