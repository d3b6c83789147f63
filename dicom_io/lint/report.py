"""The rules of a structured report as a whole (PS3.16 TID 1500), and what becomes of it in the viewer."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_io.attributes import first, text
from dicom_io.dialects.content_tree import ContentTree, Item, content_tree
from dicom_io.lint import identity, measurement
from dicom_io.lint.findings import VERSIONS, Finding, Outlook, concept, fate, finding, meaning, placing, quoted, word
from dicom_io.lint.group import Group, children, image_of, shown_code
from dicom_io.lint.study import StudyImages

IMAGE_LIBRARY = "111028"
"""(111028,DCM,"Image Library"): what the viewer looks for before it looks for measurements."""


def report_findings(dataset: Dataset, study: StudyImages | None) -> tuple[tuple[Finding, ...], tuple[Outlook, ...]]:
    """What is wrong with a report, and its outlook by version of the viewer."""
    tree = content_tree(dataset)
    container = _named(tree, tree.root, "measurements")
    groups = () if container is None else tuple(Group.of(tree, one) for one in _groups(tree, container))
    is_titled = tree.root.name is not None and tree.root.name.value == concept("report")
    if not is_titled and not any(one.geometry for one in groups):
        return (), tuple(Outlook(version, "text") for version in VERSIONS)
    found = [*_whole(tree, container, is_titled), *_of_groups(groups, study), *_shared_uids(groups)]
    found += list(_unplaced(groups, found))
    found.sort(key=lambda one: [int(position) for position in one.path.split(".") if position])
    paths = [one.path for one in groups]
    return tuple(found), tuple(fate(version, found, paths) for version in VERSIONS)


def _whole(tree: ContentTree, container: Item | None, is_titled: bool) -> Iterator[Finding]:
    if not is_titled:
        yield finding("R1", "title", title=shown_code(tree.root.name))
    template = first(tree.root.dataset, "ContentTemplateSequence")
    stated = "" if template is None else text(template, "TemplateIdentifier")
    if stated != word("template"):
        yield finding("R1", "template", template=quoted(stated) if stated else "not stated")
    of_root = children(tree, tree.root)
    if container is None or container.name is None or not _is(container, "measurements"):
        yield finding("R5", "measurements", "" if container is None else tree.path(container))
    if container is not None:
        yield from (_nameless(tree, one) for one in children(tree, container) if one.name is None)
        yield from _misnamed(tree, container)
    has_library = any(one.name is not None and one.name.value == IMAGE_LIBRARY for one in of_root)
    last = container.position if has_library and container is not None else len(of_root)
    yield from (_nameless(tree, one) for one in of_root[:last] if one.name is None)


def _nameless(tree: ContentTree, item: Item, group: str = "") -> Finding:
    return finding("N1", "nameless", tree.path(item), group, value_type=item.value_type or "referring")


def _misnamed(tree: ContentTree, container: Item) -> Iterator[Finding]:
    for one in _groups(tree, container):
        if not _is(one, "group"):
            path = tree.path(one)
            yield finding("R5", "group", path, path, name=shown_code(one.name))


def _of_groups(groups: tuple[Group, ...], study: StudyImages | None) -> Iterator[Finding]:
    for group in groups:
        yield from identity.tracking(group)
        yield from identity.missing_coordinates(group)
        if group.tool == "Bidirectional" and group.geometry is not None:
            yield from measurement.axes(group)
        yield from measurement.shapes(group)
        yield from measurement.values(group)
        yield from measurement.places(group, study)
        yield from identity.words(group)
        yield from (_nameless(group.tree, one, group.path) for one in group.children if one.name is None)


def _shared_uids(groups: tuple[Group, ...]) -> Iterator[Finding]:
    """R4: groups under one Tracking Unique Identifier, against the first of them."""
    firsts: dict[str, Group] = {}
    for group in groups:
        if not group.uid:
            continue
        before = firsts.setdefault(group.uid, group)
        if before is not group:
            same = _image(before) == _image(group)
            yield group.finding("R4", "same_image" if same else "other_image", first=before.path)


def _unplaced(groups: tuple[Group, ...], found: list[Finding]) -> Iterator[Finding]:
    """F1: the first group that the viewer takes for one, if what was found leaves it without a place."""
    read = (one for one in groups if one.item.name is not None and one.item.name.value == concept("group"))
    first_group = next(read, None)
    if first_group is None:
        return
    for rule, case, only_older in placing():
        if any((one.rule, one.case, one.group) == (rule, case, first_group.path) for one in found):
            yield first_group.finding("F1", "unplaced_older" if only_older else "unplaced", why=rule)
            return


def _image(group: Group) -> object:
    return None if group.geometry is None else image_of(group.tree, group.geometry)


def _named(tree: ContentTree, item: Item, name: str) -> Item | None:
    """The child that is that concept by value and meaning, else by one of them."""
    below = children(tree, item)
    exact = (one for one in below if _is(one, name))
    return next(exact, None) or next((one for one in below if _is_nearly(one, name)), None)


def _groups(tree: ContentTree, container: Item) -> tuple[Item, ...]:
    return tuple(one for one in children(tree, container) if _is_nearly(one, "group"))


def _is(item: Item, name: str) -> bool:
    """True where the item is that concept by value and by meaning: the viewer looks by both."""
    return item.name is not None and (item.name.value, item.name.meaning) == (concept(name), meaning(name))


def _is_nearly(item: Item, name: str) -> bool:
    return item.name is not None and (item.name.value == concept(name) or item.name.meaning == meaning(name))
