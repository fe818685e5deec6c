"""Some 2,400 damaged files of all kinds that are read: each has a right value or one clear error, and soon."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bloodcell.data.corrections import Decision
from bloodcell.data.decision_log import append_decisions
from tests.faults import fuzz_readers
from tests.faults.conftest import LEAN, ROOT, SEED
from tests.inputs.pictures.making import encoded, scene
from tests.painted import whole_slide, write_slide

#: Kind of files -> how many damaged ones are read.
COUNTS = {
    "images": 1200, "onnx": 60, "checkpoints": 140, "run": 100, "tables": 150, "samples": 100, "predictions": 150,
    "states": 100, "weights": 100, "progress": 40, "caches": 40, "studies": 12,
    "corrections": 100, "slides": 80, "labels": 20,
}  # fmt: skip
#: Bytes by which the files of a kind may make a process grow.
MEMORY = 1_500_000_000
#: Processes that may die for one kind before the rest is not read any more.
PATIENCE = 5


def damaged(content, rng):
    """Return content with one to three damages: other bytes, a part cut out, repeated, zeroed or full, or an end."""
    made = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, size = int(rng.integers(0, max(1, len(made)))), int(2 ** rng.integers(0, 9))
        match rng.integers(0, 7):
            case 0:
                made[at : at + 1] = rng.bytes(1)
            case 1:
                made[at : at + size] = b""
            case 2:
                made[at:at] = made[at : at + size] * int(rng.integers(1, 50))
            case 3:
                made[at : at + 4] = bytes(4)
            case 4:
                made[at : at + 4] = b"\xff" * 4
            case 5:
                del made[at:]
            case 6:  # in the head, where the sizes are
                place = at % 64
                made[place : place + 2] = rng.bytes(2)
    return bytes(made)


def pictures():
    """Return images of each format, as their contents."""
    image, deep = Image.fromarray(scene()), Image.fromarray(scene()[..., 0].astype(np.uint16) * 200)
    frames = {"save_all": True, "append_images": [Image.fromarray(scene(seed=1))]}
    turned = Image.Exif()
    turned[0x0112] = 6
    return [
        encoded("JPEG", image, exif=turned), encoded("JPEG", image, progressive=True), encoded("JPEG", image),
        encoded("JPEG", image.convert("CMYK")), encoded("PNG", image, exif=turned), encoded("PNG", deep),
        encoded("PNG", image.quantize(9)), encoded("PNG", image, **frames), encoded("BMP", image),
        encoded("GIF", image, **frames), encoded("WEBP", image, **frames), encoded("WEBP", image, lossless=True),
        encoded("PPM", image), encoded("PPM", deep), encoded("TIFF", image), encoded("TIFF", deep),
        *(encoded("TIFF", image, compression=f"tiff_{kind}") for kind in ("lzw", "adobe_deflate", "jpeg")),
        encoded("TIFF", image.convert("RGBA"), compression="packbits"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def model(compose, shared, trained):
    """Return an exported classifier's content."""
    from bloodcell.exports.export import export

    def write(folder):
        folder.mkdir(exist_ok=True)
        export(compose(f"checkpoint={trained}", f"output={folder / 'x.onnx'}", verb="export"))

    return (shared("exported", write) / "x.onnx").read_bytes()


@pytest.fixture(scope="module")
def packed(compose, shared, trained):
    """Return a folder of an exported classifier for the Hugging Face Hub."""
    from bloodcell.exports.export import export

    def write(folder):
        folder.mkdir(exist_ok=True)
        export(compose(f"checkpoint={trained}", "format=huggingface", f"output={folder / 'hub'}", verb="export"))

    return shared("packed", write) / "hub"


def decisions(folder):
    """Return a corrections file."""
    made = [
        Decision(path=f"a/{number}.png", label="ab"[number % 2], who="x", cell=number + 1, box=(number, 2.5, 30, 31))
        for number in range(20)
    ]
    append_decisions(folder / "corrections.csv", made)
    return (folder / "corrections.csv").read_bytes()


def state_dict():
    """Return a file of the weights of two layers."""
    net, content = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), io.BytesIO()
    torch.save(net.state_dict(), content)
    return content.getvalue()


def study(words, folder):
    """Complete a study of two trials, and return its files."""
    (folder / "words.txt").write_text("\n".join(words))
    line = [sys.executable, "-m", "bloodcell", "tune", *words, f"study={folder / 'study'}"]
    subprocess.run(line, check=True, timeout=200, cwd=ROOT, capture_output=True)
    return [(file.name, file.read_bytes()) for file in sorted((folder / "study").glob("study.*"))]


@pytest.fixture
def sources(request, trained, small, smears_of, tmp_path):
    """Return undamaged files of a kind: sources(kind) -> [(name, content)]."""

    def found(kind):
        files = {
            "run": ["config.yaml", "run.json"], "samples": ["samples.csv"], "predictions": ["predictions.csv"],
            "tables": ["samples.csv"], "checkpoints": ["checkpoints/best.ckpt"], "progress": ["checkpoints/last.ckpt"],
        }.get(kind, [])  # fmt: skip
        if kind == "corrections":
            return [("a.csv", decisions(tmp_path))]
        if kind == "slides":
            return [("a.tif", write_slide(tmp_path / "slide.tif", whole_slide(1300)[0]).read_bytes())]
        if kind == "labels":
            folder = shutil.copytree(request.getfixturevalue("packed"), tmp_path / "packed")
            return [("a.json", (folder / "config.json").read_bytes())]
        if kind == "weights":
            return [("a.pt", state_dict())]
        if kind == "caches":
            kept, root = Path(f"{trained}-cache"), f"{trained}-cache/"
            files = [file for file in sorted(kept.rglob("*")) if file.is_file() and "synthetic" not in file.parts]
            return [(str(file).removeprefix(root).replace("/", "+"), file.read_bytes()) for file in files]
        if kind == "studies":
            words = [*LEAN, *smears_of(small, 6, 2, 3), "tune.trials=2", f"cache.root={trained}-cache"]
            return study(words, tmp_path)
        if kind == "images":
            return [("a", content) for content in pictures()]
        if kind == "onnx":
            return [("a.onnx", request.getfixturevalue("model"))]
        if kind == "states":
            from bloodcell.inference.resumable_csv import ResumableCsv

            table = ResumableCsv(tmp_path / "begun" / "o.csv")
            table.file.parent.mkdir()
            table.start(["path"], {"tta": "none"}, ["x.png"] * 9)
            table.add(["x.png"] * 3, [["x.png"]] * 3, [], {"images": 3})
            return [("o.json", table.state.read_bytes())]
        return [(Path(name).name, (trained / name).read_bytes()) for name in files]

    return found


@pytest.mark.parametrize("kind", COUNTS)
def test_each_is_right_or_refused_in_one_clear_line(kind, sources, trained, tmp_path, fault):
    folder, rng, given = tmp_path / kind, np.random.default_rng([SEED, len(kind)]), sources(kind)
    folder.mkdir()
    for number in range(COUNTS[kind]):
        name, content = given[number % len(given)]
        (folder / f"{number:04}-{name}").write_bytes(damaged(content, rng))
    results, memory = read_all(kind, folder, trained)
    odd = {name: what for name, what in results.items() if what not in ("right", "refused")}
    kept = [shutil.copy(folder / name, tmp_path / name) for name in odd]
    assert not odd, (kept, odd)
    assert len(results) == COUNTS[kind]
    assert memory < MEMORY
    fault(f"damaged at random and read: {kind}")


def read_all(kind, folder, trained):
    """Return the result of each file, and the most that a process grew; another follows one that dies."""
    results, memory, first = {}, 0, ""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    for _ in range(PATIENCE):
        line = [sys.executable, fuzz_readers.__file__, kind, str(folder), str(trained), first]
        done = subprocess.run(line, capture_output=True, text=True, timeout=600, cwd=folder.parent, env=environment)
        for text in done.stdout.splitlines():
            word, _, rest = text.partition(" ")
            if word == "begun":
                first = rest
                results[first] = "ended the process, or took too long"
            elif word == "memory":
                memory = max(memory, int(rest))
            else:
                results[first] = text
        if done.returncode == 0:
            break
        results[first] = f"{results[first]} ({done.returncode}): {done.stderr[-300:]}"
    return results, memory
