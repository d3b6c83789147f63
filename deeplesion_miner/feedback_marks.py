"""Marks of reports as feedback compares them: on which image they lie, and where, in pixels and in the patient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import schemas
from deeplesion_miner import geometry
from deeplesion_miner.feedback_reports import ReadReport
from deeplesion_miner.types import Axis, Bookmark, ImagePlane, Kind, Segment, SegmentMm, Vector

ImageKey = tuple[str, int]
"""SOP Instance UID and frame."""
Planes = Mapping[ImageKey, ImagePlane]
"""Planes of images; an image may be absent."""
Cross = tuple[Segment, ...]
"""Long and short axis, or a line alone."""
CrossMm = tuple[SegmentMm, ...]
MEASURED = (Kind.BIDIRECTIONAL, Kind.LENGTH)


@dataclass(frozen=True)
class FeedbackSettings:
    """When a mark is the same as before; meanings and reasons stand in `schemas/feedback.toml` same_lesion."""

    noise_px: float
    near_axes: float
    near_mm: float
    other_slice_mm: float
    on_plane_mm: float

    @classmethod
    def of_schema(cls) -> FeedbackSettings:
        """The settings of the project."""
        return cls(**schemas.load("feedback")["same_lesion"])


@dataclass(frozen=True)
class Mark:
    """One item of a report as feedback sees it."""

    bookmark: Bookmark
    image: ImageKey | None
    """None where it names none, or several, and lies on none that is known."""
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

    def shown_mm(self, displaced: bool) -> CrossMm:
        """The lines in the patient, likewise; () where they are not known there."""
        plane = self.plane
        if plane is not None and self.lines:
            to_mm = geometry.to_patient_mm
            return tuple(SegmentMm(to_mm(plane, line.start), to_mm(plane, line.end)) for line in self.shown(displaced))
        axes = [axis.segment for axis in _axes(self.bookmark)]
        in_patient = tuple(line for line in axes if isinstance(line, SegmentMm) and _is_finite(line))
        return in_patient if len(in_patient) == len(axes) else ()

    @property
    def frame_of_reference_uid(self) -> str:
        """Of the place in the patient; '' where nothing states it."""
        stated = self.bookmark.frame_of_reference_uid
        return stated or ("" if self.plane is None else self.plane.frame_of_reference_uid)


def marks_of(report: ReadReport, planes: Planes, settings: FeedbackSettings) -> list[Mark]:
    """All marks of a report in document order."""
    return [_mark(one, planes, settings) for one in report.bookmarks]


def _mark(bookmark: Bookmark, planes: Planes, settings: FeedbackSettings) -> Mark:
    refs = tuple(dict.fromkeys(ref for ref in bookmark.axis_images if ref is not None)) or bookmark.images
    named = (refs[0].sop_instance_uid, refs[0].frame_number) if len(refs) == 1 else None
    image = _image_under(bookmark, named, planes, settings)
    plane = None if image is None else planes.get(image)
    lines = [_in_pixels(axis, plane) for axis in _axes(bookmark)]
    known = tuple(line for line in lines if line is not None)
    return Mark(bookmark, image, plane, known if len(known) == len(lines) else ())


def _axes(bookmark: Bookmark) -> list[Axis]:
    return [axis for axis in (bookmark.long_axis, bookmark.short_axis) if axis is not None]


def _is_finite(line: Segment | SegmentMm) -> bool:
    return geometry.all_finite((line.start, line.end))


def _image_under(
    bookmark: Bookmark, named: ImageKey | None, planes: Planes, settings: FeedbackSettings
) -> ImageKey | None:
    """The image that a mark lies on: in the patient (SCOORD3D) its ends decide, not the image that it names.

    Where the ends lie on no known image it is None; the named one stands where its plane is not known.
    """
    lines = [axis.segment for axis in _axes(bookmark) if isinstance(axis.segment, SegmentMm)]
    if not lines or not all(map(_is_finite, lines)) or (named is not None and named not in planes):
        return named
    ends = [end for line in lines for end in (line.start, line.end)]
    frame = bookmark.frame_of_reference_uid

    def off_mm(image: ImageKey, *, must_state: bool) -> float:
        of_image = planes[image].frame_of_reference_uid
        if of_image != frame and (must_state or (of_image and frame)):
            return math.inf
        return max(abs(geometry.distance_mm(planes[image], end)) for end in ends)

    if named is not None and off_mm(named, must_state=False) <= settings.on_plane_mm:
        return named
    if not frame:
        return None
    nearest = min((off_mm(image, must_state=True), image) for image in planes) if planes else (math.inf, None)
    return nearest[1] if nearest[0] <= settings.on_plane_mm else None


def _in_pixels(axis: Axis, plane: ImagePlane | None) -> Segment | None:
    line = axis.segment
    if not _is_finite(line):
        return None
    if not isinstance(line, SegmentMm):
        return line
    if plane is None:
        return None
    return Segment(geometry.to_px(plane, line.start), geometry.to_px(plane, line.end))


def middle_mm(lines: CrossMm) -> Vector:
    """Mean of all ends."""
    ends = [end for line in lines for end in (line.start, line.end)]
    x, y, z = (sum(axis) / len(ends) for axis in zip(*ends, strict=True))
    return x, y, z
