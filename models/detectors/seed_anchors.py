"""Anchors on the trunk's cells, and which of them and of the proposals learn which lesion."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models import boxes
from models.detectors.seed_options import SeedOptions
from models.detectors.seed_trunk import STRIDE_PX

BACKGROUND = -1
"""In place of a lesion's number: nothing is here."""
UNUSED = -2
"""In place of a lesion's number: does not take part in the loss."""


class Matched(NamedTuple):
    """Regions that the head learns from, with what they shall find."""

    regions: Tensor
    """(r, 4)."""
    lesions: Tensor
    """(r,) number of the lesion, or BACKGROUND."""


def anchors(rows: int, columns: int, options: SeedOptions, device: torch.device) -> Tensor:
    """(rows * columns * sides * ratios, 4) boxes around the cells' centres, cell by cell, side by side, by ratio.

    An anchor of side s and ratio r has the area s * s and the height r times the width.
    """
    side = torch.tensor(options.anchor_sides_px, device=device)[:, None]
    stretch = torch.tensor(options.anchor_ratios, device=device).sqrt()[None, :]
    half = torch.stack([side / stretch, side * stretch], dim=2).reshape(1, -1, 2) / 2
    x = (torch.arange(columns, device=device) + 0.5) * STRIDE_PX - 0.5
    y = (torch.arange(rows, device=device) + 0.5) * STRIDE_PX - 0.5
    centre = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], dim=2).reshape(-1, 1, 2)
    return torch.cat([centre - half, centre + half], dim=2).reshape(-1, 4)


def match_anchors(every: Tensor, lesions: Tensor, rows: int, columns: int, options: SeedOptions) -> Tensor:
    """(a,) number of the lesion that each anchor shall find, BACKGROUND or UNUSED; a random sample.

    Ren 2015, 3.1.2: positive with a high overlap or the highest that a lesion gets, negative with a low one; anchors
    that cross the border of the image (`rows` x `columns` pixels) are unused.
    """
    inside = (boxes.clip(every, rows, columns) == every).all(dim=1)
    overlap = boxes.iou(every, lesions) * inside[:, None]
    matched = torch.full((len(every),), UNUSED, device=every.device)
    if len(lesions):
        best, number = overlap.max(dim=1)
        matched[best < options.anchor_negative] = BACKGROUND
        is_best = ((overlap == overlap.max(dim=0).values) & (overlap > 0)).any(dim=1)
        positive = is_best | (best >= options.anchor_positive)
        matched[positive] = number[positive]
    else:
        matched[:] = BACKGROUND
    matched[~inside] = UNUSED
    return _sampled(matched, options.anchors_sampled, options.anchors_sampled // 2)


def match_regions(proposals: Tensor, lesions: Tensor, options: SeedOptions) -> Matched:
    """A random sample of the proposals and the lesions' own boxes, with the lesion each shall find.

    Girshick 2015 (Fast R-CNN), 2.3: positive from an overlap of a half on, else background.
    """
    every = torch.cat([proposals, lesions])
    matched = torch.full((len(every),), BACKGROUND, device=every.device)
    if len(lesions):
        best, number = boxes.iou(every, lesions).max(dim=1)
        positive = best >= options.regions_positive
        matched[positive] = number[positive]
    most_positive = round(options.regions_sampled * options.regions_positive_share)
    matched = _sampled(matched, options.regions_sampled, most_positive)
    used = matched != UNUSED
    return Matched(every[used], matched[used])


def _sampled(matched: Tensor, count: int, most_positive: int) -> Tensor:
    """`matched` with all but `count` entries unused, of which at most `most_positive` are lesions."""
    positive = _some(matched >= 0, most_positive)
    negative = _some(matched == BACKGROUND, count - len(positive))
    sampled = torch.full_like(matched, UNUSED)
    chosen = torch.cat([positive, negative])
    sampled[chosen] = matched[chosen]
    return sampled


def _some(candidates: Tensor, most: int) -> Tensor:
    """Numbers of at most `most` of the true entries, drawn from torch's global generator."""
    numbers = candidates.nonzero()[:, 0]
    return numbers[torch.randperm(len(numbers), device=numbers.device)[:most]]
