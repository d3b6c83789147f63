"""The images and objects of a result that a physician should look at, as a Key Object Selection (PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Mapping

from highdicom.ko import KeyObjectSelection
from pydicom.dataset import Dataset

from deeplesion_miner.results import ReportedLesion, Result
from deeplesion_miner.types import ImagePlane
from dicom_io.emit.concepts import concept
from dicom_io.emit.emitting import EmitSettings, Written
from dicom_io.emit.observers import observer
from dicom_io.emit.placed import ImageReference, PlacedLesion, place
from dicom_io.emit.report import key_objects, stand_in
from dicom_io.emit.source import SourceImages
from dicom_io.emit.volume_sr import object_ref

KIND = "kos"


def write(result: Result, source: SourceImages, settings: EmitSettings, before: Mapping[str, Dataset]) -> Written:
    """The lesions' key slices and whatever was written before of the result; None where no lesion is on an image."""
    placed, left = place(result, source, KIND, _unfit)
    if not placed:
        return None, tuple(left)
    by_person = bool(result.author.name) and not result.author.is_algorithm
    images = _key_images(placed)
    objects = [object_ref(dataset) for dataset in before.values()]
    content = KeyObjectSelection(
        document_title=concept("concept", "key_objects"),
        referenced_objects=[*(_image(one) for one in images), *(stand_in(one) for one in objects)],
        observer_person_context=observer(result.author) if by_person else None,
        observer_device_context=None if by_person else observer(result.author),
        description="For review: " + "; ".join(one.lesion.label for one in placed),
    )
    _put_frame_numbers(content, images)
    return key_objects(result, source, settings, content, [*images, *objects]), tuple(left)


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


def _image(reference: ImageReference) -> Dataset:
    """A stand-in that highdicom refers to as an IMAGE, not as a COMPOSITE object."""
    dataset = stand_in(reference)
    dataset.Rows = dataset.Columns = 1
    return dataset


def _put_frame_numbers(content: KeyObjectSelection, images: list[ImageReference]) -> None:
    frames = {one.sop_instance_uid: one.frame_numbers for one in images if one.frame_numbers}
    for item in content[0].ContentSequence:
        for referenced in item.get("ReferencedSOPSequence", []):
            if referenced.ReferencedSOPInstanceUID in frames:
                referenced.ReferencedFrameNumber = list(frames[referenced.ReferencedSOPInstanceUID])
