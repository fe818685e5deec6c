"""Layouts of folders: the classes and parts that they mean, or one line on what was seen and what to do."""

import re

import pytest

from bloodcell.data.folder_names import image_of_mask, is_of_masks, kind_of, mentions_split, split_of
from bloodcell.data.joint import read_joint
from bloodcell.data.readers import read_imagefolder
from bloodcell.runtime.errors import BloodcellError


def two(*folders):
    """Return counts of two classes in each folder."""
    return {f"{folder}/{name}": 2 for folder in folders for name in ("Baso", "Eos")}


def counts(samples):
    """Return the number of images of each split and class."""
    groups = samples.table.groupby(["split", "label"]).size()
    return {f"{split}/{label}".removeprefix("/"): count for (split, label), count in groups.items()}


@pytest.mark.parametrize(
    ("split", "names"),
    {
        "train": "train TRAINING training_set TrainSet train-images images_train traindata train1 Train_A",
        "val": "val Valid validation dev dev_set ValidationData",
        "test": "test Testing test_set Test-A TestB test1 images-test holdout hold_out held-out test.2",
        "test_simple": "TEST_SIMPLE",
        "": "tests trains testa valve wbc_train eval tester contest a Basophil",
    }.items(),
)
def test_the_split_that_a_name_means(split, names):
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)
    assert [mentions_split(name) for name in ("wbc_train", "external test", "Basophil")] == ["train", "test", ""]


@pytest.mark.parametrize(
    ("kind", "names"),
    {
        "folds": "fold1,fold_0,Fold A,cv1,CV-2,kfold3,split2",
        "masks or notes on images": "masks,Mask,GT,Ground Truth Segmentation,cell_masks,labels,BoundingBox,json",
        "images of several classes": "images,img,Main Dataset,dataset1,Dataset-B,raw data,pictures",
        "": "a,0,ALL,hem,SEG,Segmented_Neutrophil,no_mask,with mask,Basophil,Set1a,cell,band cells,LYT",
    }.items(),
)
def test_what_a_folder_holds_that_is_no_class(kind, names):
    assert {name: kind_of(name) for name in names.split(",")} == dict.fromkeys(names.split(","), kind)
    assert is_of_masks(names.split(",")[0]) == kind.startswith("masks")


def test_the_image_of_a_mask():
    names = {"a_mask": "a", "b (1)_mask_1": "b (1)", "x-seg": "x", "imgMask": "img", "a_gt": "a", "mask_a": "a"}
    assert {name: image_of_mask(name) for name in names} == names
    assert not any(map(image_of_mask, ("mask", "unmask", "a_1", "neutrophil", "a_segmented")))


READ = {
    "a folder for each split in each class": (
        {"a/Train": 3, "a/test": 2, "b/train": 4, "b/test": 1, "b/val": 1},
        {"train/a": 3, "test/a": 2, "train/b": 4, "test/b": 1, "val/b": 1},
    ),
    "other names of splits": (
        two("training_set", "validation", "test_images"),
        {f"{split}/{name}": 2 for split in ("train", "val", "test") for name in ("Baso", "Eos")},
    ),
    "classes with names of parts": ({"test": 2, "control": 1}, {"test": 2, "control": 1}),
    "classes with short names": ({"ALL": 1, "hem": 1, "SEG": 2}, {"ALL": 1, "hem": 1, "SEG": 2}),
    "folds in classes": ({"a/fold1": 2, "a/fold2": 1, "b/fold1": 1}, {"a": 3, "b": 1}),
    "masks in classes": ({"a/images": 2, "a/masks": 2, "b/images": 1, "b/GT": 1}, {"a": 2, "b": 1}),
}


@pytest.mark.parametrize("kind", READ)
def test_a_layout_that_is_read(kind, class_folders):
    given, expected = READ[kind]
    assert counts(read_imagefolder(str(class_folders(given)))) == expected


#: What is there -> the refusal, R standing for the root.
REFUSED = {
    "a class without splits": ({"a/train": 2, "a/test": 1, "b": 2}, "a/test in R: a folder for a part inside a class"),
    "one split twice in a class": ({"a/test1": 2, "a/test2": 1, "b/train": 2}, "two mean one part"),
    "folds": (two("fold_0", "fold_1"), r"fold_0, fold_1 in R: no class, .* 'data\.sets=\[R/fold_0,R/fold_1\]'"),
    "folds with splits": (two("cv1/train", "cv1/test", "cv2/train"), r"by the name folds; give data\.root=R/cv1$"),
    "folds of images": ({"fold1": 2, "fold2": 2}, "put the images into one folder per class"),
    "two test folders": (
        two("train", "Test-A", "Test-B"),
        r"Test-A and Test-B both mean the test part.*data\.test_dir=",
    ),
    "a part of another name": (two("train", "eval"), r"eval in R, beside train: name the parts"),
    "parts of long names": (two("wbc_train", "wbc_test"), r"wbc_test in R, beside wbc_test, wbc_train: name"),
    "classes beside a test part": ({"a": 2, "b": 2, "test/a": 1, "test/b": 1}, "a in R, beside test: name the parts"),
    "images alone in train": ({"train": 3, "test/a": 1, "test/b": 1}, "train in R, beside test: name"),
    "images alone in train and test": (
        {"train": 3, "test": 2},
        "test, train in R: no class, but by the name parts of a data set; put the images into one folder per class",
    ),
    "images and masks": (
        {"images": 2, "masks": 2},
        "images, masks in R: no class, .* masks or notes on images; put the images into",
    ),
    "classes and masks": ({"a": 2, "b": 2, "masks": 2}, "masks in R: no class, .*; move it out of R"),
    "classes of images and of masks": (two("Main Dataset", "Ground Truth"), r"give data\.root=R/Main Dataset$"),
    "images and masks in a part": (
        {"train/images": 2, "train/masks": 2, "test/images": 1},
        "images in R/test: no class",
    ),
    "classes one level below": (
        two("wbc"),
        r"wbc in R: no class, but by the name what holds the class folders; give data\.root=R/wbc$",
    ),
    "splits one level below": (two("wbc/train", "wbc/test"), r"give data\.root=R/wbc$"),
    "a part twice below itself": (two("train/train"), r"train in R/train: .*give data\.train_dir=R/train/train$"),
    "images alone in one part": (
        {"train": 3},
        r"train in R: no class, .* parts of a data set; put the images into one",
    ),
    "two data sets": (
        two("A", "B"),
        r"A, B in R hold baso, eos: which are the classes\? .*'data\.sets=\[R/A,R/B\]'",
    ),
    "two data sets with splits": (
        two("A/train", "A/test", "B/train"),
        r"A, B in R hold parts with folders: which .*\[R/A,R/B\].*data=table$",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_layout_that_is_refused(kind, class_folders):
    given, words = REFUSED[kind]
    root = class_folders(given)
    with pytest.raises(BloodcellError) as raised:
        read_imagefolder(str(root))
    assert re.search(words, str(raised.value).replace(str(root), "R")), raised.value
    assert "\n" not in str(raised.value)


def test_the_advice_on_folds_reads_them(class_folders):
    root = class_folders(two("fold_0", "fold_1"))
    samples = read_joint([f"{root}/fold_0", f"{root}/fold_1"], None)
    assert samples.table.groupby("set")["label"].value_counts().to_dict() == {
        (fold, name): 2 for fold in ("fold_0", "fold_1") for name in ("Baso", "Eos")
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            two("train", "test"),
            r"test, train in R: no class, but by the name parts of a data set; give data\.root=R$",
        ),
        (two("fold1", "fold2"), "fold1, fold2 in R: no class, but by the name folds"),
        ({"a/train": 1, "a/test": 1, "b/train": 1}, "a/test in R: a folder for a part inside a class"),
        ({"images": 1, "masks": 1}, "images, masks in R: no class"),
    ],
)
@pytest.mark.parametrize("key", ["train_dir", "test_dir", "val_dir"])
def test_named_folders_hold_classes_as_well(class_folders, tmp_path, given, words, key):
    root, right = class_folders(given), class_folders({"a": 1, "b": 1}, tmp_path / "right")
    folders = {"train_dir": str(right)} | {key: str(root)}
    with pytest.raises(BloodcellError) as raised:
        read_imagefolder(None, **folders)
    assert re.search(words, str(raised.value).replace(str(root), "R")), raised.value


def test_a_named_folder_without_images_and_a_part_among_classes(class_folders, tmp_path):
    root = class_folders({"a": 1, "b": 1, "test/a": 1, "test/b": 1})
    with pytest.raises(
        BloodcellError, match=r"test in .*: no class, but by the name parts of a data set; move it out of"
    ):
        read_imagefolder(None, train_dir=str(root), test_dir=f"{root}/test")
    empty = class_folders({"a": 0, "b": 0}, tmp_path / "empty")
    with pytest.raises(BloodcellError, match=r"no images found in data\.test_dir=.*empty; give another one"):
        read_imagefolder(None, train_dir=f"{root}/test", test_dir=str(empty))


def test_a_named_test_folder_decides_between_two(class_folders):
    root = class_folders(two("Train", "Test-A", "Test-B"))
    samples = read_imagefolder(str(root), test_dir=f"{root}/Test-B")
    assert counts(samples) == {"train/Baso": 2, "train/Eos": 2, "test/Baso": 2, "test/Eos": 2}
    assert set(samples.of_split("test").table["path"].str.split("/").str[0]) == {"Test-B"}


def test_masks_beside_images_are_left_out_and_counted(class_folders, write_image, capsys):
    root = class_folders({"a": 2, "b": 1})
    for name in ("a/0_mask.png", "a/1_mask.png", "b/0_seg.bmp", "b/alone_mask.png"):
        write_image(root / name)
    assert counts(read_imagefolder(str(root))) == {"a": 2, "b": 2}
    assert capsys.readouterr().out == f"note: {root}: not read: 3 masks\n"


def test_one_line_counts_what_is_not_read(class_folders, write_image, capsys):
    root = class_folders({"a": 1, "b": 1, "c": 0})
    for name in ("a/1.svg", "a/2.svg", "b/none", "a/x.dcm"):
        (root / name).write_bytes(b"x")
    write_image(root / "stray.png")
    assert counts(read_imagefolder(str(root))) == {"a": 1, "b": 1}
    assert capsys.readouterr().out == (
        f"note: {root}: not read: 2 .svg files, 1 .dcm file, 1 file without ending; in no class folder 1 .png file; "
        "empty class folders: c\n"
    )


def test_what_lies_beside_the_parts_is_named(class_folders, capsys):
    root = class_folders({"train/a": 1, "train/b": 1, "test": 3, "c": 2, "docs": 0})
    assert counts(read_imagefolder(str(root))) == {"train/a": 1, "train/b": 1}
    assert (
        capsys.readouterr().out
        == f"note: {root}: not read: c (2 images), test (3 images), as no part with class folders\n"
    )


def test_an_archive_beside_the_classes_is_named(class_folders, capsys):
    root = class_folders({"a": 1, "b": 1})
    (root / "c.zip").write_bytes(b"PK")
    read_imagefolder(str(root))
    assert capsys.readouterr().out == f"note: {root}: not read: in no class folder 1 .zip file\n"


def test_folders_that_all_classes_share_are_named_if_they_may_be_patients(class_folders, capsys):
    root = class_folders({"benign/40X": 1, "benign/100X": 1, "malignant/40X": 1, "malignant/100X": 2})
    assert counts(read_imagefolder(str(root))) == {"benign": 2, "malignant": 3}
    assert "the classes are benign, malignant, and not the folders in them, 100x, 40x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "seen"), [("dcm", r"\.dcm files"), ("heic", r"\.heic files"), ("", "files without")]
)
def test_a_class_of_unread_files_is_refused(class_folders, ending, seen):
    root = class_folders({"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 0})
    for number in range(2):
        (root / "test" / "b" / f"{number}.{ending}".rstrip(".")).write_bytes(b"x")
    with pytest.raises(BloodcellError, match=rf"class folder b in .*test has no image that can be read, but 2 {seen}"):
        read_imagefolder(str(root))


@pytest.mark.parametrize("ending", ["gif", "GIF", "jfif", "jpe", "pjpeg", "pbm", "pnm"])
def test_further_endings_of_formats_that_are_read(class_folders, write_image, ending):
    from bloodcell.data.images import read_image

    root = class_folders({"a": 1, "b": 0})
    form = {"gif": "gif", "pbm": "ppm", "pnm": "ppm"}.get(ending.lower(), "jpeg")
    write_image(root / "b" / f"0.{ending}", format=form)
    samples = read_imagefolder(str(root))
    assert counts(samples) == {"a": 1, "b": 1}
    assert read_image(samples.files()[1]).ndim == 3
