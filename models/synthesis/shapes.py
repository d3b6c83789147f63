"""Shapes of lesions: human 3-D masks as smooth distance fields, or lobulated ellipsoids where no masks are at hand.

Between the slices of a mask the signed distances are interpolated (shape-based interpolation, Raya and Udupa, IEEE
TMI 1990), so that thick slices give no steps.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.mask_recist import recist_of_mask

SAMPLES = 41
"""Of a field along each axis."""
REACH = 1.5
"""Half the width of a field, in half long axes."""
MIN_MASK_PX = 9
"""Masks with a shorter long axis say too little of a shape."""
SMOOTHING_SAMPLES = 1.0
"""Standard deviation of the blur that takes the steps of pixels from a field."""
MASKS = "uls23_deeplesion3d_visible"

_Floats = NDArray[np.float32]
_STEP = 2 * REACH / (SAMPLES - 1)
_MIDDLE = (SAMPLES - 1) / 2


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape of no size: its largest section lies at z = 0 and has a long axis of 2, its farther z end is at -1 or 1.

    `distance[z, y, x]` is the signed distance to the edge within the plane, negative inside, at coordinates from
    -REACH to REACH; inside is one piece, and so is the largest section.
    """

    source: str
    """Where it comes from; masks of one patient begin with the same six digits."""
    distance: _Floats


def shapes_of_masks(folder: Path) -> tuple[Shape, ...]:
    """Every mask of a folder of packed masks (npz with its index) that has a shape, in the order of the index.

    ConfigError where the folder does not hold them.
    """
    packed, index = folder / f"{MASKS}.npz", folder / f"{MASKS}_index.csv"
    if not packed.is_file() or not index.is_file():
        raise ConfigError(f"no masks in {folder}: {packed.name} and {index.name} are looked for")
    found = []
    with np.load(packed) as archive, index.open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            size = tuple(int(row[name]) for name in ("n_slices", "n_rows", "n_cols"))
            bits = np.unpackbits(archive[row["name"]])[: int(np.prod(size))].reshape(size).astype(np.bool_)
            column_mm, row_mm, slice_mm = (float(text) for text in row["Spacing_mm_px_"].split(","))
            shape = shape_of_mask(row["name"], bits, (slice_mm, row_mm, column_mm))
            if shape is not None:
                found.append(shape)
    return tuple(found)


def shape_of_mask(source: str, bits: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> Shape | None:
    """The shape of the largest piece of a mask (slices, rows, columns), or None where it is too small or in pieces."""
    pieces, _ = ndimage.label(bits, np.ones((3, 3, 3)))
    if not pieces.any():
        return None
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    largest = largest[largest.any(axis=(1, 2))]
    section = largest[int(largest.sum(axis=(1, 2)).argmax())]
    long_axis, _ = recist_of_mask(section, *spacing_mm[1:])
    if long_axis.length_px < MIN_MASK_PX:
        return None
    margin = round(long_axis.length_px)
    planes = np.stack([_signed_distance(np.pad(plane, margin), spacing_mm[1:]) for plane in largest])
    return _normalised(source, *_resampled(planes, spacing_mm))


def lobulated_ellipsoid(random: np.random.Generator, source: str) -> Shape:
    """An ellipsoid with axes 1 : 0.6 to 1 : 0.6 to 1.1, its surface moved by a few waves of low frequency."""
    while True:
        axis = np.linspace(-REACH, REACH, SAMPLES)
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        semi = np.array([random.uniform(0.6, 1.1), random.uniform(0.6, 1.0), 1.0])
        radius = np.sqrt((z / semi[0]) ** 2 + (y / semi[1]) ** 2 + x**2)
        height = np.ones_like(radius)
        for _ in range(5):
            wave = random.normal(0, 2.2, 3)
            height += random.uniform(0.02, 0.07) * np.cos(
                wave[0] * z + wave[1] * y + wave[2] * x + random.uniform(0, 2 * np.pi)
            )
        shape = _normalised(source, ((radius - height) * semi[1]).astype(np.float32), np.full(3, _STEP))
        if shape is not None:
            return shape


def sampled(shape: Shape, z: float, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The signed distance at one height and at points of that plane, all in half long axes."""
    at = np.clip(z / _STEP + _MIDDLE, 0, SAMPLES - 1)
    below = min(int(at), SAMPLES - 2)
    share = at - below
    plane = (1 - share) * shape.distance[below] + share * shape.distance[below + 1]
    where = np.stack([y / _STEP + _MIDDLE, x / _STEP + _MIDDLE])
    values: NDArray[np.float64] = ndimage.map_coordinates(plane, where, order=1, mode="nearest", output=np.float64)
    # beyond the field the distance goes on growing
    beyond = np.maximum(np.maximum(np.abs(y), np.abs(x)) - REACH, 0)
    return values + beyond + max(abs(z) - REACH, 0)


def _signed_distance(plane: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    if not plane.any():
        return np.full(plane.shape, np.inf)
    filled = ndimage.binary_fill_holes(plane)
    half_mm = min(spacing_mm) / 2
    outside = ndimage.distance_transform_edt(~filled, spacing_mm)
    inside = ndimage.distance_transform_edt(filled, spacing_mm)
    return np.asarray(np.where(filled, half_mm - inside, outside - half_mm))


def _resampled(
    planes: NDArray[np.float64], spacing_mm: tuple[float, float, float]
) -> tuple[_Floats, NDArray[np.float64]]:
    """A field with round caps over both ends of a stack of distances, and its steps (z, y, x) in mm."""
    slices = len(planes)
    caps = [min(spacing_mm[0], max(-float(plane.min()), 1e-3)) for plane in (planes[0], planes[-1])]
    length = (slices - 1) * spacing_mm[0] + sum(caps)
    heights = np.linspace(-caps[0] - 0.3 * length, length - caps[0] + 0.3 * length, 2 * SAMPLES)
    field = np.stack([_plane_at(planes, height / spacing_mm[0], spacing_mm[0], caps) for height in heights])
    steps = np.array([heights[1] - heights[0], *spacing_mm[1:]])
    return field.astype(np.float32), steps


def _plane_at(planes: NDArray[np.float64], at: float, slice_mm: float, caps: list[float]) -> NDArray[np.float64]:
    last = len(planes) - 1
    if 0 <= at <= last:
        below = min(int(at), max(last - 1, 0))
        above = min(below + 1, last)
        share = at - below
        return np.asarray((1 - share) * planes[below] + share * planes[above])
    end, beyond = (planes[0], -at / (caps[0] / slice_mm)) if at < 0 else (planes[-1], (at - last) * slice_mm / caps[1])
    depth = -float(end.min())
    lifted = 1 - np.sqrt(1 - beyond**2) if beyond < 1 else beyond
    return np.asarray(end + depth * lifted)


def _normalised(source: str, field: _Floats, steps: NDArray[np.float64]) -> Shape | None:
    """The field smoothed and resampled to its own size and centre; None where the shape falls into pieces."""
    for last in (False, True):
        measured = _measured(field, steps)
        if measured is None:
            return None
        key, (centre_y, centre_x), half_axis, half_height = measured
        axis = np.linspace(-REACH, REACH, SAMPLES)
        where = np.meshgrid(
            key + axis * half_height / steps[0],
            centre_y + axis * half_axis / steps[1],
            centre_x + axis * half_axis / steps[2],
            indexing="ij",
        )
        field = ndimage.map_coordinates(field, where, order=1, mode="nearest") / np.float32(half_axis)
        steps = np.full(3, _STEP)
        if not last:
            field = ndimage.gaussian_filter(field, SMOOTHING_SAMPLES)
    return Shape(source, field.astype(np.float32)) if _measured(field, steps) is not None else None


def _measured(field: _Floats, steps: NDArray[np.float64]) -> tuple[int, tuple[float, float], float, float] | None:
    """Index of the largest section, its centre, half of its long axis and the farther z end; None where in pieces."""
    inside = field < 0
    areas = inside.sum(axis=(1, 2))
    key = int(areas.argmax())
    if areas[key] < 4 or ndimage.label(inside)[1] != 1 or ndimage.label(inside[key])[1] != 1:
        return None
    finer = 3
    fine = ndimage.zoom(field[key], finer, order=1, grid_mode=True, mode="nearest") < 0
    long_axis, _ = recist_of_mask(fine, steps[1], steps[2])
    (x1, y1), (x2, y2) = long_axis.start, long_axis.end
    half_axis = float(np.hypot((x2 - x1) * steps[2], (y2 - y1) * steps[1])) / finer / 2
    rows, columns = np.nonzero(inside[key])
    centre = (float(rows.min() + rows.max()) / 2, float(columns.min() + columns.max()) / 2)
    heights = np.flatnonzero(areas)
    half_height = (max(key - heights[0], heights[-1] - key) + 0.5) * steps[0]
    return key, centre, half_axis, float(half_height)
