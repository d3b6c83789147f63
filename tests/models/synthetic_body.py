"""A body of ellipses with lungs and a liver, for tests of synthesis: every tissue is where it is drawn."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from models.volume import Volume

SLICES, ROWS, COLUMNS = 40, 150, 200
SPACING_MM, SLICE_MM = 1.8, 3.0
BLUR_PX = 0.6


def body(seed: int = 0, noise_hu: float = 12.0) -> Volume:
    """40 slices: air, a ring of fat, muscle; lungs in the upper half, a liver on the patient's right in the lower."""
    z, y, x = np.mgrid[:SLICES, :ROWS, :COLUMNS].astype(np.float32)

    def within(column: float, row: float, width: float, height: float) -> np.ndarray:
        return ((x - column) / width) ** 2 + ((y - row) / height) ** 2 <= 1

    hu = np.full((SLICES, ROWS, COLUMNS), -1000.0)
    hu[within(100, 75, 92, 66)] = -100
    hu[within(100, 75, 84, 58)] = 45
    upper = z < SLICES / 2
    hu[within(58, 68, 28, 42) & upper] = -850
    hu[within(142, 68, 28, 42) & upper] = -850
    hu[within(62, 68, 36, 40) & ~upper] = 100
    hu[within(100, 112, 14, 12)] = 400
    hu = ndimage.gaussian_filter(hu, (0, BLUR_PX, BLUR_PX))
    hu += np.random.default_rng(seed).normal(0, noise_hu, hu.shape)
    return Volume(
        np.rint(hu).astype(np.int16),
        np.arange(SLICES) * SLICE_MM,
        SPACING_MM,
        SPACING_MM,
        tuple(f"{index:03d}" for index in range(SLICES)),
    )
