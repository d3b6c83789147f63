"""Who wrote a report, by what its data set says; a writer's deviations are data (`schemas/dialects/*.toml`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

import schemas
from dicom_io.attributes import items, text


@dataclass(frozen=True)
class Writer:
    """A recognised writer: name and quirks as in the dialect's table; '' and () where none is recognised."""

    name: str = ""
    quirks: tuple[str, ...] = ()


def writer_of(ds: Dataset, dialect: str, tracking_identifiers: Sequence[str]) -> Writer:
    """The first writer of the dialect's table whose conditions all hold."""
    for row in schemas.load(f"dialects/{dialect}")["writer"]:
        if _holds(row, ds, tracking_identifiers):
            return Writer(row["name"], tuple(row["quirks"]))
    return Writer()


def _holds(row: dict[str, Any], ds: Dataset, tracking_identifiers: Sequence[str]) -> bool:
    prefixes = tuple(row.get("tracking_prefix", ()))
    equipment = row.get("equipment", "")
    return (
        all(text(ds, keyword) == wanted for keyword, wanted in row.get("equals", {}).items())
        and all(wanted in text(ds, keyword) for keyword, wanted in row.get("contains", {}).items())
        and (not prefixes or any(identifier.startswith(prefixes) for identifier in tracking_identifiers))
        and (not equipment or equipment in _equipment(ds))
    )


def _equipment(ds: Dataset) -> str:
    """Manufacturers and models of the contributing equipment, in lower case."""
    return " ".join(
        text(one, keyword)
        for one in items(ds, "ContributingEquipmentSequence")
        for keyword in ("Manufacturer", "ManufacturerModelName")
    ).lower()
