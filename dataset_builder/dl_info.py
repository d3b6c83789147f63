"""`DL_info.csv` as NIH DeepLesion's own file is written, so that its loaders work unchanged.

LF line ends, no byte order mark, the header of the schema, numbers as C's `%.6g`, lists quoted with comma and
space between, what is not known as `NaN`. Coordinates and boxes count from (1, 1), the centre of the first pixel.
Boxes are formatted from unrounded values. A plain length has NaN in place of its short axis.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import schemas
from dataset_builder.layout import dl_info_name
from deeplesion_miner import geometry
from deeplesion_miner.errors import VerificationFailed
from deeplesion_miner.records import LesionRecord
from deeplesion_miner.types import Box

NO_AXIS = (math.nan,) * 4


@dataclass(frozen=True)
class Row:
    """One row of DL_info.csv as numbers, in the file's own 1-based convention; NaN where nothing is known."""

    file_name: str
    patient_index: int
    study_index: int
    series_index: int
    key_slice_index: int
    measurement_coordinates: tuple[float, ...]
    """x1, y1, x2, y2 of the long axis, then of the short axis."""
    bounding_box: tuple[float, ...]
    diameters_px: tuple[float, ...]
    """Long, short."""
    normalized_location: tuple[float, ...]
    coarse_lesion_type: int
    possibly_noisy: bool
    slice_range: tuple[int, int]
    spacing_mm: tuple[float, ...]
    """x, y, slice interval."""
    image_size: tuple[int, int]
    """Columns, rows."""
    window_hu: tuple[float, ...]
    """Low, high."""
    gender: str
    """'' where the file says NaN."""
    age_years: int | None
    split: str


@cache
def _format() -> dict[str, Any]:
    facts: dict[str, Any] = schemas.load("dataset")["dl_info"]
    return facts


def header() -> str:
    """The first line, without its line end."""
    return str(_format()["header"])


def number(value: float | None) -> str:
    """C's `%.6g`; 'NaN' for None and for a number that is none."""
    if value is None or math.isnan(value):
        return str(_format()["missing"])
    return f"{value + 0.0:.6g}"  # adding zero turns -0.0 into 0.0


def to_csv(lesions: Iterable[LesionRecord]) -> bytes:
    """The whole file, rows in the given order."""
    return "".join(line + "\n" for line in (header(), *map(row, lesions))).encode("ascii")


def row(lesion: LesionRecord) -> str:
    """The line of one lesion, without its line end."""
    missing, genders = str(_format()["missing"]), _format()["genders"]
    box = geometry.box_to_public(Box(*lesion.box_px))
    short = NO_AXIS if lesion.short_axis_px is None else _public(lesion.short_axis_px)
    fields = {
        "File_name": dl_info_name(lesion.file_name),
        "Patient_index": str(lesion.patient_index),
        "Study_index": str(lesion.study_index),
        "Series_ID": str(lesion.series_index),
        "Key_slice_index": str(lesion.key_slice_number),
        "Measurement_coordinates": _list((*_public(lesion.long_axis_px), *short)),
        "Bounding_boxes": _list((box.x_min, box.y_min, box.x_max, box.y_max)),
        "Lesion_diameters_Pixel_": _list((lesion.long_axis_length_px, lesion.short_axis_length_px)),
        "Normalized_lesion_location": _list((lesion.location_x, lesion.location_y, lesion.location_z)),
        "Coarse_lesion_type": str(lesion.coarse_lesion_type),
        "Possibly_noisy": str(int(lesion.possibly_noisy)),
        "Slice_range": f"{lesion.slice_first}, {lesion.slice_last}",
        "Spacing_mm_px_": _list((lesion.col_spacing_mm, lesion.row_spacing_mm, lesion.slice_interval_mm)),
        "Image_size": ", ".join(str(getattr(lesion, name)) for name in _format()["image_size_order"]),
        "DICOM_windows": _list((lesion.window_low_hu, lesion.window_high_hu)),
        "Patient_gender": lesion.patient_sex if lesion.patient_sex in genders else missing,
        "Patient_age": missing if lesion.patient_age_years is None else str(lesion.patient_age_years),
        "Train_Val_Test": str(_format()["split"][lesion.split]),
    }
    quoted = _format()["quoted"]
    return ",".join(f'"{fields[name]}"' if name in quoted else fields[name] for name in header().split(","))


def parse(text: str) -> tuple[Row, ...]:
    """The rows of a DL_info.csv, ours or NIH's; raises VerificationFailed naming line and field."""
    lines = csv.reader(io.StringIO(text))
    if next(lines, []) != header().split(","):
        raise VerificationFailed("DL_info.csv: the header is not that of DeepLesion")
    return tuple(_parsed(line, fields) for line, fields in enumerate(lines, start=2))


def _parsed(line: int, fields: Sequence[str]) -> Row:
    names = header().split(",")
    if len(fields) != len(names):
        raise VerificationFailed(f"DL_info.csv line {line}: {len(fields)} fields instead of {len(names)}")
    cell = dict(zip(names, fields, strict=True))
    missing = _format()["missing"]
    split_names = {str(value): name for name, value in _format()["split"].items()}
    try:
        first, last = _integers(cell["Slice_range"], 2)
        columns, rows = _integers(cell["Image_size"], 2)
        return Row(
            file_name=cell["File_name"],
            patient_index=int(cell["Patient_index"]),
            study_index=int(cell["Study_index"]),
            series_index=int(cell["Series_ID"]),
            key_slice_index=int(cell["Key_slice_index"]),
            measurement_coordinates=_numbers(cell["Measurement_coordinates"], 8),
            bounding_box=_numbers(cell["Bounding_boxes"], 4),
            diameters_px=_numbers(cell["Lesion_diameters_Pixel_"], 2),
            normalized_location=_numbers(cell["Normalized_lesion_location"], 3),
            coarse_lesion_type=int(cell["Coarse_lesion_type"]),
            possibly_noisy=bool(int(cell["Possibly_noisy"])),
            slice_range=(first, last),
            spacing_mm=_numbers(cell["Spacing_mm_px_"], 3),
            image_size=(columns, rows),
            window_hu=_numbers(cell["DICOM_windows"], 2),
            gender="" if cell["Patient_gender"] == missing else cell["Patient_gender"],
            age_years=None if cell["Patient_age"] == missing else int(cell["Patient_age"]),
            split=split_names[cell["Train_Val_Test"]],
        )
    except (ValueError, KeyError) as error:
        raise VerificationFailed(f"DL_info.csv line {line}: {error}") from error


def _public(axis: Sequence[float]) -> tuple[float, ...]:
    """Two ends in the file's 1-based convention."""
    x1, y1, x2, y2 = axis
    return (*geometry.to_public((x1, y1)), *geometry.to_public((x2, y2)))


def _list(values: Iterable[float | None]) -> str:
    return ", ".join(map(number, values))


def _numbers(text: str, count: int) -> tuple[float, ...]:
    values = tuple(map(float, text.split(",")))
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers instead of {count} in '{text}'")
    return values


def _integers(text: str, count: int) -> tuple[int, ...]:
    values = tuple(map(int, text.split(",")))
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers instead of {count} in '{text}'")
    return values
