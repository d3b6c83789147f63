"""Broken and hostile reports: lint answers all of them, with findings or with a reason."""

from __future__ import annotations

import copy
import random
from io import BytesIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items

from deeplesion_miner.types import Unreadable
from dicom_io.attributes import quiet
from dicom_io.lint import SEVERITIES, VERSIONS, Linted, StudyImages, examine, examine_object, lint
from tests.dicom_io.ohif_variants import CROSS, FIRST, axes, described, document, good, variants
from tests.dicom_io.report_by_hand import by_reference, node

VARIANTS = variants()


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def broken(linted: Linted) -> set[str]:
    return {one.rule for one in linted.findings if not one.is_advice}


def test_what_cannot_be_read_is_a_value_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(good())[:400])
    assert isinstance(examine(path), Unreadable)
    assert isinstance(lint(path), Unreadable)


def test_files_and_bytes_give_the_same(tmp_path: Path) -> None:
    report = encoded(document(described(*axes(), identifier="x")))
    (tmp_path / "report.dcm").write_bytes(report)
    assert lint(tmp_path / "report.dcm") == lint(report)


def test_an_item_that_refers_to_another_has_no_name_and_makes_the_report_fail() -> None:
    report = good()
    report.ContentSequence[-1].ContentSequence[0].ContentSequence.append(by_reference(1, 2, 1))
    assert broken(examine_object(report)) == {"N1"}


def test_a_tree_of_any_depth_is_walked() -> None:
    report = good()
    group = report.ContentSequence[-1].ContentSequence[0]
    deep = node("TEXT", ("1", "99X", "x"))
    for _ in range(3000):
        deep = node("CONTAINER", ("1", "99X", "x"), [deep])
    group.ContentSequence.append(deep)
    assert examine_object(report).is_good


def test_an_empty_report_and_one_without_groups_are_judged() -> None:
    empty = good()
    del empty.ContentSequence
    assert broken(examine_object(empty)) == {"R5"}
    assert [one.opens for one in examine_object(document()).outlooks] == ["nothing", "nothing"]


def mutated(dataset: Dataset, seed: int) -> Dataset:
    """The report with a few elements deleted, emptied, doubled, swapped or replaced, anywhere."""
    chance = random.Random(seed)
    changed = copy.deepcopy(dataset)
    for _ in range(chance.randint(1, 6)):
        holders = [changed, *_all_datasets(changed)]
        holder = chance.choice(holders)
        tags = [element.tag for element in holder if element.tag.group != 2]
        if not tags:
            continue
        tag = chance.choice(tags)
        element = holder[tag]
        kind = chance.randrange(4)
        if kind == 0:
            del holder[tag]
        elif kind == 1:
            element.value = Items() if element.VR == "SQ" else None
        elif element.VR == "SQ" and element.value:
            items = list(element.value)
            chance.shuffle(items)
            element.value = Items([*items, *items] if kind == 2 else items)
        elif element.VR in ("SH", "LO", "CS", "UT", "UI", "UC"):
            element.value = chance.choice(["", "x", "126010", "Long Axis", "POINT", "SCOORD", "NUM", CROSS, "1.2"])
        elif element.VR in ("FL", "FD"):
            element.value = [float(chance.randint(-9, 9)) for _ in range(chance.randint(0, 9))]
    return changed


def _all_datasets(dataset: Dataset) -> list[Dataset]:
    below = [one for element in dataset if element.VR == "SQ" for one in element.value]
    return below + [item for one in below for item in _all_datasets(one)]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), which=st.integers(0, len(VARIANTS) - 1), as_bytes=st.booleans())
def test_no_mutation_of_a_report_makes_lint_fail(seed: int, which: int, as_bytes: bool) -> None:
    study = StudyImages.of_uids([FIRST])
    with quiet():
        changed = mutated(VARIANTS[which].dataset, seed)
        linted = examine(encoded_anyhow(changed), study) if as_bytes else examine_object(changed, study)
    if isinstance(linted, Linted):
        assert all(one.severity in SEVERITIES and one.found for one in linted.findings)
        assert len(linted.outlooks) in (0, len(VERSIONS))


def encoded_anyhow(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=False)
    return buffer.getvalue()


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 3000), noise=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=8))
def test_no_damage_to_a_file_makes_lint_fail(cut: int, noise: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(good()))
    for place, value in noise:
        data[place % len(data)] = value
    assert isinstance(examine(bytes(data[: len(data) - cut])), Linted | Unreadable)
