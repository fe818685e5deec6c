"""The verb `differential`: the share of each class among the white cells of slides, with intervals.

The folder gets cells.csv, a row for each cell; differential.csv, a row for each slide and class; slides.csv, a row for
each slide; and report.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from bloodcell.data.folders import endings_of
from bloodcell.data.image_paths import iter_image_paths, iter_unread, relative_to
from bloodcell.data.whole_slides import is_whole_slide
from bloodcell.evaluation.differentials.count_notes import notes_of
from bloodcell.evaluation.differentials.count_text import text_of
from bloodcell.evaluation.differentials.slide_counts import SlideCount, count_slides, differential_table, slides_table
from bloodcell.evaluation.differentials.slide_names import slides_of
from bloodcell.evaluation.run import read_table
from bloodcell.inference.engine import Engine
from bloodcell.inference.predict import engines_of, predict_images, threshold_of
from bloodcell.inference.tta import as_trained
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import command, continuation, say_end
from bloodcell.runtime.config import job_folder, listed, typed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.schema.verbs import DifferentialConfig, PredictConfig


@dataclass(frozen=True)
class Slides:
    """The pictures of the slides."""

    root: Path
    of_path: Mapping[str, str]  # path below the root, as tables have it -> slide

    def fields(self, bad: Path) -> dict[str, int]:
        """Return the number of pictures of each slide, without those that a table lists as bad."""
        unread = set(read_table(bad)["path"]) if bad.is_file() else set()
        numbers = dict.fromkeys(self.of_path.values(), 0)
        for path, slide in self.of_path.items():
            numbers[slide] += path not in unread
        return numbers


def run(cfg: DictConfig) -> Path:
    """Count in the folder that Hydra chose, and return it."""
    folder = job_folder()
    try:
        count(typed(cfg, DifferentialConfig), folder)
    except KeyboardInterrupt as error:
        more = () if "hydra.run.dir=" in command() else (f"hydra.run.dir={folder}",)
        error.continuation = continuation(None, *more)  # type: ignore[attr-defined]
        raise
    return folder


def count(config: DifferentialConfig, folder: Path) -> list[SlideCount]:
    """Count the cells of slides, or go on after an interruption; the folder is new, or begun by the same command.

    Raises:
        BloodcellError: The configuration or an input is wrong, or no picture can be read.
    """
    slides = slides_in(config.images, config.slide_regex)
    engines = engines_of(config)
    tta = as_trained(config.tta, [engine.tta for engine in engines])
    threshold = threshold_of(config.abstain_below, config.error_rate, engines, tta)
    run_folder.begin_results(folder, config)
    cells = cells_of(config, folder, engines, slides)
    confusion, unknown = confusion_of(engines, tta)
    with progress("counting"):
        counts = count_slides(cells, slides.fields(folder / "cells.bad.csv"), confusion)
        write_csv(differential_table(counts), folder / "differential.csv")
        write_csv(slides_table(counts), folder / "slides.csv")
    notes = notes_of(counts, confusion, unknown, threshold)
    if config.report:
        from bloodcell.evaluation.differentials.count_report import write_report

        write_report(folder / "report.html", counts, notes, cells, slides.root, engines)
    run_folder.end_results(folder)
    for line in [*text_of(counts), *(f"note: {note}" for note in notes)]:
        say(line)
    named = ",".join(map(str, listed(config.checkpoint)))
    checkpoint = f"checkpoint={named}" if len(engines) == 1 else f"checkpoint=[{named}]"
    seen = [] if "number" not in cells else ["cells=all", "overlays=DIR"]
    look = folder / ("report.html" if config.report else "differential.csv")
    say_end(look, then=["predict", config.images, checkpoint, "output=FILE.csv", *seen])
    return counts


def slides_in(images: object, expression: str | None) -> Slides:
    """Return the pictures of the slides in a folder.

    Raises:
        BloodcellError: There is no such folder or no picture in it, or it is unclear what a slide is.
    """
    if images is None:
        raise BloodcellError("images is not set; give the folder of the slides with images=FOLDER")
    root = Path(str(images)).expanduser()
    if not root.is_dir():
        raise BloodcellError(f"images={images} is no folder; give the folder of the slides, each a folder in it")
    with progress("looking for images"):
        paths = [relative_to(path, str(root)) for path in iter_image_paths([str(root)])]
    if not paths:
        others = endings_of(iter_unread([str(root)])) or "no file"
        raise BloodcellError(f"no image in images={images}, but {others}; give the folder of the slides")
    written = [path.encode(errors="backslashreplace").decode() for path in paths]
    whole = {path for path in paths if is_whole_slide(root / path)}
    return Slides(root, dict(zip(written, slides_of(paths, root, expression, whole), strict=True)))


def cells_of(config: DifferentialConfig, folder: Path, engines: list[Engine], slides: Slides) -> pd.DataFrame:
    """Return the table of all cells with their slide, predicted by `predict` as far as cells.csv is not complete."""
    file = folder / "cells.csv"
    if not file.is_file() or file.with_suffix(".state.json").is_file():
        predict_images(_prediction(config, file), engines)
    cells = read_table(file)
    if not any(slides.fields(folder / "cells.bad.csv").values()):
        raise BloodcellError(f"no image in images={config.images} can be read; which and why: {folder}/cells.bad.csv")
    return cells.assign(slide=cells["path"].map(slides.of_path))


def _prediction(config: DifferentialConfig, file: Path) -> PredictConfig:
    own = {name: value for name, value in vars(config).items() if name not in ("slide_regex", "report")}
    return PredictConfig(
        **{**own, "images": str(config.images)},
        output=str(file),
        overwrite=False,
        overlays=None,
        geojson=None,
        rois=None,
        devices=None,
    )


def confusion_of(engines: list[Engine], tta: str) -> tuple[Confusion | None, str]:
    """Return the confusions of what predicts with a test-time augmentation; if they are unknown, why."""
    first = engines[0]
    if len(engines) > 1:
        return None, "they are not kept for the mean of several classifiers"
    if first.confusion is None:
        whose = "this checkpoint" if first.classifier is not None else "an exported file"
        return None, f"{whose} does not keep them; a run of this release, whose val sources are unseen, does"
    if tta != first.tta:
        return None, f"they are kept for tta={first.tta}, and this is tta={tta}"
    return first.confusion, ""
