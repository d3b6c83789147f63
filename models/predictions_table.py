"""Detections as Parquet files and back, bit for bit; columns are those of `schemas/predictions.toml`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import schemas
from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.types import Box, ImageRef, Segment
from models.durable import sync

SUFFIX = ".parquet"
VOLUMES_SUFFIX = ".volumes.parquet"
_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float64[4]": pa.list_(pa.field("element", pa.float64()), 4),
    "binary": pa.binary(),
}


@dataclass(frozen=True, eq=False)
class ReferenceMask:
    """The true mask of one marked lesion on one slice."""

    mark_id: str
    """lesion_id of the dataset, or 'row 17' (0-based) of a DL_info.csv."""
    file_name: str
    mask: PixelMask


def volumes_path(path: Path) -> Path:
    """Where the 3-D masks of a predictions file lie: 'a.volumes.parquet' beside 'a.parquet'."""
    return path.with_name(path.name.removesuffix(SUFFIX) + VOLUMES_SUFFIX)


def write_predictions(path: Path, detections: Iterable[Detection]) -> int:
    """Writes detections in the given order and says how many; the 3-D masks, if any, go to `volumes_path(path)`.

    Each file appears whole or not at all. ConfigError for a name that is not '*.parquet', ValueError for a score
    outside 0 to 1 or a box that is not finite.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: predictions are Parquet; name a file that ends in {SUFFIX}")
    rows: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    for number, detection in enumerate(detections):
        rows.append(_row(detection))
        volumes += [
            {"detection": number, **_image_columns(image), **_mask_columns(mask)} for image, mask in detection.volume
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    if volumes:
        _write(volumes_path(path), "volumes", volumes)
    else:
        volumes_path(path).unlink(missing_ok=True)
    _write(path, "detections", rows)
    return len(rows)


def read_predictions(path: Path) -> tuple[Detection, ...]:
    """The detections of a file in its order, with the 3-D masks that lie beside it.

    ConfigError where the file is absent, not Parquet, or not of these columns.
    """
    volumes: dict[int, list[tuple[ImageRef | str, PixelMask]]] = {}
    if volumes_path(path).exists():
        for row in _rows(volumes_path(path), "volumes"):
            volumes.setdefault(row["detection"], []).append((_image(row), _mask(row)))
    detections = tuple(_detection(row, tuple(volumes.get(k, ()))) for k, row in enumerate(_rows(path, "detections")))
    homeless = [number for number in volumes if not 0 <= number < len(detections)]
    if homeless:
        raise ConfigError(
            f"{volumes_path(path)}: names detection {min(homeless)}, {path.name} has {len(detections)};"
            " the files do not belong together: predict again"
        )
    return detections


def write_reference_masks(path: Path, masks: Iterable[ReferenceMask]) -> int:
    """Writes true masks in the given order and says how many."""
    rows = [{"mark_id": one.mark_id, "file_name": one.file_name, **_mask_columns(one.mask)} for one in masks]
    _write(path, "reference_masks", rows)
    return len(rows)


def read_reference_masks(path: Path) -> tuple[ReferenceMask, ...]:
    """The true masks of a file in its order. ConfigError as `read_predictions`."""
    return tuple(ReferenceMask(row["mark_id"], row["file_name"], _mask(row)) for row in _rows(path, "reference_masks"))


def _row(detection: Detection) -> dict[str, Any]:
    box = detection.box
    if not np.isfinite([box.x_min, box.y_min, box.x_max, box.y_max]).all() or not 0 <= detection.score <= 1:
        raise ValueError(
            f"detection on {detection.image}: box {box}, score {detection.score}: not a number or not 0..1"
        )
    return {
        **_image_columns(detection.image),
        "x_min": box.x_min,
        "y_min": box.y_min,
        "x_max": box.x_max,
        "y_max": box.y_max,
        "score": detection.score,
        "model_id": detection.model_id,
        "label": detection.label,
        "long_axis_px": _ends(detection.long_axis),
        "short_axis_px": _ends(detection.short_axis),
        "long_axis_mm": detection.long_axis_mm,
        "short_axis_mm": detection.short_axis_mm,
        "volume_mm3": detection.volume_mm3,
        **({} if detection.mask is None else _mask_columns(detection.mask)),
    }


def _detection(row: Mapping[str, Any], volume: tuple[tuple[ImageRef | str, PixelMask], ...]) -> Detection:
    return Detection(
        image=_image(row),
        box=Box(row["x_min"], row["y_min"], row["x_max"], row["y_max"]),
        score=row["score"],
        model_id=row["model_id"],
        label=row["label"],
        long_axis=_segment(row["long_axis_px"]),
        short_axis=_segment(row["short_axis_px"]),
        long_axis_mm=row["long_axis_mm"],
        short_axis_mm=row["short_axis_mm"],
        mask=None if row["mask_bits"] is None else _mask(row),
        volume=volume,
        volume_mm3=row["volume_mm3"],
    )


def _image_columns(image: ImageRef | str) -> dict[str, Any]:
    if isinstance(image, str):
        return {
            "file_name": image,
            "study_instance_uid": "",
            "series_instance_uid": "",
            "sop_instance_uid": "",
            "frame_number": None,
        }
    return {
        "file_name": "",
        "study_instance_uid": image.study_instance_uid,
        "series_instance_uid": image.series_instance_uid,
        "sop_instance_uid": image.sop_instance_uid,
        "frame_number": image.frame_number,
    }


def _image(row: Mapping[str, Any]) -> ImageRef | str:
    if row["frame_number"] is None:
        return str(row["file_name"])
    return ImageRef(row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"], row["frame_number"])


def _mask_columns(mask: PixelMask) -> dict[str, Any]:
    rows, columns = mask.bits.shape
    return {
        "first_column": mask.first_column,
        "first_row": mask.first_row,
        "mask_columns": columns,
        "mask_rows": rows,
        "mask_bits": np.packbits(mask.bits).tobytes(),
    }


def _mask(row: Mapping[str, Any]) -> PixelMask:
    rows, columns = row["mask_rows"], row["mask_columns"]
    packed = np.frombuffer(row["mask_bits"], np.uint8)
    bits = np.unpackbits(packed, count=rows * columns).astype(np.bool_).reshape(rows, columns)
    return PixelMask(row["first_column"], row["first_row"], bits)


def _ends(segment: Segment | None) -> list[float] | None:
    return None if segment is None else [*segment.start, *segment.end]


def _segment(ends: Sequence[float] | None) -> Segment | None:
    return None if ends is None else Segment((ends[0], ends[1]), (ends[2], ends[3]))


def _arrow_schema(table: str) -> Any:
    facts = schemas.load("predictions")
    fields = [
        pa.field(name, _TYPES[column["type"]], column["nullable"])
        for name, column in facts["tables"][table]["columns"].items()
    ]
    return pa.schema(fields, {"schema_version": str(facts["schema_version"])})


def _write(path: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    schema = _arrow_schema(table)
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.table(columns, schema=schema), partial, compression="zstd", version="2.6")
    sync(partial)
    partial.replace(path)


def _rows(path: Path, table: str) -> Iterator[dict[str, Any]]:
    schema = _arrow_schema(table)
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: not a readable Parquet file of {table}: {error}") from error
    differing = sorted({one.name for one in set(found.schema) ^ set(schema)})
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"{path}: not a table of {table}: missing, unknown or of another type are {', '.join(differing[:3])}{more}"
        )
    columns = [found.column(name).to_pylist() for name in schema.names]
    for values in zip(*columns, strict=True):
        yield dict(zip(schema.names, values, strict=True))
