"""Phantom patients: the truth is in the pixels, every writer's habit is in the files, and the bytes never change."""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeplesion_miner.reasons import reasons
from deeplesion_miner.types import ImageRef, Kind, Segment
from dicom_io.testbed.phantoms import PhantomArchive, write_phantoms
from dicom_io.testbed.rasteriser import Grid, Shape, picture_hu
from dicom_io.testbed.series import tilted, turned
from dicom_io.testbed.truth import ExpectedBookmark


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> PhantomArchive:
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), small=True)


@pytest.fixture(scope="module")
def files(archive: PhantomArchive) -> dict[str, Path]:
    paths = archive.folder.rglob("*.dcm")
    return {str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path for path in paths}


def frame_hu(path: Path, ref: ImageRef) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The frame's CT numbers and its spacing between rows and between columns, by pydicom alone."""
    image = pydicom.dcmread(path)
    pixels = image.pixel_array if image.get("NumberOfFrames") is None else image.pixel_array[ref.frame_number - 1]
    if "SharedFunctionalGroupsSequence" in image:
        shared = image.SharedFunctionalGroupsSequence[0]
        rescale, measures = shared.PixelValueTransformationSequence[0], shared.PixelMeasuresSequence[0]
    else:
        rescale = measures = image
    hu = pixels.astype(float) * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)
    row_spacing, col_spacing = (float(value) for value in measures.PixelSpacing)
    return hu, (row_spacing, col_spacing)


def bilinear(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = x - left, y - top
    upper = hu[top, left] * (1 - u) + hu[top, left + 1] * u
    lower = hu[top + 1, left] * (1 - u) + hu[top + 1, left + 1] * u
    return upper * (1 - v) + lower * v


def edge_errors_px(hu: NDArray[np.float64], line: Segment, middle_hu: float) -> list[float]:
    """For both ends: how far along the line the CT number crosses the middle value, from the end, in pixels."""
    errors = []
    for end, other in ((line.end, line.start), (line.start, line.end)):
        length = math.dist(end, other)
        along = ((end[0] - other[0]) / length, (end[1] - other[1]) / length)
        offsets = np.linspace(-2.5, 2.5, 5001)
        profile = bilinear(hu, end[0] + offsets * along[0], end[1] + offsets * along[1]) - middle_hu
        crossings = np.nonzero(np.diff(np.sign(profile)))[0]
        assert len(crossings) == 1
        errors.append(float(offsets[crossings[0]]))
    return errors


def worst_edge_error_px(archive: PhantomArchive, files: dict[str, Path]) -> dict[str, float]:
    worst = {}
    for mark in archive.expected:
        if not mark.ends_on_edges:
            continue
        assert mark.image is not None
        assert mark.long_axis_px is not None
        assert mark.short_axis_px is not None
        hu, _ = frame_hu(files[mark.image.sop_instance_uid], mark.image)
        middle = (mark.lesion_hu + mark.organ_hu) / 2
        errors = [
            *edge_errors_px(hu, mark.long_axis_px, middle),
            *edge_errors_px(hu, mark.short_axis_px, middle),
        ]
        worst[mark.name] = max(abs(error) for error in errors)
    return worst


def test_the_ct_number_crosses_the_middle_at_the_ends_of_every_drawn_axis(
    archive: PhantomArchive, files: dict[str, Path]
) -> None:
    worst = worst_edge_error_px(archive, files)
    assert len(worst) >= 25
    assert {name: error for name, error in worst.items() if error >= 0.1} == {}


def test_a_half_pixel_slip_would_not_pass_for_the_truth(archive: PhantomArchive, files: dict[str, Path]) -> None:
    mark = next(mark for mark in archive.expected if mark.name == "bertram/0/read/lung")
    assert mark.image is not None
    assert mark.long_axis_px is not None
    hu, _ = frame_hu(files[mark.image.sop_instance_uid], mark.image)
    (x1, y1), (x2, y2) = mark.long_axis_px.start, mark.long_axis_px.end
    slipped = Segment((x1 + 0.5, y1 + 0.5), (x2 + 0.5, y2 + 0.5))
    errors = edge_errors_px(hu, slipped, (mark.lesion_hu + mark.organ_hu) / 2)
    assert max(abs(error) for error in errors) > 0.3


def test_the_crossing_holds_under_noise(tmp_path: Path) -> None:
    noisy = write_phantoms(tmp_path, small=True, noise_hu=3)
    files = {
        str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path
        for path in tmp_path.rglob("*.dcm")
    }
    assert max(worst_edge_error_px(noisy, files).values()) < 0.1


def test_patient_coordinates_are_the_pixels_placed_by_the_written_header(
    archive: PhantomArchive, files: dict[str, Path]
) -> None:
    checked = 0
    for mark in archive.expected:
        if not mark.ends_on_edges:
            continue
        assert mark.image is not None
        image = pydicom.dcmread(files[mark.image.sop_instance_uid], stop_before_pixels=True)
        if "PerFrameFunctionalGroupsSequence" in image:
            groups = image.PerFrameFunctionalGroupsSequence[mark.image.frame_number - 1]
            shared = image.SharedFunctionalGroupsSequence[0]
            position = groups.PlanePositionSequence[0].ImagePositionPatient
            orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
            spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        else:
            position, orientation = image.ImagePositionPatient, image.ImageOrientationPatient
            spacing = image.PixelSpacing
        origin, directions = np.array(position, float), np.array(orientation, float)
        for line_px, line_mm in (
            (mark.long_axis_px, mark.long_axis_mm),
            (mark.short_axis_px, mark.short_axis_mm),
        ):
            assert line_px is not None
            assert line_mm is not None
            for (column, row), point in ((line_px.start, line_mm.start), (line_px.end, line_mm.end)):
                # PS3.3 C.7.6.2.1.1: the column index steps by PixelSpacing[1] along the first direction.
                placed = origin + directions[:3] * spacing[1] * column + directions[3:] * spacing[0] * row
                assert np.allclose(placed, point, atol=1e-6)
                checked += 1
    assert checked >= 100


def content_items(item: pydicom.Dataset, path: str = "") -> dict[str, pydicom.Dataset]:
    found = {}
    for position, child in enumerate(item.get("ContentSequence", []), start=1):
        child_path = f"{path}.{position}" if path else str(position)
        found[child_path] = child
        found.update(content_items(child, child_path))
    return found


def drawn_lines(report: pydicom.Dataset, mark: ExpectedBookmark) -> list[list[float]]:
    items = content_items(report)
    assert items[mark.item_path].ConceptNameCodeSequence[0].CodeValue == "125007"
    below = [item for path, item in items.items() if path.startswith(f"{mark.item_path}.")]
    return [list(item.GraphicData) for item in below if item.ValueType in ("SCOORD", "SCOORD3D")]


def test_reports_hold_the_true_ends_half_a_pixel_from_the_corner(
    archive: PhantomArchive, files: dict[str, Path]
) -> None:
    for mark in archive.expected:
        if mark.kind is not Kind.BIDIRECTIONAL or "3D" in mark.writer or mark.name.startswith("elena/0"):
            continue
        lines = drawn_lines(pydicom.dcmread(files[mark.source_sop_instance_uid]), mark)
        assert mark.long_axis_px is not None
        assert mark.short_axis_px is not None
        for line, (x1, y1, x2, y2) in zip((mark.long_axis_px, mark.short_axis_px), lines, strict=True):
            assert np.allclose([*line.start, *line.end], [x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5], atol=1e-4)


def test_reports_in_patient_coordinates_hold_the_true_ends(archive: PhantomArchive, files: dict[str, Path]) -> None:
    marks = [mark for mark in archive.expected if mark.writer == "highdicom SCOORD3D"]
    assert len(marks) == 4
    for mark in marks:
        lines = drawn_lines(pydicom.dcmread(files[mark.source_sop_instance_uid]), mark)
        assert mark.long_axis_mm is not None
        assert mark.short_axis_mm is not None
        for line, numbers in zip((mark.long_axis_mm, mark.short_axis_mm), lines, strict=True):
            assert np.allclose([*line.start, *line.end], numbers, atol=1e-4)


def test_ohif_swaps_the_spacings_of_pixels_that_are_not_square(archive: PhantomArchive, files: dict[str, Path]) -> None:
    marks = [mark for mark in archive.expected if "swapped_spacing_undone" in mark.flags]
    assert len(marks) == 2
    for mark in marks:
        assert mark.image is not None
        assert mark.long_axis_px is not None
        image = pydicom.dcmread(files[mark.image.sop_instance_uid], stop_before_pixels=True)
        row_spacing, col_spacing = image.PixelSpacing
        x, y = drawn_lines(pydicom.dcmread(files[mark.source_sop_instance_uid]), mark)[0][:2]
        assert (x - 0.5) * row_spacing / col_spacing == pytest.approx(mark.long_axis_px.start[0], abs=1e-4)
        assert (y - 0.5) * col_spacing / row_spacing == pytest.approx(mark.long_axis_px.start[1], abs=1e-4)


def test_every_expected_reason_and_flag_is_in_the_table(archive: PhantomArchive) -> None:
    assert {reason for mark in archive.expected for reason in mark.reasons} <= set(reasons("reject"))
    assert {flag for mark in archive.expected for flag in mark.flags} <= set(reasons("flag"))
    assert all(mark.kept == (not mark.reasons) for mark in archive.expected)


def test_each_patient_has_two_time_points_and_three_have_a_lesion_at_both(archive: PhantomArchive) -> None:
    studies = {(mark.patient_id, mark.study_instance_uid) for mark in archive.expected}
    assert len({patient for patient, _ in studies}) == 5
    assert len(studies) == 10
    seen = Counter((mark.patient_id, mark.lesion) for mark in archive.kept if mark.lesion)
    assert len({patient for (patient, _), times in seen.items() if times == 2}) >= 3


def test_the_archive_holds_what_a_miner_must_cope_with(archive: PhantomArchive) -> None:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in archive.folder.rglob("*.dcm")]
    syntaxes = {header.file_meta.TransferSyntaxUID.name for header in headers}
    assert {"RLE Lossless", "Deflated Explicit VR Little Endian", "Implicit VR Little Endian"} <= syntaxes
    assert any("JPEG-LS" in name for name in syntaxes)
    classes = {header.SOPClassUID.name for header in headers}
    assert {"Enhanced CT Image Storage", "Secondary Capture Image Storage", "Basic Text SR Storage"} <= classes
    assert {"Enhanced SR Storage", "Comprehensive SR Storage", "Comprehensive 3D SR Storage"} <= classes
    assert {reason for mark in archive.expected for reason in mark.reasons[:1]} >= {
        "unsupported_source", "image_missing", "not_ct", "localizer", "non_axial", "off_plane", "no_second_axis",
        "zero_length", "stated_value_mismatch", "duplicate", "superseded",
    }  # fmt: skip


def test_one_series_is_numbered_from_the_feet(archive: PhantomArchive) -> None:
    series: dict[str, list[tuple[int, float]]] = {}
    for path in archive.folder.rglob("axial/*.dcm"):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        place = (int(image.InstanceNumber), float(image.ImagePositionPatient[2]))
        series.setdefault(str(image.SeriesInstanceUID), []).append(place)
    from_feet = [places for places in series.values() if min(places)[1] < max(places)[1]]
    assert len(from_feet) == 1
    assert len(series) >= 8


def test_every_file_is_full_of_canaries(archive: PhantomArchive) -> None:
    for path in archive.folder.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert "CANARY" in str(header.PatientName)
        assert header.PatientBirthDate in archive.canaries
        assert {header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID} <= archive.uids
        assert header.StudyDate in archive.study_dates


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.dcm")
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_phantoms(tmp_path / "first", small=True, slices_per_series=7, noise_hu=2)
    again = write_phantoms(tmp_path / "again", small=True, slices_per_series=7, noise_hu=2)
    assert digests(tmp_path / "first") == digests(tmp_path / "again")
    assert (first.expected, first.uids) == (again.expected, again.uids)


def test_another_seed_gives_other_uids_and_the_same_lesions(archive: PhantomArchive, tmp_path: Path) -> None:
    other = write_phantoms(tmp_path, small=True, seed=1)
    assert not other.uids & archive.uids
    assert [mark.long_axis_px for mark in other.expected] == [mark.long_axis_px for mark in archive.expected]


@pytest.mark.slow
def test_most_studies_have_a_hundred_slices_when_asked_for(tmp_path: Path) -> None:
    archive = write_phantoms(tmp_path, slices_per_series=100, matrix=32)
    images = Counter()
    for path in tmp_path.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        images[str(header.StudyInstanceUID)] += int(header.get("NumberOfFrames", 1)) * (header.Modality == "CT")
    assert sum(count >= 100 for count in images.values()) == len(images) == 10
    assert len(archive.kept) >= 20


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_an_independent_validator_finds_only_the_faults_that_ohif_makes(archive: PhantomArchive) -> None:
    known = {
        # What it says of reports that OHIF 3.11 (arrows) and 3.13 (saved again) stored themselves.
        "Bad attribute Value Multiplicity 4 (2 Required by GraphicTypeIsPOINT) Element=<GraphicData>",
        "Missing attribute Type 2 Required Element=<MeasuredValueSequence>",
        "Missing attribute Type 1 Required Element=<ReferencedSOPClassUID>",
    }
    checked = 0
    for path in sorted({*archive.folder.rglob("0001.dcm"), *archive.folder.rglob("report_*.dcm")}):
        if pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.is_deflated:
            # dciodvfy does not inflate.
            continue
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert [line for line in errors if not any(fault in line for fault in known)] == [], path
        checked += 1
    assert checked >= 25


centres = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))


@settings(max_examples=50, deadline=None)
@given(centre=centres, semi_px=st.floats(3.0, 12.0), ratio=st.floats(0.5, 1.0), turn=st.floats(0.0, math.pi))
def test_each_pixel_of_an_ellipse_is_the_mean_over_its_area(
    centre: tuple[float, float], semi_px: float, ratio: float, turn: float
) -> None:
    grid = Grid((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 1.0, 1.0, 32, 32)
    along, across = (math.cos(turn), math.sin(turn), 0.0), (-math.sin(turn), math.cos(turn), 0.0)
    middle = (15.5 + centre[0], 15.5 + centre[1], 0.0)
    shape = Shape(middle, (along, across, (0.0, 0.0, 1.0)), (semi_px, ratio * semi_px, 5.0), 0.0)
    share = picture_hu(grid, (shape,)) / 1000 + 1
    # Brute force: 32 samples squared in every pixel.
    samples = (np.arange(32 * 32) + 0.5) / 32 - 0.5
    x, y = samples[None, :] - middle[0], samples[:, None] - middle[1]
    inside = ((x * along[0] + y * along[1]) / semi_px) ** 2 + (
        (x * across[0] + y * across[1]) / semi_px / ratio
    ) ** 2 < 1
    assert np.abs(share - inside.reshape(32, 32, 32, 32).mean(axis=(1, 3))).max() < 0.02


@given(
    degrees=st.floats(-40.0, 40.0), spacing=st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0)), is_turned=st.booleans()
)
def test_a_grid_finds_the_pixel_that_it_placed(degrees: float, spacing: tuple[float, float], is_turned: bool) -> None:
    row_dir, col_dir = turned(degrees) if is_turned else tilted(degrees)
    grid = Grid((-10.0, 20.0, 30.0), row_dir, col_dir, *spacing, 64, 64)
    assert math.isclose(math.dist(grid.normal, (0, 0, 0)), 1.0, abs_tol=1e-12)
    assert grid.position_px(grid.point_mm(12.25, 40.5)) == pytest.approx((12.25, 40.5), abs=1e-9)
