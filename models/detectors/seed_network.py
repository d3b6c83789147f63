"""DeepLesion's Faster R-CNN on VGG-16, and 3DCE's fusion of several images of three slices.

What differs from the published code: RoIAlign in place of RoI pooling, also by place; anchors of exact sides, not
rounded; one logit an anchor in place of two under a softmax, and boxes of lesions alone (the same functions with fewer
numbers); intensities divided by a spread, for weights in torchvision's naming; one learning rate for all layers, where
3DCE's maps by place learn three times and its connected layer twice as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models import boxes
from models.detectors.seed_anchors import BACKGROUND, anchors, match_regions
from models.detectors.seed_heads import ContextHead, FasterRcnnHead, ProposalHead
from models.detectors.seed_options import SLICES_OF_AN_IMAGE, SeedOptions
from models.detectors.seed_trunk import STRIDE_PX, Vgg16, intensities


@dataclass(frozen=True, eq=False)
class Judged:
    """What the network says of a batch of B samples."""

    anchors: Tensor
    """(a, 4)."""
    objectness: Tensor
    """(B, a) logits of holding a lesion."""
    anchor_deltas: Tensor
    """(B, a, 4) from anchors to lesions."""
    regions: tuple[Tensor, ...]
    """(r, 4) for each sample: the proposals, or the sample of them that the head learns from."""
    lesions: tuple[Tensor, ...]
    """(r,) for each sample: the lesion that each region shall find, or BACKGROUND."""
    class_logits: tuple[Tensor, ...]
    """(r, 2) background, lesion."""
    region_deltas: tuple[Tensor, ...]
    """(r, 4) from regions to lesions."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Lesions found on one sample, best score first."""

    boxes: Tensor
    """(n, 4) pixels of the network's grid, with the margin that it has learnt."""
    scores: Tensor
    """(n,) 0 to 1."""


class SeedNetwork(nn.Module):
    """Two stages: proposals from the key image's map, then a head that judges each of them."""

    def __init__(self, options: SeedOptions) -> None:
        super().__init__()
        self.options = options
        self.trunk = Vgg16(options)
        self.proposal_head = ProposalHead(options)
        self.region_head: FasterRcnnHead | ContextHead = (
            FasterRcnnHead(options) if options.head == "faster-rcnn" else ContextHead(options)
        )

    def forward(self, hu: Tensor, lesions: Sequence[Tensor] | None = None) -> Judged:
        """Judges (B, 3 * images, H, W) Hounsfield units, slices from head to feet, H and W multiples of 8.

        With `lesions`, (k, 4) boxes of each sample, the head judges a random sample of regions to learn from.
        """
        count, slices, rows, columns = hu.shape
        if slices != self.options.slices or rows % STRIDE_PX or columns % STRIDE_PX:
            raise ValueError(f"{tuple(hu.shape)}: {self.options.slices} slices, sides multiples of {STRIDE_PX}")
        images = intensities(hu).reshape(count * self.options.images, SLICES_OF_AN_IMAGE, rows, columns)
        features = self.trunk(images.to(next(self.parameters()).dtype))
        key_features = features[self.options.images // 2 :: self.options.images]
        objectness, anchor_deltas = self.proposal_head(key_features)
        all_anchors = anchors(rows // STRIDE_PX, columns // STRIDE_PX, self.options, hu.device)
        regions, numbers = [], []
        for sample in range(count):
            found = self._proposals(all_anchors, objectness[sample], anchor_deltas[sample], rows, columns)
            number = torch.full((len(found),), BACKGROUND, device=hu.device)
            if lesions is not None:
                found, number = match_regions(found, lesions[sample], self.options)
            regions.append(found)
            numbers.append(number)
        prepared = self.region_head.prepare(features)
        judged = [self.region_head(one, region) for one, region in zip(prepared, regions, strict=True)]
        logits, deltas = zip(*judged, strict=True)
        return Judged(
            all_anchors, objectness, anchor_deltas, tuple(regions), tuple(numbers), tuple(logits), tuple(deltas)
        )

    @torch.no_grad()
    def _proposals(self, every: Tensor, objectness: Tensor, deltas: Tensor, rows: int, columns: int) -> Tensor:
        """(r, 4) the best anchors moved by their deltas, without doubles; no gradient flows through them."""
        options, afterwards = self.options, int(not self.training)
        scores, order = objectness.float().topk(min(options.proposals_before[afterwards], len(objectness)))
        found = boxes.clip(boxes.decode(deltas[order].float(), every[order]), rows, columns)
        large = ((found[:, 2:] - found[:, :2]) >= options.proposals_least_px).all(dim=1)
        found, scores = found[large], scores[large]
        return found[boxes.nms(found, scores, options.proposals_overlap, options.proposals_after[afterwards])]


def found_boxes(judged: Judged, rows: int, columns: int, options: SeedOptions) -> tuple[Boxes, ...]:
    """The lesions of each sample: regions moved by their deltas, clipped to the image, without doubles."""
    every = []
    for regions, logits, deltas in zip(judged.regions, judged.class_logits, judged.region_deltas, strict=True):
        moved = boxes.clip(boxes.decode(deltas.float(), regions), rows, columns)
        scores = logits.float().softmax(dim=1)[:, 1]
        kept = boxes.nms(moved, scores, options.found_overlap, options.found_most)
        every.append(Boxes(moved[kept], scores[kept]))
    return tuple(every)


def with_margin(tight: Tensor, margin_px: float) -> Tensor:
    """(n, 4) boxes with a margin on all sides; a negative one is taken off, down to a box of one pixel."""
    centre = (tight[:, :2] + tight[:, 2:]) / 2
    half = (tight[:, 2:] - tight[:, :2]) / 2 + margin_px
    if margin_px < 0:
        half = half.clamp(min=0.5)
    return torch.cat([centre - half, centre + half], dim=1)
