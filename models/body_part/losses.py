"""What teaches a slice score without labels, and with what is known of millimetres and landmarks.

Scores are (groups, slices): slices of one group are equidistant and run from head to feet.
Order and distance as in self-supervised body-part regression (Yan, Lu, Summers: Unsupervised Body Part Regression via
Spatially Self-ordering Convolutional Neural Networks, ISBI 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def order_loss(scores: Tensor) -> Tensor:
    """(groups,) mean of -log sigmoid of the differences of neighbours: small where scores rise towards the feet."""
    return functional.softplus(-torch.diff(scores, dim=1)).mean(dim=1)


def distance_loss(scores: Tensor) -> Tensor:
    """(groups,) mean smooth L1 of the second differences: small where equal steps have equal differences."""
    second = torch.diff(scores, n=2, dim=1)
    return functional.smooth_l1_loss(second, torch.zeros_like(second), reduction="none").mean(dim=1)


def slope_loss(scores: Tensor, position_cm: Tensor) -> Tensor:
    """(groups,) mean smooth L1 between differences of neighbours and their distance in cm.

    Scores are centimetres of a nominal adult, so a patient's own size is left in it as noise.
    """
    apart = torch.diff(scores, dim=1) - torch.diff(position_cm, dim=1)
    return functional.smooth_l1_loss(apart, torch.zeros_like(apart), reduction="none").mean(dim=1)


def place_loss(scores: Tensor, known_cm: Tensor) -> Tensor:
    """(groups,) mean smooth L1 to known heights over the slices that have one; 0 for a group without (NaN)."""
    known = torch.isfinite(known_cm)
    apart = functional.smooth_l1_loss(scores, torch.where(known, known_cm, scores.detach()), reduction="none")
    return (apart * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
