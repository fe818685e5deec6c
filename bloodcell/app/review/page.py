"""The page of a folder, put together from its configuration."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from bloodcell.app.classifier_summary import about, short, sureness
from bloodcell.app.review.desk import Desk
from bloodcell.app.review.learning import Learning
from bloodcell.app.review.routes import Review, review_application
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL
from bloodcell.data.decision_feed import DecisionFeed, require_writable
from bloodcell.evaluation.reviews.folder_cells import Reader, folder_of
from bloodcell.evaluation.reviews.folder_slides import slides_in_folder
from bloodcell.evaluation.reviews.review import corrections_file
from bloodcell.inference.engine import Engine
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import engines_of
from bloodcell.inference.tta import as_trained
from bloodcell.metrics.confusions import MOST
from bloodcell.runtime.colours import COLOURS, letters_on
from bloodcell.runtime.config import cache_root
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device
from bloodcell.runtime.schema.verbs import AppConfig


def page_of_folder(config: AppConfig) -> Starlette:
    """Return the application; its cells are judged in a thread that has begun.

    Raises:
        BloodcellError: The configuration or an input is wrong, or decisions cannot be kept.
    """
    folder = folder_of(config.images)
    file, who = corrections_file(config, folder), reviewer_of(config.reviewer)
    engines = engines_of(config)
    require_writable(file)
    DecisionFeed(file, engines[0].known)  # says what is wrong in it before the page opens

    def read(classifiers: list[Engine]) -> Reader:
        tta = as_trained(config.tta, [engine.tta for engine in classifiers])
        threshold, _ = sureness(config.abstain_below, config.error_rate, classifiers, tta)
        return Reader(classifiers, tta, config.cells, folder, threshold, cache_root(config.cache.root))

    def load(run: Path) -> list[Engine]:
        return load_engines(str(run), best_device(config.device), config.features, classes=config.classes)

    reader = read(engines)
    desk = Desk(folder, file, who, read, slides_in_folder(folder, config.slide_regex))
    learning = Learning(Path(config.outputs).absolute(), Path(folder.base or "."), file, config.slide_regex)
    able = len(engines) == 1 and engines[0].classifier is not None and engines[0].file is not None
    review = Review(desk, learning, load, config.blind, str(engines[0].file) if able else "")
    desk.judge(reader)

    def values() -> dict[str, Any]:
        now = desk.sheet.reader if desk.sheet else reader
        tta = now.ensemble.tta
        _, words = sureness(config.abstain_below, config.error_rate, now.ensemble.engines, tta)
        return {
            **about(now.ensemble, now.cells),
            "sureness": words,
            "least": short(now.threshold),
            "most_classes": MOST,
            "colours": [[one, letters_on(one)] for one in COLOURS],
            "further": [NO_CELL, CANNOT_TELL],
            "name": Path(folder.given[0]).resolve().name,
            "file": str(file),
            "who": who,
            "blind": config.blind,
            "can_learn": able and not config.blind,
        }

    return review_application(review, values, config.host)


def reviewer_of(name: str | None) -> str:
    """Return the name of the person who decides.

    Raises:
        BloodcellError: The name has a line break.
    """
    if name is not None and any(mark in name for mark in "\r\n"):
        raise BloodcellError("reviewer has a line break; give a name in one line")
    if name is not None:
        return name.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # this user has no name
        return ""
