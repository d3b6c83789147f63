"""Volumes, areas and scores in a report of their own: numbers without a line, on which OHIF's measurement reader fails.

Titled "Oncology Measurement Report", such a report opens in OHIF as text. Each group has the tracking UID of the
lesion's cross in the RECIST report (`dicom_io.emit.recist_sr`), and names its segment where there is a segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
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
from dicom_io.emit.report import measurement_report
from dicom_io.emit.source import SourceImages

KIND = "volume-sr"
SIGNIFICANT_DIGITS = 6

Group: TypeAlias = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def write(result: Result, source: SourceImages, settings: EmitSettings, before: Mapping[str, Dataset]) -> Written:
    """The report of all lesions with a volume or a mask on their key slice; None where there is none."""
    placed, left = place(result, source, KIND, _unfit)
    if not placed:
        return None, tuple(left)
    algorithm = algorithm_of(result.author)
    segmentation = before.get("dicom-seg")
    groups: list[Group] = []
    evidence: list[ImageReference | ObjectRef] = []
    for one in placed:
        images = _images(one, source)
        number = _segment_number(segmentation, one.tracking_uid)
        groups.append(_group(one, images, algorithm, segmentation, number))
        evidence += images
        if segmentation is not None and number is not None:
            evidence.append(object_ref(segmentation))
    content = MeasurementReport(
        observation_context=observation_context(result.author),
        procedure_reported=concept("concept", "procedure"),
        imaging_measurements=groups,
        title=concept("concept", "volume_report"),
    )
    return measurement_report(KIND, result, source, settings, content, evidence), tuple(left)


def object_ref(dataset: Dataset) -> ObjectRef:
    """How to refer to an object that was written before."""
    return ObjectRef(
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SOPClassUID),
    )


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


def _segment_number(segmentation: Dataset | None, tracking_uid: str) -> int | None:
    segments = [] if segmentation is None else segmentation.SegmentSequence
    numbers = [int(one.SegmentNumber) for one in segments if one.get("TrackingUID") == tracking_uid]
    return numbers[0] if numbers else None


def _group(
    one: PlacedLesion,
    images: list[ImageReference],
    algorithm: AlgorithmIdentification | None,
    segmentation: Dataset | None,
    segment_number: int | None,
) -> Group:
    """PS3.16 TID 1411 over the lesion's segment, else TID 1501 over its images."""
    lesion = one.lesion
    site = brought(lesion.site)
    tracking = TrackingIdentifier(uid=one.tracking_uid, identifier=lesion.label or f"lesion-{one.number}")
    finding = brought(lesion.finding) or concept("finding", "lesion")
    sites = [FindingSite(site)] if site else None
    if segmentation is None or segment_number is None:
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
    segment = ReferencedSegment(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        segment_number=segment_number,
        source_images=[
            SourceImageForSegmentation(image.sop_class_uid, image.sop_instance_uid, _frames(image)) for image in images
        ],
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_segment=segment,
        finding_type=finding,
        finding_sites=sites,
        algorithm_id=algorithm,
        measurements=_measurements(one),
    )


def _frames(image: ImageReference) -> list[int] | None:
    return None if image.frame_numbers is None else list(image.frame_numbers)


def _measurements(one: PlacedLesion) -> list[Measurement]:
    """Volume, area on the key slice, score: as far as the lesion has them."""
    lesion, plane = one.lesion, one.plane
    area_mm2 = _area_px(lesion) * plane.row_spacing_mm * plane.col_spacing_mm
    values = (
        ("volume", lesion.volume_mm3, "mm3"),
        ("area", area_mm2 or None, "mm2"),
        ("certainty", None if lesion.score is None else 100 * lesion.score, "percent"),
    )
    return [
        Measurement(concept("concept", name), float(f"{value:.{SIGNIFICANT_DIGITS}g}"), concept("unit", unit))
        for name, value, unit in values
        if value is not None
    ]
