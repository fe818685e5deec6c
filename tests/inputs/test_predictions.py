"""Files of predictions, of whatever system: their figures, or the row and the column that are wrong."""

import re
import sys

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.metrics.summary import metrics_of

pytestmark = [pytest.mark.inputs, pytest.mark.timeout(60, func_only=True)]

GROUP = "files of predictions"
HEAD = "path,label,p_a,p_b\n"
GOOD = HEAD + "1.png,a,0.9,0.1\n2.png,b,0.2,0.8\n3.png,a,0.4,0.6\n"

REFUSED = {
    "nothing": ("", "it is empty"),
    "a header alone": (HEAD, "lists no image"),
    "text": ("no table at all\n", "no column 'label'"),
    "zero bytes": ("\0" * 100, "no CSV file|no column 'label'"),
    "vertical bars": (GOOD.replace(",", "|"), r"no column 'label'; it has path\|label"),
    "no labels": ("path,p_a,p_b\n1.png,0.9,0.1\n", "no column 'label'"),
    "no probabilities": ("path,label\n1.png,a\n", "no column p_CLASS"),
    "a class without a column": (GOOD.replace("p_b", "q_b").replace("0.9", "1").replace("0.1", "0"), "row 3|sum to"),
    "a column without a class": (GOOD.replace("p_b", "p_"), "names no class"),
    "a column twice": (GOOD.replace("p_b", "p_a"), "has the column 'p_a' twice"),
    "a row too long": (GOOD + "4.png,a,0.5,0.5,0.0\n", "no CSV file: .*saw 5"),
    "a row too short": (GOOD + "4.png,a,1\n", "row 5: p_b is ''"),
    "a sum of 1.2": (GOOD.replace("0.8", "1.0"), "row 3: its probabilities sum to 1.2, not to 1"),
    "a sum of 0": (GOOD + "4.png,a,0,0\n", "row 5: its probabilities sum to 0, not to 1"),
    "a probability below 0": (GOOD + "4.png,a,-0.1,1.1\n", "row 5: p_a is '-0.1'"),
    "a percentage": (GOOD + "4.png,a,90,10\n", "row 5: p_a is '90'; a probability is a number from 0 to 1"),
    "NaN": (GOOD + "4.png,a,nan,1\n", "row 5: p_a is 'nan'"),
    "an infinite number": (GOOD + "4.png,a,inf,0\n", "row 5: p_a is 'inf'"),
    "a word": (GOOD + "4.png,a,high,0\n", "row 5: p_a is 'high'"),
    "a comma for a point": (HEAD + '1.png,a,"0,9","0,1"\n', "row 2: p_a is '0,9'"),
    "a label of no class": (GOOD + "4.png,c,0.5,0.5\n", "row 5: label 'c' has no column 'p_c'; there are a, b"),
    "a label missing": (GOOD + "4.png,,0.5,0.5\n", "row 5: no label"),
    "a path twice": (GOOD + "1.png,b,0.5,0.5\n", "the test part has '1.png' twice"),
    "a path missing": (GOOD + ",b,0.5,0.5\n", "row 5: no path"),
    "a split that is misspelt": ("path,split,label,p_a\n1.png,tset,a,1\n", "split is 'tset'; choose from"),
    "a prediction of no class": ("label,prediction,p_a\na,c,1\n", "prediction 'c' is no class; there are a"),
    "a prediction that is not the likeliest": ("label,prediction,p_a,p_b\na,b,0.9,0.1\n", "but 'a' is more probable"),
    "a set with a slash": ("label,set,p_a\na,x/y,1\n", "set is 'x/y'; give a name without"),
    "a cell that is odd": ("label,cell,p_a\na,maybe,1\n", "cell is 'maybe'; it is found, none or empty"),
}

#: What a file is -> its content and the accuracy of its test part.
RIGHT = {
    "three rows": (GOOD, 2 / 3),
    "a byte order mark": ("\ufeff" + GOOD, 2 / 3),
    "line ends of Windows and blank lines": (GOOD.replace("\n", "\r\n\r\n"), 2 / 3),
    "rounded probabilities": (GOOD.replace("0.8", "0.7995"), 2 / 3),
    "one row": (HEAD + "1.png,a,1,0\n", 1),
    "one row that is wrong": (HEAD + "1.png,a,0,1\n", 0),
    "one class": ("label,p_a\na,1\na,1\n", 1),
    "a class that never occurs": ("label,p_a,p_b,p_c\na,0.8,0.1,0.1\nb,0.1,0.8,0.1\n", 1),
    "all wrong": (HEAD + "1.png,a,0,1\n2.png,b,1,0\n", 0),
    "all from one source": ("source,label,p_a,p_b\ns,a,1,0\ns,b,1,0\n", 0.5),
    "ties": (HEAD + "1.png,a,0.5,0.5\n2.png,b,0.5,0.5\n", 0.5),
    "numbers in other notations": (HEAD + "1.png,a,1e0,0.0e-5\n2.png,b, 1E-3 ,.999\n", 1),
    "classes of numbers and reserved words": ("label,p_1,p_null,p_NA\n1,1,0,0\nnull,0,1,0\nNA,0,0,1\n", 1),
    "markup and formulas": ("path,label,p_<b>,p_=1+1\n<i>.png,<b>,1,0\n=2+2.png,=1+1,1,0\n", 0.5),
}


def written(content, tmp_path):
    (tmp_path / "mine.csv").write_bytes(content.encode())
    return tmp_path / "mine.csv"


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_file_is_refused(kind, refused, tmp_path):
    content, words = REFUSED[kind]
    refused(GROUP, words, "evaluate", f"predictions={written(content, tmp_path)}")


@pytest.mark.parametrize("kind", RIGHT)
def test_an_odd_file_has_its_figures(kind, command, count, tmp_path):
    content, accuracy = RIGHT[kind]
    file = written(content, tmp_path)
    assert metrics_of(read_predictions(file))["test/accuracy"] == pytest.approx(accuracy)
    code, said, error = command("evaluate", f"predictions={file}", "figures=false")
    assert (code, error) == (0, "")
    assert re.search(rf"test accuracy {100 * accuracy:.1f}\s?%", said)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<i>" not in page
    assert "nan" not in page.lower().replace("finance", "")
    count(GROUP, "right")


def test_a_file_that_may_not_be_read(tmp_path, as_nobody, count):
    file = written(GOOD, tmp_path)
    file.chmod(0)
    assert "Permission denied" in as_nobody(lambda: read_predictions(file))
    count(GROUP, "refused")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of POSIX")
def test_a_device_does_not_fill_the_memory(tmp_path, refused):
    (tmp_path / "mine.csv").symlink_to("/dev/zero")
    refused(GROUP, "it is no regular file", "evaluate", f"predictions={tmp_path / 'mine.csv'}")


def test_a_table_of_many_rows_and_classes_is_read(tmp_path, count):
    generator = np.random.default_rng(0)
    chances = generator.dirichlet(np.ones(60), 3000)
    table = pd.DataFrame(chances, columns=[f"p_{i}" for i in range(60)]).assign(label=generator.integers(0, 60, 3000))
    table.to_csv(tmp_path / "mine.csv", index=False)
    assert len(read_predictions(tmp_path / "mine.csv")) == 3000
    count(GROUP, "right")
