"""What readers made of our reports: every lesion of ours has one verdict, every mark that they added is a row."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace

import pytest
from core_factories import axial_plane, image_ref
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from deeplesion_miner.errors import SumsDoNotHold
from deeplesion_miner.feedback import Feedback, check_sums, feedback
from deeplesion_miner.feedback_marks import FeedbackSettings, Planes, marks_of
from deeplesion_miner.feedback_reports import ReadReport, RejectionNote
from deeplesion_miner.feedback_rows import FeedbackRow, FeedbackVerdict, counts
from deeplesion_miner.results import Author
from deeplesion_miner.types import Axis, Bookmark, Code, ImagePlane, ImageRef, Kind, Point, Segment, SegmentMm, Source

MODEL = Author("a model", "2.0")
LUNG, LIVER = Code("39607008", "SCT", "Lung"), Code("10200004", "SCT", "Liver")
FREE_TEXT = Code("CORNERSTONEFREETEXT", "CORNERSTONEJS", "Lesion 1")
IMAGE, ANOTHER_IMAGE = image_ref("1.2.3"), image_ref("1.2.4")
PLANE = axial_plane()
PLANES: Planes = {("1.2.3", 1): PLANE, ("1.2.4", 1): axial_plane(5.0)}
Ends = tuple[Point, ...]
CROSS: Ends = ((40.0, 50.0), (60.0, 50.0), (50.0, 44.0), (50.0, 56.0))
"""Axes of 16 and 9.6 mm."""
OTHER: Ends = ((90.0, 20.0), (110.0, 20.0), (99.0, 11.0), (99.0, 29.0))
LONG_HANDLE: Ends = ((40.0, 50.0), (66.0, 50.0), (53.0, 44.0), (53.0, 56.0))
SHORT_HANDLE: Ends = ((40.0, 50.0), (60.0, 50.0), (50.0, 44.0), (50.0, 59.0))
OURS, SAVE, NEWER = "1.5.1", "1.6.1", "1.7.1"


def shifted(cross: Ends, by: Point) -> Ends:
    return tuple((x + by[0], y + by[1]) for x, y in cross)


def scaled(cross: Ends, factor: float) -> Ends:
    x0, y0 = (sum(axis) / len(cross) for axis in zip(*cross, strict=True))
    return tuple((x0 + factor * (x - x0), y0 + factor * (y - y0)) for x, y in cross)


def mark(
    ends: Ends = CROSS,
    label: str = "Lesion 1",
    *,
    ref: ImageRef = IMAGE,
    site: Code | None = LUNG,
    tracking_uid: str = "",
    reader: str = "",
    kind: Kind = Kind.BIDIRECTIONAL,
) -> Bookmark:
    lines = [Axis(Segment(ends[k], ends[k + 1])) for k in range(0, len(ends), 2)]
    return Bookmark(
        source=Source("", "", "", "", ""),
        item_path="",
        kind=kind,
        images=(ref,),
        long_axis=lines[0] if lines else None,
        short_axis=lines[1] if len(lines) > 1 else None,
        label=label,
        finding_site=site,
        tracking_uid=tracking_uid,
        reader=reader,
    )


def report(
    uid: str,
    *marks: Bookmark,
    author: Author | None = None,
    series: str = "",
    when: str = "",
    names: tuple[str, ...] = (),
    writer: str = "ohif",
    quirks: tuple[str, ...] = (),
) -> ReadReport:
    """A report with its own series, unless told otherwise; its marks are numbered."""
    source = Source(
        "1", series or f"{uid}.9", uid, "1.2.840.10008.5.1.4.1.1.88.22", "tid1500", writer, quirks, when, names
    )
    numbered = tuple(replace(one, source=source, item_path=str(k)) for k, one in enumerate(marks, start=1))
    return ReadReport(source, numbered, author)


def ours(*marks: Bookmark, uid: str = OURS, when: str = "20240101080000", names: tuple[str, ...] = ()) -> ReadReport:
    """Our report; tracking UIDs are its own."""
    tracked = [replace(one, tracking_uid=one.tracking_uid or f"{uid}.{k}") for k, one in enumerate(marks, start=1)]
    return report(uid, *tracked, author=MODEL, when=when, names=names, writer="")


def saved(
    *marks: Bookmark, uid: str = SAVE, when: str = "20240101090000", names: tuple[str, ...] = (OURS,)
) -> ReadReport:
    return report(uid, *marks, when=when, names=names)


def told(*reports: ReadReport, notes: tuple[RejectionNote, ...] = (), planes: Planes = PLANES) -> Feedback:
    return feedback(reports, notes, planes)


def verdicts(*reports: ReadReport, notes: tuple[RejectionNote, ...] = ()) -> list[str]:
    return [row.verdict for row in told(*reports, notes=notes).rows]


def only(*reports: ReadReport, planes: Planes = PLANES) -> FeedbackRow:
    (row,) = told(*reports, planes=planes).rows
    return row


# --- what became of a lesion -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "verdict", "geometry", "label"),
    [
        (mark(), "kept", "", ""),
        (mark(shifted(CROSS, (0.009, 0.0))), "kept", "", ""),
        (mark((CROSS[1], CROSS[0], CROSS[3], CROSS[2])), "kept", "", ""),
        (mark(shifted(CROSS, (0.1, 0.0))), "moved", "moved", ""),
        (mark(shifted(CROSS, (30.0, 40.0))), "moved", "moved", ""),
        (mark(LONG_HANDLE), "resized", "resized", ""),
        (mark(SHORT_HANDLE), "resized", "resized", ""),
        (mark(scaled(CROSS, 1.2)), "resized", "resized", ""),
        (mark(shifted(scaled(CROSS, 1.05), (9.0, 0.0))), "moved", "moved_resized", ""),
        (mark(label="Node"), "relabelled", "", "label"),
        (mark(label=""), "relabelled", "", "label"),
        (mark(site=LIVER), "relabelled", "", "site"),
        (mark(label="Node", site=LIVER), "relabelled", "", "label_site"),
        (mark(LONG_HANDLE, "Node"), "resized", "resized", "label"),
        (mark(shifted(CROSS, (2.0, 1.0)), "Node"), "moved", "moved", "label"),
        (mark(shifted(scaled(CROSS, 1.05), (3.0, 1.0)), "Node"), "moved", "moved_resized", "label"),
    ],
)  # fmt: skip
def test_a_change_has_its_verdict(after: Bookmark, verdict: str, geometry: str, label: str) -> None:
    row = only(ours(mark()), saved(after))
    assert (row.verdict, row.geometry_change, row.label_change) == (verdict, geometry, label)


@pytest.mark.parametrize("site", [None, FREE_TEXT])
def test_a_site_that_the_viewer_lost_or_overwrote_is_no_change(site: Code | None) -> None:
    row = only(ours(mark()), saved(mark(site=site)))
    assert (row.verdict, row.new_site) == ("kept", "")


def test_a_handle_that_makes_the_short_axis_the_longer_one_resizes() -> None:
    longer_across: Ends = ((50.0, 30.0), (50.0, 56.0), (40.0, 50.0), (60.0, 50.0))
    row = only(ours(mark()), saved(mark(longer_across)))
    assert (row.verdict, row.geometry_change) == ("resized", "resized")
    assert row.long_axis_change_mm == pytest.approx(0.8 * 6)
    assert row.short_axis_change_mm == pytest.approx(0.8 * 8)


def test_a_lesion_that_is_not_saved_again_is_deleted() -> None:
    row, kept = told(ours(mark(), mark(OTHER, "Lesion 2")), saved(mark(OTHER, "Lesion 2"))).rows
    assert (row.label, row.verdict, kept.verdict) == ("Lesion 1", "deleted", "kept")
    assert (row.corrected_long_axis_px, row.shift_mm, row.new_label) == (None, None, "")
    assert row.long_axis_px == (40.0, 50.0, 60.0, 50.0)
    assert (row.source_sop_instance_uid, row.said_at) == (SAVE, "20240101090000")


def test_a_mark_that_is_none_of_ours_is_added() -> None:
    _, row = told(ours(mark()), saved(mark(), mark(OTHER, "", site=LIVER))).rows
    assert (row.verdict, row.label, row.tracking_uid, row.new_label, row.new_site) == ("added", "", "", "", "Liver")
    assert row.corrected_long_axis_px == (90.0, 20.0, 110.0, 20.0)
    assert row.corrected_short_axis_px == (99.0, 11.0, 99.0, 29.0)
    assert (row.long_axis_px, row.shift_mm, row.image_sop_instance_uid, row.frame_number) == (None, None, "1.2.3", 1)


def test_a_cross_over_a_deleted_lesion_is_its_correction() -> None:
    row = only(ours(mark()), saved(mark(shifted(scaled(CROSS, 1.3), (4.0, 3.0)), "")))
    assert (row.verdict, row.geometry_change, row.label_change) == ("moved", "moved_resized", "label")


def test_a_lesion_drawn_again_on_another_slice_under_its_label_is_moved() -> None:
    row = only(ours(mark()), saved(mark(shifted(LONG_HANDLE, (3.0, 4.0)), ref=ANOTHER_IMAGE)))
    assert (row.verdict, row.geometry_change, row.label_change) == ("moved", "moved_resized", "")
    assert row.shift_mm == pytest.approx(math.hypot(0.8 * 6, 0.8 * 4, 5.0))
    assert row.slice_shift_mm == pytest.approx(-5.0), "towards the head"
    assert row.long_axis_change_mm == pytest.approx(0.8 * 6)
    assert row.short_axis_change_mm == pytest.approx(0.0)
    assert (row.image_sop_instance_uid, row.frame_number) == ("1.2.3", 1)
    assert (row.corrected_image_sop_instance_uid, row.corrected_frame_number) == ("1.2.4", 1)
    assert row.corrected_long_axis_px == (43.0, 54.0, 69.0, 54.0)


def test_a_lesion_of_the_same_size_on_another_slice_is_moved_and_not_resized() -> None:
    row = only(ours(mark()), saved(mark(ref=ANOTHER_IMAGE)))
    assert (row.verdict, row.geometry_change) == ("moved", "moved")


@pytest.mark.parametrize(
    "after",
    [
        mark(label="", ref=ANOTHER_IMAGE),
        mark(label="Lesion 2", ref=ANOTHER_IMAGE),
        mark(shifted(CROSS, (21.0, 0.0)), ref=ANOTHER_IMAGE),
        mark(ref=image_ref("1.2.5")),
        mark(ref=image_ref("1.2.6")),
        mark(ref=image_ref("1.2.7")),
        mark((), ref=ANOTHER_IMAGE),
    ],
    ids=["unnamed", "another label", "beside it", "far", "in another frame", "on an unknown plane", "without ends"],
)
def test_a_cross_on_another_slice_that_nothing_ties_to_ours_is_another_lesion(after: Bookmark) -> None:
    planes = {
        **PLANES,
        ("1.2.5", 1): axial_plane(15.5),
        ("1.2.6", 1): replace(axial_plane(5.0), frame_of_reference_uid="1.10"),
    }
    assert [row.verdict for row in told(ours(mark()), saved(after), planes=planes).rows] == ["deleted", "added"]


def test_of_equal_labels_on_another_slice_the_nearest_is_the_same() -> None:
    near, far = mark(shifted(CROSS, (4.0, 0.0)), ref=ANOTHER_IMAGE), mark(shifted(CROSS, (9.0, 0.0)), ref=ANOTHER_IMAGE)
    row, added = told(ours(mark()), saved(far, near)).rows
    assert row.shift_mm == pytest.approx(math.hypot(3.2, 5.0))
    assert added.verdict == "added"


def test_a_name_on_another_slice_says_more_than_a_place_without_one() -> None:
    over_the_old_place = mark(shifted(scaled(CROSS, 1.2), (1.0, 0.0)), "")
    assert verdicts(ours(mark()), saved(over_the_old_place, mark(ref=ANOTHER_IMAGE))) == ["moved", "added"]


def test_a_lesion_that_stayed_on_its_slice_is_none_that_was_drawn_on_another_under_its_label() -> None:
    assert verdicts(ours(mark()), saved(mark(ref=ANOTHER_IMAGE), mark())) == ["kept", "added"]
    row, added = told(ours(mark()), saved(mark(ref=ANOTHER_IMAGE), mark(label="x"))).rows
    assert (row.verdict, added.new_label) == ("relabelled", "Lesion 1")


def test_who_keeps_the_tracking_uid_keeps_the_lesion_wherever_it_goes() -> None:
    away = saved(mark(OTHER, "x", ref=ANOTHER_IMAGE, tracking_uid="1.8"))
    row = only(ours(mark(tracking_uid="1.8")), away)
    assert (row.verdict, row.geometry_change, row.label_change) == ("moved", "moved_resized", "label")
    assert row.shift_mm == pytest.approx(math.hypot(0.8 * 49.75, 0.8 * 30, 5.0), rel=0.01)
    row = only(ours(mark(tracking_uid="1.8")), away, planes={})
    assert (row.verdict, row.geometry_change, row.shift_mm, row.slice_shift_mm) == ("moved", "moved", None, None)
    assert row.corrected_image_sop_instance_uid == "1.2.4"


def test_a_line_in_place_of_a_cross_is_resized_and_a_line_alone_is_compared_too() -> None:
    line = mark(CROSS[:2], kind=Kind.LENGTH)
    assert only(ours(mark()), saved(line)).verdict == "resized"
    assert only(ours(line), saved(mark(((40.0, 50.0), (70.0, 50.0)), "x", kind=Kind.LENGTH))).verdict == "resized"
    assert only(ours(line), saved(line)).short_axis_change_mm is None


def test_a_mark_of_another_tool_is_added_unless_ours_drew_it() -> None:
    box = mark((), "", kind=Kind.CLOSED_POLYLINE)
    assert verdicts(ours(mark(), box), saved(mark(), box)) == ["kept"]
    assert verdicts(ours(mark(), box), saved(mark(), box, box)) == ["kept", "added"]
    row = told(ours(mark()), saved(mark(), mark((), "look", kind=Kind.POINT))).rows[1]
    assert (row.verdict, row.kind, row.new_label, row.corrected_long_axis_px) == ("added", "point", "look", None)


def test_values_of_whole_images_are_no_marks() -> None:
    nowhere = replace(mark((), kind=Kind.WHOLE_IMAGE_VALUE), images=())
    assert verdicts(ours(mark()), saved(mark(), nowhere)) == ["kept"]


# --- which is which --------------------------------------------------------------------------------------


def test_labels_changed_crosswise_are_two_renames_and_no_moves() -> None:
    two = ours(mark(CROSS, "a"), mark(OTHER, "b"))
    assert verdicts(two, saved(mark(CROSS, "b"), mark(OTHER, "a"))) == ["relabelled", "relabelled"]


def test_a_dragged_lesion_is_known_by_its_lengths_where_it_takes_the_name_of_a_deleted_one() -> None:
    two = ours(mark(CROSS, "a"), mark(OTHER, "b"))
    rows = told(two, saved(mark(shifted(OTHER, (-20.0, 10.0)), "a"))).rows
    assert [(row.label, row.verdict, row.label_change) for row in rows] == [
        ("a", "deleted", ""),
        ("b", "moved", "label"),
    ]


def test_of_equal_labels_the_nearest_together_are_the_same() -> None:
    two = ours(mark(CROSS, "x"), mark(shifted(scaled(CROSS, 1.3), (30.0, 0.0)), "x"))
    after = saved(
        mark(shifted(scaled(CROSS, 1.7), (24.0, 0.0)), "x"), mark(shifted(scaled(CROSS, 1.1), (3.0, 0.0)), "x")
    )
    shifts = [row.shift_mm for row in told(two, after).rows]
    assert shifts == [pytest.approx(2.4), pytest.approx(4.8)]


def test_two_lesions_on_one_place_are_two() -> None:
    twice = ours(mark(CROSS, "a"), mark(CROSS, "b"))
    assert verdicts(twice, saved(mark(CROSS, "a"))) == ["kept", "deleted"]


# --- numbers ---------------------------------------------------------------------------------------------


def test_numbers_are_millimetres_on_the_image() -> None:
    row = only(ours(mark()), saved(mark(LONG_HANDLE)))
    assert row.shift_mm == pytest.approx(0.8 * 3)
    assert row.long_axis_change_mm == pytest.approx(0.8 * 6)
    assert row.short_axis_change_mm == pytest.approx(0.0)


def test_without_the_image_there_is_a_verdict_and_no_millimetres() -> None:
    row = only(ours(mark()), saved(mark(LONG_HANDLE)), planes={})
    assert (row.verdict, row.geometry_change) == ("resized", "resized")
    assert (row.shift_mm, row.long_axis_change_mm, row.short_axis_change_mm) == (None, None, None)


def in_patient(plane: ImagePlane) -> Bookmark:
    """The cross in patient coordinates."""
    lines = [
        Axis(SegmentMm(*((-50 + 0.8 * x, -50 + 0.8 * y, 0.0) for x, y in (CROSS[k], CROSS[k + 1])))) for k in (0, 2)
    ]
    return replace(mark(), long_axis=lines[0], short_axis=lines[1])


def test_patient_coordinates_are_compared_on_the_image() -> None:
    assert only(ours(mark()), saved(in_patient(PLANE))).verdict == "kept"
    assert only(ours(mark()), saved(in_patient(PLANE)), planes={}).verdict == "kept", "by its label alone"


def moved_in_patient(by: tuple[float, float, float], frame: str = "1.9", ref: ImageRef | None = IMAGE) -> Bookmark:
    """The cross in patient coordinates, dragged there."""
    one = in_patient(PLANE)

    def there(axis: Axis | None) -> Axis:
        assert axis is not None and isinstance(axis.segment, SegmentMm)
        return Axis(SegmentMm(*(tuple(map(sum, zip(end, by, strict=True)))  # type: ignore[arg-type]
                                for end in (axis.segment.start, axis.segment.end))))  # fmt: skip

    return replace(
        one,
        long_axis=there(one.long_axis),
        short_axis=there(one.short_axis),
        frame_of_reference_uid=frame,
        images=() if ref is None else (ref,),
    )


@pytest.mark.parametrize("ref", [IMAGE, ANOTHER_IMAGE, None], ids=["ours", "another image", "no image"])
def test_ends_in_the_patient_lie_where_they_lie_whatever_image_is_named(ref: ImageRef | None) -> None:
    row = only(ours(mark()), saved(moved_in_patient((0.0, 0.0, 0.0), ref=ref)))
    assert (row.verdict, row.corrected_image_sop_instance_uid) == ("kept", "1.2.3")
    row = only(ours(mark()), saved(moved_in_patient((0.0, 0.0, 5.0), ref=ref)))
    assert (row.verdict, row.corrected_image_sop_instance_uid) == ("moved", "1.2.4")
    assert row.shift_mm == pytest.approx(5.0)
    assert row.slice_shift_mm == pytest.approx(-5.0)


def test_ends_in_the_patient_on_a_slice_that_nobody_else_measured_on_are_moved_without_an_image() -> None:
    row = only(ours(mark()), saved(moved_in_patient((0.0, 1.0, -5.0))))
    assert (row.verdict, row.geometry_change, row.corrected_image_sop_instance_uid) == ("moved", "moved", "")
    assert row.shift_mm == pytest.approx(math.sqrt(26))
    assert row.slice_shift_mm == pytest.approx(5.0)
    assert row.corrected_long_axis_px is None


def test_ends_in_another_frame_of_reference_are_nowhere_on_our_image() -> None:
    assert verdicts(ours(mark()), saved(moved_in_patient((0.0, 0.0, 0.0), "1.10"))) == ["deleted", "added"]
    assert verdicts(ours(mark()), saved(moved_in_patient((0.0, 0.0, 9.0), ""))) == ["deleted", "added"]


def test_ends_that_are_no_numbers_have_a_verdict_by_their_label() -> None:
    broken = mark(((math.nan, 1.0), *CROSS[1:]))
    assert only(ours(mark()), saved(broken)).verdict == "kept"
    far = replace(in_patient(PLANE), long_axis=Axis(SegmentMm((math.inf, 0.0, 0.0), (0.0, 0.0, 0.0))))
    assert only(ours(mark()), saved(far)).verdict == "kept"
    assert verdicts(ours(mark()), saved(replace(broken, label="x"))) == ["deleted", "added"]


# --- a viewer that confuses the spacings -----------------------------------------------------------------

OBLONG = replace(PLANE, row_spacing_mm=0.9, col_spacing_mm=0.7)
SWAPPED = ("swapped_spacing",)


def shown(cross: Ends) -> Ends:
    return tuple((x * 0.9 / 0.7, y * 0.7 / 0.9) for x, y in cross)


def test_what_the_viewer_showed_elsewhere_and_nobody_touched_is_kept() -> None:
    row = only(ours(mark()), replace_quirks(saved(mark())), planes={("1.2.3", 1): OBLONG})
    assert (row.verdict, row.shift_mm, row.shown_displaced) == ("kept", 0.0, True)
    assert row.corrected_long_axis_px == pytest.approx([value for end in shown(CROSS)[:2] for value in end])
    assert row.long_axis_px == (40.0, 50.0, 60.0, 50.0)


def test_what_the_viewer_showed_elsewhere_is_compared_as_it_was_shown() -> None:
    row = only(ours(mark()), replace_quirks(saved(mark(LONG_HANDLE))), planes={("1.2.3", 1): OBLONG})
    assert row.verdict == "resized"
    assert row.long_axis_change_mm == pytest.approx(6 * 0.9 / 0.7 * 0.7)


def test_patient_coordinates_are_never_swapped() -> None:
    row = only(ours(mark()), replace_quirks(saved(in_patient(PLANE))), planes={("1.2.3", 1): OBLONG})
    assert not row.shown_displaced


def replace_quirks(one: ReadReport) -> ReadReport:
    source = replace(one.source, quirks=SWAPPED)
    return replace(one, source=source, bookmarks=tuple(replace(mark, source=source) for mark in one.bookmarks))


# --- which report is which -------------------------------------------------------------------------------


def test_a_report_that_nobody_saved_again_is_unreviewed() -> None:
    found = told(ours(mark()))
    assert [row.verdict for row in found.rows] == ["unreviewed"]
    assert (found.rows[0].link, found.rows[0].saves, found.rows[0].reason) == ("", 0, "")


def test_a_re_save_is_found_by_the_predecessor_that_it_names() -> None:
    row = only(ours(mark()), report(SAVE, mark(), names=(OURS,), writer="another viewer"))
    assert (row.link, row.saves) == ("predecessor", 1)


def test_a_re_save_is_found_by_its_series() -> None:
    row = only(ours(mark()), report(SAVE, mark(), series=f"{OURS}.9", when="20240101090000", writer="another viewer"))
    assert (row.verdict, row.link) == ("kept", "same_series")


def test_a_re_save_is_found_by_label_and_place() -> None:
    row = only(ours(mark()), report(SAVE, mark(shifted(scaled(CROSS, 1.2), (6.0, 0.0))), when="20240101090000"))
    assert (row.verdict, row.link) == ("moved", "label_and_place")


@pytest.mark.parametrize(
    "other",
    [
        report(SAVE, mark(shifted(scaled(CROSS, 1.2), (40.0, 0.0))), when="20240101090000"),
        report(SAVE, mark(shifted(scaled(CROSS, 1.2), (2.0, 0.0)), ""), when="20240101090000"),
        report(SAVE, mark(), when="20240101070000"),
        report(SAVE, mark(), when="20240101090000", writer="highdicom"),
        report(SAVE, mark(ref=ANOTHER_IMAGE), when="20240101090000"),
        report(SAVE, mark((), kind=Kind.POINT), when="20240101090000"),
    ],
    ids=["far", "unnamed", "older than ours", "a writer that names predecessors", "elsewhere", "nothing measured"],
)
def test_a_reader_s_own_report_answers_none_of_ours(other: ReadReport) -> None:
    found = told(ours(mark()), other)
    assert [row.verdict for row in found.rows] == ["unreviewed"]
    assert found.unlinked == (SAVE,)


def test_a_report_that_ours_was_made_from_is_no_answer() -> None:
    source = report(SAVE, mark(), when="20240101090000")
    assert verdicts(source, ours(mark(), when="20240101080000", names=(SAVE,))) == ["unreviewed"]


def test_an_unknown_time_hinders_no_link() -> None:
    assert verdicts(ours(mark()), report(SAVE, mark())) == ["kept"]
    assert verdicts(ours(mark(), when=""), report(SAVE, mark(), when="20240101090000")) == ["kept"]


def test_a_chain_goes_on_through_every_kind_of_link() -> None:
    first = report("1.6.1", mark(LONG_HANDLE), when="20240101090000")
    second = report("1.6.2", mark(shifted(LONG_HANDLE, (0.0, 5.0))), when="20240101100000", names=("1.6.1",))
    third = report("1.6.3", mark(SHORT_HANDLE), when="20240101110000", series="1.6.2.9")
    row = only(ours(mark()), first, second, third)
    assert (row.source_sop_instance_uid, row.saves, row.link, row.verdict) == ("1.6.3", 3, "same_series", "resized")


def test_a_later_state_is_known_by_an_earlier_one_of_the_chain() -> None:
    far = shifted(scaled(CROSS, 1.3), (30.0, 0.0))
    first = saved(mark(far))
    second = report(NEWER, mark(shifted(scaled(far, 1.1), (2.0, 0.0))), when="20240101100000")
    row = only(ours(mark()), first, second)
    assert (row.source_sop_instance_uid, row.link, row.saves) == (NEWER, "label_and_place", 2)


def test_a_successor_is_newer_than_its_predecessor_whatever_the_clocks_say() -> None:
    first = saved(mark(LONG_HANDLE), when="20240101100000")
    second = saved(mark(SHORT_HANDLE), uid=NEWER, when="20240101090000", names=(SAVE,))
    assert only(ours(mark()), first, second).source_sop_instance_uid == NEWER


def test_reports_that_name_one_another_stop_nobody() -> None:
    first = saved(mark(LONG_HANDLE), names=(OURS, NEWER))
    second = saved(mark(SHORT_HANDLE), uid=NEWER, when="20240101100000", names=(SAVE,))
    assert only(ours(mark()), first, second).source_sop_instance_uid == NEWER


def test_of_two_reports_of_ours_a_mark_speaks_for_the_newest_that_it_fits() -> None:
    old, new = ours(mark()), ours(mark(), uid="1.5.2", when="20240101083000")
    found = told(old, new, report(SAVE, mark(), when="20240101090000"))
    assert {row.sop_instance_uid: row.verdict for row in found.rows} == {OURS: "unreviewed", "1.5.2": "kept"}


def test_noise_does_not_tell_which_of_two_reports_of_ours_an_untouched_mark_speaks_for() -> None:
    old, new = ours(mark()), ours(mark(shifted(CROSS, (1e-4, 0.0))), uid="1.5.2", when="20240101083000")
    found = told(old, new, report(SAVE, mark(), when="20240101090000"))
    assert {row.sop_instance_uid: row.verdict for row in found.rows} == {OURS: "unreviewed", "1.5.2": "kept"}


def test_a_re_save_of_two_reports_of_ours_answers_both() -> None:
    one, two = ours(mark()), ours(mark(OTHER, "Lesion 2"), uid="1.5.2")
    both = saved(mark(LONG_HANDLE), mark(OTHER, "Lesion 2"), mark(CROSS, ref=ANOTHER_IMAGE), names=(OURS, "1.5.2"))
    found = told(one, two, both).rows
    assert [(row.sop_instance_uid, row.verdict) for row in found] == [
        (OURS, "resized"), (OURS, "added"), ("1.5.2", "kept"),
    ]  # fmt: skip


def test_what_belongs_to_a_report_that_was_saved_again_later_is_not_added_to_the_other() -> None:
    one, two = ours(mark()), ours(mark(OTHER, "Lesion 2"), uid="1.5.2")
    both = saved(mark(), mark(OTHER, "Lesion 2"), names=(OURS, "1.5.2"))
    later = saved(mark(shifted(OTHER, (1.0, 0.0)), "Lesion 2"), uid=NEWER, when="20240101100000", names=("1.5.2",))
    found = told(one, two, both, later).rows
    assert [(row.sop_instance_uid, row.verdict) for row in found] == [(OURS, "kept"), ("1.5.2", "moved")]


def test_a_report_that_a_newer_one_of_ours_corrects_says_so() -> None:
    row, _ = told(ours(mark()), ours(mark(OTHER), uid="1.5.2", when="20240102", names=(OURS,))).rows
    assert (row.verdict, row.reason) == ("unreviewed", "corrected_by_us")


def test_a_re_save_of_a_corrected_report_answers_the_corrected_one_alone() -> None:
    first, second = ours(mark()), ours(mark(), uid="1.5.2", when="20240101083000", names=(OURS,))
    found = told(first, second, saved(mark(), names=("1.5.2",))).rows
    assert [row.verdict for row in found] == ["unreviewed", "kept"]


def test_reports_of_ours_without_lesions_are_neither_answered_nor_told() -> None:
    volumes = report("1.5.3", mark((), kind=Kind.SEGMENT_REFERENCE), author=MODEL)
    assert told(volumes) == Feedback(())


# --- reports that pass on what a person measured ---------------------------------------------------------


def passed_on(
    *marks: Bookmark, uid: str = "1.5.7", when: str = "20240101083000", names: tuple[str, ...] = ()
) -> ReadReport:
    return replace(ours(*marks, uid=uid, when=when, names=names), author=Author("", is_algorithm=False))


def test_what_becomes_of_a_report_that_passes_on_a_person_s_measurements_is_no_feedback() -> None:
    for copy in (
        report(SAVE, mark(), when="20240101090000"),
        report(SAVE, mark(LONG_HANDLE), names=("1.5.7",), when="20240101090000"),
    ):
        assert told(passed_on(mark()), copy) == Feedback(())


def test_a_copy_of_what_was_passed_on_says_nothing_of_a_model_s_report_beside_it() -> None:
    model = ours(mark(OTHER, "Lesion 2"))
    found = told(model, passed_on(mark()), report(SAVE, mark(), when="20240101090000"))
    assert [(row.sop_instance_uid, row.verdict) for row in found.rows] == [(OURS, "unreviewed")]
    assert found.unlinked == (), "it answers what we passed on"


def test_marks_that_were_passed_on_are_not_added_to_a_model_s_report_that_was_saved_with_them() -> None:
    model, person = ours(mark(OTHER, "Lesion 2")), passed_on(mark())
    found = told(model, person, saved(mark(), mark(OTHER, "Lesion 2"), mark(SHORT_HANDLE, "x", ref=ANOTHER_IMAGE),
                                      names=(OURS, "1.5.7")))  # fmt: skip
    assert [(row.sop_instance_uid, row.verdict, row.new_label) for row in found.rows] == [
        (OURS, "kept", "Lesion 2"),
        (OURS, "added", "x"),
    ]


def test_a_re_save_of_a_model_s_report_stands_where_it_was_passed_on_and_edited_once_more() -> None:
    first = saved(mark(LONG_HANDLE))
    again = passed_on(mark(LONG_HANDLE), names=(SAVE,), when="20240101090000")
    edited = saved(mark(LONG_HANDLE, "x"), uid=NEWER, names=("1.5.7",), when="20240101110000")
    row = only(ours(mark()), first, again, edited)
    assert (row.source_sop_instance_uid, row.verdict, row.label_change) == (SAVE, "resized", "")


# --- two readers -----------------------------------------------------------------------------------------


def by(reader: str, *marks: Bookmark, uid: str, names: tuple[str, ...], hour: int) -> ReadReport:
    return saved(*(replace(one, reader=reader) for one in marks), uid=uid, names=names, when=f"20240101{hour:02d}0000")


def test_two_readers_who_each_opened_our_report_have_a_row_each() -> None:
    two = ours(mark(), mark(OTHER, "Lesion 2"))
    first = by("Doe^Jane", mark(), uid=SAVE, names=(OURS,), hour=9)
    second = by("Roe^John", mark(LONG_HANDLE), mark(OTHER, "Lesion 2"), uid=NEWER, names=(OURS,), hour=10)
    found = told(two, first, second).rows
    assert [(row.label, row.verdict, row.reader) for row in found] == [
        ("Lesion 1", "kept", "Doe^Jane"),
        ("Lesion 2", "deleted", "Doe^Jane"),
        ("Lesion 1", "resized", "Roe^John"),
        ("Lesion 2", "kept", "Roe^John"),
    ]
    assert {row.saves for row in found} == {2}


def test_a_reader_who_goes_on_from_another_s_re_save_has_the_last_word() -> None:
    first = by("Doe^Jane", mark(LONG_HANDLE), uid=SAVE, names=(OURS,), hour=9)
    assert verdicts(ours(mark()), first, by("Roe^John", mark(), uid=NEWER, names=(SAVE,), hour=10)) == ["kept"]
    middle = by("Roe^John", mark(SHORT_HANDLE), uid="1.6.2", names=(SAVE,), hour=10)
    last = by("Poe^Edgar", mark(), uid=NEWER, names=("1.6.2",), hour=11)
    assert verdicts(ours(mark()), first, middle, last) == ["kept"]


@pytest.mark.parametrize("reader", ["Doe^Jane", "DOE^JANE^^^", "", "unknown^unknown"])
def test_the_newest_re_save_counts_where_it_may_be_the_same_reader_s(reader: str) -> None:
    first = by("Doe^Jane", mark(LONG_HANDLE), uid=SAVE, names=(OURS,), hour=9)
    assert verdicts(ours(mark()), first, by(reader, mark(), uid=NEWER, names=(OURS,), hour=10)) == ["kept"]


def test_a_re_save_that_names_nothing_is_the_last_word_whoever_made_it() -> None:
    first = by("Doe^Jane", mark(LONG_HANDLE), uid=SAVE, names=(OURS,), hour=9)
    assert verdicts(ours(mark()), first, by("Roe^John", mark(), uid=NEWER, names=(), hour=10)) == ["kept"]


# --- rejection -------------------------------------------------------------------------------------------


def note(*rejected: str, reason: str = "quality", uid: str = "1.9.1", when: str = "20240101120000") -> RejectionNote:
    return RejectionNote("1", f"{uid}.9", uid, reason, rejected, "Reader^Rita", when)


def test_a_note_rejects_all_lesions_of_a_report() -> None:
    found = told(ours(mark(), mark(OTHER, "Lesion 2")), notes=(note(OURS),)).rows
    assert [(row.verdict, row.reason, row.reader, row.link) for row in found] == [
        ("rejected", "quality", "Reader^Rita", "rejection_note")
    ] * 2
    assert {(row.source_sop_instance_uid, row.said_at) for row in found} == {("1.9.1", "20240101120000")}


def test_the_newest_note_gives_the_reason() -> None:
    notes = (note(OURS, reason="worklist", uid="1.9.2", when="20240101130000"), note(OURS))
    assert told(ours(mark()), notes=notes).rows[0].reason == "worklist"


def test_a_note_that_a_newer_one_rejects_is_void() -> None:
    revoked = (note(OURS, uid="1.9.1"), note("1.9.1", uid="1.9.2", when="20240101130000"))
    assert verdicts(ours(mark()), notes=revoked) == ["unreviewed"]
    assert verdicts(ours(mark()), notes=(*revoked, note("1.9.2", uid="1.9.3", when="20240101140000"))) == ["rejected"]


def test_a_new_report_after_a_rejected_one_is_judged_on_its_own() -> None:
    old, new = ours(mark()), ours(mark(SHORT_HANDLE), uid="1.5.2", when="20240102080000", names=(OURS,))
    save = saved(mark(LONG_HANDLE), names=("1.5.2",), when="20240102090000")
    found = told(old, new, save, notes=(note(OURS, reason="patient_safety"),)).rows
    assert [(row.sop_instance_uid, row.verdict, row.reason) for row in found] == [
        (OURS, "rejected", "patient_safety"),
        ("1.5.2", "resized", ""),
    ]


def test_a_re_save_tells_more_than_the_rejection_of_what_it_replaced() -> None:
    assert verdicts(ours(mark()), saved(mark(LONG_HANDLE)), notes=(note(OURS),)) == ["resized"]


def test_a_rejected_re_save_does_not_count() -> None:
    both = (ours(mark()), saved(mark(LONG_HANDLE)), saved(mark(SHORT_HANDLE), uid=NEWER, names=(SAVE,)))
    (row,) = told(*both, notes=(note(NEWER),)).rows
    assert (row.source_sop_instance_uid, row.saves) == (SAVE, 2)
    assert verdicts(*both, notes=(note(NEWER, SAVE),)) == ["unreviewed"]
    assert verdicts(*both, notes=(note(NEWER, SAVE, OURS),)) == ["rejected"]


# --- who, and how many -----------------------------------------------------------------------------------


def test_a_row_names_the_model_the_reader_and_the_objects() -> None:
    row = only(ours(mark()), saved(mark(reader="Doe^Jane")))
    assert (row.model_name, row.model_version, row.reader) == ("a model", "2.0", "Doe^Jane")
    assert (row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid) == ("1", f"{OURS}.9", OURS)
    assert (row.source_series_instance_uid, row.tracking_uid) == (f"{SAVE}.9", f"{OURS}.1")


def test_a_deletion_is_the_reader_s_of_the_report_and_nobody_s_name_is_none() -> None:
    row, _ = told(ours(mark(), mark(OTHER, "x")), saved(mark(OTHER, "x", reader="Doe^Jane"))).rows
    assert (row.verdict, row.reader) == ("deleted", "Doe^Jane")
    assert only(ours(mark()), saved(mark(reader="unknown^unknown"))).reader == ""


def test_counts_name_every_verdict() -> None:
    found = counts(told(ours(mark()), saved(mark(), mark(OTHER))).rows)
    assert list(found) == list(FeedbackVerdict)
    assert (found["kept"], found["added"], sum(found.values())) == (1, 1, 2)


def test_columns_are_those_of_the_schema() -> None:
    columns = schemas.load("feedback")["tables"]["feedback"]["columns"]
    assert [field.name for field in fields(FeedbackRow)] == list(columns)
    row = only(ours(mark()))
    assert {name for name in columns if getattr(row, name) is None} <= {
        name for name, facts in columns.items() if facts["nullable"]
    }


def test_a_lesion_without_its_row_is_an_error_of_ours() -> None:
    one = ours(mark())
    rows, lesions = told(one).rows, marks_of(one, PLANES, FeedbackSettings.of_schema())
    check_sums(rows, lesions)
    for broken in ((), (*rows, *rows)):
        with pytest.raises(SumsDoNotHold, match=f"1 lesions of ours gave {len(broken)} rows"):
            check_sums(broken, lesions)


POINTS = st.tuples(st.integers(0, 60).map(float), st.integers(0, 60).map(float))
MARKS = st.builds(
    mark,
    st.tuples(POINTS, POINTS, POINTS, POINTS),
    st.sampled_from(["", "a", "b", "c"]),
    ref=st.sampled_from([IMAGE, ANOTHER_IMAGE]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MARKS, min_size=1, max_size=5), st.lists(MARKS, max_size=5), st.lists(MARKS, max_size=3), st.randoms())
def test_every_lesion_has_one_row_and_every_mark_is_a_lesion_or_added(
    before: list[Bookmark], after: list[Bookmark], others: list[Bookmark], chance: random.Random
) -> None:
    reports = [ours(*before), saved(*after), report(NEWER, *others, when="20240101100000")]
    found = told(*reports)
    chance.shuffle(reports)
    assert told(*reports) == found, "the order of reports does not matter"
    said = Counter(row.verdict == "added" for row in found.rows)
    assert said[False] == len(before)
    by_save: Mapping[str, int] = Counter(row.source_sop_instance_uid for row in found.rows if row.verdict != "deleted")
    tip = {row.source_sop_instance_uid for row in found.rows}
    if tip == {SAVE}:
        assert by_save[SAVE] == len(after)


READERS = st.sampled_from(["", "Doe^Jane", "Roe^John"])
NAMED = st.lists(st.sampled_from([OURS, "1.5.7", "1.6.0", "1.6.1", "1.6.2"]), max_size=2, unique=True).map(tuple)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(MARKS, min_size=1, max_size=3),
    st.lists(st.tuples(st.lists(MARKS, min_size=1, max_size=3), READERS, NAMED), max_size=4),
    st.randoms(),
)
def test_whoever_saves_what_over_which_report_each_reader_judges_each_lesion_of_a_model_once(
    before: list[Bookmark], saves: list[tuple[list[Bookmark], str, tuple[str, ...]]], chance: random.Random
) -> None:
    reports = [ours(*before), passed_on(*before[:1])]
    reports += [by(reader, *marks, uid=f"1.6.{k}", names=tuple(one for one in names if one != f"1.6.{k}"), hour=9 + k)
                for k, (marks, reader, names) in enumerate(saves)]  # fmt: skip
    found = told(*reports)
    chance.shuffle(reports)
    assert told(*reports) == found
    assert {row.sop_instance_uid for row in found.rows} == {OURS}
    judged = Counter(row.source_sop_instance_uid for row in found.rows if row.verdict != "added")
    assert set(judged.values()) == {len(before)}
    assert len(judged) <= 2, "of each of two known readers the newest"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MARKS, st.floats(-5, 5), st.floats(-5, 5))
def test_noise_is_never_an_edit_and_a_drag_is_always_one(one: Bookmark, x: float, y: float) -> None:
    noise = FeedbackSettings.of_schema().noise_px
    assert one.long_axis and one.short_axis
    ends = [end for axis in (one.long_axis, one.short_axis) if isinstance(axis.segment, Segment)
            for end in (axis.segment.start, axis.segment.end)]  # fmt: skip
    other = mark(shifted(tuple(ends), (x, y)), one.label, ref=one.images[0])
    row = told(ours(one), saved(other)).rows[0]
    if math.hypot(x, y) <= noise:
        assert row.geometry_change == ""
    elif math.hypot(x, y) > 2 * noise and row.verdict != "deleted":
        assert row.geometry_change in ("moved", "resized")
