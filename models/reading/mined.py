"""Reads the tables of a dataset that this tool wrote: lesions.parquet, slices.parquet, manifest.json."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import schemas
from deeplesion_miner.errors import ConfigError
from models.marks import Annotation, KeySlice, Mark
from models.reading.contents import Contents, SeriesSlices, ends

LESIONS, SLICES, MANIFEST = "lesions.parquet", "slices.parquet", "manifest.json"
LESION_COLUMNS = (
    "lesion_id", "patient_id", "file_name", "key_slice_number", "slice_first", "slice_last", "long_axis_px",
    "short_axis_px", "box_px", "long_axis_mm", "short_axis_mm", "col_spacing_mm", "row_spacing_mm",
    "slice_interval_mm", "rows", "columns", "coarse_lesion_type", "possibly_noisy", "split",
)  # fmt: skip
SLICE_COLUMNS = ("file_name", "slice_number", "position_mm", "rows", "columns", "col_spacing_mm", "row_spacing_mm")
GRID = ("rows", "columns", "col_spacing_mm", "row_spacing_mm")


def read(folder: Path, annotation: Annotation, there: Callable[[str], bool]) -> Contents:
    """The dataset in `folder`; `there` says whether a picture exists.

    ConfigError for a table that is absent, unreadable or lacks a column, for marks of one slice that disagree about
    it, and for positions that do not rise with the slice numbers.
    """
    rows: list[dict[str, Any]] = _table(folder / LESIONS, "lesions", LESION_COLUMNS).to_pylist()
    series = _series(folder / SLICES)
    marked: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        marked[row["file_name"]].append(row)
    missing = tuple(sorted(name for name in marked if not there(name)))
    key_slices = tuple(
        _key_slice(folder / LESIONS, marked[name], annotation) for name in sorted(set(marked) - set(missing))
    )
    return Contents(
        key_slices=key_slices,
        missing=missing,
        missing_marks=sum(len(marked[name]) for name in missing),
        series=series,
        digest=_digest(folder),
    )


def _table(path: Path, name: str, columns: Sequence[str]) -> Any:
    try:
        found = pq.read_table(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: missing; a dataset needs it: mine it again or name another folder") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); restore it from a copy or mine it again") from error
    for column in columns:
        if column not in found.column_names:
            meaning = schemas.load("dataset")["tables"][name]["columns"][column]["meaning"]
            raise ConfigError(f"{path}: has no column '{column}' ({meaning}); mine it again with this version")
    return found.select(list(columns))


def _key_slice(where: Path, rows: Sequence[dict[str, Any]], annotation: Annotation) -> KeySlice:
    first = rows[0]
    for row in rows:
        for field in ("patient_id", "split", "key_slice_number", *GRID):
            if row[field] != first[field]:
                raise ConfigError(
                    f"{where}: {field} of slice {row['file_name']} is {first[field]} in lesion {first['lesion_id']} "
                    f"and {row[field]} in lesion {row['lesion_id']}; mine it again"
                )
    interval = first["slice_interval_mm"]
    return KeySlice(
        file_name=first["file_name"],
        series=str(Path(first["file_name"]).parent),
        patient=first["patient_id"],
        split=first["split"],
        slice_number=first["key_slice_number"],
        slice_range=(min(row["slice_first"] for row in rows), max(row["slice_last"] for row in rows)),
        rows=first["rows"],
        columns=first["columns"],
        row_spacing_mm=first["row_spacing_mm"],
        col_spacing_mm=first["col_spacing_mm"],
        slice_interval_mm=math.nan if interval is None else interval,
        marks=tuple(map(_mark, rows)),
        annotation=annotation,
    )


def _mark(row: dict[str, Any]) -> Mark:
    x_min, y_min, x_max, y_max = row["box_px"]
    return Mark(
        mark_id=row["lesion_id"],
        ends_px=ends(row["long_axis_px"], row["short_axis_px"]),
        box_px=(x_min, y_min, x_max, y_max),
        long_axis_mm=row["long_axis_mm"],
        short_axis_mm=row["short_axis_mm"],
        coarse_lesion_type=row["coarse_lesion_type"],
        possibly_noisy=row["possibly_noisy"],
    )


def _series(where: Path) -> dict[str, SeriesSlices]:
    """By series; in columns, as a large dataset has a million slices."""
    table = _table(where, "slices", SLICE_COLUMNS)
    names: list[str] = table["file_name"].to_pylist()
    column = {name: table[name].to_numpy() for name in SLICE_COLUMNS if name != "file_name"}
    codes: dict[str, int] = {}
    code = np.array([codes.setdefault(name.rpartition("/")[0], len(codes)) for name in names], np.int64)
    order = np.lexsort((column["slice_number"], code))
    code, column = code[order], {name: values[order] for name, values in column.items()}
    found = list(codes)
    _check_series(where, found, code, column)
    starts = np.searchsorted(code, np.arange(len(found) + 1)).tolist()
    return {
        series: SeriesSlices(column["slice_number"][first:last].astype(np.int64), column["position_mm"][first:last])
        for series, first, last in zip(found, starts, starts[1:], strict=False)
    }


def _check_series(where: Path, series: Sequence[str], code: NDArray[np.int64], column: dict[str, Any]) -> None:
    """ConfigError for slices of one series that do not lie below one another, or not on one grid."""
    beside = code[1:] == code[:-1]
    number, position = column["slice_number"], column["position_mm"]
    for place in np.flatnonzero(beside & (position[1:] <= position[:-1])).tolist()[:1]:
        raise ConfigError(
            f"{where}: series {series[code[place]]}: slice {number[place + 1]} lies at {position[place + 1]} mm, not "
            f"below slice {number[place]} at {position[place]} mm; mine it again"
        )
    for field in GRID:
        values = column[field]
        for place in np.flatnonzero(beside & (values[1:] != values[:-1])).tolist()[:1]:
            raise ConfigError(
                f"{where}: series {series[code[place]]}: {field} changes from {values[place]} to {values[place + 1]} "
                f"at slice {number[place + 1]}; a series has one grid: mine it again"
            )


def _digest(folder: Path) -> str:
    path = folder / MANIFEST
    if not path.exists():
        content = (folder / LESIONS).read_bytes() + (folder / SLICES).read_bytes()
        return hashlib.sha256(content).hexdigest()
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: holds no digest ({error}); restore it from a copy or mine it again") from error
