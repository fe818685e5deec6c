"""TIFF files of several pictures: which is read, and that the others are told."""

import numpy as np
import pytest
import tifffile

from bloodcell.data.image_limits import ImageError
from bloodcell.data.image_pages import other_pictures, pages_note
from bloodcell.data.images import read_image

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
THREE = np.stack([PICTURE, PICTURE // 2, PICTURE // 3])
PLANES = np.moveaxis(THREE, -1, 1)  # times, channels


def written(file, values, photometric="minisblack", **options):
    tifffile.imwrite(file, values, photometric=photometric, **options)
    return file


@pytest.mark.parametrize(
    ("others", "values", "options"),
    [
        (0, PICTURE, {"photometric": "rgb"}),
        (2, THREE, {"photometric": "rgb"}),
        (2, THREE, {"photometric": "rgb", "ome": True, "metadata": {"axes": "ZYXS"}}),
        (2, THREE, {"photometric": "rgb", "imagej": True, "metadata": {"axes": "ZYXS"}}),
        (0, PLANES[0], {}),
        (2, PLANES, {"ome": True, "metadata": {"axes": "TCYX"}}),
        (2, PLANES, {"imagej": True, "metadata": {"axes": "ZCYX"}}),
        (2, PLANES[:, 0], {"ome": True, "metadata": {"axes": "ZYX"}}),
    ],
)
def test_pictures_that_are_not_read_are_counted(tmp_path, others, values, options):
    assert other_pictures(written(tmp_path / "a.tif", values, **options)) == others


def test_smaller_pages_are_no_further_pictures(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PICTURE, photometric="rgb")
        file.write(PICTURE[::2, ::2], photometric="rgb", subfiletype=1)
    assert other_pictures(tmp_path / "a.tif") == 0


@pytest.mark.parametrize("content", [b"", b"II*\0\x08\0\0\0", b"no TIFF"])
def test_a_damaged_file_has_none(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    assert other_pictures(tmp_path / "a.tif") == 0


def test_channels_that_are_no_colours_are_refused(tmp_path):
    file = written(tmp_path / "a.ome.tif", PLANES[0, :2], ome=True, metadata={"axes": "CYX"})
    with pytest.raises(ImageError, match="2 channels that are no colours; save an RGB image"):
        read_image(file)


def test_the_note_names_the_first_of_them(tmp_path):
    files = [
        written(tmp_path / "a.tif", PICTURE, "rgb"),
        written(tmp_path / "b.tif", THREE, "rgb"),
        written(tmp_path / "c.tiff", THREE, "rgb"),
        tmp_path / "d.png",
    ]
    note = pages_note(files)
    assert note.startswith(f"2 TIFF files with several pages, of which the first is read, e.g. {files[1]} with 2 more;")
    assert pages_note(files[:1]) == ""
