"""One result, several objects: which kinds there are, what each took and what it had to leave out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from deeplesion_miner.results import Result
from dicom_io.attributes import text
from dicom_io.emit.finite import all_finite, not_finite
from dicom_io.emit.source import SourceImages
from dicom_io.store import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

KINDS = ("dicom-sr", "dicom-seg", "volume-sr", "rtstruct", "gsps", "kos")
"""Kinds of objects: RECIST report, segmentation, report of volumes, contours, presentation state, key objects.

They are written in this order, so that each may refer to those before it.
"""

_WRITERS = {
    "dicom-sr": "dicom_io.emit.recist_sr",
    "volume-sr": "dicom_io.emit.volume_sr",
    "dicom-seg": "dicom_io.emit.seg",
    "rtstruct": "dicom_io.emit.rtstruct",
    "gsps": "dicom_io.emit.gsps",
    "kos": "dicom_io.emit.kos",
}
"""The module of each kind; its `write` is a `Writer`."""


@dataclass(frozen=True)
class EmitSettings:
    """How objects are written. What an object depends on is part of what its UIDs are derived from, no more."""

    planar_boxes: bool = False
    """Reports hold a box group (TID 1410) beside each cross, which 3D Slicer shows."""
    segmentation: Literal["binary", "fractional", "labelmap"] = "binary"
    """Viewers open binary ones only."""
    segmentation_syntax: Literal["explicit", "rle", "deflated"] = "explicit"
    """Transfer syntax of segmentations; an archive that refuses it gets explicit VR little endian."""


@dataclass(frozen=True)
class LeftOut:
    """A lesion that an object does not hold, and why."""

    key: str
    """Of the lesion."""
    label: str
    kind: str
    why: str
    """A code of `schemas/emit.toml` left_out."""


@dataclass(frozen=True)
class EmittedObject:
    """A whole PS3.10 file with what an outbox and an archive must know of it."""

    kind: str
    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    encoded: bytes
    issuer_of_patient_id: str = ""
    """Whose numbers the PatientID is one of; '' where the object does not say."""


@dataclass(frozen=True)
class Emission:
    """What a result became."""

    objects: tuple[EmittedObject, ...]
    left_out: tuple[LeftOut, ...]
    corrects: tuple[str, ...] = ()
    """SOP Instance UIDs of earlier reports of the algorithm that the report newly names as its predecessors."""
    corrected_by: tuple[str, ...] = ()
    """Of the reports that correct this one, where an earlier report said the same and others came after it."""


Written = tuple[Dataset | tuple[Dataset, ...] | None, tuple[LeftOut, ...]]
"""A data set with file meta information, or one a series (None or () where no lesion is left), and what they lack."""
Writer = Callable[[Result, SourceImages, EmitSettings, Mapping[str, Dataset]], Written]
"""The last argument holds what was written before for the same result, by kind: what may be referred to.

Further objects of a kind stand under 'kind/2' and so on.
"""


def emit(result: Result, source: SourceImages, kinds: Sequence[str], settings: EmitSettings | None = None) -> Emission:
    """The objects of a result in the order of `KINDS`, deterministic but for nothing: the same input, the same bytes.

    Every lesion is in each object, or in `left_out` with its reason. ValueError for an unknown kind.
    """
    settings = settings or EmitSettings()
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"{unknown[0]} is no kind of object; kinds are {', '.join(KINDS)}")
    before: dict[str, Dataset] = {}
    left_out = [LeftOut(one.key, one.label, kind, "not_finite") for kind in kinds for one in not_finite(result)]
    result = all_finite(result)
    for kind in KINDS:
        if kind not in kinds:
            continue
        writer: Writer = import_module(_WRITERS[kind]).write
        written, left = writer(result, source, settings, before)
        left_out.extend(left)
        datasets = (written,) if isinstance(written, Dataset) else written or ()
        before.update((kind if number == 1 else f"{kind}/{number}", one) for number, one in enumerate(datasets, 1))
    encoded = tuple(_encoded(kind.partition("/")[0], dataset) for kind, dataset in before.items())
    return Emission(encoded, tuple(left_out))


def _encoded(kind: str, dataset: Dataset) -> EmittedObject:
    meta = dataset.file_meta
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return EmittedObject(
        kind=kind,
        patient_id=str(dataset.PatientID or ""),
        study_instance_uid=str(dataset.StudyInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        encoded=buffer.getvalue(),
        issuer_of_patient_id=text(dataset, "IssuerOfPatientID"),
    )
