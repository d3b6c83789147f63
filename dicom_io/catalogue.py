"""Objects that are answered for: their keys, and how a C-FIND identifier selects among them (PS3.4 C.2.2).

The node answers so for its own results, the embedded archive of tests for all that it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

PATIENT_KEYS = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY_KEYS = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "ReferringPhysicianName",
)
SERIES_KEYS = ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined")
IMAGE_KEYS = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "NumberOfFrames", "Rows", "Columns")
COUNTED_KEYS = {
    "STUDY": (
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    "SERIES": ("NumberOfSeriesRelatedInstances",),
    "IMAGE": (),
}
LEVEL_KEYS = {
    "STUDY": PATIENT_KEYS + STUDY_KEYS,
    "SERIES": PATIENT_KEYS + STUDY_KEYS + SERIES_KEYS,
    "IMAGE": PATIENT_KEYS + STUDY_KEYS + SERIES_KEYS + IMAGE_KEYS,
}
UNIQUE_KEY = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
"""The key that names one entity of a level (PS3.4 C.6.2.1)."""
REQUIRED_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True)
class StoredObject:
    """One Part 10 file of the archive: where it lies, how it is encoded, and its keys as text."""

    path: Path
    transfer_syntax_uid: str
    keys: Mapping[str, str]

    @property
    def sop_instance_uid(self) -> str:
        """The SOP Instance UID."""
        return self.keys["SOPInstanceUID"]

    @property
    def sop_class_uid(self) -> str:
        """The SOP Class UID."""
        return self.keys["SOPClassUID"]


def read_stored_object(path: Path) -> StoredObject | None:
    """The object's keys, read from its header only; None for a file that is not a usable Part 10 object."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(LEVEL_KEYS["IMAGE"]))
    except (InvalidDicomError, EOFError, ValueError, KeyError, OSError, NotImplementedError):
        return None
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or any(not header.get(key) for key in REQUIRED_KEYS):
        return None
    return StoredObject(path, str(syntax), keys_of(header))


def keys_of(header: Dataset) -> dict[str, str]:
    """The keys of all levels as text, '' where the object lacks them."""
    return {key: _text(header.get(key)) for key in LEVEL_KEYS["IMAGE"]}


def _text(value: object) -> str:
    """A value as C-FIND compares it; the parts of a multiple value are joined by a backslash."""
    if isinstance(value, MultiValue):
        return "\\".join(str(part) for part in value)
    return "" if value is None else str(value)


def entities(objects: Iterable[StoredObject], level: str) -> Iterator[dict[str, str]]:
    """One row of keys for each study, series or image, with the counts of its level; sorted by unique key."""
    groups: dict[str, list[StoredObject]] = {}
    for stored in objects:
        groups.setdefault(stored.keys[UNIQUE_KEY[level]], []).append(stored)
    for _, members in sorted(groups.items()):
        row = {key: members[0].keys[key] for key in LEVEL_KEYS[level]}
        if level == "STUDY":
            row["ModalitiesInStudy"] = "\\".join(sorted({m.keys.get("Modality", "") for m in members}))
            row["SOPClassesInStudy"] = "\\".join(sorted({m.sop_class_uid for m in members}))
            row["NumberOfStudyRelatedSeries"] = str(len({m.keys["SeriesInstanceUID"] for m in members}))
            row["NumberOfStudyRelatedInstances"] = str(len(members))
        if level == "SERIES":
            row["NumberOfSeriesRelatedInstances"] = str(len(members))
        yield row


def matches(row: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """True where every non-empty key of `wanted` that rows of this level hold matches (PS3.4 C.2.2.2).

    Other keys are not matched on, as an archive does with keys that it does not support.
    """
    return all(_matcher(key)(row.get(key, ""), value) for key, value in wanted.items() if value and key in row)


def wanted_keys(identifier: Dataset) -> dict[str, str]:
    """The identifier's keys with their values as text, '' for universal matching; without level and charset."""
    technical = {"QueryRetrieveLevel", "SpecificCharacterSet"}
    return {
        element.keyword: _text(element.value)
        for element in identifier
        if element.keyword and element.keyword not in technical and element.VR != "SQ"
    }


def _matcher(key: str) -> Callable[[str, str], bool]:
    representation = dictionary_VR(key)
    if representation in ("DA", "TM"):
        return _in_range
    if representation == "UI":
        return _in_list
    if key == "PatientName":
        return lambda value, pattern: _like(value.lower(), pattern.lower())
    return _like


def _in_range(value: str, wanted: str) -> bool:
    """Range matching, both ends inclusive and each end optional (C.2.2.2.5)."""
    if "-" not in wanted:
        return value == wanted
    low, _, high = wanted.partition("-")
    return bool(value) and (not low or value >= low) and (not high or value <= high)


def _in_list(value: str, wanted: str) -> bool:
    """List of UID matching (C.2.2.2.2)."""
    return bool(set(value.split("\\")) & set(wanted.split("\\")))


def _like(value: str, wanted: str) -> bool:
    """Wild card matching with * and ? (C.2.2.2.4); any value of either side may match."""
    patterns = [
        re.compile(re.escape(pattern.strip()).replace(r"\*", ".*").replace(r"\?", "."))
        for pattern in wanted.split("\\")
    ]
    return any(pattern.fullmatch(part.strip()) for pattern in patterns for part in value.split("\\"))
