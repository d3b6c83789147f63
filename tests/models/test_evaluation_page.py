"""What is written down of an evaluation: the page with its worst misses, curves, plot, strict JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluation_world import World, beside, evaluated, key_slice, mark, on_mark
from PIL import Image

from deeplesion_miner.types import Box
from models.evaluation.cases import counted_slices
from models.evaluation.curves import Steps, curves_csv
from models.evaluation.evaluate import Extras, Predictions
from models.evaluation.findings import misses, nearest_misses, surest_beside
from models.evaluation.froc import curve
from models.evaluation.froc_reading import sensitivity_at
from models.evaluation.kinds import KnownNonLesion
from models.evaluation.plots import HIGH, LOW, drawn
from models.evaluation.protocol import FALSE_POSITIVES, Protocol
from models.evaluation.writing import CURVES, PAGE, PLOT, RECORD, write

FOUND = key_slice(1, 10, mark("found", (40, 40)))
NEAR = key_slice(2, 11, mark("near", (60, 60), 12.0))
FAR_SMALL = key_slice(3, 12, mark("far small", (50, 50), 9.0))
FAR_LARGE = key_slice(4, 13, mark("far large", (70, 70), 36.0), patient="<b>Mallory</b>")
WORLD = World((FOUND, NEAR, FAR_SMALL, FAR_LARGE), frozenset({"000001_01_01/011.png"}))
DETECTIONS = [
    on_mark(FOUND, 0, 0.9),
    on_mark(NEAR, 0, 0.7, box=Box(58, 58, 70, 66)),
    beside(FAR_SMALL.file_name, 0.8, (100, 20)),
    *(beside(FOUND.file_name, 0.6 - number / 100, (100, 20.0 + 9 * number)) for number in range(5)),
    beside("000001_01_01/011.png", 0.99),
]


class Seen(HTMLParser):
    """Tags that were opened and closed, and what they point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "new" / "folder"
    known = KnownNonLesion(FOUND.file_name, (95, 15, 105, 25), "<i>vessel</i>")
    told = evaluated(WORLD, DETECTIONS, against=[Predictions("b.parquet", tuple(DETECTIONS[:2]))],
                     extras=Extras(known=(known,)))  # fmt: skip
    write(told, WORLD, folder)
    return folder


def section(page: str, heading: str) -> str:
    return page.split(f"<h2>{heading}</h2>")[1].split("</section>")[0]


class TestPage:
    def test_it_is_whole_and_needs_nothing_else(self, written: Path) -> None:
        page = (written / PAGE).read_text("utf-8")
        seen = Seen(page)
        assert seen.open == []
        assert seen.links
        assert all(link.startswith("data:image/png;base64,") for link in seen.links)
        assert "url(" not in page
        assert "<script" not in page
        assert seen.headings[0] == "Sensitivity"

    def test_the_worst_miss_comes_first_and_is_drawn(self, written: Path) -> None:
        tiles = section((written / PAGE).read_text("utf-8"), "The worst misses").split("<figure>")[1:]
        names = [re.findall(r"(\d{6}_01_01/\d{3}\.png)", tile)[0] for tile in tiles]
        assert names == [FAR_LARGE.file_name, FAR_SMALL.file_name, NEAR.file_name]
        assert "36.0 x 18.0 mm, lung; no detection touches it" in tiles[0]
        assert tiles[0].count("<line ") == 2
        assert '<rect class="box" x="52.00" y="61.00" width="36.00" height="18.00"/>' in tiles[0]
        assert 'class="strong"' in tiles[2]

    def test_the_surest_false_positives_are_drawn_with_their_scores(self, written: Path) -> None:
        tiles = section((written / PAGE).read_text("utf-8"), "The surest false positives").split("<figure>")[1:]
        scores = [re.findall(r"<b>score ([\d.]+)</b>", tile)[0] for tile in tiles]
        assert scores == ["0.800", "0.700", "0.600", "0.590"]  # two of a slice at most

    def test_names_are_text_not_markup(self, written: Path) -> None:
        page = (written / PAGE).read_text("utf-8")
        assert "<b>Mallory" not in page
        assert "<i>vessel" not in page
        assert "&lt;b&gt;Mallory" in page

    def test_it_warns_of_what_limits_the_figures(self, written: Path) -> None:
        counted = section((written / PAGE).read_text("utf-8"), "What was counted")
        assert "upper bound" in counted
        assert "1.75 false positives per image" in counted
        assert "1 detections lie on 1 slices that nobody annotated" in counted

    def test_a_dataset_with_nothing_found_has_a_page_too(self, tmp_path: Path) -> None:
        write(evaluated(WORLD, []), WORLD, tmp_path)
        assert "4 of 4 marks are missed" in (tmp_path / PAGE).read_text("utf-8")


class TestFindings:
    told = evaluated(WORLD, DETECTIONS)

    def test_a_miss_knows_the_detection_that_came_nearest(self) -> None:
        found = misses(self.told.cases, self.told.pool, self.told.count)
        assert [one.mark.mark_id for one in found] == ["far large", "far small", "near"]
        near = nearest_misses(found)
        assert [(one.mark.mark_id, one.nearest) for one in near] == [("near", DETECTIONS[1])]
        assert 0.2 < near[0].overlap < 0.5

    def test_a_mark_found_behind_the_operating_point_is_missed(self) -> None:
        flood = [beside(one.file_name, 0.5, (100, 20.0 + number)) for one in WORLD.key_slices for number in range(5)]
        told = evaluated(WORLD, [*flood, on_mark(FOUND, 0, 0.4), on_mark(NEAR, 0, 0.6)])
        found = misses(told.cases, told.pool, told.count)
        assert [one.mark.mark_id for one in found] == ["far large", "far small", "found"]
        assert found[2].overlap == 1.0

    def test_no_more_are_shown_than_asked_for(self) -> None:
        assert len(surest_beside(self.told.cases, self.told.count, 1)) == 1


class TestCurves:
    def test_the_steps_are_the_curve(self) -> None:
        told = evaluated(WORLD, [*DETECTIONS, on_mark(NEAR, 0, 0.3)])
        rows = [row for row in csv.DictReader(io.StringIO(curves_csv(told))) if row["by"] == "all"]
        for level in FALSE_POSITIVES:
            within = [float(row["sensitivity"]) for row in rows if float(row["false_positives_per_image"]) <= level]
            assert max(within, default=0.0) == pytest.approx(sensitivity_at(curve(told.count), (level,))[0])
        assert {row["by"] for row in csv.DictReader(io.StringIO(curves_csv(told)))} == {
            "all", "size", "type", "slice interval",
        }  # fmt: skip

    def test_a_drawn_curve_begins_at_the_left_edge_and_stops_at_its_end(self) -> None:
        x, y = drawn(Steps(np.array([0.0, 0.05, 1.0, 3.0]), np.array([0.1, 0.2, 0.5, 0.6]), np.zeros(4), 5.0))
        assert x.tolist() == [LOW, 1.0, 3.0, 5.0, 5.0]
        assert y.tolist() == [0.2, 0.5, 0.6, 0.6, 0.6]
        x, y = drawn(Steps(np.array([1.0, 20.0]), np.array([0.5, 1.0]), np.zeros(2), 30.0))
        assert (x.tolist(), y.tolist()) == ([LOW, 1.0, HIGH], [0.0, 0.5, 0.5])
        x, y = drawn(Steps(np.zeros(0), np.zeros(0), np.zeros(0), 0.0))
        assert set(y.tolist()) == {0.0}


def test_the_record_is_strict_json_and_the_plot_a_picture(written: Path) -> None:
    def refuse(word: str) -> float:
        raise AssertionError(word)

    told = json.loads((written / RECORD).read_text("utf-8"), parse_constant=refuse)
    assert told["counts"]["marks"] == 4
    assert told["dataset_digest"] == WORLD.digest
    assert told["sensitivity"]["1"]["estimate"] == 0.25
    assert told["protocol"]["boxes"] == "tight"
    assert told["bootstrap"]["seed"] == 1
    assert [one["mark_id"] for one in told["misses"]] == ["far large", "far small", "near"]
    assert [one["score"] for one in told["misses"]] == [None, None, 0.7]
    assert math.isclose(told["against"][0]["difference"]["average"]["estimate"], 0.0)
    assert (written / CURVES).read_text("utf-8").startswith("by,stratum,marks,score,")
    with Image.open(written / PLOT) as plot:
        assert min(plot.size) > 400


def test_an_empty_split_has_no_slices() -> None:
    assert counted_slices(WORLD, "val", Protocol(), {}).counted == ()
