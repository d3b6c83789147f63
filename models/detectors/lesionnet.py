"""lesionnet: a compact 2.5-D detector, one pass without proposals.

A residual trunk and a feature pyramid down to stride 4 (Lin et al. 2017, Feature Pyramid Networks); on it, in each
cell, the heads: whether a lesion's centre lies there (Zhou et al. 2019, Objects as Points), the distances to the sides
of its box (Tian et al. 2019, FCOS), the four ends of its RECIST axes; at stride 2 what of the slice is lesion.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deeplesion_miner.errors import ConfigError

CELL_PX = 4
"""Side of a cell of the heads on the network's grid."""
MASK_CELL_PX = 2
DEEPEST_PX = 32
"""Inputs' sides are multiples of this."""
FIRST_SCORE = 0.01
"""What an untrained net scores everywhere (Lin et al. 2017, Focal Loss, 4.1)."""
FIRST_SIDE_CELLS = 1.5
"""About what an untrained net gives as distance to each side."""


@dataclass(frozen=True)
class Size:
    """How large a lesionnet is."""

    stem: int
    """Channels at stride 2, for the mask, too."""
    widths: tuple[int, int, int, int]
    """Channels at stride 4, 8, 16 and 32."""
    blocks: tuple[int, int, int, int]
    pyramid: int
    """Channels of the pyramid and the heads."""


SIZES = {
    "XS": Size(16, (24, 32, 48, 48), (1, 1, 1, 1), 24),
    "S": Size(24, (48, 64, 96, 96), (1, 2, 2, 1), 48),
    "M": Size(32, (80, 128, 192, 256), (2, 3, 3, 2), 96),
}


class Maps(NamedTuple):
    """What the net says of a batch, on cells whose centres lie at (number + 0.5) * side - 0.5 pixels."""

    centre: Tensor
    """(B, 1, H/4, W/4) logits: a lesion's centre lies in this cell."""
    sides: Tensor
    """(B, 4, H/4, W/4) distances in cells from the cell's centre to left, top, right, bottom; above -0.5."""
    ends: Tensor
    """(B, 8, H/4, W/4) column and row in cells from the cell's centre of the long axis' ends, then the short axis'."""
    mask: Tensor
    """(B, 1, H/2, W/2) logits: this is lesion."""


class Lesionnet(nn.Module):
    """(B, input channels, H, W) from `inputs.channels`, H and W multiples of 32 -> `Maps`."""

    def __init__(self, input_channels: int, size: Size) -> None:
        super().__init__()
        self.stem = _convolution(input_channels, size.stem, stride=2)
        befores = (size.stem, *size.widths)
        self.stages = nn.ModuleList(
            _stage(before, width, blocks)
            for before, width, blocks in zip(befores[:-1], size.widths, size.blocks, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, size.pyramid, 1) for width in size.widths)
        self.smooth = _convolution(size.pyramid, size.pyramid)
        self.centre_head = _head(size.pyramid, 1)
        self.shape_head = _head(size.pyramid, 4 + 8)
        self.mask_lateral = nn.Conv2d(size.pyramid, size.stem, 1)
        self.mask_head = _head(size.stem, 1)
        for head in (self.centre_head, self.mask_head):
            _set_bias(head[-1], -math.log(1 / FIRST_SCORE - 1))

    def forward(self, images: Tensor) -> Maps:
        """The maps of a batch."""
        stem, pyramid = self.features(images)
        sides, ends = shapes(self.shape_head(pyramid))
        mask = self.masks(stem, pyramid)
        return Maps(self.centre_head(pyramid), sides, ends, mask)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads see of a batch: the stem at stride 2 and the pyramid at stride 4."""
        stem = self.stem(images)
        levels = [self.stages[0](stem)]
        for stage in list(self.stages)[1:]:
            levels.append(stage(levels[-1]))
        merged = self.lateral[-1](levels[-1])
        for lateral, level in zip(list(self.lateral)[-2::-1], levels[-2::-1], strict=True):
            merged = lateral(level) + _doubled(merged)
        return stem, self.smooth(merged)

    def masks(self, stem: Tensor, pyramid: Tensor) -> Tensor:
        """`Maps.mask` of the features of a batch."""
        logits: Tensor = self.mask_head(stem + _doubled(self.mask_lateral(pyramid)))
        return logits


def shapes(shape: Tensor) -> tuple[Tensor, Tensor]:
    """`Maps.sides` and `Maps.ends` of what the shape head says, or of as many of its cells, (n, 12, rows, columns)."""
    # a lesion smaller than a cell may lie wholly on one side of the centre of its cell, half a cell away at most
    sides = functional.softplus(shape[:, :4] + math.log(math.expm1(FIRST_SIDE_CELLS + 0.5))) - 0.5
    return sides, shape[:, 4:]


def build(size: str, input_channels: int) -> Lesionnet:
    """A lesionnet of size 'XS', 'S' or 'M' with new weights. ConfigError for another size."""
    if size not in SIZES:
        raise ConfigError(f"model.size {size!r}: lesionnet comes in {', '.join(SIZES)}")
    return Lesionnet(input_channels, SIZES[size])


def parameter_count(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in model.parameters())


def fused(model: Lesionnet) -> Lesionnet:
    """A copy for inference, each normalisation worked into the convolution before it: the same maps, less work."""
    ready = copy.deepcopy(model).eval()
    for part in ready.modules():
        if isinstance(part, nn.Sequential) and len(part) > 1:
            convolution, normalisation = part[0], part[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                part[0], part[1] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return ready


class _Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016, basic block)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, width, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(features)) + self.shortcut(features))


def _stage(before: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(_Block(before, width, 2), *[_Block(width, width, 1) for _ in range(blocks - 1)])


def _convolution(before: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


def _head(width: int, outputs: int) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 1)
    nn.init.normal_(last.weight, std=0.01)
    _set_bias(last, 0.0)
    return nn.Sequential(_convolution(width, width), last)


def _set_bias(layer: nn.Module, value: float) -> None:
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    nn.init.constant_(layer.bias, value)


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")
