"""Rows of the outbox as values, and values as its columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dicom_io.delivery_rules import Standing, State


@dataclass(frozen=True)
class Parcel:
    """An object of the outbox: what is to go where, and how it stands."""

    number: int
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    kind: str
    sha256: str
    """Of the whole file, hex."""
    stored_sha256: str
    """Of what an archive stores of it (`ObjectFile.stored_sha256`); '' in rows of older versions."""
    size_bytes: int
    file_kept: bool
    standing: Standing


PARCEL = ", ".join(item.name for item in fields(Parcel) if item.name != "standing")
STANDING = ", ".join(item.name for item in fields(Standing))
"""Columns as `parcel` and `standing` take them."""


def parcel(row: Sequence[Any]) -> Parcel:
    """A row of the columns `PARCEL`, then `STANDING`."""
    names = [item.name for item in fields(Parcel)][:-1]
    named = dict(zip(names, row, strict=False))
    return Parcel(**{**named, "file_kept": bool(named["file_kept"])}, standing=standing(row[len(names) :]))


def standing(values: Sequence[Any]) -> Standing:
    """Values of the columns `STANDING`."""
    named = dict(zip((item.name for item in fields(Standing)), values, strict=True))
    return Standing(**{**named, "state": State(named["state"]), "maybe_there": bool(named["maybe_there"])})


def marks(values: Collection[object]) -> str:
    """A question mark for each."""
    return ", ".join("?" * len(values))


def column(value: Any) -> Any:
    """A value as SQLite takes it: lone surrogates of broken text are escaped."""
    if not isinstance(value, str):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
