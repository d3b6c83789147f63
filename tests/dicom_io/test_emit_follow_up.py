"""Reports of a follow-up: what is said of non-target and new lesions stands in words, and every reader takes it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom
import pydicom
import pytest
from dicom_validators import dciodvfy, dsrdump, tid1500reader
from phantom_results import Phantoms
from pydicom.dataset import Dataset

from deeplesion_miner.results import Prior, Result, coded
from deeplesion_miner.types import Kind
from dicom_io import lint
from dicom_io.dialects import read_object
from dicom_io.emit import EmittedObject, emit

BASIS = "RECIST 1.1, target lesions only: sum of diameters 26.00 mm"
NOTES = ("Non-target lesions: 'b' long axis 8.00 mm, now 9.00 mm, present.", "Overall: SD, if no lesion is new.")
CANDIDATE = "Candidate for a new lesion since 20240301, not confirmed: no earlier mark"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms.write(tmp_path_factory.getbasetemp() / "phantom_results")


def followed(phantoms: Phantoms) -> Result:
    """A target, a non-target lesion and a candidate for a new one."""
    result = phantoms.result("anna/0", response=coded("response", "SD"))
    target, other, new = result.lesions
    prior = Prior("20240101", 20.0, 12.0)
    lesions = (
        replace(target, lesion_type=coded("lesion_type", "target"), prior=prior),
        replace(other, lesion_type=coded("lesion_type", "non_target"), prior=prior),
        replace(new, prior_note=CANDIDATE),
    )
    return replace(result, lesions=lesions, response_basis=BASIS, response_notes=NOTES)


def written(phantoms: Phantoms, result: Result) -> EmittedObject:
    (one,) = emit(result, phantoms.source(result), ("dicom-sr",)).objects
    return one


def items(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Concept name and text or code meaning of each item below the root that has one."""
    for item in ds.get("ContentSequence", []):
        if item.ValueType in ("TEXT", "CODE"):
            said = item.TextValue if item.ValueType == "TEXT" else item.ConceptCodeSequence[0].CodeMeaning
            yield item.ConceptNameCodeSequence[0].CodeMeaning, str(said)
        yield from items(item)


def said(one: EmittedObject, *names: str) -> list[tuple[str, str]]:
    return [(name, text) for name, text in items(pydicom.dcmread(io.BytesIO(one.encoded))) if name in names]


def test_each_lesion_says_what_it_is_to_recist_and_a_candidate_why_it_is_one(phantoms: Phantoms) -> None:
    before = "Long axis 20.00 mm, short axis 12.00 mm on 20240101"
    assert said(written(phantoms, followed(phantoms)), "Baseline Category", "Previous Finding") == [
        ("Baseline Category", "Target Lesion at Baseline"),
        ("Previous Finding", before),
        ("Baseline Category", "Non-Target Lesion at Baseline"),
        ("Previous Finding", before),
        ("Previous Finding", CANDIDATE),
    ]


def test_the_coded_response_is_the_targets_and_each_note_is_a_text_of_its_own(phantoms: Phantoms) -> None:
    found = said(written(phantoms, followed(phantoms)), "Current Response", "Comment")
    assert found[-4:] == [
        ("Current Response", "Target Lesion Stable Disease"),
        *(("Comment", text) for text in (BASIS, *NOTES)),
    ]


def test_without_targets_the_notes_stand_without_a_coded_response(phantoms: Phantoms) -> None:
    one = written(phantoms, replace(followed(phantoms), response=None, response_basis=""))
    assert said(one, "Current Response") == []
    assert said(one, "Comment")[-2:] == [("Comment", text) for text in NOTES]


def test_another_note_is_another_object_and_no_note_the_same_as_ever(phantoms: Phantoms) -> None:
    result = followed(phantoms)
    silent = replace(result, response_notes=(), lesions=tuple(replace(one, prior_note="") for one in result.lesions))
    made = [
        written(phantoms, one).sop_instance_uid
        for one in (result, replace(result, response_notes=NOTES[:1]), replace(silent, response_notes=NOTES), silent)
    ]
    assert len(set(made)) == 4


def test_independent_readers_and_the_rules_of_viewers_find_nothing(phantoms: Phantoms, tmp_path: Path) -> None:
    result = followed(phantoms)
    images = lint.study_images(phantoms.images(result))
    for number, told in enumerate((result, replace(result, response=None, response_basis=""))):
        one = written(phantoms, told)
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(one.encoded)
        assert lint.check_before_sending(one.encoded, images) == ()
        assert dciodvfy(path) == []
        assert CANDIDATE in dsrdump(path)
        assert len(tid1500reader(path, tmp_path)["Measurements"]) == 3
        assert len(highdicom.sr.srread(path).content.get_image_measurement_groups()) == 3


def test_mining_reads_the_same_labels_and_crosses_as_without_a_follow_up(phantoms: Phantoms) -> None:
    result = followed(phantoms)
    plain = phantoms.result("anna/0")
    told, bare = (
        read_object(pydicom.dcmread(io.BytesIO(written(phantoms, one).encoded)), "emitted").bookmarks  # type: ignore[union-attr]
        for one in (result, plain)
    )
    assert [one.kind for one in told] == [Kind.BIDIRECTIONAL] * 3
    assert [(one.label, one.long_axis, one.short_axis) for one in told] == [
        (one.label, one.long_axis, one.short_axis) for one in bare
    ]
