"""Tiny dataset folders, ours and NIH's, of the same lesions, with pictures whose CT numbers a test knows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_builder import dl_info, png
from dataset_builder.tables import to_parquet
from deeplesion_miner.records import LesionRecord, SliceRecord
from models.reading.folder import DatasetFolder

Picture = Callable[[int], NDArray[np.int16]]
"""CT numbers of a slice by its number."""
SIDE = 160
SPACING_MM = 0.75
CROSS = ((60.5, 70.25), (96.0, 75.0), (75.0, 62.5), (77.5, 84.0))


@dataclass(frozen=True)
class Series:
    """One series with its slices and lesions."""

    name: str
    lesions: tuple[LesionRecord, ...]
    numbers: tuple[int, ...]
    position_mm: tuple[float, ...]
    picture: Picture
    rows: int = SIDE
    columns: int = SIDE

    @property
    def records(self) -> tuple[SliceRecord, ...]:
        first = self.lesions[0]
        return tuple(
            SliceRecord(
                series_id=first.series_id,
                patient_index=first.patient_index,
                study_index=first.study_index,
                series_index=first.series_index,
                file_name=f"{self.name}/{number:03d}.png",
                slice_number=number,
                position_mm=position,
                rows=self.rows,
                columns=self.columns,
                col_spacing_mm=first.col_spacing_mm,
                row_spacing_mm=first.row_spacing_mm,
                is_key_slice=number in {one.key_slice_number for one in self.lesions},
                clipped_px=0,
                png_sha256="",
            )
            for number, position in zip(self.numbers, self.position_mm, strict=True)
        )


def flat(number: int) -> NDArray[np.int16]:
    """A body of one value in air; the value tells the slice."""
    row, column = np.mgrid[:SIDE, :SIDE]
    body = ((column - 80) / 70) ** 2 + ((row - 80) / 60) ** 2 < 1
    return np.where(body, 10 * number, -1000).astype(np.int16)


def lesion(
    patient: int = 1,
    key: int = 5,
    number: int = 1,
    ends: Sequence[tuple[float, float]] = CROSS,
    spacing_mm: tuple[float, float] = (SPACING_MM, SPACING_MM),
    **facts: object,
) -> LesionRecord:
    """A lesion whose derived values follow from its ends (long axis, then short axis); spacing as column, row."""
    name = hashlib.sha256(f"{patient}/{key}/{number}".encode()).hexdigest()[:16]
    columns, rows = ([end[axis] for end in ends] for axis in (0, 1))
    long_px, short_px = math.dist(*ends[:2]), math.dist(*ends[2:]) if len(ends) == 4 else None
    in_mm = [(x * spacing_mm[0], y * spacing_mm[1]) for x, y in ends]
    record = LesionRecord(
        lesion_id=name, bookmark_id=name, patient_id=f"p{patient}", study_id=f"s{patient}", series_id=f"r{patient}",
        patient_index=patient, study_index=1, series_index=1,
        file_name=f"{patient:06d}_01_01/{key:03d}.png", key_slice_number=key, slice_first=1, slice_last=99,
        slice_numbering="instance_number", long_axis_px=(*ends[0], *ends[1]),
        short_axis_px=(*ends[2], *ends[3]) if len(ends) == 4 else None,
        box_px=(min(columns) - 5, min(rows) - 5, max(columns) + 5, max(rows) + 5),
        long_axis_length_px=long_px, short_axis_length_px=short_px,
        long_axis_mm=math.dist(*in_mm[:2]), short_axis_mm=math.dist(*in_mm[2:]) if len(ends) == 4 else None,
        col_spacing_mm=spacing_mm[0], row_spacing_mm=spacing_mm[1], slice_interval_mm=2.5, slice_thickness_mm=2.5,
        rows=SIDE, columns=SIDE, normal_tilt_deg=0.0, location_x=0.5, location_y=0.5, location_z=None,
        coarse_lesion_type=-1, window_low_hu=-175.0, window_high_hu=275.0, patient_sex="F", patient_age_years=61,
        study_date_shifted="2031-04-05", finding_code="", finding_site_code="", dialect="tid1500", writer="ohif",
        off_plane_mm=0.0, notes=(), possibly_noisy=False, split="train",
    )  # fmt: skip
    return replace(record, **facts)  # type: ignore[arg-type]


def series(*lesions: LesionRecord, numbers: Sequence[int] = range(1, 10), picture: Picture = flat,
           position_mm: Sequence[float] | None = None) -> Series:  # fmt: skip
    """The series of some lesions; slices lie an interval apart where no positions are given."""
    first = lesions[0]
    interval_mm = first.slice_interval_mm or 0.0
    return Series(
        name=first.file_name.split("/")[0],
        lesions=lesions,
        numbers=tuple(numbers),
        position_mm=tuple((number - numbers[0]) * interval_mm for number in numbers)
        if position_mm is None
        else tuple(position_mm),
        picture=picture,
        rows=first.rows,
        columns=first.columns,
    )


def write_mined(folder: Path, *all_series: Series) -> Path:
    """A dataset of ours: tables and pictures, no manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lesions = [one for series in all_series for one in series.lesions]
    slices = [one for series in all_series for one in series.records]
    (folder / "lesions.parquet").write_bytes(to_parquet("lesions", lesions))
    (folder / "slices.parquet").write_bytes(to_parquet("slices", slices))
    _write_pictures(folder, all_series)
    return folder


def write_nih(folder: Path, *all_series: Series) -> Path:
    """NIH DeepLesion's own folder: DL_info.csv and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "DL_info.csv").write_bytes(dl_info.to_csv([one for series in all_series for one in series.lesions]))
    _write_pictures(folder, all_series)
    return folder


def mined(folder: Path, *all_series: Series) -> DatasetFolder:
    """A dataset of ours, opened."""
    return DatasetFolder.open(write_mined(folder, *all_series))


def _write_pictures(folder: Path, all_series: Sequence[Series]) -> None:
    for one in all_series:
        place = folder / "Images_png" / one.name
        place.mkdir(parents=True, exist_ok=True)
        for number in one.numbers:
            (place / f"{number:03d}.png").write_bytes(png.encode(one.picture(number)))
