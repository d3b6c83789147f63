"""The numbers of report and card, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import factories
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder import summary
from dataset_builder.tables import Tables, gather
from deeplesion_miner.reasons import reasons


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return gather(factories.staged(tmp_path)[1])


def test_the_funnel_adds_up_and_names_the_most_frequent_loss_first(tables: Tables) -> None:
    funnel = summary.funnel(tables.bookmarks)
    assert (funnel.found, funnel.kept, funnel.rejected) == (8, 5, 3)
    assert [(loss.reason, loss.count) for loss in funnel.losses] == [("no_second_axis", 2), ("non_axial", 1)]
    assert funnel.losses[1].example == "the plane is tilted 12.0 degrees from axial (limit 8.0)"
    assert funnel.losses[1].advice == reasons("reject")["non_axial"].advice


def test_totals_count_each_thing_once(tables: Tables) -> None:
    assert summary.totals(tables) == {
        "lesions": 5,
        "key slices": 4,
        "slices": 13 + 9 + 13 + 13,
        "series": 4,
        "studies": 3,
        "patients": 3,
    }


def test_measures_are_those_of_the_lesions_and_leave_out_what_is_absent(tables: Tables) -> None:
    found = {measure.name: measure for measure in summary.measures(tables.lesions)}
    assert found["Long axis"].values == tuple(lesion.long_axis_mm for lesion in tables.lesions)
    assert len(found["Short axis"].values) == 4
    assert len(found["Age"].values) == 4
    assert found["Long axis"].deeplesion == 18.3
    assert found["Slices in range"].values == (13, 13, 9, 13, 13)


def test_quantiles_of_nothing_are_not_numbers() -> None:
    assert all(map(math.isnan, summary.Measure("", "", ()).quantiles))
    assert summary.Measure("", "", (1.0, 2.0, 3.0)).quantiles[2] == 2.0


def test_the_angle_between_the_axes_is_measured_in_millimetres() -> None:
    square = {"col_spacing_mm": 1.0, "row_spacing_mm": 1.0}
    crossed = factories.lesion(long_axis_px=(0.0, 0.0, 10.0, 10.0), short_axis_px=(0.0, 10.0, 10.0, 0.0))
    assert summary.off_perpendicular_deg(replace(crossed, **square)) == pytest.approx(0)
    tilted = factories.lesion(long_axis_px=(0.0, 0.0, 10.0, 0.0), short_axis_px=(0.0, 0.0, 3.0, 3.0))
    assert summary.off_perpendicular_deg(replace(tilted, **square)) == pytest.approx(45)
    stretched = replace(tilted, col_spacing_mm=1.0, row_spacing_mm=math.sqrt(3))
    assert summary.off_perpendicular_deg(stretched) == pytest.approx(30)
    assert summary.off_perpendicular_deg(factories.lesion(short_axis_px=None)) is None


def test_ages_sizes_and_splits_fall_into_their_bands(tables: Tables) -> None:
    found = {breakdown.name: breakdown.counts for breakdown in summary.breakdowns(tables)}
    assert found["Age, years"] == (("60-69", 4), ("not known", 1))
    assert found["Sex"] == (("F", 4), ("not known", 1))
    sizes = [lesion.long_axis_mm for lesion in tables.lesions]
    assert [count for _, count in found["Long axis"]] == [
        sum(s < 10 for s in sizes),
        sum(10 <= s < 30 for s in sizes),
        sum(s >= 30 for s in sizes),
    ]
    assert summary.split_counts(tables) == (("train", 1, 2), ("val", 1, 2), ("test", 1, 1))
    assert summary.flags(tables.lesions) == (("extent_over_long", 1), ("not_perpendicular", 1))


def test_a_property_with_many_values_ends_in_the_others() -> None:
    lesions = [factories.lesion(number=n, window_low_hu=-float(min(n, 14))) for n in range(20)]
    tables = Tables(tuple(lesions), (), (), ())
    (windows,) = (b.counts for b in summary.breakdowns(tables) if b.name == "Window, HU")
    assert len(windows) == 10
    assert windows[0] == ("-14 to 275", 6) and windows[-1] == ("6 others", 6)
    assert sum(count for _, count in windows) == 20


@given(st.integers(0, 2000), st.integers(1, 300))
def test_chosen_positions_are_spread_evenly(count: int, limit: int) -> None:
    positions = summary.evenly(count, limit)
    assert len(positions) == min(count, limit)
    assert list(positions) == sorted(set(positions))
    steps = [b - a for a, b in pairwise(positions)]
    assert not steps or max(steps) - min(steps) <= 1
    assert not positions or (positions[0] == 0 and positions[-1] < count)
