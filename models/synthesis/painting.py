"""Painting one thing into a CT: a section on each slice, its edge as blurred as the volume, texture and noise in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import erfc

from deeplesion_miner.detection import PixelMask
from models.synthesis.background import Background
from models.synthesis.shapes import Shape, sampled

EDGE_REACH = 3.0
"""The edge is painted as far out as this many standard deviations of the blur."""
NOISE_EXCESS = 1.1
"""More noise than this times the volume's own is anatomy that shines through; it is scaled down."""
TAPER = 1.5
"""Millimetres by which a tube's section shrinks for each millimetre beyond its end."""


@cache
def measured_textures() -> dict[str, Any]:
    """What texture.toml holds: textures of real lesions, with where they were measured."""
    return tomllib.loads(resources.files(__package__).joinpath("texture.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Pose:
    """Where a shape lies in a volume and how large it is."""

    column: float
    row: float
    """Centre of the largest section, px."""
    position_mm: float
    """Of the largest section, along the volume's positions."""
    long_axis_mm: float
    height_ratio: float
    """Extent along z towards the farther end, in half long axes."""
    turn_deg: float
    mirrored: bool
    upside_down: bool


@dataclass(frozen=True)
class Run:
    """How a tube goes on through the slices with the largest section of a shape."""

    slope_column: float
    slope_row: float
    """Millimetres aside for each millimetre towards the feet."""
    before_mm: float
    """Length towards the head."""
    after_mm: float
    """Length towards the feet."""
    swell: float
    swell_period_mm: float
    """The section grows and shrinks by this share of itself."""


@dataclass(frozen=True)
class Look:
    """How a thing looks: CT number and texture."""

    hu: float
    texture_hu: float
    """Standard deviation."""
    texture_mm: float
    """Correlation length (1 / e)."""


@dataclass(frozen=True, eq=False)
class Section:
    """A thing on one slice: signed distance to its edge in mm over a window of pixels, negative inside."""

    index: int
    first_column: int
    first_row: int
    distance_mm: NDArray[np.float64]

    @property
    def mask(self) -> PixelMask:
        """The pixels whose centres are inside, over the whole window."""
        return PixelMask(self.first_column, self.first_row, self.distance_mm < 0)

    @property
    def window(self) -> tuple[slice, slice]:
        """The window as slices of a plane."""
        rows, columns = self.distance_mm.shape
        return (
            slice(self.first_row, self.first_row + rows),
            slice(self.first_column, self.first_column + columns),
        )


def lesion_sections(ground: Background, shape: Shape, pose: Pose) -> tuple[Section, ...]:
    """The sections of a shape on every slice that it reaches, from head to feet; cut at the ends of the volume."""
    half = pose.long_axis_mm / 2
    found = []
    for index, position in enumerate(ground.volume.position_mm):
        height = float(position - pose.position_mm) / (half * pose.height_ratio)
        if abs(height) < 1.3:
            section = _section(ground, shape, pose, index, -height if pose.upside_down else height, 0.0, 0.0, 1.0, 0.0)
            if section is not None and (section.distance_mm < 0).any():
                found.append(section)
    return tuple(found)


def tube_sections(
    ground: Background, shape: Shape, pose: Pose, run: Run, indices: Iterable[int] | None = None
) -> tuple[Section, ...]:
    """The largest section of a shape as a tube through the slices (all, or `indices`), from head to feet."""
    found = []
    for index in range(len(ground.volume.position_mm)) if indices is None else indices:
        away = float(ground.volume.position_mm[index] - pose.position_mm)
        beyond = max(-away - run.before_mm, away - run.after_mm, 0.0) * TAPER
        if beyond > pose.long_axis_mm / 2:
            continue
        size = 1 + run.swell * np.sin(2 * np.pi * away / run.swell_period_mm)
        section = _section(ground, shape, pose, index, 0.0, away * run.slope_column, away * run.slope_row, size, beyond)
        if section is not None and (section.distance_mm < 0).any():
            found.append(section)
    return tuple(found)


def _section(
    ground: Background,
    shape: Shape,
    pose: Pose,
    index: int,
    height: float,
    right_mm: float,
    down_mm: float,
    size: float,
    shrunk_mm: float,
) -> Section | None:
    volume = ground.volume
    half = pose.long_axis_mm / 2 * size
    reach = half * 1.25 + EDGE_REACH * ground.edge_mm
    column = pose.column + right_mm / volume.col_spacing_mm
    row = pose.row + down_mm / volume.row_spacing_mm
    rows, columns = volume.hu.shape[1:]
    left = max(int(column - reach / volume.col_spacing_mm), 0)
    top = max(int(row - reach / volume.row_spacing_mm), 0)
    right = min(int(column + reach / volume.col_spacing_mm) + 2, columns)
    bottom = min(int(row + reach / volume.row_spacing_mm) + 2, rows)
    if left >= right or top >= bottom:
        return None
    x = (np.arange(left, right)[None, :] - column) * volume.col_spacing_mm / half
    y = (np.arange(top, bottom)[:, None] - row) * volume.row_spacing_mm / half
    turn = np.deg2rad(pose.turn_deg)
    along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    across = -across if pose.mirrored else across
    return Section(index, left, top, sampled(shape, height, across, along) * half + shrunk_mm)


def paint(
    hu: NDArray[np.float32],
    ground: Background,
    sections: tuple[Section, ...],
    look: Look,
    random: np.random.Generator,
) -> None:
    """Paints sections into `hu` (slices, rows, columns), which may hold other things already."""
    texture = _texture(ground, sections, look, random)
    residuals = [ground.residual[section.index][section.window] for section in sections]
    inside = np.concatenate([part[section.distance_mm < 0] for part, section in zip(residuals, sections, strict=True)])
    spread = float(inside.std()) if inside.size > 1 else 0.0
    calm = min(1.0, NOISE_EXCESS * ground.noise_hu / spread) if spread else 1.0
    for section, noise, structure in zip(sections, residuals, texture, strict=True):
        share = 0.5 * erfc(section.distance_mm / (np.sqrt(2) * ground.edge_mm))
        part = hu[(section.index, *section.window)]
        part += (share * (look.hu + structure + calm * noise - part)).astype(np.float32)


def _texture(
    ground: Background, sections: tuple[Section, ...], look: Look, random: np.random.Generator
) -> list[NDArray[np.float64]]:
    """One Gaussian random field over all sections, as its window on each of them."""
    left = min(section.first_column for section in sections)
    top = min(section.first_row for section in sections)
    right = max(section.first_column + section.distance_mm.shape[1] for section in sections)
    bottom = max(section.first_row + section.distance_mm.shape[0] for section in sections)
    volume = ground.volume
    # white noise blurred by s has the correlation exp(-(d / 2 s)^2)
    blur = look.texture_mm / 2 / np.array([ground.slice_mm, volume.row_spacing_mm, volume.col_spacing_mm])
    white = random.standard_normal((len(sections), bottom - top, right - left))
    field = ndimage.gaussian_filter(white, blur, mode="wrap")
    field *= look.texture_hu / max(float(field.std()), 1e-6)
    return [
        plane[section.first_row - top :, section.first_column - left :][
            : section.distance_mm.shape[0], : section.distance_mm.shape[1]
        ]
        for plane, section in zip(field, sections, strict=True)
    ]
