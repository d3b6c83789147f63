"""What an archive takes of results is found out without storing anything, and each refusal names its fallback."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hostile_archive import ABORT, HostileArchive
from servers import LOOPBACK, Server, free_port
from web_server import Answer, Request, WebServer

import schemas
from dicom_io.address import Address
from dicom_io.emit import KINDS
from dicom_io.link import Link
from dicom_io.probe import Finding, Level
from dicom_io.query import Window, study_keys
from dicom_io.target_probe import probe_target, probe_web_target
from dicom_io.web import WebAddress, WebSession

SR_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.34")
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {one.name: one for one in findings}


@pytest.mark.servers
def test_real_archives_say_what_they_take_and_hold_nothing_new_afterwards(target: Server) -> None:
    address = Address.parse(target.address)
    link = Link(address, "MINER")
    before = len(link.find(study_keys(Window(None, None))))
    found = by_name(probe_target(address, "MINER", report_host=LOOPBACK, report_port=target.move_port))
    assert len(link.find(study_keys(Window(None, None)))) == before
    link.close()
    taken = ("sr_comprehensive_3d", "sr_comprehensive", "seg", "rtstruct", "gsps", "kos", "explicit", "find", "get")
    assert {found[f"target_{name}"].level for name in taken} == {Level.OK}
    assert found["target_label_map"].text == "Label Map Segmentation is refused"
    assert found["target_label_map"].advice == "Fallback: label map -> binary segmentation."
    if target.name == "orthanc":
        assert found["target_commitment"].text == "storage commitment is offered, and its reports reach us"
        assert found["target_deflated"].text.endswith("is taken wherever we would use it")
    else:
        assert found["target_commitment"].advice == "Fallback: commitment -> proof by C-FIND."
        assert found["target_deflated"].advice == "Fallback: deflated -> explicit."
        assert found["target_rle"].text == "RLE Lossless is refused for Segmentation"


@pytest.mark.servers
def test_a_report_that_would_not_reach_us_is_found_out_before_anything_is_sent(target: Server) -> None:
    if target.name != "orthanc":
        pytest.skip("dcmqrscp offers no commitment")
    stranger = by_name(probe_target(Address.parse(target.address), "STRANGER"))["target_commitment"]
    assert stranger.level is Level.WARN
    assert "does the archive list STRANGER?" in stranger.text


def test_an_archive_that_reports_on_the_association_of_the_request_needs_no_port_of_ours() -> None:
    with HostileArchive(report_on_same=1) as archive:
        found = by_name(probe_target(archive.address, "MINER"))
    assert found["target_commitment"].level is Level.OK
    assert archive.arrivals == []


@pytest.mark.parametrize("status", [0x0110, ABORT])
def test_an_archive_that_refuses_commitment_when_it_is_asked_is_named(status: int | str) -> None:
    with HostileArchive(action_status=status) as archive:
        found = by_name(probe_target(archive.address, "MINER"))
    assert found["target_commitment"].level is Level.WARN
    assert "commitment -> proof by C-FIND" in found["target_commitment"].advice


def test_an_archive_without_reports_cannot_take_measurements() -> None:
    with HostileArchive(classes=[SEG], commitment=False) as archive:
        found = by_name(probe_target(archive.address, "MINER"))
    assert {found[f"target_{name}"].level for name in ("sr_comprehensive", "sr_comprehensive_3d")} == {Level.FAIL}
    assert found["target_seg"].level is Level.OK
    assert found["target_rtstruct"].level is Level.WARN
    assert found["target_find"].text == "C-FIND is not offered"
    assert "QIDO-RS" in found["target_find"].advice
    assert archive.arrivals == []


def test_one_kind_of_reports_is_enough() -> None:
    with HostileArchive(classes=[SEG, SR_CLASSES[0]], commitment=False) as archive:
        found = by_name(probe_target(archive.address, "MINER"))
    assert found["target_sr_comprehensive"].level is Level.OK
    assert found["target_sr_comprehensive_3d"].level is Level.WARN
    assert "-> Comprehensive SR" in found["target_sr_comprehensive_3d"].advice


def test_an_archive_that_is_away_is_one_finding() -> None:
    (found,) = probe_target(Address("PACS", LOOPBACK, free_port()), "MINER")
    assert (found.name, found.level) == ("target", Level.FAIL)
    assert found.advice


@pytest.mark.servers
def test_orthanc_takes_objects_by_the_web(orthanc_web: Server) -> None:
    with WebSession(WebAddress(orthanc_web.web)) as session:
        assert [one.level for one in probe_web_target(session)] == [Level.OK, Level.OK]
    with WebSession(WebAddress(f"{orthanc_web.rest}/nothing")) as session:
        assert [one.level for one in probe_web_target(session)] == [Level.WARN, Level.FAIL]


def test_a_server_that_only_reads_is_found_out_without_storing() -> None:
    def answer(request: Request) -> Answer:
        return Answer(405) if request.method == "POST" else Answer(200, b"[]")

    with WebServer(answer) as server, WebSession(WebAddress(server.url)) as session:
        qido, stow = probe_web_target(session)
    assert (qido.level, stow.level) == (Level.OK, Level.FAIL)
    assert stow.advice == "Fallback: STOW-RS -> C-STORE."
    assert all(b"DICM" not in one.body for one in server.requests)


def test_every_kind_that_we_emit_has_a_class_in_the_table_and_each_entry_a_fallback() -> None:
    tables = schemas.load("target")
    named = {row["kind"] for row in tables["class"]}
    assert set(KINDS) - {"volume-sr"} <= named, "reports of volumes are of the class of reports"
    rows = [*tables["class"], *tables["syntax"], *tables["service"].values()]
    assert all("->" in row["fallback"] for row in rows)
    names = {row["name"] for row in tables["class"]}
    assert all(set(row["classes"]) <= names for row in tables["syntax"])
