"""A whole run: what it leaves, that it repeats, that it resumes, and that evaluating gives its own figures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.metrics.reliability import tempered_table
from bloodcell.metrics.summary import metrics_of
from bloodcell.models.classifier import load_checkpoint
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import resume, train
from tests.conftest import BARE, QUICK, SMALL

ROOT = Path(__file__).parents[1]


def weights(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_same_run(one, other):
    """Assert that two runs have the same history and, bit for bit, the same last and best weights."""
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()
    for name in ("last", "best"):
        first, second = weights(one, name), weights(other, name)
        assert list(first) == list(second)
        assert all(torch.equal(first[key], second[key]) for key in first)
    temperatures = [load_checkpoint(run / "checkpoints" / "best.ckpt").get("temperature") for run in (one, other)]
    assert temperatures[0] == temperatures[1]  # none, where sources are unknown
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    assert (one / "metrics.json").read_bytes() == (other / "metrics.json").read_bytes()


@contextmanager
def plug_pulled(epoch, batch=0):
    """Expect what is done within to fail at a batch of an epoch of training, both counted from 0."""
    from bloodcell.models.classifier import Classifier

    loss_of, begun = Classifier._loss_of, list[int]()  # the epoch of each batch

    def fails(self, one):
        begun.append(self.current_epoch)
        if begun.count(epoch) > batch:
            raise RuntimeError("pulled the plug")
        return loss_of(self, one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "_loss_of", fails)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            yield


def test_a_run_leaves_all_that_is_promised(quick_run):
    files = {file.relative_to(quick_run).as_posix() for file in quick_run.rglob("*") if file.is_file()}
    assert {
        "config.yaml", "run.json", "samples.csv", "history.csv", "metrics.json", "predictions.csv",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "classification_report.txt", "classification_report.json",
        "figures/curves.png", "figures/confusion_val_counts.png", "figures/confusion_test_shares.png",
    } <= files  # fmt: skip
    record = json.loads((quick_run / "run.json").read_text())
    assert record["status"] == "finished"
    assert {"command", "versions", "machine", "python", "seconds"} <= set(record)
    history = pd.read_csv(quick_run / "history.csv")
    assert list(history["epoch"]) == [1, 2]
    assert {"train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/macro_f1", "lr"} <= set(history)


def test_the_samples_table_is_grouped_where_sources_are_known(quick_run):
    samples = pd.read_csv(quick_run / "samples.csv")
    assert list(samples.columns[:4]) == ["path", "label", "split", "source"]
    assert samples.groupby("source")["split"].nunique().max() == 1
    assert set(samples["split"]) == {"train", "val", "test"}


def test_predictions_and_metrics_agree(quick_run):
    predictions = pd.read_csv(quick_run / "predictions.csv")
    metrics = json.loads((quick_run / "metrics.json").read_text())
    assert list(predictions.columns[:5]) == ["path", "split", "source", "label", "prediction"]
    probabilities = predictions.filter(like="p_")
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-12)
    assert (probabilities.idxmax(axis=1).str.removeprefix("p_") == predictions["prediction"]).all()
    for split, rows in predictions.groupby("split"):
        assert metrics[f"{split}/accuracy"] == pytest.approx((rows["label"] == rows["prediction"]).mean())
    assert set(predictions["split"]) == {"val", "test"}


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss(quick_run):
    history = pd.read_csv(quick_run / "history.csv")
    metrics = json.loads((quick_run / "metrics.json").read_text())
    best = history.loc[history["val/loss"].idxmin()]
    assert metrics["best_epoch"] == best["epoch"]
    table = pd.read_csv(quick_run / "predictions.csv", keep_default_na=False)
    raw = metrics_of(tempered_table(table, 1 / metrics["temperature"]))  # history has the loss at temperature 1
    assert raw["val/loss"] == pytest.approx(best["val/loss"], rel=1e-5)
    assert metrics["val/accuracy"] == pytest.approx(best["val/accuracy"], rel=1e-5)


def test_evaluate_reproduces_the_runs_own_figures(quick_run, compose, tmp_path):
    again = evaluate(compose(f"checkpoint={quick_run}", "device=cpu", *BARE, verb="evaluate"), tmp_path / "evaluation")
    metrics = json.loads((quick_run / "metrics.json").read_text())
    for name, value in again.items():
        assert value == pytest.approx(metrics[name], abs=1e-6), name
    one, other = (pd.read_csv(folder / "predictions.csv") for folder in (quick_run, tmp_path / "evaluation"))
    pd.testing.assert_frame_equal(one, other, atol=1e-6)


def test_evaluate_reads_the_checkpoint_alone(quick_run, compose, tmp_path, smears):
    moved = tmp_path / "alone.ckpt"
    moved.write_bytes((quick_run / "checkpoints" / "best.ckpt").read_bytes())
    with pytest.raises(BloodcellError, match="lies in no run folder"):
        evaluate(compose(f"checkpoint={moved}", *BARE, verb="evaluate"), tmp_path / "a")
    root = smears.root / "images" / "TEST"
    arguments = [f"checkpoint={moved}", "data=imagefolder", f"data.root={root}", "device=cpu"]
    metrics = evaluate(compose(*arguments, *BARE, verb="evaluate"), tmp_path / "b")
    whole = json.loads((quick_run / "metrics.json").read_text())
    assert metrics["test/accuracy"] == pytest.approx(whole["test/accuracy"], abs=1e-6)


def test_evaluate_names_a_class_that_training_never_saw(quick_run, compose, tmp_path, class_folders):
    root = class_folders({"MONOCYTE": 2, "BASOPHIL": 2})
    with pytest.raises(BloodcellError, match="class BASOPHIL was not in training"):
        evaluate(
            compose(f"checkpoint={quick_run}", "data=imagefolder", f"data.root={root}", *BARE, verb="evaluate"),
            tmp_path / "e",
        )


def test_every_reading_of_a_test_part_is_recorded(compose, tmp_path):
    own = f"cache.root={tmp_path / 'cache'}"
    train(compose(*QUICK, *SMALL, own, "evaluate.test=false", f"outputs={tmp_path}"), tmp_path / "without")
    assert not (tmp_path / "cache" / "test_reads.csv").exists()
    evaluate(
        compose(f"checkpoint={tmp_path / 'without'}", own, "splits=[val]", *BARE, verb="evaluate"), tmp_path / "val"
    )
    assert not (tmp_path / "cache" / "test_reads.csv").exists()
    for name in ("one", "two"):
        evaluate(compose(f"checkpoint={tmp_path / 'without'}", own, *BARE, verb="evaluate"), tmp_path / name)
    reads = pd.read_csv(tmp_path / "cache" / "test_reads.csv")
    assert list(reads["split"]) == ["test", "test"]
    assert reads["digest"].nunique() == 1
    assert list(reads["images"]) == [24, 24]


@pytest.mark.parametrize(
    "extra", [pytest.param([], marks=pytest.mark.slow), ["finetune=full", "augment=light", "scheduler=onecycle"]]
)
def test_the_same_seed_gives_the_same_run(compose, tmp_path, extra):
    for name in ("one", "two"):
        train(compose(*QUICK, *SMALL, *extra, f"outputs={tmp_path}"), tmp_path / name)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    train(compose(*QUICK, *SMALL, *extra, "seed=1", f"outputs={tmp_path}"), tmp_path / "three")
    assert (tmp_path / "one" / "history.csv").read_bytes() != (tmp_path / "three" / "history.csv").read_bytes()


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["scheduler=plateau", "scheduler.patience=0"], marks=pytest.mark.slow),
        pytest.param(["scheduler=cosine", "finetune=full", "augment=light"], marks=pytest.mark.slow),
        pytest.param(["scheduler=onecycle", "optimizer=sgd", "features.cache=off"], marks=pytest.mark.slow),
        pytest.param(["finetune=full", "data.in_memory=false", "data.workers=2"], marks=pytest.mark.slow),
        pytest.param(
            ["scheduler=onecycle", "finetune=gradual", "optimizer=adamw", "augment=light"], marks=pytest.mark.slow
        ),
        ["scheduler=cosine", "finetune=gradual", "optimizer=sgd", "callbacks=ema", "callbacks.average.decay=0.9"],
    ],
)
def test_an_interrupted_run_resumes_to_the_same_end(compose, tmp_path, extra):
    cfg = compose(*QUICK, *SMALL, *extra, "trainer.max_epochs=4", f"outputs={tmp_path}")
    train(cfg, tmp_path / "whole")
    with plug_pulled(2, batch=1):
        train(cfg, tmp_path / "broken")
    assert run_folder.read_run(tmp_path / "broken")["status"] == "failed"
    resume(tmp_path / "broken", [])
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow  # `make faults` kills trainings at random moments
def test_sigkill_in_the_middle_of_epoch_3(tmp_path):
    arguments = [
        *QUICK, *SMALL, "finetune=full", "augment=light", "scheduler=cosine", "trainer.max_epochs=4",
        "logger=tensorboard",
        "model.image_size=96", f"outputs={tmp_path}",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "train.py", *arguments]
    subprocess.run([*start, f"hydra.run.dir={tmp_path / 'whole'}"], cwd=ROOT, env=environment, check=True)
    victim = subprocess.Popen([*start, f"hydra.run.dir={tmp_path / 'killed'}"], cwd=ROOT, env=environment)
    history = tmp_path / "killed" / "history.csv"
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not (history.exists() and len(history.read_text().splitlines()) == 3):
        assert time.monotonic() < deadline
        assert victim.poll() is None
        time.sleep(0.005)
    written = history.stat().st_mtime_ns
    while not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > written):  # epoch 2 is over, 3 begins
        time.sleep(0.005)
    time.sleep(0.05)
    victim.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    victim.wait()
    assert len(pd.read_csv(history)) == 2
    assert run_folder.read_run(tmp_path / "killed")["status"] == "running"
    subprocess.run([sys.executable, "train.py", f"resume={tmp_path / 'killed'}"], cwd=ROOT, env=environment, check=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert epochs_in_tensorboard(tmp_path / "killed") == [1, 2, 3, 4]


def epochs_in_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [event.step for event in events.Scalars("loss/val")]


def test_tensorboard_shows_what_is_promised(quick_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(quick_run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    wanted = {"macro_f1/val", "per class F1/MONOCYTE val", "optimizer/lr", "speed/images per second"}
    assert wanted <= set(tags["scalars"])
    assert sorted(tags["scalars"])[:4] == ["accuracy/train", "accuracy/val", "loss/train", "loss/val"]  # open first
    assert "hp_metric" not in tags["scalars"]
    assert "results/val/macro_f1" in tags["scalars"]
    assert tags["graph"]
    assert {"training batch, augmented", "validation confusion matrix"} <= set(tags["images"])
    wrong = [tag.partition("/")[2] for tag in tags["images"] if tag.startswith("wrong validation images/")]
    rows = pd.read_csv(quick_run / "predictions.csv").query("split == 'val'")
    errors = rows[rows["label"] != rows["prediction"]]
    assert len(wrong) == min(len(errors), 24)
    assert sorted(tag[3:].partition(",")[0] for tag in wrong) == sorted(errors["label"] + " as " + errors["prediction"])
    (places,) = (quick_run / "tensorboard").rglob("metadata.tsv")
    names = pd.read_csv(places, sep="\t")
    assert sorted(names["path"]) == sorted(rows["path"])
    assert len((places.parent / "tensors.tsv").read_text().splitlines()) == len(rows)
    assert (places.parent / "sprite.png").is_file()
    assert any(tag.startswith("validation/MONOCYTE") for tag in tags["tensors"])
    assert epochs_in_tensorboard(quick_run) == [1, 2]


def test_a_class_without_validation_images_has_no_f1_on_the_way(compose, class_folders, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root = class_folders({"train/a": 6, "train/b": 6, "train/c": 6, "val/a": 3, "val/b": 3})
    own = ("data=imagefolder", f"data.root={root}", "logger=tensorboard", f"outputs={tmp_path}")
    metrics = train(compose(*QUICK, *own), tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["val/f1_c"].isna().all()
    assert history["train/f1_c"].notna().all()
    for values in (history.iloc[metrics["best_epoch"] - 1], metrics):
        assert values["val/macro_f1"] == pytest.approx((values["val/f1_a"] + values["val/f1_b"]) / 2, abs=1e-6)
    assert metrics["val/f1_c"] is None
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"per class F1/a val", "per class F1/c train"} <= set(events.Tags()["scalars"])
    assert "per class F1/c val" not in events.Tags()["scalars"]
    assert not any(tag.startswith("validation/c") for tag in events.Tags()["tensors"])


def test_a_finished_run_is_not_resumed(quick_run):
    with pytest.raises(BloodcellError, match="has finished"):
        resume(quick_run, [])


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_what_is_added_to_the_trainer_of_a_resumed_run_counts(compose, tmp_path, monkeypatch, sign):
    OmegaConf.save(compose(*QUICK, *SMALL), tmp_path / "config.yaml", resolve=True)
    (tmp_path / "run.json").write_text('{"status": "failed"}')
    monkeypatch.setattr("bloodcell.training.train.train", lambda cfg, *_, **__: dict(cfg.trainer))
    wanted = ["trainer.max_epochs=3", "trainer.barebones=true", "hydra.verbose=1"]
    trainer = resume(tmp_path, [f"{sign}{item}" for item in wanted])
    assert (trainer["max_epochs"], trainer["barebones"]) == (3, True)
    for foreign in (f"{sign}seed=1", "~trainer.max_epochs", "~hydra.verbose"):
        with pytest.raises(BloodcellError, match=f"leave out {re.escape(foreign)}$"):
            resume(tmp_path, ["trainer.max_epochs=3", foreign])


def test_resume_takes_the_runs_own_configuration(quick_run):
    run_folder.write_run(quick_run, status="failed")
    try:
        with pytest.raises(BloodcellError, match=r"leave out optimizer\.lr=1"):
            resume(quick_run, ["optimizer.lr=1"])
    finally:
        run_folder.write_run(quick_run, status="finished")


def test_resume_auto_takes_the_newest_unfinished_run_of_the_same_configuration(compose, tmp_path):
    base = [*QUICK, *SMALL, "resume=auto", f"outputs={tmp_path}"]
    train(compose(*base), tmp_path / "one")
    run_folder.write_run(tmp_path / "one", status="running")
    train(compose(*base, "optimizer.lr=0.5"), tmp_path / "other")
    assert (tmp_path / "other" / "metrics.json").is_file()
    train(compose(*base), tmp_path / "two")
    assert not (tmp_path / "two").exists()
    assert run_folder.read_run(tmp_path / "one")["status"] == "finished"


def test_a_run_without_validation_is_refused(compose, tmp_path):
    with pytest.raises(BloodcellError, match="no validation images"):
        train(compose(*QUICK, *SMALL, "data.val_fraction=0"), tmp_path / "run")


def test_a_run_without_checkpoint_callback_ends_with_its_last_weights(compose, tmp_path):
    train(compose(*QUICK, *SMALL, "~callbacks.best", f"outputs={tmp_path}"), tmp_path / "run")
    assert [file.name for file in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_callback_is_off_where_it_is_null_and_settings_of_none_are_refused(compose, tmp_path):
    short = [*QUICK, *SMALL, "trainer.max_epochs=1", f"outputs={tmp_path}"]
    train(compose(*short, "callbacks=to_the_end", "+callbacks.early_stopping=null"), tmp_path / "run")
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1
    settings = ["callbacks=to_the_end", "+callbacks.early_stopping.patience=3"]
    with pytest.raises(BloodcellError, match=r"callbacks\.early_stopping=.*has no callback of this name"):
        train(compose(*short, *settings), tmp_path / "other")


def test_a_frozen_backbone_is_the_same_after_a_whole_run(compose, tmp_path):
    """With every callback and logger at work: none may put its batch norm into training mode."""
    from torchvision.models import mobilenet_v2

    initial = mobilenet_v2().state_dict()
    torch.save(initial, tmp_path / "weights.pth")
    own = [f"model.weights={tmp_path / 'weights.pth'}", "model.width=null", "features.cache=off"]
    train(compose(*QUICK, *SMALL, *own, f"outputs={tmp_path}"), tmp_path / "run")
    trained = weights(tmp_path / "run")
    for key, value in initial.items():
        if key.startswith("features."):
            assert torch.equal(trained["net.backbone." + key.removeprefix("features.")], value), key


def test_balanced_class_weights_enter_the_loss(compose, class_folders, tmp_path):
    root = class_folders({"a": 12, "b": 6})
    cfg = compose(*QUICK, "data=imagefolder", f"data.root={root}", "loss.class_weights=balanced", f"outputs={tmp_path}")
    train(cfg, tmp_path / "run")
    samples = pd.read_csv(tmp_path / "run" / "samples.csv")
    counts = samples[samples["split"] == "train"]["label"].value_counts()
    stored = weights(tmp_path / "run")["loss.weight"]
    assert stored.tolist() == pytest.approx([len(samples[samples["split"] == "train"]) / (2 * counts[c]) for c in "ab"])


def test_any_image_folder_trains_with_its_own_classes(compose, class_folders, tmp_path, capsys):
    root = class_folders({"Train/one": 6, "Train/two": 6, "Train/three": 6, "TEST/two": 3})
    metrics = train(compose(*QUICK, "data=imagefolder", f"data.root={root}", f"outputs={tmp_path}"), tmp_path / "run")
    assert metrics["test/images"] == 3
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert [c for c in predictions if c.startswith("p_")] == ["p_one", "p_three", "p_two"]
    assert set(predictions[predictions["split"] == "test"]["label"]) == {"two"}
    assert "note: the test part has no image of one, three" in capsys.readouterr().out


def test_a_class_of_bad_images_alone_is_named(compose, class_folders, tmp_path):
    root = class_folders({"train/a": 6, "train/b": 6, "train/c": 0, "val/a": 2, "val/c": 2})
    (root / "train" / "c" / "x.png").write_text("no picture")
    cfg = compose(*QUICK, "data=imagefolder", f"data.root={root}", "data.on_bad_image=skip", f"outputs={tmp_path}")
    with pytest.raises(BloodcellError, match="class c is in the val part but not in training"):
        train(cfg, tmp_path / "run")
