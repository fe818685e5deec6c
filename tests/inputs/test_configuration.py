"""Configuration of wrong types and values: each mistake is named with its key, before anything long is computed."""

import sys

import pytest

from tests.conftest import QUICK, SMALL

pytestmark = [pytest.mark.inputs, pytest.mark.timeout(60, func_only=True)]

GROUP = "configuration"

#: An override of a training -> words of its refusal.
TRAIN = {
    # whole numbers
    "seed=-1": "seed=-1; give a whole number",
    "seed=abc": "seed=.*; give a whole number",
    "seed=1.5": "seed=.*; give a whole number",
    "seed=null": r"seed=null; it needs a value",
    "seed=true": "seed=.*; give a whole number",
    "seed=[1]": "seed=.*; give a whole number",
    "seed=99999999999": "seed=99999999999; give a whole number",
    "seed==1": "seed=.*; give a whole number",
    "data.seed=-1": r"data\.seed=-1; give a whole number",
    "data.seed=abc": r"data\.seed=.*; give a whole number",
    "data.batch_size=0": r"data\.batch_size=0; give a whole number of 1 or more",
    "data.batch_size=-3": r"data\.batch_size=-3",
    "data.batch_size=1.5": r"data\.batch_size=.*; give a whole number",
    "data.batch_size=null": r"data\.batch_size=null; it needs a value",
    "data.image_size=1000000000": r"data\.image_size=1000000000; give whole pixels from 16 to 4096",
    "data.image_size=-1": r"data\.image_size=-1",
    "data.image_size=32.5": r"data\.image_size=.*; give a whole number",
    "model.image_size=1000000000": r"data\.image_size=1000000000",
    "data.workers=-5": "workers=-5; give 0 to 256",
    "data.workers=abc": r"data\.workers=abc; give a whole number",
    "data.workers=100000": "workers=100000; give 0 to 256",
    "data.folds=abc": r"data\.folds=.*; give a whole number",
    "data.fold=7": r"data\.fold=7; with data\.folds=5 choose 0 to 4",
    "data.fold=abc": r"data\.fold=abc",
    "data.epoch_size=0": r"data\.epoch_size=0",
    "trainer.max_epochs=0": r"trainer\.max_epochs=0 leaves nothing to train on",
    "trainer.max_epochs=-5": "max_epochs.*-5",
    "trainer.max_epochs=three": r"trainer\.max_epochs=.*; give a whole number",
    "callbacks.early_stopping.patience=abc": "patience=.*; give a whole number",
    "features.views=-1": r"features\.views=-1",
    "model.head.hidden=-1": "hidden=-1",
    # numbers
    "optimizer.lr=-1": "Invalid learning rate: -1",
    "optimizer.lr=nan": r"optimizer\.lr=.*; give a number",
    "optimizer.lr=inf": r"optimizer\.lr=.*; give a number",
    "optimizer.lr=null": r"optimizer\.lr=.*; give a number",
    "optimizer.lr=[1]": r"optimizer\.lr=.*; give a number",
    "optimizer.lr=fast": r"optimizer\.lr=.*; give a number",
    "optimizer.weight_decay=-1": "Invalid weight_decay value: -1",
    "data.val_fraction=1.5": r"data\.val_fraction=1\.5; give a number from 0 to below 1",
    "data.val_fraction=nan": r"data\.val_fraction=.*; give a number",
    "data.test_fraction=-1": r"data\.test_fraction=-1",
    "data.crop_size=0": r"data\.crop_size=0.*1 to 10 diameters",
    "data.finder=3": r"data\.finder=3; choose 1 or 2",
    "data.crop_size=null": r"data\.crop_size=null; it needs a value",
    "data.balance=-1": r"data\.balance=-1",
    "model.width=-1": r"model\.width=-1\.0; give a number above 0",
    "model.width=1000": r"model\.width=1000\.0; give a number above 0, up to 4",
    "model.head.dropout=1": r"dropout=1\.0; .* 0 to below 1",
    "loss.label_smoothing=2": r"loss\.label_smoothing=2",
    "loss.robust=nan": r"loss\.robust=.*; give a number",
    # words
    "data.crop=cells": r"data\.crop=cells; choose none, cell or auto",
    "data.crop=[cell]": r"data\.crop=.*; (give text|it needs a value)",
    "data.split=maybe": r"data\.split=maybe; choose",
    "data.sampling=some": r"data\.sampling=some; choose",
    "data.in_memory=maybe": r"data\.in_memory=maybe; choose",
    "data.leak_check=maybe": r"data\.leak_check=maybe; choose",
    "data.on_bad_image=null": r"data\.on_bad_image=null; it needs a value",
    "evaluate.tta=flip": "tta=flip; choose none, flips or d4",
    "model.head.pool=null": r"model\.head\.pool=null; it needs a value",
    "model.name=3": r"model\.name=3 is unknown",
    "outputs=null": "outputs=.*; (give text|it needs a value)",
    "outputs=[1]": "outputs=.*; (give text|it needs a value)",
    "loss.class_weights=5": r"loss\.class_weights=5; choose none, balanced or null",
    "features.cache=5": r"features\.cache=5; choose",
    "features.backend=5": r"features\.backend=5",
    "features.precision=half": r"features\.precision=half",
    "calibrate=maybe": "calibrate=maybe",
    "limits=maybe": "limits=maybe; give true or false",
    "report=maybe": "report=maybe; give true or false",
    "resume=[a]": "resume=|no run",
    # lists and settings
    "model.mean=5": r"model\.mean=.*; give a list",
    "model.mean=[1]": r"model\.mean=.*; give a list",
    "model.mean=[a,b,c]": r"model\.mean\[0\]=a; give a number",
    "model.std=[0,0,0]": r"model\.std=\[0\.0, 0\.0, 0\.0\]; give three numbers above 0",
    "model.head=null": r"model\.head=null; it needs a value",
    "loss=null": "loss=null; it needs a value|loss= names no option",
    "cache=null": "cache=null; it needs a value",
    "callbacks.best=5": r"callbacks\.best=5: the chosen group",
    "data.classes=a": r"data\.classes=a; give a list",
    "data.classes=[zz]": "no class 'zz' in the data; choose from",
    "data.class_map=5": r"data\.class_map=5; give",
    "data.class_map=[a]": r"data\.class_map=\['a'\]; give",
    "data.class_map={zz: null}": "no class 'zz' in the data",
    "data.group_regex=(": "is no regular expression",
    "data.group_regex=5": "finds no group",
    # devices
    "trainer.gpus=many": r"trainer\.gpus=many; give a number",
    "trainer.gpus=-2": r"trainer\.gpus=-2",
    "trainer.gpus=[0,0]": r"trainer\.gpus=\[0, 0\]",
    "trainer.gpus=99": r"trainer\.gpus=99, but this machine has",
    # places
    "model.weights=/etc/passwd": "passwd is no file of weights|model.width",
    "model.weights=/": "/ holds no checkpoint",
    "cache.root=/dev/null": "cannot make the folder /dev/null",
    # targets
    "optimizer._target_=os.system": "_target_='os.system' is not allowed",
    "optimizer._target_=null": "_target_=None is not allowed",
    "optimizer._target_=torch.optim.Nadamm": "has no attribute 'Nadamm'",
    "scheduler._target_=5": "_target_=5 is not allowed",
    "callbacks.best._target_=builtins.exec": "_target_='builtins.exec' is not allowed",
    "+logger.x._target_=subprocess.Popen": "_target_='subprocess.Popen' is not allowed",
    "data.reader._target_=bloodcell.data.readers.os.remove": "_target_='.*' is not allowed|_target_=.*",
    "data.reader.nosuch=1": "no configuration key 'data.reader.nosuch'",
    "data.reader.copies=0": "copies",
    "data.reader.strength=no": "strength",
    # what is not there
    "nosuch=1": "no configuration key 'nosuch'",
    "nosuch.key=1": "no configuration key 'nosuch.key'",
    "optimizer.lrr=1": r"did you mean 'optimizer\.lr'",
    "data=nosuch": "no option 'nosuch' in group 'data'; choose from",
    "model=null": "model= names no option; choose from",
    "logger=": "logger= names no option; choose from",
    "experiment=null": "experiment= names no option; choose from",
    "~seed": r"seed is not set; give seed=",
    "~data": "data= names no option",
    "~optimizer.lr": r"optimizer\.lr=None; give a number above 0",
    "~trainer.max_epochs": r"trainer\.max_epochs is needed; give it another value",
    "+seed=1": "An item is already at 'seed'",
    "+nosuch=1": r"\+nosuch: nothing reads",
    "++nosuch=1": r"\+nosuch: nothing reads",
    "+data.nosuch=1": r"nothing reads",
    "+model.head.nosuch=1": r"nothing reads",
    "+trainer.nosuch=1": "nosuch",
    "+optimizer.nosuch=1": "nosuch",
    "+data.reader.nosuch=1": "nosuch",
    "hydra/launcher=nosuch": "nosuch",
    "--seed": "no flag '--seed'; choices are written key=value",
    # what cannot be read
    "a=[": "no viable alternative",
    "a={": "no viable alternative",
    "=": "''",
    "==": "''|extraneous",
    "+": "mismatched input|missing",
    "++": "missing EQUAL",
    "\u03b1=1": "cannot read \u03b1='1'; keys are plain letters",
    "data.root=${": "data.root",
    "seed=${nosuch}": "Interpolation key 'nosuch' not found",
    "data.root=a,b": "Ambiguous value|multirun|--multirun",
}

#: The same of Lightning's own settings.
TRAINER = {
    "trainer.nosuch=1": "no configuration key 'trainer.nosuch'",
    "trainer.precision=3": r"trainer\.precision=3; choose auto",
    "trainer.strategy=nosuch": r"trainer\.strategy=nosuch: several devices learn by ddp",
    "trainer.accelerator=toaster": "trainer.gpus|toaster",
    "trainer.limit_train_batches=-1": "trainer: .*limit_train_batches",
    "trainer.limit_train_batches=0": "limit_train_batches=0 leaves nothing",
    "trainer.limit_val_batches=0": "limit_val_batches=0 leaves nothing",
    "trainer.max_time=abc": "trainer: .*",
    "trainer.plugins=[5]": "trainer: .*plugin",
    "trainer.val_check_interval=7.5": "trainer: .*val_check_interval",
    "trainer.check_val_every_n_epoch=0": "check_val_every_n_epoch=0 leaves nothing",
    "trainer.accumulate_grad_batches=0": "accumulate_grad_batches=0 leaves nothing",
    "trainer.profiler=nosuch": r"trainer\.profiler=nosuch; choose null",
    "trainer.overfit_batches=-7": r"trainer: .*limit_train_batches",
    "trainer.num_nodes=0": "trainer|num_nodes",
    "callbacks.early_stopping.monitor=nosuch": "nosuch",
    "callbacks.early_stopping.mode=up": "mode",
    "callbacks.best.monitor=nosuch": "nosuch",
    "scheduler._target_=torch.optim.lr_scheduler.StepLR": "step_size",
}

#: Arguments of other verbs -> words of their refusal; {run} and {folder} stand for a run and a folder of one image.
OTHERS = {
    "predict": {
        "checkpoint={run} output=o.csv": "images is not set",
        "checkpoint={run} images={folder} output=null": "output= names no CSV file",
        "checkpoint={run} images={folder} output=o.txt": r"output=o\.txt names no CSV file",
        "checkpoint={run} images={folder} output={folder}": "names no CSV file",
        "checkpoint={run} images={folder} output=/dev/null/o.csv": "no folder /dev/null can be made",
        "checkpoint={run} images=/gone output={out}": "no such file or folder: images=/gone",
        "checkpoint={run} images=[] output={out}": "images is not set",
        "checkpoint={run} images={folder}/*.tif output={out}": "matches no file",
        "checkpoint={run} images=~nobody-of-this-name/x output={out}": "begins with ~ and a name that no user",
        "checkpoint={run} images={folder} output={out} device=toaster": "device=toaster is not there",
        "checkpoint={run} images={folder} output={out} device=cuda:99": "device=cuda:99 is not there",
        "checkpoint={run} images={folder} output={out} device=[cpu]": r"device=\['cpu'\] is not there",
        "checkpoint={run} images={folder} output={out} tta=5": "tta=5; choose",
        "checkpoint={run} images={folder} output={out} workers=-1": "workers=-1; give 0 to 256",
        "checkpoint={run} images={folder} output={out} workers=many": r"workers=many; give a whole number",
        "checkpoint={run} images={folder} output={out} abstain_below=high": r"abstain_below=high; give a number",
        "checkpoint={run} images={folder} output={out} abstain_below=nan": "a number from 0 to 1",
        "checkpoint={run} images={folder} output={out} abstain_below=[1]": r"abstain_below=\[1\]; give a number",
        "checkpoint={run} images={folder} output={out} error_rate=2": "a number from 0 to 1",
        "checkpoint={run} images={folder} output={out} overwrite=maybe": "overwrite=maybe; give true or false",
        "checkpoint={run} images={folder} output={out} nosuch=1": "no configuration key 'nosuch'",
        "checkpoint={a:b} images={folder} output={out}": "no such run or checkpoint|checkpoint",
    },
    "evaluate": {
        "": "neither is given",
        "checkpoint={run} predictions=p.csv": "both are given",
        "checkpoint={run} splits=5": "splits",
        "checkpoint={run} splits=[nosuch]": "splits=.*nosuch.* are not in the data",
        "checkpoint={run} compare=true": "needs two or more",
        "checkpoint={run} compare=maybe": "compare=maybe; give true or false",
        "checkpoint={run} adapt=magic": "adapt=magic",
        "checkpoint={run} tta=no": r"tta=no; choose null, none, flips or d4",
        "checkpoint={run} device=toaster": "device=toaster is not there",
        "checkpoint={run} data=imagefolder data.root={folder}": "no class folders in",
        "checkpoint={run} data.root=/gone": "no longer in /gone",
        "predictions=/gone.csv": "cannot read predictions=/gone.csv: No such file",
    },
    "audit": {
        "data=imagefolder data.root=/gone": "no such folder",
        "data=imagefolder data.root={folder}": "no class folders in",
        "data=imagefolder data.root={classes} data.originals=/gone": r"no such folder: data\.originals=/gone",
        "data=imagefolder data.root={classes} nosuch=1": "no configuration key 'nosuch'",
    },
    "cache": {"clear=nosuch": "nosuch", "cache.root=/dev/null": "cannot make the folder", "clear=[a]": "a"},
    "find-lr": {
        "finder.steps=many": "finder.steps=many; give a whole number",
        "finder.min_lr=nan": "finder: min_lr=nan",
    },
}


@pytest.mark.parametrize("override", [*TRAIN, *TRAINER])
def test_a_training_is_refused(override, train_refused, tmp_path):
    reset = ["trainer.gpus=null"] if "accelerator" in override else []
    train_refused(GROUP, (TRAIN | TRAINER)[override], *reset, override)


@pytest.mark.parametrize(("verb", "line"), [(verb, line) for verb, lines in OTHERS.items() for line in lines])
def test_another_verb_is_refused(verb, line, refused, quick_run, class_folders, write_image, tmp_path, monkeypatch):
    folder = write_image(tmp_path / "folder" / "0.png").parent
    root = class_folders({"a": 2, "b": 2})
    places = {"{run}": quick_run, "{folder}": folder, "{classes}": root, "{out}": tmp_path / "out" / "o.csv"}
    monkeypatch.chdir(tmp_path)
    arguments = line
    for name, place in places.items():
        arguments = arguments.replace(name, str(place))
    data = SMALL if verb == "find-lr" else ()
    refused(GROUP, OTHERS[verb][line], verb, *data, *arguments.split())
    assert not (tmp_path / "out" / "o.csv").exists()


@pytest.mark.parametrize("arguments", [["trian"], ["-x"], ["train", "x"], ["predict", "a b"], ["\x1b[31mtrain"]])
def test_what_is_no_verb_or_no_choice(arguments, monkeypatch, capsys, count, tmp_path):
    from bloodcell import cli
    from tests.inputs.conftest import assert_clear

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bloodcell", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    error = capsys.readouterr().err
    assert_clear(left.value.code, error, "no verb|no flag|no such folder|no such file or folder")
    assert "\x1b" not in error
    count(GROUP, "refused")


#: Names in a list or dict of the command line -> the classes that are left of 01, 1e3, ä, [M] b and null.
NAMES = {
    "data.classes=[1e3]": "1e3",
    "data.classes=[01]": "01",
    "data.classes=['01']": "01",
    "data.classes=[null]": "null",
    "data.classes=[ä]": "ä",
    'data.classes=["[M] b"]': "[M] b",
    "data.classes=['[m] B']": "[M] b",
    "data.class_map={01: 2e5, 1e3: 2e5, ä: 2e5, '[M] b': null, null: null}": "2e5",
    'data.class_map={"[M] b": 01, 01: null, 1e3: null, ä: null, "null": null}': "01",
    r"data.class_map={\[M\] b: x (1), 01: null, 1e3: null, ä: null, null: null}": "",
    "data.class_map={ä: a=b, 01: null, 1e3: null, '[M] b': null, null: null}": "a=b",
}


@pytest.mark.parametrize("override", NAMES)
def test_names_on_the_command_line_are_text(override, class_folders, command, count):
    root = class_folders({"01": 1, "1e3": 1, "ä": 1, "[M] b": 1, "null": 1})
    code, _, error = command("train", *QUICK, "data=imagefolder", f"data.root={root}", override)
    assert code == 1
    expected = NAMES[override] and f"error: training needs images of at least two classes; it has {NAMES[override]}\n"
    assert error == expected or (not expected and "'data.class_map={\"[a] b\": c}'" in error), error
    count(GROUP, "right" if NAMES[override] else "refused")


def test_a_set_may_be_named_by_a_number(class_folders, tmp_path, train_refused):
    folders = [class_folders({"a": 1, "b": 1}, tmp_path / name) for name in ("one", "two")]
    sets = f"data.sets={{2019: {folders[0]}, mine: {folders[1]}}}"
    words = "no data set '1e3'; choose from: 2019, mine"
    train_refused(GROUP, words, "data=joint", sets, "data.leave_out=1e3")


def test_a_checkpoint_in_a_list_may_have_an_equals_sign(quick_run, command, write_image, tmp_path, count):
    file = tmp_path / "epoch=3-step=10.ckpt"
    file.write_bytes((quick_run / "checkpoints" / "best.ckpt").read_bytes())
    write_image(tmp_path / "images" / "0.png")
    output = tmp_path / "o.csv"
    code, _, error = command(
        "predict", f"checkpoint=[{file},{quick_run}]", f"images={tmp_path}/images", f"output={output}"
    )
    assert (code, error) == (0, "")
    assert len(output.read_text().splitlines()) == 2
    count(GROUP, "right")


@pytest.mark.parametrize("name", ["ä-細", "a (1)", "a=b", "it's", "$HOME", "100%", "a;b&c|d", "tab\tulator"])
def test_a_folder_of_any_name_is_understood(name, class_folders, tmp_path, command, count):
    root = class_folders({"a": 1, "b": 1}, tmp_path / name)
    (root / "a" / "0.png").write_bytes(b"bad")
    code, _, error = command("train", *QUICK, "data=imagefolder", f"data.root={root}", "data.val_fraction=0.4")
    assert code == 1
    assert "1 of 2 images cannot be read, e.g. a/0.png: not an image" in error  # so the folder was found
    count(GROUP, "right")
