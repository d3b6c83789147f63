"""The document around a report's content tree: patient and study, evidence, predecessors, times, equipment."""

from __future__ import annotations

from collections.abc import Iterable

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import ComprehensiveSR, MeasurementReport
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from deeplesion_miner.results import ObjectRef, Result
from dicom_io.emit import envelope
from dicom_io.emit.identity import object_uid, series_uid
from dicom_io.emit.placed import ImageReference
from dicom_io.emit.source import SourceImages

SERIES_DESCRIPTIONS = {"dicom-sr": "RECIST measurements", "volume-sr": "Lesion volumes", "kos": "Lesions for review"}


def measurement_report(
    kind: str,
    result: Result,
    source: SourceImages,
    content: MeasurementReport,
    evidence: Iterable[ImageReference | ObjectRef],
    *,
    written_with: str,
    predecessors: Iterable[ObjectRef] = (),
) -> Dataset:
    """A Comprehensive SR (PS3.3 A.35.3), complete, preliminary and unverified: nobody has answered for it yet.

    `evidence` are the objects that the content refers to: highdicom raises ValueError where one is missing.
    `written_with` is all that the content depends on beside the result: UIDs are derived from both.
    """
    report = ComprehensiveSR(
        evidence=_stand_ins(evidence, result),
        content=content,
        series_instance_uid=series_uid(kind, result, written_with),
        series_number=envelope.SERIES_NUMBERS[kind],
        sop_instance_uid=object_uid(kind, result, written_with),
        instance_number=1,
        series_description=SERIES_DESCRIPTIONS[kind],
        is_complete=True,
        is_final=False,
        previous_versions=_stand_ins([one for one in predecessors if is_whole(one)], result) or None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
    )
    return _finished(report, result, source)


def key_objects(
    result: Result,
    source: SourceImages,
    content: KeyObjectSelection,
    evidence: Iterable[ImageReference | ObjectRef],
    *,
    written_with: str,
) -> Dataset:
    """A Key Object Selection Document (PS3.3 A.35.4); arguments as those of `measurement_report`."""
    kind = "kos"
    document = KeyObjectSelectionDocument(
        evidence=_stand_ins(evidence, result),
        content=content,
        series_instance_uid=series_uid(kind, result, written_with),
        series_number=envelope.SERIES_NUMBERS[kind],
        sop_instance_uid=object_uid(kind, result, written_with),
        instance_number=1,
        series_description=SERIES_DESCRIPTIONS[kind],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
    )
    return _finished(document, result, source)


def is_whole(ref: ObjectRef) -> bool:
    """True where all is known that a reference must state (PS3.3 10.8): archives do not always list the SOP class."""
    return all((ref.study_instance_uid, ref.series_instance_uid, ref.sop_instance_uid, ref.sop_class_uid))


def object_ref(dataset: Dataset) -> ObjectRef:
    """How to refer to an object that was written before."""
    return ObjectRef(
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SOPClassUID),
    )


def stand_in(ref: ImageReference | ObjectRef) -> Dataset:
    """What highdicom must know of an object to refer to it, and nothing that it could copy."""
    dataset = Dataset()
    dataset.StudyInstanceUID = ref.study_instance_uid
    dataset.SeriesInstanceUID = ref.series_instance_uid
    dataset.SOPInstanceUID = ref.sop_instance_uid
    dataset.SOPClassUID = ref.sop_class_uid
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                    "StudyDate", "StudyTime"):  # fmt: skip
        setattr(dataset, keyword, "")
    return dataset


def _stand_ins(refs: Iterable[ImageReference | ObjectRef], result: Result) -> list[Dataset]:
    """Each object once, those of the result's own study first: highdicom takes the first one's study."""
    once = {ref.sop_instance_uid: ref for ref in refs}.values()
    ordered = sorted(once, key=lambda ref: ref.study_instance_uid != result.study_instance_uid)
    return [stand_in(ref) for ref in ordered]


def _finished(document: Dataset, result: Result, source: SourceImages) -> Dataset:
    """Patient and study of the images, times of the result, ourselves as the only equipment."""
    image = next(iter(source.datasets.values()))
    envelope.put_patient_and_study(document, image)
    envelope.put_times(document, result)
    envelope.put_equipment(document)
    del document.ContributingEquipmentSequence
    return document
