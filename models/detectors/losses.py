"""What lesionnet is trained to make small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.detectors.lesionnet import Maps
from models.detectors.targets import Targets

FOCAL_POWER, HILL_POWER = 2.0, 4.0
"""alpha and beta of Zhou et al. 2019 (Objects as Points, equation 1)."""
WEIGHTS = {"centre": 1.0, "box": 5.0, "ends": 0.5, "mask": 1.0}
"""Of each part in the sum."""


def losses(maps: Maps, targets: Targets) -> dict[str, Tensor]:
    """Each part by its name, unweighted, and 'loss', their weighted sum; scalars, fp32 whatever the maps are."""
    maps = Maps(*(one.float() for one in maps))
    lesions = (targets.centre == 1).sum().clamp(min=1)
    parts = {
        "centre": centre_loss(maps.centre, targets.centre) / lesions,
        "box": (box_loss(maps.sides, targets.sides) * targets.shape_weight[:, 0]).sum() / lesions,
        "ends": (ends_loss(maps.ends, targets.ends, targets.sides) * targets.shape_weight[:, 0]).sum() / lesions,
        "mask": mask_loss(maps.mask, targets.mask, targets.mask_weight),
    }
    return {**parts, "loss": torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()}


def centre_loss(logits: Tensor, hills: Tensor) -> Tensor:
    """Sum of the focal loss with hills around the centres, not divided by the number of lesions."""
    probability = torch.sigmoid(logits)
    of_centres = (1 - probability) ** FOCAL_POWER * functional.logsigmoid(logits)
    of_others = (1 - hills) ** HILL_POWER * probability**FOCAL_POWER * functional.logsigmoid(-logits)
    return -torch.where(hills == 1, of_centres, of_others).sum()


def box_loss(sides: Tensor, wanted: Tensor) -> Tensor:
    """(B, h, w) 1 - generalised IoU (Rezatofighi et al. 2019) of boxes given by (B, 4, h, w) distances to sides."""
    area, wanted_area = _area(sides), _area(wanted)
    common = _area(torch.minimum(sides, wanted))
    union = area + wanted_area - common
    hull = _area(torch.maximum(sides, wanted))
    return 1 - common / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


def ends_loss(ends: Tensor, wanted: Tensor, sides: Tensor) -> Tensor:
    """(B, h, w) mean distance (L1) of an axis' ends, in box sides, in the better of both orders of each axis.

    The ends of an axis have no order; an axis that is not known (NaN) does not count.
    """
    size = (sides[:, :2] + sides[:, 2:]).mean(dim=1).clamp(min=1.0)
    total = torch.zeros_like(size)
    for first in (0, 4):
        found, known = ends[:, first : first + 4], wanted[:, first : first + 4]
        swapped = torch.cat([known[:, 2:], known[:, :2]], dim=1)
        # NaN is taken out before the difference: 0 * NaN would reach the gradient
        there = ~known.isnan()
        straight = ((found - known.nan_to_num()) * there).abs().sum(dim=1)
        crossed = ((found - swapped.nan_to_num()) * there).abs().sum(dim=1)
        total = total + torch.minimum(straight, crossed) / 4
    return total / size


def mask_loss(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy plus Dice loss over the batch, each pixel by its weight."""
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight
    found, there = torch.sigmoid(logits) * weight, wanted * weight
    dice = (2 * (found * wanted).sum() + 1) / (found.sum() + there.sum() + 1)
    # few pixels are lesion: divided by those and as many again, not by all
    return entropy.sum() / (2 * there.sum() + weight.sum() / 50 + 1) + 1 - dice


def _area(sides: Tensor) -> Tensor:
    width_height = (sides[:, :2] + sides[:, 2:]).clamp(min=0)
    return width_height[:, 0] * width_height[:, 1]
