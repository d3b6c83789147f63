"""Structured reports written by highdicom: TID 1500 with SCOORD or SCOORD3D, and Basic Text without measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    CoordinatesForMeasurement,
    CoordinatesForMeasurement3D,
    FindingSite,
    GraphicTypeValues,
    GraphicTypeValues3D,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID, BasicTextSRStorage, ExplicitVRLittleEndian

from deeplesion_miner.types import Code, Segment, SegmentMm
from dicom_io.testbed.ct_objects import coded
from dicom_io.testbed.drawn import LESION, Drawing, scoord
from dicom_io.testbed.identity import FREE_TEXT, OBSERVER, write_part10
from dicom_io.testbed.sr_ohif import ReportHeader

LONG_AXIS = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short Axis")
LENGTH = CodedConcept("410668003", "SCT", "Length")


@dataclass(frozen=True)
class Manner:
    """How highdicom is asked to write: coordinates in the patient or on the image, and the transfer syntax."""

    in_patient: bool = False
    syntax: UID = ExplicitVRLittleEndian


def write_highdicom_report(
    header: ReportHeader, drawings: tuple[Drawing, ...], evidence: tuple[Dataset, ...], manner: Manner, path: Path
) -> Dataset:
    """Writes the report and returns it; `evidence` are the images drawn on."""
    observer = ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(name=OBSERVER),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_person_context=observer),
        procedure_reported=CodedConcept("25045-6", "LN", "CT unspecified body region"),
        imaging_measurements=[_group(drawing, manner) for drawing in drawings],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report_class = Comprehensive3DSR if manner.in_patient else ComprehensiveSR
    report = report_class(
        evidence=list(evidence),
        content=content,
        series_instance_uid=header.series_instance_uid,
        series_number=header.series_number,
        sop_instance_uid=header.sop_instance_uid,
        instance_number=header.instance,
        manufacturer="Phantom Works",
        institution_name="CANARY General Hospital",
        series_description=f"{header.description} {FREE_TEXT}",
        is_complete=True,
        is_final=True,
    )
    _without_the_clock(report, header)
    write_part10(report, path, manner.syntax)
    return report


def _without_the_clock(report: Dataset, header: ReportHeader) -> None:
    """Replaces the times that highdicom takes from the clock, so that the bytes are always the same."""
    report.SeriesDate = report.ContentDate = header.date
    report.SeriesTime = report.ContentTime = header.time
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "TimezoneOffsetFromUTC"):
        if keyword in report:
            delattr(report, keyword)
    for equipment in report.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = f"{header.date}{header.time}"


def _group(drawing: Drawing, manner: Manner) -> MeasurementsAndQualitativeEvaluations:
    frames = [drawing.on.ref.frame_number] if drawing.on.is_multi_frame else None
    names = (LONG_AXIS, SHORT_AXIS) if drawing.tool == "Bidirectional" else (LENGTH,)
    lines: tuple[Segment | SegmentMm, ...] = drawing.lines_mm if manner.in_patient else drawing.lines_px
    measurements = [
        Measurement(
            name=name,
            value=round(value, 2),
            unit=codes.UCUM.Millimeter,
            referenced_coordinates=[_coordinates(line, drawing, frames)],
        )
        for name, line, value in zip(names, lines, drawing.values, strict=True)
    ]
    # SCOORD3D names no image: the group does.
    image = SourceImageForMeasurementGroup(drawing.on.sop_class_uid, drawing.on.ref.sop_instance_uid, frames)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=drawing.tracking_uid, identifier=drawing.label),
        finding_type=_concept(LESION),
        finding_sites=[FindingSite(_concept(drawing.site))] if drawing.site else None,
        measurements=measurements,
        source_images=[image] if manner.in_patient else None,
    )
    comment = TextContentItem(
        name=CodedConcept("121106", "DCM", "Comment"),
        value=drawing.label,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    group[0].ContentSequence.append(comment)
    return group


def _coordinates(
    line: Segment | SegmentMm, drawing: Drawing, frames: list[int] | None
) -> CoordinatesForMeasurement | CoordinatesForMeasurement3D:
    if isinstance(line, SegmentMm):
        return CoordinatesForMeasurement3D(
            graphic_type=GraphicTypeValues3D.POLYLINE,
            graphic_data=np.array([line.start, line.end]),
            frame_of_reference_uid=drawing.on.frame_of_reference_uid,
        )
    return CoordinatesForMeasurement(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.array(scoord(line)).reshape(2, 2),
        source_image=SourceImageForRegion(drawing.on.sop_class_uid, drawing.on.ref.sop_instance_uid, frames),
    )


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def write_text_report(header: ReportHeader, path: Path) -> Dataset:
    """Writes a Basic Text SR: a dictated finding with the patient's name in it and nothing measured."""
    report = header.study.attributes()
    report.update(header.study.equipment())
    report.SOPClassUID, report.SOPInstanceUID = BasicTextSRStorage, header.sop_instance_uid
    report.Modality, report.SeriesDescription = "SR", f"{header.description} {FREE_TEXT}"
    report.SeriesDate = report.ContentDate = header.date
    report.SeriesTime = report.ContentTime = header.time
    report.SeriesInstanceUID, report.SeriesNumber = header.series_instance_uid, header.series_number
    report.InstanceNumber = header.instance
    report.ReferencedPerformedProcedureStepSequence = Sequence()
    report.PerformedProcedureCodeSequence = Sequence()
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    report.ValueType, report.ContinuityOfContent = "CONTAINER", "SEPARATE"
    report.ConceptNameCodeSequence = Sequence([coded("18748-4", "LN", "Diagnostic imaging report")])
    text = Dataset()
    text.RelationshipType, text.ValueType = "CONTAINS", "TEXT"
    text.ConceptNameCodeSequence = Sequence([coded("121071", "DCM", "Finding")])
    text.TextValue = f"{header.study.person.name} has no measurable disease. Dictated by {OBSERVER}."
    report.ContentSequence = Sequence([text])
    write_part10(report, path, ExplicitVRLittleEndian)
    return report
