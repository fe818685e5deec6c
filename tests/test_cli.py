"""What a user can get wrong on the command line is one clear line; help answers without torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bloodcell import cli
from bloodcell.runtime import user_errors
from bloodcell.runtime.errors import nearest
from tests.conftest import QUICK, SMALL, clear

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("optimizer.lrr=1", ["optimizer.lrr", "did you mean 'optimizer.lr'"]),
        ("optimzer.lr=1", ["optimzer.lr", "did you mean 'optimizer.lr'"]),
        ("trainer.max_epoch=3", ["did you mean 'trainer.max_epochs'"]),
        ("modle=resnet18", ["did you mean 'model'"]),
        ("trainer.x=1", ["no configuration key 'trainer.x'; see --help"]),
        ("cache.roots=x", ["did you mean 'cache.root'"]),
        ("cache.x=1", ["no configuration key 'cache.x'; choose from: cache."]),
        ("optimizer.lr.x=1", ["optimizer.lr is a value and has no keys"]),
        ("trainer=[1]", ["trainer= names no option; choose from: cpu"]),
        ("~trainer=gpu", ["trainer= names no option; choose from: cpu"]),
        ("~seed=5", ["~seed=5: seed is 0, and it is needed"]),
        ("TRAINER=cpu", ["no configuration key 'TRAINER'; did you mean 'trainer'?"]),
        ("model=resnet81", ["did you mean 'resnet18'"]),
        ("model=nonsense", ["choose from", "mobilenetv2", "vit_b_16"]),
        ("experiment=notebok", ["did you mean 'notebook'"]),
        ("+model.x", ["+model.x"]),
        ("finetune.name=half", ["finetune=half", "frozen, full or gradual"]),
        ("data.image_size=0", ["data.image_size=0"]),
        ("data.batch_size=0", ["data.batch_size=0"]),
        ("data.on_bad_image=ignore", ["data.on_bad_image=ignore", "error or skip"]),
        ("model.name=resnet34", ["model.name=resnet34", "resnet50"]),
        ("model.head.pool=sum", ["model.head.pool=sum", "avg or max"]),
        ("loss.class_weights=heavy", ["loss.class_weights=heavy"]),
        ("loss.robust=2", ["loss.robust=2", "from 0 to 1"]),
        ("features.cache=maybe", ["features.cache=maybe", "auto, on or off"]),
        ("trainer.max_epochs=three", ["max_epochs", "three"]),
        ("optimizer.lr=fast", ["optimizer", "fast"]),
        ("seed=-1", ["seed=-1"]),
        ("--model", ["--model", "model=..."]),
        ("resume=/nowhere", ["resume=/nowhere", "run.json"]),
    ],
)
def test_train_refuses(command, argument, words):
    clear(*command("train", *QUICK, *SMALL, argument), *words)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("finder.steps=3", ["finder.steps=3", "10 or more"]),
        ("finder.min_lr=2", ["min_lr above 0 and below max_lr"]),
        ("finder.speed=3", ["finder.speed", "finder.steps"]),
        ("finder.steps=many", ["finder.steps", "whole number"]),
    ],
)
def test_find_lr_refuses(command, argument, words):
    clear(*command("find-lr", *QUICK, *SMALL, argument), *words)


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        ("evaluate", "trainer=cpu"),
        ("evaluate", "+trainer=cpu"),
        ("evaluate", "trainer.gpus=1"),
        ("predict", "data=kaggle"),
        ("audit", "model=resnet18"),
        ("export", "data.root=x"),
    ],
)
def test_a_group_that_a_verb_does_not_read_is_not_suggested(command, verb, argument):
    group = argument.lstrip("+").partition("=")[0].partition(".")[0]
    code, error = command(verb, argument, f"hydra.job.name={verb}")
    clear(code, error, f"{verb} reads no '{group}'; {verb} --help lists what it reads")
    assert "did you mean" not in error


@pytest.mark.parametrize(
    ("name", "valid", "hint"),
    [
        ("trainer", ["trainer", "trained"], "did you mean 'trained'?"),
        ("trainer.x", ["trainer", "trainer.y"], "choose from: trainer.y"),
        ("trainer.lr", ["trainer", "trainer.gpus", "optimizer.lr"], "did you mean 'optimizer.lr'?"),
        ("trainer.gpu", ["trainer", "trainer.gpus", "x.gpu"], "did you mean 'trainer.gpus'?"),
        ("Trainer", ["trainer"], "did you mean 'trainer'?"),
        ("trainer", ["trainer"], "see --help"),
        ("x", [], "see --help"),
    ],
)
def test_a_hint_never_repeats_what_was_given(name, valid, hint):
    assert nearest(name, valid) == hint


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("gpus", ["1", "-1", "[0,1]"])
def test_gpus_that_are_not_there(command, gpus):
    clear(
        *command("train", "data=imagefolder", "data.root=/no/such", f"trainer.gpus={gpus}"),  # before anything is read
        f"trainer.gpus={gpus}".replace(",", ", "),
        "trainer.gpus=0",
    )


def test_missing_and_empty_data_root(command, tmp_path):
    (tmp_path / "empty").mkdir()
    clear(*command("train", "data=imagefolder"), "data.root is not set", "data.root=DIR")
    clear(*command("train", "data=imagefolder", "data.root=/no/such"), "/no/such", "data.root=DIR")
    clear(*command("train", "data=imagefolder", f"data.root={tmp_path / 'empty'}"), "no class folders")
    clear(*command("train", "data=kaggle", f"data.root={tmp_path / 'empty'}"), "data.download=true")


def test_text_files_named_jpg(command, class_folders, tmp_path):
    root = class_folders({"a": 8, "b": 8})
    (root / "a" / "x.jpg").write_text("no picture")
    clear(*command("train", *QUICK, "data=imagefolder", f"data.root={root}"), "a/x.jpg", "data.on_bad_image=skip")
    assert "x.jpg" in (tmp_path / "run" / "bad_images.csv").read_text()


def test_weights_of_another_architecture(command, tmp_path):
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    arguments = ["model.weights=" + str(tmp_path / "resnet18.pth"), "model.width=1.0"]
    clear(*command("train", *QUICK, *SMALL, *arguments), "resnet18.pth", "is not a mobilenet_v2")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_checkpoint_that_is_none(command, tmp_path, content):
    file = tmp_path / "some.ckpt"
    file.write_bytes(content)
    clear(*command("evaluate", f"checkpoint={file}"), "some.ckpt")
    clear(*command("evaluate", f"checkpoint={tmp_path / 'absent'}"), "absent", "run folder")
    clear(*command("evaluate", f"checkpoint={tmp_path}"), str(tmp_path), "checkpoints/best.ckpt")


def test_checkpoint_must_be_given(command):
    clear(*command("evaluate"), "checkpoint")


@pytest.mark.parametrize("place", ["taken", "taken/run"])
def test_a_run_folder_that_is_a_file(command, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["train.py", *QUICK, f"hydra.run.dir={place}"])
    with pytest.raises(SystemExit):
        cli.main("train")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where no folder can be made")
def test_a_run_folder_where_none_can_be_made(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *QUICK, "hydra.run.dir=/proc/x"])
    with pytest.raises(SystemExit):
        cli.main("train")
    assert capsys.readouterr().err == "error: no folder can be made at /proc/x; choose another folder\n"


def test_a_used_run_folder_is_refused_and_left_alone(command, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    clear(*command("train", *QUICK, *SMALL), str(tmp_path / "run"), "choose another hydra.run.dir")
    assert [file.name for file in (tmp_path / "run").iterdir() if file.name != ".lock"] == ["mine.txt"]


def test_the_console_command_names_its_verbs(monkeypatch, capsys):
    for arguments, code in (([], 2), (["--help"], 0)):
        monkeypatch.setattr(sys, "argv", ["bloodcell", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == code
        assert "evaluate" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bloodcell", "trian"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", ["--cfg job seed=3 data=table", "seed=3 data=table --cfg job", "seed=3 --cfg job data=table"]
)
def test_flags_stand_anywhere(arguments):
    done = subprocess.run([sys.executable, "train.py", *arguments.split()], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "seed: 3" in done.stdout
    assert "read_table" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("-m --cfg job seed=1,2", ["--multirun, --cfg: give only one of these"]),
        ("--info -m", ["--multirun, --info: give only one"]),
        ("--run -m", ["--run, --multirun: give only one"]),
        ("--resolve", ["--resolve and --package only go with --cfg job"]),
        ("-p data", ["only go with --cfg job"]),
        ("--config-name evaluate", ["the verb names the configuration, e.g. bloodcell evaluate"]),
        ("--config-path conf", ["the verb names the configuration"]),
        ("--shell-completion", ["--shell-completion needs install=bash"]),
        ("--shell-completion query=bash", ["query= is what the shell itself asks", "install=bash"]),
        ("--experimental-rerun config.pickle", ["reads a pickle", "run.json"]),
        ("--cfg xyz", ["--cfg", "invalid choice: 'xyz'", "--hydra-help lists the flags"]),
    ],
)
def test_flags_that_do_not_go_together(command, arguments, words):
    clear(*command("train", *arguments.split()), *words)


@pytest.mark.parametrize("arguments", [["--info"], ["--info", "defaults"], ["seed=3", "--cfg", "job", "--resolve"]])
def test_flags_that_show_something(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    cli.main("train")
    assert "seed" in (said := capsys.readouterr().out) or "train_schema" in said


def test_relative_paths_mean_the_folder_of_the_command(class_folders, tmp_path, monkeypatch):
    root = class_folders({"a": 12, "b": 12})
    monkeypatch.chdir(root.parent)
    choices = ["data=imagefolder", f"data.root={root.name}", *QUICK, "trainer.max_epochs=1", "logger=none"]
    places = ["hydra.run.dir=some/run", "cache.root=kept", "hydra.job.chdir=true"]
    monkeypatch.setattr(sys, "argv", ["train.py", *choices, *places])
    cli.main("train")
    assert (root.parent / "some" / "run" / "metrics.json").is_file()
    assert (root.parent / "kept").is_dir()
    assert Path.cwd() == root.parent


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_needs_no_torch(arguments):
    watch = "import sys; sys.argv[0] = 'train.py'\nfrom bloodcell.cli import main\n"
    watch += "try:\n    main('train')\nfinally:\n    print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", watch, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False False")
    assert "optimizer" in done.stdout


def test_an_error_of_the_program_itself_keeps_its_traceback(monkeypatch):
    def broken(cfg):
        raise ZeroDivisionError

    monkeypatch.setattr("bloodcell.training.multirun.run", broken)
    monkeypatch.setattr(sys, "argv", ["train.py", *QUICK])
    with pytest.raises(ZeroDivisionError):
        cli.main("train")


def test_a_full_disk_is_one_clear_line():
    assert user_errors.user_message(OSError(28, "No space left on device", "/x/y")).startswith(
        "no space left on the disk (/x/y)"
    )
    assert user_errors.user_message(OSError(2, "No such file")) is None


@pytest.mark.parametrize("length", [245, 300])
def test_an_output_whose_name_is_too_long_is_one_clear_line(command, quick_run, write_image, tmp_path, length):
    arguments = [f"checkpoint={quick_run}", f"images={write_image(tmp_path / 'a.png')}"]
    output = tmp_path / "out" / f"{'x' * length}.csv"
    clear(*command("predict", *arguments, f"output={output}"), "is longer than the system allows; choose a shorter one")
    assert not list(tmp_path.glob("out/*"))


def test_a_checkpoint_whose_name_is_too_long_is_one_clear_line(command, tmp_path):
    clear(*command("evaluate", f"checkpoint={tmp_path / ('x' * 300)}"), "choose a shorter one", "xxx")
