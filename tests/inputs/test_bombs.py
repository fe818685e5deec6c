"""Small files that would take minutes or gigabytes: refused by their parts, or decoded within 30 s and a gigabyte."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from bloodcell.data.image_limits import MAX_BYTES, ImageError
from bloodcell.data.image_parts import MOST_SCANS
from bloodcell.data.images import read_image
from tests.inputs.pictures.making import encoded, scene
from tests.inputs.pictures.png import chunk
from tests.inputs.pictures.simple import bmp
from tests.inputs.test_pictures import PEAK

pytestmark = [pytest.mark.inputs, pytest.mark.timeout(300, func_only=True)]

SMALL = Image.fromarray(scene((16, 16)))


def segment(marker, data=b""):
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data


def progressive(side, scans):
    """Return a progressive JPEG with further scans, each of which refines nothing of any block."""
    content = encoded("JPEG", Image.new("L", (side, side), 128), progressive=True)
    runs = -(-(((side + 7) // 8) ** 2) // 32767)
    bits = ("00" + "1" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    table = segment(0xC4, bytes([0x10, 0, 1, *[0] * 14, 0xE0]))  # the code 00: a run of 2^14 and more empty blocks
    return content[:-2] + table + (segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + data) * scans + b"\xff\xd9"


def jpeg(marker, count, data=b""):
    content = encoded("JPEG", SMALL)
    return content[:2] + segment(marker, data) * count + content[2:]


def png(kind, count, data=b"", at=33):
    content = encoded("PNG", SMALL)
    at = at if at > 0 else len(content) + at
    return content[:at] + chunk(kind, data) * count + content[at:]


def gif(blocks):
    content = encoded("GIF", SMALL)
    at = 13 + 3 * (2 << (content[10] & 7))
    return content[:at] + blocks + content[at:]


def run_lengths(data, side=10_000):
    return bmp(side, side, 8, data, 1, bytes(1024))


def tiff(bits, compression, strips, data, width=1000):
    """Return a TIFF file whose strips of one row are all the same bytes."""
    end = 8 + len(data)
    body = data + struct.pack("<I", 8) * strips + struct.pack("<I", len(data)) * strips
    tags = [(256, 4, 1, width), (257, 4, 1, strips), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1),
            (273, 4, strips, end), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, strips, end + 4 * strips)]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + directory + bytes(4)


def tiles(side):
    count = side**2
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1),
            (322, 4, 1, 1), (323, 4, 1, 1), (324, 4, count, 12), (325, 4, count, 12 + 4 * count)]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    body = bytes(4) + struct.pack("<I", 8) * count + struct.pack("<I", 1) * count
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + directory + bytes(4)


EXIF = b"Exif\0\0" + bytes(200)
PROFILE = b"a\0\0" + zlib.compress(bytes(10**6))
BOMBS = {  # what takes long -> the file, and the words of its refusal
    "scans": (lambda: progressive(3000, 5000), "50 scans"),
    "scans behind an end mark in a comment": (
        lambda: progressive(3000, 5000).replace(b"\xff\xc4", segment(0xFE, b"\xff\xd9") + b"\xff\xc4"), "50 scans",
    ),
    "EXIF segments": (lambda: jpeg(0xE1, 20_000, EXIF), "500 segments"),
    "comments of a JPEG": (lambda: jpeg(0xFE, 400_000), "500 segments"),
    "fill bytes of a JPEG": (lambda: b"\xff\xd8" + b"\xff" * 10**7 + encoded("JPEG", SMALL)[2:], "500 segments"),
    "text chunks": (lambda: png(b"tEXt", 10**6, b"a\0b"), "5,000 chunks"),
    "colour profiles": (lambda: png(b"iCCP", 20_000, PROFILE), "5,000 chunks"),
    "chunks behind the pixels": (lambda: png(b"abCd", 10**6, at=-12), "5,000 chunks"),
    "empty chunks of pixels": (lambda: png(b"IDAT", 10**6, at=-12), "200,000 chunks of pixels"),
    "comments of a GIF": (lambda: gif(b"!\xfe\1a\0" * 10**6), "10,000 blocks"),
    "blocks of one comment": (lambda: gif(b"!\xfe" + (b"\xff" + bytes(255)) * 10**5 + b"\0"), "10,000 blocks"),
    "bytes between the blocks of a GIF": (lambda: gif(b"x" * 10**7), "10,000 blocks"),
    "one pixel a line": (lambda: run_lengths(b"\1\0\0\0" * 10_000), "bytes or pixels in run lengths"),
    "runs of one pixel": (lambda: run_lengths(b"\1\0" * 10**7, 4000), "bytes or pixels in run lengths"),
    "a comment of a PNM": (lambda: b"P6\n#" + b"a" * 10**7 + b"\n16 16\n255\n" + bytes(768), "a header of more than"),
    "blanks of a PNM": (lambda: b"P6" + b" " * 10**7 + b"16 16\n255\n" + bytes(768), "a header of more than"),
    "numbers as text": (lambda: b"P3\n4000 2000\n255\n" + b"7 " * 24 * 10**6, "bytes of text"),
    "PackBits of 16 bits": (lambda: tiff(16, 32773, 100_000, b"\0\1" * 2000), "bytes of PackBits"),
    "tiles of one pixel": (lambda: tiles(1500), "200,000 strips or tiles"),
}  # fmt: skip


def decoded(file):
    """Decode a file in a process of its own; return what was said, and by how many bytes the memory grew."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", PEAK, str(file)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True, env=environment)
    *said, last = done.stdout.splitlines()
    before, after = map(int, last.split())
    return said, (after - before) * 1000


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(name, tmp_path, count):
    write, words = BOMBS[name]
    (tmp_path / "bomb").write_bytes(write())
    with pytest.raises(ImageError, match=f"more than .*{words}|{words}"):
        read_image(tmp_path / "bomb")
    count("images of very many parts", "refused")


@pytest.mark.timeout(30, func_only=True)
def test_as_many_scans_as_allowed_are_decoded(tmp_path):
    at_most = MOST_SCANS - progressive(16, 0).count(b"\xff\xda")
    pixels = read_image(progressive(3000, at_most))
    assert (pixels == 128).all()
    with pytest.raises(ImageError, match="50 scans"):
        read_image(progressive(16, at_most + 1))


def test_bytes_behind_an_image_that_look_like_scans_are_none(tmp_path):
    content = encoded("JPEG", SMALL)
    np.testing.assert_array_equal(read_image(content + b"\xff\xda" * 1000), read_image(content))


def large(kind, folder):
    """Write an image of a kind that is as large as its kind may be."""
    side = {"RGB16": 6700, "float": 8400, "colours of 32 bits": 5770, "alpha of 16 bits": 6700}.get(kind, 10_000)
    rng, file = np.random.default_rng(0), folder / "large"
    if kind in ("RGB16", "alpha of 16 bits"):
        values = rng.integers(0, 60_000, (side, side, 3 if kind == "RGB16" else 4), np.uint16)
        tifffile.imwrite(file, values, photometric="rgb", extrasamples=None if kind == "RGB16" else [2])
        return file
    if kind in ("float", "colours of 32 bits"):
        values = rng.random((side, side, 3)[: 2 if kind == "float" else 3], np.float32)
        tifffile.imwrite(file, values, photometric="minisblack" if kind == "float" else "rgb")
        return file
    pixels = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None, None], (side, side, 4 if "alpha" in kind else 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    image, options = Image.fromarray(np.ascontiguousarray(pixels)), {"exif": turned}
    if kind == "a turned progressive JPEG":
        image.save(file, "JPEG", progressive=True, subsampling=0, **options)
    else:
        image.save(file, "PNG", compress_level=1, **options)
    return file


@pytest.mark.parametrize(
    "kind",
    ["a turned progressive JPEG", "RGB", "turned alpha", "RGB16", "alpha of 16 bits", "float", "colours of 32 bits"],
)
def test_the_largest_images_take_a_gigabyte(kind, tmp_path):
    said, memory = decoded(large(kind, tmp_path))
    assert said == []
    assert memory < 1.05 * MAX_BYTES


def test_larger_ones_of_a_kind_that_takes_more_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(32, 1, 100_000, bytes(4000)))
    with pytest.raises(ImageError, match=r"^1000 x 100000 pixels; the limit for this kind of file is 71,428,571$"):
        read_image(tmp_path / "a.tif")
    deep = io.BytesIO()
    Image.new("I;16", (16, 16)).save(deep, "PNG")
    assert read_image(deep.getvalue()).shape == (16, 16, 3)
