"""Predictions are read as they were written; a damaged file is refused, or a table of which every rule holds."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.metrics.parts import count_parts
from bloodcell.metrics.predictions import classes_of, matrix_of, predictions_table
from bloodcell.metrics.predictions_csv import TOLERANCE, read_predictions, write_predictions
from bloodcell.metrics.summary import metrics_of
from tests.properties.attempts import attempt

#: Text as it can stand in a cell; spaces at its ends and backslashes in paths are not kept.
words = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), min_size=1, max_size=8)
    .map(str.strip)
    .filter(bool)
)


@st.composite
def tables(draw):
    """Draw a predictions table."""
    classes = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    paths = draw(st.lists(words, min_size=1, max_size=8, unique=True))
    count = len(paths)
    cells = {
        "path": paths,
        "split": draw(st.lists(st.sampled_from(["val", "test"]), min_size=count, max_size=count)),
        "source": draw(st.lists(st.just("") | words, min_size=count, max_size=count)),
        "label": draw(st.lists(st.sampled_from(classes), min_size=count, max_size=count)),
    }
    raw = draw(
        st.lists(
            st.lists(st.floats(0.001, 1), min_size=len(classes), max_size=len(classes)), min_size=count, max_size=count
        )
    )
    chances = np.array(raw) / np.array(raw).sum(axis=1, keepdims=True)
    return predictions_table(pd.DataFrame(cells), classes, chances)


def read_bytes(content):
    """Return what is read of a file of this content."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.csv").write_bytes(content)
        return read_predictions(Path(folder, "x.csv"))


@settings(max_examples=50)
@given(tables())
def test_what_was_written_is_read(table):
    with tempfile.TemporaryDirectory() as folder:
        write_predictions(table, Path(folder, "x.csv"))
        pd.testing.assert_frame_equal(
            read_predictions(Path(folder, "x.csv")), table, check_exact=True, check_dtype=False
        )


PLAIN = (
    b"path,split,source,label,prediction,p_a,p_b\nx,val,s,a,a,0.7,0.3\ny,test,t,b,b,0.25,0.75\nz,test,,a,b,0.4,0.6\n"
)
pieces = st.sampled_from([b"", b",", b"\n", b'"', b"9", b"-", b"\xff", b"\0", b"nan", b"e9", b";", b"\r", b"p_"])
damages = st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 3), pieces), min_size=1, max_size=4)


@given(damages)
def test_a_damaged_file_is_refused_or_makes_sense(changes):
    content = bytearray(PLAIN)
    for at, removed, new in changes:
        content[at : at + removed] = new
    table, refusal = attempt(read_bytes, bytes(content))
    if refusal:
        return
    classes, chances = classes_of(table), matrix_of(table)
    assert len(table) >= 1
    assert set(table["label"]) | set(table["prediction"]) <= set(classes)
    assert np.isfinite(chances).all()
    assert ((chances >= 0) & (chances <= 1 + TOLERANCE)).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=TOLERANCE * 1.01)
    assert not table.duplicated(["split", "path"]).any()
    assert all(value is None or np.isfinite(value) for value in metrics_of(table).values())
    count_parts(table["label"], table["prediction"], table["path"])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_make_sense(content):
    table, refusal = attempt(read_bytes, content)
    assert refusal or set(table["label"]) <= set(classes_of(table))
