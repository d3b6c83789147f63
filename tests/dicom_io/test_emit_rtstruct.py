"""Structure sets: contours filled by pixel centres are the masks again, and run along the edges of their pixels."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import ReportedLesion
from dicom_io.emit import Emission, emit
from dicom_io.testbed.identity import CANARY_WORDS
from tests.dicom_validators import dcentvfy, dciodvfy
from tests.mask_readers import by_contours, contours
from tests.masked_studies import PLANS, READER, Study, assert_same, lesion, planes_of, written


@pytest.fixture(scope="module", params=PLANS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("study"), request.param)


@pytest.fixture(scope="module")
def supine(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("supine"))


def rtstruct(study: Study, *lesions: ReportedLesion) -> Emission:
    return emit(study.result(*lesions), study.source, ("rtstruct",))


def saved(emission: Emission, folder: Path) -> Path:
    (found,) = emission.objects
    path = folder / "rtstruct.dcm"
    path.write_bytes(found.encoded)
    return path


def only(emission: Emission) -> Dataset:
    (found,) = emission.objects
    return dcmread(BytesIO(found.encoded))


def test_contours_filled_by_another_reader_are_the_masks_voxel_for_voxel(study: Study, tmp_path: Path) -> None:
    lesions = [lesion(study, number, range(number, number + 4), seed=5) for number in range(6)]
    path = saved(rtstruct(study, *lesions), tmp_path)
    assert_same(by_contours(path, study), planes_of(study, lesions))


def test_contours_lie_on_the_edges_of_pixels(study: Study, tmp_path: Path) -> None:
    lesions = [lesion(study, 1, range(2, 6))]
    found = contours(saved(rtstruct(study, *lesions), tmp_path), study)
    points = np.concatenate([polygon for by_image in found.values() for own in by_image.values() for polygon in own])
    off_edge_px = np.abs(np.abs(points - np.rint(points)) - 0.5)
    assert off_edge_px.max() < 0.001, "half-way between centres: within half a pixel of the mask's outermost centres"


def test_a_hole_hangs_on_its_part_by_a_channel(supine: Study, tmp_path: Path) -> None:
    bits = np.ones((7, 9), np.bool_)
    bits[2:5, 2:4] = bits[3, 6] = False
    ring = replace(lesion(supine, 1, (3,)), masks=((supine.images[3], PixelMask(20, 30, bits)),))
    path = saved(rtstruct(supine, ring), tmp_path)
    (polygons,) = contours(path, supine)["Lesion 1"].values()
    assert len(polygons) == 1
    assert_same(by_contours(path, supine), planes_of(supine, [ring]))


def test_a_contour_too_long_for_explicit_vr_is_still_read(tmp_path: Path) -> None:
    large = written(tmp_path / "large", matrix=128)
    bits = np.ones((80, 100), np.bool_)
    bits[1:-1:2, 1:-1:2] = False
    frayed = replace(lesion(large, 1, (3,)), masks=((large.images[3], PixelMask(9, 9, bits)),))
    path = saved(rtstruct(large, frayed), tmp_path)
    (contour,) = dcmread(path).ROIContourSequence[0].ContourSequence
    assert sum(len(str(one)) + 1 for one in contour.ContourData) > 0xFFFF
    assert_same(by_contours(path, large), planes_of(large, [frayed]))


def test_validators_find_nothing_that_they_do_not_find_in_the_images(study: Study, tmp_path: Path) -> None:
    path = saved(rtstruct(study, lesion(study, 1, range(2, 5)), lesion(study, 2, (4, 5))), tmp_path)
    assert set(dciodvfy(path)) <= set(dciodvfy(study.paths[0]))
    # What is said of patient and study beyond their identity stays with the images (`envelope`).
    said = [line for line in dcentvfy([path, *study.paths]) if "Element=<PatientComments>" not in line]
    assert set(said) <= set(dcentvfy(study.paths))


def test_a_region_is_a_gross_tumour_volume_of_its_lesion(supine: Study) -> None:
    found = only(rtstruct(supine, lesion(supine, 1, (3,)), lesion(supine, 2, (4,), label="Leber, Läsion 2")))
    assert [one.ROIName for one in found.StructureSetROISequence] == ["Lesion 1", "Leber, Läsion 2"]
    assert [one.ROINumber for one in found.StructureSetROISequence] == [1, 2]
    assert {one.ROIGenerationAlgorithm for one in found.StructureSetROISequence} == {"AUTOMATIC"}
    assert [one.RTROIInterpretedType for one in found.RTROIObservationsSequence] == ["GTV", "GTV"]
    assert [one.ReferencedROINumber for one in found.ROIContourSequence] == [1, 2]
    colours = {tuple(one.ROIDisplayColor) for one in found.ROIContourSequence}
    assert len(colours) == 2


def test_a_persons_regions_are_manual(supine: Study) -> None:
    result = supine.result(lesion(supine, 1, (3,)), author=READER)
    found = only(emit(result, supine.source, ("rtstruct",)))
    assert found.StructureSetROISequence[0].ROIGenerationAlgorithm == "MANUAL"
    assert found.RTROIObservationsSequence[0].ROIInterpreter == READER.name


def test_it_refers_to_the_images_of_its_contours_and_to_their_frame_of_reference(supine: Study) -> None:
    found = only(rtstruct(supine, lesion(supine, 1, (2, 3)), lesion(supine, 2, (7,))))
    (frame,) = found.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    image = supine.source.dataset(supine.images[0])
    assert frame.FrameOfReferenceUID == found.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    assert [one.ReferencedSOPInstanceUID for one in series.ContourImageSequence] == [
        supine.images[place].sop_instance_uid for place in (2, 3, 7)
    ]
    assert (found.StructureSetDate, found.StructureSetTime) == ("20240506", "070809")


def test_coordinates_fit_into_decimal_strings(study: Study) -> None:
    found = only(rtstruct(study, lesion(study, 1, (2, 3))))
    for contour in found.ROIContourSequence[0].ContourSequence:
        assert all(len(str(value)) <= 16 for value in contour.ContourData)


def test_the_same_result_is_the_same_bytes(study: Study) -> None:
    lesions = [lesion(study, 1, (2, 3)), lesion(study, 2, (5,))]
    assert rtstruct(study, *lesions) == rtstruct(study, *lesions)


def test_nothing_of_scanner_staff_and_institution_is_in_it(study: Study) -> None:
    found = only(rtstruct(study, lesion(study, 1, (3, 4))))
    kept = {"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDescription", "StudyID",
            "AccessionNumber", "ReferringPhysicianName"}  # fmt: skip
    for element in found.iterall():
        if element.VR != "SQ" and element.keyword not in kept:
            assert not any(word in str(element.value) for word in CANARY_WORDS), element


def test_lesions_without_masks_are_left_out_and_nothing_is_written_of_them_alone(supine: Study) -> None:
    emission = rtstruct(supine, replace(lesion(supine, 1, (3,)), masks=()))
    assert emission.objects == ()
    assert [(left.kind, left.why) for left in emission.left_out] == [("rtstruct", "no_mask")]
