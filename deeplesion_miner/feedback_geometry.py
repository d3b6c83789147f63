"""How two marks lie to one another: on one image by their ends, on two images by their place in the patient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from deeplesion_miner import geometry
from deeplesion_miner.feedback_marks import Cross, CrossMm, FeedbackSettings, Mark, middle_mm
from deeplesion_miner.types import ImagePlane, Point, Segment


@dataclass(frozen=True)
class Change:
    """What a hand did to a lesion; numbers are None where the images' planes or one of the lines are not known."""

    geometry: str
    """'' , 'moved', 'resized' or 'moved_resized'."""
    shift_mm: float | None = None
    """Distance between the middles of the crosses, in the patient."""
    long_axis_mm: float | None = None
    """Growth of the longer axis."""
    short_axis_mm: float | None = None
    slice_shift_mm: float | None = None
    """How far towards the feet, along the normal of the image before; 0 on the same image."""


def change(before: Mark, after: Mark, settings: FeedbackSettings) -> Change:
    """What differs, as the viewer showed both.

    'resized' where a length changed, 'moved' where ends moved and no length did; both where no end stayed and the
    middle moved farther than the change of the lengths explains. A lesion on another image is moved.
    """
    both = on_one_image(before, after)
    if both is not None:
        return _change_on_one_image(both, settings)
    if before.image == after.image and before.image is not None:
        return Change("")
    apart = in_patient(before, after)
    if apart is None:
        return Change("moved")
    growth = _growth(apart.lengths_mm(apart.old), apart.lengths_mm(apart.new))
    return Change(apart.kind(settings), apart.shift_mm, *growth, apart.slice_shift_mm)


def _change_on_one_image(both: OnOneImage, settings: FeedbackSettings) -> Change:
    if both.plane is None:
        return Change(both.kind(settings))
    growth = _growth(both.lengths(both.old), both.lengths(both.new))
    return Change(both.kind(settings), both.shift, *growth, 0.0)


def _growth(before: list[float], after: list[float]) -> tuple[float, float | None]:
    """Of the longer and of the shorter axis."""
    grown = [b - a for a, b in zip(sorted(before, reverse=True), sorted(after, reverse=True), strict=False)]
    return grown[0], grown[1] if len(grown) > 1 else None


def distance(before: Mark, after: Mark) -> float:
    """Sum of the distances of the ends in pixels; 0 where the marks cannot be compared."""
    both = on_one_image(before, after)
    return 0.0 if both is None else sum(_apart(one, other) for one, other in both.paired)


# --- on one image ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnOneImage:
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
        return abs(self._length(one) - self._length(other)) <= _noise_of_length(self.plane, settings)

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


def on_one_image(before: Mark, after: Mark) -> OnOneImage | None:
    """None where the marks do not lie on one image, or have no lines."""
    if before.image is None or before.image != after.image or not before.lines or not after.lines:
        return None
    displaced = before.is_displaced or after.is_displaced
    return OnOneImage(before.shown(displaced), after.shown(after.is_displaced), before.plane)


def _noise_of_length(plane: ImagePlane | None, settings: FeedbackSettings) -> float:
    """In millimetres; in pixels without a plane."""
    spacing = 1.0 if plane is None else max(plane.row_spacing_mm, plane.col_spacing_mm)
    return 2 * settings.noise_px * spacing


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


# --- on two images ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InPatient:
    """Two crosses in one frame of reference, as the viewer of the later one showed them (LPS, mm)."""

    old: CrossMm
    new: CrossMm
    plane: ImagePlane
    """Of the old one."""

    @property
    def shift_mm(self) -> float:
        """Distance of the middles."""
        return math.dist(middle_mm(self.old), middle_mm(self.new))

    @property
    def slice_shift_mm(self) -> float:
        """How far the middle went towards the feet, along the normal of the old one's image."""
        along = geometry.distance_mm(self.plane, middle_mm(self.new))
        return -along if geometry.normal(self.plane)[2] > 0 else along

    @property
    def overlaps(self) -> bool:
        """Whether the circles around both, as wide as the longer axes, overlap where seen along that normal."""
        aside_mm = math.sqrt(max(self.shift_mm**2 - self.slice_shift_mm**2, 0.0))
        return aside_mm <= (max(self.lengths_mm(self.old)) + max(self.lengths_mm(self.new))) / 2

    @staticmethod
    def lengths_mm(cross: CrossMm) -> list[float]:
        """Of the lines of one of both."""
        return [math.dist(line.start, line.end) for line in cross]

    def kind(self, settings: FeedbackSettings) -> str:
        """'moved', or 'moved_resized' where a length changed, too."""
        old, new = (sorted(self.lengths_mm(cross)) for cross in (self.old, self.new))
        noise_mm = _noise_of_length(self.plane, settings)
        same = len(old) == len(new) and all(abs(a - b) <= noise_mm for a, b in zip(old, new, strict=True))
        return "moved" if same else "moved_resized"


def in_patient(before: Mark, after: Mark) -> InPatient | None:
    """None where a place in the patient is not known, or not in one frame of reference."""
    frame = before.frame_of_reference_uid
    if before.plane is None or not frame or frame != after.frame_of_reference_uid:
        return None
    displaced = before.is_displaced or after.is_displaced
    old, new = before.shown_mm(displaced), after.shown_mm(after.is_displaced)
    return InPatient(old, new, before.plane) if old and new else None
