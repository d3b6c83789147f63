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


def decode(maps: Maps, limit: int = LIMIT) -> tuple[Decoded, ...]:
    """The lesions of each image of a batch: cells higher than their eight neighbours, without doubles."""
    scores = torch.sigmoid(maps.centre.float())
    peaks = scores * (scores == functional.max_pool2d(scores, 3, stride=1, padding=1))
    return tuple(
        _decode_one(peak[0], sides.float(), ends.float(), limit)
        for peak, sides, ends in zip(peaks, maps.sides, maps.ends, strict=True)
    )


def _decode_one(peaks: Tensor, sides: Tensor, ends: Tensor, limit: int) -> Decoded:
    columns = peaks.shape[1]
    scores, cells = peaks.flatten().topk(min(limit, peaks.numel()))
    scores, cells = scores[scores >= SCORE_FLOOR], cells[scores >= SCORE_FLOOR]
    centre = torch.stack([cells % columns, cells // columns], dim=1).to(sides)
    left_top, right_bottom = sides.flatten(1)[:, cells].T.reshape(-1, 2, 2).unbind(dim=1)
    first, last = centre - left_top, centre + right_bottom
    boxes = to_px(torch.cat([first, torch.maximum(first, last)], dim=1))
    points = to_px(ends.flatten(1)[:, cells].T.reshape(-1, 4, 2) + centre[:, None])
    kept = nms(boxes, scores, OVERLAP)
    return Decoded(boxes[kept], scores[kept], points[kept])
