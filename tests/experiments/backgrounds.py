"""The real CT on which lesions are painted: volumes and series as stacks from head to feet, each with its patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy import ndimage

from dicom_io.testbed.anatomy import Body
from dicom_io.testbed.rasteriser import Grid, picture_hu
from dicom_io.testbed.series import SUPINE
from models.volume import Volume
from tests.experiments.plant import dicomweb_images

PATIENTS = {
    "abdomen_3mm": "totalsegmentator example",
    "abdomen_a_4p2mm": "flt breast 001",
    "abdomen_b_5mm": "cptac 00189",
    "abdomen_c_3mm": "bellona",
    "abdomen_d_5mm": "crlm 1006",
    "acrin_petct_3mm": "acrin 042",
    "chest_a_2p5mm": "cmb 01068",
    "chest_b_2p4mm": "ncia 0117",
    "chest_d_2mm": "lungfcp 0001",
    "chest_e_2p5mm": "ricord 001012",
    "chest_f_2mm": "lidc 0314",
    "chest_g_2p5mm": "lidc 0001",
    "neck_a_4p2mm": "flt breast 001",
    "neck_b_3mm": "cerr example",
    "nlst_chest_2mm": "nlst",
    "whole_body_5mm": "ohif 0000003",
    "nlst_full": "nlst",
    "bellona_full": "bellona",
}
"""Who is shown; the two of one patient never part."""
TEST_PATIENTS = frozenset(
    PATIENTS[name] for name in ("abdomen_3mm", "acrin_petct_3mm", "abdomen_d_5mm", "chest_g_2p5mm")
)
PHANTOM_NOISE_HU = 12.0
PHANTOM_BLUR_PX = 0.8
TEST_PHANTOM = "test phantom"
BODY_MARGIN_MM = 10.0
"""Full-resolution images are cropped to the patient and this much around."""


@dataclass(frozen=True, eq=False)
class Ground:
    """One stack of a patient."""

    name: str
    patient: str
    volume: Volume

    @property
    def is_test(self) -> bool:
        """True where the patient is held out."""
        return self.patient in TEST_PATIENTS or self.patient.startswith(TEST_PHANTOM)


def real_grounds(data: Path) -> Iterator[Ground]:
    """Every volume and full-resolution series below the folder of real data, one after the other, by name."""
    for path in sorted((data / "ct_volumes").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        yield Ground(name, PATIENTS[name], nifti_volume(path))
    yield Ground("nlst_full", PATIENTS["nlst_full"], series_volume(dicomweb_images(data / "ct_nlst_sr" / "dicomweb")))
    bellona = data / "archive_population" / "bellona_whole_series" / "chest_lung"
    yield Ground(
        "bellona_full", PATIENTS["bellona_full"], series_volume(dcmread(path) for path in sorted(bellona.glob("*.dcm")))
    )


def nifti_volume(path: Path) -> Volume:
    """A NIfTI file of HU as a stack, slices from head to feet, whatever the directions of its x, y and z."""
    image = nibabel.load(path)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(("L", "P", "I")))
    turned = image.as_reoriented(turn)
    column_mm, row_mm, slice_mm = (float(size) for size in turned.header.get_zooms())
    hu = np.ascontiguousarray(np.asarray(turned.dataobj).transpose(2, 1, 0).astype(np.int16))
    return _stack(hu, np.arange(len(hu)) * slice_mm, row_mm, column_mm)


def series_volume(images: Iterable[Dataset]) -> Volume:
    """Axial supine images of one series as a stack, cropped to the patient."""
    ordered = sorted(images, key=lambda image: -float(image.ImagePositionPatient[2]))
    planes = [
        image.pixel_array.astype(np.int32) * int(image.RescaleSlope) + int(image.RescaleIntercept) for image in ordered
    ]
    heights = np.array([float(image.ImagePositionPatient[2]) for image in ordered])
    row_mm, column_mm = (float(size) for size in ordered[0].PixelSpacing)
    hu = np.clip(np.stack(planes), -1024, 3071).astype(np.int16)
    return _stack(_cropped(hu, row_mm, column_mm), heights[0] - heights, row_mm, column_mm)


def _cropped(hu: NDArray[np.int16], row_mm: float, column_mm: float) -> NDArray[np.int16]:
    body = (hu > -300).mean(axis=0) > 0.1
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    down, right = round(BODY_MARGIN_MM / row_mm), round(BODY_MARGIN_MM / column_mm)
    return np.ascontiguousarray(
        hu[:, max(rows[0] - down, 0) : rows[-1] + down + 1, max(columns[0] - right, 0) : columns[-1] + right + 1]
    )


def _stack(hu: NDArray[np.int16], position_mm: NDArray[np.float64], row_mm: float, column_mm: float) -> Volume:
    names = tuple(f"{index + 1:04d}" for index in range(len(hu)))
    return Volume(hu, position_mm.astype(np.float64), row_mm, column_mm, names)


def phantom_grounds(seed: int) -> Iterator[Ground]:
    """Six phantom bodies of different sizes and slice distances, two of them for the test."""
    for number in range(6):
        random = np.random.default_rng([seed, number])
        slice_mm = float(random.choice([2.5, 3.0, 5.0]))
        spacing = float(random.uniform(1.5, 2.0))
        field_mm = float(random.uniform(300, 380))
        size = round(field_mm / spacing)
        heights = np.arange(0, 160, slice_mm)
        organs = Body(field_mm, 0.0, -float(heights[-1])).organs()
        corner = -(size - 1) / 2 * spacing
        planes = [
            picture_hu(Grid((corner, corner, -float(z)), *SUPINE, spacing, spacing, size, size), organs)
            for z in heights
        ]
        noise = random.normal(0, PHANTOM_NOISE_HU, (len(planes), size, size))
        hu = ndimage.gaussian_filter(np.stack(planes), (0, PHANTOM_BLUR_PX, PHANTOM_BLUR_PX)) + noise
        volume = _stack(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), heights, spacing, spacing)
        yield Ground(f"phantom_{number}", f"{TEST_PHANTOM if number >= 4 else 'phantom'} {number}", volume)
