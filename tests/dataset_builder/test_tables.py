"""Records to Parquet and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import factories
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.schema import TABLES
from dataset_builder.tables import Tables, gather, ordered, read_rows, to_parquet
from deeplesion_miner.errors import VerificationFailed


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return gather(factories.staged(tmp_path)[1])


@pytest.mark.parametrize("table", TABLES)
def test_what_was_written_is_read(table: str, tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(to_parquet(table, tables.rows(table)))
    assert read_rows(path, table) == tables.rows(table)
    assert tables.rows(table)


def test_the_order_of_studies_does_not_matter(tmp_path: Path) -> None:
    samples = factories.staged(tmp_path)[1]
    shuffled = samples[::-1]
    for table in TABLES:
        assert to_parquet(table, gather(shuffled).rows(table)) == to_parquet(table, gather(samples).rows(table))


def test_rows_are_sorted_by_patient_study_series_key_slice_and_lesion() -> None:
    rows = [
        factories.lesion(2),
        factories.lesion(1, key=1003),
        factories.lesion(1, key=99),
        factories.lesion(1, 1, 2, key=5),
    ]
    assert [(r.patient_index, r.series_index, r.key_slice_number) for r in ordered("lesions", rows)] == [
        (1, 1, 99),
        (1, 1, 1003),
        (1, 2, 5),
        (2, 1, 12),
    ]


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        to_parquet("lesions", [replace(factories.lesion(), patient_index="one")])  # type: ignore[arg-type]


def test_sql_reads_lists_as_lists_and_absent_values_as_null(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "lesions.parquet"
    path.write_bytes(to_parquet("lesions", tables.lesions))
    (found,) = duckdb.sql(f"select count(*), count(short_axis_px), min(box_px[3] - box_px[1]) from '{path}'").fetchall()
    boxes = [r.box_px[2] - r.box_px[0] for r in tables.lesions]
    assert found == (5, 4, min(boxes))


def test_another_schema_version_is_refused_with_what_to_do(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(to_parquet("splits", tables.splits))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"schema_version": b"99"}), path)
    with pytest.raises(VerificationFailed, match="schema version 99"):
        read_rows(path, "splits")


def test_missing_columns_and_broken_files_are_refused(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(to_parquet("splits", tables.splits))
    pq.write_table(pq.read_table(path).drop_columns(["lesions"]), path)
    with pytest.raises(VerificationFailed, match="lesions: int32"):
        read_rows(path, "splits")
    path.write_bytes(b"PAR1")
    with pytest.raises(VerificationFailed, match="not a readable Parquet"):
        read_rows(path, "splits")


def test_each_patient_has_one_split_with_the_number_of_its_lesions(tables: Tables) -> None:
    assert [(r.patient_index, r.split, r.lesions) for r in tables.splits] == [
        (1, "train", 2),
        (2, "val", 2),
        (3, "test", 1),
    ]
