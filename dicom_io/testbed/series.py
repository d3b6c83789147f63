"""Series of phantom studies: planes, pictures and files from a plan of a few numbers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from deeplesion_miner.types import Vector
from dicom_io.testbed.anatomy import Body, LesionPlan, PlacedShape, place
from dicom_io.testbed.ct_objects import (
    SeriesHeader,
    Storing,
    ct_image,
    enhanced_ct_image,
    projection_hu,
    write_image,
)
from dicom_io.testbed.drawn import DrawnOn
from dicom_io.testbed.identity import StudyIdentity
from dicom_io.testbed.rasteriser import Grid, Shape, picture_hu

SUPINE: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
PRONE: tuple[Vector, Vector] = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
CORONAL: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
HEAD_END_MM = 61.75
SMALL_MATRIX = {512: 256, 256: 192}
SMALL_SLICES = 12


def tilted(degrees: float) -> tuple[Vector, Vector]:
    """Rows along x, columns leaning towards the feet, as under a tilted gantry."""
    turn = math.radians(degrees)
    return (1.0, 0.0, 0.0), (0.0, math.cos(turn), -math.sin(turn))


def turned(degrees: float) -> tuple[Vector, Vector]:
    """Rows and columns turned about the axis (1, 1, 0), as an oblique reformat is."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half = (1 - cosine) / 2
    side = sine / math.sqrt(2)
    return (cosine + half, half, -side), (half, cosine + half, side)


@dataclass(frozen=True)
class Size:
    """How large an archive is made; the plans' own sizes where an option is None."""

    small: bool = False
    slices_per_series: int | None = None
    matrix: int | None = None
    noise_hu: int = 0

    def matrix_of(self, full: int) -> int:
        """Rows and columns of a series planned with `full`."""
        return self.matrix or (SMALL_MATRIX[full] if self.small else full)

    def slices_of(self, full: int) -> int:
        """Slices of a series planned with `full`."""
        return self.slices_per_series or (min(SMALL_SLICES, full) if self.small else full)


@dataclass(frozen=True)
class SeriesPlan:
    """A stack of parallel planes from head to feet."""

    key: str
    number: int
    description: str
    matrix: int
    interval_mm: float
    slices: int
    spacing_mm: tuple[float, float] = (0.7, 0.7)
    """Between rows, between columns (the order of PixelSpacing)."""
    orientation: tuple[Vector, Vector] = SUPINE
    numbered_from_head: bool = True
    multi_frame: bool = False
    tilt_deg: float = 0.0
    storing: Storing = Storing()  # noqa: RUF009
    windows: tuple[tuple[float, float], ...] = ((40.0, 400.0),)
    patient_position: str = "HFS"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    frame_of_reference: str = "table"


@dataclass(frozen=True)
class Series:
    """A written series: its planes from head to feet, its lesions, and what reports need of the images."""

    plan: SeriesPlan
    header: SeriesHeader
    grids: tuple[Grid, ...]
    body: Body
    lesions: dict[str, tuple[int, PlacedShape]]
    """Key slice (index into `grids`) and shape by name."""
    evidence: dict[int, Dataset]
    """Headers of the key slices by index; 0 for a multi-frame object."""

    def drawn_on(self, index: int) -> DrawnOn:
        """The image at this index as the ground of a drawing."""
        grid = self.grids[index]
        ref = self.header.ref(1, index + 1) if self.plan.multi_frame else self.header.ref(self._number(index))
        return DrawnOn(
            ref=ref,
            sop_class_uid=EnhancedCTImageStorage if self.plan.multi_frame else CTImageStorage,
            is_multi_frame=self.plan.multi_frame,
            row_spacing_mm=grid.row_spacing_mm,
            col_spacing_mm=grid.col_spacing_mm,
            frame_of_reference_uid=self.header.frame_of_reference_uid,
        )

    def evidence_of(self, index: int) -> Dataset:
        """The header of the image at this index."""
        return self.evidence[0 if self.plan.multi_frame else index]

    def _number(self, index: int) -> int:
        return index + 1 if self.plan.numbered_from_head else len(self.grids) - index


def write_series(
    study: StudyIdentity, plan: SeriesPlan, lesion_plans: tuple[LesionPlan, ...], size: Size, folder: Path
) -> Series:
    """Writes the images of a series below `folder`."""
    grids = _stack(plan, size)
    body = body_of(plan, size)
    lesions = {}
    for lesion in lesion_plans:
        index = round(lesion.slice_share * (len(grids) - 1))
        lesions[lesion.name] = index, place(lesion, body, grids[index], plan.interval_mm)
    shapes = (*body.organs(), *(placed.shape for _, placed in lesions.values()))
    series = Series(plan, _header(study, plan), grids, body, lesions, {})
    key_slices = {index for index, _ in lesions.values()}
    if plan.multi_frame:
        _write_multi_frame(series, shapes, size, folder)
        return series
    for index, grid in enumerate(grids):
        number = series.drawn_on(index).ref
        instance = series._number(index)
        hu = picture_hu(grid, shapes) + _noise(size, number.sop_instance_uid, grid)
        image = ct_image(series.header, instance, grid, hu, plan.storing)
        write_image(image, folder / plan.key / f"{instance:04d}.dcm", plan.storing)
        if index in key_slices:
            del image.PixelData
            series.evidence[index] = image
    return series


def _write_multi_frame(series: Series, shapes: tuple[Shape, ...], size: Size, folder: Path) -> None:
    pictures = [
        picture_hu(grid, shapes) + _noise(size, f"{series.header.ref(1).sop_instance_uid}/{number}", grid)
        for number, grid in enumerate(series.grids)
    ]
    image = enhanced_ct_image(series.header, list(series.grids), pictures, series.plan.storing)
    write_image(image, folder / series.plan.key / "0001.dcm", series.plan.storing)
    del image.PixelData
    series.evidence[0] = image


def _header(study: StudyIdentity, plan: SeriesPlan) -> SeriesHeader:
    return SeriesHeader(
        study=study,
        key=plan.key,
        number=plan.number,
        description=plan.description,
        image_type=plan.image_type,
        frame_of_reference=plan.frame_of_reference,
        patient_position=plan.patient_position,
        thickness_mm=plan.interval_mm,
        windows=plan.windows,
        tilt_deg=plan.tilt_deg,
    )


def body_of(plan: SeriesPlan, size: Size) -> Body:
    """The patient, as large as the field of view and as long as the stack of planes."""
    field_mm = size.matrix_of(plan.matrix) * min(plan.spacing_mm)
    return Body(field_mm, HEAD_END_MM, HEAD_END_MM - (size.slices_of(plan.slices) - 1) * plan.interval_mm)


def _stack(plan: SeriesPlan, size: Size) -> tuple[Grid, ...]:
    """The planes from head to feet; the table moves along z, so tilted planes are sheared against each other."""
    matrix = size.matrix_of(plan.matrix)
    centre_z = [HEAD_END_MM - index * plan.interval_mm for index in range(size.slices_of(plan.slices))]
    return tuple(_centred((0.0, 0.0, z), plan.orientation, plan.spacing_mm, matrix, matrix) for z in centre_z)


def _centred(
    centre_mm: Vector, orientation: tuple[Vector, Vector], spacing_mm: tuple[float, float], rows: int, columns: int
) -> Grid:
    row_dir, col_dir = orientation
    row_spacing_mm, col_spacing_mm = spacing_mm
    half_width, half_height = (columns - 1) / 2 * col_spacing_mm, (rows - 1) / 2 * row_spacing_mm
    # Rounded as it is written, so that the truth and the header are the same numbers.
    x, y, z = (round(centre_mm[i] - half_width * row_dir[i] - half_height * col_dir[i], 6) for i in range(3))
    return Grid((x, y, z), row_dir, col_dir, row_spacing_mm, col_spacing_mm, rows, columns)


def _noise(size: Size, seed: str, grid: Grid) -> NDArray[np.float64] | float:
    if size.noise_hu == 0:
        return 0.0
    digest = hashlib.sha256(seed.encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return random.integers(-size.noise_hu, size.noise_hu, (grid.rows, grid.columns), endpoint=True).astype(float)


def write_coronal_reformat(axial: Series, number: int, size: Size, folder: Path, lesion: str) -> Series:
    """A coronal reformat of an axial series: five planes, the third through the lesion's centre."""
    plan = replace(
        axial.plan,
        key="coronal",
        number=number,
        description="Coronal MPR",
        orientation=CORONAL,
        interval_mm=4.0,
        slices=5,
        image_type=("DERIVED", "SECONDARY", "REFORMATTED", "MPR"),
    )
    centre = axial.lesions[lesion][1].shape.centre_mm
    grids = _coronal_stack(axial, centre[1], plan.interval_mm)
    series = Series(plan, _header(axial.header.study, plan), grids, axial.body, {}, {})
    shapes = (*axial.body.organs(), *(placed.shape for _, placed in axial.lesions.values()))
    for index, grid in enumerate(grids):
        hu = picture_hu(grid, shapes)
        image = ct_image(series.header, index + 1, grid, hu, plan.storing)
        write_image(image, folder / plan.key / f"{index + 1:04d}.dcm", plan.storing)
    return series


def write_localizer(axial: Series, number: int, folder: Path) -> Series:
    """A frontal localizer of an axial series: one projection."""
    plan = replace(
        axial.plan,
        key="localizer",
        number=number,
        description="Topogram",
        orientation=CORONAL,
        slices=1,
        windows=((-200.0, 1600.0),),
        image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
    )
    (grid,) = _coronal_stack(axial, 0.0, 4.0)[2:3]
    series = Series(plan, _header(axial.header.study, plan), (grid,), axial.body, {}, {})
    depth_mm = [axial.body.scale * step for step in range(-90, 91, 30)]
    through = [replace(grid, origin_mm=(grid.origin_mm[0], y, grid.origin_mm[2])) for y in depth_mm]
    hu = projection_hu([picture_hu(one, axial.body.organs()) for one in through])
    write_image(ct_image(series.header, 1, grid, hu, plan.storing), folder / plan.key / "0001.dcm", plan.storing)
    return series


def _coronal_stack(axial: Series, y_mm: float, interval_mm: float) -> tuple[Grid, ...]:
    columns, spacing_mm = axial.grids[0].columns, axial.plan.spacing_mm[1]
    height_mm = axial.body.top_mm - axial.body.bottom_mm
    rows = max(round(height_mm / spacing_mm), 16)
    centre_z = (axial.body.top_mm + axial.body.bottom_mm) / 2
    return tuple(
        _centred((0.0, y_mm + step * interval_mm, centre_z), CORONAL, (spacing_mm, spacing_mm), rows, columns)
        for step in range(-2, 3)
    )
