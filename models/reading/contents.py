"""What both kinds of dataset folder are read into: key slices, the slices around them, what is absent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.errors import ConfigError
from models.marks import KeySlice

IMAGES = "Images_png"


@dataclass(frozen=True)
class SliceFile:
    """One picture of a series."""

    file_name: str
    """'000001_01_01/103.png' below Images_png."""
    slice_number: int
    position_mm: float
    """Towards the feet, from any origin that the slices of one series share."""


@dataclass(frozen=True, eq=False)
class SeriesSlices:
    """The slices of one series in a table, from head to feet."""

    slice_numbers: NDArray[np.int64]
    """(slices,) rising."""
    position_mm: NDArray[np.float64]
    """(slices,) rising."""


@dataclass(frozen=True)
class Contents:
    """A folder's tables, as facts."""

    key_slices: tuple[KeySlice, ...]
    """Sorted by file name; only those whose picture is there."""
    missing: tuple[str, ...]
    """File names of marked slices whose picture is absent, sorted."""
    missing_marks: int
    """Marks on those slices."""
    series: Mapping[str, SeriesSlices] | None
    """Slices by series; None where positions follow from slice numbers and the interval."""
    digest: str
    """Names the content: of manifest.json, or of the tables."""


def file_of(series: str, slice_number: int) -> str:
    """Path below Images_png, as DeepLesion names it."""
    return f"{series}/{slice_number:03d}.png"


def ends(long_axis: Iterable[float], short_axis: Iterable[float] | None) -> NDArray[np.float64]:
    """(4, 2) of x1, y1, x2, y2 of each axis; NaN for a short axis that is not there."""
    short = (math.nan,) * 4 if short_axis is None else tuple(short_axis)
    found = np.array([*long_axis, *short], np.float64).reshape(4, 2)
    found.setflags(write=False)
    return found


def refuse_shared_patients(where: str, key_slices: Iterable[KeySlice]) -> None:
    """ConfigError where a patient is in two splits: what is learned from one would be tested on the other."""
    splits: dict[str, str] = {}
    for one in key_slices:
        known = splits.setdefault(one.patient, one.split)
        if known != one.split:
            raise ConfigError(
                f"{where}: patient {one.patient} is in '{known}' and in '{one.split}' (slice {one.file_name}); "
                "give all rows of a patient the same split"
            )
