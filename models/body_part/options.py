"""Options of the body-part network and its training: the [model] table of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cattrs
from cattrs.gen import make_dict_structure_fn

from deeplesion_miner.errors import ConfigError


@dataclass(frozen=True)
class BodyPartOptions:
    """What a body-part recipe may set beside the common tables."""

    width: int = 16
    """Channels of the stem; the stages have two and four times as many."""
    dropout: float = 0.0
    use_image: bool = True
    use_profile: bool = True
    """The hand-made profile as a second input."""
    phantoms: int = 24
    """Phantom patients that train along; their heights are exact."""
    phantom_share: float = 0.3
    """Share of the groups of a batch that come from phantoms."""
    candidates: float = 1.5
    """Groups drawn for each that is learned from: half of those kept are the hardest of what was drawn."""
    singles: int = 8
    """Volumes of a batch from which slices from anywhere are taken, for their height alone; needs phantoms."""
    order_weight: float = 1.0
    distance_weight: float = 1.0
    slope_weight: float = 1.0
    """Score differences against millimetres; 0 leaves only what the published method uses."""
    place_weight: float = 1.0
    """Heights found by matching to the atlas; 0 leaves the scale of real volumes to order and slope."""
    phantom_place_weight: float = 1.0
    reach_mm: float = 300.0
    """How far around a key slice slices are read."""
    profile_noise: float = 0.15
    """Standard deviation, in spreads of each feature."""
    profile_dropped: float = 0.05
    """Probability for each feature of a group."""
    profile_all_dropped: float = 0.0


def from_recipe(model: Mapping[str, Any]) -> BodyPartOptions:
    """The options in a recipe's [model] table. ConfigError names every field that does not fit."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(
        BodyPartOptions, make_dict_structure_fn(BodyPartOptions, converter, _cattrs_forbid_extra_keys=True)
    )
    try:
        return converter.structure(model, BodyPartOptions)
    except cattrs.BaseValidationError as error:
        problems = "; ".join(cattrs.transform_error(error, path="model"))
        raise ConfigError(f"recipe of a body-part model: {problems}") from error
