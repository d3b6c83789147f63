"""A small U-Net (Ronneberger et al. 2015) that sees a lesion at the size of its marks, with the marks as a channel.

Every lesion fills the same part of the picture: small ones are seen finely, large ones coarsely. Without the channel
that holds the marks a net does not know which structure is meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.delineation.grabcut import Grid

CHANNELS = 4
SIDE_PX = 64
"""Of the pictures that the net sees."""
WINDOWS_HU = ((-175.0, 275.0), (-1500.0, 500.0))
"""DeepLesion's two commonest display windows."""
NEAR_LEVEL = 1.6
"""Grey values are stretched over those within this level of the marks."""
FIRST_STEEPNESS = 8.0
"""Logits for each half axis that a point lies inside the quarter ellipses, before anything is learnt."""


@dataclass(frozen=True)
class View:
    """How a picture lies on its grid: turned about the cross, and mirrored, which training draws."""

    turn_deg: float = 0.0
    mirror_columns: bool = False
    mirror_rows: bool = False


PLAIN = View()


def picture(hu: NDArray[np.generic], grid: Grid, view: View = PLAIN) -> NDArray[np.float32]:
    """(4, 64, 64) what the net sees of an image (rows, columns): stretched grey, two windows, distance of the marks.

    The last channel is 1 at the crossing, 0 on the quarter ellipses and -1 at twice their distance and beyond.
    """
    columns, rows = _places(grid, view)
    seen = cv2.remap(hu.astype(np.float32), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    level = np.hypot(*grid.cross.coordinates(columns.astype(np.float64), rows.astype(np.float64)))
    low, high = np.percentile(seen[level <= NEAR_LEVEL], (1, 99))
    windows = ((float(low), max(float(high), float(low) + 1)), *WINDOWS_HU)
    greys = [np.clip((seen - low) / (high - low) * 2 - 1, -1, 1) for low, high in windows]
    return np.stack([*greys, np.clip(1 - level, -1, 1)]).astype(np.float32)


def label(lesion: NDArray[np.generic], lesion_grid: Grid, grid: Grid, view: View = PLAIN) -> NDArray[np.float32]:
    """(64, 64) 0 to 1: a lesion on one grid as the picture of another shows it."""
    columns, rows = _places(grid, view)
    at_column = (columns - lesion_grid.columns[0, 0]) / lesion_grid.column_step_px
    at_row = (rows - lesion_grid.rows[0, 0]) / lesion_grid.row_step_px
    drawn: NDArray[np.float32] = cv2.remap(
        lesion.astype(np.float32),
        at_column.astype(np.float32),
        at_row.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return drawn


def on_grid(shares: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """(side, side) what the net says (64, 64) of a plain picture, at the points of its grid."""
    drawn: NDArray[np.float32] = cv2.resize(shares, grid.level.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return drawn


class UNet(nn.Module):
    """Three levels, two convolutions each; logits of the shape of the picture."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.fine = _block(CHANNELS, width)
        self.middle = _block(width, 2 * width)
        self.coarse = _block(2 * width, 4 * width)
        self.middle_again = _block(6 * width, 2 * width)
        self.fine_again = _block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.head.weight)
        # starts as the quarter ellipses, and learns what the image changes in them
        self.steepness = nn.Parameter(torch.tensor(FIRST_STEEPNESS))
        self.down = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 4, 64, 64) to logits (n, 64, 64)."""
        fine = self.fine(pictures)
        middle = self.middle(self.down(fine))
        coarse = self.coarse(self.down(middle))
        middle = self.middle_again(torch.cat([self.up(coarse), middle], dim=1))
        fine = self.fine_again(torch.cat([self.up(middle), fine], dim=1))
        return cast(Tensor, self.head(fine)[:, 0] + self.steepness * pictures[:, -1])


def _block(inputs: int, outputs: int) -> nn.Sequential:
    # groups instead of batches: a batch is small, and at use there is one picture
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(outputs, 4), outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _places(grid: Grid, view: View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns and rows of the image at the picture's pixels."""
    side = grid.level.shape[0]
    steps = ((np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5) * side
    x, y = np.meshgrid(-steps if view.mirror_columns else steps, -steps if view.mirror_rows else steps)
    cos, sin = math.cos(math.radians(view.turn_deg)), math.sin(math.radians(view.turn_deg))
    columns = grid.cross.centre[0] + (x * cos - y * sin) * grid.column_step_px
    rows = grid.cross.centre[1] + (x * sin + y * cos) * grid.row_step_px
    return columns.astype(np.float32), rows.astype(np.float32)
