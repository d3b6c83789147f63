"""Reports of results: RECIST crosses that viewers edit, volumes beside them; judged by readers that are not ours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_validators import dcentvfy, dciodvfy, dsrdump, tid1500reader
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_results import MADE, MODEL, Phantoms, changed
from pydicom.dataset import Dataset

from deeplesion_miner import geometry
from deeplesion_miner.results import Author, ObjectRef, Prior, ReportedLesion, Result, coded
from deeplesion_miner.studies import ObjectReading, PatientFacts
from deeplesion_miner.types import Axis, Bookmark, Box, Code, ImagePlane, ImageRef, Kind, Segment
from dicom_io import lint, planes
from dicom_io.dialects import read_object
from dicom_io.emit import EmitSettings, EmittedObject, emit
from dicom_io.emit.source import SourceImages

STUDIES = ("anna/0", "bertram/0", "bertram/1", "chiara/0", "dmitri/0", "elena/0")
"""Square pixels, prone, numbered from the feet, tilted, multi-frame, not square."""
BOXES = EmitSettings(planar_boxes=True)
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms.write(tmp_path_factory.getbasetemp() / "phantom_results")


def written(
    phantoms: Phantoms, result: Result, kinds: tuple[str, ...] = ("dicom-sr",), settings: EmitSettings | None = None
) -> dict[str, EmittedObject]:
    emission = emit(result, phantoms.source(result), kinds, settings)
    return {one.kind: one for one in emission.objects}


def dataset(one: EmittedObject) -> Dataset:
    return pydicom.dcmread(io.BytesIO(one.encoded))


def report(phantoms: Phantoms, result: Result, settings: EmitSettings | None = None) -> Dataset:
    return dataset(written(phantoms, result, settings=settings)["dicom-sr"])


def mined(ds: Dataset) -> tuple[Bookmark, ...]:
    reading = read_object(ds, "emitted")
    assert isinstance(reading, ObjectReading)
    return reading.bookmarks


def items(ds: Dataset, meaning: str = "") -> Iterator[Dataset]:
    """All content items below the root, of one concept name if it is given."""
    for item in ds.get("ContentSequence", []):
        if not meaning or item.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            yield item
        yield from items(item, meaning)


def texts(ds: Dataset, meaning: str) -> list[str]:
    return [item.TextValue for item in items(ds, meaning)]


def codes(ds: Dataset, meaning: str) -> list[str]:
    return [item.ConceptCodeSequence[0].CodeMeaning for item in items(ds, meaning)]


def furthest_px(axis: Axis | None, drawn: Segment | None) -> float:
    assert axis is not None and isinstance(axis.segment, Segment) and drawn is not None
    pairs = zip((*axis.segment.start, *axis.segment.end), (*drawn.start, *drawn.end), strict=True)
    return max(abs(one - other) for one, other in pairs)


# --- what comes back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", STUDIES)
def test_our_own_reader_mines_the_same_crosses(phantoms: Phantoms, study: str) -> None:
    result = phantoms.result(study)
    found = mined(report(phantoms, result))
    assert [one.kind for one in found] == [Kind.BIDIRECTIONAL] * len(result.lesions)
    for one, lesion in zip(found, result.lesions, strict=True):
        assert furthest_px(one.long_axis, lesion.long_axis) < 0.01
        assert furthest_px(one.short_axis, lesion.short_axis) < 0.01
        assert one.images == (lesion.image,)
        assert (one.label, one.finding, one.finding_site) == (lesion.label, lesion.finding, lesion.site)


@pytest.mark.parametrize("study", STUDIES)
def test_the_numbers_are_the_lengths_of_the_lines_in_millimetres(phantoms: Phantoms, study: str) -> None:
    result = phantoms.result(study)
    source = phantoms.source(result)
    for one in mined(report(phantoms, result)):
        plane = source.plane(one.images[0])
        assert isinstance(plane, ImagePlane)
        for axis in (one.long_axis, one.short_axis):
            assert axis is not None and axis.stated is not None and isinstance(axis.segment, Segment)
            assert axis.stated.value == pytest.approx(geometry.length_mm(plane, axis.segment), abs=0.0051)
            assert axis.stated.unit == "mm"


def test_a_frame_of_a_multi_frame_image_is_named_and_a_single_frame_image_has_no_frame_number(
    phantoms: Phantoms,
) -> None:
    for study, has_frames in (("dmitri/0", True), ("anna/0", False)):
        result = phantoms.result(study)
        selected = [
            item.ReferencedSOPSequence[0] for item in items(report(phantoms, result)) if item.ValueType == "IMAGE"
        ]
        frames = [one.get("ReferencedFrameNumber") for one in selected]
        assert frames[::2] == [lesion.image.frame_number if has_frames else None for lesion in result.lesions]


def made_up(rows: int, columns: int, spacing: tuple[float, float], frame_of_reference: str = "1.2.9") -> SourceImages:
    """One CT header of a study of its own."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.1", "1.2.2", frame_of_reference
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "P1", "Doe^Jane"
    ds.Rows, ds.Columns, ds.PixelSpacing = rows, columns, list(spacing)
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    headers = planes.headers_of(ds, 1000)
    assert isinstance(headers, tuple)
    return SourceImages({"1.2.3": ds}, {"1.2.3": headers}, PatientFacts("1.2.1", "P1"))


def one_cross(long_axis: Segment, short_axis: Segment, **said: object) -> Result:
    lesion = ReportedLesion(
        "1",
        ImageRef("1.2.1", "1.2.2", "1.2.3"),
        "Lesion 1",
        coded("finding", "lesion"),
        long_axis=long_axis,
        short_axis=short_axis,
    )
    return Result("1.2.1", MODEL, (replace(lesion, **said),), MADE)  # type: ignore[arg-type]


shares = st.tuples(st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(16, 1024),
    columns=st.integers(16, 1024),
    spacing=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
    ends=st.tuples(shares, shares, shares, shares),
)
def test_wherever_a_cross_lies_on_its_image_it_comes_back(
    rows: int, columns: int, spacing: tuple[float, float], ends: tuple[tuple[float, float], ...]
) -> None:
    points = [(-0.5 + x * columns, -0.5 + y * rows) for x, y in ends]
    result = one_cross(Segment(points[0], points[1]), Segment(points[2], points[3]))
    emission = emit(result, made_up(rows, columns, spacing), ("dicom-sr",))
    (one,) = mined(dataset(emission.objects[0]))
    assert furthest_px(one.long_axis, result.lesions[0].long_axis) < 0.01
    assert furthest_px(one.short_axis, result.lesions[0].short_axis) < 0.01


@given(label=st.text(max_size=400).filter(lambda text: text.strip() == text and text.isprintable() and bool(text)))
@settings(max_examples=15, deadline=None)
def test_any_printable_label_comes_back(label: str) -> None:
    result = one_cross(Segment((2, 2), (9, 9)), Segment((4, 8), (8, 4)), label=label)
    (one,) = mined(dataset(emit(result, made_up(16, 16, (1, 1)), ("dicom-sr",)).objects[0]))
    assert one.label == label


def test_a_label_without_words_is_the_lesions_number_and_control_characters_do_no_harm() -> None:
    for label, shown in (("", "Lesion 1"), ("a\x1b\x00b", "a  b")):
        result = one_cross(Segment((2, 2), (9, 9)), Segment((4, 8), (8, 4)), label=label)
        assert texts(dataset(emit(result, made_up(16, 16, (1, 1)), ("dicom-sr",)).objects[0]), "Comment") == [shown]


# --- what viewers ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("study", STUDIES)
def test_no_rule_of_the_viewer_is_broken(phantoms: Phantoms, study: str, boxes: bool) -> None:
    result = phantoms.result(study, response=coded("response", "PR"))
    result = changed(result, prior=Prior("20180101", 20.0, 12.0), lesion_type=coded("lesion_type", "target"))
    images = lint.study_images(phantoms.images(result))
    for one in written(phantoms, result, ("dicom-sr", "volume-sr"), EmitSettings(planar_boxes=boxes)).values():
        broken = {finding.case for finding in lint.check_before_sending(one.encoded, images)}
        # The viewer mixes up the spacings of pixels that are not square: right coordinates are drawn wrong.
        assert broken == ({"not_square"} if study == "elena/0" and one.kind == "dicom-sr" else set())


def test_every_number_has_a_line_and_every_line_its_image(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("anna/0", response=coded("response", "SD")), BOXES)
    numbers = [item for item in items(ds) if item.ValueType == "NUM"]
    assert len(numbers) == 6
    for number in numbers:
        (line,) = number.ContentSequence
        assert (line.ValueType, line.RelationshipType, line.GraphicType) == ("SCOORD", "INFERRED FROM", "POLYLINE")
        assert [image.RelationshipType for image in line.ContentSequence] == ["SELECTED FROM"]


def test_the_viewers_own_tool_is_named_with_the_lesions_number(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("chiara/0"))
    tool = "Cornerstone3DTools@^0.1.0:Bidirectional"
    assert texts(ds, "Tracking Identifier") == [f"{tool}:lesion-1", f"{tool}:lesion-2"]


def test_a_lesions_tracking_uid_does_not_depend_on_the_others(phantoms: Phantoms) -> None:
    result = phantoms.result("anna/0")
    alone = replace(result, lesions=result.lesions[:1])
    first, *_ = items(report(phantoms, result), "Tracking Unique Identifier")
    (only,) = items(report(phantoms, alone), "Tracking Unique Identifier")
    assert first.UID == only.UID


def test_two_marks_of_one_lesion_have_tracking_uids_of_their_own(phantoms: Phantoms) -> None:
    result = changed(changed(phantoms.result("anna/0"), 0, tracking_uid="1.2.77"), 2, tracking_uid="1.2.77")
    uids = [item.UID for item in items(report(phantoms, result, BOXES), "Tracking Unique Identifier")]
    assert uids[0] == "1.2.77"
    assert len(set(uids)) == len(uids) == 6


@pytest.mark.parametrize("broken", ["not a uid", "1.02.3", "1." + "2" * 64, "1..2"])
def test_a_tracking_uid_that_is_none_is_not_taken_over(phantoms: Phantoms, broken: str) -> None:
    ds = report(phantoms, changed(phantoms.result("chiara/0"), tracking_uid=broken))
    uid = next(items(ds, "Tracking Unique Identifier")).UID
    assert re.fullmatch(r"2\.25\.[1-9][0-9]*", uid)


# --- what is said of a lesion ----------------------------------------------------------------------------


def test_the_score_stands_as_a_text_since_a_number_without_a_line_breaks_the_viewer(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("chiara/0"))
    assert texts(ds, "Certainty of Finding") == ["90.00 %", "85.00 %"]


@pytest.mark.parametrize(
    ("lesion_type", "question"),
    [
        (coded("lesion_type", "target"), "Baseline Category"),
        (coded("lesion_type", "non_target"), "Baseline Category"),
        (Code("4147007", "SCT", "Mass"), "Finding category"),
    ],
)
def test_the_type_answers_the_question_that_it_is_an_answer_to(
    phantoms: Phantoms, lesion_type: Code, question: str
) -> None:
    ds = report(phantoms, changed(phantoms.result("chiara/0"), lesion_type=lesion_type))
    assert codes(ds, question) == [lesion_type.meaning]


def test_free_text_of_a_viewer_is_not_passed_on_as_a_code(phantoms: Phantoms) -> None:
    free = Code("CORNERSTONEFREETEXT", "CORNERSTONEJS", "left lung, please check")
    ds = report(phantoms, changed(phantoms.result("chiara/0"), finding=free, site=free, lesion_type=Code("", "", "x")))
    assert codes(ds, "Finding") == ["Lesion", "Lesion"]
    assert codes(ds, "Finding Site") == ["Soft tissue"]
    assert "CORNERSTONEFREETEXT" not in ds.to_json()


@pytest.mark.parametrize("broken", [Code("1\\2", "SCT", "Lung"), Code("1", "S\\T", "Lung"), Code("1", "SCT", "\x00")])
def test_a_code_that_archives_cannot_hold_is_not_passed_on(phantoms: Phantoms, broken: Code) -> None:
    result = changed(phantoms.result("chiara/0"), finding=broken, site=broken, lesion_type=broken)
    ds = report(phantoms, result)
    assert codes(ds, "Finding") == ["Lesion", "Lesion"]
    assert codes(ds, "Finding Site") == ["Soft tissue"]


def test_what_a_lesion_measured_before_names_the_report_that_says_so(phantoms: Phantoms) -> None:
    before = ObjectRef("1.2.4", "1.2.5", "1.2.6", SR_CLASS)
    ds = report(phantoms, changed(phantoms.result("chiara/0"), prior=Prior("20180101", 20.0, 12.345, before)))
    (previous,) = items(ds, "Previous Finding")
    assert previous.TextValue == "Long axis 20.00 mm, short axis 12.35 mm on 20180101" or (
        previous.TextValue == "Long axis 20.00 mm, short axis 12.34 mm on 20180101"
    )
    assert previous.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.6"
    other = ds.PertinentOtherEvidenceSequence[0]
    assert other.StudyInstanceUID == "1.2.4"
    assert other.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPClassUID == SR_CLASS


def test_a_prior_without_a_report_is_a_text_alone(phantoms: Phantoms) -> None:
    half_known = ObjectRef("1.2.4", "", "1.2.6", "")
    for prior in (Prior("20180101", 20.0), Prior("20180101", 20.0, report=half_known)):
        (previous,) = items(report(phantoms, changed(phantoms.result("chiara/0"), prior=prior)), "Previous Finding")
        assert previous.TextValue == "Long axis 20.00 mm on 20180101"
        assert "ContentSequence" not in previous


def test_the_patients_response_stands_beside_the_measurements(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("chiara/0", response=coded("response", "PR")))
    container = ds.ContentSequence[-1]
    assert container.ConceptNameCodeSequence[0].CodeMeaning == "Qualitative Evaluations"
    assert codes(container, "Current Response") == ["Target Lesion Partial Response"]
    assert codes(container, "Response Evaluation Method") == ["RECIST 1.1"]


def test_a_box_is_the_lesions_own_cut_at_the_images_edges(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    ds = report(phantoms, changed(result, box=Box(-7.0, 10.0, 40.0, 31.5)), BOXES)
    first, second = (item for item in items(ds, "Image Region"))
    assert list(first.GraphicData) == [0, 10.5, 40.5, 10.5, 40.5, 32, 0, 32, 0, 10.5]
    lesion = result.lesions[1]
    assert lesion.long_axis and lesion.short_axis
    columns = [end[0] + 0.5 for axis in (lesion.long_axis, lesion.short_axis) for end in (axis.start, axis.end)]
    drawn = np.array(second.GraphicData).reshape(-1, 2)
    assert (drawn[:, 0].min(), drawn[:, 0].max()) == pytest.approx((min(columns), max(columns)), abs=0.001)
    assert codes(ds, "Geometric purpose of region") == ["Bounded by", "Bounded by"]
    assert texts(ds, "Comment")[2:] == [f"{lesion.label} (box)" for lesion in result.lesions]


def test_a_box_without_a_site_is_left_out_with_a_word(phantoms: Phantoms) -> None:
    result = changed(phantoms.result("chiara/0"), site=None)
    emission = emit(result, phantoms.source(result), ("dicom-sr",), BOXES)
    assert [(one.key, one.why) for one in emission.left_out] == [(result.lesions[0].key, "box_without_site")]
    assert texts(dataset(emission.objects[0]), "Tracking Identifier")[2:] == ["lesion-2 box"]


# --- who says it -----------------------------------------------------------------------------------------


def test_an_algorithm_is_a_device_with_name_version_and_parameters(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("chiara/0"))
    assert codes(ds, "Observer Type") == ["Device"]
    assert texts(ds, "Device Observer Name") == ["finder"]
    assert texts(ds, "Algorithm Name") == ["finder", "finder"]
    assert texts(ds, "Algorithm Version") == ["1.2", "1.2"]
    assert texts(ds, "Algorithm Parameters") == ["weights=ab12cd34", "weights=ab12cd34"]


@pytest.mark.parametrize(
    ("name", "written_name"),
    [("Roe^Jane", "Roe^Jane"), ("Roe", "Roe^"), ("山田^太郎", "山田^太郎"), ("a\\b\x00^c" + "x" * 80, None)],
)
def test_a_reader_is_a_person_and_no_algorithm(phantoms: Phantoms, name: str, written_name: str | None) -> None:
    ds = report(phantoms, phantoms.result("chiara/0", author=Author(name, is_algorithm=False)))
    assert codes(ds, "Observer Type") == ["Person"]
    (person,) = items(ds, "Person Observer Name")
    assert str(person.PersonName) == written_name or (written_name is None and len(str(person.PersonName)) <= 64)
    assert texts(ds, "Algorithm Name") == []
    assert mined(ds)[0].reader == str(person.PersonName)


def test_where_no_reader_is_named_this_software_passes_the_measurements_on(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("chiara/0", author=Author("", is_algorithm=False)))
    assert texts(ds, "Device Observer Name") == ["deeplesion_miner"]
    assert texts(ds, "Algorithm Name") == []


def test_a_report_is_complete_but_nobody_has_verified_it(phantoms: Phantoms) -> None:
    ds = report(phantoms, phantoms.result("chiara/0"))
    flags = (ds.CompletionFlag, ds.PreliminaryFlag, ds.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")


def test_a_corrected_report_names_the_one_that_it_corrects(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    old = ObjectRef(result.study_instance_uid, "1.2.5", "1.2.6", SR_CLASS)
    unlisted = replace(old, sop_instance_uid="1.2.7", sop_class_uid="")
    made = written(phantoms, replace(result, predecessors=(old, unlisted)), ("dicom-sr", "volume-sr"))
    (study,) = dataset(made["dicom-sr"]).PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (SR_CLASS, "1.2.6")
    assert "PredecessorDocumentsSequence" not in dataset(made["volume-sr"])


# --- whose it is, and what is left of the scanner --------------------------------------------------------


# Patient and study, series, ourselves as equipment, the document and its tree: all that a report states.
ALLOWED = {
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "PatientName", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate"),
    *("StudyTime", "StudyID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName", "SeriesInstanceUID"),
    *("SeriesDate", "SeriesTime", "SeriesDescription", "SeriesNumber", "Modality", "InstanceNumber", "Manufacturer"),
    *("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "ReferencedPerformedProcedureStepSequence"),
    *("PerformedProcedureCodeSequence", "ContentDate", "ContentTime", "ValueType", "ConceptNameCodeSequence"),
    *("ContinuityOfContent", "CompletionFlag", "VerificationFlag", "PreliminaryFlag", "ContentTemplateSequence"),
    *("CurrentRequestedProcedureEvidenceSequence", "ContentSequence"),
}


@pytest.mark.parametrize("study", STUDIES)
def test_nothing_of_scanner_institution_and_staff_is_copied(phantoms: Phantoms, study: str) -> None:
    result = phantoms.result(study)
    image = next(iter(phantoms.source(result).datasets.values()))
    for one in written(phantoms, result, ("dicom-sr", "volume-sr", "kos")).values():
        ds = dataset(one)
        assert {element.keyword for element in ds} <= ALLOWED
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyID"):
            assert ds[keyword].value == image[keyword].value
        own = {"Manufacturer": "deeplesion_miner", "DeviceSerialNumber": "0"}
        assert {keyword: ds[keyword].value for keyword in own} == own


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Bööq^Ägot"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 192", "Wáng^Xiǎodōng=王^小东"),
    ],
)
def test_a_patients_name_survives_in_any_character_set(character_set: str | list[str], name: str) -> None:
    stored = io.BytesIO()
    image = Dataset()
    image.update(made_up(16, 16, (1, 1)).datasets["1.2.3"])
    image.SpecificCharacterSet, image.PatientName = character_set, name
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    pydicom.dcmwrite(stored, image, enforce_file_format=True)
    source = made_up(16, 16, (1, 1))
    source = SourceImages({"1.2.3": pydicom.dcmread(io.BytesIO(stored.getvalue()))}, source.headers, source.patient)
    result = one_cross(Segment((2, 2), (9, 9)), Segment((4, 8), (8, 4)))
    ds = dataset(emit(result, source, ("dicom-sr",)).objects[0])
    assert (ds.SpecificCharacterSet, str(ds.PatientName)) == ("ISO_IR 192", name)


def test_the_images_that_are_referred_to_are_the_evidence_each_once(phantoms: Phantoms) -> None:
    result = phantoms.result("anna/0")
    doubled = replace(result, lesions=(*result.lesions, replace(result.lesions[0], key="again")))
    (study,) = report(phantoms, doubled).CurrentRequestedProcedureEvidenceSequence
    listed = [
        one.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    assert sorted(listed) == sorted({one.image.sop_instance_uid for one in result.lesions})


# --- lesions that a report cannot hold -------------------------------------------------------------------


def left_out(phantoms: Phantoms, result: Result, kind: str = "dicom-sr") -> list[tuple[str, str]]:
    full = phantoms.result("chiara/0")
    emission = emit(result, phantoms.source(full), (kind,))
    return [(one.kind, one.why) for one in emission.left_out]


def test_a_lesion_that_cannot_be_written_is_named_with_its_reason(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    elsewhere = replace(result.lesions[0].image, sop_instance_uid="1.2.3")
    assert left_out(phantoms, changed(result, short_axis=None)) == [("dicom-sr", "no_axes")]
    assert left_out(phantoms, changed(result, long_axis=None)) == [("dicom-sr", "no_axes")]
    assert left_out(phantoms, changed(result, image=elsewhere)) == [("dicom-sr", "image_missing")]
    assert left_out(phantoms, changed(result, long_axis=Segment((-1, 5), (9, 5)))) == [("dicom-sr", "outside_image")]
    assert left_out(phantoms, changed(result, masks=(), volume_mm3=None), "volume-sr") == [("volume-sr", "no_volume")]


def test_the_others_keep_their_numbers(phantoms: Phantoms) -> None:
    ds = report(phantoms, changed(phantoms.result("anna/0"), 0, short_axis=None))
    assert [one[-8:] for one in texts(ds, "Tracking Identifier")] == ["lesion-2", "lesion-3"]


def test_an_image_without_usable_geometry_holds_no_lesion() -> None:
    result = one_cross(Segment((2, 2), (9, 9)), Segment((4, 8), (8, 4)), volume_mm3=5.0)
    emission = emit(result, made_up(16, 16, (0, 1)), ("dicom-sr", "volume-sr", "kos"))
    assert {one.why for one in emission.left_out} == {"bad_geometry"}
    assert emission.objects == ()


def test_an_image_that_does_not_say_what_it_is_cannot_be_referred_to() -> None:
    source = made_up(16, 16, (1, 1))
    header = replace(source.headers["1.2.3"][0], sop_class_uid="")
    nameless = SourceImages(source.datasets, {"1.2.3": (header,)}, source.patient)
    emission = emit(one_cross(Segment((2, 2), (9, 9)), Segment((4, 8), (8, 4))), nameless, ("dicom-sr", "kos"))
    assert {one.why for one in emission.left_out} == {"no_sop_class"}
    assert emission.objects == ()


def test_without_any_lesion_there_is_no_report(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    for kind in ("dicom-sr", "volume-sr", "kos"):
        emission = emit(replace(result, lesions=()), phantoms.source(result), (kind,))
        assert (emission.objects, emission.left_out) == ((), ())


# --- the same is the same --------------------------------------------------------------------------------


KINDS = ("dicom-sr", "volume-sr", "dicom-seg", "kos")


def test_the_same_result_is_the_same_bytes(phantoms: Phantoms) -> None:
    result = phantoms.result("dmitri/0", response=coded("response", "PR"))
    one, other = (written(phantoms, result, KINDS, BOXES) for _ in range(2))
    assert {kind: made.encoded for kind, made in one.items()} == {kind: made.encoded for kind, made in other.items()}


def test_computed_later_it_has_the_same_uids_and_the_later_time(phantoms: Phantoms) -> None:
    result = phantoms.result("dmitri/0")
    later = replace(result, made_at=datetime(2025, 1, 2, 3, 4, 5))
    one, other = written(phantoms, result, KINDS), written(phantoms, later, KINDS)
    for kind in KINDS:
        assert one[kind].sop_instance_uid == other[kind].sop_instance_uid
        assert one[kind].series_instance_uid == other[kind].series_instance_uid
    ds = dataset(other["dicom-sr"])
    assert {ds.SeriesDate, ds.ContentDate} == {"20250102"}
    assert {ds.SeriesTime, ds.ContentTime} == {"030405"}


def test_numbers_are_the_same_from_a_model_and_from_a_file(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    axis = result.lesions[0].long_axis
    assert axis is not None
    computed = Segment(
        (np.float64(axis.start[0]), np.float64(axis.start[1])), (np.float64(axis.end[0]), np.float64(axis.end[1]))
    )
    one, other = (written(phantoms, made) for made in (result, changed(result, long_axis=computed)))
    assert one["dicom-sr"].encoded == other["dicom-sr"].encoded


@pytest.mark.parametrize(
    "change",
    [
        {"score": 0.1},
        {"label": "Lesion 9"},
        {"site": None},
        {"long_axis": Segment((20, 20), (31, 31))},
        {"key": "other"},
    ],
)
def test_another_content_is_another_object_in_another_series(phantoms: Phantoms, change: dict[str, object]) -> None:
    result = phantoms.result("chiara/0")
    one, other = written(phantoms, result)["dicom-sr"], written(phantoms, changed(result, 0, **change))["dicom-sr"]
    assert one.sop_instance_uid != other.sop_instance_uid
    assert one.series_instance_uid != other.series_instance_uid


def test_an_object_is_the_same_whichever_others_are_written_unless_it_refers_to_them(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    alone, among = written(phantoms, result, ("dicom-sr",)), written(phantoms, result, KINDS)
    assert alone["dicom-sr"].encoded == among["dicom-sr"].encoded
    without_masks = written(phantoms, result, ("volume-sr",))
    assert without_masks["volume-sr"].sop_instance_uid != among["volume-sr"].sop_instance_uid


def test_boxes_make_no_other_masks_contours_or_states(phantoms: Phantoms) -> None:
    result, others = phantoms.result("chiara/0"), ("dicom-seg", "volume-sr", "rtstruct", "gsps")
    assert written(phantoms, result, others) == written(phantoms, result, others, BOXES)


# --- volumes ---------------------------------------------------------------------------------------------


def values(group: Dataset) -> dict[str, tuple[float, str]]:
    """Value and unit of each number, by its name."""
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }


def test_volumes_areas_and_scores_stand_in_a_report_of_their_own(phantoms: Phantoms) -> None:
    result = phantoms.result("elena/0")
    ds = dataset(written(phantoms, result, ("dicom-sr", "volume-sr"))["volume-sr"])
    assert ds.ConceptNameCodeSequence[0].CodeValue == "126001"
    groups = list(items(ds, "Measurement Group"))
    for number, (group, lesion) in enumerate(zip(groups, result.lesions, strict=True), start=1):
        found = values(group)
        assert {name: unit for name, (_, unit) in found.items()} == {
            "Volume": "mm3",
            "Area": "mm2",
            "Certainty of Finding": "%",
        }
        assert [value for value, _ in found.values()] == pytest.approx(
            [1234.5 + number, 20 * 0.9 * 0.7, 100 * (lesion.score or 0)]
        )
        (said,) = (
            item.TextValue for item in group.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"
        )
        assert said.startswith(f"{lesion.label}: volume {1234.5 + number} mm3; area 12.6 mm2; certainty ")


def test_the_volume_has_the_tracking_uid_of_the_cross_and_names_its_segment(phantoms: Phantoms) -> None:
    result = changed(phantoms.result("anna/0"), 1, tracking_uid="1.2.77")
    made = {kind: dataset(one) for kind, one in written(phantoms, result, KINDS).items()}
    uids = [item.UID for item in items(made["dicom-sr"], "Tracking Unique Identifier")]
    assert [item.UID for item in items(made["volume-sr"], "Tracking Unique Identifier")] == uids
    segments = {one.TrackingUID: one.SegmentNumber for one in made["dicom-seg"].SegmentSequence}
    named = [item.ReferencedSOPSequence[0] for item in items(made["volume-sr"], "Referenced Segment")]
    assert [one.ReferencedSegmentNumber for one in named] == [segments[uid] for uid in uids]
    assert {one.ReferencedSOPInstanceUID for one in named} == {made["dicom-seg"].SOPInstanceUID}


def test_without_a_segmentation_it_names_its_images(phantoms: Phantoms) -> None:
    result = phantoms.result("dmitri/0")
    ds = dataset(written(phantoms, result, ("volume-sr",))["volume-sr"])
    named = [item.ReferencedSOPSequence[0] for item in items(ds, "Source of Measurement")]
    assert [int(one.ReferencedFrameNumber) for one in named] == [one.image.frame_number for one in result.lesions]


# --- judges that are not ours ----------------------------------------------------------------------------


COMPARED = {"PatientComments", "AccessionNumber"}
"""The first is free text, which is not copied; the second dcentvfy looks for in series."""


@pytest.mark.parametrize("study", STUDIES)
def test_independent_validators_find_nothing(phantoms: Phantoms, study: str, tmp_path: Path) -> None:
    result = changed(
        phantoms.result(study, response=coded("response", "CR")),
        lesion_type=coded("lesion_type", "target"),
        prior=Prior("20180101", 20.0, 12.0, ObjectRef("1.2.4", "1.2.5", "1.2.6", SR_CLASS)),
    )
    paths = []
    for one in written(phantoms, result, KINDS, BOXES).values():
        paths.append(tmp_path / f"{one.kind}.dcm")
        paths[-1].write_bytes(one.encoded)
        if one.kind != "dicom-seg":
            assert dciodvfy(paths[-1]) == []
            assert "Lesion" in dsrdump(paths[-1])
    images = phantoms.images(result)
    if not any(
        pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed for path in images
    ):
        for finding in dcentvfy([*images, *paths]):
            assert not finding.startswith("Error")
            assert re.search(r"Element=<(\w+)>", finding)[1] in COMPARED  # type: ignore[index]


def test_dcmqi_reads_the_numbers_back(phantoms: Phantoms, tmp_path: Path) -> None:
    result = phantoms.result("anna/0")
    for kind, names in (
        ("dicom-sr", {"Long Axis", "Short Axis"}),
        ("volume-sr", {"Volume", "Area", "Certainty of Finding"}),
    ):
        one = written(phantoms, result, ("dicom-sr", "volume-sr"))[kind]
        (tmp_path / "sr.dcm").write_bytes(one.encoded)
        read = tid1500reader(tmp_path / "sr.dcm", tmp_path)["Measurements"]
        groups = list(items(dataset(one), "Measurement Group"))
        assert len(read) == len(groups) == 3
        for found, group, lesion in zip(read, groups, result.lesions, strict=True):
            numbers = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in found["measurementItems"]}
            assert set(numbers) == names
            assert numbers == {name: value for name, (value, _) in values(group).items()}
            assert found["FindingSite"]["CodeMeaning"] == (lesion.site.meaning if lesion.site else None)


def test_highdicom_parses_it(phantoms: Phantoms, tmp_path: Path) -> None:
    result = phantoms.result("anna/0")
    (tmp_path / "sr.dcm").write_bytes(written(phantoms, result, settings=BOXES)["dicom-sr"].encoded)
    parsed = highdicom.sr.srread(tmp_path / "sr.dcm")
    assert len(parsed.content.get_image_measurement_groups()) == 3
    assert len(parsed.content.get_planar_roi_measurement_groups()) == 3
