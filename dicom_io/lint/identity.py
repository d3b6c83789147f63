"""The rules of a group's identity and of what it holds: R2, R3, R5, R7, R13, R14."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_io.attributes import numbers, text
from dicom_io.dialects.content_tree import code_of
from dicom_io.lint.findings import Finding, concept, meaning, quoted, word
from dicom_io.lint.group import Group, drawn_below, shown_code


def tracking(group: Group) -> Iterator[Finding]:
    """R2, R3, R5: what names the group."""
    for name, rule_case in (("tracking_uid", "no_uid"), ("tracking_identifier", "no_identifier")):
        item = group.named(name)
        if item is None:
            yield group.finding("R2", rule_case)
        elif item.name is not None and item.name.meaning != meaning(name):
            yield group.finding("R5", name, item, meaning=quoted(item.name.meaning))
    if group.named("tracking_identifier") is None or group.tool:
        return
    yield group.finding("R3", _foreign(group), group.named("tracking_identifier"), identifier=quoted(group.identifier))


def _foreign(group: Group) -> str:
    """The case of R3: a region with a known shape is taken without the viewer's own identifier."""
    drawn = group.regions[0] if group.regions else None
    if drawn is None or drawn.name is None or drawn.name.value != concept("image_region"):
        return "foreign"
    points = len(numbers(drawn.dataset, "GraphicData") or ()) // (3 if drawn.value_type == "SCOORD3D" else 2)
    graphic = text(drawn.dataset, "GraphicType")
    if graphic == "POLYLINE" and points in (4, 5):
        return "region"
    return "point" if graphic == "POINT" and points in (1, 2) else "foreign"


def missing_coordinates(group: Group) -> Iterator[Finding]:
    """R7, by what the group has: nothing, a region of its own, or some NUMs with coordinates and some without."""
    bare = [one for one in group.numbers if not drawn_below(group.tree, one)]
    if group.geometry is None:
        names = ", ".join(shown_code(one.name) for one in bare)
        yield group.finding("R7", "group", numbers=f", only {names}" if names else "")
        return
    for one in bare:
        is_first = one is group.numbers[0]
        if group.regions and is_first:
            yield group.finding("R7", "region_number", one, name=shown_code(one.name))
        elif not group.regions:
            yield group.finding("R7", "first_number" if is_first else "number", one, name=shown_code(one.name))


def words(group: Group) -> Iterator[Finding]:
    """R13, R14: its codes and its label."""
    for item in group.children:
        if item.value_type != "CODE" or item.name is None:
            continue
        said = code_of(item.dataset, "ConceptCodeSequence")
        if said is None or said.value != word("free_text"):
            continue
        yield group.finding("R13", "finding" if item.name.value == concept("finding") else "site", item)
    comment = group.named("comment")
    if group.tool and (comment is None or not text(comment.dataset, "TextValue")):
        yield group.finding("R14", "no_comment")
