"""What the tests share: a cache of their own, small smears, and the shipped configuration."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import zlib
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: threads cost more than they give

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import Image

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; its processes would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(100_000, 50, 100)  # a configuration makes thousands of objects: collecting often costs 7 % of the time

#: A small, quick network and few images; on top of the shipped configuration.
QUICK = (
    "model.weights=null",
    "model.width=0.25",
    "model.image_size=32",
    "data.workers=0",
    "data.batch_size=16",
    "trainer.gpus=0",
    "trainer.max_epochs=2",
    "features.backend=eager",
    "evaluate.figures=false",
    "logger=none",
)

#: An evaluation without pictures and page, which take most of its time.
BARE = ("figures=false", "report=false")

#: Synthetic smears that are painted in a second or two.
SMALL = ("data.reader.train_photographs=6", "data.reader.test_photographs=2", "data.reader.copies=3")


def data_config(**values):
    """Return the `data` group of class folders with the default values but for those given."""
    from bloodcell.runtime.schema.data import DataConfig

    reader = {"_target_": "bloodcell.data.readers.read_imagefolder"}
    return DataConfig(**({"reader": reader, "root": None} | values))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Give the whole session one cache root, and no test the user's own."""
    root = tmp_path_factory.mktemp("cache")
    os.environ["BLOODCELL_CACHE"] = str(root)
    return root


@pytest.fixture(scope="session")
def compose():
    """Compose the shipped configuration: compose("optimizer=sgd", verb="train") -> DictConfig."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from bloodcell.runtime.config import config_dir, register_resolvers

    def composed(*overrides, verb="train"):
        register_resolvers()
        with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
            return hydra_compose(config_name=verb, overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def smears(compose, cache):
    """Return the Samples of small synthetic smears."""
    from bloodcell.data.readers import load_samples
    from bloodcell.runtime.config import typed
    from bloodcell.runtime.schema.verbs import TrainConfig

    return load_samples(typed(compose(*SMALL), TrainConfig).data)


@pytest.fixture(scope="session")
def quick_run(compose, tmp_path_factory):
    """Train a small network on small smears, once, and return its run folder."""
    from bloodcell.training.train import train

    folder = tmp_path_factory.mktemp("runs") / "quick"
    train(compose(*QUICK, *SMALL, "evaluate.figures=true", "logger=tensorboard", f"outputs={folder.parent}"), folder)
    return folder


@pytest.fixture(scope="session")
def learnt_run(compose, tmp_path_factory):
    """Train all of a small network, once: unlike the quick run's, its answers differ from image to image."""
    from bloodcell.training.train import train

    folder = tmp_path_factory.mktemp("runs") / "learnt"
    learning = ("finetune=full", "optimizer=sgd", "optimizer.lr=0.03", "data.batch_size=8", "callbacks=to_the_end")
    choices = ("trainer.max_epochs=4", "trainer.precision=32-true", "calibrate=false", "evaluate.figures=false")
    choices += ("model.blur=0.03",)  # all that runs a net has to blur as it does
    train(compose(*QUICK, *SMALL, *learning, *choices, "logger=none", f"outputs={folder.parent}"), folder)
    return folder


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Return the one clear line with which `evaluate` refuses a command line: refused(["tta=x"]) -> "error: ..."."""
    import sys

    from bloodcell import cli

    def refuse(arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, f"hydra.run.dir={tmp_path / 'run'}"])
        with pytest.raises(SystemExit):
            cli.main("evaluate")
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.strip().splitlines()) == 1
        assert not list((tmp_path / "run").glob("*"))
        return error

    return refuse


@pytest.fixture(scope="session")
def exported(compose, learnt_run, tmp_path_factory):
    """Export the learnt run: exported("onnx") -> file. It takes some seconds, so all processes share the result."""
    from bloodcell.exports.export import export
    from bloodcell.exports.formats import FORMATS

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported"

    def written(form):
        folder.mkdir(exist_ok=True)
        file = folder / f"learnt{FORMATS[form].ending}"
        with FileLock(folder / f"{form}.lock"):
            if not file.is_file():
                export(compose(f"checkpoint={learnt_run}", f"format={form}", f"output={file}", verb="export"))
        return file

    return written


@pytest.fixture
def another(quick_run, tmp_path):
    """Copy the quick run and change its checkpoint and samples: another(change, samples) -> run folder."""

    def copied(name, change=None, samples=None):
        folder = tmp_path / name
        shutil.copytree(quick_run, folder, ignore=shutil.ignore_patterns("tensorboard", "figures", ".lock"))
        file = folder / "checkpoints" / "best.ckpt"
        checkpoint = torch.load(file, weights_only=True)
        if change:
            change(checkpoint)
        torch.save(checkpoint, file)
        if samples:
            table = pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False)
            samples(table).to_csv(folder / "samples.csv", index=False)
        return folder

    return copied


@pytest.fixture
def write_image():
    """Write a seeded random picture: write_image(path, size=(24, 16), seed=0) -> path."""

    def write(path: Path, size=(24, 16), seed=0, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    return write


@pytest.fixture
def class_folders(tmp_path, write_image):
    """Write folders of images: class_folders({"train/a": 4, "train/b": 4}) -> the root."""

    def write(counts, root=tmp_path / "images"):
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                write_image(root / folder / f"{number}.png", seed=zlib.crc32(f"{folder}{number}".encode()))
        return root

    return write


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a verb in this process: command("train", "a=1") -> (exit code, standard error)."""

    def run(verb, *arguments):
        folder = [f"hydra.run.dir={tmp_path / 'run'}"]
        from bloodcell import cli

        monkeypatch.setattr(sys, "argv", [f"{verb}.py", *arguments, *folder])
        with pytest.raises(SystemExit) as caught:
            cli.main(verb)
        return caught.value.code, capsys.readouterr().err

    return run


def clear(code, error, *words):
    """Assert that an error is at most three lines without a traceback, and names what matters."""
    assert code not in (0, None)
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) <= 3
    assert "Traceback" not in error
    for word in words:
        assert word in error
