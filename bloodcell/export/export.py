"""The verb `export`: a checkpoint becomes one file that runs elsewhere, and a card that says what it is."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.export.model_card import card
from bloodcell.export.parity import check, pictures_of
from bloodcell.inference.engine import engine_of
from bloodcell.inference.exported.graph import Graph
from bloodcell.inference.exported.loaded import ENDINGS, is_exported, opened
from bloodcell.inference.exported.metadata import About
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import listed, typed
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest, write_atomically
from bloodcell.runtime.schema.verbs import ExportConfig

#: Format -> the ending of its files.
FORMATS = {"onnx": ".onnx", "torch": ".pt2"}


def run(cfg: DictConfig) -> None:
    """Export as the command line says."""
    export(cfg)


def export(cfg: DictConfig) -> Path:
    """Export a checkpoint; the file is there only where it answers as the checkpoint does.

    Args:
        cfg: The configuration that `conf/export.yaml` composes.

    Returns:
        The file.

    Raises:
        BloodcellError: Anything that the user got wrong, the net cannot be exported, or the file answers otherwise.
    """
    from bloodcell.models.classifier import load_classifier

    config = typed(cfg, ExportConfig)
    ending = _ending(config.format)
    checkpoint = _checkpoint(config.checkpoint)
    file = output_file(config.output, checkpoint, ending, config.overwrite)
    classifier = load_classifier(checkpoint)
    about = about_of(classifier, checkpoint)
    pictures = pictures_of(checkpoint)
    content = _written(Graph(classifier.net, about.preprocessing.image_size, about.limits), about, ending)
    said = []

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)
        worst = check(opened(temporary, ending), engine_of(classifier, "cpu", "eager"), pictures)
        said.append(f"largest difference of a probability from the checkpoint {worst:.1g}, on {pictures.what}")
        text = card(about, checkpoint, file, said[0])
        write_atomically(card_of(file), lambda part: part.write_text(text, encoding="utf-8"))

    write_atomically(file, write)  # with all that has to go well before the file is in its place
    say(f"{file}, {file.stat().st_size / 1e6:.1f} MB; {said[0]}")
    say(f"what it is made of and what it is for: {card_of(file)}")
    return file


def about_of(classifier: Any, checkpoint: Path) -> About:
    """Return what the file of a trained classifier says of itself."""
    run = run_folder.run_of(checkpoint)
    source = file_digest(checkpoint), str(run_folder.read_run(run).get("fingerprint", "")) if run else ""
    net = classifier.net
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    return About(list(classifier.classes), net.temperature, preprocessing, net.name, source, classifier.limits)


def card_of(file: Path) -> Path:
    """Return the file of a file's card."""
    return file.with_name(f"{file.name}.md")


def output_file(output: Any, checkpoint: Path, ending: str, overwrite: bool) -> Path:
    """Return where the file goes: as is told, else into the folder `exported` of the run, else beside the checkpoint.

    Raises:
        BloodcellError: The folder is not there, the name has another ending, or the file is there already.
    """
    run = run_folder.run_of(checkpoint)
    if output is not None:
        file = Path(str(output)).expanduser()
    elif run:
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


def _ending(form: Any) -> str:
    if form not in FORMATS:
        raise BloodcellError(f"format={form}; choose {' or '.join(FORMATS)}")
    return FORMATS[str(form)]


def _checkpoint(given: Any) -> Path:
    """Return the one checkpoint that is to be exported.

    Raises:
        BloodcellError: There is none, there are several, or it is an exported file itself.
    """
    named = listed(given)
    if len(named) != 1:
        how = "is not set; give" if not named else f"names {len(named)}, and one is exported at a time; give"
        raise BloodcellError(f"checkpoint {how} a run folder or a .ckpt file with checkpoint=...")
    checkpoint = run_folder.checkpoint_of(Path(str(named[0])).expanduser())
    if is_exported(checkpoint):
        raise BloodcellError(f"{checkpoint} is exported already; give the run that it is of")
    return checkpoint


def _written(graph: Graph, about: About, ending: str) -> bytes:
    """Return the content of the file.

    Raises:
        BloodcellError: torch cannot trace or convert the net.
    """
    try:
        content: bytes = import_module(ENDINGS[ending]).written(graph, about)
    except MemoryError as error:
        raise BloodcellError("the net does not fit into memory a second time; export it on a larger machine") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BloodcellError(f"torch cannot export {about.model} to a {ending} file ({reason})") from error
    return content
