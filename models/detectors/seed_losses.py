"""Losses of the seed detector: what the network says of anchors and regions against the lesions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models import boxes
from models.detectors.seed_anchors import UNUSED, match_anchors
from models.detectors.seed_network import Judged
from models.detectors.seed_options import SeedOptions

ANCHOR_TURN = 1 / 9
"""Difference at which the anchors' box loss turns from square to straight: 1 / sigma ** 2 for sigma 3."""
REGION_TURN = 1.0


def losses(
    judged: Judged, lesions: Sequence[Tensor], rows: int, columns: int, options: SeedOptions
) -> dict[str, Tensor]:
    """Four scalar losses and their sum 'loss' for a network's answer to a batch of `rows` x `columns` pixels.

    `lesions` are those that `judged` was made with. Classes: mean of the entropy over sampled anchors and regions;
    boxes: smooth-L1 (Girshick 2015) of the positive ones, divided by the number to sample.
    """
    count = len(lesions)
    parts = {name: judged.objectness.new_zeros(()) for name in ("anchor", "anchor_box", "region", "region_box")}
    for sample, truth in enumerate(lesions):
        matched = match_anchors(judged.anchors, truth, rows, columns, options)
        used, positive = matched != UNUSED, matched >= 0
        parts["anchor"] += functional.binary_cross_entropy_with_logits(
            judged.objectness[sample][used].float(), positive[used].float()
        )
        parts["anchor_box"] += (
            _box_loss(judged.anchor_deltas[sample], judged.anchors, truth, matched, ANCHOR_TURN)
            / options.anchors_sampled
        )
        numbers = judged.lesions[sample]
        parts["region"] += functional.cross_entropy(judged.class_logits[sample].float(), (numbers >= 0).long())
        parts["region_box"] += (
            _box_loss(judged.region_deltas[sample], judged.regions[sample], truth, numbers, REGION_TURN)
            / options.regions_sampled
        )
    mean = {name: part / count for name, part in parts.items()}
    mean["region_box"] = mean["region_box"] * options.region_box_weight
    return {"loss": torch.stack(list(mean.values())).sum(), **mean}


def _box_loss(deltas: Tensor, start: Tensor, truth: Tensor, numbers: Tensor, turn: float) -> Tensor:
    positive = numbers >= 0
    wanted = boxes.encode(truth[numbers[positive]], start[positive])
    return functional.smooth_l1_loss(deltas[positive].float(), wanted, beta=turn, reduction="sum")
