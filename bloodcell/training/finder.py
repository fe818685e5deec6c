"""Training of the cell finder: annotated fields to an ONNX file.

    python -m bloodcell.training.finder FOLDER... --output finder.onnx

A FOLDER is one laboratory's; see `bloodcell.data.annotated_fields`. Laboratories have equal shares.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bloodcell.data.annotated_fields import AnnotatedField, read_annotated
from bloodcell.data.cells import STRIDE, normalised
from bloodcell.data.field_views import SIDE, view
from bloodcell.models.finder_net import FinderNet, finder_loss, targets
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.errors import BloodcellError

#: Views in a step, steps, largest learning rate, and the weight decay of AdamW.
BATCH, STEPS, RATE, DECAY = 16, 6000, 3e-3, 1e-3
#: Share of the averaged weights that stays in a step.
KEPT = 0.995


class Batches(Dataset[list[Tensor]]):
    """Batches by their numbers: views as the net sees them, float32 (N, 3, SIDE, SIDE), and their targets."""

    def __init__(self, laboratories: Sequence[Sequence[AnnotatedField]], number: int, seed: int) -> None:
        self.laboratories, self.number, self.seed = laboratories, number, seed

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> list[Tensor]:
        rng, items = np.random.default_rng([self.seed, number]), []
        for _ in range(BATCH):
            image, boxes = view(self.laboratories[int(rng.integers(len(self.laboratories)))], rng)
            seen = torch.from_numpy(normalised(image)).permute(2, 0, 1)
            items.append((seen, *targets(torch.from_numpy(boxes), SIDE // STRIDE, SIDE // STRIDE)))
        return [torch.stack(parts) for parts in zip(*items, strict=True)]


def train_finder(
    laboratories: Sequence[Sequence[AnnotatedField]], steps: int = STEPS, seed: int = 0, workers: int = 0
) -> FinderNet:
    """Return a net trained on the fields of some laboratories: the mean of its weights over the last steps.

    It learns on a GPU if there is one. `workers` processes make the batches, whose number changes nothing.
    """
    torch.manual_seed(seed)
    cv2.setNumThreads(1)  # the workers take the cores
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = FinderNet().to(device).to(memory_format=torch.channels_last)
    mean = deepcopy(net).eval()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    batches = DataLoader(Batches(laboratories, steps, seed), batch_size=None, num_workers=workers)
    with progress("training") as advance:
        for step, batch in enumerate(batches, 1):
            images, *wanted = (part.to(device, non_blocking=True) for part in batch)
            with torch.autocast(device.type, torch.bfloat16):
                out = net(images.contiguous(memory_format=torch.channels_last))
            loss = finder_loss(out.float(), *wanted)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            _average(mean, net, min(KEPT, step / (step + 9)))
            advance(step, steps)
    mean.cpu()
    return mean


def _average(mean: nn.Module, net: nn.Module, kept: float) -> None:
    for old, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - kept)
        else:
            old.copy_(new)


class _Exported(nn.Module):
    """Scores, (1, 1, h, w), and widths and heights in pixels, (1, 2, h, w)."""

    def __init__(self, net: FinderNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return them for an image, float32 (1, 3, H, W)."""
        out = self.net(image)
        return out[:, :1].sigmoid(), out[:, 1:].exp()


def export_finder(net: FinderNet, file: Path) -> None:
    """Write a net as an ONNX file for pictures of any size; its weights are stored in 16 bits."""
    any_size = {"image": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
    torch.onnx.export(
        _Exported(net).eval(), (torch.rand(1, 3, 312, 416),), file, dynamo=True, dynamic_shapes=any_size,
        input_names=["image"], output_names=["heat", "size"], external_data=False, verbose=False,
    )  # fmt: skip
    model = onnx.load(file)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # the exporter's notes, which hold paths of this machine
    _halve(model.graph)
    onnx.save(model, file)


def _halve(graph: onnx.GraphProto) -> None:
    """Store the weights of a graph in 16 bits, half the bytes; whatever runs it computes in 32 bits."""
    casts = []
    for weights in graph.initializer:
        if weights.data_type == TensorProto.FLOAT:
            name, values = weights.name, numpy_helper.to_array(weights)
            weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
            casts.append(helper.make_node("Cast", [weights.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the finder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--without", type=Path, help="a file with the names of pictures to leave out, a line each")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that make the pictures")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        without = set(given.without.read_text(encoding="utf-8").split()) if given.without else set()
        laboratories = [read_annotated(folder, without) for folder in given.folders]
    except BloodcellError as error:
        parser.error(str(error))
    for folder, fields in zip(given.folders, laboratories, strict=True):
        say(f"{folder}: {counted(len(fields), 'picture')}, {counted(sum(len(one.boxes) for one in fields), 'cell')}")
    export_finder(train_finder(laboratories, given.steps, given.seed, given.workers), given.output)
    say(f"{given.output}: {given.output.stat().st_size / 1000:.0f} kB, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
