"""Reports drawn by mouse in OHIF 3.13 and 3.11, over their own CT, mined as they are (`ohif_phantom`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.experiments.mined import Mined, import_files

pytestmark = pytest.mark.real

WITHIN_PX = 0.01
LONG_AXIS, SHORT_AXIS = ("103339001", "G-A185"), ("103340004", "G-A186")
"""By SNOMED CT and by the retired SRT codes, which OHIF 3.11 writes."""
ALONE = {
    "g1_bidirectional_3.13.dcm": "ct_B",
    "g2_all_tools_3.13.dcm": "ct_B",
    "g3_prone_anisotropic_3.13.dcm": "ct_C",
    "g4_all_tools_3.11.dcm": "ct_B",
    "g5_bidirectional_3.11.dcm": "ct_B",
    "g8_prone_square_3.13.dcm": "ct_D",
}
"""Reports whose viewer told what it held, and their CT."""
UNTOUCHED = {"g1_bidirectional_3.13.dcm", "g2_all_tools_3.13.dcm", "g4_all_tools_3.11.dcm", "g5_bidirectional_3.11.dcm"}
"""Reports whose reader did not touch the short axis."""
OTHER_TOOLS = ["circle", "closed_polyline", "closed_polyline", "ellipse", "point"]
"""What else was drawn with all tools, beside a cross and a length."""
OURS, G6, G7 = "ours_B.dcm", "g6_resave_of_ours_3.13.dcm", "g7_resave_of_ours_3.11.dcm"

Import = Callable[..., Mined]


@dataclass(frozen=True)
class Cross:
    """Ends of both axes: (column, row), the centre of the first pixel being (0, 0)."""

    long_axis: tuple[float, ...]
    short_axis: tuple[float, ...]

    def distance_px(self, row: dict[str, Any]) -> float:
        """Largest distance of an end of a lesion row from ours; the ends of an axis may stand in either order."""

        def apart(one: tuple[float, ...], other: tuple[float, ...]) -> float:
            turned = (*other[2:], *other[:2])
            return min(max(abs(a - b) for a, b in zip(one, axis, strict=True)) for axis in (other, turned))

        return max(apart(self.long_axis, row["long_axis_px"]), apart(self.short_axis, row["short_axis_px"]))


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    return real_data / "ohif_phantom"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    return {item["file"]: item for item in json.loads((folder / "expected.json").read_text())}


@pytest.fixture(scope="module")
def mined(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Import:
    """Imports the named reports with their CT."""

    @cache
    def run(*names: str) -> Mined:
        ct = ALONE.get(names[0], "ct_B")
        return import_files(tmp_path_factory.mktemp("ohif"), [*(folder / name for name in names), folder / ct])

    return run


def core(points: list[list[float]]) -> tuple[float, ...]:
    """Corner based image coordinates in the core convention."""
    return tuple(value - 0.5 for point in points for value in point)


def seen(expected: dict[str, Any], name: str) -> Cross:
    """The cross as the viewer held it."""
    (cross,) = (m for m in expected[name]["viewer_measurements"] if m["tool"] == "Bidirectional")
    points = core(cross["dicom_image_xy"])
    return Cross(points[:4], points[4:])


def written(expected: dict[str, Any], name: str) -> Cross:
    """The cross as its report states it."""
    (group,) = expected[name]["groups"]
    long_axis, short_axis = (
        next(core(num["scoord"]) for num in group["nums"] if num["name"][1] in codes)
        for codes in (LONG_AXIS, SHORT_AXIS)
    )
    return Cross(long_axis, short_axis)


def only_lesion(mined: Mined) -> dict[str, Any]:
    (row,) = mined.table("lesions")
    return row


def test_every_report_with_a_viewers_truth_is_tried(expected: dict[str, Any]) -> None:
    assert {name for name, item in expected.items() if item["viewer_measurements"]} == set(ALONE)


@pytest.mark.parametrize("name", ALONE)
def test_a_cross_is_mined_where_the_viewer_showed_it(name: str, mined: Import, expected: dict[str, Any]) -> None:
    assert seen(expected, name).distance_px(only_lesion(mined(name))) <= WITHIN_PX


@pytest.mark.parametrize("name", ALONE)
def test_lengths_in_the_patient_are_those_the_viewer_showed(name: str, mined: Import, expected: dict[str, Any]) -> None:
    (cross,) = (m for m in expected[name]["viewer_measurements"] if m["tool"] == "Bidirectional")
    row = only_lesion(mined(name))
    in_mm = cross["stats"]["unit"] == "mm"
    scale = 1.0 if in_mm else row["col_spacing_mm"]
    assert row["long_axis_mm"] == pytest.approx(cross["stats"]["length"] * scale, rel=1e-3)
    assert row["short_axis_mm"] == pytest.approx(cross["stats"]["width"] * scale, rel=1e-3)


def test_swapped_spacings_are_undone_and_said(mined: Import, expected: dict[str, Any]) -> None:
    name = "g3_prone_anisotropic_3.13.dcm"
    row = only_lesion(mined(name))
    assert written(expected, name).distance_px(row) > 1, "the report itself is wrong by more than a pixel"
    assert "swapped_spacing_undone" in row["notes"]


@pytest.mark.parametrize("name", ALONE)
def test_an_untouched_default_short_axis_is_flagged_and_no_other(name: str, mined: Import) -> None:
    assert ("default_short_axis" in only_lesion(mined(name))["notes"]) == (name in UNTOUCHED)


def test_an_untouched_default_is_nobodys_but_ohifs(mined: Import) -> None:
    assert "default_short_axis" not in only_lesion(mined(OURS))["notes"]


@pytest.mark.parametrize("name", ["g2_all_tools_3.13.dcm", "g4_all_tools_3.11.dcm"])
def test_every_other_tool_is_counted_by_what_it_draws(name: str, mined: Import) -> None:
    rows = mined(name).table("bookmarks")
    reasons = {(row["kind"], row["reason"]) for row in rows if row["verdict"] == "rejected"}
    assert sorted(row["kind"] for row in rows if row["reason"] == "unsupported_source") == OTHER_TOOLS
    assert reasons - {(kind, "unsupported_source") for kind in OTHER_TOOLS} == {("length", "no_second_axis")}


def test_a_resave_replaces_its_predecessor(mined: Import, expected: dict[str, Any], folder: Path) -> None:
    both = mined(OURS, G6)
    row = only_lesion(both)
    assert written(expected, G6).distance_px(row) <= WITHIN_PX
    ours = dcmread(folder / OURS).SOPInstanceUID
    assert verdicts(both) == {ours: "superseded", expected_uid(folder, G6): ""}
    assert "later_edit" in row["notes"]


def test_a_resave_without_predecessor_is_a_later_edit(mined: Import, expected: dict[str, Any], folder: Path) -> None:
    three = mined(OURS, G6, G7)
    row = only_lesion(three)
    assert written(expected, G7).distance_px(row) <= WITHIN_PX
    assert "later_edit" in row["notes"]
    assert verdicts(three) == {
        expected_uid(folder, OURS): "superseded",
        expected_uid(folder, G6): "superseded",
        expected_uid(folder, G7): "",
    }


def test_each_resave_alone_is_a_cross_of_its_own(mined: Import, expected: dict[str, Any]) -> None:
    for name in (G6, G7):
        row = only_lesion(mined(name))
        assert written(expected, name).distance_px(row) <= WITHIN_PX
        assert "later_edit" not in row["notes"]


def test_all_together_hold_each_lesion_once(folder: Path, tmp_path: Path) -> None:
    """g1 is g2's cross and g5 is g4's on the same image; g6 and g7 follow ours: five lesions are left."""
    together = import_files(tmp_path, [folder])
    reasons = [row["reason"] for row in together.table("bookmarks") if row["kind"] == "bidirectional"]
    assert sorted(reasons) == ["", "", "", "", "", "duplicate", "duplicate", "superseded", "superseded"]


def expected_uid(folder: Path, name: str) -> str:
    return str(dcmread(folder / name, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def verdicts(mined: Mined) -> dict[str, str]:
    """Reason ('' = kept) of the cross of each report, by its SOP Instance UID."""
    return dict(mined.sql("SELECT source_uid, reason FROM bookmark WHERE kind = 'bidirectional'"))
