"""Presentation states: crosses and labels lie on their images, counted from the corner of the first pixel."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from deeplesion_miner.results import ReportedLesion
from deeplesion_miner.types import Box, ImageRef, Segment
from dicom_io.emit import Emission, emit
from dicom_io.emit.identity import tracking_uid
from dicom_io.testbed.identity import CANARY_WORDS
from tests.dicom_validators import dcentvfy, dciodvfy
from tests.masked_studies import PLANS, Study, lesion, written


@pytest.fixture(scope="module", params=PLANS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("study"), request.param)


@pytest.fixture(scope="module")
def supine(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("supine"))


def gsps(study: Study, *lesions: ReportedLesion) -> Emission:
    return emit(study.result(*lesions), study.source, ("gsps",))


def only(emission: Emission) -> Dataset:
    (found,) = emission.objects
    return dcmread(BytesIO(found.encoded))


def changed(study: Study, folder: Path, **values: object) -> Study:
    """The study with attributes of its images set, or taken out where they are None."""
    for number, path in enumerate(study.paths):
        image = dcmread(path)
        for keyword, value in values.items():
            image.pop(keyword) if value is None else setattr(image, keyword, value)
        image.save_as(folder / f"{number:04d}.dcm")
    return Study.read(folder.glob("*.dcm"))


def test_axes_lie_where_the_lesion_has_them_half_a_pixel_from_the_corner(study: Study) -> None:
    one = lesion(study, 1, (3,), long_axis=Segment((10, 20), (30.25, 25)), short_axis=Segment((22, 20), (18, 28)))
    (annotation,) = only(gsps(study, one)).GraphicAnnotationSequence
    drawn = [list(line.GraphicData) for line in annotation.GraphicObjectSequence]
    assert drawn == [[10.5, 20.5, 30.75, 25.5], [22.5, 20.5, 18.5, 28.5]]
    assert {line.GraphicAnnotationUnits for line in annotation.GraphicObjectSequence} == {"PIXEL"}
    (image,) = annotation.ReferencedImageSequence
    assert image.ReferencedSOPInstanceUID == study.images[3].sop_instance_uid
    assert image.get("ReferencedFrameNumber", 1) == study.images[3].frame_number
    assert image.ReferencedSOPClassUID == study.source.dataset(study.images[3]).SOPClassUID


def test_the_text_says_label_and_lengths(supine: Study) -> None:
    one = lesion(supine, 1, (3,), label="Läsion 1", long_axis=Segment((10, 20), (40, 60)), short_axis=None)
    other = replace(one, key="2", label="Lesion 2", short_axis=Segment((20, 20), (20, 30)))
    said = [
        one.TextObjectSequence[0].UnformattedTextValue
        for one in only(gsps(supine, one, other)).GraphicAnnotationSequence
    ]
    assert said == ["Läsion 1: 35.0 mm", "Lesion 2: 35.0 x 7.0 mm"]


def test_a_lesion_without_axes_is_drawn_as_its_box_within_the_image(supine: Study) -> None:
    boxed = lesion(supine, 1, (3,), long_axis=None, short_axis=None, box=Box(-3, 4, 10, 70))
    (line,) = only(gsps(supine, boxed)).GraphicAnnotationSequence[0].GraphicObjectSequence
    assert list(line.GraphicData) == [0, 4.5, 10.5, 4.5, 10.5, 64, 0, 64, 0, 4.5]


@pytest.mark.parametrize("end", [(63.5, 63.5), (-0.5, -0.5), (63.5, -0.5)])
def test_the_text_stays_within_the_image(supine: Study, end: tuple[float, float]) -> None:
    one = lesion(supine, 1, (3,), long_axis=Segment((30, 30), end))
    (text,) = only(gsps(supine, one)).GraphicAnnotationSequence[0].TextObjectSequence
    corners = (*text.BoundingBoxTopLeftHandCorner, *text.BoundingBoxBottomRightHandCorner)
    assert all(0 <= value <= 64 for value in corners)
    assert list(text.AnchorPoint) == [end[0] + 0.5, end[1] + 0.5]


def test_all_is_on_one_layer_and_lesions_keep_their_identity(supine: Study) -> None:
    lesions = [lesion(supine, number, (number,)) for number in (1, 2)]
    found = only(gsps(supine, *lesions))
    assert [layer.GraphicLayer for layer in found.GraphicLayerSequence] == ["LESIONS"]
    assert {one.GraphicLayer for one in found.GraphicAnnotationSequence} == {"LESIONS"}
    result = supine.result(*lesions)
    for annotation, one in zip(found.GraphicAnnotationSequence, lesions, strict=True):
        assert {line.TrackingUID for line in annotation.GraphicObjectSequence} == {tracking_uid(result, one)}


def test_the_whole_image_is_shown_at_its_true_proportions(study: Study) -> None:
    (area,) = only(gsps(study, lesion(study, 1, (3,)))).DisplayedAreaSelectionSequence
    assert list(area.DisplayedAreaTopLeftHandCorner) == [1, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [64, 64]
    plane = study.plane(study.images[3])
    assert list(area.PresentationPixelSpacing) == [plane.row_spacing_mm, plane.col_spacing_mm]


def test_grey_levels_are_those_of_the_images(study: Study) -> None:
    found = only(gsps(study, lesion(study, 1, (3,)), lesion(study, 2, (5,))))
    assert (found.RescaleSlope, found.RescaleIntercept, found.RescaleType) == (1, 0, "HU")
    (window,) = found.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (40, 400)
    references = [image.ReferencedSOPInstanceUID for image in window.ReferencedImageSequence]
    assert references == sorted({study.images[place].sop_instance_uid for place in (3, 5)})


def test_images_without_a_window_get_one_for_soft_tissue(supine: Study, tmp_path: Path) -> None:
    bare = changed(supine, tmp_path, WindowCenter=None, WindowWidth=None)
    (window,) = only(gsps(bare, lesion(bare, 1, (3,)))).SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (40, 400)


def test_images_of_different_windows_keep_their_own(supine: Study, tmp_path: Path) -> None:
    changed(supine, tmp_path, WindowCenter=-600, WindowWidth=1500)
    image = dcmread(supine.paths[0])
    image.save_as(tmp_path / "0000.dcm")
    mixed = Study.read(tmp_path.glob("*.dcm"))
    found = only(gsps(mixed, *(lesion(mixed, number, (number,)) for number in range(10))))
    windows = {one.WindowCenter: len(one.ReferencedImageSequence) for one in found.SoftcopyVOILUTSequence}
    assert windows == {40: 1, -600: 9}


def test_images_of_different_modality_luts_get_a_state_each(supine: Study, tmp_path: Path) -> None:
    changed(supine, tmp_path, RescaleIntercept="-1024")
    dcmread(supine.paths[0]).save_as(tmp_path / "0000.dcm")
    mixed = Study.read(tmp_path.glob("*.dcm"))
    emission = gsps(mixed, *(lesion(mixed, number, (number,)) for number in range(10)))
    found = [dcmread(BytesIO(one.encoded)) for one in emission.objects]
    assert sorted((one.RescaleIntercept, len(one.GraphicAnnotationSequence)) for one in found) == [(-1024, 9), (0, 1)]
    assert len({one.SOPInstanceUID for one in found}) == len({one.SeriesInstanceUID for one in found}) == 2


def test_images_without_a_modality_lut_get_none(supine: Study, tmp_path: Path) -> None:
    bare = changed(supine, tmp_path, RescaleIntercept=None, RescaleSlope=None)
    assert "RescaleSlope" not in only(gsps(bare, lesion(bare, 1, (3,))))


def test_validators_find_nothing_that_they_do_not_find_in_the_images(study: Study, tmp_path: Path) -> None:
    (found,) = gsps(study, lesion(study, 1, range(2, 5)), lesion(study, 2, (4, 5))).objects
    path = tmp_path / "gsps.dcm"
    path.write_bytes(found.encoded)
    assert set(dciodvfy(path)) <= set(dciodvfy(study.paths[0]))
    # What is said of patient and study beyond their identity stays with the images (`envelope`).
    said = [line for line in dcentvfy([path, *study.paths]) if "Element=<PatientComments>" not in line]
    assert set(said) <= set(dcentvfy(study.paths))


def test_where_the_images_name_no_body_part_a_validator_may_ask_for_a_side(supine: Study, tmp_path: Path) -> None:
    bare = changed(supine, tmp_path, BodyPartExamined=None)
    (found,) = gsps(bare, lesion(bare, 1, (3,))).objects
    path = tmp_path / "gsps.state"
    path.write_bytes(found.encoded)
    (warning,) = set(dciodvfy(path)) - set(dciodvfy(bare.paths[0]))
    assert warning.startswith("Warning")
    assert "Laterality" in warning


def test_the_same_result_is_the_same_bytes_with_its_own_time(study: Study) -> None:
    lesions = [lesion(study, 1, (2, 3)), lesion(study, 2, (5,))]
    assert gsps(study, *lesions) == gsps(study, *lesions)
    found = only(gsps(study, *lesions))
    assert (found.PresentationCreationDate, found.PresentationCreationTime) == ("20240506", "070809")


def test_nothing_of_scanner_staff_and_institution_is_in_it(study: Study) -> None:
    found = only(gsps(study, lesion(study, 1, (3, 4))))
    kept = {"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDescription", "StudyID",
            "AccessionNumber", "ReferringPhysicianName"}  # fmt: skip
    for element in found.iterall():
        if element.VR != "SQ" and element.keyword not in kept:
            assert not any(word in str(element.value) for word in CANARY_WORDS), element


def test_lesions_that_cannot_be_drawn_are_left_out_by_name_of_the_reason(supine: Study) -> None:
    one = lesion(supine, 1, (3,))
    emission = gsps(
        supine,
        replace(one, key="nothing", long_axis=None, short_axis=None, box=None),
        replace(one, key="outside", long_axis=Segment((1, 1), (63.6, 1))),
        replace(one, key="elsewhere", image=ImageRef("1.2", "1.3", "1.4")),
    )
    assert emission.objects == ()
    assert [(left.key, left.why) for left in emission.left_out] == [
        ("nothing", "nothing_drawn"),
        ("outside", "outside_image"),
        ("elsewhere", "image_missing"),
    ]


@pytest.mark.parametrize(("keyword", "why"), [("PixelSpacing", "bad_geometry"), ("SOPClassUID", "no_sop_class")])
def test_images_that_lack_what_a_state_needs_are_named(supine: Study, tmp_path: Path, keyword: str, why: str) -> None:
    bare = replace(supine, source=changed(supine, tmp_path, **{keyword: None}).source)
    assert [left.why for left in gsps(bare, lesion(supine, 1, (3,))).left_out] == [why]


def test_many_lesions_on_one_image_share_its_reference(supine: Study) -> None:
    found = only(gsps(supine, *(lesion(supine, number, (4,)) for number in range(20))))
    assert len(found.GraphicAnnotationSequence) == 20
    (series,) = found.ReferencedSeriesSequence
    assert len(series.ReferencedImageSequence) == 1
