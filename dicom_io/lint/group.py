"""A measurement group (PS3.16 TID 1501, TID 1410) as the viewer takes it apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from deeplesion_miner.types import Code
from dicom_io.attributes import first, integer, text
from dicom_io.dialects.content_tree import ContentTree, Item
from dicom_io.lint.findings import Finding, concept, finding, quoted, tool_of

COORDINATES = frozenset({"SCOORD", "SCOORD3D"})
PRIVATE_SCHEME = "99CS3D"
"""Of the viewer's own additions (label positions, control points), which are no geometry of a region."""


@dataclass(frozen=True)
class Image:
    """An image that coordinates are selected from."""

    sop_instance_uid: str
    frame_number: int


@dataclass(frozen=True, eq=False)
class Group:
    """A measurement group as the viewer takes it apart: its items, in their order. What is derived is derived once."""

    tree: ContentTree
    item: Item
    path: str
    children: tuple[Item, ...]

    @classmethod
    def of(cls, tree: ContentTree, item: Item) -> Group:
        """The group that this item is the container of."""
        return cls(tree, item, tree.path(item), children(tree, item))

    @cached_property
    def numbers(self) -> tuple[Item, ...]:
        """Its NUM items."""
        return tuple(one for one in self.children if one.value_type == "NUM")

    @cached_property
    def regions(self) -> tuple[Item, ...]:
        """Coordinates that stand in the group itself (TID 1410), not below a NUM."""
        return tuple(one for one in drawn_below(self.tree, self.item) if not is_private(one))

    @cached_property
    def geometry(self) -> Item | None:
        """The coordinates by which the viewer places the group; None where it has none."""
        if self.regions:
            return self.regions[0]
        below = (drawn for number in self.numbers for drawn in drawn_below(self.tree, number))
        return next(below, None)

    def named(self, name: str) -> Item | None:
        """The first item with the code value of that concept of the table."""
        return next((one for one in self.children if one.name is not None and one.name.value == concept(name)), None)

    @cached_property
    def identifier(self) -> str:
        """Its Tracking Identifier; '' where there is none."""
        item = self.named("tracking_identifier")
        return "" if item is None else text(item.dataset, "TextValue")

    @cached_property
    def uid(self) -> str:
        """Its Tracking Unique Identifier; '' where there is none."""
        item = self.named("tracking_uid")
        return "" if item is None else text(item.dataset, "UID")

    @cached_property
    def tool(self) -> str:
        """The viewer's tool that its Tracking Identifier names, or ''."""
        return tool_of(self.identifier)

    def finding(self, rule: str, case: str, at: Item | None = None, **facts: object) -> Finding:
        """A finding at an item of the group, by default at the group itself."""
        return finding(rule, case, self.tree.path(at or self.item), self.path, **facts)


def children(tree: ContentTree, item: Item) -> tuple[Item, ...]:
    """The items below, as they stand: the viewer follows no reference."""
    return tuple(tree.nodes[index] for index in item.children)


def drawn_below(tree: ContentTree, item: Item) -> tuple[Item, ...]:
    """The coordinates below an item."""
    return tuple(one for one in children(tree, item) if one.value_type in COORDINATES)


def is_private(item: Item) -> bool:
    """True for coordinates that place a label or a control point."""
    return item.name is not None and item.name.scheme == PRIVATE_SCHEME


def image_of(tree: ContentTree, coordinates: Item) -> Image | None:
    """The image that coordinates are selected from; None where they name none."""
    for one in children(tree, coordinates):
        reference = first(one.dataset, "ReferencedSOPSequence") if one.value_type == "IMAGE" else None
        if reference is not None and text(reference, "ReferencedSOPInstanceUID"):
            return Image(text(reference, "ReferencedSOPInstanceUID"), integer(reference, "ReferencedFrameNumber") or 1)
    return None


def shown_code(code: Code | None) -> str:
    """A concept as its finding names it."""
    return "unnamed" if code is None else f"({code.value},{code.scheme},{quoted(code.meaning)})"
