"""Files with more than 8 bits, in planes, pages or with odd alpha show the picture that was saved in them."""

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image

from bloodcell.data.deep_images import declared_white
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image, read_picture
from bloodcell.data.value_range import to_8_bits, white_of


def scene():
    """Return a stained cell on a light field, uint8 (64, 48, 3)."""
    rng = np.random.default_rng(0)
    picture = np.full((64, 48, 3), 230.0) + rng.normal(0, 4, (64, 48, 3))
    picture[20:40, 10:30] = [120, 40, 140]
    return np.clip(picture, 0, 255).astype(np.uint8)


RGB = scene()
GREY = RGB[..., 1]
PLANES = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
DEEP, TWELVE = RGB.astype(np.uint16) * 257, RGB.astype(np.uint16) * 16
EMPTY, FULL = np.zeros_like(GREY), np.full_like(GREY, 255)


def channels(picture, *further):
    return np.dstack([picture, *further])


def rgb(**options):
    return {"photometric": "rgb", **options}


def white_declared(value):
    return {"extratags": [(281, "H", 1, value, True)]}


OME_12 = {"ome": True, "metadata": {"axes": "CYX", "SignificantBits": 12}}
TIFFS = {
    "8 bits in 16": (GREY, GREY.astype(np.uint16), {}),
    "colour of 8 bits in 16": (RGB, RGB.astype(np.uint16), rgb()),
    "10 bits in 16": (RGB, RGB.astype(np.uint16) * 4, rgb()),
    "12 bits in 16": (RGB, TWELVE, rgb()),
    "14 bits in 16": (GREY, GREY.astype(np.uint16) * 64, {}),
    "16 bits": (RGB, DEEP, rgb()),
    "15 bits with a sign": (GREY, GREY.astype(np.int16) * 128, {}),
    "8 bits in 32": (GREY, GREY.astype(np.uint32), {}),
    "20 bits in 32": (GREY, GREY.astype(np.uint32) * 4096, {}),
    "32 bits": (GREY, GREY.astype(np.uint32) * 0x1010101, {}),
    "8 bits in 64": (GREY, GREY.astype(np.uint64), {}),
    "declared 12 bits of a dark picture": (GREY // 8, GREY.astype(np.uint16) // 8 * 16, white_declared(4095)),
    "floating point up to 1": (RGB, (RGB / 255).astype(np.float32), rgb()),
    "floating point a little above 1": (np.clip(RGB * 1.002, 0, 255), (RGB / 255 * 1.002).astype(np.float32), rgb()),
    "floating point up to 255": (RGB, RGB.astype(float), rgb()),
    "camera counts of 12 bits": (RGB, TWELVE.astype(np.float32), rgb()),
    "camera counts of 16 bits": (GREY, GREY.astype(np.float32) * 256, {}),
    "half floating point": (GREY, (GREY / 255).astype(np.float16), {}),
    "white is zero, 16 bits": (GREY, 65535 - GREY.astype(np.uint16) * 257, {"photometric": "miniswhite"}),
    "white is zero, 12 bits": (GREY, 4095 - (GREY.astype(np.uint16) * 16 + 8), {"photometric": "miniswhite"}),
    "white is zero, floating point": (GREY, (1 - GREY / 255).astype(np.float32), {"photometric": "miniswhite"}),
    "pages of 8 bits": (RGB, PLANES, {}),
    "pages of 16 bits": (RGB, PLANES.astype(np.uint16) * 257, {}),
    "channels of ImageJ": (RGB, PLANES.astype(np.uint16) * 257, {"imagej": True, "metadata": {"axes": "CYX"}}),
    "a stack of ImageJ": (RGB[..., 0], PLANES, {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "a stack of OME": (RGB[..., 0], PLANES, {"ome": True, "metadata": {"axes": "ZYX"}}),
    "channels of OME at two times": (RGB, np.stack([PLANES, PLANES // 2]), {"ome": True, "metadata": {"axes": "TCYX"}}),
    "depths of each channel of OME": (
        RGB,
        np.stack([PLANES, PLANES // 2], axis=1).astype(np.uint16) * 257,
        {"ome": True, "metadata": {"axes": "CZYX"}},
    ),
    "channels of ImageJ in depths": (
        RGB,
        np.stack([PLANES, PLANES // 2]),
        {"imagej": True, "metadata": {"axes": "ZCYX"}},
    ),
    "OME with 12 bits": (RGB // 8, PLANES.astype(np.uint16) // 8 * 16, OME_12),
    "five pages": (GREY, np.stack([GREY] * 5), {}),
    "planes of 16 bits": (RGB, PLANES.astype(np.uint16) * 257, rgb(planarconfig="separate")),
    "compressed planes": (RGB, PLANES.astype(np.uint16) * 257, rgb(planarconfig="separate", compression="zlib")),
    "planes in strips": (RGB, PLANES.astype(np.uint16) * 257, rgb(planarconfig="separate", rowsperstrip=7)),
    "planes, big-endian": (RGB, PLANES.astype(">u2") * 257, rgb(planarconfig="separate", byteorder=">")),
    "tiles of 16 bits": (RGB, DEEP, rgb(tile=(16, 16))),
    "a channel that is no alpha": (RGB, channels(RGB, EMPTY), rgb(extrasamples=["unspecified"])),
    "a deep channel that is no alpha": (RGB, channels(DEEP, EMPTY), rgb(extrasamples=["unspecified"])),
    "two further channels": (RGB, channels(RGB, GREY, GREY), rgb()),
    "alpha of 0": (RGB, channels(RGB, EMPTY), rgb(extrasamples=["unassalpha"])),
    "alpha of 1": (RGB, channels(RGB, EMPTY + 1), rgb(extrasamples=["unassalpha"])),
    "multiplied by an alpha of 0": (RGB, channels(RGB, EMPTY), rgb(extrasamples=["assocalpha"])),
    "multiplied by a full alpha": (RGB, channels(RGB, FULL), rgb(extrasamples=["assocalpha"])),
    "deep alpha": (RGB, channels(DEEP, FULL.astype(np.uint16) * 257), rgb(extrasamples=["unassalpha"])),
    "grey and a channel that is no alpha": (GREY, channels(GREY, EMPTY), {"extrasamples": ["unspecified"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", TIFFS)
def test_tiff(tmp_path, name):
    if name.startswith("grey and") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 takes it for no image")
    picture, saved, options = TIFFS[name]
    given = options if "photometric" in options or "imagej" in options else {"photometric": "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", saved, **given)
    expected = np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").astype(int), expected.astype(int), atol=1)


@pytest.mark.parametrize("factor", [1, 16, 257])
@pytest.mark.parametrize("kind", ["png", "png with alpha", "ppm", "pgm", "pgm of 12 bits"])
def test_png_and_pnm(tmp_path, kind, factor):
    file, deep = tmp_path / f"a.{kind[:3]}", RGB.astype(np.uint16) * factor
    if kind.startswith("png"):
        further = [np.full_like(GREY, 65535, np.uint16)] if "alpha" in kind else []
        cv2.imwrite(str(file), channels(deep[..., ::-1], *further))
    else:
        deep = deep if kind == "ppm" else deep[..., 1]
        most = 4095 if "12" in kind and factor == 16 else 65535
        header = f"P{6 if kind == 'ppm' else 5}\n# made by a camera\n48 64\n{most}\n".encode()
        file.write_bytes(header + deep.astype(">u2").tobytes())
    expected = RGB if kind.startswith(("png", "ppm")) else np.stack([GREY] * 3, axis=-1)
    np.testing.assert_array_equal(read_image(file), expected)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressions_of_16_bits(tmp_path, compression):
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], GREY)


@pytest.mark.parametrize("kind", ["png", "webp", "bmp", "LA"])
def test_alpha_that_is_0_everywhere_hides_nothing(tmp_path, kind):
    if kind == "LA":
        Image.fromarray(channels(GREY, EMPTY), "LA").save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 2], GREY)
        return
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    Image.fromarray(channels(RGB, EMPTY)).save(tmp_path / f"a.{kind}", **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{kind}"), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_like_others(tmp_path, orientation):
    tag = [(274, "H", 1, orientation, True)]
    for name, saved in (("a", RGB), ("b", DEEP)):
        tifffile.imwrite(tmp_path / f"{name}.tif", saved, photometric="rgb", extratags=tag)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), read_image(tmp_path / "a.tif"))


def test_orientation_that_only_xmp_names(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=95, xmp=xmp)
    Image.fromarray(RGB).save(tmp_path / "b.jpg", quality=95)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.rot90(read_image(tmp_path / "b.jpg"), -1))


def test_a_broken_pixel_does_not_make_the_picture_black(tmp_path):
    deep = GREY.astype(np.uint16) * 16
    deep[0, 0] = 65535
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[1:, :, 0], GREY[1:])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((RGB / 127.5 - 1).astype(np.float32), "pixel values from -0.6863 to 0.8902: black is not known"),
        ((GREY.astype(np.int32) * 257 - 32768).astype(np.int16), "black is not known"),
        (np.zeros((8, 8, 6), np.uint16), "6 channels; save an RGB image"),
        (np.full((8, 8), np.nan, np.float32), "not finite"),
    ],
)
def test_values_without_a_known_meaning_are_refused(tmp_path, values, reason):
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if values.ndim == 3 else "minisblack")
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "a.tif")


def test_a_truncated_deep_file_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="rgb", rowsperstrip=8)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-500])
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.tif")


def test_the_white_of_a_data_set_keeps_a_dark_picture_dark(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16) * 4, photometric="minisblack")
    assert read_picture(tmp_path / "a.tif").white == 1023
    picture = read_picture(tmp_path / "a.tif", white=4095)
    assert picture.white == 4095
    np.testing.assert_array_equal(picture.pixels[..., 0], GREY // 4)
    tifffile.imwrite(
        tmp_path / "b.tif",
        GREY.astype(np.uint16) // 4 * 4,
        photometric="minisblack",
        extratags=[(281, "H", 1, 1023, True)],
    )
    assert read_picture(tmp_path / "b.tif", white=4095).white is None  # it is declared
    Image.fromarray(RGB).save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_image(tmp_path / "c.png", white=4095), RGB)


@pytest.mark.parametrize(
    ("highest", "dtype", "white"),
    [(255, np.uint16, 255), (260, np.uint16, 255), (300, np.uint16, 1023), (4095, np.uint16, 4095),
     (20000, np.uint16, 65535), (20000, np.int16, 32767), (70000, np.uint32, 131071), (1.0, np.float32, 1),
     (1.4, np.float32, 1), (3.0, np.float32, 255), (255.0, np.float64, 255), (4095.0, np.float32, 4095)],
)  # fmt: skip
def test_the_smallest_usual_white_that_holds_the_values(highest, dtype, white):
    values = np.linspace(0, highest, 100).astype(dtype)
    assert white_of(values) == white
    assert to_8_bits(values, white)[-1] == min(255, int(highest * (256 / (white + 1) if white > 255 else 255 / white)))


@pytest.mark.parametrize("bits", ["0", "17", "99", "4000000000"])
def test_senseless_bits_that_a_file_declares_are_ignored(tmp_path, bits):
    metadata = {"axes": "CYX", "SignificantBits": 12}
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES.astype(np.uint16) * 16, ome=True, metadata=metadata)
    content = (tmp_path / "a.ome.tif").read_bytes()
    assert content.count(b'SignificantBits="12"') == 1
    text = f'SignificantBits="{bits}"'.encode()
    room = len(b'SignificantBits="12" ') - len(text)  # the text keeps its length at the cost of what follows
    start = content.index(b'SignificantBits="12"')
    changed = (
        content[:start] + text + content[start + len(text) :]
        if room < 0
        else content.replace(b'SignificantBits="12"', text.ljust(len(b'SignificantBits="12"')))
    )
    np.testing.assert_array_equal(read_picture(changed).pixels, RGB)


def test_a_header_of_blanks_takes_no_time():
    with pytest.raises(ImageError):
        read_image(b"P5" + b" " * 990 + b"x")
    assert declared_white(b"P5" + b" " * 990 + b"x") is None
