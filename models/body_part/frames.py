"""Slices cut to the patient and brought to one small frame: what the network and the hand-made profile look at."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.volume import Volume

GRID_MM = 2.5
"""Spacing at which the body is looked for and the profile measured."""
SKIN_HU = -400
"""Between air and skin; higher than DeepLesion's -768, which takes blankets and cushions for body."""
OPENING_PX = 5
"""Side of the square that opens the mask at GRID_MM: what is thinner than 12.5 mm (table top, tubes) falls away."""
LIMB_SHARE = 0.3
"""A part smaller than this share of the largest is an arm beside the trunk and left out; legs are equals and stay."""
FRAME_ROWS, FRAME_COLUMNS = 42, 58
"""The whole frame, with its margin."""
MARGIN = 1 / 7
"""Share of the body box's side that is added to it on every side, as room for crops and shifts."""
AIR_HU = -1000


@dataclass(frozen=True, eq=False)
class Grid:
    """Slices of a volume at GRID_MM with the body found on each."""

    hu: NDArray[np.float32]
    """(slices, rows, columns), air outside the body."""
    body: NDArray[np.bool_]
    """(slices, rows, columns), cavities filled."""

    def boxes(self) -> NDArray[np.int64]:
        """(slices, 4) first column, first row, last column, last row of the body; all -1 on a slice without one."""
        found = np.full((len(self.body), 4), -1)
        for box, body in zip(found, self.body, strict=True):
            columns, rows = np.flatnonzero(body.any(axis=0)), np.flatnonzero(body.any(axis=1))
            if columns.size:
                box[:] = columns[0], rows[0], columns[-1], rows[-1]
        return found


@dataclass(frozen=True, eq=False)
class Frames:
    """A volume as the network sees it: slices in head to feet order as the volume says."""

    hu: NDArray[np.int16]
    """(slices, FRAME_ROWS, FRAME_COLUMNS): the body box stretched to the inner frame, MARGIN around it."""
    profile: NDArray[np.float32]
    """(slices, profile.FEATURES): the hand-made description of each slice."""
    position_mm: NDArray[np.float64]
    """(slices,), rising."""
    has_body: NDArray[np.bool_]
    """(slices,): False where nothing of a patient was found; such slices have no score."""


def grid(volume: Volume) -> Grid:
    """The slices at GRID_MM (area average) and the patient on them: largest part of the opened mask and its equals."""
    rows = max(1, round(volume.hu.shape[1] * volume.row_spacing_mm / GRID_MM))
    columns = max(1, round(volume.hu.shape[2] * volume.col_spacing_mm / GRID_MM))
    hu = np.empty((len(volume.hu), rows, columns), np.float32)
    body = np.zeros(hu.shape, np.bool_)
    for number, plane in enumerate(volume.hu):
        small = cv2.resize(plane.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        body[number] = body_mask(small)
        hu[number] = np.where(body[number], small, AIR_HU)
    return Grid(hu, body)


def body_mask(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(rows, columns) the patient on a slice at GRID_MM, lungs and gas filled; empty where there is none."""
    square = np.ones((OPENING_PX, OPENING_PX), np.uint8)
    tissue = cv2.morphologyEx((hu > SKIN_HU).astype(np.uint8), cv2.MORPH_OPEN, square)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(tissue, connectivity=4)
    if count < 2:
        return np.zeros(hu.shape, np.bool_)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    kept = 1 + np.flatnonzero(areas >= LIMB_SHARE * areas.max())
    outlines, _ = cv2.findContours(np.isin(labels, kept).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(hu.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    return np.asarray(filled > 0)


def cut(body: Grid) -> NDArray[np.int16]:
    """(slices, FRAME_ROWS, FRAME_COLUMNS) HU: each body box with MARGIN around it, stretched to the frame."""
    framed = np.full((len(body.hu), FRAME_ROWS, FRAME_COLUMNS), AIR_HU, np.int16)
    for frame, hu, (left, top, right, bottom) in zip(framed, body.hu, body.boxes(), strict=True):
        if left < 0:
            continue
        width, height = (right - left + 1) * (1 + 2 * MARGIN), (bottom - top + 1) * (1 + 2 * MARGIN)
        centre = (left + right) / 2, (top + bottom) / 2
        per_column, per_row = width / FRAME_COLUMNS, height / FRAME_ROWS
        # Pixel centres on pixel centres: grid = centre + (frame + 0.5 - half) * step.
        to_grid = np.array(
            [
                [per_column, 0, centre[0] - (FRAME_COLUMNS - 1) / 2 * per_column],
                [0, per_row, centre[1] - (FRAME_ROWS - 1) / 2 * per_row],
            ]
        )
        # Averaged to the frame's resolution first, so that thin bones do not come and go between its pixels.
        averaged = cv2.blur(hu, (max(1, round(per_column)), max(1, round(per_row))))
        moved = cv2.warpAffine(
            averaged, to_grid, (FRAME_COLUMNS, FRAME_ROWS), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT, borderValue=AIR_HU,
        )  # fmt: skip
        np.copyto(frame, np.rint(moved).astype(np.int16))
    return framed
