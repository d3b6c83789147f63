"""One lesion, several bookmarks: later states of a report replace earlier ones, copies are kept once.

Pure and independent of order: every decision looks at the whole set of verdicts of a study.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from deeplesion_miner.results import OURSELVES
from deeplesion_miner.rules import Rules
from deeplesion_miner.types import Bookmark, Kept, Note, Point, Rejected, Segment, Source, Verdict

SAVES_WITHOUT_PREDECESSOR = "ohif"
"""Writer whose re-saved reports may name no predecessor (OHIF 3.11, seen)."""
SAME_LENGTH_MM = 0.01
"""Lengths nearer than this are one length (coordinates are float32)."""

Links = Mapping[str, str]
"""Bookmark key -> word of the vocabulary 'link'."""
Restated = tuple[tuple[Kept, Kept], ...]
"""What a reader drew, and the same lines in our own report of it."""


def merge(verdicts: Iterable[Verdict], rules: Rules) -> tuple[Verdict, ...]:
    """The verdicts of one study, sorted by bookmark key, with superseded ones and copies rejected.

    In this order: documents replaced by a read document that names them as predecessor (whole, also what it
    dropped), unless that one is rejected as an algorithm's, or is our own report of a reader's bookmarks, which
    replaces those that it restates: what we left out, no reader dropped; copies (the earliest stays); later edits by
    a writer that names no predecessor (same image, one or more ends untouched; in the same series, or with the same
    label or finding), whether or not we restated them since. Earlier reasons stay, and flags of what we restated go on.
    """
    ordered = sorted(verdicts, key=lambda verdict: verdict.bookmark.key)
    replaced, successors, restated = _by_predecessor(ordered, rules)
    survivors = [v for v in ordered if isinstance(v, Kept) and v.bookmark.key not in replaced]
    copies = _copies(survivors, rules)
    survivors = [kept for kept in survivors if kept.bookmark.key not in copies]
    edited, edits = _edits(survivors, [one for one, _ in restated], rules)
    flags = {ours.bookmark.key: one.notes for one, ours in restated}
    flagged = [_with_notes(verdict, flags.get(verdict.bookmark.key, ())) for verdict in ordered]
    return tuple(_merged(v, {**edited, **replaced}, {**edits, **successors}, copies) for v in flagged)


def _with_notes(verdict: Verdict, notes: tuple[Note, ...]) -> Verdict:
    return replace(verdict, notes=verdict.notes + tuple(note for note in notes if note not in verdict.notes))


def _merged(verdict: Verdict, superseded: Links, later: Links, copies: frozenset[str]) -> Verdict:
    if isinstance(verdict, Rejected):
        return verdict
    key = verdict.bookmark.key
    notes = verdict.notes
    if key in later:
        notes = (*notes, Note("later_edit", (("link", later[key]),)))
    if key in superseded:
        return Rejected(verdict.bookmark, "superseded", (("link", superseded[key]),), notes)
    if key in copies:
        return Rejected(verdict.bookmark, "duplicate", (), notes)
    return Kept(verdict.lesion, notes)


# --- named predecessors ----------------------------------------------------------------------------------


def _by_predecessor(verdicts: Sequence[Verdict], rules: Rules) -> tuple[Links, Links, Restated]:
    """Bookmarks that later documents replace, those that replace them, and those that we restated."""
    sources = {v.bookmark.source.sop_instance_uid: v.bookmark.source for v in verdicts}
    by_algorithm = {
        v.bookmark.source.sop_instance_uid for v in verdicts if isinstance(v, Rejected) and v.reason == "by_algorithm"
    }
    ours = {uid for uid, source in sources.items() if source.writer == OURSELVES} - by_algorithm
    named = {uid: {p for p in source.predecessors if p in sources and p != uid} for uid, source in sources.items()}
    reached = {uid: _reachable(named, uid) for uid in sources}
    by_readers = {uid: set() if uid in ours else before for uid, before in named.items()}

    def is_later(uid: str, before: str) -> bool:
        """Of documents that name one another the newest is left."""
        return uid not in reached[before] or _age(sources[uid]) > _age(sources[before])

    # What a model says takes nothing from a reader; of a reader's document we replace what we restate of it.
    whole = {uid: reached[uid] & ours if uid in ours else _reachable(by_readers, uid) for uid in sources}
    replaces = {
        uid: {p for p in before if is_later(uid, p)} for uid, before in whole.items() if uid not in by_algorithm
    }
    replaced = {p for before in replaces.values() for p in before}
    restated = _restated(verdicts, {uid: {p for p in reached[uid] - ours if is_later(uid, p)} for uid in ours}, rules)
    of_document = [(v.bookmark.key, v.bookmark.source.sop_instance_uid) for v in verdicts]
    earlier = {key for key, uid in of_document if uid in replaced} | {one.bookmark.key for one, _ in restated}
    later = {key for key, uid in of_document if replaces.get(uid)} | {own.bookmark.key for _, own in restated}
    of_readers = tuple(pair for pair in restated if pair[0].bookmark.source.sop_instance_uid not in replaced)
    return dict.fromkeys(earlier, "predecessor"), dict.fromkeys(later, "predecessor"), of_readers


def _restated(verdicts: Sequence[Verdict], documents: Mapping[str, set[str]], rules: Rules) -> Restated:
    """Bookmarks of earlier documents, each with one of a later document that has the same lines."""
    kept = [verdict for verdict in verdicts if isinstance(verdict, Kept)]
    return tuple(
        (one, other)
        for other in kept
        if (before := documents.get(other.bookmark.source.sop_instance_uid))
        for one in kept
        if one.bookmark.source.sop_instance_uid in before
        and _image(one) == _image(other)
        and _same_lines(one, other, rules.duplicate_tolerance_px)
    )


def _reachable(edges: Mapping[str, set[str]], start: str) -> set[str]:
    """Everything that can be reached, `start` too if it lies on a cycle."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for following in edges[waiting.pop()] - seen:
            seen.add(following)
            waiting.append(following)
    return seen


def _age(source: Source) -> tuple[str, str]:
    return (source.content_datetime, source.sop_instance_uid)


# --- copies ----------------------------------------------------------------------------------------------


def _copies(kept: Sequence[Kept], rules: Rules) -> frozenset[str]:
    """Keys of all but the earliest of those with the same lines on the same image; an unknown time is latest."""
    originals: dict[tuple[str, int], list[Kept]] = {}
    copies = set()
    for candidate in sorted(kept, key=lambda k: _earliest_first(k.bookmark)):
        here = originals.setdefault(_image(candidate), [])
        if any(_same_lines(candidate, original, rules.duplicate_tolerance_px) for original in here):
            copies.add(candidate.bookmark.key)
        else:
            here.append(candidate)
    return frozenset(copies)


def _earliest_first(bookmark: Bookmark) -> tuple[bool, str, str]:
    written = bookmark.source.content_datetime
    return (not written, written, bookmark.key)


def _image(kept: Kept) -> tuple[str, int]:
    ref = kept.lesion.header.ref
    return (ref.sop_instance_uid, ref.frame_number)


def _same_lines(one: Kept, other: Kept, tolerance_px: float) -> bool:
    a, b = one.lesion, other.lesion
    if (a.short_axis is None) != (b.short_axis is None):
        return False
    pairs = [(a.long_axis, b.long_axis)]
    if a.short_axis is not None and b.short_axis is not None:
        pairs.append((a.short_axis, b.short_axis))
    return all(_same_line(first, second, tolerance_px) for first, second in pairs)


def _same_line(one: Segment, other: Segment, tolerance_px: float) -> bool:
    """Drawn in either direction."""
    return any(
        _same_end(one.start, start, tolerance_px) and _same_end(one.end, end, tolerance_px)
        for start, end in ((other.start, other.end), (other.end, other.start))
    )


def _same_end(one: Point, other: Point, tolerance_px: float) -> bool:
    return math.dist(one, other) <= tolerance_px


# --- later edits without a predecessor -------------------------------------------------------------------


def _edits(kept: Sequence[Kept], restated: Sequence[Kept], rules: Rules) -> tuple[Links, Links]:
    """Earlier states with the link to their later one, and later states with the link to their earlier one.

    A later state that we restated replaces what its reader had before, not our words for it.
    """
    edited: dict[str, str] = {}
    edits: dict[str, str] = {}
    of_readers = [one for one in kept if one.bookmark.source.writer != OURSELVES]
    for later, before in [*((one, kept) for one in kept), *((one, of_readers) for one in restated)]:
        if later.bookmark.source.writer != SAVES_WITHOUT_PREDECESSOR:
            continue
        for earlier in before:
            link = _link(earlier, later, rules)
            if link:
                edited[earlier.bookmark.key] = min(link, edited.get(earlier.bookmark.key, link))
                edits[later.bookmark.key] = min(link, edits.get(later.bookmark.key, link))
    return edited, edits


def _link(earlier: Kept, later: Kept, rules: Rules) -> str:
    """'same_series' or 'later_edit' where one is a later state of the other, else ''."""
    before, after = earlier.bookmark.source, later.bookmark.source
    if not before.content_datetime or before.content_datetime >= after.content_datetime:
        return ""
    if _image(earlier) != _image(later) or not _handle_moved(earlier, later, rules):
        return ""
    if before.series_instance_uid == after.series_instance_uid:
        return "same_series"
    return "later_edit" if _same_name(earlier.bookmark, later.bookmark) else ""


def _handle_moved(earlier: Kept, later: Kept, rules: Rules) -> bool:
    """True where one cross becomes the other by moving a handle.

    A moved handle of the short axis leaves two ends of the long axis. A moved handle of the long axis leaves
    its other end and the length of the short axis, whose ends OHIF moves along (seen).
    """
    a, b = earlier.lesion, later.lesion
    unmoved = _ends_in_common(a.long_axis, b.long_axis, rules.duplicate_tolerance_px)
    if a.short_axis is None or b.short_axis is None or a.short_axis_mm is None or b.short_axis_mm is None:
        return a.short_axis is b.short_axis and unmoved == 1
    short_unmoved = _ends_in_common(a.short_axis, b.short_axis, rules.duplicate_tolerance_px)
    same_width = abs(a.short_axis_mm - b.short_axis_mm) <= SAME_LENGTH_MM
    return unmoved + short_unmoved >= 2 or (unmoved == 1 and same_width)


def _ends_in_common(one: Segment, other: Segment, tolerance_px: float) -> int:
    """How many ends lie on one another, the lines taken in their better direction."""
    return max(
        _same_end(one.start, start, tolerance_px) + _same_end(one.end, end, tolerance_px)
        for start, end in ((other.start, other.end), (other.end, other.start))
    )


def _same_name(one: Bookmark, other: Bookmark) -> bool:
    """Equal label, or equal finding; texts that are absent are not equal."""
    if one.label and one.label == other.label:
        return True
    found, later = one.finding, other.finding
    return found is not None and later is not None and (found.value, found.scheme) == (later.value, later.scheme)
