"""Groups of slices for training: random crops along z of random volumes, moved and disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.body_part.frames import FRAME_COLUMNS, FRAME_ROWS, Frames
from models.body_part.network import VIEW_COLUMNS, VIEW_ROWS
from models.recipe import AugmentationRecipe

SLICES = 8
"""In a group."""
LONGEST_STEP_MM = 100.0


@dataclass(frozen=True, eq=False)
class Source:
    """A volume to learn from."""

    name: str
    frames: Frames
    known_cm: NDArray[np.float64]
    """(slices,) height below the vertex of the nominal adult; NaN where unknown."""
    is_exact: bool = False
    """True where the heights are the truth (phantoms), not found by matching."""


def crop(frames: Frames, random: np.random.Generator, slices: int = SLICES) -> NDArray[np.int64]:
    """(slices,) indices of equidistant slices with a body: a random step and a random start.

    Each is the nearest slice to its place in millimetres, so the same slice may come twice in a short volume.
    ValueError for a volume with less than two slices that show a body.
    """
    usable = np.flatnonzero(frames.has_body)
    if len(usable) < 2:
        raise ValueError(f"{len(usable)} slices show a body")
    position = frames.position_mm[usable]
    extent = position[-1] - position[0]
    longest = min(LONGEST_STEP_MM, extent / (slices - 1))
    shortest = min(longest, max(float(np.diff(position).min()), longest / 6))
    step = random.uniform(shortest, longest)
    start = position[0] + random.uniform(0, extent - step * (slices - 1))
    wanted = start + step * np.arange(slices)
    nearest: NDArray[np.int64] = usable[np.abs(position[None] - wanted[:, None]).argmin(axis=1)]
    return nearest


def disturbed(hu: NDArray[np.float32], how: AugmentationRecipe, random: np.random.Generator
              ) -> tuple[Tensor, tuple[float, float]]:  # fmt: skip
    """Views of one group, moved alike, and the factors by which the body's width and height were multiplied.

    `hu`: (slices, FRAME_ROWS, FRAME_COLUMNS) -> (slices, VIEW_ROWS, VIEW_COLUMNS) HU.
    """
    across, along = (float(np.exp(random.uniform(-how.scale, how.scale))) for _ in range(2))
    angle = np.deg2rad(random.uniform(-how.rotate_deg, how.rotate_deg))
    mirror = -1.0 if random.random() < how.mirror_columns else 1.0
    shift = random.uniform(-how.shift_px, how.shift_px, (len(hu), 2)) * 0.3 + random.uniform(
        -how.shift_px, how.shift_px, 2
    )
    # From view to frame, in the units of grid_sample (-1 to 1 over each side).
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    aspect = VIEW_ROWS / VIEW_COLUMNS
    columns, rows = VIEW_COLUMNS / FRAME_COLUMNS, VIEW_ROWS / FRAME_ROWS
    theta = torch.empty((len(hu), 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = mirror * columns * cosine / across, -mirror * columns * sine * aspect / across
    theta[:, 1, 0], theta[:, 1, 1] = rows * sine / aspect / along, rows * cosine / along
    theta[:, :, 2] = torch.from_numpy(shift * (2 / FRAME_COLUMNS, 2 / FRAME_ROWS))
    where = functional.affine_grid(theta, [len(hu), 1, VIEW_ROWS, VIEW_COLUMNS], align_corners=False)
    air = -1000.0
    moved = functional.grid_sample(torch.from_numpy(hu)[:, None] - air, where, align_corners=False)[:, 0] + air
    moved = moved * random.uniform(1 - how.hu_scale, 1 + how.hu_scale) + random.uniform(-how.hu_shift, how.hu_shift)
    noise = random.normal(0, 1, moved.shape).astype(np.float32) * np.float32(random.uniform(0, how.noise_hu))
    return moved + torch.from_numpy(noise), (across, along)


@dataclass(frozen=True)
class Disturbance:
    """How profiles are disturbed in training."""

    noise: float
    """Standard deviation in spreads, one draw for each feature of a group."""
    dropped: float
    """Probability that a feature of a group is replaced by its mean."""
    all_dropped: float
    """Probability that the whole profile is."""


@dataclass(frozen=True, eq=False)
class Scale:
    """How the profiles of the training volumes are distributed."""

    mean: NDArray[np.float32]
    """(features,)."""
    spread: NDArray[np.float32]
    """(features,) standard deviations, none of them 0."""


def described(
    profile: NDArray[np.float32],
    scale: Scale,
    how: Disturbance,
    factors: tuple[float, float],
    random: np.random.Generator,
) -> Tensor:
    """(slices, features) profiles of one group, disturbed alike; `factors` multiply the body's width and height."""
    changed = profile.copy()
    changed[:, 0] *= factors[0]
    changed[:, 1] *= factors[1]
    changed += scale.spread * random.normal(0, how.noise, len(scale.spread)).astype(np.float32)
    gone = random.random(len(scale.spread)) < how.dropped
    gone |= random.random() < how.all_dropped
    changed[:, gone] = scale.mean[gone]
    return torch.from_numpy(changed)


def scale_of(sources: Sequence[Source]) -> Scale:
    """The scale of the profiles of all slices that show a body."""
    every = np.concatenate([one.frames.profile[one.frames.has_body] for one in sources])
    return Scale(every.mean(axis=0), np.maximum(every.std(axis=0), np.float32(1e-3)))
