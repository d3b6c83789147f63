"""Lesions on images that are here and whose geometry can be used: what every writer begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeplesion_miner.results import ReportedLesion, Result
from deeplesion_miner.types import ImagePlane, ImageRef, Unreadable
from dicom_io.emit.emitting import LeftOut
from dicom_io.emit.identity import tracking_uid
from dicom_io.emit.source import SourceImages
from dicom_io.emit.wording import unlimited


@dataclass(frozen=True)
class PlacedLesion:
    """A lesion that can be written, with its number in the result and the plane that it lies on."""

    number: int
    """1-based, by the order of the result, whatever else is left out of an object."""
    lesion: ReportedLesion
    plane: ImagePlane
    tracking_uid: str
    reference: ImageReference

    @property
    def label(self) -> str:
        """What a reader sees; never empty."""
        return unlimited(self.lesion.label).strip() or f"Lesion {self.number}"


@dataclass(frozen=True)
class ImageReference:
    """An image as evidence lists it and content items select it (PS3.3 C.17.2, C.18.4)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    frame_numbers: tuple[int, ...] | None = None
    """None for a single-frame image: only multi-frame ones have frame numbers."""


def reference_of(source: SourceImages, image: ImageRef) -> ImageReference:
    """How to refer to an image that is here; KeyError where it is not."""
    header = source.headers[image.sop_instance_uid][image.frame_number - 1]
    return ImageReference(
        header.ref.study_instance_uid,
        header.ref.series_instance_uid,
        header.ref.sop_instance_uid,
        header.sop_class_uid,
        (image.frame_number,) if "NumberOfFrames" in source.dataset(image) else None,
    )


def place(
    result: Result, source: SourceImages, kind: str, unfit: Callable[[ReportedLesion, ImagePlane], str]
) -> tuple[list[PlacedLesion], list[LeftOut]]:
    """The lesions to write and those to leave out; `unfit` says why ('' = it fits) for one on a usable plane."""
    placed, left = [], []
    for number, lesion in enumerate(result.lesions, start=1):
        plane = source.plane(lesion.image) if lesion.image in source else None
        if plane is None:
            why = "image_missing"
        elif isinstance(plane, Unreadable):
            why = "bad_geometry"
        elif not reference_of(source, lesion.image).sop_class_uid:
            why = "no_sop_class"
        else:
            why = unfit(lesion, plane)
        if why:
            left.append(LeftOut(lesion.key, lesion.label, kind, why))
        elif isinstance(plane, ImagePlane):
            uid = tracking_uid(result, lesion)
            placed.append(PlacedLesion(number, lesion, plane, uid, reference_of(source, lesion.image)))
    return placed, left
