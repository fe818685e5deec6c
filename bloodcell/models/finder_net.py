"""The net that finds cells: for each place of a grid, how sure it is of a centre there, and the size of that cell.

Zhou et al. 2019, "Objects as points", https://arxiv.org/abs/1904.07850, with features of several scales added from the
coarsest to the finest (Lin et al. 2017, https://arxiv.org/abs/1612.03144), so that cells may differ in size (`SEEN`).
The finest scales are the first blocks of a pretrained MobileNetV2: at a laboratory that the net has not seen, it finds
more than one that begins at random.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bloodcell.models.backbones import build_backbone

#: Where the parts of MobileNetV2 of half the size of the picture, and then of a quarter, an eighth and a sixteenth of
#: it end, in its list of a convolution and its blocks; and the channels of the last three.
BLOCKS, PRETRAINED = (2, 4, 7, 14), (24, 32, 96)
#: Channels of the coarser scales; of what the scales have in common.
COARSER, SHARED = (64, 64), 24
#: Mean and spread of the pictures that MobileNetV2 was pretrained on, and a background as bright as theirs.
MEAN, SPREAD, LIGHT = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.9
#: Share of a cell's side that the bell around its centre is wide, and its least width in places of the grid.
BELL, NARROWEST = 0.16, 0.7
#: Diameters of the cells that the net tells, pixels; others are neither cells nor background to it.
SEEN = (10.0, 130.0)
#: Height of a bell without a centre, at which the loss is next to nothing.
IGNORED = 0.998
#: Height of the bell from which its place learns the size of the cell.
INNER = 0.6
STRIDE = 4


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class FinderNet(nn.Module):
    """A net from pictures to a grid of a quarter of their size.

    Pictures are float32 (N, 3, H, W), see `bloodcell.data.finder_input.normalised`.

    Args:
        weights: Of MobileNetV2, see `build_backbone`; None: random ones.

    Returns:
        The logit of a centre and the logarithms of width and height in pixels, float32 (N, 3, H / 4, W / 4).
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        backbone = build_backbone("mobilenet_v2", weights=weights)
        assert isinstance(backbone, nn.Sequential)
        self.stem = backbone[: BLOCKS[0]]
        self.body = nn.ModuleList(backbone[first:last] for first, last in pairwise(BLOCKS))
        pairs = pairwise((PRETRAINED[-1], *COARSER))
        self.coarser = nn.ModuleList(nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairs)
        self.lateral = nn.ModuleList(nn.Conv2d(channels, SHARED, 1) for channels in (*PRETRAINED, *COARSER))
        self.merged = nn.ModuleList(_block(SHARED, SHARED) for _ in self.lateral)
        self.head = _block(SHARED, SHARED)
        self.out = nn.Conv2d(SHARED, 3, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        self.out.bias = nn.Parameter(torch.tensor([-4.0, math.log(40), math.log(40)]))  # few places are centres
        self.register_buffer("centre", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x, found = self.stem((LIGHT * images - self.centre) / self.spread), []
        for scale in (*self.body, *self.coarser):
            x = scale(x)
            found.append(x)
        merged = self.merged[-1](self.lateral[-1](found[-1]))
        for number in range(len(found) - 2, -1, -1):
            height, width = found[number].shape[-2:]
            larger = functional.interpolate(merged, scale_factor=2, mode="nearest")[..., :height, :width]
            merged = self.merged[number](self.lateral[number](found[number]) + larger)
        return torch.as_tensor(self.out(self.head(merged)))

    @property
    def pretrained(self) -> list[nn.Module]:
        """The blocks of MobileNetV2."""
        return [self.stem, *self.body]


def targets(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the net should say of one picture.

    Args:
        boxes: Centre, width and height of each cell in pixels, float32 (B, 4); a negative size is not exact.
        height: Of the grid, places.
        width: Of the grid.

    Returns:
        Bells around the centres, (h, w); the logarithms of width and height, (2, h, w); and where these count, (h, w).
    """
    heat, size, counts = torch.zeros(height, width), torch.zeros(2, height, width), torch.zeros(height, width)
    rows, columns = torch.arange(height)[:, None].float(), torch.arange(width)[None].float()
    for x, y, *sides in boxes.tolist():
        column, row = x / STRIDE - 0.5, y / STRIDE - 0.5
        if not SEEN[0] <= math.sqrt(abs(sides[0] * sides[1])) <= SEEN[1]:
            across, down = (abs(side) / STRIDE / 2 for side in sides)
            inside = (abs(columns - column) <= across) & (abs(rows - row) <= down)
            heat[inside & (heat < IGNORED)] = IGNORED
            continue
        across, down = (max(abs(side) / STRIDE * BELL, NARROWEST) for side in sides)
        bell = torch.exp(-((columns - column) ** 2) / (2 * across**2) - (rows - row) ** 2 / (2 * down**2))
        bell[min(max(round(row), 0), height - 1), min(max(round(column), 0), width - 1)] = 1
        heat = torch.maximum(heat, bell)
        if sides[0] > 0:
            inner = bell > INNER
            counts[inner] = 1
            size[:, inner] = torch.tensor(sides).log()[:, None]
    return heat, size, counts


def finder_loss(out: Tensor, heat: Tensor, size: Tensor, counts: Tensor) -> Tensor:
    """Return the focal loss of the centres plus the mean error of the logarithms of the sizes (Zhou et al. 2019)."""
    sure = out[:, 0].sigmoid().clamp(1e-5, 1 - 1e-5)
    centre = heat >= 0.999
    right = (1 - sure[centre]) ** 2 * sure[centre].log()
    wrong = sure[~centre] ** 2 * (1 - sure[~centre]).log() * (1 - heat[~centre]) ** 4
    focal = -(right.sum() + wrong.sum()) / centre.sum().clamp(min=1)
    errors = (out[:, 1:] - size).abs().sum(dim=1) * counts
    return focal + errors.sum() / counts.sum().clamp(min=1)
