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
from deeplesion_miner.feedback import Feedback, FeedbackRow, FeedbackVerdict, check_sums, counts, feedback
from deeplesion_miner.feedback_marks import FeedbackSettings, Planes, marks_of
from deeplesion_miner.feedback_reports import ReadReport, RejectionNote
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


def test_a_cross_on_another_image_is_another_lesion() -> None:
    assert verdicts(ours(mark()), saved(mark(ref=ANOTHER_IMAGE))) == ["deleted", "added"]


def test_who_keeps_the_tracking_uid_keeps_the_lesion_wherever_it_goes() -> None:
    row = only(ours(mark(tracking_uid="1.8")), saved(mark(OTHER, "x", ref=ANOTHER_IMAGE, tracking_uid="1.8")))
    assert (row.verdict, row.geometry_change, row.shift_mm) == ("moved", "moved", None)


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
    rows, lesions = told(one).rows, marks_of(one, PLANES)
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MARKS, st.floats(-5, 5), st.floats(-5, 5))
def test_noise_is_never_an_edit_and_a_drag_is_always_one(one: Bookmark, x: float, y: float) -> None:
    noise = FeedbackSettings().noise_px
    assert one.long_axis and one.short_axis
    ends = [end for axis in (one.long_axis, one.short_axis) if isinstance(axis.segment, Segment)
            for end in (axis.segment.start, axis.segment.end)]  # fmt: skip
    other = mark(shifted(tuple(ends), (x, y)), one.label, ref=one.images[0])
    row = told(ours(one), saved(other)).rows[0]
    if math.hypot(x, y) <= noise:
        assert row.geometry_change == ""
    elif math.hypot(x, y) > 2 * noise and row.verdict != "deleted":
        assert row.geometry_change in ("moved", "resized")
