"""schemas/dataset.toml and deeplesion_miner/records.py say the same."""

from __future__ import annotations

import dataclasses

import pytest

import schemas
from dataset_builder import dl_info
from dataset_builder.schema import ARROW_TYPES, TABLES, arrow_schema, columns, key, order, schema_digest
from dataset_builder.tables import RECORDS, record_fields

PYTHON_TYPES = {
    "str": ("string", False),
    "int": ("int32", False),
    "float": ("float64", False),
    "bool": ("bool", False),
    "int | None": ("int32", True),
    "float | None": ("float64", True),
    "tuple[str, ...]": ("string[]", False),
    "tuple[float, float, float, float]": ("float64[4]", False),
    "tuple[float, float, float, float] | None": ("float64[4]", True),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_field_of_a_record_is_a_column_and_every_column_a_field_in_the_same_order(table: str) -> None:
    assert record_fields(table) == tuple(column.name for column in columns(table))


@pytest.mark.parametrize("table", TABLES)
def test_type_and_nullability_of_a_column_are_those_of_the_field(table: str) -> None:
    fields = {field.name: PYTHON_TYPES[str(field.type)] for field in dataclasses.fields(RECORDS[table])}
    assert fields == {column.name: (column.type, column.nullable) for column in columns(table)}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_says_what_it_means_in_which_unit_and_how_private_it_is(table: str) -> None:
    privacy = schemas.load("dataset")["privacy"]
    for column in columns(table):
        assert column.meaning.endswith(".") or column.meaning.endswith("..."), column.name
        assert column.type in ARROW_TYPES
        assert column.privacy in privacy, column.name
        for suffix, unit in (("_mm", "mm"), ("_px", "px"), ("_hu", "HU"), ("_deg", "deg"), ("_years", "years")):
            if column.name.endswith(suffix):
                assert column.unit.split("/")[0] == unit, column.name


@pytest.mark.parametrize("table", TABLES)
def test_keys_and_order_name_columns(table: str) -> None:
    assert set(key(table)) | set(order(table)) <= {column.name for column in columns(table)}


def test_every_column_of_dl_info_has_a_source_and_every_source_is_a_column_of_dl_info() -> None:
    assert {c.dl_info for c in columns("lesions") if c.dl_info} == set(dl_info.header().split(","))


def test_the_arrow_schema_carries_version_and_digest_of_the_schema() -> None:
    metadata = arrow_schema("lesions").metadata
    assert metadata[b"schema_version"] == b"1"
    assert metadata[b"schema_digest"].decode() == schema_digest()


def test_the_margin_stated_in_words_is_the_margin_stated_as_a_number() -> None:
    margin = schemas.load("dataset")["box_margin_px"]
    (meaning,) = (c.meaning for c in columns("lesions") if c.name == "box_px")
    assert f"{margin:g} px" in meaning
