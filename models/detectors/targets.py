"""What lesionnet's maps should be: lesions of crops drawn onto the cells of the heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.detectors.lesionnet import CELL_PX, MASK_CELL_PX

SPREAD = 1 / 8
"""Standard deviation of a centre's hill, of the box' sides; it tells near misses from background."""
LEAST_SPREAD_CELLS = 0.5
SHAPE_SPREAD, LEAST_SHAPE_SPREAD_CELLS = 1 / 6, 0.8
"""Of the hill whose upper part learns a lesion's box and ends, too: more cells, fewer steps (TTFNet, 2020)."""
SHAPE_LEVEL = 0.3
IGNORED_MARGIN_CELLS = 2
"""Around a lesion, in cells of the mask, its mask's weight still holds."""


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one crop, in pixels of the network's grid."""

    boxes: Tensor
    """(k, 4) tight x_min, y_min, x_max, y_max."""
    ends: Tensor
    """(k, 4, 2) ends of the long axis, then the short axis; NaN where there is none."""
    masks: Tensor
    """(k, H, W) 0 to 1."""
    mask_weights: Tensor
    """(k,) how far each mask is trusted; 0 leaves it out."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Dense targets of a batch beside `lesionnet.Maps`."""

    centre: Tensor
    """(B, 1, h, w) 1 in the cell of each lesion's centre, falling off around it."""
    sides: Tensor
    """(B, 4, h, w) cells, meaningful where `shape_weight` is above 0, as the next."""
    ends: Tensor
    """(B, 8, h, w) cells; NaN where there is no short axis."""
    shape_weight: Tensor
    """(B, 1, h, w) adds up to 1 for each lesion of which no other covers a cell."""
    mask: Tensor
    """(B, 1, H/2, W/2) 0 to 1."""
    mask_weight: Tensor
    """(B, 1, H/2, W/2)."""

    def as_batch(self) -> dict[str, Tensor]:
        """The tensors by name, as a training batch carries them; `Targets(**...)` undoes it."""
        return dict(vars(self))


def draw(crops: Sequence[Lesions], height: int, width: int) -> Targets:
    """Targets of a batch of crops, each `height` x `width` pixels.

    A lesion whose centre lies outside its crop is left out of the heads; its mask stays. Where hills of two lesions
    meet, a cell belongs to the higher one.
    """
    drawn = [_draw_one(lesions, height // CELL_PX, width // CELL_PX) for lesions in crops]
    masks = [_draw_mask(lesions, height, width) for lesions in crops]
    return Targets(
        *(torch.stack(part) for part in zip(*drawn, strict=True)),
        *(torch.stack(part) for part in zip(*masks, strict=True)),
    )


def _draw_one(lesions: Lesions, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    centre = torch.zeros(1, rows, columns)
    sides, ends = torch.zeros(4, rows, columns), torch.zeros(8, rows, columns)
    weight, highest = torch.zeros(1, rows, columns), torch.zeros(rows, columns)
    # in cells from here on: a cell's centre is its number
    boxes, all_ends = to_cells(lesions.boxes), to_cells(lesions.ends)
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    for box, four in zip(boxes, all_ends, strict=True):
        column, row = torch.round((box[:2] + box[2:]) / 2).long().tolist()
        if not (0 <= column < columns and 0 <= row < rows):
            continue
        hill = _hill(x - column, y - row, (box[2:] - box[:2]) * SPREAD, LEAST_SPREAD_CELLS)
        centre[0] = torch.maximum(centre[0], hill)
        shape = _hill(x - column, y - row, (box[2:] - box[:2]) * SHAPE_SPREAD, LEAST_SHAPE_SPREAD_CELLS)
        shape *= shape >= SHAPE_LEVEL
        hers = shape > highest
        highest = torch.maximum(highest, shape)
        weight[0, hers] = (shape / shape.sum())[hers]
        sides[:, hers] = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y])[:, hers]
        ends[:, hers] = (four.reshape(8, 1, 1) - torch.stack([x, y]).repeat(4, 1, 1))[:, hers]
    return centre, sides, ends, weight


def _hill(x: Tensor, y: Tensor, spread: Tensor, least: float) -> Tensor:
    across, down = spread.clamp(min=least).tolist()
    return torch.exp(-((x / across) ** 2 + (y / down) ** 2) / 2)


def _draw_mask(lesions: Lesions, height: int, width: int) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(1, height // MASK_CELL_PX, width // MASK_CELL_PX)
    weight = torch.ones_like(mask)
    if not len(lesions.boxes):
        return mask, weight
    each = functional.avg_pool2d(lesions.masks[:, None], MASK_CELL_PX)[:, 0]
    margin = IGNORED_MARGIN_CELLS
    for box, one, trust in zip(lesions.boxes / MASK_CELL_PX, each, lesions.mask_weights, strict=True):
        left, top = (max(int(value) - margin, 0) for value in box[:2])
        right, bottom = (max(int(value) + margin + 1, 0) for value in box[2:])
        around = weight[0, top:bottom, left:right]
        around.copy_(torch.minimum(around, trust))
        mask[0] = torch.maximum(mask[0], one)
    return mask, weight


def to_cells(points_px: Tensor, side_px: int = CELL_PX) -> Tensor:
    """Coordinates in which a cell's centre is its number, from pixels in which a pixel's centre is its number."""
    return (points_px + 0.5) / side_px - 0.5


def to_px(points: Tensor, side_px: int = CELL_PX) -> Tensor:
    """Undoes `to_cells`."""
    return (points + 0.5) * side_px - 0.5
