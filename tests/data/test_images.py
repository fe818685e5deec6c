"""Reading images: every mode becomes RGB as a viewer shows it, and every bad file has a reason."""

import errno
import os
import sys
from io import BytesIO
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from bloodcell.data import images
from bloodcell.data.images import ImageError, read_image
from bloodcell.runtime.errors import BloodcellError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def quarters():
    """Four colours in four quarters, 8 x 6, so that every rotation and mirror image differs."""
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:3, :4], pixels[:3, 4:], pixels[3:, :4], pixels[3:, 4:] = RED, GREEN, BLUE, WHITE
    return pixels


def test_rgb_is_read_as_it_is_into_writable_memory(tmp_path, quarters):
    Image.fromarray(quarters).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, quarters)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), quarters)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: np.rot90(a, 2)),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, quarters, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright(quarters))


def test_damaged_exif_is_ignored(tmp_path, quarters):
    Image.fromarray(quarters).save(tmp_path / "a.jpg", exif=b"Exif\0\0nothing of the kind")
    assert read_image(tmp_path / "a.jpg").shape == (6, 8, 3)


def test_grey_has_three_equal_channels(tmp_path):
    Image.fromarray(np.array([[0, 100, 255]], np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[0] * 3, [100] * 3, [255] * 3]])


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize(("mode", "pixel"), [("RGBA", (255, 0, 0, 51)), ("LA", (0, 51))])
def test_transparent_pixels_are_put_on_white(tmp_path, mode, pixel):
    Image.new(mode, (2, 2), pixel).save(tmp_path / "a.png")
    expected = [255, 204, 204] if mode == "RGBA" else [204, 204, 204]  # a fifth of the colour, four fifths of white
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, 0], expected)


def test_a_transparent_palette_entry_is_put_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), [[BLUE, RED]])
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png"), [[WHITE, RED]])


def test_a_transparent_colour_of_an_rgb_file_is_put_on_white(tmp_path, quarters):
    Image.fromarray(quarters).save(tmp_path / "a.png", transparency=BLUE)
    pixels = read_image(tmp_path / "a.png")
    assert tuple(pixels[5, 0]) == WHITE
    assert tuple(pixels[0, 0]) == RED


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[4, 4], RED, atol=3)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled_by_256(tmp_path, ending):
    Image.fromarray(np.array([[0, 256, 0x80FF, 0xFFFF]], np.uint16)).save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}")[0, :, 0], [0, 1, 0x80, 255])


def test_big_endian_16_bit_grey(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + np.array([0, 0x1234, 0xFFFF], ">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm")[0, :, 2], [0, 0x12, 255])


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 100.7, 255, 260, -5], [0, 100, 255, 255, 0]), ([0, 0.5, 1], [0, 127, 255])]
)
def test_floating_point_is_of_0_to_255_or_of_0_to_1(tmp_path, values, expected):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0, :, 0], expected)


def test_floating_point_that_is_not_finite_is_refused(tmp_path):
    Image.fromarray(np.array([[1, np.nan]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="not finite"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", ["gif", "tif"])
def test_the_first_of_several_frames_is_read_despite_a_wrong_ending(tmp_path, ending):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    (tmp_path / f"a.{ending}").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.full((4, 4, 3), RED))


@pytest.mark.parametrize("ending", ["bmp", "webp", "ppm"])
def test_other_formats(tmp_path, quarters, ending):
    Image.fromarray(quarters).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}"), quarters)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"just words", "not an image"),
        (b"<!DOCTYPE html><html>404 Not Found</html>", "not an image"),
        (b"\xff\xd8\xff\xe0", "not an image|cannot be decoded"),
    ],
)
def test_a_file_that_is_not_an_image(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_truncated_file(tmp_path, write_image, ending):
    whole = write_image(tmp_path / f"whole.{ending}", size=(64, 64)).read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(tmp_path / f"a.{ending}")


def test_a_header_beyond_the_limit_is_refused_undecoded(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 24 * 16 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="24 x 16 pixels; the limit is 383"):
        read_image(write_image(tmp_path / "a.png"))


def test_pillows_own_limit_is_reported(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="more than 100,000,000 pixels"):
        read_image(write_image(tmp_path / "a.png"))


def test_too_little_memory_is_reported(tmp_path, write_image, monkeypatch):
    def fail(_):
        raise MemoryError

    monkeypatch.setattr(images, "rgb_of", fail)
    with pytest.raises(ImageError, match="does not fit into memory"):
        read_image(write_image(tmp_path / "a.png"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "y.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "x.jpg")
    assert issubclass(ImageError, BloodcellError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.timeout(10)
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "a.jpg")


def jpeg(size=(37, 53), seed=0, smooth=2, **options):
    """Return the bytes of a JPEG of blurred noise, height and width given."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    content = BytesIO()
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), smooth)).save(content, "jpeg", **options)
    return content.getvalue()


def by_both(content):
    """Return the results of `read_image` and of Pillow alone: shape and pixels, or the error message."""

    def made(decoder):
        try:
            with mock.patch.object(images, "_plain_jpeg", decoder):
                pixels = read_image(content)
            return pixels.shape, pixels.tobytes()
        except ImageError as error:
            return str(error)

    return made(images._plain_jpeg), made(lambda content, limit: None)


@pytest.fixture
def fast(monkeypatch):
    """Return a list with an entry for each image that the fast decoder accepts."""
    accepted, decode = [], images.simplejpeg.decode_jpeg
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", lambda *given: (decode(*given), accepted.append(1))[0])
    return accepted


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 17), (64, 48), (65, 31)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"quality": 100}])
def test_plain_jpegs_are_decoded_by_the_fast_decoder_to_pillows_pixels(fast, size, subsampling, options):
    for smooth in (0.1, 3):  # noise, where rounding shows, and something like a photograph
        found, expected = by_both(jpeg(size, smooth=smooth, subsampling=subsampling, **options))
        assert found == expected
    assert len(fast) == 2


def test_other_files_are_decoded_by_pillow(fast, tmp_path, quarters):
    turned = Image.Exif()
    turned[0x0112] = 6
    whole = Image.fromarray(quarters)
    whole.save(tmp_path / "turned.jpg", exif=turned)
    whole.convert("L").save(tmp_path / "grey.jpg")
    whole.convert("CMYK").save(tmp_path / "cmyk.jpg")
    whole.save(tmp_path / "png.jpg", "png")
    for file in tmp_path.iterdir():
        with Image.open(file) as image:
            np.testing.assert_array_equal(read_image(file), np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
    assert not fast


def test_a_very_large_jpeg_file_is_decoded_by_pillow(fast, monkeypatch, tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg())
    expected = read_image(file)
    assert fast.pop()
    monkeypatch.setattr(images, "_MOST_BYTES", file.stat().st_size)
    assert np.array_equal(read_image(file), expected)
    assert not fast


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2, "subsampling": "4:4:4"}])
def test_a_truncated_jpeg_gives_pillows_result(fast, options, capfd):
    whole = jpeg((24, 31), quality=60, **options)
    results = [by_both(whole[:length]) for length in range(len(whole))]
    assert all(found == expected for found, expected in results)
    assert sum(isinstance(found, str) for found, _ in results) >= len(whole) - 2
    assert not fast
    found, expected = by_both(whole + b"whatever follows")
    assert found == expected
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2, "subsampling": "4:4:4"}])
def test_a_damaged_jpeg_gives_pillows_result(fast, options, capfd):
    whole, generator = jpeg((24, 31), quality=90, **options), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in generator.integers(2, len(whole), generator.integers(1, 4)):
            damaged[place] = generator.choice([0, 0xD0, 0xD9, 0xFF, generator.integers(256)])
        found, expected = by_both(bytes(damaged))
        assert found == expected
    assert 20 < len(fast) < 180  # some changes are no error, and both give the same pixels
    assert capfd.readouterr() == ("", "")


def test_the_content_of_a_file_is_read_like_the_file(tmp_path, write_image):
    file = write_image(tmp_path / "a.jpg", size=(40, 30))
    np.testing.assert_array_equal(read_image(file.read_bytes()), read_image(file))
    with pytest.raises(ImageError, match=r"^40 x 30 pixels; the limit is 1,199$"):
        read_image(file.read_bytes(), max_pixels=1199)
    for content, reason in ((b"", "empty file"), (b"text", "not an image"), (file.read_bytes()[:200], "decoded")):
        with pytest.raises(ImageError, match=reason):
            read_image(content)


def test_eps_files_are_not_opened(tmp_path):
    file = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(file, "EPS")
    with pytest.raises(ImageError, match="^not an image$"):
        read_image(file)


@pytest.mark.skipif(sys.platform == "win32", reason="other errors there")
def test_errors_of_the_system_are_reported_in_its_words(tmp_path, write_image, monkeypatch):
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        read_image(tmp_path / ("x" * 300))
    with pytest.raises(ImageError, match="no such file"):
        read_image("a\0b.png")
    file = write_image(tmp_path / "a.png")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(images.Image, "open", refuse)
    with pytest.raises(ImageError, match="^cannot be read: Permission denied$"):
        read_image(file)
