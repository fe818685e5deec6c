"""Values in the checkpoint of somebody else's run: only those that fit are restored, no file elsewhere is touched."""

import json
import shutil

import pytest
import torch

from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import resume, train
from tests.conftest import QUICK, SMALL


@pytest.fixture
def changed(unfinished, tmp_path):
    """Copy the run with another last.ckpt: changed(change) -> its folder."""

    def copied(change):
        folder = tmp_path / "run"
        shutil.copytree(unfinished, folder)
        file = folder / "checkpoints" / "last.ckpt"
        state = torch.load(file, weights_only=True)
        change(state)
        torch.save(state, file)
        return folder

    return copied


def watching(state, what):
    """Return the state of the ModelCheckpoint that watches the validation loss, or nothing."""
    (name,) = [
        name for name in state["callbacks"] if name.startswith("ModelCheckpoint") and f"'monitor': {what}" in name
    ]
    return state["callbacks"][name]


def aimed(path, with_folder):
    """Name a path as the best checkpoint so far, with a score that any epoch beats."""

    def change(state):
        best, score = watching(state, "'val/loss'"), torch.tensor(9e9)
        best.update(best_k_models={path: score}, kth_best_model_path=path, best_model_path=path, kth_value=score)
        if with_folder is None:
            del best["dirpath"]
        else:
            best["dirpath"] = with_folder
        watching(state, "None").update(best_model_path=path, last_model_path=path)

    return change


@pytest.mark.inputs
@pytest.mark.parametrize("form", ["local://{}", "file://{}", "{}", "{}/../precious", "checkpoints/../../precious"])
@pytest.mark.parametrize("with_folder", ["none", "own", "its"])
def test_no_folder_is_removed_whatever_the_checkpoint_names(changed, tmp_path, form, with_folder):
    (tmp_path / "precious" / "deep").mkdir(parents=True)
    (tmp_path / "precious" / "deep" / "thesis.txt").write_text("years")
    path = form.format(tmp_path / "precious")
    path = path if "precious" not in form or "{" in form else str(tmp_path / "run" / path)
    own = str(tmp_path / "run" / "checkpoints")
    folder = changed(aimed(path, {"none": None, "own": own, "its": str(tmp_path)}[with_folder]))
    if with_folder == "none":
        with pytest.raises(BloodcellError, match="ModelCheckpoint does not fit"):
            resume(folder, [])
    else:
        resume(folder, [])
        assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert (tmp_path / "precious" / "deep" / "thesis.txt").read_text() == "years"


def test_a_file_elsewhere_that_this_process_did_not_write_stays(changed, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years")
    folder = changed(aimed(str(elsewhere / "thesis.txt"), str(elsewhere)))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("filename: best", f"filename: best\n    dirpath: {elsewhere}"))
    resume(folder, [f"callbacks.best.dirpath={elsewhere}"])
    assert (elsewhere / "thesis.txt").read_text() == "years"
    assert "thesis.txt is no longer among the best, and stays" in capsys.readouterr().out


def test_a_file_elsewhere_that_is_not_of_the_run_is_not_replaced(changed, unfinished, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = changed(aimed("", str(elsewhere)))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("filename: best", f"filename: best\n    dirpath: {elsewhere}"))
    another = torch.load(unfinished / "checkpoints" / "best.ckpt", weights_only=True)
    another["callbacks"]["History"]["rows"][0]["val/loss"] += 0.5
    torch.save(another, elsewhere / "best.ckpt")
    before = (elsewhere / "best.ckpt").read_bytes()
    with pytest.raises(BloodcellError, match=r"best\.ckpt is there already and not of this run"):
        resume(folder, [f"callbacks.best.dirpath={elsewhere}"])
    assert (elsewhere / "best.ckpt").read_bytes() == before


def strided(old, step):
    """Return zeros of the same shape, with memory for all and another way through it."""
    count = old.numel()
    start = count - 1 if step == 0 else 0
    return torch.zeros(count * max(step, 1)).as_strided(old.shape, [step * one for one in old.stride()], start)


def of_each(key, value):
    def change(state):
        for values in state["optimizer_states"][0]["state"].values():
            values[key] = value(values[key])

    return change


def group(**values):
    return lambda state: state["optimizer_states"][0]["param_groups"][0].update(values)


def entry(*path, value):
    def change(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


def best(**values):
    return lambda state: watching(state, "'val/loss'").update(values)


def epochs(count):
    progress = dict.fromkeys(("ready", "started", "processed", "completed"), count)
    return entry("loops", "fit_loop", "epoch_progress", "current", value=progress)


FIT = ("loops", "fit_loop")

#: What was changed -> how, and what does not fit.
CHANGES = {
    "moments of one number": (of_each("exp_avg", lambda _: torch.zeros(1)), "optimizer_states"),
    "squares of one number": (of_each("exp_avg_sq", lambda _: torch.zeros(1)), "optimizer_states"),
    "moments of another size": (of_each("exp_avg", lambda old: torch.zeros(2 * old.numel())), "optimizer_states"),
    "moments that take no memory": (of_each("exp_avg", lambda old: torch.zeros(1).expand(old.shape)), "read safely"),
    "moments that begin at the end of their memory": (of_each("exp_avg", lambda old: strided(old, 0)), "read safely"),
    "moments with gaps": (of_each("exp_avg", lambda old: strided(old, 2)), "read safely"),
    "moments on no device": (of_each("exp_avg", lambda old: torch.empty(old.shape, device="meta")), "read safely"),
    "whole moments": (of_each("exp_avg", lambda old: old.to(torch.int8)), "optimizer_states"),
    "moments in words": (of_each("exp_avg", lambda _: "x"), "optimizer_states"),
    "no step": (of_each("step", lambda _: torch.zeros(0)), "optimizer_states"),
    "a step in words": (of_each("step", lambda _: "x"), "optimizer_states"),
    "the state of a parameter that is none": (
        entry("optimizer_states", 0, "state", 10**6, value={"exp_avg": torch.zeros(1)}),
        "optimizer_states",
    ),
    "a list of states": (entry("optimizer_states", 0, "state", value=[1]), "optimizer_states"),
    "no group": (entry("optimizer_states", 0, "param_groups", value=[]), "optimizer_states"),
    "a group of one": (group(params=[0]), "optimizer_states"),
    "a rate in words": (group(lr="x"), "optimizer_states"),
    "betas in words": (group(betas=[0.9, "x"]), "optimizer_states"),
    "betas above 1": (group(betas=[5.0, 7.0], amsgrad=True), "optimizer_states"),
    "no optimizer": (entry("optimizer_states", value=[]), "optimizer_states"),
    "a number for the optimizers": (entry("optimizer_states", value=5), "optimizer_states"),
    "no scheduler": (entry("lr_schedulers", value=[]), "optimizer_states"),
    "a period of 0": (entry("lr_schedulers", 0, "T_max", value=0), "optimizer_states"),
    "a period in words": (entry("lr_schedulers", 0, "T_max", value="x"), "optimizer_states"),
    "no rates": (entry("lr_schedulers", 0, "base_lrs", value=[]), "optimizer_states"),
    "no loops": (entry("loops", value={}), "loops"),
    "a loop of nothing": (entry(*FIT, value={}), "loops"),
    "epochs in words": (epochs("x"), "loops"),
    "epochs below 0": (epochs(-(10**12)), "loops"),
    "epochs beyond any": (epochs(10**30), "loops"),
    "fewer epochs than rows": (epochs(1), "history"),
    "steps in words": (entry(*FIT, "epoch_loop.state_dict", "_batches_that_stepped", value="x"), "loops"),
    "no callbacks": (entry("callbacks", value={}), "history"),
    "a number for the callbacks": (entry("callbacks", value=5), "callbacks"),
    "a number for the history": (entry("callbacks", "History", value=5), "callbacks"),
    "a number for the rows": (entry("callbacks", "History", "rows", value=5), "history"),
    "rows of words": (entry("callbacks", "History", "rows", value=[{"epoch": "<b>"}] * 2), "history"),
    "no rows": (entry("callbacks", "History", "rows", value=[]), "history"),
    "a path that is a number": (best(best_model_path=5), "ModelCheckpoint"),
    "scores that are a number": (best(best_k_models=5), "ModelCheckpoint"),
    "a score in words": (best(best_k_models={"a": "x"}), "ModelCheckpoint"),
    "a score of three": (best(best_k_models={"a": torch.zeros(3)}), "ModelCheckpoint"),
    "a worst that is not among the best": (best(kth_best_model_path="/nowhere/x.ckpt"), "ModelCheckpoint"),
    "a monitor that is a number": (best(monitor=5), "ModelCheckpoint"),
    "a step of the average in words": (entry("callbacks", "MovingAverage", "latest_update_step", value="x"), "Moving"),
    "half an average": (lambda state: state.pop("averaging_state"), "averaging_state"),
    "the weights of another net": (entry("current_model_state", value={"a": torch.zeros(1)}), "current_model_state"),
    "averaged weights of another net": (entry("state_dict", value={}), "state_dict"),
    "an epoch in words": (entry("epoch", value="x"), "epoch"),
    "a number of steps below 0": (entry("global_step", value=-1), "epoch"),
}


@pytest.mark.inputs
@pytest.mark.parametrize("kind", CHANGES)
def test_what_does_not_fit_is_named_in_one_line(changed, kind):
    change, what = CHANGES[kind]
    folder = changed(change)
    with pytest.raises(BloodcellError, match=rf"last\.ckpt.*{what}.*delete it, and the run begins again") as caught:
        resume(folder, [])
    assert "\n" not in str(caught.value)
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("key", ["step", "optimizer", "get_lr"])
def test_what_a_scheduler_does_not_have_is_left_out(changed, key):
    folder = changed(entry("lr_schedulers", 0, key, value=5))
    resume(folder, [])
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert key not in saved["lr_schedulers"][0]


@pytest.mark.parametrize("version", [None, 5, "0.1.0"])
def test_the_release_that_wrote_it_does_not_count(changed, version):
    folder = changed(entry("pytorch-lightning_version", value=version))
    resume(folder, [])
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_checkpoints_behind_a_link_are_not_replaced(changed, tmp_path):
    folder = changed(lambda _: None)
    (folder / "checkpoints").rename(tmp_path / "another")
    (folder / "checkpoints").symlink_to(tmp_path / "another")
    before = {file: file.read_bytes() for file in (tmp_path / "another").iterdir()}
    with pytest.raises(BloodcellError, match="checkpoints is a link to another folder"):
        resume(folder, [])
    assert {file: file.read_bytes() for file in (tmp_path / "another").iterdir()} == before


def test_a_link_in_the_folder_is_replaced_and_what_it_points_to_stays(changed, tmp_path):
    folder = changed(lambda _: None)
    (tmp_path / "precious.txt").write_text("years")
    for name in ("classification_report.txt", "history.csv", "metrics.json"):
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "precious.txt")
    resume(folder, [])
    assert (tmp_path / "precious.txt").read_text() == "years"
    assert not (folder / "classification_report.txt").is_symlink()


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        pytest.param("torch.optim.Adafactor", "none", marks=pytest.mark.slow),
        pytest.param("torch.optim.LBFGS", "none", marks=pytest.mark.slow),
        ("torch.optim.NAdam", "plateau"),
    ],
)
def test_any_optimizer_goes_on_with_a_timer_beside_it(compose, tmp_path, optimizer, scheduler):
    chosen = [f"optimizer._target_={optimizer}", "~optimizer.fused", f"scheduler={scheduler}", "logger=none"]
    chosen += ["~optimizer.weight_decay"] if "LBFGS" in optimizer else ["finetune=full"]
    timer = "+callbacks.timer._target_=pytorch_lightning.callbacks.Timer"
    own = [*QUICK, *SMALL, *chosen, timer, "limits=false", "calibrate=false", f"outputs={tmp_path}"]
    train(compose(*own, "optimizer=adam", "trainer.max_epochs=1"), tmp_path / "run")
    resume(tmp_path / "run", ["trainer.max_epochs=2"])
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3
