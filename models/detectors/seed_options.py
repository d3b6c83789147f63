"""What can be set of the seed detector; the defaults are the published numbers.

Yan et al. 2018, DeepLesion (J Med Imaging 5(3):036501), and 3D Context Enhanced Region-based CNN (MICCAI 2018), with
their public code and its settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cattrs

from deeplesion_miner.errors import ConfigError

SLICES_OF_AN_IMAGE = 3
"""As the three colours of a photograph: previous, key and next slice."""
HEADS = ("faster-rcnn", "3dce")


@dataclass(frozen=True)
class SeedOptions:
    """Section [model] of a recipe of kind 'seed'. ConfigError for a combination that cannot be built."""

    head: str = "faster-rcnn"
    """'faster-rcnn' (one image), or '3dce', whose head reads the maps of all images by place in the box."""
    images: int = 1
    """Images of three slices that share the trunk; odd, the middle one holds the key slice."""
    width: float = 1.0
    """Multiplies all channels of trunk, proposals and head."""
    weights: str = ""
    """File with VGG-16 weights for the trunk, '' = none."""
    margin_px: float = 5.0
    """Added around tight boxes before learning and taken off afterwards, on the network's grid, as in DeepLesion."""
    anchor_sides_px: tuple[float, ...] = (16.0, 24.0, 32.0, 48.0, 96.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height to width."""
    anchor_positive: float = 0.7
    """Anchors learn from an overlap so high that they hold a lesion,"""
    anchor_negative: float = 0.3
    """and from one below this that they hold none."""
    anchors_sampled: int = 32
    """An image; at most a half of them positive."""
    proposals_overlap: float = 0.7
    proposals_before: tuple[int, int] = (12000, 6000)
    """Best proposals that are compared with one another: in training, afterwards."""
    proposals_after: tuple[int, int] = (2000, 300)
    """Proposals that are left: in training, afterwards."""
    proposals_least_px: float = 8.0
    """Least width and height."""
    regions_sampled: int = 32
    """An image, in training."""
    regions_positive_share: float = 0.25
    regions_positive: float = 0.5
    """Least overlap of a region with the lesion it shall find."""
    region_box_weight: float = 10.0
    """Of the loss of the regions' boxes; all others weigh 1."""
    found_overlap: float = 0.3
    found_most: int = 100

    def __post_init__(self) -> None:
        """Raises ConfigError, naming the option."""
        if self.head not in HEADS:
            raise ConfigError(f"model.head {self.head!r}: write one of {', '.join(HEADS)}")
        if self.images < 1 or self.images % 2 == 0:
            raise ConfigError(f"model.images {self.images}: must be odd, the middle image holds the key slice")
        if self.head == "faster-rcnn" and self.images > 1:
            raise ConfigError(f"model.images {self.images}: head 'faster-rcnn' takes one image, '3dce' several")
        if not 0 < self.width <= 1:
            raise ConfigError(f"model.width {self.width}: must be above 0 and at most 1")

    @property
    def slices(self) -> int:
        """Slices that the network takes."""
        return self.images * SLICES_OF_AN_IMAGE

    def channels(self, published: int) -> int:
        """The published number of channels under this width, at least 1."""
        return max(1, round(published * self.width))


def read(values: Mapping[str, Any]) -> SeedOptions:
    """The options of a recipe's section [model]. ConfigError for unknown names and values that do not fit."""
    try:
        return cattrs.Converter(forbid_extra_keys=True).structure(dict(values), SeedOptions)
    except cattrs.BaseValidationError as error:
        raise ConfigError(f"recipe: {'; '.join(cattrs.transform_error(error, path='model'))}") from error
