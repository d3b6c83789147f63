"""What an archive lists counts as there, what it states otherwise does not, and what it kept can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_objects import ROOT, ct, ct_series_uid, ct_uid, pr, sr, study_objects, study_uid, write
from placed import Place, place
from pydicom import dcmread, dcmwrite, uid
from pydicom.dataset import Dataset
from servers import Server

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.comparison import GetFetch, differs
from dicom_io.content_digest import content_digest
from dicom_io.link import Link
from dicom_io.object_file import ObjectFile
from dicom_io.proof import FindInquiry, Inquiry, Placed, prove
from dicom_io.reencoding import encoded_as
from dicom_io.sending import StoreSender
from dicom_io.store import file_header
from dicom_io.testbed.embedded import EmbeddedArchive, Faults
from dicom_io.web import WebAddress, WebSession
from dicom_io.web_inquiry import QidoInquiry, WadoFetch

EXPLICIT = str(uid.ExplicitVRLittleEndian)
IMPLICIT, DEFLATED = str(uid.ImplicitVRLittleEndian), str(uid.DeflatedExplicitVRLittleEndian)
SHORT = Limits(idle_s=2.0)


def encoded(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> bytes:
    dataset.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def reports(study: int, count: int) -> list[Dataset]:
    """As we emit them: one object a series."""
    made = [sr(study, number) for number in range(1, count + 1)]
    for number, one in enumerate(made, start=1):
        one.SeriesInstanceUID = f"{ROOT}.{study}.5.{number}"
    return made


@pytest.fixture(scope="session")
def filled(target: Server) -> tuple[Server, list[Dataset]]:
    """An archive that holds a study of images, a few reports and many reports."""
    objects = [*study_objects(81, 4), *reports(82, 3), *reports(83, 12), pr(81)]
    with StoreSender(Address.parse(target.address), "MINER") as sender:
        assert all(one.accepted for one in sender.send(ObjectFile.read(encoded(one)) for one in objects))
    return target, objects


@pytest.fixture
def found(filled: tuple[Server, list[Dataset]]) -> Iterator[Inquiry]:
    link = Link(Address.parse(filled[0].address), "MINER")
    yield FindInquiry(link)
    link.close()


@pytest.mark.servers
def test_an_archive_lists_what_it_has_and_nothing_else(found: Inquiry, filled: tuple[Server, list[Dataset]]) -> None:
    there = [place(one) for one in filled[1]]
    missing = [
        Place(study_uid(81), ct_series_uid(81), "1.2.3.1"),
        Place(study_uid(81), "1.2.3", "1.2.3.2"),
        Place("1.2.3", "1.2.3", "1.2.3.3"),
        *(replace(one, sop_instance_uid=f"{one.sop_instance_uid}.9") for one in there),
    ]
    assert prove(found, [*missing, *there]) == {one.sop_instance_uid for one in there}
    assert prove(found, []) == frozenset()


@pytest.mark.servers
def test_an_object_counts_only_in_its_own_study_and_series(found: Inquiry) -> None:
    moved = [
        Place(study_uid(82), f"{ROOT}.82.5.1", ct_uid(81, 1)),
        Place(study_uid(81), f"{ROOT}.81.2", ct_uid(81, 2)),
    ]
    assert prove(found, moved) == frozenset()


@pytest.mark.servers
def test_whose_a_study_is_is_told_by_the_archive(found: Inquiry) -> None:
    assert {patient for patient, _ in found.identities(study_uid(81))} == {"PAT0081"}
    assert found.identities("1.2.3.4") == frozenset()


@pytest.mark.servers
def test_an_object_that_was_kept_is_ours_until_a_word_in_it_differs(filled: tuple[Server, list[Dataset]]) -> None:
    server, objects = filled
    report = next(one for one in objects if one.Modality == "SR")
    with GetFetch(Address.parse(server.address), "MINER") as fetch:
        assert differs(fetch, place(report), ObjectFile.read(encoded(report))) is False
        other = dcmread(BytesIO(encoded(report)))
        other.ContentSequence[0].TextValue = "something to see"
        assert differs(fetch, place(report), ObjectFile.read(encoded(other))) is True
        gone = replace(place(report), sop_instance_uid="1.2.3")
        assert differs(fetch, gone, ObjectFile.read(encoded(report))) is None, "Orthanc answers C000, dcmqrscp success"


# --- the same by the web ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def filled_web(orthanc_web: Server) -> tuple[Server, list[Dataset]]:
    objects = [*study_objects(84, 4), *reports(85, 12)]
    with StoreSender(Address.parse(orthanc_web.address), "MINER") as sender:
        assert all(one.accepted for one in sender.send(ObjectFile.read(encoded(one)) for one in objects))
    return orthanc_web, objects


@pytest.mark.servers
def test_the_web_tells_the_same(filled_web: tuple[Server, list[Dataset]]) -> None:
    server, objects = filled_web
    there = [place(one) for one in objects]
    missing = [replace(one, sop_instance_uid=f"{one.sop_instance_uid}.9") for one in there]
    with WebSession(WebAddress(server.web)) as session:
        inquiry = QidoInquiry(session)
        assert prove(inquiry, [*missing, *there, Place("1.2", "1.3", "1.4")]) == {one.sop_instance_uid for one in there}
        assert inquiry.identities(study_uid(84)) == {("PAT0084", "")}
        assert inquiry.identities("1.2.3.4") == frozenset()
        fetch = WadoFetch(session)
        assert differs(fetch, there[0], ObjectFile.read(encoded(objects[0]))) is False
        assert differs(fetch, there[0], ObjectFile.read(encoded(objects[1]))) is True
        assert differs(fetch, missing[0], ObjectFile.read(encoded(objects[0]))) is None


# --- archives that answer badly --------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "in", *study_objects(1, 4), *reports(2, 12))


@pytest.mark.parametrize(
    "faults",
    [
        Faults(duplicate_rows=True),
        Faults(refuse_lists=True),
        Faults(ignored_keys=frozenset({"SOPInstanceUID"})),
        Faults(ignored_keys=frozenset({"SeriesInstanceUID"})),
        Faults(ignored_keys=frozenset({"PatientID", "IssuerOfPatientID"})),
    ],
    ids=["duplicates", "no-lists", "objects-ignored", "series-ignored", "patients-untold"],
)
def test_what_an_archive_ignores_or_repeats_proves_nothing_wrong(folder: Path, faults: Faults) -> None:
    there = [place(one) for one in (*study_objects(1, 4), *reports(2, 12))]
    missing = [replace(one, sop_instance_uid=f"{one.sop_instance_uid}.9") for one in there]
    with EmbeddedArchive(folder, faults=faults) as archive:
        link = Link(Address.parse(archive.address), "MINER")
        inquiry = FindInquiry(link)
        proven = prove(inquiry, [*there, *missing])
        patients = inquiry.identities(study_uid(1))
        link.close()
    assert proven <= {one.sop_instance_uid for one in there}
    if "SOPInstanceUID" not in faults.ignored_keys:
        assert proven == {one.sop_instance_uid for one in there}
    told = "" if "PatientID" in faults.ignored_keys else "PAT0001"
    assert {patient for patient, _ in patients} == {told}, "what is not told is '', which confirms nothing"


def test_an_archive_that_is_silent_proves_nothing_and_says_so(folder: Path) -> None:
    with EmbeddedArchive(folder, faults=Faults(silent_finds=9)) as archive:
        link = Link(Address.parse(archive.address), "MINER", limits=SHORT)
        with pytest.raises(ArchiveError, match="no answer") as caught:
            prove(FindInquiry(link), [place(sr(1))])
        link.close()
    assert caught.value.temporary


class Capped:
    """An archive that lists no more than three objects, and refuses questions without a series if it is strict."""

    def __init__(self, objects: list[Place], *, strict: bool) -> None:
        self._objects = objects
        self._strict = strict
        self.questions = 0

    def listed(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> frozenset[str]:
        self.questions += 1
        if self._strict and not series_instance_uid:
            return frozenset()
        found = [
            one.sop_instance_uid
            for one in self._objects
            if one.study_instance_uid == study_instance_uid
            and series_instance_uid in ("", one.series_instance_uid)
            and sop_instance_uid in ("", one.sop_instance_uid)
        ]
        return frozenset(found[:3])

    def identities(self, study_instance_uid: str) -> frozenset[tuple[str, str]]:
        return frozenset()


@pytest.mark.parametrize("strict", [True, False])
def test_a_list_that_is_cut_short_is_completed_object_by_object(strict: bool) -> None:
    there = [place(one) for one in reports(2, 12)]
    archive = Capped(there, strict=strict)
    assert prove(archive, there) == {one.sop_instance_uid for one in there}
    assert archive.questions <= 13


# --- what an object says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [IMPLICIT, DEFLATED])
def test_the_digest_does_not_depend_on_the_encoding(syntax: str) -> None:
    for one in (sr(1), pr(1), ct(1, 1)):
        assert content_digest(encoded(one, syntax), "a") == content_digest(encoded(one), "b")


def test_the_digest_does_not_depend_on_lengths_of_sequences_or_padding() -> None:
    explicit, undefined = sr(1), sr(1)
    undefined["ContentSequence"].is_undefined_length = True
    undefined.ContentSequence[0].is_undefined_length_sequence_item = True
    plain, other = encoded(explicit), encoded(undefined)
    assert plain != other
    assert content_digest(plain, "a") == content_digest(other, "b")


@settings(max_examples=40)
@given(st.sampled_from(["PatientID", "StudyDescription", "InstanceNumber", "StudyDate"]), st.integers(0, 9999))
def test_the_digest_differs_where_a_value_does(keyword: str, number: int) -> None:
    own, other = sr(1), sr(1)
    value = f"2020{number % 12 + 1:02d}11" if keyword == "StudyDate" else str(number)
    setattr(other, keyword, value)
    same = str(own.get(keyword, "")) == value
    assert (content_digest(encoded(own), "a") == content_digest(encoded(other), "b")) == same


def test_one_result_written_at_two_times_by_two_versions_is_the_same() -> None:
    first, second = sr(1), sr(1)
    second.ContentDate, second.ContentTime, second.SoftwareVersions = "20300101", "235959", "99"
    assert encoded(first) != encoded(second)
    assert content_digest(encoded(first), "a") == content_digest(encoded(second), "b")


def test_the_digest_differs_where_an_item_or_a_pixel_does() -> None:
    image, other = ct(1, 1), ct(1, 1)
    other.PixelData = other.PixelData[:-1] + b"\1"
    report, longer = sr(1), sr(1)
    longer.ContentSequence.append(longer.ContentSequence[0])
    nested = sr(1)
    nested.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning = "Remark"
    digests = {content_digest(encoded(one), "") for one in (image, other, report, longer, nested)}
    assert len(digests) == 5


def test_an_object_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the archive's 1\.2\.3: its content cannot be compared"):
        content_digest(b"no DICOM" * 40, "the archive's 1.2.3")


def test_what_an_archive_gives_that_cannot_be_read_is_no_proof_of_a_difference() -> None:
    report = ObjectFile.read(encoded(sr(1)))
    assert differs(lambda placed: b"broken", place(sr(1)), report) is None


def test_archives_that_are_away_are_told_from_those_that_do_not_give_the_object() -> None:
    report = ObjectFile.read(encoded(sr(1)))

    def refusing(placed: Placed) -> bytes | None:
        raise ArchiveError("refused", peer="PACS", operation="C-GET", status=0xC000, temporary=True)

    def away(placed: Placed) -> bytes | None:
        raise ArchiveError("silent", peer="PACS", operation="C-GET", temporary=True)

    assert differs(refusing, place(sr(1)), report) is None
    with pytest.raises(ArchiveError, match="silent"):
        differs(away, place(sr(1)), report)


def test_an_object_that_was_turned_into_another_syntax_still_says_the_same() -> None:
    deflated = ObjectFile.read(encoded(sr(1), DEFLATED))
    for syntax in (EXPLICIT, IMPLICIT):
        header = file_header(deflated.sop_instance_uid, deflated.sop_class_uid, syntax)
        turned = header + encoded_as(deflated, syntax)
        assert content_digest(turned, "a") == content_digest(deflated.file_bytes(), "b")
