"""Box arithmetic in plain torch: overlap, suppression, deltas and RoIAlign.

Boxes are (n, 4) x_min, y_min, x_max, y_max in pixels of the core convention: continuous, the centre of the first
pixel is (0, 0), so an image covers -0.5 to columns - 0.5. Width is x_max - x_min: the public evaluators' extra pixel
belongs to the evaluation alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""`decode` enlarges a box by this much at most, as all public Faster R-CNN codes do."""
SUPPRESSED_TOGETHER = 512
"""Boxes of one block of `nms`: its matrix of overlaps stays in the cache."""


def area(boxes: Tensor) -> Tensor:
    """(n,) square pixels; 0 for a box without width or height."""
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """(n, m) intersection over union of (n, 4) with (m, 4); 0 where both are empty."""
    top_left = torch.maximum(one[:, None, :2], other[None, :, :2])
    bottom_right = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    union = area(one)[:, None] + area(other)[None, :] - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


def nms(boxes: Tensor, scores: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, best first (long); exactly what box after box would give.

    A box goes when it overlaps a better kept one by more than `threshold`; of equal scores the first is the better.
    At most `most` boxes are kept.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    kept = order[:0]
    for block in torch.split(order, SUPPRESSED_TOGETHER):
        if most is not None and len(kept) >= most:
            break
        free = block[~(iou(boxes[kept], boxes[block]) > threshold).any(dim=0)]
        kept = torch.cat([kept, free[_survivors(iou(boxes[free], boxes[free]) > threshold)]])
    return kept[:most]


def _survivors(suppresses: Tensor) -> Tensor:
    """(n,) bool: which of n boxes, best first, greedy suppression keeps; `suppresses[i, j]`: i and j overlap.

    Every round settles at least one more box, from the best on, so the loop ends at the greedy answer.
    """
    earlier = suppresses.triu(diagonal=1)
    keep = torch.ones(len(earlier), dtype=torch.bool, device=earlier.device)
    while True:
        again = ~(earlier & keep[:, None]).any(dim=0)
        if torch.equal(again, keep):
            return keep
        keep = again


def clip(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """The boxes cut to the area of an image, -0.5 to columns - 0.5 and to rows - 0.5."""
    highest = boxes.new_tensor([columns, rows, columns, rows]) - 0.5
    return torch.minimum(boxes.clamp(min=-0.5), highest)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(n, 4) deltas that turn each anchor into its box: shift of the centre in anchor sizes, log of the scales.

    Faster R-CNN (Ren 2015), equation 2. Both must have width and height.
    """
    box_centre, box_size = _centre_size(boxes)
    centre, size = _centre_size(anchors)
    return torch.cat([(box_centre - centre) / size, (box_size / size).log()], dim=1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """(n, 4) boxes from deltas and anchors: the inverse of `encode` up to a scale of 62.5."""
    centre, size = _centre_size(anchors)
    box_centre = centre + deltas[:, :2] * size
    half = size * deltas[:, 2:].clamp(max=LARGEST_LOG_SCALE).exp() / 2
    return torch.cat([box_centre - half, box_centre + half], dim=1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def roi_align(features: Tensor, boxes: Tensor, stride: int, bins: int = 7, samples: int = 2) -> Tensor:
    """(n, channels, bins, bins): the mean of samples x samples bilinear readings in every bin of every box.

    RoIAlign (Mask R-CNN, He 2017, section 3). `features` (channels, rows, columns) of one image, whose cell i is
    centred on image pixel stride * (i + 0.5) - 0.5; readings beyond the outermost cells repeat them.
    """
    if not len(boxes):
        return features.new_zeros((0, len(features), bins, bins))
    grid = _reading_points(boxes, features.shape[1:], stride, bins * samples).reshape(1, -1, bins * samples, 2)
    pooled = functional.avg_pool2d(_read(features[None], grid), samples)[0]
    return pooled.reshape(len(features), -1, bins, bins).transpose(0, 1)


def roi_align_by_place(features: Tensor, boxes: Tensor, stride: int, samples: int = 2) -> Tensor:
    """(n, channels, bins, bins): as `roi_align`, but every bin is read from a map of its own.

    Position-sensitive pooling (R-FCN, Dai 2016, section 2) with RoIAlign's readings. `features` (bins, bins,
    channels, rows, columns) of one image: bin (i, j), i counting down, reads features[i, j].
    """
    bins, _, channels, rows, columns = features.shape
    if not len(boxes):
        return features.new_zeros((0, channels, bins, bins))
    grid = _reading_points(boxes, features.shape[3:], stride, bins * samples)
    by_bin = grid.reshape(-1, bins, samples, bins, samples, 2).permute(1, 3, 0, 2, 4, 5)
    read = _read(features.reshape(-1, channels, rows, columns), by_bin.reshape(bins * bins, -1, samples**2, 2))
    return read.mean(dim=3).permute(2, 1, 0).reshape(-1, channels, bins, bins)


def _reading_points(boxes: Tensor, shape: torch.Size, stride: int, side: int) -> Tensor:
    """(n, side, side, 2) evenly placed x, y in each box, as grid_sample counts: -1 to 1 over the map's area."""
    share = (torch.arange(side, dtype=boxes.dtype, device=boxes.device) + 0.5) / side
    across = boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * share
    down = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * share
    across = (across + 0.5) * (2 / (stride * shape[1])) - 1
    down = (down + 0.5) * (2 / (stride * shape[0])) - 1
    return torch.stack([across[:, None, :].expand(-1, side, -1), down[:, :, None].expand(-1, -1, side)], dim=3)


def _read(maps: Tensor, grid: Tensor) -> Tensor:
    # half precision would place the points up to half a cell wrong
    read = functional.grid_sample(
        maps.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return read.to(maps.dtype)
