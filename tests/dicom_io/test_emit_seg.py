"""Segmentations: every reader finds the masks again, voxel for voxel, and nothing of the scanner."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ReportedLesion
from deeplesion_miner.types import Code, ImageRef
from dicom_io.emit import Emission, EmitSettings, emit
from dicom_io.emit.identity import tracking_uid
from dicom_io.testbed.identity import CANARY_WORDS
from tests.dicom_validators import dcentvfy, dciodvfy
from tests.mask_readers import by_dcmqi, by_highdicom, by_pydicom
from tests.masked_studies import PLANS, READER, Study, assert_same, lesion, planes_of, written

FRACTIONAL, LABELMAP = EmitSettings(segmentation="fractional"), EmitSettings(segmentation="labelmap")
LABEL_MAPS_ARE_NEWER = {
    "Error - Information Object Not found",
    "Error - SegmentNumber not monotonically increasing from one by one"
    " - have SegmentSequence item number 1 (from one) with SegmentNumber of 0",
}
"""What dicom3tools of 2022 says of every label map."""
LEANING = {"tilted", "oblique"}
"""Series whose slices are shifted against each other within their planes: dcmqi refuses all such stacks."""


@pytest.fixture(scope="module", params=PLANS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("study"), request.param)


@pytest.fixture(scope="module")
def supine(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("supine"))


def seg(study: Study, *lesions: ReportedLesion, settings: EmitSettings | None = None) -> Emission:
    return emit(study.result(*lesions), study.source, ("dicom-seg",), settings)


def only(emission: Emission) -> Dataset:
    (found,) = emission.objects
    return dcmread(BytesIO(found.encoded))


def saved(emission: Emission, folder: Path) -> Path:
    (found,) = emission.objects
    path = folder / "seg.dcm"
    path.write_bytes(found.encoded)
    return path


def test_every_reader_finds_the_masks_voxel_for_voxel(study: Study, tmp_path: Path) -> None:
    lesions = [lesion(study, 1, range(1, 5)), lesion(study, 2, (3,)), lesion(study, 3, range(5, 9))]
    path, truth = saved(seg(study, *lesions), tmp_path), planes_of(study, lesions)
    assert_same(by_pydicom(path, study), truth)
    assert_same(by_highdicom(path, study), truth)
    if study.paths[0].parent.name not in LEANING:
        assert_same(by_dcmqi(path, study, tmp_path / "dcmqi"), truth)


def test_validators_find_nothing_that_they_do_not_find_in_the_images(study: Study, tmp_path: Path) -> None:
    path = saved(seg(study, lesion(study, 1, range(2, 5)), lesion(study, 2, (4, 5))), tmp_path)
    assert set(dciodvfy(path)) <= set(dciodvfy(study.paths[0]))
    # What is said of patient and study beyond their identity stays with the images (`envelope`).
    said = [line for line in dcentvfy([path, *study.paths]) if "Element=<PatientComments>" not in line]
    assert set(said) <= set(dcentvfy(study.paths))


@pytest.mark.parametrize("kind", ["fractional", "labelmap"])
@pytest.mark.parametrize("syntax", ["explicit", "rle", "deflated"])
def test_fractional_ones_and_label_maps_hold_the_same_masks(
    supine: Study, tmp_path: Path, kind: str, syntax: str
) -> None:
    settings = EmitSettings(segmentation=kind, segmentation_syntax=syntax)  # type: ignore[arg-type]
    lesions = [apart(supine, number, 1 + 3 * number) for number in (0, 1, 2)]
    path = saved(seg(supine, *lesions, settings=settings), tmp_path)
    assert_same(by_pydicom(path, supine), planes_of(supine, lesions))
    if syntax != "deflated":
        known = LABEL_MAPS_ARE_NEWER if kind == "labelmap" else set()
        assert set(dciodvfy(path)) - set(dciodvfy(supine.paths[0])) == known


def apart(study: Study, number: int, place: int) -> ReportedLesion:
    """A lesion in a corner of its own."""
    bits = np.zeros((64, 64), np.bool_)
    bits[10 * number + 3 : 10 * number + 9, 20 : 26 + number] = True
    mask = PixelMask.of_plane(bits)
    return replace(
        lesion(study, number + 1, (place,)),
        masks=tuple((image, mask) for image in study.images[place - 1 : place + 1]),
    )


@pytest.mark.parametrize(
    ("kind", "syntax", "uid"),
    [
        ("binary", "explicit", ExplicitVRLittleEndian),
        ("binary", "deflated", DeflatedExplicitVRLittleEndian),
        ("binary", "rle", DeflatedExplicitVRLittleEndian),
        ("fractional", "rle", RLELossless),
        ("labelmap", "rle", RLELossless),
    ],
)
def test_bits_are_deflated_where_run_lengths_are_asked_for(supine: Study, kind: str, syntax: str, uid: str) -> None:
    settings = EmitSettings(segmentation=kind, segmentation_syntax=syntax)  # type: ignore[arg-type]
    (found,) = seg(supine, lesion(supine, 1, (2, 3)), settings=settings).objects
    assert found.transfer_syntax_uid == uid == dcmread(BytesIO(found.encoded)).file_meta.TransferSyntaxUID


def test_what_is_deflated_is_what_another_tool_inflates(study: Study, tmp_path: Path) -> None:
    inflate = shutil.which("dcmconv")
    if inflate is None:
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    lesions = [lesion(study, 1, range(2, 5)), lesion(study, 2, (4, 5))]
    deflated = saved(seg(study, *lesions, settings=EmitSettings(segmentation_syntax="deflated")), tmp_path)
    inflated = tmp_path / "inflated.dcm"
    subprocess.run([inflate, "+te", str(deflated), str(inflated)], check=True)
    assert deflated.stat().st_size * 3 < inflated.stat().st_size
    assert_same(by_pydicom(inflated, study), planes_of(study, lesions))
    assert set(dciodvfy(inflated)) <= set(dciodvfy(study.paths[0]))


@pytest.mark.parametrize("kind", ["fractional", "labelmap"])
def test_run_lengths_are_what_another_tool_decodes(supine: Study, tmp_path: Path, kind: str) -> None:
    decode = shutil.which("dcmdrle")
    if decode is None:
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    settings = EmitSettings(segmentation=kind, segmentation_syntax="rle")  # type: ignore[arg-type]
    lesions = [apart(supine, number, 1 + 3 * number) for number in (0, 1, 2)]
    coded, decoded = saved(seg(supine, *lesions, settings=settings), tmp_path), tmp_path / "decoded.dcm"
    subprocess.run([decode, str(coded), str(decoded)], check=True)
    assert_same(by_pydicom(decoded, supine), planes_of(supine, lesions))


def test_segments_may_overlap(supine: Study, tmp_path: Path) -> None:
    first = lesion(supine, 1, range(2, 6))
    second = replace(first, key="2", label="Lesion 2")
    path = saved(seg(supine, first, second), tmp_path)
    assert dcmread(path).SegmentsOverlap == "YES"
    assert_same(by_pydicom(path, supine), planes_of(supine, [first, second]))
    assert_same(by_dcmqi(path, supine, tmp_path / "dcmqi"), planes_of(supine, [first, second]))


def overlapping(study: Study) -> list[ReportedLesion]:
    """The first two overlap, the third overlaps neither."""
    first = lesion(study, 1, range(2, 6))
    return [first, replace(first, key="2", label="Lesion 2"), lesion(study, 3, (7, 8))]


def test_overlapping_lesions_are_label_maps_of_their_own(supine: Study, tmp_path: Path) -> None:
    lesions = overlapping(supine)
    emission = seg(supine, *lesions, settings=LABELMAP)
    assert emission.left_out == ()
    for found, own in zip(emission.objects, ([lesions[0], lesions[2]], [lesions[1]]), strict=True):
        (tmp_path / "seg").write_bytes(found.encoded)
        assert_same(by_pydicom(tmp_path / "seg", supine), planes_of(supine, own))
    assert len({found.series_instance_uid for found in emission.objects}) == 2


def test_overlapping_lesions_too_large_for_memory_are_objects_of_their_own(
    supine: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesions = overlapping(supine)
    (together,) = seg(supine, *lesions).objects
    monkeypatch.setattr("dicom_io.emit.seg.LARGEST_STACK_BYTES", 6 * 64 * 64 * 3 - 1)
    first, second = seg(supine, *lesions).objects
    assert len({one.sop_instance_uid for one in (together, first, second)}) == 3
    for found, own in ((first, [lesions[0], lesions[2]]), (second, [lesions[1]])):
        (tmp_path / "seg").write_bytes(found.encoded)
        assert_same(by_pydicom(tmp_path / "seg", supine), planes_of(supine, own))


def test_more_segments_than_a_byte_counts(supine: Study, tmp_path: Path) -> None:
    lesions = []
    for number in range(300):
        bits = np.zeros((64, 64), np.bool_)
        bits[number // 60 * 2, number % 60] = True
        mask = PixelMask.of_plane(bits)
        lesions.append(replace(lesion(supine, number, (4,)), masks=((supine.images[4], mask),)))
    path = saved(seg(supine, *lesions), tmp_path)
    assert_same(by_pydicom(path, supine), planes_of(supine, lesions))


def test_only_frames_with_pixels_and_only_images_with_masks_are_in_it(supine: Study) -> None:
    found = only(seg(supine, lesion(supine, 1, (1, 2)), lesion(supine, 2, (7,))))
    assert found.NumberOfFrames == 3
    referenced = [one.ReferencedSOPInstanceUID for one in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
    assert sorted(referenced) == sorted(supine.images[place].sop_instance_uid for place in (1, 2, 7))


def test_the_distance_of_slices_is_stated_only_where_neighbours_show_it(supine: Study) -> None:
    def measures(*places: int) -> Dataset:
        shared = only(seg(supine, lesion(supine, 1, places))).SharedFunctionalGroupsSequence[0]
        return shared.PixelMeasuresSequence[0]

    assert measures(2, 3).SpacingBetweenSlices == 5
    assert "SpacingBetweenSlices" not in measures(2)
    assert "SpacingBetweenSlices" not in measures(1, 8), "35 mm apart: there are slices between"


def test_a_segment_says_what_it_is_and_who_found_it(supine: Study) -> None:
    one = lesion(supine, 1, (3,), label="Läsion 1")
    result = supine.result(one)
    (found,) = only(emit(result, supine.source, ("dicom-seg",))).SegmentSequence
    assert found.SegmentLabel == found.TrackingID == "Läsion 1"
    assert found.TrackingUID == tracking_uid(result, one)
    assert found.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert found.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert found.AnatomicRegionSequence[0].CodeMeaning == "Liver"
    assert (found.SegmentAlgorithmType, found.SegmentAlgorithmName) == ("AUTOMATIC", "detector")
    (algorithm,) = found.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmVersion, algorithm.AlgorithmParameters) == ("1.2", "weights=0123abcd")


def test_a_persons_masks_are_manual(supine: Study) -> None:
    result = supine.result(lesion(supine, 1, (3,)), author=READER)
    found = only(emit(result, supine.source, ("dicom-seg",)))
    assert found.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
    assert found.ContentCreatorName == READER.name


def test_colours_of_neighbouring_segments_are_far_apart(supine: Study) -> None:
    found = only(seg(supine, *(lesion(supine, number, (number,)) for number in range(8))))
    colours = [np.array(one.RecommendedDisplayCIELabValue) * (100, 255, 255) / 65535 for one in found.SegmentSequence]
    distances = [np.linalg.norm(a - b) for n, a in enumerate(colours) for b in colours[n + 1 :]]
    assert min(distances) > 20


def test_a_label_is_written_within_the_limits_of_its_value_representation(supine: Study) -> None:
    found = only(seg(supine, lesion(supine, 1, (3,), label="a\\b\r\n" + "x" * 100)))
    assert found.SegmentSequence[0].SegmentLabel == "a b " + "x" * 60


@given(label=st.text(max_size=200), meaning=st.text(max_size=100))
@hypothesis_settings(max_examples=15, deadline=None)
def test_any_text_is_written_so_that_it_can_be_read(label: str, meaning: str) -> None:
    study = a_study()
    site = Code("1234567890123456789", "99LOCAL", meaning)
    result = study.result(lesion(study, 1, (3,), label=label, site=site), author=Author(label, label, meaning))
    emission = emit(result, study.source, ("dicom-seg", "rtstruct", "gsps"))
    mask, structures, state = (dcmread(BytesIO(one.encoded)) for one in emission.objects)
    name = mask.SegmentSequence[0].SegmentLabel
    assert name == structures.StructureSetROISequence[0].ROIName == " ".join(name.split())
    assert 1 <= len(name) <= 64
    assert state.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue.startswith(name)


@cache
def a_study() -> Study:
    return written(Path(tempfile.mkdtemp()))


def test_a_viewers_free_text_is_no_region(supine: Study) -> None:
    site = Code("CORNERSTONEFREETEXT", "CORNERSTONEJS", "somewhere")
    (found,) = only(seg(supine, lesion(supine, 1, (3,), site=site))).SegmentSequence
    assert "AnatomicRegionSequence" not in found


def test_report_and_segmentation_call_a_lesion_by_one_tracking_uid(supine: Study) -> None:
    result = supine.result(lesion(supine, 1, (3,)), lesion(supine, 2, (4,), tracking_uid="1.2.3"))
    report, mask = (
        dcmread(BytesIO(one.encoded)) for one in emit(result, supine.source, ("dicom-sr", "dicom-seg")).objects
    )
    tracked: list[str] = []
    report.walk(lambda _, element: tracked.append(element.value) if element.keyword == "UID" else None)
    assert {one.TrackingUID for one in mask.SegmentSequence} <= set(tracked)


def test_the_same_result_is_the_same_bytes_and_another_one_is_not(supine: Study) -> None:
    one, other = lesion(supine, 1, (3, 4)), lesion(supine, 1, (3, 4), seed=1)
    first = seg(supine, one).objects[0]
    assert seg(supine, one).objects[0].encoded == first.encoded
    later = replace(supine.result(one), made_at=supine.result(one).made_at.replace(year=2025))
    assert emit(later, supine.source, ("dicom-seg",)).objects[0].sop_instance_uid == first.sop_instance_uid
    uids = {first.sop_instance_uid, seg(supine, other).objects[0].sop_instance_uid}
    uids |= {seg(supine, one, settings=settings).objects[0].sop_instance_uid for settings in (FRACTIONAL, LABELMAP)}
    assert len(uids) == 4


def test_every_uid_in_it_is_the_archives_or_derived(supine: Study) -> None:
    uids = set()
    found = only(seg(supine, lesion(supine, 1, (3, 4))))
    found.walk(lambda _, element: uids.add(str(element.value)) if element.VR == "UI" else None)
    assert all(uid.startswith(("2.25.", "1.2.840.10008.")) for uid in uids)


def test_nothing_of_scanner_staff_and_institution_is_in_it(study: Study) -> None:
    found = only(seg(study, lesion(study, 1, (3, 4))))
    kept = {"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDescription", "StudyID",
            "AccessionNumber", "ReferringPhysicianName"}  # fmt: skip
    for element in found.iterall():
        if element.VR != "SQ" and element.keyword not in {*kept, "PixelData"}:
            assert not any(word in str(element.value) for word in CANARY_WORDS), element
    assert found.Manufacturer == found.ManufacturerModelName == "deeplesion_miner"
    assert "ContributingEquipmentSequence" not in found
    assert "InstanceCreationDate" not in found


def test_emitting_changes_nothing_in_the_headers(study: Study) -> None:
    before = {uid: dataset.to_json() for uid, dataset in study.source.datasets.items()}
    emit(study.result(lesion(study, 1, (3, 4))), study.source, ("dicom-seg", "rtstruct", "gsps"))
    assert {uid: dataset.to_json() for uid, dataset in study.source.datasets.items()} == before


def test_lesions_without_usable_masks_are_left_out_by_name_of_the_reason(supine: Study) -> None:
    one = lesion(supine, 1, (3,))
    (image, mask), elsewhere = one.masks[0], ImageRef("1.2", "1.3", "1.4")
    lesions = [
        replace(one, key="none", masks=()),
        replace(one, key="empty", masks=((image, PixelMask(0, 0, np.zeros((3, 3), np.bool_))),)),
        replace(one, key="elsewhere", masks=((elsewhere, mask),)),
        replace(one, key="half of it elsewhere", masks=((image, mask), (elsewhere, mask))),
        replace(one, key="outside", masks=((image, PixelMask(62, 0, np.ones((1, 3), np.bool_))),)),
    ]
    emission = seg(supine, *lesions)
    assert emission.objects == ()
    assert [(left.key, left.why) for left in emission.left_out] == [
        ("none", "no_mask"),
        ("empty", "no_mask"),
        ("elsewhere", "image_missing"),
        ("half of it elsewhere", "image_missing"),
        ("outside", "outside_image"),
    ]


@pytest.mark.parametrize(
    ("keyword", "why"),
    [
        ("FrameOfReferenceUID", "no_frame_of_reference"),
        ("PixelSpacing", "bad_geometry"),
        ("SOPClassUID", "no_sop_class"),
    ],
)
def test_images_that_lack_what_a_mask_needs_are_named(supine: Study, tmp_path: Path, keyword: str, why: str) -> None:
    for number, path in enumerate(supine.paths):
        image = dcmread(path)
        image.pop(keyword)
        image.save_as(tmp_path / f"{number}.dcm")
    lesions = [lesion(supine, 1, (3,))]
    study = replace(supine, source=Study.read(tmp_path.iterdir()).source)
    assert [left.why for left in seg(study, *lesions).left_out] == [why]


@pytest.mark.parametrize("sop_class", ["1.3.46.670589.11.0.0.12.1", "1.2.840.10008.5.1.4.1.1.7"])
def test_images_of_any_class_are_referred_to_as_what_they_are(supine: Study, tmp_path: Path, sop_class: str) -> None:
    """A vendor's own CT class and secondary capture: neither is what highdicom takes for CT."""
    for number, path in enumerate(supine.paths):
        image = dcmread(path)
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = sop_class
        image.save_as(tmp_path / f"{number}.dcm")
    study = Study.read(tmp_path.iterdir())
    for found in emit(study.result(lesion(study, 1, (3, 4))), study.source, ("dicom-seg", "rtstruct", "gsps")).objects:
        classes: set[str] = set()
        dcmread(BytesIO(found.encoded)).walk(
            lambda holder, element, classes=classes: (
                classes.add(holder.ReferencedSOPClassUID)
                if element.keyword == "ReferencedSOPInstanceUID" and element.value in study.source.datasets
                else None
            )
        )
        assert classes == {sop_class}, found.kind


def test_images_without_a_thickness_are_written(supine: Study, tmp_path: Path) -> None:
    for number, path in enumerate(supine.paths):
        image = dcmread(path)
        image.pop("SliceThickness")
        image.save_as(tmp_path / f"{number}.dcm")
    study = Study.read(tmp_path.iterdir())
    lesions = [lesion(study, 1, (3, 4))]
    (tmp_path / "out").mkdir()
    assert_same(by_pydicom(saved(seg(study, *lesions), tmp_path / "out"), study), planes_of(study, lesions))


def test_series_become_an_object_each(tmp_path: Path) -> None:
    written(tmp_path / "one", "supine")
    written(tmp_path / "other", "oblique")
    both = Study.read(tmp_path.rglob("*.dcm"))
    by_series = {image.series_instance_uid: image for image in both.images}
    lesions = []
    for number, series in enumerate(sorted(by_series)):
        places = [place for place, image in enumerate(both.images) if image.series_instance_uid == series]
        lesions.append(lesion(both, number, places[2:4]))
    emission = seg(both, *lesions)
    assert [found.kind for found in emission.objects] == ["dicom-seg", "dicom-seg"]
    assert len({found.series_instance_uid for found in emission.objects}) == 2
    for found, one in zip(emission.objects, lesions, strict=True):
        (tmp_path / "seg").write_bytes(found.encoded)
        assert_same(by_pydicom(tmp_path / "seg", both), planes_of(both, [one]))


def test_two_phases_of_one_series_become_an_object_each(supine: Study, tmp_path: Path) -> None:
    for path in supine.paths:
        image = dcmread(path)
        image.save_as(tmp_path / f"first_{path.name}")
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{image.SOPInstanceUID[:-1]}.1"
        image.save_as(tmp_path / f"second_{path.name}")
    both = Study.read(tmp_path.glob("*.dcm"))
    lesions = [lesion(both, number, range(number % 2, 10, 2)) for number in (0, 1, 2)]
    emission = seg(both, *lesions)
    assert len(emission.objects) == 2
    for found, own in zip(emission.objects, ([lesions[0], lesions[2]], [lesions[1]]), strict=True):
        (tmp_path / "seg").write_bytes(found.encoded)
        assert_same(by_pydicom(tmp_path / "seg", both), planes_of(both, own))


def test_a_mask_on_two_images_in_one_place_is_left_out(supine: Study, tmp_path: Path) -> None:
    image = dcmread(supine.paths[0])
    image.save_as(tmp_path / "0.dcm")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    image.save_as(tmp_path / "1.dcm")
    both = Study.read(tmp_path.glob("*.dcm"))
    assert [left.why for left in seg(both, lesion(both, 1, (0, 1))).left_out] == ["same_place"]
