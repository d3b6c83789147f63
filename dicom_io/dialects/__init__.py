"""Dialects of bookmarks: finds out which one an object speaks, and reads it.

An object speaks exactly one dialect. What no dialect reads is one bookmark of its kind, so that it is counted.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.studies import ObjectReading, PatientFacts
from deeplesion_miner.types import Bookmark, Kind, Source, Unreadable
from dicom_io.attributes import items, quiet, text
from dicom_io.dialects import tid1500
from dicom_io.dialects.content_tree import content_tree
from dicom_io.planes import patient_of

MEASUREMENT_MODALITIES: tuple[str, ...] = tuple(schemas.load("dialects/objects")["measurement_modalities"])
"""Modalities of the series that may hold bookmarks."""
CONTENT_TREE = "sr"
"""Dialect name of a report whose tree holds nothing that is read."""


def has_content_tree(sop_class_uid: str, modality: str) -> bool:
    """True for a structured report, whose tree must be fetched to know what it holds."""
    return sop_class_uid in schemas.load("dialects/objects")["content_tree"] or modality == "SR"


def kind_of(sop_class_uid: str, modality: str) -> Kind:
    """What an object without a content tree is called, by its SOP class, else by its modality."""
    table = schemas.load("dialects/objects")
    named = table["kind_of_sop_class"].get(sop_class_uid) or table["kind_of_modality"].get(modality)
    return Kind(named) if named else Kind.OTHER_OBJECT


def read_object(ds: Dataset, path_or_uid: str) -> ObjectReading | Unreadable:
    """Reads one measurement object; Unreadable (missing_attribute) where it does not say what and whose it is.

    `path_or_uid` names the object in an Unreadable.
    """
    with quiet():
        for keyword, tag in (("SOPInstanceUID", "(0008,0018)"), ("StudyInstanceUID", "(0020,000D)")):
            if not text(ds, keyword):
                return Unreadable(path_or_uid, "missing_attribute", detail=f"{keyword} {tag} is missing or empty")
        sop_class, modality = text(ds, "SOPClassUID"), text(ds, "Modality")
        if has_content_tree(sop_class, modality):
            return _read_report(ds)
        return ObjectReading(_source(ds, ""), patient_of(ds), (_whole(_source(ds, ""), kind_of(sop_class, modality)),))


def unread(
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    sop_class_uid: str,
    modality: str,
    patient: PatientFacts,
) -> ObjectReading:
    """The reading of an object of a kind that is not read, by what the archive lists: it is not fetched."""
    source = Source(study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, "")
    return ObjectReading(source, patient, (_whole(source, kind_of(sop_class_uid, modality)),))


def _read_report(ds: Dataset) -> ObjectReading:
    tree = content_tree(ds)
    if tid1500.is_report(tree):
        bookmarks = tid1500.bookmarks_of(ds, tree, _source(ds, tid1500.NAME))
        if bookmarks:
            return ObjectReading(bookmarks[0].source, patient_of(ds), bookmarks)
    source = _source(ds, CONTENT_TREE)
    return ObjectReading(source, patient_of(ds), (_whole(source, Kind.NO_MEASUREMENT_GROUPS),))


def _whole(source: Source, kind: Kind) -> Bookmark:
    return Bookmark(source=source, item_path="", kind=kind)


def _source(ds: Dataset, dialect: str) -> Source:
    return Source(
        study_instance_uid=text(ds, "StudyInstanceUID"),
        series_instance_uid=text(ds, "SeriesInstanceUID"),
        sop_instance_uid=text(ds, "SOPInstanceUID"),
        sop_class_uid=text(ds, "SOPClassUID"),
        dialect=dialect,
        content_datetime=content_datetime(ds),
        predecessors=_predecessors(ds),
    )


def content_datetime(ds: Dataset) -> str:
    """YYYYMMDDHHMMSS[.ffffff] of ContentDate and ContentTime; '' where the date is no date."""
    date = "".join(character for character in text(ds, "ContentDate") if character.isdigit())
    if len(date) != 8:
        return ""
    time = text(ds, "ContentTime").replace(":", "")
    whole, _, fraction = time.partition(".")
    if not whole.isdigit() or len(whole) > 6 or not fraction.isdigit():
        fraction = ""
    whole = whole if whole.isdigit() and len(whole) <= 6 else ""
    return date + whole.ljust(6, "0") + (f".{fraction}" if fraction else "")


def _predecessors(ds: Dataset) -> tuple[str, ...]:
    """SOP Instance UIDs of PredecessorDocumentsSequence (PS3.3 C.17.2.2), in order."""
    found = [
        text(sop, "ReferencedSOPInstanceUID")
        for study in items(ds, "PredecessorDocumentsSequence")
        for series in items(study, "ReferencedSeriesSequence")
        for sop in items(series, "ReferencedSOPSequence")
    ]
    return tuple(uid for uid in dict.fromkeys(found) if uid)
