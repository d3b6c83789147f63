"""Phantom patients, mined: every mark becomes what its phantom says, where its phantom says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeplesion_miner.types import Segment
from dicom_io.testbed.phantoms import write_phantoms
from dicom_io.testbed.truth import ExpectedBookmark, PhantomArchive
from tests.experiments.mined import Mined, import_files, in_group, mine

ON_IMAGE_PX, IN_PATIENT_PX, EDGE_PX = 0.01, 0.05, 0.1
SEARCH_PX, STEP_PX = 2.5, 0.01
"""How far around an end its edge is looked for, and how finely."""


@dataclass(frozen=True)
class Story:
    """The phantoms and what was mined of them."""

    archive: PhantomArchive
    mined: Mined
    lesions: dict[str, dict[str, Any]]
    """Rows of lesions.parquet by the name of the expected bookmark."""
    bookmarks: dict[str, list[dict[str, Any]]]
    """Rows of bookmarks.parquet by the name of the expected bookmark."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("phantoms")
    archive = write_phantoms(folder / "archive", small=True)
    mined = import_files(folder, [archive.folder])
    return Story(
        archive,
        mined,
        {name: rows[0] for name, rows in rows_by_name(archive, mined, "lesion", "lesions").items() if rows},
        rows_by_name(archive, mined, "bookmark", "bookmarks"),
    )


def rows_by_name(archive: PhantomArchive, mined: Mined, kind: str, table: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a table that belong to each expected bookmark."""
    rows = {row[f"{kind}_id"]: row for row in mined.table(table)}
    crosswalk = mined.crosswalk(kind)
    return {
        one.name: [rows[public] for key, public in crosswalk.items() if public in rows and belongs(key, one)]
        for one in archive.expected
    }


def belongs(key: str, one: ExpectedBookmark) -> bool:
    if not one.item_path:
        return key.partition("#")[0] == one.source_sop_instance_uid
    return in_group(key, one.source_sop_instance_uid, one.item_path)


def test_every_mark_is_one_bookmark_of_its_kind(story: Story) -> None:
    found = {name: [row["kind"] for row in rows] for name, rows in story.bookmarks.items()}
    assert found == {one.name: [one.kind.value] for one in story.archive.expected}
    assert len(story.mined.table("bookmarks")) == len(story.archive.expected)


def test_marks_are_kept_or_rejected_for_the_reason_that_they_were_made_for(story: Story) -> None:
    wrong = {}
    for one in story.archive.expected:
        reason = story.bookmarks[one.name][0]["reason"]
        if reason not in (one.reasons if not one.kept else ("",)):
            wrong[one.name] = (reason, one.reasons)
    assert wrong == {}


def test_distractors_are_many_and_of_many_kinds(story: Story) -> None:
    reasons = {row["reason"] for row in story.mined.table("bookmarks")}
    assert reasons >= {
        "localizer", "non_axial", "not_ct", "image_missing", "unsupported_source", "no_second_axis", "duplicate",
        "superseded", "off_plane", "zero_length", "stated_value_mismatch",
    }  # fmt: skip


def test_flags_are_raised_where_they_were_planted(story: Story) -> None:
    missing = {
        one.name: set(one.flags) - set(story.bookmarks[one.name][0]["notes"])
        for one in story.archive.kept
        if not set(one.flags) <= set(story.bookmarks[one.name][0]["notes"])
    }
    assert missing == {}


def test_only_ohif_is_suspected_of_an_untouched_short_axis(story: Story) -> None:
    suspected = {row["writer"] for row in story.mined.table("lesions") if "default_short_axis" in row["notes"]}
    assert suspected == {"ohif"}
    ratios = [
        row["short_axis_mm"] / row["long_axis_mm"]
        for row in story.mined.table("lesions")
        if row["writer"] == "highdicom"
    ]
    assert any(math.isclose(ratio, 2 / 3, abs_tol=1e-3) for ratio in ratios), "highdicom wrote such a cross, too"


def test_ends_lie_where_the_phantom_says(story: Story) -> None:
    assert len(story.lesions) == len(story.archive.kept) >= 20
    wrong = {}
    for one in story.archive.kept:
        limit_px = IN_PATIENT_PX if "SCOORD3D" in one.writer else ON_IMAGE_PX
        off_px = error_px(one, story.lesions[one.name])
        if not off_px <= limit_px:
            wrong[one.name] = off_px
    assert wrong == {}


def error_px(one: ExpectedBookmark, row: dict[str, Any]) -> float:
    """Largest distance of an end from its truth; the ends of an axis may stand in either order."""
    assert one.long_axis_px is not None
    assert one.short_axis_px is not None

    def off(truth: Segment, mined: tuple[float, float, float, float]) -> float:
        ends = ((mined[0], mined[1]), (mined[2], mined[3]))
        return min(
            max(math.dist(a, b) for a, b in zip((truth.start, truth.end), order, strict=True))
            for order in (ends, ends[::-1])
        )

    return max(off(one.long_axis_px, row["long_axis_px"]), off(one.short_axis_px, row["short_axis_px"]))


def test_lengths_in_millimetres_are_the_phantoms(story: Story) -> None:
    for one in story.archive.kept:
        if one.long_axis_mm is not None and one.short_axis_mm is not None:
            row = story.lesions[one.name]
            assert row["long_axis_mm"] == pytest.approx(one.long_axis_mm.length_mm, abs=0.03), one.name
            assert row["short_axis_mm"] == pytest.approx(one.short_axis_mm.length_mm, abs=0.03), one.name


def test_the_pixels_change_from_lesion_to_organ_at_the_mined_ends(story: Story) -> None:
    """No half-pixel slip can hide in writer and reader alike: the picture itself says where the edge is."""
    measured, wrong = 0, {}
    for one in story.archive.kept:
        if not one.ends_on_edges:
            continue
        row = story.lesions[one.name]
        hu = np.asarray(Image.open(story.mined.out / "Images_png" / row["file_name"])).astype(float) - 32768
        for axis in ("long_axis_px", "short_axis_px"):
            ends = np.reshape(row[axis], (2, 2))
            for inner, outer in ((ends[0], ends[1]), (ends[1], ends[0])):
                off_px = edge_px(hu, inner, outer, (one.lesion_hu + one.organ_hu) / 2)
                measured += 1
                if not abs(off_px) <= EDGE_PX:
                    wrong[one.name, axis] = round(off_px, 3)
    assert measured >= 60
    assert wrong == {}


def edge_px(hu: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64], middle_hu: float) -> float:
    """How far beyond `end`, coming from `start`, the CT number crosses the middle between lesion and organ."""
    direction = (end - start) / np.linalg.norm(end - start)
    places = np.arange(-SEARCH_PX, SEARCH_PX, STEP_PX)
    values = np.array([bilinear(hu, end + place * direction) for place in places]) - middle_hu
    crossings = places[:-1][np.sign(values[:-1]) != np.sign(values[1:])]
    return float(min(crossings, key=abs)) if crossings.size else math.inf


def bilinear(hu: NDArray[np.float64], at: NDArray[np.float64]) -> float:
    """The CT number at (column, row) between pixel centres."""
    column, row = math.floor(at[0]), math.floor(at[1])
    x, y = at[0] - column, at[1] - row
    above = hu[row, column] * (1 - x) + hu[row, column + 1] * x
    below = hu[row + 1, column] * (1 - x) + hu[row + 1, column + 1] * x
    return float(above * (1 - y) + below * y)


def test_a_slip_of_half_a_pixel_would_be_seen(story: Story) -> None:
    """The measurement above can fail: moved by half a pixel, many ends leave the edge."""
    one = next(mark for mark in story.archive.kept if mark.ends_on_edges)
    row = story.lesions[one.name]
    hu = np.asarray(Image.open(story.mined.out / "Images_png" / row["file_name"])).astype(float) - 32768
    ends = np.reshape(row["long_axis_px"], (2, 2)) + 0.5
    slips = [edge_px(hu, a, b, (one.lesion_hu + one.organ_hu) / 2) for a, b in (ends, ends[::-1])]
    assert max(map(abs, slips)) > EDGE_PX


def test_the_sums_hold(story: Story) -> None:
    bookmarks = story.mined.table("bookmarks")
    kept = [row for row in bookmarks if row["verdict"] == "kept"]
    lesions = story.mined.table("lesions")
    assert len(bookmarks) == len(kept) + sum(row["verdict"] == "rejected" for row in bookmarks)
    assert {row["lesion_id"] for row in kept} == {row["lesion_id"] for row in lesions}
    assert len(lesions) == len(story.mined.csv_rows()) == len(kept)
    files = {str(path.relative_to(story.mined.out / "Images_png")) for path in (story.mined.out).rglob("*_*_*/*.png")}
    assert files == {row["file_name"] for row in story.mined.table("slices")}


def test_one_person_is_one_patient(story: Story) -> None:
    people = {one.patient_id for one in story.archive.kept}
    by_person = {
        person: {story.lesions[one.name]["patient_index"] for one in story.archive.kept if one.patient_id == person}
        for person in people
    }
    assert all(len(indices) == 1 for indices in by_person.values()), by_person


def test_a_patients_studies_stand_in_the_order_of_their_dates(story: Story) -> None:
    for one in story.archive.kept:
        time_point = int(one.name.split("/")[1])
        others = {int(other.name.split("/")[1]) for other in story.archive.kept if other.patient_id == one.patient_id}
        assert story.lesions[one.name]["study_index"] == sorted(others).index(time_point) + 1, one.name


def test_the_key_slice_is_the_image_that_was_drawn_on(story: Story) -> None:
    """The PNG of a row holds the lesion's CT number at the crossing of its axes."""
    for one in story.archive.kept:
        if not one.ends_on_edges:
            continue
        row = story.lesions[one.name]
        hu = np.asarray(Image.open(story.mined.out / "Images_png" / row["file_name"])).astype(float) - 32768
        assert abs(bilinear(hu, np.mean(np.reshape(row["long_axis_px"], (2, 2)), axis=0)) - one.lesion_hu) < 2, one.name


def test_the_dataset_says_of_itself_that_it_is_sound(story: Story) -> None:
    ended = mine("check", story.mined.out)
    assert ended.code == 0, ended.stdout
