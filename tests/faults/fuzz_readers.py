"""Reads damaged files of one kind, in a process of its own: `fuzz_readers.py KIND FOLDER MODEL [first]`.

Prints `begun NAME` before each file and `right`, `refused`, or `odd: WHY` after it; at its end the growth of its peak
memory in bytes. A file that takes more than `SECONDS` ends the process.
"""

import contextlib
import faulthandler
import io
import resource
import shutil
import sys
from pathlib import Path

import numpy as np

from bloodcell.runtime.user_errors import user_message

SECONDS = 30


def images(file, _):
    from bloodcell.data.images import read_image

    pixels = read_image(file)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous


def checkpoints(file, _):
    import bloodcell

    table = bloodcell.load(file, device="cpu").predict(np.full((9, 9, 3), 90, np.uint8))
    chances = table.filter(like="p_").to_numpy()
    assert np.isfinite(chances).all()
    assert np.allclose(chances.sum(axis=1), 1)


def run_files(file, model):
    """A damaged config.yaml or run.json in a copy of a finished run, which is to be continued."""
    from bloodcell.runtime.config import register_resolvers
    from bloodcell.training.train import resume

    register_resolvers()
    folder = file.parent / "run"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("tensorboard", "figures", "*.lock"))
    shutil.copy(file, folder / file.name.partition("-")[2])
    try:
        resume(folder, ["trainer.max_epochs=1"])
    finally:
        shutil.rmtree(folder)


def tables(file, _):
    from bloodcell.data.readers import read_table

    samples = read_table(str(file), str(file.parent), "path", "label", "group", "split")
    assert len(samples.table)
    assert (samples.table["label"] != "").all()


def samples(file, _):
    from bloodcell.data.samples import read_samples

    assert {"path", "label", "split", "source"} <= set(read_samples(file).table)


def predictions(file, _):
    from bloodcell.metrics.predictions import matrix_of
    from bloodcell.metrics.predictions_csv import read_predictions

    chances = matrix_of(read_predictions(file))
    assert np.allclose(chances.sum(axis=1), 1, atol=0.01)


def states(file, _):
    from bloodcell.inference.resumable_csv import ResumableCsv

    folder = file.parent / "output"
    folder.mkdir()
    shutil.copy(file, folder / "o.state.json")
    (folder / "o.csv").write_text("path\n" + "x.png\n" * 3)
    try:
        table = ResumableCsv(folder / "o.csv")
        with table.held():
            done = table.start(["path"], {"tta": "none"}, ["x.png"] * 9)
            assert 0 <= done <= 9
            table.add(["x.png"], [["x.png"]], [], {"images": 1})
    finally:
        shutil.rmtree(folder)


def weights(file, _):
    from torch import nn

    from bloodcell.models.weights import load_state

    load_state(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), file, "net of two layers", "logits")


def progress(file, model):
    """A damaged last.ckpt of a run that is to be trained further."""
    from bloodcell.runtime.config import register_resolvers
    from bloodcell.training.train import resume

    register_resolvers()
    folder = file.parent / "run"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("tensorboard", "figures", "*.lock"))
    shutil.copy(file, folder / "checkpoints" / "last.ckpt")
    try:
        resume(folder, ["trainer.max_epochs=9", "trainer.limit_train_batches=1", f"cache.root={model}-cache"])
    finally:
        shutil.rmtree(folder)


def caches(file, model):
    """A damaged file of the cache that a training uses."""
    from bloodcell.runtime.config import read_config, register_resolvers
    from bloodcell.training.train import train

    register_resolvers()
    folder, cfg = file.parent / "made", read_config(Path(model) / "config.yaml")
    shutil.copytree(f"{model}-cache", folder / "cache")
    shutil.copy(file, folder / "cache" / file.name.partition("-")[2].replace("+", "/"))
    cfg.cache.root, cfg.outputs, cfg.report = str(folder / "cache"), str(folder), False
    try:
        assert np.isfinite(train(cfg, folder / "run")["val/accuracy"])
    finally:
        shutil.rmtree(folder)


def studies(file, _):
    """A damaged file of a study that is to be completed."""
    from bloodcell.cli import call

    folder, study = file.parent / "study", file.parent.with_name("study")
    words = (file.parent.with_name("words.txt")).read_text().splitlines()
    shutil.copytree(study, folder)
    shutil.copy(file, folder / file.name.partition("-")[2])
    try:
        call("tune", [*words, f"study={folder}"], {})
    finally:
        shutil.rmtree(folder)


def corrections(file, _):
    from bloodcell.data.corrections import CANNOT_TELL, NO_CELL, read_corrections

    for one in read_corrections(file, ["a", "b"]).decisions:
        assert one.path
        assert one.label in ("a", "b", "", NO_CELL, CANNOT_TELL)


def slides(file, _):
    """A damaged slide file: all its tiles are read, and their cells are within it."""
    from bloodcell.data.image_limits import ImageError
    from bloodcell.data.images import read_image
    from bloodcell.data.slide_tiles import cells_of, plan_of
    from bloodcell.data.whole_slides import is_whole_slide, opened
    from bloodcell.runtime.errors import BloodcellError

    try:
        if not is_whole_slide(file):
            read_image(file)
            return
        plan, (width, height) = plan_of(str(file), 30, 1), opened(str(file)).size
        for tile in cells_of(plan, plan.tiles):
            for cell in tile.placed:
                assert -1 <= cell.left <= cell.left + cell.width <= width + 1
                assert -1 <= cell.top <= cell.top + cell.height <= height + 1
    except ImageError as error:
        raise BloodcellError(str(error)) from error


def labels(file, _):
    """A damaged config.json beside a sound ONNX file."""
    import bloodcell

    folder = file.parent / "packed"
    shutil.copytree(file.parent.with_name("packed"), folder)
    shutil.copy(file, folder / "config.json")
    try:
        assert len(bloodcell.load(folder, device="cpu").classes) == 4
    finally:
        shutil.rmtree(folder)


READERS = {
    "images": images, "checkpoints": checkpoints, "onnx": checkpoints, "run": run_files, "tables": tables,
    "samples": samples, "predictions": predictions, "states": states, "weights": weights, "progress": progress,
    "caches": caches, "studies": studies, "corrections": corrections, "slides": slides, "labels": labels,
}  # fmt: skip


def outcome(read, file, model):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            read(file, model)
    except Exception as error:  # noqa: BLE001 - the test asserts what it is
        message = user_message(error)
        clear = message is not None and 1 <= len(message.splitlines()) <= 3 and "Traceback" not in message
        return "refused" if clear else f"odd: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "right"


def main(kind, folder, model, first=""):
    read, peak = READERS[kind], lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [file for file in sorted(Path(folder).iterdir()) if file.is_file() and file.name > first]
    start = None
    for file in files:
        print("begun", file.name, flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        print(outcome(read, file, model), flush=True)
        faulthandler.cancel_dump_traceback_later()
        start = start or peak()  # after the first, which imports what is needed
    print("memory", (peak() - (start or 0)) * 1000, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
