"""Reads TID 1500 measurement reports (PS3.16): every drawn or referenced item of a measurement group is a bookmark.

Order, depth and relationship types do not matter. What an item is, its tracking identifier's tool decides where
a viewer names one, then the concept name of its NUM, then its graphic type. Long and short axes of a group
become one bookmark; nothing is corrected, and nothing is left out: what is not read is counted by its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.types import Bookmark, Code, Fact, ImageRef, Kind, Source
from dicom_io.attributes import first, text
from dicom_io.dialects.content_tree import ContentTree, Item, code_of, is_concept, line_role
from dicom_io.dialects.drawn import (
    GEOMETRY,
    Drawn,
    Evidence,
    all_images,
    axis,
    drawn,
    evidence_of,
    image_refs,
    images_below,
    is_segment_reference,
)
from dicom_io.dialects.writers import writer_of

NAME = "tid1500"
CROSS_POINTS = 4


def is_report(tree: ContentTree) -> bool:
    """True for a tree with measurement groups below its root, or for a TID 1500 report that draws without groups."""
    if any(_is_group(item) for item in tree.nodes[1:]):
        return True
    return _is_titled(tree.root) and any(item.value_type in GEOMETRY for item in tree.nodes)


def bookmarks_of(ds: Dataset, tree: ContentTree, source: Source) -> tuple[Bookmark, ...]:
    """All bookmarks of a report in document order, each with `source` and the writer's name and quirks in it."""
    writer = writer_of(ds, NAME, _tracking_identifiers(tree))
    reading = _Reading(tree, evidence_of(ds), replace(source, writer=writer.name, quirks=writer.quirks))
    found = [bookmark for container, members in _groups(tree) for bookmark in reading.group(container, members)]
    return tuple(sorted(found, key=lambda bookmark: [int(position) for position in bookmark.item_path.split(".")]))


def _is_group(item: Item) -> bool:
    if item.value_type != "CONTAINER":
        return False
    template = first(item.dataset, "ContentTemplateSequence")
    named = "" if template is None else text(template, "TemplateIdentifier")
    return is_concept(item.name, "measurement_group") or named in schemas.load(f"dialects/{NAME}")["group_templates"]


def _is_titled(root: Item) -> bool:
    template = first(root.dataset, "ContentTemplateSequence")
    named = "" if template is None else text(template, "TemplateIdentifier")
    return is_concept(root.name, "measurement_report") or named in schemas.load(f"dialects/{NAME}")["report_templates"]


def _tracking_identifiers(tree: ContentTree) -> list[str]:
    return [text(item.dataset, "TextValue") for item in tree.nodes if is_concept(item.name, "tracking_identifier")]


def _groups(tree: ContentTree) -> Iterator[tuple[Item, list[Item]]]:
    """Each measurement group with its own items; after them each other container that draws something itself."""
    home: list[int] = []
    grouped: dict[int, list[Item]] = {}
    loose: dict[int, list[Item]] = {}
    in_group: list[bool] = []
    for item in tree.nodes:
        if item.index and _is_group(item):
            home.append(item.index)
            in_group.append(True)
            grouped[item.index] = []
            continue
        if item.index == 0 or (item.value_type == "CONTAINER" and not in_group[item.parent]):
            home.append(item.index)
            in_group.append(False)
            continue
        home.append(home[item.parent])
        in_group.append(in_group[item.parent])
        (grouped if in_group[item.index] else loose).setdefault(home[item.index], []).append(item)
    for index, members in grouped.items():
        yield tree.nodes[index], members
    for index, members in loose.items():
        if any(item.value_type in GEOMETRY for item in members):
            yield tree.nodes[index], members


@dataclass(frozen=True)
class _Context:
    """What a group says about all its items."""

    tracking_identifier: str
    tracking_uid: str
    finding: Code | None
    finding_site: Code | None
    label: str
    reader: str
    algorithm: str
    images: tuple[ImageRef, ...]

    @property
    def tool(self) -> Kind | None:
        """What the viewer's tool draws, where the tracking identifier names one that is known."""
        tools = schemas.load(f"dialects/{NAME}")["tools"]
        if not self.tracking_identifier.startswith(tuple(tools["prefixes"])):
            return None
        parts = self.tracking_identifier.split(":")
        kind = tools["kind"].get(parts[1]) if len(parts) > 1 else None
        return None if kind is None else Kind(kind)


class _Reading:
    """One report being read."""

    def __init__(self, tree: ContentTree, evidence: Evidence, source: Source) -> None:
        self.tree, self.evidence, self.source = tree, evidence, source
        self.reader = self._value(tree.children(tree.root), "reader")
        self.algorithm = self._value(tree.children(tree.root), "algorithm")

    def group(self, container: Item, members: list[Item]) -> list[Bookmark]:
        """Every bookmark of one group; a group that draws nothing is one bookmark, too."""
        context = self._context(container, members)
        found = self._drawn(members)
        if not found:
            return [self._undrawn(container, members, context)]
        tool = context.tool
        if tool not in (None, Kind.BIDIRECTIONAL, Kind.LENGTH):
            return [self._other(one, context, tool) for one in _distinct(found)]
        self._give_lines_to_numbers(found, members)
        lines = [one for one in found if self._role(one) and _can_be_axis(one, self._role(one))]
        others = [one for one in found if one not in lines]
        return [*self._lines(lines, context), *(self._other(one, context, None) for one in _distinct(others))]

    # --- what a group says -------------------------------------------------------------------------------

    def _context(self, container: Item, members: list[Item]) -> _Context:
        children = list(self.tree.children(container))
        findings, sites = self._codes(children, "finding"), self._codes(children, "finding_site")
        free_text = schemas.load(f"dialects/{NAME}")["free_text"]["code_values"]
        spoken = [code.meaning for code in (*findings, *sites) if code.value in free_text]
        return _Context(
            tracking_identifier=self._value(children, "tracking_identifier"),
            tracking_uid=self._value(children, "tracking_uid"),
            finding=_coded(findings, free_text),
            finding_site=_coded(sites, free_text),
            label=self._value(children, "comment") or (spoken[0] if spoken else ""),
            reader=self._value(children, "reader") or self.reader,
            algorithm=self._value(members, "algorithm") or self.algorithm,  # of the group, or of a number in it
            images=images_below(self.tree, container, self.evidence),
        )

    def _value(self, among: Iterable[Item], role: str) -> str:
        for item in among:
            if is_concept(item.name, role):
                return next((v for v in (text(item.dataset, k) for k in ("TextValue", "UID", "PersonName")) if v), "")
        return ""

    def _codes(self, among: Iterable[Item], role: str) -> list[Code]:
        found = [code_of(item.dataset, "ConceptCodeSequence") for item in among if is_concept(item.name, role)]
        return [code for code in found if code is not None]

    # --- what is drawn -----------------------------------------------------------------------------------

    def _drawn(self, members: list[Item]) -> list[Drawn]:
        """The geometry of a group: of each NUM, by value or by reference, then what belongs to the group itself."""
        found: list[Drawn] = []
        taken: set[int] = set()
        for item in members:
            if item.value_type == "NUM":
                of_num = [child for child in self.tree.children(item) if child.value_type in GEOMETRY]
                taken.update(child.index for child in of_num)
                found += _in_space_first([drawn(self.tree, child, item, self.evidence) for child in of_num])
        for item in members:
            if item.value_type in GEOMETRY and item.index not in taken and not self._places_a_label(item):
                found.append(drawn(self.tree, item, self._owner(item), self.evidence))
        return found

    def _owner(self, item: Item) -> Item | None:
        """The NUM around a geometry that is not its direct child."""
        for ancestor in self.tree.ancestors(item):
            if ancestor.value_type == "NUM":
                return ancestor
            if ancestor.value_type == "CONTAINER":
                return None
        return None

    def _places_a_label(self, item: Item) -> bool:
        return self.tree.nodes[item.parent].value_type == "TEXT" and is_concept(item.name, "reference_points")

    def _role(self, one: Drawn) -> str:
        """'long', 'short', 'length' or '': by the name of the NUM, without one by that of the geometry."""
        return line_role(one.owner.name if one.owner is not None else one.item.name)

    def _give_lines_to_numbers(self, found: list[Drawn], members: list[Item]) -> None:
        """Lines that stand in the group beside NUMs without geometry belong to these, where that is unambiguous."""
        lines = [one for one in found if one.owner is None and one.is_line() and not self._role(one)]
        owning = {one.owner.index for one in found if one.owner is not None}
        nums = [i for i in members if i.value_type == "NUM" and i.index not in owning and line_role(i.name)]
        roles = sorted(line_role(num.name) for num in nums)
        if (len(lines) == 1 and len(nums) == 1) or (len(lines) == 2 and roles == ["long", "short"]):
            for line, num in zip(lines, nums, strict=True):
                line.owner = num

    # --- bookmarks ---------------------------------------------------------------------------------------

    def _lines(self, lines: list[Drawn], context: _Context) -> Iterator[Bookmark]:
        """Long and short axes of one image become crosses; what is left over are lengths."""
        longs = [one for one in lines if self._role(one) == "long"]
        shorts = [one for one in lines if self._role(one) == "short"]
        for long_line in longs:
            short_line = _partner(long_line, shorts)
            if short_line is None:
                yield self._length(long_line, context)
            else:
                shorts.remove(short_line)
                yield self._cross(long_line, short_line, context)
        yield from (self._length(one, context, (("axis", "short"),)) for one in shorts)
        yield from (self._length(one, context) for one in lines if self._role(one) == "length")

    def _cross(self, long_line: Drawn, short_line: Drawn, context: _Context) -> Bookmark:
        together = len(long_line.points) == CROSS_POINTS and long_line.is_same(short_line)
        problems = [(name, one) for name, one in (("long", long_line), ("short", short_line)) if _line_problem(one)]
        if together:
            problems = []
        facts: tuple[tuple[str, Fact], ...] = ()
        if problems:
            which = "both" if len(problems) == 2 else problems[0][0]
            facts = (("what", _line_problem(problems[0][1])), ("axis", which))
        bookmark = self._bookmark(
            Kind.BIDIRECTIONAL, long_line.owner or long_line.item, [long_line, short_line], context
        )
        images = [one.images or context.images for one in (long_line, short_line)]
        return replace(
            bookmark,
            long_axis=axis(long_line, long_line.owner) if together or not _line_problem(long_line) else None,
            short_axis=axis(short_line, short_line.owner, 2 if together else 0)
            if together or not _line_problem(short_line)
            else None,
            axis_images=(_only(images[0]), _only(images[1])),
            problem="bad_coordinates" if facts else "",
            facts=facts,
        )

    def _length(self, line: Drawn, context: _Context, facts: tuple[tuple[str, Fact], ...] = ()) -> Bookmark:
        bookmark = self._bookmark(Kind.LENGTH, line.owner or line.item, [line], context)
        what = _line_problem(line)
        if what:
            return replace(bookmark, problem="bad_coordinates", facts=(("what", what), *facts))
        return replace(
            bookmark,
            long_axis=axis(line, line.owner),
            axis_images=(_only(line.images or context.images), None),
            facts=facts,
        )

    def _other(self, one: Drawn, context: _Context, tool: Kind | None) -> Bookmark:
        kind = one.kind() if tool is None else tool
        bookmark = self._bookmark(kind, one.owner or one.item, [one], context)
        # A tool that is known draws what it draws: an arrow written as a POINT of two points is no broken item.
        if one.problem and not (tool is not None and one.problem == "count"):
            return replace(bookmark, problem="bad_coordinates", facts=(("what", one.problem),))
        return replace(bookmark, facts=(("points", len(one.points)),))

    def _undrawn(self, container: Item, members: list[Item], context: _Context) -> Bookmark:
        """A group without geometry: values of a segment, else of whole images."""
        segment = next((item for item in members if is_segment_reference(item)), None)
        if segment is None:
            return self._bookmark(Kind.WHOLE_IMAGE_VALUE, container, [], context)
        bookmark = self._bookmark(Kind.SEGMENT_REFERENCE, segment, [], context)
        return replace(bookmark, images=tuple(dict.fromkeys(image_refs(segment, self.evidence))))

    def _listed(self, lines: list[Drawn]) -> tuple[ImageRef, ...]:
        """Patient coordinates may select no image (PS3.3 C.18.9): they lie on one of those that the report lists."""
        return self.evidence.images if any(one.in_space for one in lines) else ()

    def _bookmark(self, kind: Kind, item: Item, lines: list[Drawn], context: _Context) -> Bookmark:
        return Bookmark(
            source=self.source,
            item_path=self.tree.path(item),
            kind=kind,
            images=all_images(lines) or context.images or self._listed(lines),
            frame_of_reference_uid=next((one.frame_of_reference_uid for one in lines if one.in_space), ""),
            tracking_identifier=context.tracking_identifier,
            tracking_uid=context.tracking_uid,
            finding=context.finding,
            finding_site=context.finding_site,
            label=context.label,
            reader=context.reader,
            algorithm=context.algorithm,
        )


# --- lines and sameness ----------------------------------------------------------------------------------


def _can_be_axis(one: Drawn, role: str) -> bool:
    """False for a line role on a geometry that is itself something else: the long axis of an ellipse, a path."""
    if one.problem:
        return one.graphic_type not in ("CIRCLE", "ELLIPSE", "ELLIPSOID", "POLYGON")
    if one.graphic_type == "POINT":
        return role != "length"
    if one.graphic_type not in ("POLYLINE", "MULTIPOINT"):
        return False
    return role != "length" or len(one.points) <= 2


def _line_problem(one: Drawn) -> str:
    """Word of the vocabulary 'what': why the geometry of an axis is no straight line; '' where it is one."""
    if one.problem:
        return one.problem
    if one.graphic_type == "POINT":
        return "graphic_type"
    return "" if len(one.points) == 2 else "count"


def _partner(long_line: Drawn, shorts: list[Drawn]) -> Drawn | None:
    """The short axis on the same image, else the first one."""
    same = [one for one in shorts if one.images == long_line.images]
    return next(iter(same or shorts), None)


def _coded(codes: list[Code], free_text: list[str]) -> Code | None:
    """The first concept, a coded one before free text: OHIF 3.11 writes the label of a report that it opened as a
    site before the site."""
    return next(iter([code for code in codes if code.value not in free_text] or codes), None)


def _only(images: tuple[ImageRef, ...]) -> ImageRef | None:
    return images[0] if len(images) == 1 else None


def _in_space_first(of_num: list[Drawn]) -> list[Drawn]:
    """Of a NUM with both pixel and patient coordinates the latter decide; the former name the image."""
    spatial = [one for one in of_num if one.in_space and not one.problem]
    flat = [one for one in of_num if not one.in_space]
    if not spatial or not flat:
        return of_num
    for one in spatial:
        one.images = one.images or all_images(flat)
    return spatial


def _distinct(found: list[Drawn]) -> list[Drawn]:
    """Without repetition: area and perimeter of one contour are one item."""
    kept: list[Drawn] = []
    for one in found:
        if not any(one.is_same(other) for other in kept):
            kept.append(one)
    return kept
