"""How well what a viewer draws lies on what it should be drawn on, in pixels of the image below."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.geometry import to_patient_mm
from deeplesion_miner.types import ImagePlane, ImageRef, Point
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


@dataclass(frozen=True)
class Overlap:
    """Coloured window pixels beside the window pixels whose image pixel is in the mask."""

    dice: float
    within_a_pixel: bool
    """Whether neither has a pixel that is farther than one pixel of the screen from the other: of a small lesion the
    edge alone is much of the Dice coefficient."""


def overlap(coloured: Sequence[tuple[float, float]], screen: Screen, mask: NDArray[Any]) -> Overlap:
    """How well a mask is coloured."""
    if not coloured:
        return Overlap(0.0, False)
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
    dice = 2 * len(drawn & expected) / (len(drawn) + len(expected))
    return Overlap(dice, _are_near(drawn - expected, expected) and _are_near(expected - drawn, drawn))


def _are_near(some: Set[tuple[int, int]], others: Set[tuple[int, int]]) -> bool:
    steps = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    return all(any((x + right, y + down) in others for right, down in steps) for x, y in some)


def masks_overlap(viewer: Viewer, case: Case, image: ImageRef) -> Overlap:
    """The same for all masks of a result on the slice that is shown."""
    plane = case.plane(image.sop_instance_uid)
    return overlap(viewer.coloured(), Screen.of(viewer, plane), masks_on(case, image))


def masks_on(case: Case, image: ImageRef) -> NDArray[np.bool_]:
    """(rows, columns): all masks of a result on one slice together."""
    plane = case.plane(image.sop_instance_uid)
    masks = [mask for lesion in case.result.lesions for ref, mask in lesion.masks if ref == image]
    return np.asarray(np.any([mask.on_plane(plane.rows, plane.columns) for mask in masks], axis=0))


def outlines_overlap(viewer: Viewer, case: Case, image: ImageRef) -> tuple[float, float]:
    """Dice coefficient of all masks on the shown slice with what the drawn outlines enclose, by pixel centres.

    The second number is the largest distance of an outline's corner from the pixel edges that it should lie on, in
    pixels; nan where nothing is drawn.
    """
    plane = case.plane(image.sop_instance_uid)
    screen = Screen.of(viewer, plane)
    enclosed = np.zeros((plane.rows, plane.columns), np.bool_)
    apart = [np.nan]
    for one in viewer.outlines():
        corners = screen.on_image(one)
        enclosed ^= inside([(float(x), float(y)) for x, y in corners], plane)
        apart.append(float(np.abs(corners - np.floor(corners) - 0.5).max()))
    wanted = masks_on(case, image)
    dice = 2 * int((enclosed & wanted).sum()) / (int(enclosed.sum()) + int(wanted.sum()))
    return dice, float(np.nanmax(apart)) if len(apart) > 1 else float("nan")


def inside(corners: Sequence[Point], plane: ImagePlane) -> NDArray[np.bool_]:
    """(rows, columns): pixel centres inside a closed polygon by the even-odd rule."""
    x, y = zip(*corners, strict=True)
    left, top = max(int(min(x)), 0), max(int(min(y)), 0)
    right, bottom = min(int(max(x)) + 2, plane.columns), min(int(max(y)) + 2, plane.rows)
    column, row = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
    bits = np.zeros((plane.rows, plane.columns), np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            crossed = ((y0 <= row) != (y1 <= row)) & (column < x0 + (row - y0) * (x1 - x0) / (y1 - y0))
            bits[top:bottom, left:right] ^= crossed
    return bits
