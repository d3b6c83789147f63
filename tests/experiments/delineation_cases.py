"""Lesions with a true mask, as the delineation experiments take them: synthetic ones in real CT, and real sarcomas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.mask_recist import recist_of_mask
from models.delineation.ellipse import axes_mm
from models.reading.folder import DatasetFolder
from models.volume import Volume
from tests.experiments.corpus_truth import CorpusTruth, TrueLesion

MARGIN_MM = 15.0
"""Pixels kept around a lesion beyond its long axis either way."""


@dataclass(frozen=True, eq=False)
class Case:
    """One lesion: crop of its CT, marks, truth."""

    name: str
    patient: str
    word: str
    volume: Volume
    index: int
    """Of the key slice."""
    ends_px: NDArray[np.float64]
    """(4, 2) as a reader set them."""
    truth: NDArray[np.bool_]
    """(slices, rows, columns)."""

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows, between columns."""
        return self.volume.row_spacing_mm, self.volume.col_spacing_mm

    @property
    def interval_mm(self) -> float:
        """Median distance of slices."""
        return float(np.median(np.diff(self.volume.position_mm)))

    @property
    def axes_mm(self) -> tuple[float, float]:
        """Long and short axis of the marks."""
        return axes_mm(self.ends_px, *self.spacing_mm)


def synthetic_cases(corpus: Path, part: str) -> Iterator[Case]:
    """Every lesion of OUT/train or OUT/test of `tests.experiments.corpus`, with its reader's ends."""
    folder = DatasetFolder.open(corpus / part)
    truth = CorpusTruth.open(corpus / f"{part}-truth.json")
    by_name = {one.file_name: one for one in folder.key_slices}
    for lesion in truth.lesions:
        volume, index = folder.volume(by_name[lesion.key_slice], 1.2 * lesion.long_axis_mm + MARGIN_MM)
        mask = _on_volume(truth, lesion, volume)
        yield _cropped(lesion.name, lesion.patient, lesion.word, volume, index, np.array(lesion.reader_ends_px), mask)


def _on_volume(truth: CorpusTruth, lesion: TrueLesion, volume: Volume) -> NDArray[np.bool_]:
    whole = np.zeros(volume.hu.shape, np.bool_)
    row, column = lesion.first_row, lesion.first_column
    for name, plane in zip(lesion.slices, truth.mask(lesion), strict=True):
        if name in volume.images:
            whole[volume.images.index(name), row : row + plane.shape[0], column : column + plane.shape[1]] = plane
    return whole


def sarcoma_cases(folder: Path) -> Iterator[Case]:
    """The sarcomas of a folder of NIfTI pairs, marked on the slice with the largest section, exactly."""
    for mask_path in sorted(folder.glob("*_mask.nii.gz")):
        name = mask_path.name.removesuffix("_mask.nii.gz")
        image, mask = nibabel.load(folder / f"{name}_image.nii.gz"), nibabel.load(mask_path)
        column_mm, row_mm, slice_mm = (float(step) for step in image.header.get_zooms()[:3])
        # NIfTI arrays are (x, y, z) with z to the head; volumes run from head to feet
        hu = np.asarray(image.dataobj).transpose(2, 1, 0)[::-1].round().astype(np.int16)
        truth = (np.asarray(mask.dataobj) > 0).transpose(2, 1, 0)[::-1]
        index = int(truth.sum(axis=(1, 2)).argmax())
        axes = recist_of_mask(truth[index], row_mm, column_mm)
        ends = np.array([point for axis in axes for point in (axis.start, axis.end)])
        positions = slice_mm * np.arange(len(hu))
        volume = Volume(hu, positions, row_mm, column_mm, tuple(f"{name} {number}" for number in range(len(hu))))
        yield Case(name, name, "sarcoma", volume, index, ends, truth)


def _cropped(
    name: str,
    patient: str,
    word: str,
    volume: Volume,
    index: int,
    ends_px: NDArray[np.float64],
    truth: NDArray[np.bool_],
) -> Case:
    spacing = np.array([volume.col_spacing_mm, volume.row_spacing_mm])
    reach = (axes_mm(ends_px, volume.row_spacing_mm, volume.col_spacing_mm)[0] + MARGIN_MM) / spacing
    centre = ends_px.mean(axis=0)
    left, top = (max(int(value), 0) for value in centre - reach)
    right, bottom = (int(value) + 2 for value in centre + reach)
    window = (slice(None), slice(top, bottom), slice(left, right))
    crop = Volume(
        volume.hu[window].copy(), volume.position_mm, volume.row_spacing_mm, volume.col_spacing_mm, volume.images
    )
    return Case(name, patient, word, crop, index, ends_px - (left, top), truth[window].copy())
