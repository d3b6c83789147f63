"""Key object selections of results: what a physician should look at."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import highdicom
import pydicom
import pytest
from dicom_validators import dciodvfy, dsrdump
from phantom_results import Phantoms, changed
from pydicom.dataset import Dataset

from deeplesion_miner.results import Author, Result
from dicom_io.emit import emit

ALL = ("dicom-sr", "dicom-seg", "volume-sr", "kos")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms.write(tmp_path_factory.getbasetemp() / "phantom_results")


def objects(phantoms: Phantoms, result: Result, kinds: tuple[str, ...] = ("kos",)) -> dict[str, Dataset]:
    found = emit(result, phantoms.source(result), kinds).objects
    return {one.kind: pydicom.dcmread(io.BytesIO(one.encoded)) for one in found}


def selected(kos: Dataset, value_type: str) -> list[Dataset]:
    return [item.ReferencedSOPSequence[0] for item in kos.ContentSequence if item.ValueType == value_type]


def test_it_selects_each_key_slice_once(phantoms: Phantoms) -> None:
    result = phantoms.result("anna/0")
    doubled = replace(result, lesions=(*result.lesions, replace(result.lesions[0], key="again")))
    images = [one.ReferencedSOPInstanceUID for one in selected(objects(phantoms, doubled)["kos"], "IMAGE")]
    assert images == list(dict.fromkeys(one.image.sop_instance_uid for one in result.lesions))


def test_it_selects_frames_of_a_multi_frame_image_by_their_numbers(phantoms: Phantoms) -> None:
    result = phantoms.result("dmitri/0")
    (image,) = selected(objects(phantoms, result)["kos"], "IMAGE")
    assert list(image.ReferencedFrameNumber) == sorted(one.image.frame_number for one in result.lesions)
    (single, *_) = selected(objects(phantoms, phantoms.result("anna/0"))["kos"], "IMAGE")
    assert "ReferencedFrameNumber" not in single


def test_it_selects_what_was_written_with_it_segmentations_as_images(phantoms: Phantoms) -> None:
    made = objects(phantoms, phantoms.result("anna/0"), ALL)
    images = [one.ReferencedSOPInstanceUID for one in selected(made["kos"], "IMAGE")]
    reports = [one.ReferencedSOPInstanceUID for one in selected(made["kos"], "COMPOSITE")]
    assert images[-1] == made["dicom-seg"].SOPInstanceUID
    assert reports == [made["dicom-sr"].SOPInstanceUID, made["volume-sr"].SOPInstanceUID]


def test_all_that_it_selects_is_evidence(phantoms: Phantoms) -> None:
    kos = objects(phantoms, phantoms.result("anna/0"), ALL)["kos"]
    (study,) = kos.CurrentRequestedProcedureEvidenceSequence
    listed = {
        one.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    chosen = [*selected(kos, "IMAGE"), *selected(kos, "COMPOSITE")]
    assert listed == {one.ReferencedSOPInstanceUID for one in chosen}


def test_it_says_what_for_and_by_whom(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    for author, kind in ((result.author, "Device"), (Author("Roe^Jane", is_algorithm=False), "Person")):
        kos = objects(phantoms, replace(result, author=author))["kos"]
        assert kos.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
        assert kos.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == kind
        texts = [item.TextValue for item in kos.ContentSequence if item.ValueType == "TEXT"]
        assert texts[-1] == "For review: Lesion 1 Läsion 病変; Lesion 2 Läsion 病変"


def test_a_lesion_without_axes_is_worth_a_look_too(phantoms: Phantoms) -> None:
    result = changed(phantoms.result("chiara/0"), long_axis=None, short_axis=None)
    assert len(selected(objects(phantoms, result)["kos"], "IMAGE")) == 2


def test_a_selection_of_other_objects_is_another_selection(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    alone, with_report = (objects(phantoms, result, kinds)["kos"] for kinds in (("kos",), ("dicom-sr", "kos")))
    assert alone.SOPInstanceUID != with_report.SOPInstanceUID


def test_independent_readers_take_it(phantoms: Phantoms, tmp_path: Path) -> None:
    result = phantoms.result("dmitri/0")
    kos = objects(phantoms, result, ALL)["kos"]
    assert len(highdicom.ko.KeyObjectSelectionDocument.from_dataset(kos).content.get_references()) == 4
    path = tmp_path / "kos.dcm"
    kos.save_as(path)
    assert dciodvfy(path) == []
    frames = ",".join(str(number) for number in sorted(one.image.frame_number for one in result.lesions))
    assert f",{frames})>" in dsrdump(path)
