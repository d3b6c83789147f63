"""`schemas/dataset.toml` as values: columns, Arrow schemas, the digest that names this state of the schema."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

import schemas

TABLES = ("lesions", "slices", "bookmarks", "splits")
ARROW_TYPES: dict[str, Any] = {
    "string": pa.string(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "float64[4]": pa.list_(pa.float64()),
    "string[]": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Column:
    """One column of a table of the dataset."""

    name: str
    type: str
    """A key of `ARROW_TYPES`; 'float64[4]' is a list of exactly four."""
    unit: str
    nullable: bool
    privacy: str
    """A key of [privacy] in the schema."""
    meaning: str
    dl_info: str = ""
    """The column of DL_info.csv that is written from it, '' if none."""


@cache
def columns(table: str) -> tuple[Column, ...]:
    """The columns of a table, in order; KeyError for a table that the schema does not know."""
    described = schemas.load("dataset")["tables"][table]["columns"]
    return tuple(Column(name=name, **facts) for name, facts in described.items())


def order(table: str) -> tuple[str, ...]:
    """The columns by which the rows of a table are sorted."""
    return tuple(schemas.load("dataset")["tables"][table]["order"])


def key(table: str) -> tuple[str, ...]:
    """The columns that name a row: no two rows agree in them."""
    return tuple(schemas.load("dataset")["tables"][table]["key"])


def schema_version() -> int:
    """The version of the dataset's schema; grows when a reader of the old one would misread the new."""
    version = schemas.load("dataset")["schema_version"]
    assert isinstance(version, int)
    return version


@cache
def schema_digest() -> str:
    """SHA-256 of the schema file's text (line ends as LF): two datasets with the same one mean the same."""
    return hashlib.sha256(schemas.text("dataset.toml").encode("utf-8")).hexdigest()


@cache
def arrow_schema(table: str) -> Any:
    """The `pyarrow.Schema` of a table; its metadata name the schema's version and digest."""
    fields = [
        pa.field(c.name, ARROW_TYPES[c.type], c.nullable, metadata={"unit": c.unit, "privacy": c.privacy})
        for c in columns(table)
    ]
    metadata = {
        "format": schemas.load("dataset")["format"],
        "table": table,
        "schema_version": str(schema_version()),
        "schema_digest": schema_digest(),
    }
    return pa.schema(fields, metadata=metadata)
