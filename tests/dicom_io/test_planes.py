"""Headers: one a frame, planes from wherever the object keeps them, nothing invented where something is broken."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from deeplesion_miner.studies import PatientFacts
from deeplesion_miner.types import ImageHeader, ImagePlane, Unreadable
from dicom_io.planes import MAX_FRAMES, age_years, headers_of, patient_of


def ct() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2", "1.2.1", "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10, -20, 30.5], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.9, 0.7], 5
    ds.Rows, ds.Columns = 64, 48
    ds.FrameOfReferenceUID, ds.InstanceNumber, ds.SeriesNumber = "1.2.9", 7, 3
    ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
    ds.PatientSex, ds.PatientAge, ds.KVP, ds.ConvolutionKernel = "F", "053Y", 120, "B30f"
    return ds


def macro(**attributes: object) -> Items:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Items([item])


def enhanced(positions: Sequence[Sequence[float]]) -> Dataset:
    """An Enhanced CT image: spacing and orientation shared, position and frame type per frame."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2", "1.2.1", "CT"
    ds.Rows, ds.Columns, ds.NumberOfFrames = 64, 48, len(positions)
    shared = Dataset()
    shared.PlaneOrientationSequence = macro(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = macro(PixelSpacing=[0.9, 0.7], SliceThickness=2.5)
    shared.FrameVOILUTSequence = macro(WindowCenter=50, WindowWidth=350)
    ds.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for position in positions:
        frame = Dataset()
        frame.PlanePositionSequence = macro(ImagePositionPatient=list(position))
        frame.CTImageFrameTypeSequence = macro(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Items(frames)
    return ds


def header(ds: Dataset) -> ImageHeader:
    found = headers_of(ds, 1000)
    assert not isinstance(found, Unreadable), found
    (only,) = found
    return only


def what(ds: Dataset) -> object:
    plane = header(ds).plane
    assert isinstance(plane, Unreadable)
    assert plane.why == "bad_geometry"
    return dict(plane.facts)["what"]


def test_a_single_frame_image_has_one_header_with_its_plane() -> None:
    found = header(ct())
    assert isinstance(found.plane, ImagePlane)
    assert found.plane.origin_mm == (-10, -20, 30.5)
    assert (found.plane.row_spacing_mm, found.plane.col_spacing_mm) == (0.9, 0.7)
    assert (found.plane.rows, found.plane.columns, found.plane.slice_thickness_mm) == (64, 48, 5)
    assert found.plane.frame_of_reference_uid == "1.2.9"
    assert found.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert found.window == (-160, 240)
    assert (found.patient_sex, found.patient_age_years) == ("F", 53)
    assert (found.instance_number, found.series_number, found.number_of_frames) == (7, 3, 1)
    assert (found.kvp, found.convolution_kernel, found.size_bytes) == (120, "B30f", 1000)
    assert found.ref.frame_number == 1


def test_a_multi_frame_image_has_a_header_a_frame_from_its_functional_groups() -> None:
    found = headers_of(enhanced([(0, 0, 10), (0, 0, 5), (0, 0, 0)]), 1000)
    assert not isinstance(found, Unreadable)
    assert [h.ref.frame_number for h in found] == [1, 2, 3]
    planes = [h.plane for h in found if isinstance(h.plane, ImagePlane)]
    assert [plane.origin_mm[2] for plane in planes] == [10, 5, 0]
    assert {plane.row_spacing_mm for plane in planes} == {0.9}
    assert {plane.slice_thickness_mm for plane in planes} == {2.5}
    assert {h.window for h in found} == {(-125, 225)}
    assert {h.image_type for h in found} == {("ORIGINAL", "PRIMARY", "VOLUME", "NONE")}
    assert {h.number_of_frames for h in found} == {3}


def test_what_a_frame_says_itself_goes_before_what_all_frames_share() -> None:
    ds = enhanced([(0, 0, 10), (0, 0, 5)])
    ds.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = macro(PixelSpacing=[0.5, 0.5])
    ds.PixelSpacing = [9, 9]
    found = headers_of(ds, 1)
    assert not isinstance(found, Unreadable)
    assert [h.plane.row_spacing_mm for h in found if isinstance(h.plane, ImagePlane)] == [0.9, 0.5]


@pytest.mark.parametrize(
    ("keyword", "value", "word"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0.5, 1, 0], "orientation"),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0], "orientation"),
        ("ImageOrientationPatient", None, "orientation"),
        ("ImagePositionPatient", None, "position"),
        ("ImagePositionPatient", [1, 2], "position"),
        ("PixelSpacing", [0, 0.7], "spacing"),
        ("PixelSpacing", None, "spacing"),
        ("Rows", None, "rows_columns"),
        ("Columns", 0, "rows_columns"),
    ],
)
def test_geometry_that_is_not_usable_is_named_in_the_plane(keyword: str, value: object, word: str) -> None:
    ds = ct()
    if value is None:
        delattr(ds, keyword)
    else:
        setattr(ds, keyword, value)
    assert what(ds) == word


def test_geometry_that_is_no_number_is_named_in_the_plane() -> None:
    ds = ct()
    ds["PixelSpacing"]._value = ["wide", "0.7"]
    assert what(ds) == "spacing"


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID"])
def test_an_image_without_identity_is_set_aside(keyword: str) -> None:
    ds = ct()
    delattr(ds, keyword)
    found = headers_of(ds, 1)
    assert isinstance(found, Unreadable)
    assert found.why == "missing_attribute"
    assert keyword in found.detail


@pytest.mark.parametrize("stated", [0, 3, MAX_FRAMES + 1])
def test_frames_that_cannot_be_counted_set_the_image_aside(stated: int) -> None:
    ds = enhanced([(0, 0, 0), (0, 0, 1)])
    ds.NumberOfFrames = stated
    found = headers_of(ds, 1)
    assert isinstance(found, Unreadable)
    assert found.why == "bad_value"


@pytest.mark.parametrize(("centre", "width"), [(None, 400), (40, None), (40, 0), (40, -1)])
def test_a_window_without_centre_or_width_is_none(centre: float | None, width: float | None) -> None:
    ds = ct()
    ds.WindowCenter, ds.WindowWidth = centre, width
    assert header(ds).window is None


def test_burned_in_annotation_is_told() -> None:
    ds = ct()
    ds.BurnedInAnnotation = "YES"
    assert header(ds).burned_in_annotation
    assert not header(ct()).burned_in_annotation


@pytest.mark.parametrize(
    ("age", "born", "seen", "years"),
    [
        ("053Y", "", "", 53),
        ("011M", "", "", 0),
        ("012M", "", "", 1),
        ("104W", "", "", 1),
        ("366D", "", "", 1),
        ("", "19700615", "20200614", 49),
        ("", "19700615", "20200615", 50),
        ("", "1970.06.15", "2020.06.15", 50),
        ("53", "19700615", "20200615", 50),
        ("", "20210101", "20200101", None),
        ("", "", "20200101", None),
        ("old", "unknown", "20200101", None),
    ],
)
def test_age_is_in_completed_years(age: str, born: str, seen: str, years: int | None) -> None:
    assert age_years(age, born, seen) == years


def test_the_patient_is_what_the_object_says() -> None:
    ds = ct()
    ds.PatientID, ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = "P1", "19700101", "20240101", "1015"
    assert patient_of(ds) == PatientFacts("1.2", "P1", "", "F", "19700101", "20240101", "1015")
