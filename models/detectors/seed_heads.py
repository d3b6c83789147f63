"""What follows the trunk: the proposals' head and the two heads that judge regions."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from models import boxes
from models.detectors.seed_options import SeedOptions
from models.detectors.seed_trunk import PUBLISHED_CHANNELS, STRIDE_PX

BINS = 7
"""Of a region, in both directions."""
PROPOSAL_CHANNELS = 256
CONNECTED = 2048
"""Outputs of a fully connected layer."""
DROPPED = 0.5
MAPS_BY_PLACE = 10
"""For each bin and image (3DCE, section 2)."""
NEW_LAYER_SPREAD = 0.01
"""Standard deviation of new layers' weights, published."""


class ProposalHead(nn.Module):
    """(B, C, h, w) -> (B, a) logits of holding a lesion and (B, a, 4) deltas, in the anchors' order."""

    def __init__(self, options: SeedOptions) -> None:
        super().__init__()
        kinds = len(options.anchor_sides_px) * len(options.anchor_ratios)
        width = options.channels(PROPOSAL_CHANNELS)
        self.shared = nn.Conv2d(options.channels(PUBLISHED_CHANNELS), width, 3, padding=1)
        self.objectness = nn.Conv2d(width, kinds, 1)
        self.deltas = nn.Conv2d(width, kinds * 4, 1)
        draw_new(self, options.width)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas."""
        shared = functional.relu(self.shared(features))
        objectness = self.objectness(shared).permute(0, 2, 3, 1)
        deltas = self.deltas(shared).permute(0, 2, 3, 1)
        return objectness.reshape(len(features), -1), deltas.reshape(len(features), -1, 4)


class FasterRcnnHead(nn.Module):
    """RoIAlign and two fully connected layers (DeepLesion 2018)."""

    def __init__(self, options: SeedOptions) -> None:
        super().__init__()
        connected = options.channels(CONNECTED)
        self.connected = nn.Sequential(
            nn.Linear(options.channels(PUBLISHED_CHANNELS) * BINS**2, connected),
            nn.ReLU(),
            nn.Dropout(DROPPED),
            nn.Linear(connected, connected),
            nn.ReLU(),
            nn.Dropout(DROPPED),
        )
        self.verdict = _Verdict(connected)
        draw_new(self, options.width)

    def prepare(self, features: Tensor) -> Tensor:
        """What `forward` pools from, for a batch's maps (B * images, C, h, w): those maps."""
        return features

    def forward(self, prepared: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(r, 2) logits of background and lesion, (r, 4) deltas, for the regions of one image's map (C, h, w)."""
        pooled = boxes.roi_align(prepared, regions, STRIDE_PX, BINS)
        judged: tuple[Tensor, Tensor] = self.verdict(self.connected(pooled.flatten(1)))
        return judged


class ContextHead(nn.Module):
    """3DCE's head: maps by place in the box from every image, pooled together, one fully connected layer."""

    def __init__(self, options: SeedOptions) -> None:
        super().__init__()
        self.images = options.images
        self.by_place = nn.Conv2d(options.channels(PUBLISHED_CHANNELS), MAPS_BY_PLACE * BINS**2, 1)
        connected = options.channels(CONNECTED)
        self.connected = nn.Linear(MAPS_BY_PLACE * options.images * BINS**2, connected)
        self.verdict = _Verdict(connected)
        draw_new(self, options.width)

    def prepare(self, features: Tensor) -> Tensor:
        """(B, bins, bins, 10 * images, h, w) from a batch's maps (B * images, C, h, w), images next to one another."""
        by_place: Tensor = self.by_place(features)
        rows, columns = by_place.shape[2:]
        split = by_place.reshape(-1, self.images, BINS, BINS, MAPS_BY_PLACE, rows, columns)
        return split.permute(0, 2, 3, 1, 4, 5, 6).flatten(3, 4)

    def forward(self, prepared: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(r, 2) logits of background and lesion, (r, 4) deltas, for the regions of one sample."""
        pooled = boxes.roi_align_by_place(prepared, regions, STRIDE_PX)
        judged: tuple[Tensor, Tensor] = self.verdict(functional.relu(self.connected(pooled.flatten(1))))
        return judged


class _Verdict(nn.Module):
    """The last two layers of both heads; background needs no box, so that one lesion's deltas are all."""

    def __init__(self, connected: int) -> None:
        super().__init__()
        self.classes = nn.Linear(connected, 2)
        self.deltas = nn.Linear(connected, 4)

    def forward(self, connected: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(connected), self.deltas(connected)


def draw_new(module: nn.Module, width: float) -> None:
    """Draws the weights of new layers from torch's global generator; biases are 0.

    The published spread, larger where layers have fewer inputs, so that a narrow network's values are as large.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=NEW_LAYER_SPREAD / math.sqrt(width))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
