"""Reads NIH DeepLesion's own folder: DL_info.csv, whose rows count pixels from (1, 1), and pictures by slice number."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import schemas
from deeplesion_miner.errors import ConfigError
from models.marks import Annotation, KeySlice, Mark
from models.reading.contents import Contents, ends, file_of

DL_INFO = "DL_info.csv"


def read(path: Path, annotation: Annotation, there: Callable[[str], bool]) -> Contents:
    """The rows of the file; `there` says whether a picture exists.

    A slice interval that is no positive number (the public loaders then repeat the key slice) becomes NaN.
    ConfigError for another header, a field that cannot be read, and rows of one slice that disagree about it.
    """
    content = path.read_bytes()
    marked: dict[str, list[KeySlice]] = defaultdict(list)
    for one in _rows(path, content, annotation):
        marked[one.file_name].append(one)
    missing = tuple(sorted(name for name in marked if not there(name)))
    return Contents(
        key_slices=tuple(_joined(path, marked[name]) for name in sorted(set(marked) - set(missing))),
        missing=missing,
        missing_marks=sum(len(marked[name]) for name in missing),
        series=None,
        digest=hashlib.sha256(content).hexdigest(),
    )


def _rows(path: Path, content: bytes, annotation: Annotation) -> list[KeySlice]:
    facts = schemas.load("dataset")["dl_info"]
    names = str(facts["header"]).split(",")
    try:
        lines = csv.reader(io.StringIO(content.decode("ascii")))
        header = next(lines, [])
        if header != names:
            raise ConfigError(f"{path}: its header is not that of DeepLesion: '{','.join(header)[:60]}'; {_EXPECTED}")
        splits = {str(value): name for name, value in facts["split"].items()}
        return [
            _row(f"{path} line {lines.line_num}", number, names, fields, splits, annotation)
            for number, fields in enumerate(lines)
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a CSV text ({error}); {_EXPECTED}") from error


_EXPECTED = "name the DL_info.csv of DeepLesion, or one with its header"


def _row(
    where: str, number: int, names: Sequence[str], fields: Sequence[str], splits: dict[str, str], annotation: Annotation
) -> KeySlice:
    """The slice of one row, with this row's mark alone."""
    if len(fields) != len(names):
        raise ConfigError(f"{where}: {len(fields)} fields instead of {len(names)}; restore the file from a copy")
    cell = dict(zip(names, fields, strict=True))
    try:
        col_spacing_mm, row_spacing_mm, interval_mm = _numbers(cell, "Spacing_mm_px_", 3)
        first, last = map(int, _numbers(cell, "Slice_range", 2))
        columns, rows = map(int, _numbers(cell, "Image_size", 2))
        series, _, _ = cell["File_name"].rpartition("_")
        slice_number = int(cell["Key_slice_index"])
        return KeySlice(
            file_name=file_of(series, slice_number),
            series=series,
            patient=f"{int(cell['Patient_index']):06d}",
            split=splits[cell["Train_Val_Test"]],
            slice_number=slice_number,
            slice_range=(first, last),
            rows=rows,
            columns=columns,
            row_spacing_mm=_positive("Spacing_mm_px_", row_spacing_mm),
            col_spacing_mm=_positive("Spacing_mm_px_", col_spacing_mm),
            slice_interval_mm=interval_mm if interval_mm > 0 else math.nan,
            marks=(_mark(cell, number, col_spacing_mm, row_spacing_mm),),
            annotation=annotation,
        )
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{where}: {error}; correct the row or leave it out") from error


def _mark(cell: dict[str, str], number: int, col_spacing_mm: float, row_spacing_mm: float) -> Mark:
    """Pixels minus 1: the file counts them from (1, 1)."""
    coordinates = [value - 1 for value in _numbers(cell, "Measurement_coordinates", 8)]
    if any(map(math.isnan, coordinates[:4])):
        raise ValueError(f"Measurement_coordinates '{cell['Measurement_coordinates']}' hold no long axis")
    x_min, y_min, x_max, y_max = (value - 1 for value in _numbers(cell, "Bounding_boxes", 4))
    short = None if any(map(math.isnan, coordinates[4:])) else coordinates[4:]
    points = ends(coordinates[:4], short)
    lengths = [
        math.hypot((end[0] - start[0]) * col_spacing_mm, (end[1] - start[1]) * row_spacing_mm)
        for start, end in points.reshape(2, 2, 2)
    ]
    return Mark(
        mark_id=f"row {number}",
        ends_px=points,
        box_px=(x_min, y_min, x_max, y_max),
        long_axis_mm=lengths[0],
        short_axis_mm=None if short is None else lengths[1],
        coarse_lesion_type=int(cell["Coarse_lesion_type"]),
        possibly_noisy=bool(int(cell["Possibly_noisy"])),
    )


def _joined(path: Path, rows: Sequence[KeySlice]) -> KeySlice:
    """One slice of all its rows."""
    first = rows[0]
    for row in rows:
        for field in ("patient", "split", "rows", "columns", "row_spacing_mm", "col_spacing_mm"):
            here, there = _fact(first, field), _fact(row, field)
            if here != there:
                raise ConfigError(
                    f"{path}: {field} of slice {row.file_name} is {here} in {first.marks[0].mark_id} and {there} in "
                    f"{row.marks[0].mark_id}; correct one of the rows"
                )
    return replace(
        first,
        slice_range=(min(row.slice_range[0] for row in rows), max(row.slice_range[1] for row in rows)),
        marks=tuple(mark for row in rows for mark in row.marks),
    )


def _fact(one: KeySlice, field: str) -> Any:
    return getattr(one, field)


def _numbers(cell: dict[str, str], field: str, count: int) -> tuple[float, ...]:
    values = tuple(map(float, cell[field].split(",")))
    if len(values) != count:
        raise ValueError(f"{field} '{cell[field]}' holds {len(values)} numbers instead of {count}")
    return values


def _positive(field: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{field} holds {value} where millimetres per pixel belong")
    return value
