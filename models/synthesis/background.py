"""What synthesis needs to know of a CT: where its tissues are, how much it blurs and how noisy it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.volume import Volume

BODY_HU = -300
LUNG_HU = (-960.0, -650.0)
"""Of the smoothed CT; air in the trachea and in bowel lies below."""
FAT_HU = (-130.0, -60.0)
SOFT_HU = (-15.0, 160.0)
LIVER_HU = (35.0, 170.0)
SMOOTHING_MM = 2.5
LUNG_ML, LIVER_ML = 40.0, 120.0
"""Smaller pieces are something else."""
LIVER_CORE_MM = 9.0
LIVER_WIDTH = 0.65
"""Share of the image, from the right side of the patient, that a liver reaches."""
NOISE_PX = 2.0
"""Standard deviation of the blur that parts noise from anatomy."""
NOISE_WINDOW_PX = 7
NOISE_LIMIT = 2.5
"""Residuals beyond this many standard deviations are anatomy, not noise."""
EDGE_MM = (0.45, 2.5)
"""Bounds of the measured blur."""


class Tissue(IntEnum):
    """What lies around a voxel."""

    OTHER = 0
    LUNG = 1
    FAT = 2
    SOFT = 3
    LIVER = 4


@dataclass(frozen=True, eq=False)
class Background:
    """A CT with what was measured of it."""

    volume: Volume
    smoothed: NDArray[np.float32]
    """(slices, rows, columns) HU, blurred within the planes."""
    tissue: NDArray[np.uint8]
    """(slices, rows, columns) of Tissue."""
    residual: NDArray[np.float32]
    """(slices, rows, columns) HU: what is finer than NOISE_PX, limited to NOISE_LIMIT standard deviations."""
    noise_hu: float
    """Standard deviation of the residual in even soft tissue."""
    edge_mm: float
    """Standard deviation of the blur within the planes, from how steep the skin is."""

    @property
    def slice_mm(self) -> float:
        """Median distance of slices."""
        return float(np.median(np.diff(self.volume.position_mm)))


def measured(volume: Volume) -> Background:
    """The volume as a background. ValueError where no soft tissue is found to measure noise in."""
    hu = volume.hu.astype(np.float32)
    spacing = np.array([volume.row_spacing_mm, volume.col_spacing_mm])
    smoothed = ndimage.gaussian_filter(hu, (0, *(SMOOTHING_MM / spacing)))
    body = _body(volume.hu, spacing)
    residual = hu - ndimage.gaussian_filter(hu, (0, NOISE_PX, NOISE_PX))
    tissue = _tissue(volume, smoothed, body)
    soft = (tissue == Tissue.SOFT) | (tissue == Tissue.LIVER)
    if not soft.any():
        raise ValueError("no soft tissue: the volume cannot be a background")
    noise = _noise_hu(residual, soft)
    limit = NOISE_LIMIT * noise
    return Background(
        volume, smoothed, tissue, np.clip(residual, -limit, limit, out=residual), noise, _edge_mm(hu, body, spacing)
    )


def _noise_hu(residual: NDArray[np.float32], soft: NDArray[np.bool_]) -> float:
    """The lower quartile of local standard deviations: most of a body is less even than its evenest tissue."""
    size = (1, NOISE_WINDOW_PX, NOISE_WINDOW_PX)
    mean = ndimage.uniform_filter(residual, size)
    square = ndimage.uniform_filter(residual**2, size)
    return float(np.sqrt(np.percentile((square - mean**2)[soft], 25)))


def _body(hu: NDArray[np.int16], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The largest piece of each slice without the table, its cavities filled."""
    reach = np.maximum(np.round(4 / spacing_mm), 1).astype(int)
    y, x = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    disc = (y / reach[0]) ** 2 + (x / reach[1]) ** 2 <= 1
    body = np.empty(hu.shape, np.bool_)
    for plane, out in zip(hu, body, strict=True):
        pieces, count = ndimage.label(ndimage.binary_opening(plane > BODY_HU, disc))
        largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel(), minlength=2)[1:])) if count else pieces > 0
        # lungs that a crop opens to the side are closed, too
        out[:] = ndimage.binary_fill_holes(np.pad(largest, 1))[1:-1, 1:-1]
    return body


def _tissue(volume: Volume, smoothed: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.uint8]:
    spacing = (volume.row_spacing_mm, volume.col_spacing_mm)
    step_mm = float(np.median(np.diff(volume.position_mm)))
    voxel_ml = spacing[0] * spacing[1] * step_mm / 1000
    tissue = np.zeros(smoothed.shape, np.uint8)
    tissue[body & _between(smoothed, FAT_HU)] = Tissue.FAT
    soft = body & _between(smoothed, SOFT_HU)
    tissue[soft] = Tissue.SOFT
    tissue[_pieces(body & _between(smoothed, LUNG_HU), LUNG_ML / voxel_ml)] = Tissue.LUNG
    tissue[_liver(volume, smoothed, soft, voxel_ml, step_mm)] = Tissue.LIVER
    return tissue


def _liver(
    volume: Volume, smoothed: NDArray[np.float32], soft: NDArray[np.bool_], voxel_ml: float, step_mm: float
) -> NDArray[np.bool_]:
    """The largest even piece of soft tissue of which most lies in the patient's right half; nothing where too small."""
    spread = ndimage.generic_gradient_magnitude(smoothed, _in_plane_slope)
    even = soft & _between(smoothed, LIVER_HU) & (spread * 3 < 25)
    distance = np.stack(
        [ndimage.distance_transform_edt(plane, (volume.row_spacing_mm, volume.col_spacing_mm)) for plane in even]
    )
    pieces, count = ndimage.label(distance > LIVER_CORE_MM)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    columns_right = smoothed.shape[2] // 2
    on_right = np.bincount(pieces[:, :, :columns_right].ravel(), minlength=count + 1)
    sizes[0] = 0
    sizes[on_right < 0.6 * sizes] = 0
    best = int(sizes.argmax())
    # eroding leaves about a third of a liver
    if sizes[best] * voxel_ml * 3 < LIVER_ML:
        return np.zeros_like(soft)
    core = ndimage.distance_transform_edt(pieces != best, (step_mm, volume.row_spacing_mm, volume.col_spacing_mm))
    reached = even & (core < LIVER_CORE_MM)
    # the spleen touches the left lobe in some patients
    reached[:, :, round(LIVER_WIDTH * smoothed.shape[2]) :] = False
    return np.asarray(reached)


def _in_plane_slope(
    values: NDArray[np.float32], axis: int, output: object, mode: str, cval: float
) -> NDArray[np.float32]:
    """The difference of neighbours within a plane, 0 across planes."""
    if axis == 0:
        return np.zeros_like(values)
    return np.asarray(ndimage.correlate1d(values, [-0.5, 0, 0.5], axis=axis, mode="nearest"))


def _between(values: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (values >= bounds[0]) & (values <= bounds[1])


def _pieces(mask: NDArray[np.bool_], least_voxels: float) -> NDArray[np.bool_]:
    pieces, _ = ndimage.label(mask)
    large = np.bincount(pieces.ravel()) >= least_voxels
    large[0] = False
    return np.asarray(large[pieces])


def _edge_mm(hu: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> float:
    """The blur of the skin: a step of height h blurred by s has the slope h / (s sqrt(2 pi)).

    Along the columns from the front, where neither the table nor clothes lie; the blur by the pixel itself is part.
    """
    found = []
    columns = hu.shape[2]
    reach = max(round(8 / spacing_mm[0]), 3)
    for plane, inside in zip(hu[::4], body[::4], strict=True):
        for column in range(columns // 3, 2 * columns // 3, 4):
            rows = np.flatnonzero(inside[:, column])
            if not rows.size or rows[0] < reach or rows[0] + reach > len(plane):
                continue
            profile = plane[rows[0] - reach : rows[0] + reach, column]
            height = float(np.median(profile[-reach // 2 :]) - profile[: reach // 2].min())
            slope = float(np.diff(profile).max()) / spacing_mm[0]
            if height > 500 and slope > 0:
                found.append(height / (slope * np.sqrt(2 * np.pi)))
    middle = float(np.median(found)) if found else float(spacing_mm[0]) * 0.6
    return float(np.clip(middle, *EDGE_MM))
