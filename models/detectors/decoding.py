"""From lesionnet's maps to lesions in pixels of the network's grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.boxes import nms
from models.detectors.lesionnet import Maps
from models.detectors.targets import to_px

LIMIT = 100
"""Most lesions of a slice; FROC is read at up to 8 (16) false positives a slice."""
SCORE_FLOOR = 0.001
OVERLAP = 0.3
"""Of two boxes with a greater IoU only the better one stays: lesions of one slice hardly ever overlap."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Lesions of one slice, best score first, in pixels of the network's grid."""

    boxes: Tensor
    """(n, 4)."""
    scores: Tensor
    """(n,) 0 to 1."""
    ends: Tensor
    """(n, 4, 2) long axis, then short axis."""


@dataclass(frozen=True, eq=False)
class Peaks:
    """Cells of one slice where a lesion's centre may lie, best score first."""

    scores: Tensor
    """(n,) 0 to 1; 0 in a cell that is no peak."""
    cells: Tensor
    """(n,) row * columns + column."""
    columns: int
    """Cells in a row."""


def decode(maps: Maps, limit: int = LIMIT) -> tuple[Decoded, ...]:
    """The lesions of each image of a batch: cells higher than their eight neighbours, without doubles."""
    found = []
    for centre, sides, ends in zip(maps.centre, maps.sides, maps.ends, strict=True):
        peaks = highest(centre, limit)
        found.append(lesions(peaks, sides.flatten(1)[:, peaks.cells].T, ends.flatten(1)[:, peaks.cells].T))
    return tuple(found)


def highest(centre: Tensor, limit: int = LIMIT) -> Peaks:
    """The cells of (1, H/4, W/4) centre logits that are higher than their neighbours; where they are few, others too.

    Always as many, so that what is computed in them has one shape on all slices of a size.
    """
    scores = torch.sigmoid(centre.float())
    alone = scores * (scores == functional.max_pool2d(scores, 3, stride=1, padding=1))
    best, cells = alone.flatten().topk(min(limit, alone.numel()))
    return Peaks(best, cells, centre.shape[-1])


def lesions(peaks: Peaks, sides: Tensor, ends: Tensor) -> Decoded:
    """The lesions at the peaks, without doubles; `sides` (n, 4) and `ends` (n, 8) are those of `Maps` there."""
    enough = peaks.scores >= SCORE_FLOOR
    scores, cells, sides, ends = (part[enough] for part in (peaks.scores, peaks.cells, sides.float(), ends.float()))
    centre = torch.stack([cells % peaks.columns, cells // peaks.columns], dim=1).to(sides)
    left_top, right_bottom = sides.reshape(-1, 2, 2).unbind(dim=1)
    first, last = centre - left_top, centre + right_bottom
    boxes = to_px(torch.cat([first, torch.maximum(first, last)], dim=1))
    points = to_px(ends.reshape(-1, 4, 2) + centre[:, None])
    kept = nms(boxes, scores, OVERLAP)
    return Decoded(boxes[kept], scores[kept], points[kept])
