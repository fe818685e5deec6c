"""Whatever a file holds, reading it gives a picture or a reason, the same from disk and from memory."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bloodcell.data.images import read_image
from tests.properties.attempts import attempt

#: Damaged headers may name sizes that take seconds.
LIMIT = 200_000

FORMATS = {
    "jpeg": {"format": "JPEG"},
    "progressive": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "gif": {"format": "GIF"},
    "tiff": {"format": "TIFF"},
    "lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "webp": {"format": "WEBP"},
    "lossless": {"format": "WEBP", "lossless": True},
    "ppm": {"format": "PPM"},
}


def saved(pixels, **options):
    """Return a picture as a file's content."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **options)
    return content.getvalue()


def picture(height, width, seed, grey=False):
    """Return a seeded picture, smooth with some noise, so that every part of a codec has work."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(generator.uniform(0, 0.7) * x + generator.uniform(0, 0.7) * y) for _ in range(3)]
    pixels = np.clip(np.dstack(waves) + generator.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    return pixels[..., 0] if grey else pixels


def outcome(given, **limit):
    """Return a file's pixels, or the reason why there are none; anything else is an error of the reader's."""
    pixels, reason = attempt(read_image, given, **limit)
    if reason is not None:
        assert len(reason.splitlines()) == 1
        return reason
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    return pixels


def assert_same_from_disk(content):
    """Assert that a file and its content come to the same."""
    from_memory = outcome(content, max_pixels=LIMIT)
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, "x.jpg")).write_bytes(content)
        from_disk = outcome(file, max_pixels=LIMIT)
    if isinstance(from_memory, str):
        assert isinstance(from_disk, str)
        assert folder not in from_disk
    else:
        np.testing.assert_array_equal(from_disk, from_memory)


CONTENTS = {name: saved(picture(18, 23, 3), **options) for name, options in FORMATS.items()}


@given(st.binary(max_size=300), st.sampled_from([b"", *(content[:12] for content in CONTENTS.values())]))
def test_any_bytes(tail, start):
    assert_same_from_disk(start + tail)


edits = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=6)


@given(st.sampled_from(sorted(CONTENTS)), edits, st.floats(0.05, 1), st.binary(max_size=20))
def test_a_damaged_file(name, changes, kept, tail):
    content = bytearray(CONTENTS[name])
    for place, new in changes:
        at = int(place * (len(content) - 1))
        content[at : at + len(new)] = new
    assert_same_from_disk(bytes(content[: max(1, int(kept * len(content)))]) + tail)


@given(st.sampled_from(sorted(CONTENTS)), st.integers(0, 60), st.binary(min_size=1, max_size=2))
def test_a_damaged_header(name, at, new):
    content = bytearray(CONTENTS[name])
    content[at : at + len(new)] = new
    assert_same_from_disk(bytes(content))


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(0, 99), st.integers(1, 100), st.booleans(), st.booleans(),
    st.sampled_from([0, 1, 2]), st.integers(0, 8),
)  # fmt: skip
def test_a_jpeg_is_what_pillow_makes_of_it(height, width, seed, quality, grey, progressive, subsampling, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    content = saved(
        picture(height, width, seed, grey), format="JPEG", quality=quality, progressive=progressive,
        subsampling=subsampling, exif=exif,
    )  # fmt: skip
    with Image.open(io.BytesIO(content)) as image:
        expected = np.array(image.convert("RGB"))
    turned = {
        2: expected[:, ::-1], 3: expected[::-1, ::-1], 4: expected[::-1], 5: expected.transpose(1, 0, 2),
        6: np.rot90(expected, -1), 7: expected[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(expected),
    }  # fmt: skip
    np.testing.assert_array_equal(outcome(content), turned.get(turn, expected))


@pytest.mark.parametrize("name", ["png", "bmp", "tiff", "lzw", "lossless", "ppm"])
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_what_is_kept_without_loss_is_read_as_it_was(name, height, width, seed):
    pixels = picture(height, width, seed)
    np.testing.assert_array_equal(outcome(saved(pixels, **FORMATS[name])), pixels)
