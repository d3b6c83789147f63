"""What a lesionnet says of a slice, without what its answer does not need: for looking, never for learning.

Box and axes matter where a centre may lie, in a hundred cells of many thousands: there alone they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.detectors.decoding import Decoded, Peaks, highest, lesions
from models.detectors.inputs import channels_in
from models.detectors.lesionnet import Lesionnet, shapes


@dataclass(frozen=True, eq=False)
class Seen:
    """What a net sees on one slice."""

    lesions: Decoded
    mask: Tensor | None
    """(1, H/2, W/2) logits: `Maps.mask`; None where no lesion is sure enough to be measured on it."""


def look(model: Lesionnet, hu: Tensor, key_index: int, masked_from: float = 0.0) -> Seen:
    """What a net in evaluation mode sees on (slices, H, W) HU, in the numbers of its weights: as its maps have it.

    Where no lesion scores `masked_from` or more there is no mask.
    """
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        stem, pyramid = model.features(channels_in(hu[None], key_index, dtype))
        peaks = highest(model.centre_head(pyramid)[0])
        sides, ends = shapes(_at(model.shape_head, pyramid, peaks))
        found = lesions(peaks, sides.flatten(1), ends.flatten(1))
        is_masked = bool((found.scores >= masked_from).any())
        return Seen(found, model.masks(stem, pyramid)[0] if is_masked else None)


def _at(head: nn.Module, pyramid: Tensor, peaks: Peaks) -> Tensor:
    """(n, channels, 1, 1) what a head that reaches one cell far says at the peaks of one slice."""
    around = torch.arange(3, device=pyramid.device)
    rows = (peaks.cells // peaks.columns)[:, None] + around
    columns = (peaks.cells % peaks.columns)[:, None] + around
    cells = functional.pad(pyramid, (1, 1, 1, 1))[0].permute(1, 2, 0)
    patches = cells[rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    said: Tensor = head(patches)[:, :, 1:2, 1:2]
    return said
