import cv2
import numpy as np
import pytest

from bloodcell.audits import groups
from bloodcell.audits.clusters import agreeing_components
from bloodcell.audits.geometry import align, plausible
from bloodcell.audits.keypoints import KEYPOINTS, RECORD, descriptors_of, extract, mirror
from bloodcell.audits.nuclei import FIELD, NUCLEUS, OUTSIDE, Cells, compare_cells, field_map
from bloodcell.audits.visual_words import Index, Vocabulary, strongest
from bloodcell.data.synthetic.painter import paint_photograph


@pytest.fixture(scope="module")
def photograph():
    return paint_photograph("NEUTROPHIL", np.random.default_rng(1))[0]


def record(folder, picture):
    path = folder / "picture.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    return extract(path)


def test_mirrored_descriptors_are_those_of_the_mirror_image(tmp_path, photograph):
    straight, flipped = record(tmp_path, photograph), record(tmp_path, photograph[:, ::-1])
    cosine = descriptors_of(straight, mirrored=True) @ descriptors_of(flipped).T
    assert np.median(cosine.max(axis=1)) > 0.99
    assert align(straight, flipped).inliers == 0
    assert align(mirror(straight), flipped).inliers > 150


def test_alignment_finds_the_map(tmp_path, photograph):
    turned = cv2.getRotationMatrix2D((160, 120), 20, 1)
    copy = cv2.warpAffine(photograph, turned, (320, 240))
    found = align(record(tmp_path, photograph), record(tmp_path, copy))
    assert found.inliers > 60
    np.testing.assert_allclose(found.matrix, turned, atol=0.5)


@pytest.mark.parametrize(
    ("linear", "rigid", "expected"),
    [
        ([[1, 0], [0, 1]], True, True),
        ([[0, -1], [1, 0]], True, True),
        ([[-1, 0], [0, 1]], False, False),  # a mirror image
        ([[1, 0.4], [0, 1]], True, False),  # sheared
        ([[1, 0.4], [0, 1]], False, True),
        ([[3, 0], [0, 3]], False, False),
        ([[0.3, 0], [0, 0.3]], False, False),
    ],
)
def test_plausible_maps(linear, rigid, expected):
    assert plausible(np.array([[*linear[0], 5], [*linear[1], -5]], float), rigid) is expected


def test_field_map_has_fill_field_and_nucleus(photograph):
    picture = photograph.copy()
    picture[:40] = 0
    outside, places = field_map(picture)
    assert places.shape == (60, 80)
    assert outside[:40].all()
    assert not outside[40:].any()
    assert (places[:9] == OUTSIDE).all()
    assert np.isin(places[11:], (FIELD, NUCLEUS)).all()
    assert 20 < (places == NUCLEUS).sum() < 1500


def places(x, y):
    field = np.full((60, 80), FIELD, np.uint8)
    cv2.circle(field, (x, y), 8, NUCLEUS, -1)
    return field


@pytest.mark.parametrize(
    ("first", "second", "shift", "expected"),
    [
        ((20, 20), (30, 25), (40, 20), Cells.SAME),
        ((20, 20), (60, 40), (0, 0), Cells.DIFFERENT),
        ((70, 20), (10, 40), (200, 0), Cells.UNKNOWN),  # both nuclei outside the overlap
    ],
)
def test_nuclei_distinguish_cells(first, second, shift, expected):
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], float)
    assert compare_cells(places(*first), places(*second), matrix) is expected


@pytest.mark.parametrize(
    ("first", "second", "shift", "expected"),
    [
        ([(40, 30), (60, 34)], [(20, 26), (40, 30)], (-80, -16), Cells.NEIGHBOURS),  # crops around two cells
        ([(40, 30), (60, 34)], [(41, 31), (61, 35)], (4, 4), Cells.SAME),  # two crops around one cell
        ([(60, 34), (20, 26)], [(40, 30)], (-80, -16), Cells.SAME),  # the first is not around a cell
    ],
)
def test_crops_around_two_cells_of_one_field_are_neighbours(first, second, shift, expected):
    maps = []
    for cells in (first, second):
        maps.append(np.max([places(*cell) for cell in cells], axis=0))
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], float)
    assert compare_cells(*maps, matrix) is expected


def test_neighbours_are_not_joined_by_many_key_points():
    edges = np.array([(0, 1, 144, Cells.NEIGHBOURS), (1, 2, 144, Cells.SAME)], groups.EDGE)
    assert groups.components(3, edges).tolist() == [0, 1, 1]


def components(nodes, edges, certain=60):
    first, second, weight, supports = (np.array(column) for column in zip(*edges, strict=True))
    return agreeing_components(nodes, first, second, weight, supports, certain).tolist()


TRIANGLES = [(a, b, 90, True) for a, b in [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]]


def test_single_wrong_edge_does_not_join_groups():
    assert components(6, [*TRIANGLES, (2, 3, 20, True)]) == [0, 0, 0, 1, 1, 1]


def test_two_edges_of_one_image_do_not_join_groups():
    assert components(6, [*TRIANGLES, (2, 3, 20, True), (2, 4, 20, True)]) == [0, 0, 0, 1, 1, 1]


def test_two_independent_edges_join_groups():
    assert components(6, [*TRIANGLES, (2, 3, 20, True), (1, 4, 20, True)]) == [0] * 6


def test_more_opposing_than_supporting_edges_prevent_a_join():
    edges = [(2, 3, 20, True), (1, 4, 20, True), (0, 3, 30, False), (0, 5, 30, False)]
    assert components(6, [*TRIANGLES, *edges]) == [0, 0, 0, 1, 1, 1]


def test_certain_edge_and_lone_image_join():
    assert components(6, [*TRIANGLES, (2, 3, 80, True)]) == [0] * 6
    assert components(3, [(0, 1, 90, True), (1, 2, 12, True)]) == [0, 0, 0]


def test_index_votes_for_the_image_itself():
    rng = np.random.default_rng(0)
    records = np.zeros(100, RECORD)
    records["count"] = 40
    records["descriptors"] = rng.integers(0, 256, (100, KEYPOINTS, 128), np.uint8)
    descriptors = descriptors_of(records)
    assert descriptors.shape == (4000, 128)
    vocabulary = Vocabulary(descriptors, 100)
    words = vocabulary.words(descriptors)
    assert words.min() >= 0
    assert words.max() < vocabulary.size
    votes = Index(vocabulary, [records[:30], records[30:]]).votes(records)
    assert [best[0] for best in strongest(votes, 3)] == list(range(100))
