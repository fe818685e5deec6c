"""The forward pass of a backbone in evaluation mode, by the fastest backend of the machine."""

from __future__ import annotations

import contextlib
import copy
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bloodcell.models.net import Net
from bloodcell.runtime.console import others_muted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count, exact_float32

Array = np.ndarray[Any, np.dtype[Any]]

#: Number of images from which building the fastest backend pays; it takes seconds.
WORTH_BUILDING = 500
#: Batch sizes. Larger batches do not fit the processor's cache: ONNX Runtime takes 550 images/s one by one, 409 by 8.
BATCH = {"onnx": 1, "compile": 32, "eager": 32}
#: On a GPU: as many images as a thread decodes at once.
GPU_BATCH = 64


@dataclass(frozen=True)
class Forward:
    """A backbone with its pooling, ready to run.

    Attributes:
        name: Backend, device, precision and release: all that a feature depends on besides net and image.
        streams: The number of threads that may run it at the same time.
        batch: Batch size.
        run: 1 to `batch` images, uint8 (N, H, W, 3), to pooled features, float32 (N, C).
    """

    name: str
    streams: int
    batch: int
    run: Callable[[Array], Array]

    def all(self, images: Array) -> Array:
        """Return features, float32 (N, C), of one image or more."""
        starts = range(0, len(images), self.batch)
        return np.concatenate([self.run(images[start : start + self.batch]) for start in starts])


class Backbone:
    """Chooses the backend and builds the forward pass when it is first needed.

    Args:
        net: The net; not changed.
        size: Side of the images, pixels.
        backend: auto, onnx, compile or eager. auto: on the CPU ONNX Runtime for float32 and compiled code for bf16,
            on other devices eager.
        precision: float32 or bf16.
        device: Where to compute.

    Raises:
        BloodcellError: The backend is onnx, and precision or device are not float32 and cpu.
    """

    def __init__(
        self, net: Net, size: int, backend: str = "auto", precision: str = "float32", device: str = "cpu"
    ) -> None:
        if backend == "onnx" and (precision != "float32" or device != "cpu"):
            raise BloodcellError(
                "features.backend=onnx is for features.precision=float32 on the CPU; use features.backend=auto"
            )
        self.net, self.size, self.precision, self.device = net, size, precision, device
        if device.startswith("cuda"):
            exact_float32()
        self.asked, self.backend = backend, self._choose(backend)
        self.built: dict[str, Forward] = {}

    @property
    def name(self) -> str:
        """The name of the forward pass; it changes if building falls back to eager PyTorch."""
        return self._name(self.backend)

    def _name(self, backend: str) -> str:
        package = "onnxruntime" if backend == "onnx" else "torch"
        tf32 = " tf32" if self.device.startswith("cuda") and torch.backends.cudnn.allow_tf32 else ""
        return f"{backend} {self.device.partition(':')[0]}{tf32} {self.precision} {package} {version(package)}"

    def forward(self, images: int | None = None) -> Forward:
        """Return the forward pass; if it cannot be built, fall back to eager PyTorch and print why.

        Args:
            images: Number of images; with backend auto, a few take eager PyTorch. None: the fastest backend.
        """
        if self.backend == "eager" or (self.asked == "auto" and images is not None and images < WORTH_BUILDING):
            return self._built("eager")
        try:
            return self._built(self.backend)
        except Exception as error:  # noqa: BLE001 - whatever it is, eager PyTorch takes it
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            self._fall_back(f"{self.backend} cannot take this net ({reason})")
            return self._built("eager")

    def _built(self, backend: str) -> Forward:
        if backend not in self.built:
            build = {"onnx": self._onnx, "compile": self._compiled, "eager": self._eager}
            streams = cpu_count() if backend == "onnx" else 1
            with progress(f"preparing the net, {backend}"):
                self.built[backend] = Forward(self._name(backend), streams, self._batch(backend), build[backend]())
        return self.built[backend]

    def _batch(self, backend: str) -> int:
        return BATCH[backend] if self.device == "cpu" else GPU_BATCH

    def _choose(self, backend: str) -> str:
        if backend == "auto" and self.device != "cpu":
            return "eager"
        if backend == "auto":
            backend = "onnx" if self.precision == "float32" else "compile"
        if reason := _missing(backend):
            self._fall_back(reason)
            return "eager"
        return backend

    def _fall_back(self, reason: str) -> None:
        say(f"features: {reason}; eager PyTorch instead, which is slower (features.backend=eager chooses it)")
        self.backend = "eager"

    def _module(self) -> _Features:
        return _Features(copy.deepcopy(self.net).to(self.device)).eval().requires_grad_(False)

    def _onnx(self) -> Callable[[Array], Array]:
        """Export to ONNX and open a session, in which each thread runs its own images on one core.

        The batch size is fixed: with a symbolic one the export takes three times as long.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self._graph(), options, providers=["CPUExecutionProvider"])
        return lambda images: np.asarray(session.run(None, {"images": images})[0])

    def _graph(self) -> bytes:
        return exported(self._module(), self.size, BATCH["onnx"])

    def _compiled(self) -> Callable[[Array], Array]:
        module: Any = self._module()
        module = torch.compile(module, options={"freezing": True}) if self.device == "cpu" else torch.compile(module)
        run = _padded(self._torch(module), self._batch("compile"))
        run(np.zeros((1, self.size, self.size, 3), np.uint8))  # compile here, so that a failure falls back
        return run

    def _eager(self) -> Callable[[Array], Array]:
        return self._torch(self._module())

    def _torch(self, module: Any) -> Callable[[Array], Array]:
        lower = torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.precision == "bf16")

        def run(images: Array) -> Array:
            with torch.inference_mode(), lower:
                return np.asarray(module(torch.from_numpy(images).to(self.device)).float().cpu().numpy())

        return run


class _Features(nn.Module):
    """A net from decoded images, uint8 (N, H, W, 3), to pooled features (N, C)."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.net.head = nn.Sequential()

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images.permute(0, 3, 1, 2))


def _padded(run: Callable[[Array], Array], batch: int) -> Callable[[Array], Array]:
    """Return a function that pads short batches to `batch` images for `run`."""

    def padded(images: Array) -> Array:
        if not (missing := batch - len(images)):
            return run(images)
        return run(np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)]))[: len(images)]

    return padded


def exported(module: nn.Module, size: int, batch: int) -> bytes:
    """Return an ONNX model of a module on the CPU; its input is uint8 `images` (batch, size, size, 3)."""
    example = torch.zeros(batch, size, size, 3, dtype=torch.uint8)
    with quiet():
        program = torch.onnx.export(
            module, (example,), dynamo=True, input_names=["images"], output_names=["features"], verbose=False
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter, which prints its progress and warns of its own internals."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), others_muted():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _missing(backend: str) -> str | None:
    """Return what the machine lacks for a backend; None if nothing."""
    for package in ("onnxruntime", "onnxscript") if backend == "onnx" else ():
        try:
            version(package)
        except PackageNotFoundError:
            return f"{package} is not installed"
    if backend == "compile" and not any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl")):
        return "there is no C++ compiler"
    return None
