"""Marks of two states of a report: which is which, and what a hand did to it.

Viewers give new tracking UIDs (OHIF 3.11, 3.13: seen), so that a lesion is known again by its ends, its lengths, its
label and its place, in this order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deeplesion_miner import geometry
from deeplesion_miner.assignment import assign
from deeplesion_miner.feedback_reports import ReadReport
from deeplesion_miner.types import Axis, Bookmark, ImagePlane, Kind, Point, Segment, SegmentMm

Planes = Mapping[tuple[str, int], ImagePlane]
"""Planes of images by SOP Instance UID and frame number; an image may be absent."""
Cross = tuple[Segment, ...]
"""Long and short axis, or a line alone."""
MEASURED = (Kind.BIDIRECTIONAL, Kind.LENGTH)


@dataclass(frozen=True)
class FeedbackSettings:
    """When a mark is the same as before."""

    noise_px: float = 0.01
    """An end that moved less did not move: a round trip through OHIF and float32 moves it by at most 1e-4 px, the
    smallest step of a hand on a screen by 0.1 px."""
    near_axes: float = 0.5
    """A mark with another label and other ends may be the same lesion where its middle lies within this share of
    the long axis: then each middle lies within the other lesion."""
    near_mm: float = 5.0
    """Within this distance always: no hand places a cross on a small nodule better. A slice spacing of CT."""


@dataclass(frozen=True)
class Mark:
    """One item of a report as feedback sees it."""

    bookmark: Bookmark
    image: tuple[str, int] | None
    """SOP Instance UID and frame; None where it names none, or several."""
    plane: ImagePlane | None
    lines: Cross
    """As stored, in pixels; () where they are not known: another tool, broken, in the patient on an unknown plane."""

    @property
    def is_measured(self) -> bool:
        """A cross or a length; other tools' marks hold no axes."""
        return self.bookmark.kind in MEASURED

    @property
    def is_displaced(self) -> bool:
        """Saved by a viewer that confuses the spacings, over pixels that are not square: it drew it elsewhere."""
        return (
            "swapped_spacing" in self.bookmark.source.quirks
            and self.plane is not None
            and bool(self.lines)
            and isinstance(_axes(self.bookmark)[0].segment, Segment)
            and not geometry.has_square_pixels(self.plane)
        )

    @cached_property
    def true_lines(self) -> tuple[Segment | None, Segment | None]:
        """Long and short axis where the viewer showed them, in pixels."""
        shown = self.shown(self.is_displaced)
        return shown[0] if shown else None, shown[1] if len(shown) > 1 else None

    def shown(self, displaced: bool) -> Cross:
        """The lines as a viewer shows them that confuses the spacings, or as one that does not."""
        plane = self.plane
        if not displaced or plane is None:
            return self.lines
        undo = geometry.undo_swapped_spacing
        return tuple(Segment(undo(plane, line.start), undo(plane, line.end)) for line in self.lines)


@dataclass(frozen=True)
class Change:
    """What a hand did to a lesion; numbers are None where the image's plane or one of the lines is not known."""

    geometry: str
    """'' , 'moved', 'resized' or 'moved_resized'."""
    shift_mm: float | None = None
    """Distance between the middles of the crosses."""
    long_axis_mm: float | None = None
    """Growth of the longer axis."""
    short_axis_mm: float | None = None


def marks_of(report: ReadReport, planes: Planes) -> list[Mark]:
    """All marks of a report in document order."""
    return [_mark(one, planes) for one in report.bookmarks]


def _mark(bookmark: Bookmark, planes: Planes) -> Mark:
    refs = tuple(dict.fromkeys(ref for ref in bookmark.axis_images if ref is not None)) or bookmark.images
    image = (refs[0].sop_instance_uid, refs[0].frame_number) if len(refs) == 1 else None
    plane = None if image is None else planes.get(image)
    lines = [_in_pixels(axis, plane) for axis in _axes(bookmark)]
    known = tuple(line for line in lines if line is not None)
    return Mark(bookmark, image, plane, known if len(known) == len(lines) else ())


def _axes(bookmark: Bookmark) -> list[Axis]:
    return [axis for axis in (bookmark.long_axis, bookmark.short_axis) if axis is not None]


def _in_pixels(axis: Axis, plane: ImagePlane | None) -> Segment | None:
    line = axis.segment
    if not isinstance(line, SegmentMm):
        return line if geometry.all_finite((line.start, line.end)) else None
    if plane is None or not geometry.all_finite((line.start, line.end)):
        return None
    return Segment(geometry.to_px(plane, line.start), geometry.to_px(plane, line.end))


# --- which is which --------------------------------------------------------------------------------------


def pairs(before: Sequence[Mark], after: Sequence[Mark], settings: FeedbackSettings) -> tuple[tuple[int, int], ...]:
    """Positions (before, after) of the same lesions, by strength of evidence, then the nearest ones together."""
    found: dict[int, int] = {}
    for tests, key in ((_EVIDENCE[:1], _tracking_uid_of), (_EVIDENCE[1:], _image_of)):
        for here, there in _together(before, after, key):
            for holds in tests:
                taken = set(found.values())
                left = [i for i in here if i not in found]
                right = [j for j in there if j not in taken]
                costs = np.full((len(left), len(right)), math.inf)
                for row, i in enumerate(left):
                    for column, j in enumerate(right):
                        if holds(before[i], after[j], settings):
                            costs[row, column] = distance(before[i], after[j])
                found.update((left[row], right[column]) for row, column in assign(costs))
    return tuple(sorted(found.items()))


def _together(
    before: Sequence[Mark], after: Sequence[Mark], key: Callable[[Mark], object]
) -> Iterator[tuple[list[int], list[int]]]:
    """Positions of marks that can be the same lesion: those with one key, which is not empty."""
    groups: dict[object, tuple[list[int], list[int]]] = {}
    for side, marks in enumerate((before, after)):
        for position, mark in enumerate(marks):
            if key(mark):
                groups.setdefault(key(mark), ([], []))[side].append(position)
    return (group for group in groups.values() if all(group))


def _tracking_uid_of(mark: Mark) -> str:
    return mark.bookmark.tracking_uid


def _image_of(mark: Mark) -> tuple[str, int] | None:
    return mark.image


def strength_of(before: Mark, after: Mark, settings: FeedbackSettings) -> int | None:
    """The strongest evidence that both are the same lesion, 0 being the strongest; None where there is none."""
    return next((k for k, holds in enumerate(_EVIDENCE) if holds(before, after, settings)), None)


def _same_tracking_uid(before: Mark, after: Mark, _: FeedbackSettings) -> bool:
    return bool(before.bookmark.tracking_uid) and before.bookmark.tracking_uid == after.bookmark.tracking_uid


def _untouched(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    both = _both(before, after)
    return both is not None and both.is_untouched(settings)


def _handle_moved(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    """Two of four ends stay where the short axis' handle is moved; one end and the width where the long axis' is."""
    both = _both(before, after)
    if both is None or not both.has_same_shape:
        return False
    unmoved = both.unmoved_ends(settings)
    if len(unmoved) == 1:
        return unmoved[0] == 1
    return sum(unmoved) >= 2 or any(unmoved[k] and both.is_same_length(1 - k, settings) for k in (0, 1))


def _same_size(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    """Both lengths of a cross agree to the noise: it was dragged as a whole. One length alone may agree by chance."""
    both = _both(before, after)
    return both is not None and len(both.paired) == 2 and both.is_same_size(settings)


def _same_label(before: Mark, after: Mark, _: FeedbackSettings) -> bool:
    same_image = before.image is not None and before.image == after.image
    return same_image and bool(before.bookmark.label) and before.bookmark.label == after.bookmark.label


def _near(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    both = _both(before, after)
    return both is not None and both.shift <= max(settings.near_mm, settings.near_axes * max(both.lengths(both.old)))


_EVIDENCE = (_same_tracking_uid, _untouched, _handle_moved, _same_size, _same_label, _near)
SAME_LABEL = 4
"""The strength of evidence that an equal label is."""


def is_link(before: Mark, after: Mark, settings: FeedbackSettings) -> int | None:
    """Strength of the evidence that a report without a predecessor answers ours; None where it does not.

    A label alone proves nothing, everybody has a 'Lesion 1': the mark must be near, too.
    """
    strength = strength_of(before, after, settings)
    if strength is None or strength < SAME_LABEL:
        return strength
    return strength if strength == SAME_LABEL and _near(before, after, settings) else None


def distance(before: Mark, after: Mark) -> float:
    """Sum of the distances of the ends in pixels; 0 where the marks cannot be compared."""
    both = _both(before, after)
    return 0.0 if both is None else sum(_apart(one, other) for one, other in both.paired)


# --- what was done ---------------------------------------------------------------------------------------


def change(before: Mark, after: Mark, settings: FeedbackSettings) -> Change:
    """What differs, as the viewer showed both.

    'resized' where a length changed, 'moved' where ends moved and no length did; both where no end stayed and the
    middle moved farther than the change of the lengths explains. A lesion on another image is moved.
    """
    both = _both(before, after)
    if both is None:
        return Change("moved" if before.image != after.image else "")
    if both.plane is None:
        return Change(both.kind(settings))
    long_and_short = [sorted(both.lengths(cross), reverse=True) for cross in (both.old, both.new)]
    growth = [b - a for a, b in zip(*long_and_short, strict=False)]
    return Change(both.kind(settings), both.shift, growth[0], growth[1] if len(growth) > 1 else None)


@dataclass(frozen=True)
class _Both:
    """Two crosses on one image, as the viewer of the later one showed them; lengths in mm, in px without a plane."""

    old: Cross
    new: Cross
    plane: ImagePlane | None

    @cached_property
    def paired(self) -> list[tuple[Segment, Segment]]:
        """The axes of both in the better order: a handle may make the short axis the longer one."""
        straight = list(zip(self.old, self.new, strict=False))
        if len(self.old) != 2 or len(self.new) != 2:
            return straight
        crossed = [(self.old[0], self.new[1]), (self.old[1], self.new[0])]
        return min(straight, crossed, key=lambda paired: sum(_apart(one, other) for one, other in paired))

    @property
    def has_same_shape(self) -> bool:
        """Both are crosses, or both are lines."""
        return len(self.old) == len(self.new)

    @property
    def shift(self) -> float:
        """Distance of the middles."""
        return math.dist(self._scaled(_middle(self.old)), self._scaled(_middle(self.new)))

    def lengths(self, cross: Cross) -> list[float]:
        """Of the lines of one of both."""
        return [self._length(line) for line in cross]

    def unmoved_ends(self, settings: FeedbackSettings) -> list[int]:
        """How many ends of each axis stayed, the axis taken in its better direction."""
        return [_unmoved_ends(one, other, settings.noise_px) for one, other in self.paired]

    def is_same_length(self, which: int, settings: FeedbackSettings) -> bool:
        """Whether an axis kept its length, as far as the noise of two ends tells."""
        one, other = self.paired[which]
        spacing = 1.0 if self.plane is None else max(self.plane.row_spacing_mm, self.plane.col_spacing_mm)
        return abs(self._length(one) - self._length(other)) <= 2 * settings.noise_px * spacing

    def is_same_size(self, settings: FeedbackSettings) -> bool:
        """Whether all axes kept their lengths."""
        return self.has_same_shape and all(self.is_same_length(k, settings) for k in range(len(self.paired)))

    def is_untouched(self, settings: FeedbackSettings) -> bool:
        """Whether no end moved."""
        return self.has_same_shape and sum(self.unmoved_ends(settings)) == 2 * len(self.paired)

    def kind(self, settings: FeedbackSettings) -> str:
        """The geometry of a `Change`."""
        if self.is_untouched(settings):
            return ""
        if self.is_same_size(settings):
            return "moved"
        grown = sum(abs(self._length(other) - self._length(one)) for one, other in self.paired)
        stayed = sum(self.unmoved_ends(settings))
        return "moved_resized" if not stayed and self.shift > grown / 2 else "resized"

    def _length(self, line: Segment) -> float:
        return line.length_px if self.plane is None else geometry.length_mm(self.plane, line)

    def _scaled(self, point: Point) -> Point:
        plane = self.plane
        return point if plane is None else (point[0] * plane.col_spacing_mm, point[1] * plane.row_spacing_mm)


def _both(before: Mark, after: Mark) -> _Both | None:
    """None where the marks do not lie on one image, or have no lines."""
    if before.image is None or before.image != after.image or not before.lines or not after.lines:
        return None
    displaced = before.is_displaced or after.is_displaced
    return _Both(before.shown(displaced), after.shown(after.is_displaced), before.plane)


def _apart(one: Segment, other: Segment) -> float:
    """Sum of the distances of the ends in pixels, the lines taken in their better direction."""
    return min(
        math.dist(one.start, start) + math.dist(one.end, end)
        for start, end in ((other.start, other.end), (other.end, other.start))
    )


def _unmoved_ends(one: Segment, other: Segment, noise_px: float) -> int:
    return max(
        (math.dist(one.start, start) <= noise_px) + (math.dist(one.end, end) <= noise_px)
        for start, end in ((other.start, other.end), (other.end, other.start))
    )


def _middle(lines: Cross) -> Point:
    """Mean of all ends."""
    ends = [end for line in lines for end in (line.start, line.end)]
    return sum(end[0] for end in ends) / len(ends), sum(end[1] for end in ends) / len(ends)
