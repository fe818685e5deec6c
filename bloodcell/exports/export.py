"""The verb `export`: a checkpoint becomes one file that runs elsewhere, and a card that says what it is."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.exports.formats import FORMATS, Format
from bloodcell.exports.graph import Graph
from bloodcell.exports.model_card import card
from bloodcell.exports.parity import check, pictures_of
from bloodcell.inference.engine import engine_of
from bloodcell.inference.exported.metadata import About
from bloodcell.inference.exported.onnx_engine import is_exported, load_exported
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import prediction_by, say_end
from bloodcell.runtime.config import listed, typed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest, remove_temporaries, write_atomically, write_text
from bloodcell.runtime.locks import locked
from bloodcell.runtime.schema.verbs import ExportConfig


def export(cfg: DictConfig) -> Path:
    """Export a checkpoint to a file that gives the same probabilities as the checkpoint; else there is no file.

    Args:
        cfg: The configuration that `conf/export.yaml` composes.

    Returns:
        The file.

    Raises:
        BloodcellError: A mistake of the user, torch cannot export the net, or the file's probabilities differ.
    """
    from bloodcell.models.classifier import load_classifier

    config = typed(cfg, ExportConfig)
    form = FORMATS[config.format]
    checkpoint = _checkpoint(config.checkpoint)
    file = output_file(config.output, checkpoint, form.ending, config.overwrite)
    with progress(f"exporting to {form.ending}"):
        classifier = load_classifier(checkpoint)
        about = about_of(classifier, checkpoint)
        pictures = pictures_of(checkpoint, about.preprocessing.white)
        content = _content(Graph(classifier.net, about.preprocessing.image_size, about.limits), about, form)
    compared = ""

    def write(temporary: Path) -> None:
        nonlocal compared
        temporary.write_bytes(content)
        own = load_exported(temporary) if form.ending == ".onnx" else None
        largest = check(form.run(content), engine_of(classifier, "cpu", "eager"), pictures, own)
        compared = f"largest difference of a probability from the checkpoint {largest:.1g}, on {pictures.what}"
        write_text(card(about, checkpoint, file, compared), card_of(file))

    busy = f"another process is writing {file}; wait for it, or stop it first"
    with locked(file.with_name(f".{file.name}.lock"), busy, remove=True):
        for left in (file, card_of(file)):
            remove_temporaries(left.parent, glob.escape(left.name))  # of killed ones
        with progress("comparing the answers"):
            write_atomically(file, write)  # so the file is in its place only after the comparison and with its card
    say(f"{file}, {file.stat().st_size / 1e6:.1f} MB; {compared}")
    say_end(card_of(file), then=prediction_by([file]) if form.ending == ".onnx" else [])
    return file


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


def card_of(file: Path) -> Path:
    """Return where the model card of an exported file is."""
    return file.with_name(f"{file.name}.md")


def output_file(output: Any, checkpoint: Path, ending: str, overwrite: bool) -> Path:
    """Return where the file goes: `output`, else the folder `exported` of the run, else beside the checkpoint.

    Raises:
        BloodcellError: The folder is not there, the name has another ending, or the file is there already.
    """
    run = run_folder.run_of(checkpoint)
    if output is not None:
        file = Path(str(output)).expanduser()
    elif run:
        run_folder.refuse_links(run)
        file = run / "exported" / f"model{ending}"
        file.parent.mkdir(exist_ok=True)
    else:
        file = checkpoint.with_suffix(ending)
    if file.suffix.lower() != ending or file.is_dir():
        raise BloodcellError(f"output={output} names no {ending} file, which this format has; give output=FILE{ending}")
    if not file.parent.is_dir():
        raise BloodcellError(f"there is no folder {file.parent}; make it, or choose another output")
    there = [path for path in (file, card_of(file)) if path.exists()]
    if there and not overwrite:
        raise BloodcellError(f"{there[0]} is there already; choose another output, or overwrite=true")
    return file


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
        raise BloodcellError(f"torch cannot export {about.model} to a {form.ending} file ({reason})") from error
