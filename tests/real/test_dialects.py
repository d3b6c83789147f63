"""Reports that others wrote: read as an independent reader and the viewer itself say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Axis, Bookmark, Kind, Segment
from dicom_io import part10
from dicom_io.dialects import read_object

pytestmark = pytest.mark.real
LINES = (Kind.BIDIRECTIONAL, Kind.LENGTH)


def reading(path: Path) -> ObjectReading:
    ds = part10.read(path)
    found = read_object(ds, str(path))  # type: ignore[arg-type]
    assert isinstance(found, ObjectReading), found
    return found


def corner_px(axis: Axis | None) -> list[float]:
    """Both ends as SCOORD counts them: column, row, column, row."""
    assert axis is not None
    assert isinstance(axis.segment, Segment)
    return [n + 0.5 for n in (*axis.segment.start, *axis.segment.end)]


def expected_objects(real_data: Path) -> list[dict[str, Any]]:
    """The TID 1500 objects of the independent reading: those whose groups it could read as such."""
    objects = json.loads((real_data / "expected_bookmarks.json").read_text("utf-8"))["objects"]
    kinds = {kind.value for kind in Kind}
    return [
        found
        for found in objects
        if "SR" in found["sop_class"]
        and found["bookmarks"]
        and not found["file"].startswith("rider_aim")
        and all(bookmark["kind"] in kinds for bookmark in found["bookmarks"])
    ]


def test_every_measurement_report_holds_what_the_independent_reader_found(real_data: Path) -> None:
    objects = expected_objects(real_data)
    assert len(objects) == 21
    for expected in objects:
        found = reading(real_data / expected["file"])
        assert found.source.dialect == "tid1500", expected["file"]
        by_kind = Counter(bookmark.kind.value for bookmark in found.bookmarks)
        assert by_kind == Counter(bookmark["kind"] for bookmark in expected["bookmarks"]), expected["file"]
        assert not [bookmark for bookmark in found.bookmarks if bookmark.problem], expected["file"]


def test_their_lines_have_the_independent_readers_coordinates_images_and_values(real_data: Path) -> None:
    compared = 0
    for expected in expected_objects(real_data):
        found = [b for b in reading(real_data / expected["file"]).bookmarks if b.kind in LINES]
        named = [b for b in expected["bookmarks"] if b["kind"] in {kind.value for kind in LINES}]
        for bookmark, other in zip(found, named, strict=True):
            compare(bookmark, other)
            compared += 1
    assert compared == 10


def compare(bookmark: Bookmark, expected: dict[str, Any]) -> None:
    assert bookmark.kind.value == expected["kind"]
    assert bookmark.tracking_identifier == (expected["tracking_id"] or "")
    assert bookmark.images[0].sop_instance_uid == expected["referenced_sop_instance_uid"]
    assert bookmark.long_axis is not None
    assert bookmark.long_axis.stated is not None
    cross = bookmark.kind is Kind.BIDIRECTIONAL
    coordinates, stated = expected["coordinates"], expected["stated_value"]
    long_px = coordinates["long"] if cross else coordinates
    assert corner_px(bookmark.long_axis) == pytest.approx([n for point in long_px for n in point], abs=1e-4)
    assert bookmark.long_axis.stated.value == pytest.approx(float(stated["long"] if cross else stated))
    assert bookmark.long_axis.stated.unit == expected["unit"]
    if cross:
        short_px = [n for point in coordinates["short"] for n in point]
        assert corner_px(bookmark.short_axis) == pytest.approx(short_px, abs=1e-4)


@pytest.mark.parametrize("folder", ["rider_aim/sr", "measurement_objects/sr", "archive_population"])
def test_reports_in_other_dialects_are_one_bookmark_or_say_what_is_missing(real_data: Path, folder: str) -> None:
    read_files = {real_data / found["file"] for found in expected_objects(real_data)}
    for path in sorted((real_data / folder).glob("*.dcm")):
        ds = part10.read(path)
        if path in read_files or not hasattr(ds, "Modality") or ds.Modality != "SR":
            continue
        found = read_object(ds, str(path))  # type: ignore[arg-type]
        if isinstance(found, ObjectReading):
            assert [bookmark.kind for bookmark in found.bookmarks] == [Kind.NO_MEASUREMENT_GROUPS], path
        else:
            assert (found.why, "SOPInstanceUID" in found.detail) == ("missing_attribute", True), path


def ohif_objects(real_data: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((real_data / "ohif_phantom" / "expected.json").read_text("utf-8"))
    return found


def test_what_ohif_stored_is_read_group_by_group(real_data: Path) -> None:
    for expected in ohif_objects(real_data):
        found = reading(real_data / "ohif_phantom" / expected["file"])
        assert len(found.bookmarks) == len(expected["groups"]), expected["file"]
        for bookmark, group in zip(found.bookmarks, expected["groups"], strict=True):
            assert bookmark.tracking_uid == group["tracking_uid"]
            assert bookmark.images[0].sop_instance_uid == group["sop"]
            assert bookmark.label == group.get("comment", ""), expected["file"]
            if bookmark.kind in LINES:
                drawn = [n for n in group["nums"] if n.get("scoord")]
                axes = [axis for axis in (bookmark.long_axis, bookmark.short_axis) if axis is not None]
                for axis, number in zip(axes, drawn, strict=True):
                    flat = [n for point in number["scoord"] for n in point]
                    assert corner_px(axis) == pytest.approx(flat, abs=0.01), expected["file"]


def test_every_tool_of_ohif_is_told_apart_in_both_versions(real_data: Path) -> None:
    for name in ("g2_all_tools_3.13.dcm", "g4_all_tools_3.11.dcm"):
        assert [b.kind for b in reading(real_data / "ohif_phantom" / name).bookmarks] == [
            Kind.BIDIRECTIONAL,
            Kind.LENGTH,
            Kind.ELLIPSE,
            Kind.POINT,
            Kind.CLOSED_POLYLINE,
            Kind.CLOSED_POLYLINE,
            Kind.CIRCLE,
        ]


def test_only_what_ohif_wrote_has_its_quirks(real_data: Path) -> None:
    for path in sorted((real_data / "ohif_phantom").glob("*.dcm")):
        source = reading(path).source
        ours = path.name == "ours_B.dcm"
        assert source.writer == ("highdicom" if ours else "ohif")
        assert source.quirks == (() if ours else ("swapped_spacing", "default_short_axis"))


def test_a_viewers_save_of_a_report_names_its_predecessor_where_the_viewer_does(real_data: Path) -> None:
    folder = real_data / "ohif_phantom"
    original = reading(folder / "ours_B.dcm").source
    assert reading(folder / "g6_resave_of_ours_3.13.dcm").source.predecessors == (original.sop_instance_uid,)
    assert reading(folder / "g7_resave_of_ours_3.11.dcm").source.predecessors == ()
