"""What moves and disturbs a training sample, drawn from the recipe: one affine matrix, and changes of CT numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.marks import KeySlice
from models.reading.grid import AIR_HU, Floats
from models.recipe import AugmentationRecipe


@dataclass(frozen=True)
class Move:
    """How a crop lies on its image, and how its slices are ordered."""

    angle_deg: float = 0.0
    size: float = 1.0
    """Everything is drawn so many times as large."""
    mirror_columns: bool = False
    mirror_rows: bool = False
    mirror_slices: bool = False
    shift_px: tuple[float, float] = (0.0, 0.0)
    """Of the crop's centre, on the network's grid (column, row)."""


def draw(random: np.random.Generator, recipe: AugmentationRecipe) -> Move:
    """A move of the recipe's range; always the same number of draws, so that one setting never shifts another's."""
    angle, size, shift_x, shift_y = random.uniform(-1, 1, 4).tolist()
    columns, rows, slices = random.random(3).tolist()
    return Move(
        angle_deg=angle * recipe.rotate_deg,
        size=1 + size * recipe.scale,
        mirror_columns=columns < recipe.mirror_columns,
        mirror_rows=rows < recipe.mirror_rows,
        mirror_slices=slices < recipe.mirror_slices,
        shift_px=(shift_x * recipe.shift_px, shift_y * recipe.shift_px),
    )


def to_image(move: Move, key_slice: KeySlice, centre_px: tuple[float, float], pixel_mm: float, crop_px: int) -> Floats:
    """(2, 3) from a crop's pixels to the image's, the crop lying around `centre_px` of the image.

    It turns and mirrors in millimetres, so that a lesion keeps its shape where rows and columns are spaced apart
    differently.
    """
    angle = math.radians(move.angle_deg)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirror = np.diag([-1.0 if move.mirror_columns else 1.0, -1.0 if move.mirror_rows else 1.0])
    spacing_mm = np.array([[key_slice.col_spacing_mm], [key_slice.row_spacing_mm]])
    linear = turn @ mirror * (pixel_mm / move.size) / spacing_mm
    middle = np.full(2, (crop_px - 1) / 2) - np.array(move.shift_px)
    return np.column_stack([linear, np.array(centre_px) - linear @ middle])


def disturb(hu: NDArray[np.float32], random: np.random.Generator, recipe: AugmentationRecipe) -> None:
    """Changes (slices, rows, columns) CT numbers in place: contrast about water, a shift of all, noise by pixel.

    Nothing falls below AIR_HU, as nothing does in an undisturbed sample.
    """
    shift, scale, noise = random.uniform(-1, 1, 3).tolist()
    if recipe.hu_scale:
        hu *= np.float32(1 + scale * recipe.hu_scale)
    if recipe.hu_shift:
        hu += np.float32(shift * recipe.hu_shift)
    if recipe.noise_hu:
        hu += speckle(random, hu.shape) * np.float32(abs(noise) * recipe.noise_hu)
    np.maximum(hu, np.float32(AIR_HU), out=hu)


def speckle(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise of mean 0 and standard deviation 1: sums of three bytes, near to normal and five times as fast."""
    bytes_each = math.prod(shape)
    drawn = np.frombuffer(random.bytes(3 * bytes_each), np.int8).reshape(3, *shape)
    total: NDArray[np.float32] = drawn[0].astype(np.float32)
    total += drawn[1]
    total += drawn[2]
    # bytes from -128 to 127: mean -1/2, variance (256^2 - 1) / 12
    total += np.float32(1.5)
    total *= np.float32(1 / math.sqrt(3 * (256**2 - 1) / 12))
    return total
