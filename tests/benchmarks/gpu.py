"""Rates of MobileNetV2 on one GPU: the net alone, a plain loop of torch, our training, and how long the GPU waits.

    python tests/benchmarks/gpu.py [--out FOLDER] [--seconds 150]
    python tests/benchmarks/gpu.py --device cpu --tiny      # the same code on little, without a GPU

Painted photographs and random weights, 128 px, batches of 256. Each row is images a second; "of it" is the share of
`compute only`, one batch on the GPU again and again: forward, backward and optimizer with our settings. The first two
rows are measured in turn, three times each, and the verdict is the median of the three ratios: the processor, which
starts the kernels, may be a third slower from one minute to the next. "waits" is the share of time without a kernel of
the GPU in twenty steps after the clock has stopped; the profiler slows the processor down, so that it is rather less.
Our rows are whole epochs under Lightning as the product builds them, with checkpoints, without validation. Rows that
`--seconds` leaves no time for are named at the end. Writes gpu.json to the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.models import mobilenet_v2
from torchvision.transforms.v2 import functional as transforms

from bloodcell.data.datamodule import BloodCellDataModule
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.inference.backends import Backbone
from bloodcell.inference.features import Extractor
from bloodcell.runtime.config import config_dir, register_resolvers, typed
from bloodcell.runtime.console import muted
from bloodcell.runtime.hardware import cpu_count, device_arguments, keep_freed_memory, release_gpu_memory
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.build import build_classifier, build_trainer, quiet
from bloodcell.training.fit import on_gpu

#: Least share of `compute only` that our training shall reach with input and augmentation.
FLOOR = 0.70
PAINTED = 256
WARM, PROFILED = 10, 20


@dataclass(frozen=True)
class Task:
    """What is measured, and on what."""

    device: str = "cuda"
    size: int = 128
    feature_size: int = 224
    batch: int = 256
    images: int = 20_480
    epochs: int = 2  # with the clock running
    width: float = 1.0

    @property
    def steps(self) -> int:
        """As many as in the epochs of our training."""
        return self.epochs * self.images // self.batch


TINY = Task("cpu", size=32, feature_size=32, batch=16, images=96, epochs=1, width=0.25)


@dataclass
class Row:
    """A line of the table."""

    name: str
    rate: float
    waits: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Material:
    """Painted photographs: files, of which many are links, and the same decoded, uint8 (N, size, size, 3)."""

    task: Task
    files: list[str]
    rows: Tensor
    folder: Path

    def samples(self) -> Samples:
        """Return all as training images, the classes in turn."""
        table = [(name, CLASSES[i % 4], "train", "", "") for i, name in enumerate(self.files)]
        return Samples(pd.DataFrame(table, columns=COLUMNS), self.folder)


def painted(task: Task, folder: Path) -> Material:
    """Paint some photographs, link to them under many names, and decode them."""
    count = min(PAINTED, task.images)
    cv2.setNumThreads(1)

    def paint(number: int) -> Any:
        picture, _ = paint_photograph(CLASSES[number % 4], np.random.default_rng(number))
        Image.fromarray(picture).save(folder / f"painted{number}.jpg", quality=90)
        return Preprocessing(task.size)(folder / f"painted{number}.jpg").permute(1, 2, 0)

    with ThreadPoolExecutor(cpu_count()) as pool:
        first = torch.stack(list(pool.map(paint, range(count))))
    files = [f"{number:06d}.jpg" for number in range(task.images)]
    for number, name in enumerate(files):
        os.link(folder / f"painted{number % count}.jpg", folder / name)
    return Material(task, files, first.repeat(-(-task.images // count), 1, 1, 1)[: task.images].contiguous(), folder)


def defaults() -> None:
    """Give torch back its own settings, which our training changes."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = True


def synchronised(device: str) -> float:
    """Return the time at which all work is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Waiting:
    """Watches the kernels of a GPU from `start` to `stop`."""

    def __init__(self, device: str) -> None:
        self.device, self.share = device, None
        self.profiler: Any = None

    def start(self) -> None:
        """Begin; does nothing without a GPU."""
        if self.device == "cuda":
            from torch.profiler import ProfilerActivity, profile

            synchronised(self.device)
            self.profiler = profile(activities=[ProfilerActivity.CUDA])
            self.profiler.start()

    def stop(self) -> None:
        """Set `share` to the share of time without a kernel; None if the profiler saw none."""
        if self.profiler is None:
            return
        synchronised(self.device)
        try:
            self.profiler.stop()
            self.share = idle_share(kernels(self.profiler.events(), torch.autograd.DeviceType.CUDA))
        except Exception as error:  # noqa: BLE001 - the rate is there all the same
            print(f"note: the profiler failed: {error}", file=sys.stderr)
        self.profiler = None


def kernels(events: Any, device: Any) -> list[tuple[float, float]]:
    """Return start and end of each event of a device, without regions that a program has only named."""
    own = [one for one in events if one.device_type == device and not one.is_user_annotation]
    return [(one.time_range.start, one.time_range.end) for one in own]


def idle_share(spans: list[tuple[float, float]]) -> float | None:
    """Return the share of the time from the first start to the last end that lies in no span."""
    if not spans:
        return None
    busy, end = 0.0, min(spans)[0]
    first = end
    for start, stop in sorted(spans):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - busy / (end - first) if end > first else None


def timed(name: str, task: Task, step: Callable[[], int], steps: int | None = None, watched: bool = True) -> Row:
    """Return the rate of a function that works on a batch and returns how many images that is."""
    for _ in range(WARM):
        step()
    start = synchronised(task.device)
    images = sum(step() for _ in range(steps or task.steps))
    seconds = synchronised(task.device) - start
    waiting = Waiting(task.device if watched else "cpu")
    waiting.start()
    for _ in range(PROFILED if waiting.device == "cuda" else 0):
        step()
    waiting.stop()
    return Row(name, images / seconds, waiting.share)


def configured(task: Task, *overrides: str) -> TrainConfig:
    """Return the shipped configuration of a training."""
    register_resolvers()
    given = [
        f"trainer.gpus={int(task.device == 'cuda')}", "model.weights=null", f"model.width={task.width}",
        f"data.image_size={task.size}", f"data.batch_size={task.batch}", "logger=none", "callbacks=last",
        "trainer.limit_val_batches=1", f"trainer.max_epochs={task.epochs + 2}", *overrides,
    ]  # fmt: skip
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        return typed(compose("train", overrides=given), TrainConfig)


def net_of(task: Task, material: Material) -> Any:
    """Return the net that training builds, on the device."""
    config = configured(task, "finetune=full")
    torch.manual_seed(0)
    return build_classifier(config, material.samples(), CLASSES, Preprocessing(task.size)).net.to(task.device)


def batch_of(material: Material) -> tuple[Tensor, Tensor]:
    """Return one batch on the device: uint8 (N, 3, H, W) in channels-last memory, and labels."""
    task = material.task
    images = material.rows[: task.batch].to(task.device).permute(0, 3, 1, 2)
    return images, (torch.arange(len(images)) % 4).to(task.device)


def forward_only(material: Material) -> Row:
    """Measure the forward pass in bf16."""
    task, net = material.task, net_of(material.task, material).eval()
    images, _ = batch_of(material)

    def step() -> int:
        with torch.inference_mode(), torch.autocast(task.device, torch.bfloat16):
            net(images)
        return len(images)

    return timed("forward only, bf16", task, step)


def compute_only(
    material: Material,
    name: str,
    lower: bool = True,
    channels_last: bool = True,
    compiled: bool = False,
    watched: bool = True,
) -> Row:
    """Measure training steps on one batch that is on the device."""
    task, net = material.task, net_of(material.task, material).train()
    images, labels = batch_of(material)
    if not channels_last:
        net, images = net.to(memory_format=torch.contiguous_format), images.contiguous()
    if compiled:
        net.compile()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step() -> int:
        with torch.autocast(task.device, torch.bfloat16, enabled=lower):
            loss = cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(images)

    return timed(name, task, step, watched=watched)


class Files(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Photographs as anybody would read them: Pillow, resized, numbers of 0 to 1."""

    def __init__(self, material: Material) -> None:
        self.files = [str(material.folder / name) for name in material.files]
        self.size = material.task.size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.open(self.files[index]).convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return transforms.to_dtype(transforms.pil_to_tensor(image), torch.float32, scale=True), index % 4


def plain_loop(material: Material) -> Row:
    """Measure torchvision's MobileNetV2, a DataLoader of files with a worker per core, and nothing else set."""
    task = material.task
    net = mobilenet_v2(num_classes=4, width_mult=task.width).to(task.device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    workers = min(16, cpu_count()) if task.device == "cuda" else 0
    loader = torch.utils.data.DataLoader(
        Files(material), task.batch, shuffle=True, num_workers=workers, pin_memory=task.device == "cuda",
        drop_last=True, persistent_workers=workers > 0,
    )  # fmt: skip

    def batches() -> Iterator[Any]:
        while True:
            yield from loader

    endless = batches()

    def step() -> int:
        images, labels = (part.to(task.device, non_blocking=True) for part in next(endless))
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step()
        return len(images)

    return timed("plain loop: DataLoader of files, float32", task, step, max(1, task.steps // 2))


class Clock(pl.Callback):
    """Adds up the time of whole epochs after the first, and watches the GPU in the one after them."""

    def __init__(self, task: Task) -> None:
        self.task, self.waiting = task, Waiting(task.device)
        self.seconds, self.images = 0.0, 0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.start = synchronised(self.task.device)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count; stop the clock after the last batch."""
        if trainer.current_epoch > self.task.epochs:
            self._watch(batch_idx, trainer.num_training_batches)
        elif trainer.current_epoch > 0:
            self.images += len(batch[1])
            if batch_idx + 1 == trainer.num_training_batches:
                self.seconds += synchronised(self.task.device) - self.start

    def _watch(self, step: int, steps: int) -> None:
        if step == min(WARM, steps // 2):
            self.waiting.start()
        elif step == min(WARM + PROFILED, steps - 1):
            self.waiting.stop()


def ours(material: Material, name: str, *overrides: str, rows: Any = None) -> Row:
    """Measure epochs of our classifier under Lightning; without rows, each epoch decodes the files."""
    config = configured(material.task, *overrides)
    samples, clock = material.samples(), Clock(material.task)
    size = config.data.image_size
    torch.manual_seed(0)
    classifier = build_classifier(config, samples, CLASSES, Preprocessing(size))
    data = BloodCellDataModule(samples, CLASSES, Preprocessing(size), config.data, 0, rows, least=2)
    devices = device_arguments(config.trainer.gpus, None, None)
    with tempfile.TemporaryDirectory() as folder, muted():
        trainer = build_trainer(config, Path(folder), devices, False, [clock])
        trainer.fit(classifier, datamodule=data)
        precision = trainer.precision
    return Row(name, clock.images / clock.seconds, clock.waiting.share, {"precision": precision})


def ours_on_gpu(material: Material, name: str, *overrides: str) -> Row:
    """Measure our training from decoded images where the product keeps them: on the GPU if they fit."""
    rows = on_gpu(material.rows, material.task.device)
    return ours(material, name, "finetune=full", *overrides, rows=rows)


def head(material: Material) -> Row:
    """Measure the training of the head from features on the device."""
    rows = torch.randn(material.task.images, 1280).to(material.task.device)
    return ours(material, "frozen: head from features on the GPU", "finetune=frozen", rows=rows)


def backbone(material: Material, precision: str) -> Backbone:
    """Return the forward pass of features."""
    task = material.task
    return Backbone(net_of(task, material).eval(), task.feature_size, "eager", precision, task.device)


def features_forward(material: Material, precision: str = "float32") -> Row:
    """Measure the forward pass of features on images that are on the device, exactly as the product batches them."""
    task, chosen = material.task, backbone(material, precision)
    forward, module = chosen.forward(), chosen.net
    size, lower = task.feature_size, precision == "bf16"
    images = torch.randint(0, 256, (forward.batch, size, size, 3), dtype=torch.uint8, device=task.device)

    def step() -> int:
        with torch.inference_mode(), torch.autocast(task.device, torch.bfloat16, enabled=lower):
            module.features(images.permute(0, 3, 1, 2))
        return len(images)

    return timed(f"frozen: forward only, {size} px, {precision}", task, step, 2 * task.steps)


def features_from_files(material: Material) -> Row:
    """Measure features of a frozen backbone from files."""
    task = material.task
    samples = Samples(material.samples().table[: task.images // 2], material.folder)
    net = net_of(task, material).eval()
    extractor = Extractor(net, Preprocessing(task.feature_size), backbone(material, "float32"), None)
    extractor.features(Samples(samples.table[: 2 * task.batch], material.folder))
    start = time.perf_counter()
    extractor.features(samples)
    rate = len(samples.table) / (time.perf_counter() - start)
    return Row(f"frozen: features from files, {task.feature_size} px", rate)


COMPUTE, OURS = "compute only, bf16, channels last", "ours: images on the GPU, augment=light"

#: In the order of their weight: the last ones are left out if time is short.
KINDS: dict[str, Callable[[Material], Row]] = {
    "forward only, bf16": forward_only,
    "plain loop": plain_loop,
    "frozen: forward only": features_forward,
    "frozen: features from files": features_from_files,
    "frozen: head": head,
    "ours, augment=none": lambda material: ours_on_gpu(material, "ours: augment=none", "augment=none"),
    "ours, deterministic=false": lambda material: ours_on_gpu(
        material, "ours: light, trainer.deterministic=false", "augment=light", "trainer.deterministic=false"
    ),
    "ours, strong": lambda material: ours_on_gpu(material, "ours: augment=strong", "augment=strong"),
    "ours, averaged": lambda material: ours_on_gpu(
        material, "ours: light, averaged weights", "augment=light", "callbacks=[last,average]"
    ),
    "ours, host": lambda material: ours(
        material, "ours: light, images on the host", "finetune=full", "augment=light", rows=material.rows
    ),
    "ours, files": lambda material: ours(
        material, "ours: light, files decoded in each epoch", "finetune=full", "augment=light", "data.in_memory=false"
    ),
    "compute only, float32": lambda material: compute_only(material, "compute only, float32 (TF32)", lower=False),
    "compute only, channels first": lambda material: compute_only(
        material, "compute only, bf16, channels first", channels_last=False
    ),
    "compute only, compiled": lambda material: compute_only(material, "compute only, bf16, compiled", compiled=True),
}


def in_turn(material: Material, rounds: int = 3) -> dict[str, Row]:
    """Measure the net alone and our training in turn; the rows have the median rate, and the rates in their notes."""
    pairs = []
    for number in range(rounds):
        with fresh():
            alone = compute_only(material, COMPUTE, watched=number == 0)
        with fresh():
            pairs.append((alone, ours_on_gpu(material, OURS, "augment=light")))
    rows = {}
    for found in zip(*pairs, strict=True):
        rates = [row.rate for row in found]
        rows[found[0].name] = Row(found[0].name, statistics.median(rates), found[0].waits, {"rates": rates})
    return rows


@contextmanager
def fresh() -> Iterator[None]:
    """Begin with torch's settings and end with free memory."""
    defaults()
    try:
        yield
    finally:
        release_gpu_memory()


def main() -> None:
    """Measure what there is time for; print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--seconds", type=float, default=150.0, help="begin no further row after these")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="folder of gpu.json")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmark skipped: torch finds no NVIDIA GPU")
        return
    task = Task(**{**asdict(TINY if options.tiny else Task()), "device": options.device})
    quiet()
    keep_freed_memory()
    warnings.filterwarnings("ignore")
    name = torch.cuda.get_device_name() if task.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {cpu_count()} cores: {task}", flush=True)
    begun, rows, left_out, failed = time.perf_counter(), dict[str, Row](), list[str](), False
    with tempfile.TemporaryDirectory() as folder:
        material = painted(task, Path(folder))
        print(f"painted and decoded in {time.perf_counter() - begun:.0f} s", flush=True)
        print(f"{'':44}{'images/s':>12}{'of it':>8}{'waits':>8}{'s':>7}")
        start = time.perf_counter()
        rows |= in_turn(material)
        for row in rows.values():
            print(line_of(row, rows[COMPUTE], (time.perf_counter() - start) / 2), flush=True)
        for kind, measure in KINDS.items():
            if time.perf_counter() - begun > options.seconds:
                left_out.append(kind)
                continue
            start = time.perf_counter()
            try:
                with fresh():
                    rows[kind] = measure(material)
            except Exception as error:  # noqa: BLE001 - the other rows shall be measured all the same
                print(f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
                left_out.append(kind)
                failed = True
                continue
            print(line_of(rows[kind], rows.get(COMPUTE), time.perf_counter() - start), flush=True)
    for line in verdict(rows, left_out):
        print(line)
    options.out.mkdir(parents=True, exist_ok=True)
    content = {
        "device": name, "torch": torch.__version__, "task": asdict(task), "rows": [asdict(row) for row in rows.values()]
    }  # fmt: skip
    (options.out / "gpu.json").write_text(json.dumps(content, indent=1))
    sys.exit(int(failed))


def line_of(row: Row, reference: Row | None, seconds: float) -> str:
    """Return a row of the table, of at most 80 columns."""
    share = f"{100 * row.rate / reference.rate:.0f} %" if reference and not row.name.startswith("frozen") else ""
    waits = "" if row.waits is None else f"{100 * row.waits:.0f} %"
    return f"{row.name[:44]:44}{row.rate:12,.0f}{share:>8}{waits:>8}{seconds:7.0f}"


def verdict(rows: dict[str, Row], left_out: list[str]) -> list[str]:
    """Return whether input holds our training back, and what was not measured."""
    lines = [f"not measured: {', '.join(left_out)}"] if left_out else []
    if COMPUTE in rows and OURS in rows:
        pairs = zip(rows[OURS].notes["rates"], rows[COMPUTE].notes["rates"], strict=True)
        shares = [mine / alone for mine, alone in pairs]
        share = statistics.median(shares)
        reached = "reached" if share >= FLOOR else "missed"
        each = ", ".join(f"{one:.2f}" for one in shares)
        lines.append(f"ours with input and augmentation / compute only: {share:.2f} ({each});")
        lines.append(f"{FLOOR:.2f} is {reached}")
    return lines


if __name__ == "__main__":
    main()
