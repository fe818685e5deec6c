"""The verb `predict`: a table of predictions, a row for an image or for each cell, written while they are computed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.cells import cells_digest
from bloodcell.data.folders import endings_of
from bloodcell.data.image_pages import pages_note
from bloodcell.data.image_paths import base_of, iter_image_paths, iter_unread
from bloodcell.data.threads import map_in_order
from bloodcell.data.whole_slides import is_whole_slide, require_reader
from bloodcell.inference.confirmed_rows import ConfirmedRows
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import FIELDS, GROUP, Ensemble
from bloodcell.inference.fields.choice import chosen_cells, spread
from bloodcell.inference.fields.files import FieldFiles, field_files
from bloodcell.inference.fields.slide_parts import groups_of, part_of, parts_of
from bloodcell.inference.fields.table_rows import TableRows
from bloodcell.inference.loader import load_engines
from bloodcell.inference.prediction_counts import count_lines
from bloodcell.inference.prediction_rows import filled_columns
from bloodcell.inference.reader import named_or_reader
from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.models.ood import PROVISIONAL
from bloodcell.runtime import distributed
from bloodcell.runtime.command import answer_words, path_words, say_end
from bloodcell.runtime.config import listed, typed
from bloodcell.runtime.console import complain, counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, decoders, keep_freed_memory
from bloodcell.runtime.io import file_digest
from bloodcell.runtime.launcher import count_of, launch
from bloodcell.runtime.schema.verbs import AppConfig, DifferentialConfig, PredictConfig, ReviewConfig
from bloodcell.runtime.version import __version__

#: Number of cells of a whole slide, for the choice of the fastest pass: any large number.
CELLS_OF_SLIDE = 10_000
#: The same of a field; by annotated ones, and painted ones.
CELLS_OF_FIELD = 2


def run(cfg: DictConfig) -> None:
    """Predict; exit with 2 if no image could be read."""
    launch(count_of(cfg.devices, str(cfg.device)))
    counts = predict(cfg)
    if not counts["images"]:
        if distributed.here().rank == 0:
            complain("error: no image could be read")
        raise SystemExit(2)
    config = typed(cfg, PredictConfig)
    words = [*path_words("checkpoint", listed(config.checkpoint)), *answer_words(config.classes)]
    say_end(output_file(config.output), then=["app", *words])


def predict(cfg: DictConfig) -> dict[str, int]:
    """Predict images, or go on after an interruption, by the configuration of `conf/predict.yaml`.

    Returns:
        The numbers of "images" that were read, "bad" files, and images "without cell" or "blank"; of "cells", if each
        has a row; and of rows "abstained" from or "unlike".

    Raises:
        BloodcellError: The configuration or an input is wrong.
    """
    config = typed(cfg, PredictConfig)
    counts = predict_images(config)
    if distributed.here().rank == 0:
        for line in count_lines(output_file(config.output), "cells" if "cells" in counts else "images"):
            say(line)
    return counts


def predict_images(config: PredictConfig, loaded: list[Engine] | None = None) -> dict[str, int]:
    """Write the table of `predict`, or complete it, and return its counts.

    `loaded` has the classifiers of `checkpoint`; None: they are loaded here.
    """
    keep_freed_memory()  # the next picture reuses it
    given = images_given(config.images)
    table = ResumableCsv(output_file(config.output), config.overwrite)
    threads = decoders(config.workers)
    with table.held() if distributed.here().rank == 0 else nullcontext():

        def names() -> Iterator[str]:
            return (name for name in iter_image_paths(given) if not table.is_own(name))

        with progress("looking for images"):
            total, slides, pages = distributed.once(lambda: counted_files(names()))
        say_unread(given, table, total)
        if pages:
            say(f"note: {pages}")
        require_cells(config.cells, slides)
        engines, base = loaded or engines_of(config), base_of(given)
        asked = asked_cells("all" if slides else config.cells, table, given, total)
        cells = distributed.once(lambda: chosen_cells(asked, engines, lambda most: spread(names(), most, total)))
        given_by = config.corrections
        decided = ConfirmedRows(given_by, engines[0].known, base) if given_by is not None else None
        wanted = {"overlays": config.overlays, "geojson": config.geojson, "rois": config.rois}
        files = field_files(wanted, cells, engines[0].classes, given, base)
        ensemble = Ensemble(engines, config.tta, cells, keeps_pictures=config.overlays is not None)
        settings: dict[str, Any] = {
            "checkpoint": [file_digest(engine.file) if engine.file else "" for engine in ensemble.engines],
            "images": given,
            "number of images": total,
            "tta": ensemble.tta,
            "cells": cells,
            "corrections": decided and decided.corrections.digest,
            "overlays": config.overlays,
            "geojson": config.geojson,
            "rois": config.rois,
            "threshold": threshold_of(config.abstain_below, config.error_rate, ensemble.engines, ensemble.tta),
            "backend": [way.name for way in ensemble.passes(expected_images(total, slides, cells == "all"))],
            "release": __version__,
        }
        if ensemble.left_out:
            settings["classes"] = ensemble.classes
        if cells == "all":
            settings["finder"] = cells_digest()
        settings["columns"] = columns = filled_columns(ensemble, settings["threshold"], decided is not None)
        done = distributed.once(lambda: table.start(columns, settings, names()))
        left, threshold = islice(names(), done, None), settings["threshold"]
        fill(table, ensemble, left, (done, total), threshold, threads, base, files, slides, decided)
    return distributed.once(lambda: table.progress.counts)


def asked_cells(cells: str, table: ResumableCsv, given: list[str], total: int) -> str:
    """Return `cells`, but in place of auto what was decided for an unfinished table of the same images."""
    begun = table.begun() if cells == "auto" else {}
    same = (begun.get("images"), begun.get("number of images")) == (given, total)
    return str(begun.get("cells", cells)) if same else cells


def counted_files(names: Iterator[str]) -> tuple[int, frozenset[str], str]:
    """Return the number of files, those that are whole slides, and a sentence on those of several pictures, or ''."""
    total, slides = 0, set[str]()

    def others() -> Iterator[str]:
        nonlocal total
        for name in names:
            total += 1
            if is_whole_slide(name):
                slides.add(name)
            else:
                yield name

    pages = pages_note(others())
    return total, frozenset(slides), pages


def require_cells(cells: str, slides: Collection[str]) -> None:
    """Refuse to predict whole slides as images, or without what reads them.

    Raises:
        BloodcellError: `cells` is one or whole, or the reader is not installed.
    """
    if not slides:
        return
    first = min(slides)
    if cells in ("one", "whole"):
        raise BloodcellError(
            f"{first} is a whole slide, of which each cell is predicted, and this is cells={cells}; give cells=all"
        )
    require_reader(first)


def expected_images(total: int, slides: Collection[str], finds_all: bool) -> int:
    """Return about how many images pass the nets; a slide has some thousand cells, a field some."""
    return (CELLS_OF_FIELD if finds_all else 1) * total + CELLS_OF_SLIDE * len(slides)


def say_unread(given: list[str], table: ResumableCsv, total: int) -> None:
    """Print one line on files in the given folders that are no images.

    Raises:
        BloodcellError: There is no image.
    """
    unread = distributed.once(lambda: endings_of(file for file in iter_unread(given) if not table.is_own(str(file))))
    if not total:
        where = ", ".join(given)
        raise BloodcellError(f"no image in images={where}, but {unread or 'no file'}; give a folder of images")
    if unread:
        say(f"note: not read, as no images by the ending: {unread}")


def fill(
    table: ResumableCsv,
    ensemble: Ensemble,
    names: Iterator[str],
    counts: tuple[int, int],
    threshold: float,
    threads: int | None = None,
    base: str = "",
    files: FieldFiles | None = None,
    slides: Collection[str] = (),
    decided: ConfirmedRows | None = None,
) -> None:
    """Write the rows of each image that is left, and print a summary of all.

    `names` are the files that are left, and `counts` the numbers of files that were done before, and of all files.
    Rows with a confidence below the threshold are abstained from. Paths are relative to `base` if it is given. `files`
    are written for each field before its rows, so that a field with rows has them. `slides` are the names of whole
    slides, which pass in parts. `decided` fills the column confirmed.
    """
    place, (before, total), start = distributed.here(), counts, time.perf_counter()
    columns = filled_columns(ensemble, threshold, decided is not None)
    begun = distributed.once(lambda: table.progress.begun)
    done = (begun.steps, begun.of) if begun else (0, 0)
    parts = partial(parts_of, preprocessings=ensemble.preprocessings)
    ours = groups_of(names, slides, FIELDS, parts, done) if ensemble.finds_all else grouped(names, total - before)
    groups, expected = tee(ours)
    mine = islice(groups, place.rank, None, place.size)
    found = ensemble.predict(mine, expected_images(total, slides, ensemble.finds_all), threads)
    if files:
        found = map_in_order(partial(files.write, threshold=threshold), found, decoders(threads))
    rows = TableRows(table, ensemble.classes, columns, threshold, base, files, decided)
    with progress("predicting") as advance:
        for group in distributed.in_turn(found):
            if group.given != next(expected):
                raise BloodcellError("images: the processes do not find the same files; give a folder that they share")
            if place.rank == 0:
                rows.add(group)
                if (part := part_of(group.given)) and not part.is_last:
                    advance(part.number + 1, part.of, "predicting a slide")
                else:
                    advance(table.progress.items - before, total - before, "predicting")
    if place.rank == 0:
        _say_end(table, total, before, time.perf_counter() - start)
        if decided and (note := decided.note(table.progress.counts)):
            say(note)


def grouped(names: Iterator[str], left: int) -> Iterator[list[str]]:
    """Yield groups of names; the last groups are smaller, so that all threads end at about the same time."""
    while names_of_group := list(islice(names, GROUP if left > 2 * GROUP else max(1, GROUP // 4))):
        left -= len(names_of_group)
        yield names_of_group


def _say_end(table: ResumableCsv, total: int, before: int, seconds: float) -> None:
    counts = table.progress.counts
    went_on = f"{before:,} of them before it was interrupted, " if before else ""
    rate = (total - before) / max(seconds, 1e-9)
    of_cells = "cells" in counts
    cells = f" with {counted(counts['cells'], 'cell')}" if of_cells else ""
    say(f"{counted(counts['images'], 'image')}{cells}, {went_on}{rate:,.0f} a second: {table.file}")
    if of_cells and (empty := counts["without cell"]):
        say(f"{counted(empty, 'image')} without a cell, and so without a row")
    notes = {
        "confirmed": "confirmed by a human",
        "abstained": "abstained from",
        "without cell": "" if of_cells else "without a cell",
        "unlike": "unlike the training data" + (" or of a class left out" if "other" in counts else ""),
        "other": "of these of a class left out, by the column other",
        "blank": "black, white or constant all over",
    }
    if said := [
        f"{counts[key]:,} {words}" for key, words in notes.items() if words and counts.get(key)
    ]:  # a table of an older release has fewer counts
        say(", ".join(said))
    if counts["bad"]:
        say(f"{counted(counts['bad'], 'file')} cannot be read; which and why: {table.bad}")


def engines_of(config: PredictConfig | DifferentialConfig | ReviewConfig | AppConfig) -> list[Engine]:
    """Load the classifiers of `checkpoint`, or the reader; raise BloodcellError if they cannot be loaded."""
    given, device = named_or_reader(config.checkpoint), best_device(config.device)
    engines = load_engines(given, device, config.features, classes=config.classes)
    if any(engine.limits is None for engine in engines):
        column = "has only cells of classes that are left out" if engines[0].left_out else "is empty"
        say(f"the classifier has no limits to tell out-of-distribution images by: the column 'unlike' {column}")
    elif any(engine.limits and engine.limits.provisional for engine in engines):
        say(f"the limits of out-of-distribution images are {PROVISIONAL}")
    return engines


def threshold_of(abstain_below: float | None, error_rate: float | None, engines: list[Engine], tta: str) -> float:
    """Return the confidence below which an image is left to a human; 0: none is.

    That is `abstain_below`, or the threshold of the checkpoint that keeps the share of errors among the answers at
    most `error_rate`.

    Raises:
        BloodcellError: The checkpoint does not promise this rate.
    """
    if error_rate is None:
        return float(abstain_below or 0)
    limits = engines[0].limits
    if engines[0].left_out:
        whole = "promises are made for all classes, and classes=... leaves some out"
        raise BloodcellError(f"error_rate={error_rate}: {whole}; use abstain_below=0.8, or the like")
    if len(engines) > 1 or limits is None:
        whose = "several classifiers" if len(engines) > 1 else "this checkpoint"
        raise BloodcellError(f"error_rate={error_rate}: {whose} made no promise; use abstain_below=0.8, or the like")
    if limits.tta != tta:
        raise BloodcellError(f"error_rate={error_rate} was promised with tta={limits.tta}, not with tta={tta}")
    promised = {float(rate): least for rate, least in limits.abstention.items()}
    if (least := promised.get(error_rate)) is None:
        kept = ", ".join(f"{rate:g}" for rate, least in promised.items() if least is not None) or "none"
        from bloodcell.metrics.abstention import least_sources  # scipy, which predicting does without

        takes = f"it takes at least {least_sources(error_rate):,} val sources, all right" if 0 < error_rate < 1 else ""
        raise BloodcellError(
            f"error_rate={error_rate} cannot be promised; {takes or 'give a share, e.g. 0.05'}; what this checkpoint "
            f"promises: {kept}"
        )
    return least


def output_file(output: Any) -> Path:
    """Return the path of the predictions; raise BloodcellError if it is no .csv or no regular file."""
    file = Path(str(output or "")).expanduser()
    if file.suffix != ".csv" or file.is_dir():
        raise BloodcellError(f"output={output or ''} names no CSV file; give output=FILE.csv")
    if file.exists() and not file.is_file():  # a pipe that no one reads might never end
        raise BloodcellError(f"output={output} is no regular file; choose another output")
    return file


def images_given(images: Any) -> list[str]:
    """Return the folders, files and patterns; raise BloodcellError if there are none."""
    several = images if isinstance(images, list) else [images]
    if not several or None in several:
        raise BloodcellError("images is not set; give a folder, a file or a pattern with images=...")
    return [str(one) for one in several]
