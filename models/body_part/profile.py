"""The hand-made description of a slice: sizes, air, bone and fat, in physical units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.body_part.frames import GRID_MM, Frames, Grid, cut, grid
from models.volume import Volume

LUNG_HU = (-960, -500)
GAS_BELOW_HU = -960
FAT_HU = (-150, -30)
SOFT_HU = (-30, 200)
BONE_ABOVE_HU = 250
"""Above most enhanced blood; arterial contrast passes it, which costs the profile its bones in the heart."""

NAMES = (
    "width_cm", "height_cm", "flatness", "fullness", "lung_cm", "gas_cm", "bone_cm", "fat_share", "soft_hu",
    "bone_across", "bone_behind", "lung_across", "lung_behind", "middle_air_cm", "asymmetry", "soft_middle_share",
    "edge_bone_share",
)  # fmt: skip
"""What each column of a profile is; `_cm` are square roots of areas where they are no lengths."""
FEATURES = len(NAMES)


def frames(volume: Volume) -> Frames:
    """A volume cut to its frames, with the profile of every slice."""
    found = grid(volume)
    has_body: NDArray[np.bool_] = np.array([body.any() for body in found.body])
    return Frames(cut(found), profile(found), volume.position_mm, has_body)


def profile(found: Grid) -> NDArray[np.float32]:
    """(slices, FEATURES) numbers of each slice in the order of NAMES; zeros where there is no body."""
    described = np.zeros((len(found.hu), FEATURES), np.float32)
    for row, hu, body, box in zip(described, found.hu, found.body, found.boxes(), strict=True):
        if box[0] >= 0:
            left, top, right, bottom = box
            inside = np.s_[top : bottom + 1, left : right + 1]
            row[:] = _describe(hu[inside], body[inside])
    return described


def _describe(hu: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(FEATURES,) of one slice cut to its body box."""
    rows, columns = hu.shape
    y, x = np.indices(hu.shape)
    across, behind = (x + 0.5) / columns * 2 - 1, (y + 0.5) / rows
    lung = body & (hu > LUNG_HU[0]) & (hu < LUNG_HU[1])
    gas = body & (hu <= GAS_BELOW_HU)
    bone = body & (hu > BONE_ABOVE_HU)
    fat = body & (hu > FAT_HU[0]) & (hu < FAT_HU[1])
    soft = body & (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    tissue = max(1, int(fat.sum() + soft.sum()))
    middle = np.abs(across) < 0.25
    cm = GRID_MM / 10
    air = body & (hu < LUNG_HU[1])
    return np.array(
        [
            columns * cm,
            rows * cm,
            rows / columns,
            body.mean(),
            cm * np.sqrt(lung.sum()),
            cm * np.sqrt(gas.sum()),
            cm * np.sqrt(bone.sum()),
            fat.sum() / tissue,
            (hu[soft].mean() if soft.any() else 0.0) / 50,
            _mean(np.abs(across), bone),
            _mean(behind, bone),
            _mean(np.abs(across), lung),
            _mean(behind, lung),
            cm * np.sqrt((air & middle).sum()),
            abs(_mean(across, soft, empty=0.0)),
            (soft & middle).sum() / max(1, int(soft.sum())),
            (bone & (np.abs(across) > 0.6)).sum() / max(1, int(bone.sum())),
        ]
    )


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_], empty: float = 0.5) -> float:
    return float(values[where].mean()) if where.any() else empty
