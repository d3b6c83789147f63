"""Later states of a report replace earlier ones, copies are kept once, whatever the order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from core_factories import axial_plane, bookmark, header, image_ref
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner import geometry
from deeplesion_miner.filters import Rules, judge
from deeplesion_miner.merge import merge
from deeplesion_miner.reasons import message
from deeplesion_miner.types import Axis, Code, ImageRef, Kept, Kind, Note, Point, Segment, Verdict

RULES = Rules()
CROSS = ((40.0, 50.0), (60.0, 50.0), (50.0, 44.0), (50.0, 56.0))
LONG_HANDLE_MOVED = ((40.0, 50.0), (66.0, 50.0), (54.0, 44.0), (54.0, 56.0))
SHORT_HANDLE_MOVED = ((40.0, 50.0), (60.0, 50.0), (50.0, 46.0), (50.0, 57.0))
ELSEWHERE = ((10.0, 20.0), (30.0, 20.0), (20.0, 14.0), (20.0, 26.0))
LESION = Code("52988006", "SCT", "Lesion")


def mark(
    document: str,
    points: Iterable[Point] = CROSS,
    *,
    item: str = "1",
    when: str = "",
    series: str = "1.5",
    writer: str = "",
    replaces: tuple[str, ...] = (),
    label: str = "",
    finding: Code | None = None,
    ref: ImageRef | None = None,
    kind: Kind = Kind.BIDIRECTIONAL,
    algorithm: str = "",
) -> Verdict:
    """A judged bookmark of a document written at a time."""
    drawn = bookmark(f"{document}#{item}", ref or image_ref(), kind)
    source = replace(
        drawn.source, series_instance_uid=series, writer=writer, content_datetime=when, predecessors=replaces
    )
    ends = list(points)
    drawn = replace(
        drawn,
        source=source,
        label=label,
        finding=finding,
        algorithm=algorithm,
        long_axis=Axis(Segment(ends[0], ends[1])),
        short_axis=Axis(Segment(ends[2], ends[3])) if len(ends) > 2 else None,
    )
    at = header(drawn.images[0])
    return judge(drawn, {at.ref: at}, Rules(keep_lengths=True))


def told(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Bookmark key -> 'kept', 'kept (link)', or the reason with its link."""
    found = {}
    for verdict in merge(tuple(verdicts), RULES):
        links = [dict(note.facts)["link"] for note in verdict.notes if note.code == "later_edit"]
        if isinstance(verdict, Kept):
            found[verdict.bookmark.key] = f"kept ({links[0]})" if links else "kept"
        else:
            assert message("reject", verdict.reason, verdict.facts)
            link = dict(verdict.facts).get("link", "")
            found[verdict.bookmark.key] = f"{verdict.reason} {link}".strip()
    return found


# --- predecessors ----------------------------------------------------------------------------------------


def test_bookmarks_of_different_lesions_are_kept_as_they_are() -> None:
    verdicts = (mark("a"), mark("b", ELSEWHERE))
    assert merge(verdicts, RULES) == verdicts


def test_a_document_that_names_a_predecessor_replaces_it_whole() -> None:
    found = told(
        [mark("a"), mark("a", ELSEWHERE, item="2"), mark("b", LONG_HANDLE_MOVED, replaces=("a",))],
    )
    assert found == {"a#1": "superseded predecessor", "a#2": "superseded predecessor", "b#1": "kept (predecessor)"}


def test_only_documents_that_were_read_are_replaced_and_flagged() -> None:
    assert told([mark("b", replaces=("never seen",))]) == {"b#1": "kept"}


def test_a_chain_leaves_its_last_document() -> None:
    found = told([mark("a"), mark("b", replaces=("a",)), mark("c", replaces=("b",)), mark("d", ELSEWHERE)])
    assert found == {
        "a#1": "superseded predecessor",
        "b#1": "superseded predecessor",
        "c#1": "kept (predecessor)",
        "d#1": "kept",
    }


def test_documents_that_name_one_another_leave_the_newest() -> None:
    circle = [
        mark("a", when="20260101", replaces=("c", "a")),
        mark("b", ELSEWHERE, when="20260103", replaces=("a",)),
        mark("c", SHORT_HANDLE_MOVED, when="20260102", replaces=("b",)),
    ]
    found = told(circle)
    assert [key for key, verdict in found.items() if verdict.startswith("kept")] == ["b#1"]


def restated(points: Iterable[Point] = CROSS, *, item: str = "1", document: str = "ours") -> Verdict:
    """Of our own report of what a reader drew in document 'a'."""
    return mark(document, points, item=item, when="20260102", writer="deeplesion_miner", replaces=("a",))


def test_our_report_of_a_readers_marks_replaces_those_that_it_restates_and_no_other() -> None:
    left_out = mark("a", ELSEWHERE, item="2", when="20260101")
    assert told([mark("a", when="20260101"), left_out, restated()]) == {
        "a#1": "superseded predecessor",
        "a#2": "kept",
        "ours#1": "kept (predecessor)",
    }


def test_a_reader_who_saves_our_report_again_replaces_what_it_restated_and_never_saw_the_rest() -> None:
    drawn = [mark("a", when="20260101"), mark("a", ELSEWHERE, item="2", when="20260101")]
    drawn.append(mark("a", SHORT_HANDLE_MOVED, item="3", when="20260101"))
    again = mark("b", LONG_HANDLE_MOVED, when="20260103", replaces=("ours",))
    assert told([*drawn, restated(), restated(SHORT_HANDLE_MOVED, item="3"), again]) == {
        "a#1": "superseded predecessor",
        "a#2": "kept",
        "a#3": "superseded predecessor",
        "b#1": "kept (predecessor)",
        "ours#1": "superseded predecessor",
        "ours#3": "superseded predecessor",
    }


def test_what_is_known_of_a_mark_is_said_of_our_restatement_too() -> None:
    drawn = replace(mark("a", when="20260101"), notes=(Note("default_short_axis", (("ratio", 0.67),)),))
    again = mark("ours2", when="20260103", writer="deeplesion_miner", replaces=("ours",))
    for verdicts in ([drawn, restated()], [drawn, restated(), again]):
        (kept,) = (one for one in merge(verdicts, RULES) if isinstance(one, Kept))
        assert [note.code for note in kept.notes] == ["default_short_axis", "later_edit"]


def test_our_later_report_replaces_our_earlier_one_whole() -> None:
    corrected = mark("ours2", LONG_HANDLE_MOVED, when="20260103", writer="deeplesion_miner", replaces=("ours",))
    assert told([restated(), corrected]) == {"ours#1": "superseded predecessor", "ours2#1": "kept (predecessor)"}


def test_earlier_reasons_stay() -> None:
    point = mark("a", kind=Kind.POINT)
    found = told([point, mark("b", replaces=("a",))])
    assert found == {"a#1": "unsupported_source", "b#1": "kept (predecessor)"}


# --- copies ----------------------------------------------------------------------------------------------


def shifted(by_px: float) -> list[Point]:
    return [(x + by_px, y) for x, y in CROSS]


def test_the_earliest_of_copies_is_kept() -> None:
    found = told([mark("a", when="20260102"), mark("b", when="20260101"), mark("c")])
    assert found == {"a#1": "duplicate", "b#1": "kept", "c#1": "duplicate"}


def test_of_copies_of_one_time_the_smallest_key_is_kept() -> None:
    assert told([mark("b"), mark("a")]) == {"a#1": "kept", "b#1": "duplicate"}


@pytest.mark.parametrize(("by_px", "verdict"), [(0.009, "duplicate"), (0.011, "kept")])
def test_ends_within_a_hundredth_of_a_pixel_are_the_same(by_px: float, verdict: str) -> None:
    assert told([mark("a"), mark("b", shifted(by_px))])["b#1"] == verdict


def test_lines_drawn_in_the_other_direction_are_the_same_lines() -> None:
    a, b, c, d = CROSS
    assert told([mark("a"), mark("b", (b, a, d, c))])["b#1"] == "duplicate"


def test_lines_on_another_image_or_frame_are_others() -> None:
    other = [mark("b", ref=image_ref("1.2.4")), mark("c", ref=image_ref(frame=2))]
    assert set(told([mark("a"), *other]).values()) == {"kept"}


def test_a_length_is_no_copy_of_a_cross_but_of_another_length() -> None:
    lengths = [mark("b", CROSS[:2], kind=Kind.LENGTH), mark("c", CROSS[:2], kind=Kind.LENGTH)]
    assert told([mark("a"), *lengths]) == {"a#1": "kept", "b#1": "kept", "c#1": "duplicate"}


def test_what_a_model_says_of_a_report_takes_nothing_from_it_and_a_reader_who_saves_that_again_does() -> None:
    read = mark("a", when="20240101")
    found = mark("b", when="20240102", replaces=("a",), algorithm="lesionnet")
    saved_again = mark("c", LONG_HANDLE_MOVED, when="20240103", replaces=("b",))
    assert told([read, found]) == {"a#1": "kept", "b#1": "by_algorithm"}
    assert told([read, found, saved_again]) == {
        "a#1": "superseded predecessor",
        "b#1": "by_algorithm",
        "c#1": "kept (predecessor)",
    }


# --- later edits without a predecessor -------------------------------------------------------------------


def edit(points: Iterable[Point] = LONG_HANDLE_MOVED, **changed: object) -> Verdict:
    settings: dict[str, object] = {"when": "20260102", "series": "1.6", "writer": "ohif", "label": "Lesion 1"}
    return mark("b", points, **{**settings, **changed})  # type: ignore[arg-type]


def first(**changed: object) -> Verdict:
    return mark("a", **{"when": "20260101", "label": "Lesion 1", **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("points", [LONG_HANDLE_MOVED, SHORT_HANDLE_MOVED])
def test_a_moved_handle_under_the_same_label_is_a_later_edit(points: Iterable[Point]) -> None:
    assert told([first(), edit(points)]) == {"a#1": "superseded later_edit", "b#1": "kept (later_edit)"}


def test_in_the_same_series_no_label_is_needed() -> None:
    assert told([first(label=""), edit(series="1.5", label="")]) == {
        "a#1": "superseded same_series",
        "b#1": "kept (same_series)",
    }


def test_the_same_finding_will_do() -> None:
    assert told([first(label="", finding=LESION), edit(label="", finding=LESION)])["b#1"] == "kept (later_edit)"


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "Lesion 2"},
        {"label": ""},
        {"writer": "highdicom"},
        {"when": "20251231"},
        {"when": "20260101"},
        {"ref": image_ref("1.2.4")},
        {"points": ELSEWHERE},
        {"points": ((40.0, 50.0), (66.0, 50.0), (54.0, 43.0), (54.0, 57.0))},
    ],
)
def test_another_label_writer_time_image_or_shape_is_another_lesion(changed: dict[str, object]) -> None:
    assert set(told([first(), edit(**changed)]).values()) == {"kept"}


def test_without_a_time_nothing_is_later() -> None:
    assert set(told([first(when=""), edit()]).values()) == {"kept"}


def test_a_length_with_one_moved_end_is_a_later_edit_and_of_a_cross_it_is_not() -> None:
    longer = edit(((40.0, 50.0), (66.0, 50.0)), kind=Kind.LENGTH)
    assert told([first(points=CROSS[:2], kind=Kind.LENGTH), longer])["a#1"] == "superseded later_edit"
    assert told([first(), longer])["a#1"] == "kept"


def test_what_a_later_edit_replaced_stays_replaced_when_we_restate_the_edit() -> None:
    ours = mark("ours", LONG_HANDLE_MOVED, when="20260102", writer="deeplesion_miner", replaces=("b",))
    assert told([first(), edit(when="20260102.5"), ours]) == {
        "a#1": "superseded later_edit",
        "b#1": "superseded predecessor",
        "ours#1": "kept (predecessor)",
    }


def test_a_chain_of_edits_leaves_the_last() -> None:
    last = mark("c", SHORT_HANDLE_MOVED, when="20260103", series="1.7", writer="ohif", label="Lesion 1")
    found = told([first(), edit((*CROSS[:3], (50.0, 58.0))), last])
    assert found == {"a#1": "superseded later_edit", "b#1": "superseded later_edit", "c#1": "kept (later_edit)"}


documents = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from([CROSS, LONG_HANDLE_MOVED, SHORT_HANDLE_MOVED, ELSEWHERE]),
    ),
    max_size=6,
    unique=True,
)
about = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.tuples(
        st.sampled_from(["", "20260101", "20260102"]),
        st.sampled_from(["", "ohif"]),
        st.sampled_from(["", "Lesion 1"]),
        st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3),
    ),
)


@given(documents, about, st.randoms(use_true_random=False))
def test_every_bookmark_keeps_one_verdict_and_order_changes_nothing(
    drawn: list[tuple[str, tuple[Point, ...]]],
    facts: dict[str, tuple[str, str, str, list[str]]],
    chance: random.Random,
) -> None:
    verdicts = []
    for number, (name, points) in enumerate(drawn):
        when, writer, label, before = facts.get(name, ("", "", "", []))
        made = mark(name, points, item=str(number), when=when, writer=writer, label=label, replaces=tuple(before))
        verdicts.append(made)
    merged = merge(tuple(verdicts), RULES)
    assert [v.bookmark.key for v in merged] == sorted(v.bookmark.key for v in verdicts)
    assert not verdicts or any(isinstance(v, Kept) for v in merged)
    assert len({v.bookmark.key for v in merged}) == len(merged)
    chance.shuffle(verdicts)
    assert merge(tuple(verdicts), RULES) == merged


# --- real ------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_report_saved_again_and_again_in_ohif_leaves_its_last_state(real_data: Path) -> None:
    """ours_B, its re-save with a predecessor (g6), and a re-save of that without one (g7), beside two others."""
    pydicom = pytest.importorskip("pydicom")
    folder = real_data / "ohif_phantom"
    expected = {item["file"]: item for item in json.loads((folder / "expected.json").read_text())}
    plane = axial_plane(spacing_mm=0.75, rows=192, columns=192)
    at = header(image_ref("1.2.3"), plane)
    uids, verdicts = {}, []
    for name in (
        "g1_bidirectional_3.13",
        "g5_bidirectional_3.11",
        "ours_B",
        "g6_resave_of_ours_3.13",
        "g7_resave_of_ours_3.11",
    ):
        report = pydicom.dcmread(folder / f"{name}.dcm")
        uids[report.SOPInstanceUID] = name[:2]
        if name == "ours_B":
            points = [(110.757217, 80.875), (130.242783, 92.125), (123.875, 80.654327), (117.125, 92.345673)]
            label = "Lesion 1"
        else:
            group = expected[f"{name}.dcm"]["groups"][0]
            points = [tuple(p) for num in group["nums"] for p in num["scoord"]]
            label = group.get("comment") or ""
        verdicts.append(
            mark(
                report.SOPInstanceUID,
                [geometry.corner_to_centre(p) for p in points],
                when=report.ContentDate + report.ContentTime,
                series=report.SeriesInstanceUID,
                writer="" if name == "ours_B" else "ohif",
                replaces=tuple(
                    item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
                    for item in report.get("PredecessorDocumentsSequence", [])
                ),
                label=label,
            )
        )
    assert at.plane == plane
    found = {uids[key.split("#")[0]]: verdict for key, verdict in told(verdicts).items()}
    assert found == {
        "g1": "kept",
        "g5": "kept",
        "ou": "superseded predecessor",
        "g6": "superseded later_edit",
        "g7": "kept (later_edit)",
    }
