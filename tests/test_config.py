"""Every file of conf/ composes, and configuration becomes objects only where it may."""

import inspect
import re

import pytest
import torch
from omegaconf import OmegaConf

from bloodcell.cli import VERBS
from bloodcell.runtime.config import cache_root, config_dir, instantiate, plain, typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import SCHEMAS

GROUP_FILES = sorted(
    (file.parent.name, file.stem)
    for file in config_dir().glob("*/*.yaml")
    if file.stem != "base" and file.parent.name != "experiment"
)
EXPERIMENTS = sorted(file.stem for file in (config_dir() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(("group", "option"), GROUP_FILES)
def test_every_option_composes(compose, group, option):
    verb = {"as_trained": "evaluate", "head": "tune", "finetune": "tune"}.get(option, "train")
    needed = {"table": ["data.table=t.csv"], "joint": ["data.sets=[a,b]"], "timm": ["model.name=x"]}
    cfg = compose(f"{group}={option}", *needed.get(option, []), verb=verb)
    assert OmegaConf.missing_keys(cfg) <= {"checkpoint"}
    if verb == "train":
        OmegaConf.resolve(cfg)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_a_configuration(compose, verb):
    assert "outputs" in compose(verb=verb)


@pytest.mark.parametrize(
    ("verb", "override"),
    [("predict", "devices=auto"), ("evaluate", "devices=2"), ("evaluate", "devices=[0,1]"), ("train", "trainer.gpus=2")]
    + [("train", f"trainer.devices={devices}") for devices in ("2", "auto", "[0,1]", "-1")],
)
def test_devices_are_given_in_each_way_that_is_documented(compose, verb, override):
    key, _, value = override.partition("=")
    config = typed(compose(*(["trainer=ddp"] if verb == "train" else []), override, verb=verb), SCHEMAS[verb])
    found = config.trainer if verb == "train" else config
    assert str(getattr(found, key.rpartition(".")[2])).replace(" ", "") == value


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_changes_something(compose, experiment):
    text = (config_dir() / "experiment" / f"{experiment}.yaml").read_text()
    changed = compose(f"experiment={experiment}")
    assert changed != compose() or "mode: MULTIRUN" in text  # which is Hydra's own, not the job's
    assert re.search(r"python train\.py .*experiment=" + experiment, text), "an experiment says how to run itself"


def test_an_experiment_goes_over_the_groups_and_the_command_line_over_both(compose):
    assert compose().model.head.pool == "avg"
    assert compose("experiment=notebook").model.head.pool == "max"
    assert compose("experiment=notebook", "model.head.pool=avg").model.head.pool == "avg"


def test_the_notebook_is_the_original_value_by_value(compose):
    cfg = compose("experiment=notebook", "data.root=/d")
    assert cfg.data.split == "random"
    assert cfg.data.val_fraction == 0.2
    assert (cfg.data.image_size, cfg.data.batch_size) == (224, 32)
    assert plain(cfg.model.head) == {"pool": "max", "hidden": 256, "dropout": 0.0}
    assert cfg.optimizer._target_ == "torch.optim.Adam"
    assert cfg.optimizer.lr == 1e-3
    assert cfg.trainer.max_epochs == 15
    assert cfg.callbacks.early_stopping.patience == 5
    assert cfg.finetune.name == "frozen"


def test_every_trainer_argument_can_be_set(compose):
    import pytorch_lightning as pl

    ours = {"logger", "callbacks", "self"}  # groups of their own
    assert set(inspect.signature(pl.Trainer.__init__).parameters) - ours == set(compose().trainer) - {"gpus"}


def test_a_callback_can_be_taken_away(compose):
    assert "early_stopping" not in compose("~callbacks.early_stopping").callbacks


def test_seed_zero_is_a_seed(compose):
    assert compose("seed=0").data.seed == 0


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "subprocess.run", "torch.load", "bloodcellx.a", "torch.optimx.a", 3, None, ""),
        "bloodcell.runtime.io.write_json",  # would write any file
        "bloodcell.training.train.train",
        "bloodcell.runtime.config.importlib",  # what an allowed package merely imports
        "bloodcell.data.readers.os",
        "bloodcell.data.joint.read_imagefolderx",
        "torch.optim.lr_scheduler.partial",
        "torch.optim.lr_scheduler.warnings",
        "torch.optim.optimizer.torch",
        "torch.optim.lr_scheduler.EPOCH_DEPRECATION_WARNING",  # no class and no function
        "pytorch_lightning.callbacks.timer.timedelta",
        "pytorch_lightning.loggers.csv_logs.os",
        "pytorch_lightning.utilities.model_helpers.is_overridden",
    ],
)
def test_a_target_outside_the_allow_list_is_refused(target):
    with pytest.raises(BloodcellError, match=re.escape(f"_target_={target!r} is not allowed")):
        instantiate({"_target_": target, "command": "x"})


def test_every_function_that_modules_of_the_allow_list_import_is_refused():
    from bloodcell.data import joint, kaggle, readers

    foreign = [
        f"{module.__name__}.{name}"
        for module in (joint, kaggle, readers, torch.optim.lr_scheduler)
        for name, value in vars(module).items()
        if not str(getattr(value, "__module__", "")).startswith(("torch.optim", "bloodcell.data"))
    ]
    assert len(foreign) > 50
    for target in foreign:
        with pytest.raises(BloodcellError, match="is not allowed"):
            instantiate({"_target_": target})


def test_instantiate_hands_over_plain_values(tmp_path, write_image):
    write_image(tmp_path / "a" / "0.png")
    node = OmegaConf.create({"_target_": "bloodcell.data.readers.read_imagefolder", "root": str(tmp_path)})
    assert instantiate(node).table["path"].tolist() == ["a/0.png"]


def test_a_run_to_be_resumed_is_held_to_the_same_list(compose, tmp_path):
    from bloodcell.runtime.io import write_json
    from bloodcell.training.train import resume

    cfg = compose(f"outputs={tmp_path}")
    cfg.data.reader = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    OmegaConf.save(cfg, tmp_path / "config.yaml", resolve=True)
    write_json({"status": "failed"}, tmp_path / "run.json")
    with pytest.raises(BloodcellError, match=r"^_target_='os\.mkdir' is not allowed"):
        resume(tmp_path, [])
    assert not (tmp_path / "made").exists()


def test_an_unknown_argument_is_one_clear_line():
    with pytest.raises(BloodcellError, match=r"torch\.optim\.SGD.*unexpected keyword argument 'speed'"):
        instantiate({"_target_": "torch.optim.SGD", "speed": 1}, [])


def test_a_target_that_does_not_exist_is_one_clear_line():
    with pytest.raises(BloodcellError, match="has no attribute 'Nadamm'"):
        instantiate({"_target_": "torch.optim.Nadamm"})


def test_cache_root_prefers_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "environment"))
    assert cache_root(str(tmp_path / "configured")) == tmp_path / "configured"
    assert cache_root(None) == tmp_path / "environment"


def test_cache_root_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BloodcellError, match=r"cannot make the folder .*; set cache\.root=DIR"):
        cache_root(str(tmp_path / "file" / "below"))


def test_no_image_is_averaged_over_its_symmetries_unless_asked_for(compose):
    assert compose().evaluate.tta == "none"
    assert compose(verb="evaluate").tta is None  # as in training
    asked = compose("checkpoint=[a,b/best.ckpt]", "tta=d4", verb="evaluate")
    assert plain(asked.checkpoint) == ["a", "b/best.ckpt"]
    assert asked.tta == "d4"
