"""What is drawn in a content tree: SCOORD and SCOORD3D items with their points and their images.

SCOORD counts from the corner of the image, 0.0\\0.0 being the top left corner of the first pixel (PS3.3
C.18.6.1.1); the core counts from the centre of the first pixel. `core_point` is the one place of that shift.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.types import Axis, ImageRef, Kind, Point, Segment, SegmentMm, StatedValue
from dicom_io.attributes import first, items, number, numbers, text
from dicom_io.dialects.content_tree import ContentTree, Item, code_of, is_concept

CORNER_TO_CENTRE_PX = 0.5
GEOMETRY = ("SCOORD", "SCOORD3D")


def core_point(column: float, row: float) -> Point:
    """SCOORD's (column, row), counted from the image's corner, in the core convention."""
    return (column - CORNER_TO_CENTRE_PX, row - CORNER_TO_CENTRE_PX)


@dataclass(frozen=True)
class Evidence:
    """Where the referenced objects lie, as the report lists them (PS3.3 C.17.2.3); else its own study."""

    places: Mapping[str, tuple[str, str]]
    """(study, series) instance UIDs by SOP Instance UID."""
    study_instance_uid: str
    images: tuple[ImageRef, ...] = ()
    """The CT images among them; all of them where there is none."""


def evidence_of(ds: Dataset) -> Evidence:
    """The report's CurrentRequestedProcedureEvidenceSequence and PertinentOtherEvidenceSequence."""
    places: dict[str, tuple[str, str]] = {}
    classes: dict[str, str] = {}
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in items(ds, keyword):
            study_uid = text(study, "StudyInstanceUID")
            for series in items(study, "ReferencedSeriesSequence"):
                place = (study_uid, text(series, "SeriesInstanceUID"))
                for sop in items(series, "ReferencedSOPSequence"):
                    uid = text(sop, "ReferencedSOPInstanceUID")
                    places.setdefault(uid, place)
                    classes.setdefault(uid, text(sop, "ReferencedSOPClassUID"))
    refs = [ImageRef(*place, uid) for uid, place in places.items()]
    ct = tuple(ref for ref in refs if classes[ref.sop_instance_uid] in schemas.load("sop_classes")["ct"])
    return Evidence(places, text(ds, "StudyInstanceUID"), ct or tuple(refs))


def image_refs(item: Item, evidence: Evidence) -> list[ImageRef]:
    """One reference a frame of an IMAGE item; a frame number below 1 is kept as it is, no image has it."""
    found = []
    for sop in items(item.dataset, "ReferencedSOPSequence"):
        uid = text(sop, "ReferencedSOPInstanceUID")
        if not uid:
            continue
        study, series = evidence.places.get(uid, ("", ""))
        found += [ImageRef(study or evidence.study_instance_uid, series, uid, frame) for frame in _frames(sop)]
    return found


def _frames(sop: Dataset) -> tuple[int, ...]:
    """ReferencedFrameNumber; without one the only frame (PS3.3 C.17.5). 0, which no image has, where it is broken."""
    frames = numbers(sop, "ReferencedFrameNumber")
    if frames == ():
        return (1,)
    return tuple(int(frame) if frame.is_integer() else 0 for frame in frames or (0.0,))


def is_segment_reference(item: Item) -> bool:
    """True for an IMAGE item that names a segment or a segmentation instead of a picture."""
    if item.value_type != "IMAGE":
        return False
    classes: dict[str, str] = schemas.load("dialects/objects")["kind_of_sop_class"]
    return is_concept(item.name, "referenced_segment") or any(
        classes.get(text(sop, "ReferencedSOPClassUID")) == Kind.SEGMENTATION or "ReferencedSegmentNumber" in sop
        for sop in items(item.dataset, "ReferencedSOPSequence")
    )


def images_below(tree: ContentTree, item: Item, evidence: Evidence) -> tuple[ImageRef, ...]:
    """The images that are children of an item, by value or by reference, without segments and repetition."""
    refs: dict[ImageRef, None] = {}
    for child in tree.children(item):
        if child.value_type == "IMAGE" and not is_segment_reference(child):
            refs.update(dict.fromkeys(image_refs(child, evidence)))
    return tuple(refs)


@dataclass(eq=False)
class Drawn:
    """One SCOORD or SCOORD3D as it stands; `owner` is the NUM that it belongs to, None = the group itself."""

    item: Item
    owner: Item | None
    graphic_type: str
    points: tuple[tuple[float, ...], ...]
    """(column, row) corner based, or (x, y, z) LPS mm; () where `problem` is set."""
    in_space: bool
    images: tuple[ImageRef, ...]
    frame_of_reference_uid: str = ""
    problem: str = ""
    """Word of the vocabulary 'what': why there are no usable points."""
    also: list[Item] = field(default_factory=list)
    """Other NUMs that state the same geometry again."""

    def is_same(self, other: Drawn) -> bool:
        """True where both draw the same on the same images."""
        mine = (self.in_space, self.graphic_type, self.points, self.images, self.problem)
        return mine == (other.in_space, other.graphic_type, other.points, other.images, other.problem)

    def segment(self, begin: int = 0) -> Segment | SegmentMm:
        """The straight line between two of the points, in the core convention."""
        one, other = self.points[begin], self.points[begin + 1]
        if self.in_space:
            return SegmentMm((one[0], one[1], one[2]), (other[0], other[1], other[2]))
        return Segment(core_point(one[0], one[1]), core_point(other[0], other[1]))

    def is_line(self) -> bool:
        """Exactly two points, as a line or as its two ends."""
        return self.graphic_type in ("POLYLINE", "MULTIPOINT") and len(self.points) == 2

    def kind(self) -> Kind:
        """What the graphic type says it is."""
        if self.graphic_type in ("POLYLINE", "POLYGON"):
            closed = self.graphic_type == "POLYGON" or (len(self.points) > 3 and self.points[0] == self.points[-1])
            return Kind.CLOSED_POLYLINE if closed else Kind.OPEN_POLYLINE
        by_type = {kind.name: kind for kind in (Kind.POINT, Kind.MULTIPOINT, Kind.CIRCLE, Kind.ELLIPSE, Kind.ELLIPSOID)}
        return by_type.get(self.graphic_type, Kind.OPEN_POLYLINE)


def drawn(tree: ContentTree, item: Item, owner: Item | None, evidence: Evidence) -> Drawn:
    """Reads one SCOORD or SCOORD3D item. Its images are its own, else its owner's, never guessed."""
    in_space = item.value_type == "SCOORD3D"
    graphic_type = text(item.dataset, "GraphicType").upper()
    points, problem = _points(item.dataset, graphic_type, in_space)
    images = images_below(tree, item, evidence)
    if not images and owner is not None:
        images = images_below(tree, owner, evidence)
    frame_of_reference = text(item.dataset, "ReferencedFrameOfReferenceUID") if in_space else ""
    return Drawn(item, owner, graphic_type, points, in_space, images, frame_of_reference, problem)


def _points(ds: Dataset, graphic_type: str, in_space: bool) -> tuple[tuple[tuple[float, ...], ...], str]:
    """The points, or () and what is wrong with them."""
    expected: dict[str, int] = schemas.load("dialects/tid1500")["points_3d" if in_space else "points_2d"]
    values = numbers(ds, "GraphicData")
    if values is None:
        return (), "not_finite"
    if not values:
        return (), "missing"
    if not all(math.isfinite(value) for value in values):
        return (), "not_finite"
    if graphic_type not in expected:
        return (), "graphic_type"
    size = 3 if in_space else 2
    count = len(values) // size
    wanted = expected[graphic_type]
    if len(values) % size or (wanted > 0 and count != wanted):
        return (), "count"
    return tuple(tuple(values[i : i + size]) for i in range(0, len(values), size)), ""


def stated_value(num: Item) -> StatedValue | None:
    """The value of a NUM item with its unit's code as written (PS3.3 C.18.1); None where it holds none."""
    measured = first(num.dataset, "MeasuredValueSequence")
    if measured is None:
        return None
    value = number(measured, "FloatingPointValue")
    if value is None:
        value = number(measured, "NumericValue")
    if value is None:
        return None
    unit = code_of(measured, "MeasurementUnitsCodeSequence")
    return StatedValue(value, unit.value if unit else "")


def axis(line: Drawn, owner: Item | None, begin: int = 0) -> Axis | None:
    """The line with its stated value; None where its points are not usable."""
    if line.problem or len(line.points) < begin + 2:
        return None
    return Axis(line.segment(begin), stated_value(owner) if owner is not None else None)


def all_images(lines: Iterable[Drawn]) -> tuple[ImageRef, ...]:
    """Every image of the lines, in order, without repetition."""
    return tuple(dict.fromkeys(ref for line in lines for ref in line.images))
