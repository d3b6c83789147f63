"""Feedback as a Parquet file and back; columns are those of `schemas/feedback.toml`, same rows give same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import schemas
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.feedback_rows import FeedbackRow

SUFFIX = ".parquet"
_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "float64[4]": pa.list_(pa.field("element", pa.float64()), 4),
    "bool": pa.bool_(),
}


def write_feedback(path: Path, rows: Sequence[FeedbackRow]) -> int:
    """Writes the rows in their order and says how many; the file appears whole or not at all.

    ConfigError for a name that is not '*.parquet'.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: feedback is Parquet; name a file that ends in {SUFFIX}")
    schema = _arrow_schema()
    columns = {name: [_plain(getattr(row, name)) for row in rows] for name in schema.names}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.table(columns, schema=schema), partial, compression="zstd", version="2.6")
    partial.replace(path)
    return len(rows)


def read_feedback(path: Path) -> tuple[FeedbackRow, ...]:
    """The rows of a file in its order. ConfigError where it is absent, not Parquet, or not of these columns."""
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: not a readable Parquet file of feedback: {error}") from error
    differing = sorted({one.name for one in set(found.schema) ^ set(_arrow_schema())})
    if differing:
        raise ConfigError(
            f"{path}: not a table of feedback: missing, unknown or of another type are {', '.join(differing[:3])}"
        )
    return tuple(FeedbackRow(**{name: _frozen(value) for name, value in row.items()}) for row in found.to_pylist())


def columns_of(row: FeedbackRow) -> dict[str, Any]:
    """The row by column name."""
    return asdict(row)


def _arrow_schema() -> Any:
    facts = schemas.load("feedback")
    fields = [
        pa.field(name, _TYPES[column["type"]], column["nullable"])
        for name, column in facts["tables"]["feedback"]["columns"].items()
    ]
    return pa.schema(fields, {"schema_version": str(facts["schema_version"])})


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
