"""The content tree is flat: any depth, any order, references followed one step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from report_by_hand import by_reference, node, report

from deeplesion_miner.types import Code
from dicom_io.dialects.content_tree import content_tree, is_concept, line_role


def shape(ds: Dataset) -> list[str]:
    """Paths in document order, by recursion: the oracle."""

    def below(item: Dataset, path: list[int]) -> list[list[int]]:
        found = [path]
        for position, child in enumerate(item.get("ContentSequence", []), 1):
            found += below(child, [*path, position])
        return found

    return [".".join(map(str, path)) for path in below(ds, [])]


trees = st.recursive(
    st.just(None).map(lambda _: node("TEXT")),
    lambda children: st.lists(children, max_size=4).map(lambda below: node("CONTAINER", None, below)),
    max_leaves=20,
)


@given(trees)
def test_items_stand_in_document_order_under_their_paths(ds: Dataset) -> None:
    tree = content_tree(ds)
    assert [tree.path(item) for item in tree.nodes] == shape(ds)


def test_a_reference_stands_for_the_item_that_it_names() -> None:
    target = node("SCOORD")
    tree = content_tree(report(node("CONTAINER", None, [target]), node("NUM", None, [by_reference(1, 1, 1)])))
    (found,) = tree.children(tree.nodes[3])
    assert found.dataset is target or found.value_type == "SCOORD"
    assert tree.path(found) == "1.1"


def test_references_that_name_nothing_or_each_other_stand_for_nothing() -> None:
    there, back, away = by_reference(1, 1, 2), by_reference(1, 1, 1), by_reference(1, 9, 9)
    tree = content_tree(report(node("NUM", None, [there, back, away, by_reference(7)])))
    assert list(tree.children(tree.nodes[1])) == []


def test_a_reference_to_its_own_ancestor_ends() -> None:
    tree = content_tree(report(node("CONTAINER", None, [by_reference(1, 1)])))
    (found,) = tree.children(tree.nodes[1])
    assert found is tree.nodes[1]


def test_ten_thousand_levels_are_walked() -> None:
    ds = node("NUM")
    for _ in range(10_000):
        ds = node("CONTAINER", None, [ds])
    tree = content_tree(ds)
    assert len(tree.nodes) == 10_001
    assert tree.path(tree.nodes[-1]) == ".".join(["1"] * 10_000)


def test_concepts_are_known_by_value_and_scheme_not_by_meaning() -> None:
    assert line_role(Code("103339001", "SCT", "whatever")) == "long"
    assert line_role(Code("G-A186", "SRT", "Short Axis")) == "short"
    assert line_role(Code("G-A186", "SNM3", "Short Axis")) == "short"
    assert line_role(Code("G-D7FE", "SRT", "Length")) == "length"
    assert line_role(Code("1", "SCT", "Long Axis")) == ""
    assert line_role(None) == ""


def test_in_private_schemes_the_meaning_decides() -> None:
    assert line_role(Code("X1", "99ACME", "Long  AXIS")) == "long"
    assert line_role(Code("X2", "99ACME", "Area")) == ""


def test_finding_sites_are_known_in_both_snomeds() -> None:
    assert is_concept(Code("363698007", "SCT", ""), "finding_site")
    assert is_concept(Code("G-C0E3", "SRT", ""), "finding_site")
    assert not is_concept(Code("363698007", "DCM", ""), "finding_site")
