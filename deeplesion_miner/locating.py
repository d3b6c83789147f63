"""From a bookmark to a lesion: its axes as pixels on one image plane, in the core convention."""

from __future__ import annotations

from deeplesion_miner import geometry, recist
from deeplesion_miner.rules import Rules
from deeplesion_miner.types import (
    Axis,
    Bookmark,
    Fact,
    ImageHeader,
    ImagePlane,
    Lesion,
    Note,
    Rejected,
    Segment,
    SegmentMm,
    Unreadable,
)


def locate(bookmark: Bookmark, header: ImageHeader, rules: Rules) -> Lesion | Rejected:
    """The bookmark's axes as pixels on the image, the longer one as long axis; judges only what stops that.

    Rejected with bad_geometry, frame_of_reference_mismatch or bad_coordinates.
    """
    plane = header.plane
    if isinstance(plane, Unreadable):
        return Rejected(bookmark, "bad_geometry", what_of(plane))
    if _frames_of_reference_differ(bookmark, plane):
        return Rejected(bookmark, "frame_of_reference_mismatch")
    if bookmark.long_axis is None:
        return Rejected(bookmark, "bad_coordinates", (("what", "missing"),))
    drawn = [axis for axis in (bookmark.long_axis, bookmark.short_axis) if axis is not None]
    if not geometry.all_finite(end for axis in drawn for end in (axis.segment.start, axis.segment.end)):
        return Rejected(bookmark, "bad_coordinates", (("what", "not_finite"),))
    undo = _must_undo_swapped_spacing(bookmark, plane, drawn)
    segments = [_on_plane(axis, plane, undo) for axis in drawn]
    return _lesion(bookmark, header, plane, segments, (Note("swapped_spacing_undone"),) if undo else (), rules)


def _lesion(
    bookmark: Bookmark,
    header: ImageHeader,
    plane: ImagePlane,
    segments: list[Segment],
    notes: tuple[Note, ...],
    rules: Rules,
) -> Lesion:
    long_axis, short_axis = segments[0], segments[1] if len(segments) > 1 else None
    long_mm = geometry.length_mm(plane, long_axis)
    short_mm = None if short_axis is None else geometry.length_mm(plane, short_axis)
    if short_axis is not None and short_mm is not None:
        tolerance_mm = rules.swap_tolerance_px * max(plane.row_spacing_mm, plane.col_spacing_mm)
        if short_mm > long_mm + tolerance_mm:
            long_axis, short_axis, long_mm, short_mm = short_axis, long_axis, short_mm, long_mm
            notes = (*notes, Note("axes_swapped"))
    return Lesion(
        bookmark=bookmark,
        header=header,
        long_axis=long_axis,
        short_axis=short_axis,
        box=recist.box(recist.ends(long_axis, short_axis), rules.box_padding_px),
        long_axis_mm=long_mm,
        short_axis_mm=short_mm,
        off_plane_mm=off_plane_mm(bookmark, plane),
        notes=notes,
    )


def what_of(problem: Unreadable) -> tuple[tuple[str, Fact], ...]:
    """Which part of an image's geometry is not usable."""
    return (("what", dict(problem.facts).get("what", "missing")),)


def _frames_of_reference_differ(bookmark: Bookmark, plane: ImagePlane) -> bool:
    """Both must be stated to differ: the image reference itself and the distance check stand in for the rest."""
    named, image = bookmark.frame_of_reference_uid, plane.frame_of_reference_uid
    return bool(named) and bool(image) and named != image


def _must_undo_swapped_spacing(bookmark: Bookmark, plane: ImagePlane, drawn: list[Axis]) -> bool:
    in_pixels = all(isinstance(axis.segment, Segment) for axis in drawn)
    return "swapped_spacing" in bookmark.source.quirks and in_pixels and not geometry.has_square_pixels(plane)


def _on_plane(axis: Axis, plane: ImagePlane, undo: bool) -> Segment:
    segment = axis.segment
    if isinstance(segment, SegmentMm):
        return Segment(geometry.to_px(plane, segment.start), geometry.to_px(plane, segment.end))
    if undo:
        return Segment(
            geometry.undo_swapped_spacing(plane, segment.start), geometry.undo_swapped_spacing(plane, segment.end)
        )
    return segment


def off_plane_mm(bookmark: Bookmark, plane: ImagePlane) -> float:
    """Largest distance of an end given in patient coordinates; 0 for pixel coordinates."""
    distances = [
        abs(geometry.distance_mm(plane, end))
        for axis in (bookmark.long_axis, bookmark.short_axis)
        if axis is not None and isinstance(axis.segment, SegmentMm)
        for end in (axis.segment.start, axis.segment.end)
    ]
    return max(distances, default=0.0)
