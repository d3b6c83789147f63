from __future__ import annotations

from pathlib import Path

import pytest
from little_objects import sr, study_objects, write
from servers import Server, free_port
from test_dimse import serving

from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.probe import Finding, Level, probe
from dicom_io.testbed.embedded import EmbeddedArchive, Faults

SHORT = Limits(idle_s=2)
"""For archives that fall silent: ten times what an answer takes."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    objects = [one for study in (1, 2) for one in study_objects(study)]
    return write(tmp_path_factory.mktemp("probe") / "in", *objects, sr(2, 2))


def findings(files: Path, faults: Faults | None = None, move_port: int | None = None) -> dict[str, Finding]:
    with EmbeddedArchive(files, faults=faults or Faults()) as archive:
        limits = SHORT if faults is not None and faults.silent_finds else Limits()
        answers = probe(
            Address.parse(archive.address), "MINER", move_host="127.0.0.1", move_port=move_port, limits=limits
        )
    return {one.name: one for one in answers}


def test_an_archive_that_does_everything_has_nothing_to_complain_of(files: Path):
    found = findings(files)
    assert {one.level for one in found.values()} == {Level.OK}
    assert list(found) == [
        "echo",
        "called_title",
        "storage_classes",
        "roles",
        "transfer_syntaxes",
        "find",
        "modalities_in_study",
        "relational_series",
        "uid_lists",
        "keys",
        "get",
    ]


@pytest.mark.parametrize(
    ("faults", "name", "level", "words"),
    [
        (Faults(ignored_keys=frozenset({"ModalitiesInStudy"})), "modalities_in_study", Level.WARN, "neither returned"),
        (Faults(ignored_keys=frozenset({"Modality"})), "keys", Level.WARN, "Modality"),
        (Faults(refuse_lists=True), "uid_lists", Level.WARN, "C000H"),
        (Faults(refuse_lists=True), "get", Level.WARN, "not those of a list"),
        (Faults(refuse_retrieves=9), "get", Level.FAIL, "A702H"),
        (Faults(deliver_at_most=0), "get", Level.FAIL, "ends without it"),
        (Faults(deliver_at_most=1), "get", Level.WARN, "not those of a list"),
        (Faults(silent_finds=1), "find", Level.FAIL, "no answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_archive_does_badly_is_found(files: Path, faults: Faults, name: str, level: Level, words: str):
    found = findings(files, faults)[name]
    assert found.level is level
    assert words in found.text
    assert found.advice


def test_a_move_destination_that_the_archive_does_not_know_is_found(files: Path):
    port = free_port()
    found = findings(files, move_port=port)["move"]
    assert found.level is Level.FAIL
    assert "A801H" in found.text
    assert str(port) in found.advice


def test_an_archive_that_is_away_is_one_finding():
    (found,) = probe(Address("NOBODY", "127.0.0.1", free_port()), "MINER")
    assert (found.name, found.level) == ("echo", Level.FAIL)
    assert "nobody listens" in found.text


def test_an_empty_archive_is_said_to_be_empty(tmp_path: Path):
    found = findings(write(tmp_path / "empty"))
    assert found["find"].level is Level.WARN
    assert "no study" in found["find"].text


def test_an_archive_that_checks_its_title_is_told_from_one_that_does_not(files: Path):
    assert "any called AE title" in findings(files)["called_title"].text
    with serving([], require_called="BAD") as address:
        found = {one.name: one for one in probe(Address.parse(address), "MINER")}
    assert "to the letter; BAD is right" in found["called_title"].text


@pytest.mark.servers
def test_the_installed_archives_can_be_mined(pacs: Server, files: Path):
    pacs.send(files)
    found = {
        one.name: one
        for one in probe(Address.parse(pacs.address), "MINER", move_host="127.0.0.1", move_port=pacs.move_port)
    }
    assert [one.text for one in found.values() if one.level is Level.FAIL] == []
    assert found["get"].level is Level.OK
    assert found["move"].level is Level.OK
    assert found["relational_series"].level is Level.OK
    expected = Level.OK if pacs.name == "orthanc" else Level.WARN
    assert found["modalities_in_study"].level is expected
    assert found["keys"].level is expected
