"""Tables for people have short numbers; counts and tables that are read back lose nothing."""

import numpy as np
import pandas as pd

from bloodcell.metrics.predictions_csv import read_predictions, write_predictions
from bloodcell.runtime.io import write_csv

TABLE = pd.DataFrame(
    {"name": ["a", "b"], "share": [2 / 3, 1e-9 / 3], "count": [1_234_567.0, np.nan], "n": [7, 123456789]}
)


def test_numbers_have_six_digits_and_counts_all_of_theirs(tmp_path):
    write_csv(TABLE, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "name,share,count,n",
        "a,0.666667,1234567,7",
        "b,3.33333e-10,,123456789",
    ]


def test_predictions_are_exact_without_empty_columns(tmp_path):
    sure = np.array([0.99999994, 2 / 3])
    rows = pd.DataFrame({"path": ["a", "b"], "split": "test", "source": "", "label": "x", "prediction": "x"})
    rows = rows.assign(set="", cell=["found", ""], p_x=sure, p_y=1 - sure)
    write_predictions(rows, tmp_path / "a.csv")
    read = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(read) == ["path", "split", "source", "label", "prediction", "cell", "p_x", "p_y"]
    again = read_predictions(tmp_path / "a.csv")
    for name in ("p_x", "p_y"):
        np.testing.assert_allclose(read[name], rows[name], rtol=1e-14)  # pandas before 3 is not exact
        assert (again[name] == rows[name]).all()
