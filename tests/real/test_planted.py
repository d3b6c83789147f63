"""Crosses planted on real CT by highdicom, mined: they come back where they were drawn, on the slices as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from tests.experiments.mined import Mined, import_files
from tests.experiments.plant import Planted, plant

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore:The string")]

ON_IMAGE_PX, IN_PATIENT_PX = 0.01, 0.05


@pytest.fixture(scope="module")
def planted(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Planted], Mined]:
    folder = tmp_path_factory.mktemp("planted")
    crosses = plant(real_data, folder / "archive")
    return crosses, import_files(folder, [folder / "archive"])


def test_every_planted_cross_is_kept(planted: tuple[list[Planted], Mined]) -> None:
    crosses, mined = planted
    assert {one.name.split()[0] for one in crosses} == {"nlst", "lung1"}
    assert [row["reason"] for row in mined.table("bookmarks")] == [""] * len(crosses)


def test_planted_crosses_come_back_where_they_were_drawn(planted: tuple[list[Planted], Mined]) -> None:
    crosses, mined = planted
    for one in crosses:
        (row,) = mined.lesions_of(one.report_uid, one.group_path)
        limit_px = ON_IMAGE_PX if one.name.startswith("nlst") else IN_PATIENT_PX
        assert farthest_px(one.long_axis, row["long_axis_px"]) <= limit_px, one.name
        assert farthest_px(one.short_axis, row["short_axis_px"]) <= limit_px, one.name
        assert row["key_slice_number"] == one.instance_number, one.name


def test_the_picture_of_a_planted_cross_is_its_real_slice(planted: tuple[list[Planted], Mined]) -> None:
    crosses, mined = planted
    for one in crosses:
        (row,) = mined.lesions_of(one.report_uid, one.group_path)
        stored = np.asarray(Image.open(mined.out / "Images_png" / row["file_name"])).astype(np.int32)
        image = dcmread(one.image)
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        assert (stored - 32768 == hu).all(), one.name


def farthest_px(drawn: NDArray[np.float64], mined: tuple[float, ...]) -> float:
    """Largest distance of the ends, in whatever order they stand."""
    ends = np.reshape(mined, (2, 2))
    return float(min(np.linalg.norm(drawn - order, axis=1).max() for order in (ends, ends[::-1])))
