"""SQL over a dataset: duckdb with one table for each Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from dataset_builder.schema import TABLES
from deeplesion_miner.errors import ConfigError

ROWS_AT_A_TIME = 1000


def query(folder: Path, sql: str) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """Column names and rows of a query over lesions, slices, bookmarks and splits.

    Raises ConfigError where the folder is no dataset or the query is not understood.
    """
    connection = duckdb.connect()
    for table in TABLES:
        path = folder / f"{table}.parquet"
        if not path.is_file():
            raise ConfigError(f"{folder}: not a dataset, {path.name} is missing")
        connection.register(table, pq.read_table(path))
    try:
        cursor = connection.execute(sql)
    except duckdb.Error as error:
        raise ConfigError(f"SQL: {error}; the tables are {', '.join(TABLES)}") from error
    return tuple(column[0] for column in cursor.description or ()), _rows(cursor)


def _rows(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(ROWS_AT_A_TIME):
        yield from rows
