"""Real DeepLesion slices as CT objects, their rows as reports: what is mined is what public loaders expect.

The loaders are written here from what their code does: 3DCE / MULAN's `load_prep_img` and DeepLesion's own
`DL_save_nifti` (dataset facts 2). `tests/real/test_public_loaders.py` does the same for the writer alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.experiments.mined import Mined, import_files, in_group
from tests.experiments.replay import Planted, plant
from tests.experiments.replay_rows import Row, read_rows

pytestmark = pytest.mark.real

LOCATION = 2e-6
NEIGHBOUR_MM = 2.0
SUB_VOLUME = "000001_01_01"
"""The series of which all slices of the range are at hand."""

Hu = NDArray[np.int32]


@dataclass(frozen=True)
class Pair:
    """A public row and the line that we wrote for it."""

    row: Row
    public_line: dict[str, str]
    """A line of the same key slice."""
    line: dict[str, str]


@dataclass(frozen=True)
class Story:
    """Both datasets and their rows, joined through the crosswalk."""

    public: Path
    mined: Mined
    pairs: tuple[Pair, ...]


@pytest.fixture(scope="module")
def story(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    public = real_data / "deeplesion" / "png"
    table = public / "DL_info_png_visible.csv"
    with table.open(newline="") as file:
        public_lines = list(csv.DictReader(file))
    has_key_slice = [load_slice(public, line["File_name"], int(line["Key_slice_index"])) for line in public_lines]
    rows = [row for row, image in zip(read_rows(table), has_key_slice, strict=True) if image is not None]
    folder = tmp_path_factory.mktemp("loaders")
    planted = plant(rows, folder / "archive", lambda row, number: load_slice(public, row.name, number))
    mined = import_files(folder, [folder / "archive"], "--set", "deidentification.age_cap_years=none")
    by_name = {line["File_name"]: line for line in public_lines}
    pairs = [Pair(one.row, by_name[one.row.name], line_of(one, mined)) for one in planted]
    return Story(public, mined, tuple(pairs))


def line_of(one: Planted, mined: Mined) -> dict[str, str]:
    """The line of DL_info.csv that a planted row became."""
    ids = [row["lesion_id"] for row in mined.table("lesions")]
    crosswalk = mined.crosswalk("lesion")
    (public_id,) = (p for key, p in crosswalk.items() if in_group(key, one.source_uid, one.group_path))
    return mined.csv_rows()[ids.index(public_id)]


# --- 3DCE / MULAN ----------------------------------------------------------------------------------------


def load_slice(root: Path, file_name: str, number: int) -> Hu | None:
    """The slice `number` of the series of a File_name, in HU; None where the file does not exist."""
    path = root / "Images_png" / file_name[: file_name.rindex("_")] / f"{number:03d}.png"
    if not path.exists():
        return None
    stored = np.asarray(Image.open(path))
    assert stored.dtype == np.uint16
    return stored.astype(np.int32) - 32768


def load_channel(root: Path, line: dict[str, str], step: int) -> NDArray[np.float64]:
    """The image `step` times 2 mm away, interpolated between slices; towards the key slice where files are missing."""
    key = int(line["Key_slice_index"])
    interval = float(line["Spacing_mm_px_"].split(",")[2])
    relative = NEIGHBOUR_MM / interval * abs(step)
    sign = 1 if step > 0 else -1

    def nearest(offset: int) -> Hu:
        images = (load_slice(root, line["File_name"], key + sign * back) for back in range(offset, -1, -1))
        return next(image for image in images if image is not None)

    low, high = int(np.floor(relative)), int(np.ceil(relative))
    if low == high:
        return nearest(low).astype(float)
    return nearest(high) * (relative - low) + nearest(low) * (high - relative)


def test_the_first_line_is_the_one_that_loaders_compare(story: Story) -> None:
    public = (story.public / "DL_info_png_visible.csv").read_bytes().split(b"\n", 1)[0]
    assert (story.mined.out / "DL_info.csv").read_bytes().split(b"\n", 1)[0] == public


def test_every_row_is_there_under_a_name_of_the_public_form(story: Story) -> None:
    assert len(story.pairs) == len(story.mined.csv_rows()) >= 23
    for pair in story.pairs:
        parts = pair.line["File_name"].removesuffix(".png").split("_")
        assert [len(part) for part in parts] == [6, 2, 2, 3]
        numbers = (pair.line["Patient_index"], pair.line["Study_index"], pair.line["Series_ID"])
        assert tuple(map(int, parts[:3])) == tuple(map(int, numbers))
        assert int(parts[3]) == int(pair.line["Key_slice_index"]) == pair.row.key_slice


def test_every_key_slice_is_the_public_one_to_the_last_bit(story: Story) -> None:
    for pair in story.pairs:
        ours = load_slice(story.mined.out, pair.line["File_name"], pair.row.key_slice)
        np.testing.assert_array_equal(ours, load_slice(story.public, pair.row.name, pair.row.key_slice), pair.row.name)


def test_boxes_and_ends_are_one_based_as_loaders_take_them(story: Story) -> None:
    for pair in story.pairs:
        for column in ("Measurement_coordinates", "Bounding_boxes"):
            ours = np.array(pair.line[column].split(","), float) - 1
            public = np.array(getattr(pair.row, {"M": "coordinates", "B": "box"}[column[0]])) - 1
            assert ours == pytest.approx(public, abs=1.001e-3), pair.row.name


@pytest.mark.parametrize("step", [-2, -1, 0, 1, 2])
def test_3dce_loads_the_same_channels_of_the_whole_sub_volume(story: Story, step: int) -> None:
    pairs = [pair for pair in story.pairs if pair.row.name.startswith(SUB_VOLUME)]
    assert pairs
    for pair in pairs:
        ours = load_channel(story.mined.out, pair.line, step)
        np.testing.assert_array_equal(ours, load_channel(story.public, pair.public_line, step), pair.row.name)


# --- DL_save_nifti ---------------------------------------------------------------------------------------


def sub_volume(root: Path, line: dict[str, str]) -> Hu:
    """The slices of the range that exist, stacked and reversed in z."""
    first, last = (int(part) for part in line["Slice_range"].split(","))
    images = (load_slice(root, line["File_name"], number) for number in range(first, last + 1))
    return np.stack([image for image in images if image is not None])[::-1]


def test_dl_save_nifti_makes_the_same_sub_volume(story: Story) -> None:
    (pair,) = {pair.row.name: pair for pair in story.pairs if pair.row.name.startswith(SUB_VOLUME)}.values()
    ours = sub_volume(story.mined.out, pair.line)
    assert ours.shape == (13, 512, 512)
    np.testing.assert_array_equal(ours, sub_volume(story.public, pair.public_line))
    assert pair.line["Spacing_mm_px_"] == pair.public_line["Spacing_mm_px_"]


# --- where the lesion lies in the body -------------------------------------------------------------------


def test_x_and_y_of_the_location_are_the_public_ones(story: Story) -> None:
    for pair in story.pairs:
        ours = [float(value) for value in pair.line["Normalized_lesion_location"].split(",")]
        assert ours[:2] == pytest.approx(pair.row.location[:2], abs=LOCATION), pair.row.name


def test_what_no_model_has_filled_is_marked_as_unknown(story: Story) -> None:
    for pair in story.pairs:
        assert pair.line["Normalized_lesion_location"].endswith(", NaN")
        assert pair.line["Coarse_lesion_type"] == "-1"
