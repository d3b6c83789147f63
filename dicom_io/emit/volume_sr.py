"""Volumes, areas and scores in a report of their own: numbers without a line, on which OHIF's measurement reader fails.

Titled "Oncology Measurement Report", such a report opens in OHIF as text. Each group has the tracking UID of the
lesion's cross in the RECIST report (`dicom_io.emit.recist_sr`), and names its segment where there is a segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset

from deeplesion_miner.results import ObjectRef, ReportedLesion, Result
from deeplesion_miner.types import ImagePlane
from dicom_io.emit.concepts import brought, concept
from dicom_io.emit.emitting import EmitSettings, Written
from dicom_io.emit.observers import algorithm_of, observation_context
from dicom_io.emit.placed import ImageReference, PlacedLesion, place, reference_of
from dicom_io.emit.report import measurement_report, object_ref
from dicom_io.emit.source import SourceImages
from dicom_io.emit.wording import LONG_STRING, one_line

KIND = "volume-sr"
SIGNIFICANT_DIGITS = 6

Group: TypeAlias = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def write(result: Result, source: SourceImages, settings: EmitSettings, before: Mapping[str, Dataset]) -> Written:
    """The report of all lesions with a volume or a mask on their key slice; None where there is none."""
    placed, left = place(result, source, KIND, _unfit)
    if not placed:
        return None, tuple(left)
    algorithm = algorithm_of(result.author)
    segments = _segments(before)
    groups: list[Group] = []
    evidence: list[ImageReference | ObjectRef] = []
    for one in placed:
        images, segment = _images(one, source), segments.get(one.tracking_uid)
        group = _group(one, images, algorithm, segment)
        group[0].ContentSequence.append(_summary(one))
        groups.append(group)
        evidence += [*images, segment.of] if segment else images
    content = MeasurementReport(
        observation_context=observation_context(result.author),
        procedure_reported=concept("concept", "procedure"),
        imaging_measurements=groups,
        title=concept("concept", "volume_report"),
    )
    segmentations = sorted({segment.of.sop_instance_uid for segment in segments.values()})
    report = measurement_report(KIND, result, source, content, evidence, written_with=" ".join(segmentations))
    return report, tuple(left)


@dataclass(frozen=True)
class _Segment:
    """A segment of a segmentation that was written before."""

    of: ObjectRef
    number: int


def _segments(before: Mapping[str, Dataset]) -> dict[str, _Segment]:
    """By tracking UID; the first where a lesion's masks lie in several series and so in several objects."""
    found: dict[str, _Segment] = {}
    for kind, dataset in before.items():
        for one in dataset.SegmentSequence if kind.partition("/")[0] == "dicom-seg" else ():
            segment = _Segment(object_ref(dataset), int(one.get("SegmentNumber", 0)))
            found.setdefault(str(one.get("TrackingUID", "")), segment)
    return found


def _unfit(lesion: ReportedLesion, plane: ImagePlane) -> str:
    return "" if lesion.volume_mm3 is not None or _area_px(lesion) else "no_volume"


def _area_px(lesion: ReportedLesion) -> int:
    """Pixels of the mask on the key slice; 0 without one."""
    return sum(int(mask.bits.sum()) for image, mask in lesion.masks if image == lesion.image)


def _images(one: PlacedLesion, source: SourceImages) -> list[ImageReference]:
    """The images of the lesion's masks that are here, the key image among them."""
    images = [image for image, _ in one.lesion.masks if image in source]
    references = [reference_of(source, image) for image in images]
    return references if one.reference in references else [one.reference, *references]


def _group(
    one: PlacedLesion,
    images: list[ImageReference],
    algorithm: AlgorithmIdentification | None,
    segment: _Segment | None,
) -> Group:
    """PS3.16 TID 1411 over the lesion's segment, else TID 1501 over its images."""
    lesion = one.lesion
    site = brought(lesion.site)
    tracking = TrackingIdentifier(
        uid=one.tracking_uid, identifier=one_line(lesion.label, LONG_STRING) or f"lesion-{one.number}"
    )
    finding = brought(lesion.finding) or concept("finding", "lesion")
    sites = [FindingSite(site)] if site else None
    if segment is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=finding,
            finding_sites=sites,
            algorithm_id=algorithm,
            measurements=_measurements(one),
            source_images=[
                SourceImageForMeasurementGroup(image.sop_class_uid, image.sop_instance_uid, _frames(image))
                for image in images
            ],
        )
    referenced = ReferencedSegment(
        sop_class_uid=segment.of.sop_class_uid,
        sop_instance_uid=segment.of.sop_instance_uid,
        segment_number=segment.number,
        source_images=[
            SourceImageForSegmentation(image.sop_class_uid, image.sop_instance_uid, _frames(image)) for image in images
        ],
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_segment=referenced,
        finding_type=finding,
        finding_sites=sites,
        algorithm_id=algorithm,
        measurements=_measurements(one),
    )


def _summary(one: PlacedLesion) -> TextContentItem:
    """Whose numbers these are and what they mean, in words: OHIF's text view leaves out the names of numbers."""
    said = "; ".join(f"{name} {value:.{SIGNIFICANT_DIGITS}g} {unit}" for name, value, unit in _stated(one))
    return TextContentItem(concept("concept", "comment"), f"{one.label}: {said}", RelationshipTypeValues.CONTAINS)


def _frames(image: ImageReference) -> list[int] | None:
    return None if image.frame_numbers is None else list(image.frame_numbers)


def _measurements(one: PlacedLesion) -> list[Measurement]:
    return [
        Measurement(concept("concept", name), float(f"{value:.{SIGNIFICANT_DIGITS}g}"), concept("unit", unit))
        for name, value, unit in _stated(one)
    ]


def _stated(one: PlacedLesion) -> list[tuple[str, float, str]]:
    """Volume, area on the key slice, score, as words of `schemas/emit.toml`: as far as the lesion has them."""
    lesion, plane = one.lesion, one.plane
    area_mm2 = _area_px(lesion) * plane.row_spacing_mm * plane.col_spacing_mm
    values = (
        ("volume", lesion.volume_mm3, "mm3"),
        ("area", area_mm2 or None, "mm2"),
        ("certainty", None if lesion.score is None else 100 * lesion.score, "percent"),
    )
    return [(name, value, unit) for name, value, unit in values if value is not None]
