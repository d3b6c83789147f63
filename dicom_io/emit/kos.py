"""The images and objects of a result that a physician should look at, as a Key Object Selection (PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Mapping

from highdicom.ko import KeyObjectSelection
from pydicom.dataset import Dataset

from deeplesion_miner.results import ObjectRef, ReportedLesion, Result
from deeplesion_miner.types import ImagePlane
from dicom_io.emit.concepts import concept
from dicom_io.emit.emitting import EmitSettings, Written
from dicom_io.emit.observers import is_person, observer
from dicom_io.emit.placed import ImageReference, PlacedLesion, place
from dicom_io.emit.report import key_objects, object_ref, stand_in
from dicom_io.emit.source import SourceImages
from dicom_io.emit.wording import LONG_STRING, one_line

KIND = "kos"


def write(result: Result, source: SourceImages, settings: EmitSettings, before: Mapping[str, Dataset]) -> Written:
    """The lesions' key slices and whatever was written before of the result; None where no lesion is on an image."""
    placed, left = place(result, source, KIND, _unfit)
    if not placed:
        return None, tuple(left)
    by_person = is_person(result.author)
    images = _key_images(placed)
    objects = [object_ref(dataset) for dataset in before.values()]
    selected = [_selected(one, is_image=True) for one in images]
    selected += [_selected(object_ref(dataset), "Rows" in dataset) for dataset in before.values()]
    labels = "; ".join(one_line(one.lesion.label, LONG_STRING) for one in placed)
    content = KeyObjectSelection(
        document_title=concept("concept", "key_objects"),
        referenced_objects=selected,
        observer_person_context=observer(result.author) if by_person else None,
        observer_device_context=None if by_person else observer(result.author),
        description=f"For review: {labels}",
    )
    written_with = " ".join(one.sop_instance_uid for one in objects)
    document = key_objects(result, source, content, [*images, *objects], written_with=written_with)
    _finish_references(document, images)
    return document, tuple(left)


def _unfit(lesion: ReportedLesion, plane: ImagePlane) -> str:
    return ""


def _key_images(placed: list[PlacedLesion]) -> list[ImageReference]:
    """Each key image once, in the lesions' order, with all frames that lesions lie on."""
    frames: dict[str, set[int]] = {}
    for one in placed:
        frames.setdefault(one.reference.sop_instance_uid, set()).update(one.reference.frame_numbers or ())
    once = {one.reference.sop_instance_uid: one.reference for one in placed}
    return [
        ImageReference(
            once[uid].study_instance_uid,
            once[uid].series_instance_uid,
            uid,
            once[uid].sop_class_uid,
            tuple(sorted(numbers)) or None,
        )
        for uid, numbers in frames.items()
    ]


def _selected(reference: ImageReference | ObjectRef, is_image: bool) -> Dataset:
    """A stand-in that highdicom refers to as an IMAGE or as a COMPOSITE object (PS3.3 C.17.3.2.1)."""
    dataset = stand_in(reference)
    if is_image:
        dataset.Rows = dataset.Columns = 1
    return dataset


def _finish_references(document: Dataset, images: list[ImageReference]) -> None:
    """Adds the frame numbers; takes away the purpose that highdicom states and TID 2010 (rows 8 and 10) does not."""
    frames = {one.sop_instance_uid: one.frame_numbers for one in images if one.frame_numbers}
    for item in document.ContentSequence:
        if item.ValueType not in ("IMAGE", "COMPOSITE"):
            continue
        del item.ConceptNameCodeSequence
        for referenced in item.ReferencedSOPSequence:
            if referenced.ReferencedSOPInstanceUID in frames:
                referenced.ReferencedFrameNumber = list(frames[referenced.ReferencedSOPInstanceUID])
