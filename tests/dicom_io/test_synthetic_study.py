"""Synthetic studies: what is written is a CT series with a report that says where the crosses are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from deeplesion_miner.types import Segment
from dicom_io.testbed.identity import Person
from dicom_io.testbed.synthetic import LESION_SITES, Cross, write_synthetic_study
from tests.experiments.mined import import_files

PERSON = Person("made-up", "CANARY^Made", "MRN-CANARY-99", "19500101", "O")
SPACING = (1.6, 1.5)
POSITIONS = np.arange(12) * 2.5
CROSSES = (
    Cross(3, Segment((20.25, 30.5), (41.125, 33.75)), Segment((29.5, 26.1), (31.2, 38.9)), "liver"),
    Cross(3, Segment((60.0, 30.0), (60.5, 50.0)), Segment((55.0, 41.0), (66.0, 40.7)), "lung"),
    Cross(8, Segment((11.11, 44.44), (22.22, 33.33)), Segment((15.0, 37.0), (19.0, 41.5))),
)


@pytest.fixture(scope="module")
def hu() -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1024, 1500, (12, 64, 80)).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, hu: NDArray[np.int16]) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "study"
    write_synthetic_study(folder, PERSON, 4, hu, SPACING, POSITIONS, CROSSES)
    return folder


def test_slices_run_from_head_to_feet_of_a_supine_patient(folder: Path, hu: NDArray[np.int16]) -> None:
    images = [dcmread(path) for path in sorted(folder.glob("0*.dcm"))]
    heights = [float(image.ImagePositionPatient[2]) for image in images]
    assert np.diff(heights) == pytest.approx([-2.5] * 11), "z grows towards the head"
    for image, plane in zip(images, hu, strict=True):
        assert list(image.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
        assert list(image.PixelSpacing) == list(SPACING)
        assert image.PatientPosition == "HFS"
        np.testing.assert_array_equal(image.pixel_array * image.RescaleSlope + image.RescaleIntercept, plane)
    assert len({image.SeriesInstanceUID for image in images}) == 1


def test_the_same_study_is_written_to_the_same_bytes_and_another_number_is_another_study(
    folder: Path, tmp_path: Path, hu: NDArray[np.int16]
) -> None:
    refs = write_synthetic_study(tmp_path / "again", PERSON, 4, hu, SPACING, POSITIONS, CROSSES)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    others = write_synthetic_study(tmp_path / "other", PERSON, 5, hu[:2], SPACING, POSITIONS[:2], ())
    assert others[0].study_instance_uid != refs[0].study_instance_uid
    assert not (tmp_path / "other" / "report.dcm").exists()


def test_all_crosses_are_mined_back_where_they_were_drawn(folder: Path, tmp_path: Path, hu: NDArray[np.int16]) -> None:
    mined = import_files(tmp_path, [folder])
    rows = mined.table("lesions")
    assert len(rows) == len(CROSSES)
    for cross in CROSSES:
        drawn = [*cross.long_axis_px.start, *cross.long_axis_px.end]
        (row,) = (row for row in rows if np.allclose(row["long_axis_px"], drawn, atol=0.01))
        assert row["short_axis_px"] == pytest.approx([*cross.short_axis_px.start, *cross.short_axis_px.end], abs=0.01)
        assert row["key_slice_number"] == cross.index + 1
        site = LESION_SITES[cross.word] if cross.word else None
        assert row["finding_site_code"] == (f"{site.scheme}:{site.value}" if site else "")
        stored = cv2.imread(str(mined.out / "Images_png" / row["file_name"]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored.astype(int) - 32768, hu[cross.index])
