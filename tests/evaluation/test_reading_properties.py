"""A predictions table comes back as it was written, and a damaged one gives one line or a table that is sound."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.errors import BloodcellError
from bloodcell.evaluation.predictions import classes_of, matrix_of, metrics_of, predictions_table
from bloodcell.evaluation.reading import TOLERANCE, read_predictions
from bloodcell.files import write_csv

#: Text without what the reader strips, and what no file can hold.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff\\"),
    min_size=1,
    max_size=9,
)


@st.composite
def tables(draw):
    """Draw a predictions table."""
    classes = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    count = draw(st.integers(1, 6))
    weights = draw(
        st.lists(
            st.lists(st.floats(0.01, 1), min_size=len(classes), max_size=len(classes)), min_size=count, max_size=count
        )
    )
    samples = pd.DataFrame(
        {
            "path": draw(st.lists(TEXT, min_size=count, max_size=count, unique=True)),
            "split": draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=count, max_size=count)),
            "source": draw(st.lists(st.one_of(st.just(""), TEXT), min_size=count, max_size=count)),
            "label": draw(st.lists(st.sampled_from(classes), min_size=count, max_size=count)),
        }
    )
    chances = np.array(weights)
    return predictions_table(samples, classes, chances / chances.sum(axis=1, keepdims=True))


def sound_or_refused(file):
    """Read a file; assert that it is a sound table, or one line."""
    try:
        table = read_predictions(file)
    except BloodcellError as error:
        assert len(str(error).splitlines()) == 1
        return
    classes = classes_of(table)
    assert len(table) > 0
    assert set(table["label"]) <= set(classes)
    assert set(table["prediction"]) <= set(classes)
    assert np.isfinite(matrix_of(table)).all()
    assert (abs(matrix_of(table).sum(axis=1) - 1) <= TOLERANCE * 1.01).all()
    assert not table.duplicated([name for name in ("split", "set", "path") if name in table]).any()
    assert all(np.isfinite(value) for value in metrics_of(table).values())


@given(table=tables())
@settings(max_examples=60)
def test_what_was_written_is_read(table, tmp_path_factory):
    file = tmp_path_factory.mktemp("tables") / "mine.csv"
    write_csv(table, file)
    pd.testing.assert_frame_equal(read_predictions(file), table, check_exact=True)


@given(table=tables(), changes=st.lists(st.tuples(st.integers(0, 9999), st.binary(max_size=3)), min_size=1, max_size=6))
@settings(max_examples=120)
def test_a_damaged_file_is_sound_or_refused(table, changes, tmp_path_factory):
    file = tmp_path_factory.mktemp("tables") / "mine.csv"
    write_csv(table, file)
    content = file.read_bytes()
    for place, new in changes:
        start = place % (len(content) + 1)
        content = content[:start] + new + content[start + len(new) // 2 :]
    file.write_bytes(content)
    sound_or_refused(file)


@given(
    table=tables(),
    where=st.integers(0, 999),
    new=st.sampled_from(["", "nan", "-1", "2", "x", "0.5", '"', "a,b", "\n", "1e999", "٣"]),
)
@settings(max_examples=120)
def test_a_changed_cell_is_sound_or_refused(table, where, new, tmp_path_factory):
    file = tmp_path_factory.mktemp("tables") / "mine.csv"
    text = table.astype(str)
    text.iloc[where % len(text), where % text.shape[1]] = new
    text.to_csv(file, index=False)
    sound_or_refused(file)


@given(content=st.binary(max_size=200))
@settings(max_examples=80)
def test_any_bytes_are_sound_or_refused(content, tmp_path_factory):
    file = tmp_path_factory.mktemp("tables") / "mine.csv"
    file.write_bytes(content)
    sound_or_refused(file)
