"""`mine lint` as a person runs it."""

from __future__ import annotations

import re
import stat
from io import BytesIO
from pathlib import Path

import pytest
from cli_runs import Mine
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

import schemas
from tests.dicom_io import little_objects
from tests.dicom_io.ohif_variants import axes, commented, described, document, good, variants

DONE, USAGE, PARTIAL, NOTHING, BROKEN = 0, 2, 3, 4, 6


def save(dataset: Dataset, path: Path) -> Path:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path


def broken() -> Dataset:
    return document(commented(described(*axes(), identifier="lesion-42")))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in (1, 2):
        save(little_objects.ct(1, number), tmp_path / "images" / f"{number}.dcm")
    return tmp_path / "images"


def test_a_good_report_ends_with_0_and_says_what_opens(mine: Mine, tmp_path: Path) -> None:
    answer = mine("lint", save(good(), tmp_path / "good.dcm"))
    assert (answer.code, answer.err.strip()) == (DONE, "1 object, 0 with broken rules")
    assert "OHIF 3.13.2: 1 measurement to edit; 3.11.1: 1 measurement to edit" in answer.out


def test_a_broken_rule_ends_with_6_and_names_rule_place_outcome_and_remedy(mine: Mine, tmp_path: Path) -> None:
    answer = mine("lint", save(broken(), tmp_path / "broken.dcm"))
    assert answer.code == BROKEN
    assert "R3 drops_item at item 2.1.1: the Tracking Identifier is 'lesion-42'" in answer.out
    assert "OHIF: drawn read-only in green" in answer.out
    assert "-> Write 'Cornerstone3DTools@^0.1.0:Bidirectional:'" in answer.out


def test_versions_that_differ_are_told_apart(mine: Mine, tmp_path: Path) -> None:
    report = next(one.dataset for one in variants() if one.name == "v09_extra_num_no_scoord")
    answer = mine("lint", save(report, tmp_path / "report.dcm"))
    assert answer.code == BROKEN
    assert "OHIF 3.13.2: loads; the value is not shown" in answer.out
    assert "OHIF 3.11.1: nothing of the report loads, black viewport" in answer.out


def test_advice_is_shown_breaks_nothing_and_can_be_left_out(mine: Mine, tmp_path: Path) -> None:
    path = save(document(described(*axes())), tmp_path / "unlabelled.dcm")
    told, short = mine("lint", path), mine("lint", path, "--no-advice")
    assert (told.code, short.code) == (DONE, DONE)
    assert "R14 advice" in told.out
    assert "R14" not in short.out


def test_json_gives_one_object_a_line(mine: Mine, tmp_path: Path) -> None:
    answer = mine("lint", save(broken(), tmp_path / "broken.dcm"), "--json")
    linted, finding = answer.records
    assert (linted["type"], linted["is_good"]) == ("linted", False)
    assert linted["outlook"]["3.13.2"] == {"opens": "read_only", "measurements": 0}
    assert (finding["type"], finding["rule"], finding["item"]) == ("finding", "R3", "2.1.1")
    assert finding["does"]["3.11.1"]["effect"] == "read_only"


def test_folders_are_searched_whole_and_images_passed_over(mine: Mine, tmp_path: Path, images: Path) -> None:
    save(good(), tmp_path / "deep" / "er" / "good.dcm")
    (tmp_path / "README").write_text("no object", encoding="utf-8")
    answer = mine("lint", tmp_path)
    assert answer.code == DONE
    assert "1 object, 0 with broken rules" in answer.err
    assert "passed over: 3 files" in answer.err


def test_with_its_study_a_report_over_a_missing_image_is_broken(mine: Mine, tmp_path: Path, images: Path) -> None:
    report = next(one.dataset for one in variants() if one.name == "v24_missing_image")
    path = save(report, tmp_path / "report.dcm")
    alone, within = mine("lint", path), mine("lint", path, "--study", images)
    assert (alone.code, within.code) == (DONE, BROKEN)
    assert "R9 drops_item" in within.out


def test_an_unreadable_file_is_named_and_the_others_are_linted(mine: Mine, tmp_path: Path) -> None:
    good_path = save(good(), tmp_path / "good.dcm")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(good_path.read_bytes()[:500])
    answer = mine("lint", cut, good_path)
    assert answer.code == PARTIAL
    assert f"{cut}: unreadable" in answer.out
    assert "1 measurement to edit" in answer.out


def test_a_text_file_that_is_named_is_unreadable(mine: Mine, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no object", encoding="utf-8")
    answer = mine("lint", path, "--json")
    assert answer.code == PARTIAL
    assert answer.records[0]["why"] == "not_dicom"


def test_where_nothing_has_rules_nothing_matched(mine: Mine, images: Path) -> None:
    assert mine("lint", images).code == NOTHING


@pytest.mark.parametrize("words", [("nowhere.dcm",), ()])
def test_a_path_that_is_missing_is_a_usage_error(mine: Mine, words: tuple[str, ...]) -> None:
    assert mine("lint", *words).code == USAGE


def test_a_study_without_images_is_a_usage_error(mine: Mine, tmp_path: Path) -> None:
    path = save(good(), tmp_path / "good.dcm")
    answer = mine("lint", path, "--study", path)
    assert answer.code == USAGE
    assert "no image of a study" in answer.err


def test_files_are_read_and_never_changed(mine: Mine, tmp_path: Path) -> None:
    path = save(good(), tmp_path / "good.dcm")
    before = path.read_bytes()
    path.chmod(stat.S_IRUSR)
    assert mine("lint", path).code == DONE
    assert path.read_bytes() == before


def test_help_names_the_versions_that_the_rules_know(mine: Mine) -> None:
    shown = re.findall(r"\d+\.\d+\.\d+", mine("lint", "--help").out)
    assert set(shown) >= set(schemas.load("ohif_rules")["versions"])
