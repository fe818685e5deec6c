"""Training of the cell finder: annotated fields to an ONNX file.

    python -m bloodcell.training.finder FOLDER... --weights FILE --output finder.onnx

A FOLDER is one laboratory's; see `bloodcell.data.annotated_fields`. Laboratories have equal shares. FILE has the
pretrained weights of MobileNetV2; without it they are downloaded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bloodcell.data.annotated_fields import read_annotated, read_names
from bloodcell.models.finder_net import FinderNet, finder_loss
from bloodcell.models.mixed_styles import MixedStyles
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.finder_file import export_finder, finder_weights, mix_finders, read_finder
from bloodcell.training.finder_views import Batches, Views, views_of

#: Steps, largest learning rate, its part for the pretrained blocks, and the weight decay of AdamW.
STEPS, RATE, LOWER, DECAY = 2400, 2e-3, 0.1, 1e-3
#: Share of the averaged weights that stays in a step.
KEPT = 0.995
#: Steps from one saved state to the next.
SAVED = 200


class Course:
    """A net in training, the mean of its weights over the last steps, and how far it is."""

    def __init__(self, net: FinderNet, steps: int, rate: float) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net, self.done = net.train().to(self.device).to(memory_format=torch.channels_last), 0
        for blocks in net.pretrained:
            blocks.eval()  # the statistics of their batch norm stay
        self.mean = deepcopy(self.net).eval()
        self.styles = MixedStyles(*net.pretrained[:2])
        groups, rates = _groups(net), [rate, LOWER * rate]
        self.optimizer = torch.optim.AdamW(groups, rate, weight_decay=DECAY)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rates, total_steps=steps, pct_start=0.1)

    def step(self, batch: Sequence[Tensor]) -> None:
        """Learn from a batch."""
        images, *wanted = (part.to(self.device, non_blocking=True) for part in batch)
        self.styles.draw()
        with torch.autocast(self.device.type, torch.bfloat16):
            out = self.net(images.contiguous(memory_format=torch.channels_last))
        loss = finder_loss(out.float(), *wanted)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.done += 1
        _average(self.mean, self.net, min(KEPT, self.done / (self.done + 9)))

    def save(self, file: Path) -> None:
        """Write its state to a file."""
        parts = {name: getattr(self, name).state_dict() for name in ("net", "mean", "optimizer", "schedule")}
        torch.save({**parts, "done": self.done, "chance": torch.get_rng_state()}, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    def resume(self, file: Path) -> None:
        """Go on from the state in a file.

        Raises:
            BloodcellError: It is not that of such a training.
        """
        try:
            state = torch.load(file, map_location=self.device, weights_only=True)
            for name in ("net", "mean", "optimizer", "schedule"):
                getattr(self, name).load_state_dict(state[name])
        except Exception as error:  # whatever torch says of another file
            raise BloodcellError(f"{file} is no state of this training; delete it, or name another file") from error
        self.done = state["done"]
        torch.set_rng_state(state["chance"].cpu())


def _groups(net: FinderNet) -> list[dict[str, list[nn.Parameter]]]:
    """Return the parameters of a net as an optimizer takes them: the new ones, and the pretrained ones."""
    pretrained = [one for blocks in net.pretrained for one in blocks.parameters()]
    known = {id(one) for one in pretrained}
    return [{"params": [one for one in net.parameters() if id(one) not in known]}, {"params": pretrained}]


def train_finder(
    views: Sequence[Views],
    steps: int = STEPS,
    seed: int = 0,
    workers: int = 0,
    start: Path | None = None,
    rate: float = RATE,
    state: Path | None = None,
    weights: str | None = None,
) -> FinderNet:
    """Return a net trained on views of some laboratories: the mean of its weights over the last steps.

    It learns on a GPU if there is one. `workers` processes make the batches, whose number changes nothing. It starts
    from the net in the file `start`, if given, else from `weights` of MobileNetV2 (see `FinderNet`; random ones, None,
    are for tests: these blocks learn slowly, and their batch norm not at all), and goes on from the file `state`, if
    there is one, which it writes.
    """
    torch.manual_seed(seed)
    cv2.setNumThreads(1)  # the workers take the cores
    first = Batches(views, 1, seed)[0][0]
    goes_on = state is not None and state.exists()
    net = read_finder(start, first) if start else FinderNet(None if goes_on else weights)
    course = Course(net, steps, rate)
    if state and goes_on:
        course.resume(state)
    left, own = Batches(views, steps, seed, course.done), torch.Generator()  # not the one that mixes styles
    batches = DataLoader(left, batch_size=None, num_workers=workers, generator=own)
    with progress("training") as advance:
        for batch in batches:
            course.step(batch)
            if state and course.done % SAVED == 0:
                course.save(state)
            advance(course.done, steps)
    course.styles.remove()
    return course.mean.cpu()


def _average(mean: nn.Module, net: nn.Module, kept: float) -> None:
    for old, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - kept)
        else:
            old.copy_(new)


def _given(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--without", type=Path, help="a file with the names of pictures to leave out, a line each")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE, help="largest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that make the pictures")
    parser.add_argument("--weights", metavar="FILE", help="MobileNetV2's; without it they are downloaded")
    parser.add_argument("--start", type=Path, help="a finder to train further")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the new weights in their mean with those of --start"
    )
    parser.add_argument("--views", type=Path, help="a folder to keep views in: quicker, with fewer of them")
    parser.add_argument("--number", type=int, default=1000, help="of views to keep for each laboratory")
    parser.add_argument("--state", type=Path, help="a file to go on from if the training is stopped")
    return parser, parser.parse_args(arguments)


def _checked(given: argparse.Namespace) -> str:
    """Return the weights to begin with; raise BloodcellError if they, or the finder to begin with, cannot be read."""
    weights = given.weights or "DEFAULT"
    if given.start:
        if given.weights:
            raise BloodcellError("--start has all weights; leave --weights out")
        finder_weights(given.start)
    elif not (given.state and given.state.exists()):
        try:
            FinderNet(weights)
        except BloodcellError as error:
            why = str(error).partition("\n")[0].partition("; ")[0].replace("model.weights=", "")
            raise BloodcellError(f"--weights: {why}; give a file of torchvision's mobilenet_v2") from error
    return str(weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the finder."""
    parser, given = _given(arguments)
    begin = time.monotonic()
    try:
        without = read_names(given.without)
        laboratories = [read_annotated(folder, without) for folder in given.folders]
        weights = _checked(given)
    except BloodcellError as error:
        parser.error(str(error))
    for folder, fields in zip(given.folders, laboratories, strict=True):
        say(f"{folder}: {counted(len(fields), 'picture')}, {counted(sum(len(one.boxes) for one in fields), 'cell')}")
    names = [folder.resolve().name for folder in given.folders]
    views = views_of(laboratories, names, given.views, given.number, given.seed)
    try:
        net = train_finder(views, given.steps, given.seed, given.workers, given.start, given.rate, given.state, weights)
    except BloodcellError as error:
        parser.error(str(error))
    export_finder(net, given.output)
    if given.start:
        mix_finders(given.start, given.output, given.share)
    say(f"{given.output}: {given.output.stat().st_size / 1000:.0f} kB, in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
