"""An exported ONNX file as an inference engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from scipy.special import softmax

from bloodcell.data.time_limit import timed
from bloodcell.inference.engine import Engine, Pass
from bloodcell.inference.exported.metadata import AXES, INPUT, OUTPUTS, About
from bloodcell.inference.exported.onnx_check import checked
from bloodcell.runtime.distributed import UNSTOPPABLE
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count, memory_limited

Array = np.ndarray[Any, np.dtype[Any]]
Result = TypeVar("Result")

#: Seconds in which a file is optimised and predicts an image; the largest shipped net takes a few.
LOAD_SECONDS = 60.0
LARGEST = 2**31  # bytes; the limit of ONNX itself
#: Bytes that a file may take while it is tried and later on, and for each of its own bytes: weights are copied.
#: The largest shipped net, ViT-B/16 of 344 MB, takes 1.1 GB.
MEMORY, COPIES = 3 * 2**30, 4


def is_exported(file: Path) -> bool:
    """Return whether a file has an ending that the verb `export` writes."""
    return file.suffix.lower() in (".onnx", ".pt2")


def load_exported(file: Path) -> Engine:
    """Load an exported ONNX file, which computes on the CPU; no code in it runs.

    Raises:
        BloodcellError: It is a .pt2 file, damaged, another program's, or holds what no exported classifier needs.
    """
    if file.suffix.lower() == ".pt2":
        raise BloodcellError(
            f"{file}: bloodcell writes .pt2 files for other programs and does not read them; "
            "give the run folder, or an ONNX file (bloodcell export format=onnx)"
        )
    try:
        return _engine(file)
    except BloodcellError as error:
        raise BloodcellError(f"{file} cannot be used: {error}") from error


def _engine(file: Path) -> Engine:
    if file.stat().st_size > LARGEST:
        raise BloodcellError("it is larger than 2 GB")
    content = file.read_bytes()  # once: the bytes that are checked are the bytes that run
    about = checked(content)
    with memory_limited(MEMORY + COPIES * len(content)):
        forward = within(LOAD_SECONDS, lambda: _forward(content, about, f"{file}: an image"))

    def run(images: Array) -> tuple[Array, Array]:
        parts = [forward(images[one : one + 1]) for one in range(len(images))]
        logits, features = (np.concatenate(one) for one in zip(*parts, strict=True))
        with np.errstate(invalid="ignore"):  # an infinite logit has no softmax, and its image no answer
            return softmax(logits.astype(np.float64), axis=1), features

    way = Pass(f"exported onnx cpu {version('onnxruntime')}", cpu_count(), run)
    known = about.classes, about.preprocessing, about.temperature, about.limits
    return Engine(*known, lambda _: way, file=file, tta=about.tta)


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return the result of work that no signal can stop, in a thread that is left behind if it takes longer."""
    future = Future[Result]()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            future.set_exception(error)

    Thread(target=run, name=UNSTOPPABLE, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise BloodcellError(f"it does not get ready within {seconds:g} seconds") from error


def _forward(content: bytes, about: About, work: str) -> Callable[[Array], tuple[Array, Array]]:
    """Return the graph as a function of one image, after a trial with a blank one.

    All images take the same work: no size and no branch depends on their pixels or their number.
    """
    session = _session(content, about.preprocessing.image_size)

    def forward(images: Array) -> tuple[Array, Array]:
        with timed(work):
            logits, features = session.run(OUTPUTS[1:], {INPUT: images})
        return logits, features

    _probe(forward, about)
    return forward


def _session(content: bytes, size: int) -> Any:
    """Open an ONNX Runtime session for one image of one size, so that it need not look at number and size."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # errors are raised; the logger would print them as well
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # each thread runs batches of its own
    options.log_severity_level = 4
    # else ONNX Runtime takes a file with ORTM in its fifth to eighth byte for its own format, which was not checked
    options.add_session_config_entry("session.load_model_format", "ONNX")
    for name, length in zip(AXES, (1, size, size), strict=True):
        options.add_free_dimension_override_by_name(name, length)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BloodcellError(f"ONNX Runtime refuses it ({' '.join(str(error).split())[:120]})") from error


def _probe(forward: Any, about: About) -> None:
    """Run a blank image, and refuse a graph whose outputs do not fit its description."""
    size = about.preprocessing.image_size
    try:
        logits, features = forward(np.zeros((1, size, size, 3), np.uint8))
    except Exception as error:
        raise BloodcellError(f"it does not run ({' '.join(str(error).split())[:120]})") from error
    width = features.shape[1] if features.ndim == 2 else 0
    if about.limits is not None and about.limits.means.shape[1] != width:
        raise BloodcellError("its limits are of another net; the file is damaged")
    if logits.shape != (1, len(about.classes)) or not np.isfinite(logits).all() or features.shape != (1, width):
        raise BloodcellError("its outputs do not fit its classes; the file is damaged")
