"""The verb `export`: a checkpoint becomes a file or folder that runs elsewhere, and a card that says what it is."""

from __future__ import annotations

import glob
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.exports.bioimageio import require_bioimageio, write_package
from bloodcell.exports.formats import FORMATS, Format
from bloodcell.exports.graph import Graph
from bloodcell.exports.huggingface import front_matter
from bloodcell.exports.int8 import in_int8
from bloodcell.exports.model_card import card
from bloodcell.exports.parity import Pictures, check, pictures_of
from bloodcell.exports.place import CARD, card_of, output_place
from bloodcell.inference.engine import engine_of
from bloodcell.inference.exported.metadata import About
from bloodcell.inference.exported.model_folder import labels_text
from bloodcell.inference.exported.onnx_engine import is_exported, load_exported
from bloodcell.inference.reader import named_or_reader
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import prediction_by, say_end
from bloodcell.runtime.config import listed, typed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.folders import put_in_place, remove_temporary_folders, temporary_folder
from bloodcell.runtime.io import file_digest, remove_temporaries, write_atomically, write_text
from bloodcell.runtime.locks import locked
from bloodcell.runtime.run_folder import EXPORTED, LABELS
from bloodcell.runtime.schema.publication import Publication, default_title
from bloodcell.runtime.schema.verbs import ExportConfig


@dataclass(frozen=True)
class Export:
    """A classifier on its way into a file.

    Attributes:
        classifier: The LightningModule.
        checkpoint: The file that it comes from.
        about: The description in the exported file.
        content: The exported file's content.
        form: Its format.
        pictures: What file and checkpoint are compared on.
        publication: What only people know of it.
    """

    classifier: Any
    checkpoint: Path
    about: About
    content: bytes
    form: Format
    pictures: Pictures
    publication: Publication

    def write(self, file: Path) -> str:
        """Write the file with the net, compare its answers with the checkpoint's, and return what came of it.

        Raises:
            BloodcellError: The answers differ, or in integers the net is too slow or too inexact.
        """
        file.write_bytes(self.content)
        own = load_exported(file) if self.form.kind == "onnx" else None
        largest = check(self.form.run(self.content), engine_of(self.classifier, "cpu", "eager"), self.pictures, own)
        compared = f"largest difference of a probability from the checkpoint {largest:.1g}, on {self.pictures.what}"
        if self.about.precision == "float32":
            return compared
        content, measured = in_int8(self.content, self.about, self.checkpoint)
        file.write_bytes(content)
        return f"{measured}; that float32 file: {compared}"

    def card(self, file: Path, compared: str) -> str:
        """Return the model card."""
        return card(self.about, self.checkpoint, file, compared, self.publication)


def export(cfg: DictConfig) -> Path:
    """Export a checkpoint to a file or folder that gives the checkpoint's probabilities; else there is none.

    Args:
        cfg: The configuration that `conf/export.yaml` composes.

    Returns:
        The file or folder.

    Raises:
        BloodcellError: A mistake of the user, torch cannot export the net, or the file's probabilities differ.
    """
    config = typed(cfg, ExportConfig)
    if config.format == "reader":
        return _reader(config)
    form = FORMATS[config.format]
    if config.format == "bioimageio":
        require_bioimageio()
    checkpoint = _checkpoint(named_or_reader(config.checkpoint))
    output = f"reader{form.ending}" if (config.output, config.checkpoint) == (None, None) else config.output
    place = output_place(output, checkpoint, form.ending, form.alone, config.overwrite)
    with progress(f"exporting to {form.ending or 'a folder'}"):
        ready = _prepared(checkpoint, form, config)
    write = {"huggingface": _write_folder, "bioimageio": _write_package}.get(config.format, _write_file)
    busy = f"another process is writing {place}; wait for it, or stop it first"
    with locked(place.with_name(f".{place.name}.lock"), busy, remove=True):
        remove_temporary_folders(place)  # of killed ones
        for left in (place, card_of(place)) if form.ending else ():
            remove_temporaries(left.parent, glob.escape(left.name))
        with progress("comparing the answers"):
            compared = write(ready, place)
    size = sum(one.stat().st_size for one in ([place] if form.ending else place.iterdir()))
    say(f"{place}, {size / 1e6:.1f} MB; {compared}")
    if config.format == "huggingface" and config.license is None:
        say("its licence is unknown: choose one with license=... before you publish it")
    look = card_of(place) if form.alone else place
    say_end(look, then=prediction_by([place]) if form.ending in (".onnx", "") else [])
    return place


def _reader(config: ExportConfig) -> Path:
    """Write the file of the package's reader, and its card."""
    from bloodcell.exports.reader_file import write_reader  # with Lightning

    checkpoint = _checkpoint(config.checkpoint)
    file = output_place(config.output, checkpoint, ".ckpt", True, config.overwrite)
    compared = write_reader(checkpoint, file, config.laboratories)
    say(f"{file}, {file.stat().st_size / 1e6:.2f} MB; {compared}")
    say_end(card_of(file), then=prediction_by([file]))
    return file


def _write_file(ready: Export, file: Path) -> str:
    compared = ""

    def write(temporary: Path) -> None:
        nonlocal compared
        compared = ready.write(temporary)
        write_text(ready.card(file, compared), card_of(file))

    write_atomically(file, write)  # so the file is in its place only after the comparison and with its card
    return compared


def _write_folder(ready: Export, folder: Path) -> str:
    with temporary_folder(folder) as filled:
        compared = ready.write(filled / EXPORTED)
        text = ready.card(Path(EXPORTED), compared)
        header = front_matter(ready.checkpoint, ready.publication)
        write_text(header + text, filled / CARD)
        write_text(labels_text(ready.about), filled / LABELS)
        put_in_place(filled, folder)
    return compared


def _write_package(ready: Export, file: Path) -> str:
    with temporary_folder(file) as filled:
        compared = ready.write(filled / EXPORTED)
        write_text(ready.card(Path(EXPORTED), compared), filled / CARD)
        write_atomically(file, lambda temporary: write_package(filled, temporary, ready.about, ready.publication))
    return compared


def _prepared(checkpoint: Path, form: Format, config: ExportConfig) -> Export:
    from bloodcell.models.classifier import load_classifier

    classifier, publication = load_classifier(checkpoint), config.publication
    about = replace(about_of(classifier, checkpoint), precision=config.precision)
    if not form.alone:
        publication = replace(publication, title=publication.title or default_title(about.model))
    pictures = pictures_of(checkpoint, about.preprocessing.white)
    content = _content(Graph(classifier.net, about.preprocessing.image_size, about.limits), about, form)
    return Export(classifier, checkpoint, about, content, form, pictures, publication)


def about_of(classifier: Any, checkpoint: Path) -> About:
    """Return the description that goes into the file of a trained classifier."""
    run = run_folder.run_of(checkpoint)
    source = file_digest(checkpoint), str(run_folder.read_run(run).get("fingerprint", "")) if run else ""
    net = classifier.net
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    return About(
        classifier.classes,
        net.temperature,
        preprocessing,
        net.name,
        source,
        classifier.limits,
        classifier.inference.tta,
    )


def _checkpoint(given: Any) -> Path:
    """Return the one checkpoint to export; refuse none, several, and an exported file."""
    named = listed(given)
    if len(named) != 1:
        how = "is not set; give" if not named else f"names {len(named)}, and one is exported at a time; give"
        raise BloodcellError(f"checkpoint {how} a run folder or a .ckpt file with checkpoint=...")
    checkpoint = run_folder.checkpoint_of(Path(str(named[0])).expanduser())
    if is_exported(checkpoint):
        raise BloodcellError(f"{checkpoint} is exported already; give the run that it comes from")
    return checkpoint


def _content(graph: Graph, about: About, form: Format) -> bytes:
    try:
        return form.write(graph, about)
    except MemoryError as error:
        raise BloodcellError("the net does not fit into memory a second time; export it on a larger machine") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BloodcellError(f"torch cannot export {about.model} to a {form.net_ending} file ({reason})") from error
