"""Fields in which the finder is sure of no cell: all their cells are flagged."""

import numpy as np
import pytest

import bloodcell
from bloodcell.data.cells import Cell, doubtful, find_cells
from bloodcell.data.slide_tiles import Plan, TileCells
from bloodcell.inference import ensemble as ensembles
from bloodcell.inference import reader
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.fields.slide_parts import SlidePart
from bloodcell.inference.loader import load_engines
from bloodcell.models.ood import Limits
from tests.benchmarks.unlike import blank, everyday
from tests.painted import field


@pytest.fixture
def doubted(learnt_run, monkeypatch):
    """Predict pictures in which the finder sees cells of scores that follow from the brightness: doubted(items)."""
    scores = {10: [0.9, 0.5], 20: [], 30: [0.55, 0.3], 40: [0.7]}
    (engine,) = load_engines(learnt_run, "cpu")
    width = engine.classifier.net.width
    flags_nothing = Limits(np.zeros((len(engine.classes), width)), np.zeros((width, 1)), 1.0, {})

    def seen(picture):
        return [Cell(4, 4, 30, 30, score) for score in scores[int(picture[0, 0, 0])]]

    def tiles_of(_plan, _tiles):
        yield TileCells(picture := np.full((60, 60, 3), 30, np.uint8), seen(picture), seen(picture))

    def run(items, limits=flags_nothing):
        engine.limits = limits
        (group,) = Ensemble([engine], "none", "all").predict([items], len(items), threads=1)
        return group

    monkeypatch.setattr(ensembles, "find_cells", seen)
    monkeypatch.setattr(ensembles, "cells_of", tiles_of)
    return run


def test_cells_of_a_picture_without_a_sure_one_are_flagged(doubted, tmp_path):
    pictures = [np.full((60, 60, 3), brightness, np.uint8) for brightness in (10, 20, 30, 40)]
    bad = tmp_path / "none.jpg"
    bad.write_text("no image")
    group = doubted([*pictures[:3], str(bad), pictures[3]])
    assert group.unlike.tolist() == [False, False, True, True, False]
    assert doubted(pictures, limits=None).unlike is None


def test_cells_of_a_part_of_a_slide_are_not_flagged_by_its_scores(doubted):
    plan = Plan("slide.tif", 0, (60, 60), 30.0, 0, (), 1, "")
    group = doubted([SlidePart("slide.tif", plan=plan, tiles=((0, 0, 60, 60),))])
    assert group.unlike.tolist() == [False, False]


def test_what_is_no_blood_is_flagged_in_fields_too():
    pictures = [*blank(), *everyday()]
    table = bloodcell.load(reader.FILE, device="cpu").predict(pictures, cells="all")
    assert 5 <= len(table) <= 20  # cut-outs of a flower, noise and waves
    assert table["unlike"].all()
    assert not any(doubtful(find_cells(field(number))) for number in range(3))
