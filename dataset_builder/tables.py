"""Records -> Arrow -> Parquet and back, by the schema; the same rows give the same bytes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder.schema import arrow_schema, columns, order, schema_version
from deeplesion_miner.errors import VerificationFailed
from deeplesion_miner.records import BookmarkRecord, LesionRecord, Sample, SliceRecord

ROW_GROUP_ROWS = 65536
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class SplitRecord:
    """One patient with lesions: one row of splits.parquet."""

    patient_id: str
    patient_index: int
    split: str
    lesions: int


Record = LesionRecord | SliceRecord | BookmarkRecord | SplitRecord
R = TypeVar("R", LesionRecord, SliceRecord, BookmarkRecord, SplitRecord)
RECORDS: dict[str, type[Record]] = {
    "lesions": LesionRecord,
    "slices": SliceRecord,
    "bookmarks": BookmarkRecord,
    "splits": SplitRecord,
}


@dataclass(frozen=True)
class Tables:
    """All rows of a dataset, each table in its schema's order."""

    lesions: tuple[LesionRecord, ...]
    slices: tuple[SliceRecord, ...]
    bookmarks: tuple[BookmarkRecord, ...]
    splits: tuple[SplitRecord, ...]

    def rows(self, table: str) -> tuple[Record, ...]:
        """The rows of a table by its name in the schema."""
        found: tuple[Record, ...] = getattr(self, table)
        return found


def gather(samples: Iterable[Sample]) -> Tables:
    """The rows of many studies in the order of the schema, and the split of each patient."""
    lesions: list[LesionRecord] = []
    slices: list[SliceRecord] = []
    bookmarks: list[BookmarkRecord] = []
    for sample in samples:
        lesions += sample.lesions
        slices += sample.slices
        bookmarks += sample.bookmarks
    return Tables(
        lesions=ordered("lesions", lesions),
        slices=ordered("slices", slices),
        bookmarks=ordered("bookmarks", bookmarks),
        splits=splits(lesions),
    )


def ordered(table: str, rows: Iterable[R]) -> tuple[R, ...]:
    """Rows sorted by the columns that the schema names."""
    return tuple(sorted(rows, key=attrgetter(*order(table))))


def splits(lesions: Iterable[LesionRecord]) -> tuple[SplitRecord, ...]:
    """The split of each patient with lesions, sorted; a patient in two splits gives two rows."""
    counted = Counter((lesion.patient_index, lesion.patient_id, lesion.split) for lesion in lesions)
    return tuple(SplitRecord(id_, index, split, count) for (index, id_, split), count in sorted(counted.items()))


def to_arrow(table: str, rows: Sequence[Record]) -> Any:
    """The `pyarrow.Table` of a table's rows; raises pyarrow.ArrowInvalid for a value of another type."""
    names = [column.name for column in columns(table)]
    arrays = {name: [_plain(getattr(row, name)) for row in rows] for name in names}
    return pa.table(arrays, schema=arrow_schema(table))


def to_parquet(table: str, rows: Sequence[Record]) -> bytes:
    """The Parquet file of a table: fixed row groups and compression, no time stamps."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        to_arrow(table, rows),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression=COMPRESSION,
        compression_level=COMPRESSION_LEVEL,
        version="2.6",
        data_page_version="1.0",
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_rows(path: Path, table: str) -> tuple[Any, ...]:
    """The records of a Parquet file of the dataset, in its order.

    Raises VerificationFailed where the file cannot be read, or its columns or schema version are not those that
    this version of the tool knows.
    """
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise VerificationFailed(f"{path}: not a readable Parquet file ({error}); write the dataset again") from error
    version = (found.schema.metadata or {}).get(b"schema_version", b"none").decode()
    if version != str(schema_version()):
        raise VerificationFailed(
            f"{path}: schema version {version}, this tool reads {schema_version()}; "
            "use the version of the tool that wrote it, or write it again"
        )
    expected = arrow_schema(table)
    if not found.schema.equals(expected):
        differing = sorted(set(map(str, found.schema)) ^ set(map(str, expected)))
        raise VerificationFailed(f"{path}: columns differ from schemas/dataset.toml: {'; '.join(differing)}")
    record = RECORDS[table]
    return tuple(record(**_frozen(row)) for row in found.to_pylist())


def read(folder: Path) -> Tables:
    """All tables of a dataset folder; raises VerificationFailed as `read_rows` does."""
    return Tables(**{table: read_rows(folder / f"{table}.parquet", table) for table in RECORDS})


def record_fields(table: str) -> tuple[str, ...]:
    """The fields of a table's record, in order."""
    return tuple(field.name for field in dataclasses.fields(RECORDS[table]))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _frozen(row: Mapping[str, object]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
