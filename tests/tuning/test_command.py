"""The verb: what a study leaves, that it continues, that its metric is that of training, and what it refuses."""

import json
import re
import sys

import pandas as pd
import pytest

pytest.importorskip("optuna", reason="it comes with the extra tune")

import numpy as np
import yaml
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bloodcell import cli
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TuneConfig
from bloodcell.runtime.signals import Terminated
from bloodcell.tuning.tune import check_settings
from tests.conftest import QUICK, SMALL


@pytest.fixture(scope="module")
def verb():
    """Run a verb in this process: verb("tune", "a=1") -> exit code."""

    def run(name, *arguments):
        before, sys.argv = sys.argv, [f"{name}.py", *arguments]
        try:
            cli.main(name)
        except SystemExit as leave:
            return leave.code or 0
        finally:
            sys.argv = before
        return 0

    return run


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Return a --config-dir with a sweep of a user's own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "sweep").mkdir()
    (folder / "sweep" / "mine.yaml").write_text(
        "optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}\n"
        "data:\n  batch_size: {choices: [16, 32]}\n"
        "finetune.blocks: {choices: [null, 99]}\n"  # the net has 19, so that some trials fail
        "model.head.dropout: {low: 0.0, high: 0.5, step: 0.1}\n"
        "scheduler: {choices: [none, onecycle]}\n"
    )
    return folder


@pytest.fixture(scope="module")
def study(verb, sweeps, tmp_path_factory):
    """Return the folder of a study of six trials, and the command line that made it."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    given = [f"--config-dir={sweeps}", *QUICK, *SMALL, "finetune=full", "sweep=mine", f"study={folder}"]
    given += ["tune.pruner=null", "seed=3"]
    given += [f"cache.root={folder.parent / 'cache'}"]
    assert verb("tune", *given, "tune.trials=6") == 0
    return folder, given


def test_a_study_leaves_what_docs_list(study):
    folder, _ = study
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    promised = {"study.db", "study.json", "trials.csv", "conf/experiment/tuned.yaml"}
    assert promised | {"figures/history.png", "figures/parallel_coordinates.png"} <= files
    assert not [file for file in files if file.endswith(".ckpt")], "checkpoints of trials are gone"
    table = pd.read_csv(folder / "trials.csv", keep_default_na=False)
    assert list(table["trial"]) == list(range(6))
    assert set(table["state"]) == {"complete", "fail"}
    failed = table[table["state"] == "fail"]
    assert set(failed["finetune.blocks"].astype(float)) == {99}
    assert all("finetune.blocks=99, but this model has 19 blocks" in error for error in failed["error"])
    record = json.loads((folder / "study.json").read_text())
    assert {"command", "versions", "machine", "search space", "metric", "trials"} <= set(record)


def test_nothing_in_a_plot_is_cut_off(study):
    folder, _ = study
    for file in (folder / "figures").iterdir():
        pixels = np.asarray(Image.open(file).convert("RGB"))
        border = np.concatenate(
            [
                pixels[:3].reshape(-1, 3),
                pixels[-3:].reshape(-1, 3),
                pixels[:, :3].reshape(-1, 3),
                pixels[:, -3:].reshape(-1, 3),
            ]
        )
        assert (border == 255).all(), file
        assert pixels.shape[1] > 600


def test_tensorboard_has_a_run_of_each_trial(study):
    folder, _ = study
    table = pd.read_csv(folder / "trials.csv")
    runs = sorted((folder / "tensorboard").iterdir())
    assert [run.name for run in runs] == [f"trial-{number:04d}" for number in range(6)]
    for run, row in zip(runs, table.itertuples(), strict=True):
        events = EventAccumulator(str(run))
        events.Reload()
        assert "_hparams_/session_start_info" in events.summary_metadata
        if row.state == "complete":
            assert events.Scalars("hparam/macro_recall_by_source")[0].value == pytest.approx(row.value)
            assert [event.step for event in events.Scalars("val/macro_recall_by_source")] == [1]  # not the last epoch


def test_the_best_is_an_experiment_that_gives_the_trials_figure(study, verb, tmp_path):
    folder, _ = study
    table = pd.read_csv(folder / "trials.csv")
    best = table.loc[table["value"].idxmax()]
    text = (folder / "conf" / "experiment" / "tuned.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    assert "python train.py --config-dir" in text
    assert yaml.safe_load(text)["optimizer"]["lr"] == best["optimizer.lr"]
    arguments = ["--config-dir", str(folder / "conf"), "experiment=tuned", "evaluate.test=false"]
    assert verb("train", *arguments, f"outputs={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val/macro_recall_by_source"] == best["value"]


@pytest.mark.slow
def test_training_with_a_trials_overrides_gives_its_figure(study, verb, tmp_path):
    folder, _ = study
    table = pd.read_csv(folder / "trials.csv", keep_default_na=False)
    trial = table[table["state"] == "complete"].iloc[0]
    given = [f"{key}={trial[key]}" for key in ("optimizer.lr", "data.batch_size", "model.head.dropout", "scheduler")]
    own = ["finetune=full", "seed=3", "evaluate.test=false", f"outputs={tmp_path}"]
    assert verb("train", *QUICK, *SMALL, *own, *given, f"hydra.run.dir={tmp_path / 'run'}") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val/macro_recall_by_source"] == float(trial["value"])


@pytest.mark.slow
def test_the_same_command_goes_on_and_an_other_is_refused(study, verb, capsys):
    folder, given = study
    before = pd.read_csv(folder / "trials.csv")
    assert verb("tune", *given, "tune.trials=8") == 0
    after = pd.read_csv(folder / "trials.csv")
    assert len(after) == 8
    pd.testing.assert_frame_equal(after.iloc[:6], before, check_dtype=False)
    capsys.readouterr()
    for change, words in [
        ("sweep.data.batch_size.choices=[16,64]", "another search space (data.batch_size "),
        ("trainer.max_epochs=3", "another configuration (trainer.max_epochs 2, now 3)"),
        ("data.reader.copies=2", "another data"),
    ]:
        assert verb("tune", *given, "tune.trials=9", change) == 1
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1
    assert len(pd.read_csv(folder / "trials.csv")) == 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tune": {"trials": 0}}, "tune.trials=0; give a whole number of 1 or more"),
        ({"tune": {"metric": "test"}}, "tune.metric=test; choose from: accuracy"),
        ({"tune": {"metric": "macro_f2"}}, "tune.metric=macro_f2; did you mean 'macro_f1'"),
        ({"evaluate": {"test": True}}, "tune never reads a test part"),
        ({"tune": {"folds": [0, 7]}}, "tune.folds=[0, 7]; give different folds from 0 to 4"),
        ({"tune": {"folds": [1, 1]}}, "give different folds"),
        ({"tune": {"folds": 6}}, "tune.folds=6"),
        ({"tune": {"folds": 2}, "data": {"fold": 0}}, "tune.folds or data.fold, not both"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_that_make_no_sense(compose, changes, words):
    cfg = OmegaConf.merge(compose(verb="tune"), changes)
    with pytest.raises(BloodcellError, match=re.escape(words)):
        check_settings(typed(cfg, TuneConfig))


def test_folds_may_be_a_number(compose):
    assert check_settings(typed(compose("tune.folds=3", verb="tune"), TuneConfig)) == [0, 1, 2]
    assert check_settings(typed(compose(verb="tune"), TuneConfig)) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep=nose"], "no option 'nose' in group 'sweep'"),
        (["+sweep.optimizer.lrr={low: 1, high: 2}"], "no configuration key 'optimizer.lrr'; did you mean"),
        (["tune.pruner.speed=3"], "tune.pruner.speed"),
        (["tune.storage=nonsense"], "tune.storage=nonsense"),
        (["trainer.gpus=null", "trainer.accelerator=cpu", "trainer.devices=2"], "each trial on one device"),
        (["data.split=random"], "tuning would choose what is learnt by heart"),
    ],
)
def test_tune_refuses(verb, capsys, tmp_path, arguments, words):
    assert verb("tune", *QUICK, *SMALL, f"study={tmp_path / 'study'}", *arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) <= 2


def test_a_multirun_and_a_used_folder_are_refused(verb, capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert verb("tune", *QUICK, *SMALL, f"study={tmp_path}") == 1
    assert "holds something, but no study" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    assert verb("tune", "-m", *QUICK, *SMALL, f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1,2") == 1
    assert "tune is one study, not a multirun" in capsys.readouterr().err


def test_unknown_sources_are_refused_or_warned_of(verb, capsys, tmp_path, class_folders):
    root = class_folders({"a": 12, "b": 12})
    given = [*QUICK, "data=imagefolder", f"data.root={root}", "data.leak_check=off", "trainer.max_epochs=1"]
    given += ["tune.trials=1", f"study={tmp_path / 'study'}"]
    assert verb("tune", *given) == 1
    assert "the sources of the validation images are unknown" in capsys.readouterr().err
    assert verb("tune", *given, "tune.metric=macro_f1") == 0
    assert "warning: sources are unknown" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "study" / "trials.csv")) == 1


@pytest.mark.slow
def test_folds_give_the_mean_of_their_figures(verb, tmp_path):
    given = [
        *QUICK,
        *SMALL,
        "data.folds=3",
        "tune.folds=[0,2]",
        "tune.trials=1",
        "+sweep.data.epoch_size={low: 20, high: 30}",
    ]
    assert verb("tune", *given, f"study={tmp_path / 'study'}", "~sweep.optimizer", "~sweep.model", "~sweep.loss") == 0
    (trial,) = pd.read_csv(tmp_path / "study" / "trials.csv").to_dict("records")
    figures = []
    for fold in (0, 2):
        own = [f"data.{key}={trial[f'data.{key}']}" for key in ("epoch_size", "batch_size")]
        arguments = [*QUICK, *SMALL, "data.folds=3", f"data.fold={fold}", *own, f"outputs={tmp_path}"]
        assert verb("train", *arguments, f"hydra.run.dir={tmp_path / str(fold)}") == 0
        figures.append(json.loads((tmp_path / str(fold) / "metrics.json").read_text())["val/macro_recall_by_source"])
    assert trial["value"] == pytest.approx(sum(figures) / 2, abs=1e-12)


def test_no_test_part_is_read(study):
    folder, _ = study
    assert (folder.parent / "cache" / "checks").is_dir()
    assert not (folder.parent / "cache" / "test_reads.csv").exists()


def test_an_interruption_that_optuna_hides_is_still_one(verb, sweeps, capsys, monkeypatch, tmp_path):
    def interrupted(*_):
        try:
            raise Terminated
        except Terminated:
            raise UnboundLocalError("updated_state")  # noqa: B904 - as Optuna 5.0 does

    monkeypatch.setattr("bloodcell.tuning.tune._run_study", interrupted)
    assert verb("tune", f"--config-dir={sweeps}", "sweep=mine", f"study={tmp_path / 'study'}") == 143
    assert "terminated" in capsys.readouterr().err
