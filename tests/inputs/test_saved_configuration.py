"""The configuration of somebody else's run: it goes on only with what writes in the run's own folder."""

import json
import shutil
from dataclasses import asdict

import pytest
from omegaconf import OmegaConf

from bloodcell.data.samples import digest
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import read_config, typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.callbacks.checkpoint_io import AtomicCheckpointIO
from bloodcell.training.train import resume, samples_of, train
from tests.conftest import QUICK, SMALL

pytestmark = pytest.mark.inputs

LIGHTNING = "pytorch_lightning.callbacks"
OURS = "bloodcell.training.callbacks"


@pytest.fixture
def configured(unfinished, tmp_path):
    """Copy the run with another configuration: configured({"seed": 1}, last=False) -> its folder."""

    def copied(changes, last=True):
        folder = tmp_path / "run"
        shutil.copytree(unfinished, folder)
        cfg = read_config(folder / "config.yaml")
        for key, value in changes.items():
            OmegaConf.update(cfg, key, value, force_add=True)
        OmegaConf.save(cfg, folder / "config.yaml")
        if not last:
            (folder / "checkpoints" / "last.ckpt").unlink()
        return folder

    return copied


@pytest.fixture
def elsewhere(tmp_path):
    """Return a folder with files that a run might replace, and assert that they are as they were."""
    folder = tmp_path / "elsewhere"
    (folder / "folder.ckpt").mkdir(parents=True)
    files = ("best.ckpt", "spikes.json", "metrics.csv", "hparams.yaml", "folder.ckpt/thesis.txt")
    for name in files:
        (folder / name).write_text("[]")
    yield folder
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == sorted(files)
    assert {(folder / name).read_text() for name in files} == {"[]"}


def aimed(node, folder):
    """Return a node whose values name files of a folder."""
    return {key: value.format(folder) if isinstance(value, str) else value for key, value in node.items()}


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": f"{LIGHTNING}.OnExceptionCheckpoint", "dirpath": "{}", "filename": "best"},
        {"_target_": f"{LIGHTNING}.OnExceptionCheckpoint", "dirpath": "{}", "filename": "folder"},
        {"_target_": f"{LIGHTNING}.on_exception_checkpoint.OnExceptionCheckpoint", "dirpath": "{}"},
        {"_target_": f"{LIGHTNING}.SpikeDetection", "exclude_batches_path": "{}/spikes.json", "atol": 0.0},
        {"_target_": f"{OURS}.history.History", "file": "{}/metrics.csv", "say": None},
        {"_target_": ["a"]},
        {"dirpath": "{}"},
        "word",
    ],
    ids=["file", "folder", "by its module", "spikes", "history", "a list", "none", "a word"],
)
def test_a_callback_that_may_write_elsewhere_is_refused(configured, elsewhere, node):
    folder = configured({"callbacks.x": aimed(node, elsewhere) if isinstance(node, dict) else node})
    with pytest.raises(BloodcellError, match=r"callbacks\.x"):
        resume(folder, [])


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    ("key", "value"),
    [("dirpath", "{}"), ("dirpath", "file://{}"), ("filename", "{}/best"), ("filename", "../../../elsewhere/best")],
)
def test_a_checkpoint_elsewhere_is_named_again_or_refused(configured, elsewhere, key, value, last):
    folder = configured({f"callbacks.best.{key}": value.format(elsewhere)}, last)
    with pytest.raises(BloodcellError, match=rf"callbacks\.best\.{key}"):
        resume(folder, [])


def test_a_callback_can_be_left_out(configured, elsewhere):
    node = {"_target_": f"{LIGHTNING}.OnExceptionCheckpoint", "dirpath": str(elsewhere), "filename": "best"}
    folder = configured({"callbacks.x": node})
    resume(folder, ["callbacks.x=null"])
    assert len((folder / "history.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "pytorch_lightning.loggers.MLFlowLogger", "tracking_uri": "file:{}"},
        {"_target_": "pytorch_lightning.loggers.WandbLogger", "dir": "{}"},
        {"_target_": "pytorch_lightning.loggers.CSVLogger", "name": "{}", "version": ""},
        {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "name": "", "version": "{}"},
        5,
    ],
    ids=["MLFlow", "wandb", "CSV", "TensorBoard", "a number"],
)
def test_a_logger_elsewhere_is_refused(configured, elsewhere, node):
    folder = configured({"logger.x": aimed(node, elsewhere) if isinstance(node, dict) else node})
    with pytest.raises(BloodcellError, match=r"logger"):
        resume(folder, [])


def test_the_users_logger_takes_the_place_of_the_runs(configured, elsewhere):
    node = {"_target_": "pytorch_lightning.loggers.MLFlowLogger", "tracking_uri": f"file:{elsewhere}"}
    folder = configured({"logger.x": node})
    resume(folder, ["logger=csv", "logger.csv.version=mine"])
    assert (folder / "mine" / "metrics.csv").is_file()


def test_the_cache_is_the_users(configured, tmp_path, monkeypatch):
    theirs, own = tmp_path / "theirs", tmp_path / "own"
    folder = configured({"cache.root": str(theirs / "cache"), "features.root": str(theirs), "outputs": str(theirs)})
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "mine"))
    resume(folder, [f"cache.root={own}"])
    assert not theirs.exists()
    assert any(own.iterdir())


ABOVE = [
    ("csv", "csv.name={}"),
    ("csv", "csv.version={}"),
    ("csv", "csv.version=../above"),
    ("tensorboard", "tensorboard.name={}"),
    ("tensorboard", "tensorboard.name=../above"),
    ("tensorboard", "tensorboard.version={}"),
    ("tensorboard", "+tensorboard.sub_dir={}"),
    ("tensorboard", "tensorboard.version=$ELSEWHERE"),
    ("tensorboard", "+tensorboard.sub_dir=../../x"),
]


@pytest.mark.parametrize(("logger", "choice"), ABOVE)
def test_a_log_is_in_the_runs_folder(compose, elsewhere, tmp_path, monkeypatch, logger, choice):
    monkeypatch.setenv("ELSEWHERE", "../elsewhere")
    key = "+logger." if choice.startswith("+") else "logger."
    value = key + choice.lstrip("+").format(elsewhere)
    with pytest.raises(BloodcellError, match=rf"logger\.{logger}: .* is not in the run's folder"):
        train(compose(*QUICK, *SMALL, f"logger={logger}", value, f"outputs={tmp_path}"), tmp_path / "run")
    assert not (tmp_path / "above").exists()


def test_a_training_removes_no_checkpoint_that_it_did_not_write(elsewhere, tmp_path):
    writer = AtomicCheckpointIO()
    for name in ("best.ckpt", "folder.ckpt", "nothing.ckpt"):
        writer.remove_checkpoint(elsewhere / name)
    writer.save_checkpoint({}, tmp_path / "own.ckpt")
    writer.remove_checkpoint(str(tmp_path / "own.ckpt"))
    assert not (tmp_path / "own.ckpt").exists()


def test_resume_auto_takes_nothing_of_a_planted_run_but_its_progress(compose, unfinished, elsewhere, tmp_path):
    """A run of the same fingerprint, whose configuration and samples name other files, is continued as the user's."""
    choices = ("finetune=full", "callbacks=ema", "scheduler=cosine", "optimizer=adamw", "limits=false")
    mine = compose(*QUICK, *SMALL, *choices, "calibrate=false", f"outputs={tmp_path}", "trainer.max_epochs=3")
    planted = tmp_path / "planted"
    shutil.copytree(unfinished, planted)
    cfg = read_config(planted / "config.yaml")
    node = {"_target_": f"{LIGHTNING}.OnExceptionCheckpoint", "dirpath": str(elsewhere), "filename": "best"}
    cfg.callbacks.x, cfg.logger.y = node, {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"}
    cfg.callbacks.best.dirpath = str(elsewhere)
    OmegaConf.save(cfg, planted / "config.yaml")
    table = (planted / "samples.csv").read_text().splitlines()
    (planted / "samples.csv").write_text("\n".join([table[0], *(f"/etc/passwd{row}" for row in table[1:])]) + "\n")
    record = json.loads((planted / "run.json").read_text())
    identity = fingerprint_of(mine)
    (planted / "run.json").write_text(json.dumps({**record, "fingerprint": identity}))
    mine.resume = "auto"
    train(mine, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert len((planted / "history.csv").read_text().splitlines()) == 4
    assert "passwd" not in (planted / "samples.csv").read_text()
    assert not (tmp_path / "ran").exists()


def fingerprint_of(cfg):
    """Return the fingerprint that a run of a configuration has."""
    config = typed(cfg, TrainConfig)
    return run_folder.fingerprint(asdict(config), digest(samples_of(config)))
