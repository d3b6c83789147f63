"""UIDs of what we write: the same result is the same object, whenever and wherever it is emitted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache

import numpy as np

import schemas
from deeplesion_miner.results import Author, ObjectRef, ReportedLesion, Result

UID_CHARACTERS = 64
CORRECTING = "dicom-sr"
"""The kind of object that names its predecessors, and so is another one where they are others."""
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def derived_uid(*parts: str) -> str:
    """A UID below 2.25 (PS3.5 B.2) from the first 128 bits of the sha256 of the parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"


@lru_cache(maxsize=1)  # every lesion of a result asks for it, and results are compared as objects
def content_digest(result: Result) -> str:
    """Hex sha256 over all that a result says, without the time at which it was made and what it follows."""
    parts = [
        result.study_instance_uid,
        _said_of(result.author),
        _said(result.response),
        *([_said(result.response_basis)] if result.response_basis else []),
        *([_said(result.response_notes)] if result.response_notes else []),
        *(_content(one) for one in result.lesions),
    ]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _said_of(author: Author) -> str:
    return _said((author.name, author.version, author.manufacturer, author.is_algorithm, author.parameters))


def _content(one: ReportedLesion) -> str:
    masks = [
        (image, mask.first_column, mask.first_row, mask.bits.shape, hashlib.sha256(mask.bits.tobytes()).hexdigest())
        for image, mask in one.masks
    ]
    drawn = (one.image, one.long_axis, one.short_axis, one.box, one.volume_mm3)
    said = (one.key, one.label, one.finding, one.site, one.lesion_type, one.score, one.tracking_uid, one.prior)
    return _said((drawn, said, masks, one.prior_note) if one.prior_note else (drawn, said, masks))


def _said(value: object) -> str:
    """A value as text that depends on what it says alone: a number is the same from a model and from a file."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return f"({', '.join(_said(one) for one in value)})"
    if is_dataclass(value):
        named = (f"{one.name}={_said(getattr(value, one.name))}" for one in fields(value))
        return f"{type(value).__name__}({', '.join(named)})"
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def object_uid(kind: str, result: Result, settings: str) -> str:
    """SOP Instance UID of the object of this kind (a word of `dicom_io.emit.KINDS`), written with these settings."""
    return _uid("object", kind, result, settings, result.predecessors)


def report_uid(result: Result, predecessors: Sequence[ObjectRef], settings: str) -> str:
    """SOP Instance UID that the report of a result's crosses has where it names these predecessors."""
    return _uid("object", CORRECTING, result, settings, predecessors)


def series_uid(kind: str, result: Result, settings: str) -> str:
    """Series Instance UID: one object a series, since viewers show only the newest report of a series."""
    return _uid("series", kind, result, settings, result.predecessors)


def _uid(what: str, kind: str, result: Result, settings: str, predecessors: Sequence[ObjectRef]) -> str:
    """Derived from all that the object's bytes depend on: the result, the settings, how this kind is laid out."""
    named = _said(tuple(predecessors)) if kind == CORRECTING else ""
    return derived_uid(what, kind, layout_of(kind), settings, content_digest(result), named)


def layout_of(kind: str) -> str:
    """The number of the kind's layout: with another one, the same result is another object."""
    return str(schemas.load("emit")["layout"][kind])


def tracking_uid(result: Result, lesion: ReportedLesion) -> str:
    """The lesion's own tracking UID, else one derived from the study, the author and what the lesion is.

    So it stays, whatever other lesions the result has. One that is no UID (PS3.5 9.1) is not taken over, nor is one
    that another lesion of the result has had before: viewers merge groups of one tracking UID.
    """
    own = lesion.tracking_uid
    taken = next((one.key for one in result.lesions if one.tracking_uid == own), lesion.key) != lesion.key
    if len(own) <= UID_CHARACTERS and _UID.fullmatch(own) and not taken:
        return own
    return derived_uid("lesion", result.study_instance_uid, _said_of(result.author), _content(lesion))
