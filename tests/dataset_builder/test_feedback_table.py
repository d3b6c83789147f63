"""The feedback table as a file: what was written is read back, nothing else is taken for it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import schemas
from dataset_builder.feedback_table import read_feedback, write_feedback
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.feedback_rows import FeedbackRow

COLUMNS = schemas.load("feedback")["tables"]["feedback"]["columns"]
EXAMPLES = {"string": "caf\u00e9", "int32": 3, "float64": 0.1, "float64[4]": (0.1, 2.0, 3.5, -4.0), "bool": True}
FULL = FeedbackRow(**{name: EXAMPLES[facts["type"]] for name, facts in COLUMNS.items()})
BARE = replace(FULL, **{name: None for name, facts in COLUMNS.items() if facts["nullable"]})


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert write_feedback(tmp_path / "new" / "told.parquet", [FULL, BARE]) == 2
    assert read_feedback(tmp_path / "new" / "told.parquet") == (FULL, BARE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["told.parquet"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.parquet", "two.parquet"):
        write_feedback(tmp_path / name, [FULL, BARE])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_columns_stand_in_the_order_of_the_schema(tmp_path: Path) -> None:
    write_feedback(tmp_path / "told.parquet", [])
    assert pq.read_schema(tmp_path / "told.parquet").names == list(COLUMNS) == [one.name for one in fields(FeedbackRow)]


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.parquet"):
        write_feedback(tmp_path / "told.csv", [FULL])


def test_what_is_no_table_of_feedback_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"no table")
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        read_feedback(path)
    pq.write_table(pa.table({"verdict": ["kept"], "mood": ["good"]}), path)
    with pytest.raises(ConfigError, match="not a table of feedback: missing, unknown or of another type are "):
        read_feedback(path)
