"""RECIST crosses as a measurement report (PS3.16 TID 1500) that viewers open as editable measurements.

One measurement group for each lesion on one slice. Where OHIF asks more than the standard does, the report does what
OHIF asks: the tracking identifier names the viewer's tool, both axes have their own line, and no number stands without
a line (volumes are in a report of their own, `dicom_io.emit.volume_sr`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    CompositeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    CoordinatesForMeasurement,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset

import schemas
from deeplesion_miner import geometry, recist
from deeplesion_miner.results import ObjectRef, Prior, ReportedLesion, Result
from deeplesion_miner.types import Box, ImagePlane, Point, Segment
from dicom_io.emit.concepts import brought, concept
from dicom_io.emit.emitting import EmitSettings, LeftOut, Written
from dicom_io.emit.identity import derived_uid
from dicom_io.emit.observers import algorithm_of, observation_context
from dicom_io.emit.placed import ImageReference, PlacedLesion, place
from dicom_io.emit.report import is_whole, measurement_report
from dicom_io.emit.source import SourceImages
from dicom_io.emit.wording import unlimited

KIND = "dicom-sr"
TOOL = "Cornerstone3DTools@^0.1.0:Bidirectional"
"""What a tracking identifier begins with for a viewer to open the group with its own tool."""
DECIMALS_MM = 2

Groups = list[MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations]


def write(result: Result, source: SourceImages, settings: EmitSettings, before: Mapping[str, Dataset]) -> Written:
    """The report of all lesions with both axes on an image that is here; None where there is none."""
    placed, left = place(result, source, KIND, _unfit)
    if not placed:
        return None, tuple(left)
    algorithm = algorithm_of(result.author)
    groups: Groups = [_cross_group(one, algorithm) for one in placed]
    if settings.planar_boxes:
        groups += [_box_group(one, algorithm) for one in placed if brought(one.lesion.site)]
        left += [LeftOut(one.lesion.key, one.lesion.label, KIND, "box_without_site")
                 for one in placed if not brought(one.lesion.site)]  # fmt: skip
    content = MeasurementReport(
        observation_context=observation_context(result.author),
        procedure_reported=concept("concept", "procedure"),
        imaging_measurements=groups,
        title=concept("concept", "recist_report"),
    )
    followed = _response(result)
    if followed:
        content[0].ContentSequence.append(_evaluations(followed))
    evidence: list[ImageReference | ObjectRef] = [one.reference for one in placed]
    evidence += [report for one in placed if (report := _prior_report(one.lesion))]
    report = measurement_report(
        KIND,
        result,
        source,
        content,
        evidence,
        written_with=written_with(settings),
        predecessors=result.predecessors,
    )
    return report, tuple(left)


def written_with(settings: EmitSettings) -> str:
    """All that the report depends on beside the result: part of what its UIDs are derived from."""
    return "boxes" if settings.planar_boxes else ""


def _unfit(lesion: ReportedLesion, plane: ImagePlane) -> str:
    if lesion.long_axis is None or lesion.short_axis is None:
        return "no_axes"
    ends = recist.ends(lesion.long_axis, lesion.short_axis)
    return "" if all(geometry.is_inside(plane, end) for end in ends) else "outside_image"


# --- measurement groups ----------------------------------------------------------------------------------


def _cross_group(one: PlacedLesion, algorithm: AlgorithmIdentification | None) -> MeasurementsAndQualitativeEvaluations:
    """PS3.16 TID 1501: tracking, finding, site, both axes, what else is said of the lesion, its label."""
    lesion = one.lesion
    assert lesion.long_axis is not None and lesion.short_axis is not None
    site, lesion_type = brought(lesion.site), brought(lesion.lesion_type)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=one.tracking_uid, identifier=f"{TOOL}:lesion-{one.number}"),
        finding_type=brought(lesion.finding) or concept("finding", "lesion"),
        finding_sites=[FindingSite(site)] if site else None,
        algorithm_id=algorithm,
        measurements=[
            _axis("long_axis", lesion.long_axis, one),
            _axis("short_axis", lesion.short_axis, one),
        ],
        qualitative_evaluations=[QualitativeEvaluation(_type_question(lesion_type), lesion_type)]
        if lesion_type
        else None,
    )
    said = group[0].ContentSequence
    if lesion.score is not None:
        # A text, since OHIF 3.11 fails on a number without a line.
        said.append(_text("certainty", f"{100 * lesion.score:.2f} %"))
    if lesion.prior is not None:
        said.append(_previous(lesion.prior, _prior_report(lesion)))
    if lesion.prior_note:
        said.append(_text("previous_finding", unlimited(lesion.prior_note)))
    said.append(_text("comment", one.label))
    return group


def _axis(name: str, line: Segment, one: PlacedLesion) -> Measurement:
    coordinates = CoordinatesForMeasurement(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.array([geometry.centre_to_corner(line.start), geometry.centre_to_corner(line.end)]),
        source_image=_selected(one.reference),
    )
    return Measurement(
        name=concept("concept", name),
        value=round(geometry.length_mm(one.plane, line), DECIMALS_MM),
        unit=concept("unit", "mm"),
        referenced_coordinates=[coordinates],
    )


def _selected(image: ImageReference) -> SourceImageForRegion:
    frames = None if image.frame_numbers is None else list(image.frame_numbers)
    return SourceImageForRegion(image.sop_class_uid, image.sop_instance_uid, frames)


def _type_question(lesion_type: CodedConcept) -> CodedConcept:
    """The concept that a lesion's type answers: what it was at baseline, else its category."""
    at_baseline = {value for value, _, _ in schemas.load("emit")["lesion_type"].values()}
    return concept("concept", "baseline_category" if lesion_type.value in at_baseline else "finding_category")


def _text(name: str, value: str) -> TextContentItem:
    return TextContentItem(concept("concept", name), value, RelationshipTypeValues.CONTAINS)


def _prior_report(lesion: ReportedLesion) -> ObjectRef | None:
    report = lesion.prior.report if lesion.prior else None
    return report if report and is_whole(report) else None


def _previous(prior: Prior, report: ObjectRef | None) -> TextContentItem:
    """What the lesion measured before, in words for the same reason as the score, and the report that says so."""
    measured = f"Long axis {prior.long_axis_mm:.{DECIMALS_MM}f} mm"
    if prior.short_axis_mm is not None:
        measured += f", short axis {prior.short_axis_mm:.{DECIMALS_MM}f} mm"
    item = _text("previous_finding", f"{measured} on {prior.study_date}" if prior.study_date else measured)
    if report is not None:
        source = CompositeContentItem(
            name=concept("concept", "prior_report"),
            referenced_sop_class_uid=report.sop_class_uid,
            referenced_sop_instance_uid=report.sop_instance_uid,
            relationship_type=RelationshipTypeValues.INFERRED_FROM,
        )
        item.ContentSequence = ContentSequence([source])
    return item


def _box_group(
    one: PlacedLesion, algorithm: AlgorithmIdentification | None
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """PS3.16 TID 1410: the lesion's box, which 3D Slicer shows; it has a tracking UID of its own, as OHIF asks."""
    site = brought(one.lesion.site)
    region = ImageRegion(GraphicTypeValues.POLYLINE, np.array(_box_corners(one)), _selected(one.reference))
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid("box", one.tracking_uid), identifier=f"lesion-{one.number} box"
        ),
        referenced_region=region,
        finding_type=brought(one.lesion.finding) or concept("finding", "lesion"),
        finding_sites=[FindingSite(site)] if site else None,
        algorithm_id=algorithm,
        geometric_purpose=concept("concept", "bounded_by"),
    )
    # OHIF 3.13 shows the box as a rectangle: its title tells it from the cross's.
    group[0].ContentSequence.append(_text("comment", f"{one.label} (box)"))
    return group


def _box_corners(one: PlacedLesion) -> list[Point]:
    """The closed rectangle around the lesion, cut at the image's edges (PS3.3 C.18.6.1.1), from its corner."""
    lesion, plane = one.lesion, one.plane
    assert lesion.long_axis is not None
    box: Box = lesion.box or recist.box(recist.ends(lesion.long_axis, lesion.short_axis), 0.0)
    left, top = (max(value, 0.0) for value in geometry.centre_to_corner((box.x_min, box.y_min)))
    right, bottom = geometry.centre_to_corner((box.x_max, box.y_max))
    right, bottom = min(right, float(plane.columns)), min(bottom, float(plane.rows))
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _response(result: Result) -> list[ContentItem]:
    """The target lesions' response by RECIST 1.1, in words what it was computed from, and what else is to be said of
    the patient's; empty where nothing is.
    """
    said: list[ContentItem] = []
    response = brought(result.response)
    if response is not None:
        answer = CodeContentItem(concept("concept", "current_response"), response, RelationshipTypeValues.CONTAINS)
        method = CodeContentItem(
            concept("concept", "response_method"), concept("concept", "recist"), RelationshipTypeValues.HAS_CONCEPT_MOD
        )
        answer.ContentSequence = ContentSequence([method])
        said.append(answer)
    words = [result.response_basis] if result.response_basis and said else []
    return said + [_text("comment", unlimited(one)) for one in (*words, *result.response_notes)]


def _evaluations(said: list[ContentItem]) -> ContainerContentItem:
    """They stand beside the measurements (PS3.16 TID 1500, Qualitative Evaluations)."""
    container = ContainerContentItem(
        concept("concept", "qualitative_evaluations"), relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = ContentSequence(said)
    return container
