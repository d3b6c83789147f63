"""The rules of the measurements in a group: R6, R8, R9, R10, R12, E1, G1, U1, V1."""

from __future__ import annotations

import math
from collections.abc import Iterator

from deeplesion_miner.types import ImagePlane
from dicom_io.attributes import first, number, numbers, text
from dicom_io.dialects.content_tree import Item, code_of, line_role
from dicom_io.lint.findings import Finding, limit, quoted, word
from dicom_io.lint.group import Group, children, drawn_below, image_of, is_private, shown_code
from dicom_io.lint.study import StudyImages

AXES = (("long_axis_meaning", "long"), ("short_axis_meaning", "short"))
"""Names in the table, and roles of `schemas/codes.toml`."""
LINE_TOOLS = ("Bidirectional", "Length")
MILLIMETRES = ("mm", "UCUM")
LINE_COORDINATES = {"SCOORD": 4, "SCOORD3D": 6}
"""Of a straight line."""


def axes(group: Group) -> Iterator[Finding]:
    """R5, R6: both axes are there, under their names, each with one line of two points."""
    for name, role in AXES:
        wanted = word(name)
        axis = next((one for one in group.children if one.name is not None and one.name.meaning == wanted), None)
        if axis is None:
            yield _lost_axis(group, wanted, role)
            continue
        drawn = drawn_below(group.tree, axis)
        if not drawn:
            yield group.finding("R6", "axis_not_drawn", axis, wanted=quoted(wanted))
        elif (count := len(_coordinates(drawn[0]))) != LINE_COORDINATES[drawn[0].value_type]:
            yield group.finding("R6", "not_a_line", drawn[0], count=count)


def _lost_axis(group: Group, wanted: str, role: str) -> Finding:
    """No item bears the axis's name: one may have its code."""
    for one in group.numbers:
        if one.name is not None and line_role(one.name) == role:
            return group.finding("R5", "axis", one, meaning=quoted(one.name.meaning), wanted=quoted(wanted))
    return group.finding("R6", "axis_missing", wanted=quoted(wanted))


def shapes(group: Group) -> Iterator[Finding]:
    """R6, R8, R10, E1, V1: coordinates and their image are written as the viewer reads them."""
    placed = group.geometry
    for one in group.numbers:
        below = children(group.tree, one)
        if len(below) > 1 and placed in below and not any(is_private(item) for item in below):
            yield group.finding("R6", "several", one, count=len(below))
    for drawn in _all_drawn(group):
        if drawn.value_type == "SCOORD3D":
            yield group.finding("R10", "scoord3d", drawn)
            continue
        yield from _relationships(group, drawn)
        graphic, values = text(drawn.dataset, "GraphicType"), _coordinates(drawn)
        if graphic == "POINT" and len(values) != 2:
            yield group.finding("V1", "point", drawn, count=len(values))
        if graphic == "ELLIPSE" and _is_oblique(values):
            yield group.finding("E1", "oblique", drawn)
    if group.tool == "EllipticalROI":
        yield group.finding("E1", "area")


def _relationships(group: Group, drawn: Item) -> Iterator[Finding]:
    below_a_number = group.tree.nodes[drawn.parent].value_type == "NUM"
    if below_a_number and drawn.relationship != "INFERRED FROM":
        yield group.finding("R8", "coordinates", drawn, relationship=quoted(drawn.relationship))
    below = children(group.tree, drawn)
    images = [one for one in below if one.value_type == "IMAGE"]
    is_placing = drawn is group.geometry
    if not images or image_of(group.tree, drawn) is None:
        yield group.finding("R8", "no_image" if is_placing else "no_image_elsewhere", drawn)
        return
    if images[0].relationship != "SELECTED FROM":
        yield group.finding("R8", "image", images[0], relationship=quoted(images[0].relationship))
    if is_placing and len(below) > 1:
        yield group.finding("R8", "several_images", drawn, count=len(below))


def values(group: Group) -> Iterator[Finding]:
    """U1, V1: a NUM has its value, an axis has it in millimetres."""
    for one in group.numbers:
        measured = first(one.dataset, "MeasuredValueSequence")
        if "MeasuredValueSequence" not in one.dataset:
            yield group.finding("V1", "no_value", one, name=shown_code(one.name))
        unit = None if measured is None else code_of(measured, "MeasurementUnitsCodeSequence")
        is_length = bool(line_role(one.name)) and group.tool in LINE_TOOLS
        if is_length and unit is not None and (unit.value, unit.scheme) != MILLIMETRES:
            yield group.finding("U1", "unit", one, unit=shown_code(unit))


def places(group: Group, study: StudyImages | None) -> Iterator[Finding]:
    """R9, R12, G1: what only the study's images tell. Nothing where the study is not known."""
    if study is None:
        return
    told: set[str] = set()
    for drawn in _all_drawn(group):
        image = image_of(group.tree, drawn) if drawn.value_type == "SCOORD" else None
        if image is None:
            continue
        plane = study.plane(image.sop_instance_uid, image.frame_number)
        is_new = image.sop_instance_uid not in told
        told.add(image.sop_instance_uid)
        if is_new and not study.holds(image.sop_instance_uid, image.frame_number):
            case = "unknown" if drawn is group.geometry else "elsewhere"
            yield group.finding("R9", case, drawn, uid=quoted(image.sop_instance_uid))
        if plane is None:
            continue
        if is_new and not math.isclose(plane.row_spacing_mm, plane.col_spacing_mm, rel_tol=1e-4):
            spacings = {"row_mm": plane.row_spacing_mm, "column_mm": plane.col_spacing_mm}
            yield group.finding("G1", "not_square", drawn, **spacings)
        yield from _stated(group, drawn, plane)


def _stated(group: Group, drawn: Item, plane: ImagePlane) -> Iterator[Finding]:
    above = group.tree.nodes[drawn.parent]
    measured = first(above.dataset, "MeasuredValueSequence") if above.value_type == "NUM" else None
    ends = _coordinates(drawn)
    if measured is None or not line_role(above.name) or len(ends) != LINE_COORDINATES["SCOORD"]:
        return
    stated_mm = number(measured, "NumericValue")
    x_mm, y_mm = (ends[2] - ends[0]) * plane.col_spacing_mm, (ends[3] - ends[1]) * plane.row_spacing_mm
    drawn_mm = math.hypot(x_mm, y_mm)
    if stated_mm is None or abs(stated_mm - drawn_mm) <= limit("length_mm"):
        return
    yield group.finding("R12", "differs", above, stated_mm=stated_mm, drawn_mm=drawn_mm)


def _all_drawn(group: Group) -> list[Item]:
    """Coordinates in the group and below its NUMs, but for those that place labels."""
    below = [drawn for one in group.numbers for drawn in drawn_below(group.tree, one)]
    return [drawn for drawn in (*group.regions, *below) if not is_private(drawn)]


def _coordinates(drawn: Item) -> tuple[float, ...]:
    return numbers(drawn.dataset, "GraphicData") or ()


def _is_oblique(ends: tuple[float, ...]) -> bool:
    """True where the first axis of an ellipse (PS3.3 C.18.6.1.2: its ends, then those of the second) is oblique."""
    if len(ends) != 8:
        return False
    return min(abs(ends[2] - ends[0]), abs(ends[3] - ends[1])) > limit("ellipse_off_px")
