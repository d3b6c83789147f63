"""The hand-made baseline: a table of what a slice's profile is at each height, and volumes matched to it.

Heights are centimetres below the vertex of a nominal adult ('height_cm'), the scale of everything in this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.body_part.frames import Frames

FIRST_CM, LAST_CM, STEP_CM = 0.0, 112.0, 1.0
HEIGHTS_CM: NDArray[np.float64] = np.arange(FIRST_CM, LAST_CM + STEP_CM / 2, STEP_CM)
SMOOTH_CM = 2.0
"""Standard deviation of the kernel that spreads a slice over neighbouring heights."""
STRETCHES = (0.85, 0.92, 1.0, 1.08, 1.16)
"""Nominal millimetres for one of the patient: short and tall patients."""
FLOOR_SHARE = 0.35
"""The least spread of a feature at a height, as a share of its spread over the whole body."""
FEATURES_WORTH = 10.0
"""Number of independent features that the profile is taken for: they hang together, so evidence is scaled down."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Mean and spread of every profile feature at HEIGHTS_CM."""

    mean: NDArray[np.float64]
    """(heights, features)."""
    spread: NDArray[np.float64]
    """(heights, features) standard deviations."""

    def evidence(self, profile: NDArray[np.float32]) -> NDArray[np.float64]:
        """(slices, heights) logarithm of how likely each slice's profile is at each height, up to a constant."""
        apart = (profile[:, None, :] - self.mean[None]) / self.spread[None]
        # Beyond three spreads a feature tells no more: contrast and metal are not to decide alone.
        each = -0.5 * np.minimum(apart**2, 9.0) - np.log(self.spread)[None]
        likely: NDArray[np.float64] = each.mean(axis=2) * FEATURES_WORTH
        return likely

    def heights_cm(self, frames: Frames) -> NDArray[np.float64]:
        """(slices,) each slice on its own: the mean height under its evidence; NaN without a body."""
        evidence = self.evidence(frames.profile)
        weight = np.exp(evidence - evidence.max(axis=1, keepdims=True))
        found = (weight * HEIGHTS_CM).sum(axis=1) / weight.sum(axis=1)
        return np.where(frames.has_body, found, np.nan)

    def match(self, frames: Frames, backwards: bool = False) -> Match:
        """The place and stretch of the whole volume that fit best; `backwards` reads its slices from feet to head."""
        evidence = self.evidence(frames.profile)[frames.has_body]
        run = frames.position_mm[frames.has_body] / 10
        run = run[-1] - run if backwards else run - run[0]
        best = Match(-np.inf, np.nan, 1.0)
        for stretch in STRETCHES:
            starts = HEIGHTS_CM - run.max() * stretch * 0.5
            at = starts[:, None] + run[None] * stretch
            place = (at - FIRST_CM) / STEP_CM
            low = np.clip(np.floor(place), 0, len(HEIGHTS_CM) - 2).astype(int)
            share = np.clip(place - low, 0, 1)
            slices = np.arange(len(run))[None]
            fit = evidence[slices, low] * (1 - share) + evidence[slices, low + 1] * share
            outside = np.maximum(0, np.maximum(FIRST_CM - at, at - LAST_CM))
            total = (fit - outside).mean(axis=1)
            number = int(total.argmax())
            if total[number] > best.evidence:
                best = Match(float(total[number]), float(starts[number]), stretch)
        return best


@dataclass(frozen=True)
class Match:
    """Where a volume lies by its profile."""

    evidence: float
    """Mean over the slices; comparable between the two directions of one volume only."""
    start_cm: float
    """Height of the slice nearest to the head in the direction that was matched."""
    stretch: float

    def heights_cm(self, position_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(slices,) along a volume matched forwards."""
        found: NDArray[np.float64] = self.start_cm + (position_mm - position_mm[0]) / 10 * self.stretch
        return found


def build(volumes: Sequence[Frames], heights_cm: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> Atlas:
    """The atlas of volumes whose heights are known; each volume counts alike for every centimetre that it covers.

    ValueError where no slice has a body and a height.
    """
    known = [frames.has_body & np.isfinite(heights) for frames, heights in zip(volumes, heights_cm, strict=True)]
    if not any(use.any() for use in known):
        raise ValueError("no slice has a body and a known height")
    profile = np.concatenate([frames.profile[use] for frames, use in zip(volumes, known, strict=True)]).astype(float)
    height = np.concatenate([heights[use] for heights, use in zip(heights_cm, known, strict=True)])
    density = np.concatenate([_each(heights[use], weight)
                              for heights, use, weight in zip(heights_cm, known, weights, strict=True)])  # fmt: skip
    kernel = np.exp(-0.5 * ((HEIGHTS_CM[:, None] - height[None]) / SMOOTH_CM) ** 2) * density[None]
    # Heights that no volume covers take the profile of the nearest ones.
    everywhere = np.exp(-0.5 * ((HEIGHTS_CM[:, None] - height[None]) / 12) ** 2) * density[None] * 1e-6
    kernel = kernel + everywhere
    kernel /= kernel.sum(axis=1, keepdims=True)
    mean = kernel @ profile
    spread = np.sqrt(np.maximum(kernel @ profile**2 - mean**2, 0))
    floor = FLOOR_SHARE * np.maximum(profile.std(axis=0), 1e-3)
    return Atlas(mean, np.sqrt(spread**2 + floor[None] ** 2))


def learn(phantoms: Sequence[Frames], phantom_cm: Sequence[NDArray[np.float64]], volumes: Sequence[Frames],
          rounds: int = 4, weight: float = 20.0) -> tuple[Atlas, tuple[Match, ...]]:  # fmt: skip
    """An atlas from phantoms of known heights and volumes whose heights are found on the way, with their matches.

    Each round matches the volumes to the atlas of the phantoms and of all volumes as they were placed before.
    """
    atlas = build(phantoms, phantom_cm, [1.0] * len(phantoms))
    matches: tuple[Match, ...] = ()
    for _ in range(rounds if volumes else 0):
        matches = tuple(atlas.match(one) for one in volumes)
        placed = [match.heights_cm(one.position_mm) for match, one in zip(matches, volumes, strict=True)]
        atlas = build([*phantoms, *volumes], [*phantom_cm, *placed],
                      [1.0] * len(phantoms) + [weight] * len(volumes))  # fmt: skip
    return atlas, matches


def _each(heights: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """(slices,) of one volume: its weight over the slices in a centimetre, so that thin slices do not outvote thick."""
    if len(heights) < 2:
        return np.full(len(heights), weight)
    step = max(1e-3, float(np.abs(np.diff(heights)).mean()))
    return np.full(len(heights), weight * step)
