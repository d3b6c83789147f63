"""What is true of a synthetic dataset, beside the dataset: lesions with masks, mimics with boxes, by file name.

`train-truth.json` (or `test-truth.json`) with `-masks.npz` beside it, written by `tests.experiments.corpus`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import PixelMask
from models.synthesis.scene import Painted

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrueLesion:
    """A painted lesion; pixels as (column, row), the centre of the first pixel = (0, 0)."""

    name: str
    """Key of its mask."""
    key_slice: str
    """File name below Images_png."""
    word: str
    """'lung', 'liver', 'soft tissue' or 'node'."""
    volume: str
    """Name of the CT that it was painted on."""
    patient: str
    study: int
    exact_ends_px: list[list[float]]
    """(4, 2) ends of the long, then the short axis of the mask on the key slice."""
    reader_ends_px: list[list[float]]
    """The same with a reader's jitter."""
    drawn: str
    """'exact' or 'reader': which of both stands in the dataset."""
    long_axis_mm: float
    """Of the exact ends."""
    short_axis_mm: float
    volume_mm3: float
    hu: float
    contrast_hu: float
    shape: str
    slices: list[str]
    """File names of the slices that it reaches from head to feet, '' where the dataset does not ship one."""
    first_row: int
    first_column: int
    mask_shape: list[int]
    """Slices, rows, columns of its mask."""

    @property
    def tight_box_px(self) -> Box:
        """x_min, y_min, x_max, y_max of the exact ends."""
        ends = np.array(self.exact_ends_px)
        return (*map(float, ends.min(axis=0)), *map(float, ends.max(axis=0)))  # type: ignore[return-value]


@dataclass(frozen=True)
class TrueMimic:
    """A painted tube: negative, whatever it looks like on one slice."""

    word: str
    boxes: dict[str, list[float]]
    """x_min, y_min, x_max, y_max of its outline by file name, on every slice that the dataset ships."""


@dataclass(frozen=True)
class CorpusTruth:
    """The truth of one dataset."""

    path: Path
    lesions: tuple[TrueLesion, ...]
    mimics: tuple[TrueMimic, ...]

    @classmethod
    def open(cls, path: Path) -> CorpusTruth:
        """Reads `train-truth.json` or its like; masks are read from beside it when asked for."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            path,
            tuple(TrueLesion(**lesion) for lesion in stored["lesions"]),
            tuple(TrueMimic(**mimic) for mimic in stored["mimics"]),
        )

    @cached_property
    def _masks(self) -> dict[str, NDArray[np.uint8]]:
        with np.load(masks_beside(self.path)) as archive:
            return dict(archive)

    @cached_property
    def _mimics_by_slice(self) -> dict[str, list[Box]]:
        found: dict[str, list[Box]] = {}
        for mimic in self.mimics:
            for name, box in mimic.boxes.items():
                found.setdefault(name, []).append(tuple(box))  # type: ignore[arg-type]
        return found

    @cached_property
    def lesions_by_key_slice(self) -> dict[str, list[TrueLesion]]:
        """Lesions by the file name of their key slice."""
        found: dict[str, list[TrueLesion]] = {}
        for lesion in self.lesions:
            found.setdefault(lesion.key_slice, []).append(lesion)
        return found

    def mimic_boxes(self, file_name: str) -> NDArray[np.float64]:
        """(n, 4) boxes of the mimics on a slice."""
        return np.array(self._mimics_by_slice.get(file_name, []), np.float64).reshape(-1, 4)

    def mask(self, lesion: TrueLesion) -> NDArray[np.bool_]:
        """(slices, rows, columns) of a lesion; its first pixel is (first_column, first_row)."""
        bits = np.unpackbits(self._masks[lesion.name])[: int(np.prod(lesion.mask_shape))]
        return bits.reshape(lesion.mask_shape).astype(np.bool_)

    def key_mask(self, lesion: TrueLesion) -> PixelMask:
        """The mask on the key slice."""
        return PixelMask(
            lesion.first_column, lesion.first_row, self.mask(lesion)[lesion.slices.index(lesion.key_slice)]
        )


def save(
    path: Path,
    lesions: Sequence[TrueLesion],
    masks: dict[str, NDArray[np.bool_]],
    mimics: Sequence[TrueMimic],
    notes: dict[str, object],
) -> None:
    """Writes the truth and its masks; `notes` say how it was made."""
    stored = {**notes, "lesions": [asdict(lesion) for lesion in lesions], "mimics": [asdict(one) for one in mimics]}
    path.write_text(json.dumps(stored), encoding="utf-8")
    np.savez_compressed(masks_beside(path), **{name: np.packbits(mask) for name, mask in masks.items()})  # type: ignore[arg-type]


def masks_beside(path: Path) -> Path:
    """Where the masks of a truth file lie."""
    return path.with_name(f"{path.stem}-masks.npz")


def stacked(painted: Painted) -> tuple[int, int, NDArray[np.bool_]]:
    """First row, first column and the (slices, rows, columns) mask of all sections of a thing."""
    masks = [mask for _, mask in painted.sections]
    top, left = min(mask.first_row for mask in masks), min(mask.first_column for mask in masks)
    bottom = max(mask.first_row + mask.bits.shape[0] for mask in masks)
    right = max(mask.first_column + mask.bits.shape[1] for mask in masks)
    moved = [PixelMask(mask.first_column - left, mask.first_row - top, mask.bits) for mask in masks]
    return top, left, np.stack([mask.on_plane(bottom - top, right - left) for mask in moved])
