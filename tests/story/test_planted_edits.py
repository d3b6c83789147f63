"""What readers did to our reports, in both editions of their viewer: 260 planted edits, each classed right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import duckdb
import pytest

from deeplesion_miner.types import Segment
from tests.experiments.mined import mine
from tests.experiments.planted_edits import AUTHOR, Planted, Said, plant

EDITS = 260
WITHIN_PX = 0.01


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("edits") / "archive", EDITS)


@pytest.fixture(scope="module")
def rows(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table that `mine feedback` writes, read without the project's reader."""
    out = tmp_path_factory.mktemp("told") / "feedback.parquet"
    ended = mine("feedback", planted.folder, "--out", out)
    assert ended.code == 0, ended.stderr
    found = duckdb.sql(f"SELECT * FROM '{out}'")
    return [dict(zip(found.columns, values, strict=True)) for values in found.fetchall()]


def is_on_another_slice(row: dict[str, Any]) -> bool:
    return row["corrected_image_sop_instance_uid"] not in ("", row["image_sop_instance_uid"])


def lesions(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["verdict"] != "added"]


def test_there_are_so_many_edits_of_every_kind_in_both_editions(planted: Planted) -> None:
    verdicts = Counter(said.verdict for said in planted.lesions.values())
    assert planted.edits >= EDITS
    assert min(verdicts[one] for one in ("moved", "resized", "relabelled", "deleted", "kept")) >= 15
    assert planted.added.total() >= 15
    assert sum(said.is_on_another_slice for said in planted.lesions.values()) >= 15
    assert min(Counter(planted.links.values()).values()) >= 5


def test_every_lesion_of_ours_has_exactly_one_row(planted: Planted, rows: list[dict[str, Any]]) -> None:
    assert Counter((row["sop_instance_uid"], row["label"]) for row in lesions(rows)) == Counter(list(planted.lesions))


def test_every_edit_is_classed_right(planted: Planted, rows: list[dict[str, Any]]) -> None:
    told = {
        (row["sop_instance_uid"], row["label"]): Said(
            row["verdict"], row["geometry_change"], row["label_change"], is_on_another_slice(row)
        )
        for row in lesions(rows)
    }
    assert {key: (said, told[key]) for key, said in planted.lesions.items() if told[key] != said} == {}


def test_every_mark_that_a_reader_added_is_a_row_of_the_report_beside_which_it_was_drawn(
    planted: Planted, rows: list[dict[str, Any]]
) -> None:
    assert Counter(row["sop_instance_uid"] for row in rows if row["verdict"] == "added") == +planted.added


def test_corrected_axes_are_where_the_viewer_showed_them(planted: Planted, rows: list[dict[str, Any]]) -> None:
    told = {(row["sop_instance_uid"], row["label"]): row for row in lesions(rows) if row["verdict"] != "deleted"}
    assert told.keys() == planted.corrected.keys()
    for key, (long_axis, short_axis) in planted.corrected.items():
        both = (told[key]["corrected_long_axis_px"], told[key]["corrected_short_axis_px"])
        assert max(apart(line, ends) for line, ends in zip((long_axis, short_axis), both, strict=True)) <= WITHIN_PX


def apart(line: Segment, ends: tuple[float, ...]) -> float:
    return max(math.dist(line.start, ends[:2]), math.dist(line.end, ends[2:]))


def test_a_re_save_is_found_by_the_way_that_its_edition_leaves_open(
    planted: Planted, rows: list[dict[str, Any]]
) -> None:
    assert {row["sop_instance_uid"]: row["link"] for row in rows} == planted.links


def test_of_several_saves_the_newest_counts(rows: list[dict[str, Any]]) -> None:
    """Half of the reports were saved once without an edit before."""
    assert {row["saves"] for row in rows} == {1, 2}


def test_the_model_that_is_judged_is_named(rows: list[dict[str, Any]]) -> None:
    assert {(row["model_name"], row["model_version"]) for row in rows} == {(AUTHOR.name, AUTHOR.version)}


def test_numbers_tell_how_far_and_how_much(planted: Planted, rows: list[dict[str, Any]]) -> None:
    for row in lesions(rows):
        if row["verdict"] == "deleted":
            assert row["shift_mm"] is None
            continue
        grown = [abs(row["long_axis_change_mm"]), abs(row["short_axis_change_mm"])]
        assert (row["shift_mm"] > 0.05) == (row["geometry_change"].startswith("moved")) or "resized" in row["verdict"]
        assert (max(grown) > 0.1) == ("resized" in row["geometry_change"])
        slices = abs(row["slice_shift_mm"]) / 5.0
        assert slices == pytest.approx(round(slices), abs=1e-6)
        assert (round(slices) in (1, 2)) == is_on_another_slice(row)
        assert row["shift_mm"] >= abs(row["slice_shift_mm"]) - 1e-9
