"""Names of folders that are no classes: parts of a data set, folds, masks, and folders that only hold others."""

from __future__ import annotations

import re

#: A part's name in lower case -> split.
SPLIT_NAMES = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "development": "val",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test", "hold out": "test", "held out": "test",
    "test_simple": "test_simple",
}  # fmt: skip

_PART = "|".join(sorted((name.replace(" ", "[ ]?") for name in SPLIT_NAMES), key=len, reverse=True))
_CONTAINER = r"(?:data|dataset|set|images?|imgs?|pictures?|pics|photos?|folder|directory|dir|split|part|raw)"
_NUMBER = r"(?: ?\d+| [a-z])?"
_PART_NAME = re.compile(rf"(?:{_CONTAINER} ?)*(?P<part>{_PART})(?: ?{_CONTAINER})*{_NUMBER}")
_MASKS = "masks or notes on images"
_KINDS = {
    "folds": re.compile(r"(?:k ?)?(?:fold|cv|cross validation|cross val)s? ?(?:\d+|[a-z])?|(?:split|partition) ?\d+"),
    _MASKS: re.compile(
        r"(?:(?:segmentation|nucle(?:us|i)|cell|binary|gt|ground ?truth|label|annotation|bounding|image) ?)*"
        r"(?:masks?|segmentations?|ground ?truths?|gt|annotations?|annots?|labels?|bounding ?box(?:es)?"
        rf"|bbox(?:es)?|boxes|contours?|json|xmls?)(?: ?{_CONTAINER})*{_NUMBER}"
    ),
    "images of several classes": re.compile(rf"(?:(?:main|all|full) )?{_CONTAINER}(?: ?{_CONTAINER})*{_NUMBER}"),
}
_MASK = re.compile(
    r"(?:masks?|seg)[ _.-]+(.+)"
    r"|(.+?)(?:[ _.-]+(?:masks?|seg(?:mentation)?|labels?|gt|ground_?truth|annotations?|bbox)|Mask)(?:[ _.-]?\d+)?"
)


def split_of(name: str) -> str:
    """Return the split that a folder's name means, e.g. `Training_Set`, `test-images` or `Test-A`; empty if none."""
    if name.lower() in SPLIT_NAMES:
        return SPLIT_NAMES[name.lower()]
    match = _PART_NAME.fullmatch(_words(name))
    return SPLIT_NAMES.get(match["part"], SPLIT_NAMES.get(match["part"].replace(" ", ""), "")) if match else ""


def mentions_split(name: str) -> str:
    """Return the split that a word of a folder's name means, e.g. of `wbc_train`; empty if none."""
    return split_of(name) or next((SPLIT_NAMES[word] for word in _words(name).split() if word in SPLIT_NAMES), "")


def kind_of(name: str) -> str:
    """Return in words what a folder of this name holds that is no class; empty if it may be a class."""
    words = _words(name)
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(words)), "")


def is_of_masks(name: str) -> bool:
    """Return whether a folder of this name holds masks, bounding boxes or the like."""
    return kind_of(name) == _MASKS


def image_of_mask(stem: str) -> str:
    """Return the stem of the image that a file is the mask of by its name, `a` for `a_mask`; empty if it is none."""
    match = _MASK.fullmatch(stem)
    return (match[1] or match[2]) if match else ""


def _words(name: str) -> str:
    """Return a name in lower case with blanks between its words: `TestSet_2` is `test set 2`."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[_.-]", " ", name).lower().split())
