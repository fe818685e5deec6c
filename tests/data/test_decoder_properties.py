"""Whatever bytes are called an image, reading them gives a picture or a reason, and never anything else."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bloodcell.data.images import ImageError, read_image
from bloodcell.data.transforms import Preprocessing
from bloodcell.errors import BloodcellError

FORMATS = ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF"]
MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"]


def encoded(format, mode="RGB", size=(23, 17), seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    grey = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    image = grey if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


WHOLE = {format: encoded(format, "P" if format == "GIF" else "RGB") for format in FORMATS}
WHOLE["progressive JPEG"] = encoded("JPEG", progressive=True)
WHOLE["grey JPEG"] = encoded("JPEG", "L")
WHOLE["PNG with a palette"] = encoded("PNG", "P")
WHOLE["TIFF by LZW"] = encoded("TIFF", compression="tiff_lzw")
WHOLE["lossless WebP"] = encoded("WEBP", lossless=True)
EXIF = Image.Exif()
EXIF[0x0112] = 6
WHOLE["JPEG with EXIF"] = encoded("JPEG", exif=EXIF)


def picture_or_reason(content):
    """Read bytes; assert that it is a picture, or one line."""
    try:
        pixels = read_image(content)
    except ImageError as error:
        reason = str(error)
        assert reason
        assert len(reason.splitlines()) == 1
        return reason
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 not in pixels.shape
    assert pixels.flags.writeable
    return pixels


@given(st.binary(max_size=300), st.sampled_from([b"", *(content[:20] for content in WHOLE.values())]))
@settings(max_examples=300)
def test_random_bytes_are_refused(content, beginning):
    picture_or_reason(beginning + content)


@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=400)
def test_a_changed_file_gives_a_picture_or_a_reason(name, changes):
    content = bytearray(WHOLE[name])
    for position, value in changes:
        content[position % len(content)] = value
    picture_or_reason(bytes(content))


@given(st.sampled_from(sorted(WHOLE)), st.data())
@settings(max_examples=200)
def test_a_file_that_lost_gained_or_repeats_bytes(name, data):
    content = WHOLE[name]
    first, last = sorted(data.draw(st.integers(0, len(content)), "place") for _ in range(2))
    middle = data.draw(st.sampled_from([b"", b"\0" * 50, content[first:last] * 2]), "in place of it")
    picture_or_reason(content[:first] + middle + content[last:])


@given(
    st.sampled_from(["PNG", "TIFF", "BMP", "WEBP", "JPEG", "PPM"]),
    st.sampled_from(MODES),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 99),
)
@settings(max_examples=150)
def test_a_whole_file_is_what_pillow_makes_of_it(format, mode, size, seed):
    options = {"lossless": True} if format == "WEBP" else {}
    try:
        content = encoded(format, mode, size, seed, **options)
    except (OSError, ValueError, KeyError):  # the format has no such mode
        return
    pixels = picture_or_reason(content)
    assert pixels.shape == (size[1], size[0], 3)
    with Image.open(io.BytesIO(content)) as image:
        if "A" in image.mode or image.mode.startswith("I"):
            return
        np.testing.assert_allclose(pixels.astype(int), np.asarray(image.convert("RGB")), rtol=0, atol=1)


@given(
    st.sampled_from(["L", "RGB", "CMYK"]),
    st.sampled_from([0, 1, 2]),
    st.integers(1, 100),
    st.booleans(),
    st.integers(1, 8),
)
@settings(max_examples=100)
def test_every_jpeg_is_the_one_that_pillow_reads(mode, subsampling, quality, progressive, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(
        "JPEG", mode, (19, 11), 1, subsampling=subsampling, quality=quality, progressive=progressive, exif=exif
    )
    from PIL import ImageOps

    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_allclose(picture_or_reason(content).astype(int), expected, rtol=0, atol=1)


@given(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 4)),
    st.sampled_from(["uint8", "int8", "float32", "bool", "object"]),
)
@settings(max_examples=60)
def test_any_array_is_the_nets_input_or_refused(shape, dtype):
    array = np.zeros(shape, dtype)
    if dtype == "uint8" and shape[2] == 3 and 0 not in shape:
        assert Preprocessing(16, crop="cell").pixels(array).shape == (16, 16, 3)
        return
    with pytest.raises(BloodcellError, match="an image array is uint8"):
        Preprocessing(16, crop="cell").pixels(array)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5), st.floats(1, 10))
@settings(max_examples=60)
def test_a_cell_is_cut_out_of_pictures_of_any_shape(width, height, seed, factor):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = (90, 20, 200)
    taken, square = Preprocessing(16, crop="cell", crop_size=factor).taken(pixels)
    assert taken.shape == (16, 16, 3)
    assert square is None or square[2] >= 1
