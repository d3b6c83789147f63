"""How well what a viewer draws lies on what it should be drawn on, in pixels of the image below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.geometry import to_patient_mm
from deeplesion_miner.types import ImagePlane, ImageRef
from tests.browser.driver import Viewer
from tests.browser.phantom import Case

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Screen:
    """Where an image lies in the window: affine, as the viewer shows planes without perspective."""

    origin: _Floats
    """Window position of the first pixel's centre."""
    steps: _Floats
    """(2, 2): the window's steps of one column and of one row."""

    @classmethod
    def of(cls, viewer: Viewer, plane: ImagePlane) -> Screen:
        """Of the slice that is shown."""
        first, right, down = (
            np.array(viewer.on_screen(to_patient_mm(plane, point))) for point in ((0, 0), (100, 0), (0, 100))
        )
        return cls(first, np.stack([(right - first) / 100, (down - first) / 100]))

    def on_image(self, positions: Sequence[tuple[float, float]]) -> _Floats:
        """(n, 2) pixels (column, row) of window positions, the first pixel's centre being (0, 0)."""
        return np.asarray((np.array(positions, dtype=float).reshape(-1, 2) - self.origin) @ np.linalg.inv(self.steps))

    @property
    def zoom(self) -> float:
        """Window pixels a column."""
        return float(np.hypot(*self.steps[0]))


def overlap(coloured: Sequence[tuple[float, float]], screen: Screen, mask: NDArray[Any]) -> float:
    """Dice coefficient of coloured window pixels and the window pixels whose image pixel is in the mask."""
    if not coloured:
        return 0.0
    drawn = {(round(x), round(y)) for x, y in coloured}
    rows, columns = np.nonzero(mask)
    corners = np.array([[columns.min() - 1, rows.min() - 1], [columns.max() + 1, rows.max() + 1]]) @ screen.steps
    low, high = np.floor((corners + screen.origin).min(axis=0)), np.ceil((corners + screen.origin).max(axis=0))
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    window = np.stack([x.ravel(), y.ravel()], axis=1)
    # the centre of a window pixel lies half a pixel beyond its position
    at = np.rint(screen.on_image((window + 0.5).tolist())).astype(int)
    inside = (at >= 0).all(axis=1) & (at[:, 0] < mask.shape[1]) & (at[:, 1] < mask.shape[0])
    inside[inside] = mask[at[inside, 1], at[inside, 0]]
    expected = {(round(a), round(b)) for a, b in window[inside]}
    return 2 * len(drawn & expected) / (len(drawn) + len(expected))


def masks_overlap(viewer: Viewer, case: Case, image: ImageRef) -> float:
    """The same for all masks of a result on the slice that is shown."""
    plane = case.plane(image.sop_instance_uid)
    masks = [mask for lesion in case.result.lesions for ref, mask in lesion.masks if ref == image]
    together = np.any([mask.on_plane(plane.rows, plane.columns) for mask in masks], axis=0)
    return overlap(viewer.coloured(), Screen.of(viewer, plane), together)
