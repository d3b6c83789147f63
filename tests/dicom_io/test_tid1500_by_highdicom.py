"""Reports by highdicom, a writer of its own: crosses in pixels and in the patient are read to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from highdicom.sr import (
    Comprehensive3DSR,
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
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Axis, Bookmark, ImageRef, Kind, Segment, SegmentMm
from dicom_io.dialects import read_object

LONG_PX, SHORT_PX = ((10.25, 20.5), (50.75, 22.5)), ((30.5, 11.5), (29.5, 33.25))
LONG_MM, SHORT_MM = ((-10.5, 20.25, 7.0), (30.0, 22.5, 7.0)), ((5.0, 10.5, 7.0), (4.5, 33.25, 7.0))


def ct() -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "P1", "Doe^Joe", "19700101", "M"
    ds.StudyID, ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "1", "20240101", "101500", ""
    ds.ReferringPhysicianName, ds.Modality = "", "CT"
    return ds


def written(image: Dataset, *, in_space: bool) -> Dataset:
    """One lesion with a long and a short axis."""

    def measurement(name: object, pixels: object, mm: object, value: float) -> Measurement:
        if in_space:
            place = CoordinatesForMeasurement3D(
                GraphicTypeValues3D.POLYLINE, np.array(mm), frame_of_reference_uid=image.FrameOfReferenceUID
            )
            return Measurement(name, value, codes.UCUM.Millimeter, referenced_coordinates=[place])
        place = CoordinatesForMeasurement(
            GraphicTypeValues.POLYLINE, np.array(pixels), SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
        )
        return Measurement(name, value, codes.UCUM.Millimeter, referenced_coordinates=[place])

    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid="1.2.3.9", identifier="target 1"),
        finding_type=codes.SCT.Lesion,
        finding_sites=[FindingSite(codes.SCT.Lung)],
        measurements=[
            measurement(codes.SCT.ShortAxis, SHORT_PX, SHORT_MM, 21.5),
            measurement(codes.SCT.LongAxis, LONG_PX, LONG_MM, 40.5),
        ],
    )
    reader = ObserverContext(codes.DCM.Person, PersonObserverIdentifyingAttributes("Doe^Jane"))
    content = MeasurementReport(
        ObservationContext(observer_person_context=reader), codes.LN.CTUnspecifiedBodyRegion, [group]
    )
    return Comprehensive3DSR(
        evidence=[image],
        content=content[0],
        series_number=1,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Acme",
    )


def only(ds: Dataset) -> Bookmark:
    found = read_object(ds, "here")
    assert isinstance(found, ObjectReading)
    (bookmark,) = found.bookmarks
    return bookmark


def ends(axis: Axis | None) -> tuple[object, object]:
    assert axis is not None
    return axis.segment.start, axis.segment.end


@pytest.mark.parametrize("in_space", [False, True])
def test_a_cross_keeps_its_ends_its_values_and_what_is_said_about_it(in_space: bool) -> None:
    image = ct()
    found = only(written(image, in_space=in_space))
    assert found.kind is Kind.BIDIRECTIONAL
    assert (found.tracking_identifier, found.tracking_uid, found.reader) == ("target 1", "1.2.3.9", "Doe^Jane")
    assert found.finding is not None
    assert found.finding.value == "52988006"
    assert found.finding_site is not None
    assert found.finding_site.value == "39607008"
    assert found.source.writer == "highdicom"
    assert found.long_axis is not None
    assert found.long_axis.stated is not None
    assert found.long_axis.stated.value == 40.5
    if in_space:
        assert isinstance(found.long_axis.segment, SegmentMm)
        assert ends(found.long_axis) == LONG_MM
        assert ends(found.short_axis) == SHORT_MM
        assert found.frame_of_reference_uid == image.FrameOfReferenceUID
    else:
        assert isinstance(found.long_axis.segment, Segment)
        assert ends(found.long_axis) == tuple((x - 0.5, y - 0.5) for x, y in LONG_PX)
        assert ends(found.short_axis) == tuple((x - 0.5, y - 0.5) for x, y in SHORT_PX)
        assert found.images == (ImageRef(image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID),)
