"""The content tree of a structured report (PS3.3 C.17.3), flat and without recursion.

Items stand in document order; parents and children are indices. A tree of any depth is walked, and a reference
to another item (C.17.3.2.4) is a number that is followed one step, so that a cycle cannot hold anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.types import Code
from dicom_io.attributes import first, items, numbers, text

ROOT = 0


@dataclass(eq=False)
class Item:
    """One content item. `position` counts from 1 among its siblings, the root has 1."""

    dataset: Dataset
    index: int
    parent: int
    position: int
    value_type: str
    relationship: str
    name: Code | None
    target: tuple[int, ...] = ()
    """Of an item by reference: ReferencedContentItemIdentifier, positions from the root on (the root is 1)."""
    children: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ContentTree:
    """All items of a report; `nodes[0]` is the root."""

    nodes: tuple[Item, ...]

    @property
    def root(self) -> Item:
        """The report's title and all below."""
        return self.nodes[ROOT]

    def path(self, item: Item) -> str:
        """1-based positions from the root's children on, '5.1.3'; '' for the root."""
        positions = []
        while item.index != ROOT:
            positions.append(str(item.position))
            item = self.nodes[item.parent]
        return ".".join(reversed(positions))

    def children(self, item: Item) -> Iterator[Item]:
        """The children in their order; one by reference is replaced by the item that it names, if there is one."""
        for index in item.children:
            child = self.nodes[index]
            found = self.resolve(child) if child.target else child
            if found is not None:
                yield found

    def ancestors(self, item: Item) -> Iterator[Item]:
        """Parent, its parent and so on up to the root."""
        while item.index != ROOT:
            item = self.nodes[item.parent]
            yield item

    def resolve(self, item: Item) -> Item | None:
        """The item that one by reference names; None where it names nothing, or another reference."""
        if not item.target or item.target[0] != 1:
            return None
        found = self.root
        for position in item.target[1:]:
            if not 1 <= position <= len(found.children):
                return None
            found = self.nodes[found.children[position - 1]]
        return None if found.target else found


def content_tree(ds: Dataset) -> ContentTree:
    """The content tree of a report; any depth, any order. Costs time and memory in proportion to the items."""
    nodes: list[Item] = []
    waiting = [(ds, -1, 1)]
    while waiting:
        dataset, parent, position = waiting.pop()
        item = _item(dataset, len(nodes), parent, position)
        nodes.append(item)
        if parent >= 0:
            nodes[parent].children.append(item.index)
        below = items(dataset, "ContentSequence")
        waiting.extend((below[i], item.index, i + 1) for i in range(len(below) - 1, -1, -1))
    return ContentTree(tuple(nodes))


def _item(dataset: Dataset, index: int, parent: int, position: int) -> Item:
    value_type = text(dataset, "ValueType").upper()
    target = () if value_type else tuple(int(n) for n in numbers(dataset, "ReferencedContentItemIdentifier") or ())
    relationship = text(dataset, "RelationshipType").upper()
    return Item(
        dataset, index, parent, position, value_type, relationship, code_of(dataset, "ConceptNameCodeSequence"), target
    )


# --- codes -----------------------------------------------------------------------------------------------


def code_of(dataset: Dataset, keyword: str) -> Code | None:
    """The first coded concept of a sequence (PS3.3 table 8.8-1); None where there is none."""
    coded = first(dataset, keyword)
    if coded is None:
        return None
    value = text(coded, "CodeValue") or text(coded, "LongCodeValue") or text(coded, "URNCodeValue")
    found = Code(value, text(coded, "CodingSchemeDesignator"), text(coded, "CodeMeaning"))
    return found if found.value or found.meaning else None


def is_concept(code: Code | None, role: str) -> bool:
    """True where `code` is one of the concepts of that role in `schemas/codes.toml`, section 'item'."""
    return code is not None and _among(code, schemas.load("codes")["item"][role])


def line_role(code: Code | None) -> str:
    """'long', 'short' or 'length' for a concept that names a straight line, '' for any other."""
    if code is None:
        return ""
    table = schemas.load("codes")
    for role, concepts in table["line"].items():
        if _among(code, concepts):
            return str(role)
    if code.scheme.startswith("99"):
        for role, meanings in table["line_meaning"].items():
            if " ".join(code.meaning.lower().split()) in meanings:
                return str(role)
    return ""


def _among(code: Code, concepts: list[list[str]]) -> bool:
    aliases: dict[str, str] = schemas.load("codes")["scheme_alias"]
    return [aliases.get(code.scheme, code.scheme), code.value] in concepts
