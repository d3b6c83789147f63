"""Whose numbers patients have: compared to the letter, unless a site says which issuers mean the same."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from listing_archive import ListingArchive
from little_results import result

from cli.config import SendSection, Settings
from cli.wiring import outbox as wired
from deeplesion_miner.errors import ConfigError
from dicom_io.delivery import Delivery, Pace
from dicom_io.delivery_rules import identity_refusal
from dicom_io.destination import WireSettings, open_wire
from dicom_io.issuers import STRICT, Issuers
from tests.waiting import PATIENCE_S

ALIKE = Issuers.parse("HOSPITAL A = A^1.2.3&ISO ; B=b")
IGNORED = Issuers.parse("", compared=False)


@pytest.mark.parametrize(
    ("own", "in_archive", "issued", "refusal"),
    [
        (("P1", "HOSPITAL A"), [("P1", "A^1.2.3&ISO")], STRICT, "patient_mismatch"),
        (("P1", "HOSPITAL A"), [("P1", "A^1.2.3&ISO")], ALIKE, ""),
        (("P1", "A^1.2.3&ISO "), [("P1", "HOSPITAL A\0")], ALIKE, ""),
        (("P1", "HOSPITAL A"), [("P1", "b")], ALIKE, "patient_mismatch"),
        (("P1", "HOSPITAL A"), [("P1", "C")], ALIKE, "patient_mismatch"),
        (("P1", ""), [("P1", "B"), ("P1", "b")], ALIKE, ""),
        (("P1", ""), [("P1", "B"), ("P1", "b")], STRICT, "patient_ambiguous"),
        (("P1", "B"), [("P1", "HOSPITAL A"), ("P1", "b")], ALIKE, "patient_ambiguous"),
        (("P1", "HOSPITAL A"), [("P1", "C")], IGNORED, ""),
        (("P1", "HOSPITAL A"), [("P1", "C"), ("P1", "D")], IGNORED, ""),
        (("P1", "HOSPITAL A"), [("P2", "HOSPITAL A")], IGNORED, "patient_mismatch"),
        (("P1", "HOSPITAL A"), [("P1", "C"), ("P2", "C")], IGNORED, "patient_ambiguous"),
    ],
)
def test_one_number_belongs_to_one_patient_where_its_issuers_mean_the_same(
    own: tuple[str, str], in_archive: list[tuple[str, str]], issued: Issuers, refusal: str
) -> None:
    assert identity_refusal(own, in_archive, issued)[0] == refusal


@pytest.mark.parametrize("text", ["A", "A = ", "= A", "A = A", "A = B; C", ";", "A = B;"])
def test_what_names_no_two_issuers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected issuers that mean the same"):
        Issuers.parse(text)


def test_an_issuer_stands_in_one_group_only() -> None:
    with pytest.raises(ConfigError, match="'B' in two groups"):
        Issuers.parse("A = B; B = C")


@pytest.mark.parametrize(
    ("send", "state"),
    [
        (SendSection(), "dead"),
        (SendSection(same_issuers="A = ARCHIVE OF A"), "verified"),
        (SendSection(compare_issuers=False), "verified"),
    ],
)
def test_an_archive_that_writes_issuers_otherwise_gets_results_where_a_site_says_what_they_mean(
    tmp_path: Path, send: SendSection, state: str
) -> None:
    own = result(1, issuer="A")
    settings = Settings(send=replace(send, outbox=str(tmp_path / "outbox")))
    patients = {own.study_instance_uid: ["P1^^^ARCHIVE OF A"]}
    with ListingArchive([own], patients, commitment=False) as archive, wired(settings) as outbox:
        destination = str(archive.address)
        outbox.put([own], destination)
        with closing(open_wire(destination, WireSettings(), outbox)) as wire:
            Delivery(outbox, destination, wire, pace=Pace(patience_s=PATIENCE_S)).run()
        assert outbox.counts()[destination] == {state: 1}
