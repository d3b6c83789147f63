"""A series around a key slice as the protocols need it, wherever its pixels are: in files, or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.marks import KeySlice
from models.reading import public_protocol
from models.reading.context import Context, by_distance
from models.reading.folder import DatasetFolder
from models.reading.grid import AIR_HU, Floats, Grid, grid_over, resample
from models.recipe import DataRecipe
from models.volume import Volume

PUBLIC = "public"
"""The recipe's word for the public loaders' protocol."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one grid, from head to feet; pixels are read when they are needed."""

    position_mm: NDArray[np.float64]
    slice_numbers: tuple[int, ...]
    interval_mm: float
    """NaN where it is unknown."""
    rows: int
    columns: int
    row_spacing_mm: float
    col_spacing_mm: float
    read: Callable[[int], NDArray[np.int16]]
    """(rows, columns) of a slice by its index."""

    def seen(self, at: int, data: DataRecipe, *, mirrored: bool = False) -> Context:
        """The slices that a network sees around slice `at`; `mirrored` swaps head and feet."""
        if data.protocol == PUBLIC:
            found = public_protocol.neighbours(self.slice_numbers, at, self.interval_mm, len(data.slice_offsets_mm))
            return Context(found.slices, found.shares[::-1].copy()) if mirrored else found
        return by_distance(self.position_mm, at, [-one if mirrored else one for one in data.slice_offsets_mm])

    def pixel_mm(self, at: int, data: DataRecipe) -> float:
        """Spacing of the network's grid around slice `at`."""
        if data.protocol == PUBLIC:
            return self.col_spacing_mm / public_protocol.frame(self.read(at), self.col_spacing_mm).scale
        return data.pixel_mm

    def crop(self, seen: Context, to_image: Floats, data: DataRecipe) -> NDArray[np.float32]:
        """(slices, crop, crop) through a (2, 3) matrix from the crop to the image.

        The public loaders resize without averaging, so their crops do, too.
        """
        planes = [self.read(index) for index in seen.slices]
        smooth = data.protocol != PUBLIC
        return seen.mix(_air_or_more(resample(planes, to_image, data.crop_px, data.crop_px, smooth=smooth)))


def of_folder(folder: DatasetFolder, key_slice: KeySlice) -> tuple[Stack, int]:
    """The stack around a key slice and the key slice's index in it. MinerError where the folder lacks it."""
    around = folder.slices_around(key_slice)
    names = [one.file_name for one in around]
    stack = Stack(
        position_mm=np.array([one.position_mm for one in around]),
        slice_numbers=tuple(one.slice_number for one in around),
        interval_mm=key_slice.slice_interval_mm,
        rows=key_slice.rows,
        columns=key_slice.columns,
        row_spacing_mm=key_slice.row_spacing_mm,
        col_spacing_mm=key_slice.col_spacing_mm,
        read=lambda index: folder.checked_hu(key_slice, names[index]),
    )
    return stack, names.index(key_slice.file_name)


def of_volume(volume: Volume) -> Stack:
    """The stack of a volume; its interval is the median distance of slices, which numbers them, too."""
    distances = np.diff(volume.position_mm)
    interval_mm = float(np.median(distances)) if len(distances) else float("nan")
    steps = (volume.position_mm - volume.position_mm[0]) / interval_mm if len(distances) else np.zeros(1)
    return Stack(
        position_mm=volume.position_mm,
        slice_numbers=tuple(np.rint(steps).astype(int).tolist()),
        interval_mm=interval_mm,
        rows=volume.hu.shape[1],
        columns=volume.hu.shape[2],
        row_spacing_mm=volume.row_spacing_mm,
        col_spacing_mm=volume.col_spacing_mm,
        read=lambda index: volume.hu[index],
    )


def whole_slices(stack: Stack, indices: Sequence[int], data: DataRecipe) -> Iterator[tuple[Tensor, Grid]]:
    """For each index (slices, rows, columns) float32 HU on the network's grid, and that grid.

    Sides are padded with air at the bottom and the right to multiples of 32. Slices that follow one another share
    what was resampled.
    """
    if data.protocol == PUBLIC:
        yield from (_public_slice(stack, at, data) for at in indices)
        return
    grid = grid_over(stack.rows, stack.columns, stack.row_spacing_mm, stack.col_spacing_mm, data.pixel_mm)
    ready: dict[int, NDArray[np.float32]] = {}
    for at in indices:
        seen = stack.seen(at, data)
        fresh = [index for index in seen.slices if index not in ready]
        if fresh:
            planes = [stack.read(index) for index in fresh]
            drawn = _air_or_more(resample(planes, grid.to_image_matrix, grid.rows, grid.columns))
            ready |= dict(zip(fresh, drawn, strict=True))
        ready = {index: ready[index] for index in seen.slices}
        yield torch.from_numpy(seen.mix(np.stack(list(ready.values())))), grid


def _air_or_more(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Padding of scanners becomes air before slices are mixed, lest it show through."""
    return np.maximum(hu, np.float32(AIR_HU), out=hu)


def _public_slice(stack: Stack, at: int, data: DataRecipe) -> tuple[Tensor, Grid]:
    image, shown = public_protocol.public_image(
        stack.read,
        stack.slice_numbers,
        at,
        interval_mm=stack.interval_mm,
        spacing_mm=stack.col_spacing_mm,
        count=len(data.slice_offsets_mm),
    )
    return torch.from_numpy(public_protocol.on_grid(image, shown.grid)), shown.grid
