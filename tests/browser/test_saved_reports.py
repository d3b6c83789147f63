"""Reports that OHIF saved over ours (`tests/feedback_samples`) are mined as the viewer held them; no browser needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Bookmark, Segment
from dicom_io.dialects import read_object

SAMPLES = Path(__file__).parents[1] / "feedback_samples"
SAVED: list[dict[str, Any]] = json.loads((SAMPLES / "samples.json").read_text())
WITHIN_PX = 0.01


def mined(file: str) -> tuple[Bookmark, ...]:
    reading = read_object(dcmread(SAMPLES / file), file)
    assert isinstance(reading, ObjectReading)
    return reading.bookmarks


def ends(bookmark: Bookmark) -> list[float]:
    assert bookmark.long_axis is not None and bookmark.short_axis is not None
    axes = (bookmark.long_axis.segment, bookmark.short_axis.segment)
    return [
        value for axis in axes if isinstance(axis, Segment) for point in (axis.start, axis.end) for value in point[:2]
    ]


@pytest.mark.parametrize("saved", SAVED, ids=[one["file"] for one in SAVED])
def test_every_cross_is_mined_where_the_viewer_held_it(saved: dict[str, Any]) -> None:
    found = {one.label: one for one in mined(saved["file"])}
    assert sorted(found) == sorted(one["label"] for one in saved["held"])
    for held in saved["held"]:
        bookmark = found[held["label"]]
        assert [one.sop_instance_uid for one in bookmark.images] == [held["sop_instance_uid"]]
        assert ends(bookmark) == pytest.approx([value for point in held["points_px"] for value in point], abs=WITHIN_PX)


def test_the_newer_viewer_names_our_report_as_predecessor_and_the_older_names_none() -> None:
    (ours,) = {one.source.sop_instance_uid for one in mined("ours.dcm")}
    named = {(one["viewer"], bookmark.source.predecessors) for one in SAVED for bookmark in mined(one["file"])}
    assert named == {("3.13.2", (ours,)), ("3.11.1", ())}


def test_no_tracking_uid_of_ours_survives() -> None:
    ours = {one.tracking_uid for one in mined("ours.dcm")}
    assert len(ours) == 4
    assert not ours & {bookmark.tracking_uid for one in SAVED for bookmark in mined(one["file"])}
