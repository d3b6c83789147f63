"""The embedded archive, asked by DCMTK's own clients and by pynetdicom; and its faults, which clients must survive."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from servers import free_port

from dicom_io.catalogue import read_stored_object
from dicom_io.testbed.embedded import EmbeddedArchive, Faults
from dicom_io.testbed.phantoms import write_phantoms
from tests.waiting import PATIENCE_S, until

FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
DCMTK = {name: Path("/usr/bin") / name for name in ("echoscu", "findscu", "getscu", "movescu", "storescu", "storescp")}
needs_dcmtk = pytest.mark.skipif(not all(path.exists() for path in DCMTK.values()), reason="DCMTK is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("archive"), small=True, matrix=64, slices_per_series=6).folder


@pytest.fixture(scope="module")
def archive(folder: Path) -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(folder) as running:
        yield running


def keys(level: str, **wanted: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in wanted.items():
        setattr(identifier, keyword, value.split("\\") if "\\" in value else value)
    return identifier


class Client:
    """The least client that can ask: keeps what arrived, as bytes."""

    def __init__(self, archive: EmbeddedArchive, syntaxes: dict[str, list[str]] | None = None) -> None:
        self.arrived: dict[str, bytes] = {}
        entity = AE("CLIENT")
        entity.dimse_timeout = PATIENCE_S
        for model in (Verification, FIND, GET, MOVE):
            entity.add_requested_context(model)
        offered = syntaxes or {CTImageStorage: [ExplicitVRLittleEndian]}
        for sop_class, names in offered.items():
            for name in names:
                entity.add_requested_context(sop_class, name)
        self.association = entity.associate(
            "127.0.0.1",
            archive.port,
            ae_title=archive.ae_title,
            ext_neg=[build_role(sop_class, scp_role=True) for sop_class in offered],
            evt_handlers=[(evt.EVT_C_STORE, self._keep)],
        )
        assert self.association.is_established

    def _keep(self, event: evt.Event) -> int:
        self.arrived[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    def find(self, identifier: Dataset) -> tuple[list[Dataset], int | None]:
        answers = list(self.association.send_c_find(identifier, FIND))
        return [rows for _, rows in answers if rows is not None], answers[-1][0].get("Status")

    def get(self, identifier: Dataset) -> tuple[int | None, Dataset]:
        final = list(self.association.send_c_get(identifier, GET))[-1][0]
        return final.get("Status"), final

    def move(self, identifier: Dataset, destination: str) -> tuple[int | None, Dataset]:
        final = list(self.association.send_c_move(identifier, destination, MOVE))[-1][0]
        return final.get("Status"), final


@pytest.fixture
def client(archive: EmbeddedArchive) -> Iterator[Client]:
    asking = Client(archive)
    yield asking
    asking.association.release()


def axial_series(archive: EmbeddedArchive, patient_id: str, date: str) -> dict[str, list[str]]:
    """SOP Instance UIDs of single-frame CT images of one study by series."""
    series: dict[str, list[str]] = {}
    for stored in archive.objects:
        found = stored.keys
        if (found["PatientID"], found["StudyDate"], stored.sop_class_uid) == (patient_id, date, CTImageStorage):
            series.setdefault(found["SeriesInstanceUID"], []).append(stored.sop_instance_uid)
    return series


def stored_bytes(archive: EmbeddedArchive, uid: str) -> bytes:
    """The encoded data set of the archive's file, cut off after its meta information by its own length field."""
    content = next(stored for stored in archive.objects if stored.sop_instance_uid == uid).path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


# --- query -----------------------------------------------------------------------------------------------


def test_every_study_is_listed_once_with_its_counts(archive: EmbeddedArchive, client: Client) -> None:
    rows, status = client.find(
        keys("STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="", ModalitiesInStudy="", StudyDate="")
    )
    assert status == 0x0000
    assert len(rows) == len({row.StudyInstanceUID for row in rows}) == 10
    assert sum(int(row.NumberOfStudyRelatedInstances) for row in rows) == len(archive.objects)
    assert all({"CT", "SR"} <= set(row.ModalitiesInStudy) for row in rows)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"StudyDate": "20190101-20191231"}, 3),
        ({"StudyDate": "20190412-"}, 8),
        ({"StudyDate": "-20190301"}, 2),
        ({"StudyDate": "20190412"}, 1),
        ({"PatientID": "MRN-CANARY-01"}, 2),
        ({"PatientID": "MRN-CANARY-0?"}, 10),
        ({"PatientID": "*-02"}, 2),
        ({"PatientID": "mrn-canary-01"}, 0),
        ({"PatientName": "canary^ann*"}, 2),
        ({"ModalitiesInStudy": "SR"}, 10),
        ({"ModalitiesInStudy": "PR"}, 0),
        ({"Modality": "SR"}, 10),
        ({"InstitutionName": "nowhere"}, 10),
    ],
)
def test_studies_are_selected_by_the_keys_that_the_level_has(
    client: Client, wanted: dict[str, str], count: int
) -> None:
    rows, status = client.find(keys("STUDY", StudyInstanceUID="", **wanted))
    assert (len(rows), status) == (count, 0x0000)


def test_a_list_of_studies_is_answered(client: Client) -> None:
    rows, _ = client.find(keys("STUDY", StudyInstanceUID="", PatientID=""))
    two = "\\".join(row.StudyInstanceUID for row in rows[:2])
    assert len(client.find(keys("STUDY", StudyInstanceUID=two))[0]) == 2


def test_report_series_of_all_studies_are_found_by_one_relational_query(
    archive: EmbeddedArchive, client: Client
) -> None:
    rows, _ = client.find(keys("SERIES", Modality="SR", StudyInstanceUID="", SeriesInstanceUID=""))
    reports = {stored.keys["SeriesInstanceUID"] for stored in archive.objects if stored.keys["Modality"] == "SR"}
    assert {row.SeriesInstanceUID for row in rows} == reports
    assert all(row.StudyInstanceUID for row in rows)


def test_images_are_listed_with_class_and_instance_number(archive: EmbeddedArchive, client: Client) -> None:
    ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200103").items()
    rows, _ = client.find(
        keys("IMAGE", SeriesInstanceUID=series_uid, SOPInstanceUID="", SOPClassUID="", InstanceNumber="")
    )
    assert {row.SOPInstanceUID for row in rows} == set(images)
    assert sorted(int(row.InstanceNumber) for row in rows) == [1, 2, 3, 4, 5, 6]
    assert {row.SOPClassUID for row in rows} == {CTImageStorage}
    two = keys("IMAGE", SeriesInstanceUID=series_uid, SOPInstanceUID="\\".join(images[:2]))
    assert len(client.find(two)[0]) == 2


def test_names_in_other_scripts_survive_the_query(client: Client) -> None:
    rows, _ = client.find(keys("STUDY", PatientName="*chiar*", StudyInstanceUID=""))
    assert {str(row.PatientName) for row in rows} == {"CANARY^Chiar\u00e0"}


def test_keys_that_the_archive_does_not_know_are_left_out_of_its_answers(client: Client) -> None:
    rows, _ = client.find(keys("STUDY", StudyInstanceUID="", InstitutionName="", PatientComments=""))
    assert all("InstitutionName" not in row and "PatientComments" not in row for row in rows)


def test_a_query_without_a_known_level_is_refused(client: Client) -> None:
    assert client.find(keys("PATIENT", PatientID=""))[1] == 0xA900


# --- retrieve --------------------------------------------------------------------------------------------


def test_images_arrive_as_the_bytes_that_are_stored(archive: EmbeddedArchive, client: Client) -> None:
    ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200103").items()
    status, final = client.get(keys("SERIES", SeriesInstanceUID=series_uid))
    assert (status, final.NumberOfCompletedSuboperations) == (0x0000, 6)
    assert set(client.arrived) == set(images)
    assert all(content == stored_bytes(archive, uid) for uid, content in client.arrived.items())


@pytest.mark.parametrize(
    ("patient_id", "date", "syntax"),
    [("MRN-CANARY-02", "20200228", RLELossless), ("MRN-CANARY-04", "20221214", JPEGLSLossless)],
)
def test_compressed_images_arrive_compressed_where_the_peer_accepts_it(
    archive: EmbeddedArchive, patient_id: str, date: str, syntax: str
) -> None:
    ((series_uid, images),) = axial_series(archive, patient_id, date).items()
    offering_both = Client(archive, {CTImageStorage: [syntax, ExplicitVRLittleEndian]})
    assert offering_both.get(keys("SERIES", SeriesInstanceUID=series_uid))[0] == 0x0000
    assert {uid: stored_bytes(archive, uid) for uid in images} == offering_both.arrived
    offering_both.association.release()


def test_compressed_images_fail_by_name_where_the_peer_wants_them_uncompressed(
    archive: EmbeddedArchive, client: Client
) -> None:
    ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200228").items()
    status, final = client.get(keys("SERIES", SeriesInstanceUID=series_uid))
    assert (status, final.NumberOfFailedSuboperations) == (0xA702, len(images))
    assert client.arrived == {}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_objects_are_encoded_anew_for_a_peer_that_wants_another_encoding(
    archive: EmbeddedArchive, syntax: pydicom.uid.UID
) -> None:
    report = next(stored for stored in archive.objects if stored.sop_class_uid == EnhancedSRStorage)
    asking = Client(archive, {EnhancedSRStorage: [syntax]})
    wanted = {key: report.keys[key] for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    assert asking.get(keys("IMAGE", **wanted))[0] == 0x0000
    (content,) = asking.arrived.values()
    meta = pydicom.dcmread(report.path).file_meta
    header = b"\x00" * 128 + b"DICM"
    meta.TransferSyntaxUID = syntax
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, meta)
    received = pydicom.dcmread(pydicom.filebase.DicomBytesIO(header + buffer.getvalue() + content))
    assert received == pydicom.dcmread(report.path)
    asking.association.release()


def test_a_list_of_images_is_retrieved_and_nothing_else(archive: EmbeddedArchive, client: Client) -> None:
    ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200103").items()
    before = len(archive.sent)
    status, _ = client.get(keys("IMAGE", SeriesInstanceUID=series_uid, SOPInstanceUID="\\".join(images[1:4])))
    assert status == 0x0000
    assert set(client.arrived) == set(images[1:4])
    assert sorted(archive.sent[before:]) == sorted(images[1:4])


def test_a_retrieve_that_names_nothing_is_refused_and_one_of_something_unknown_brings_nothing(client: Client) -> None:
    assert client.get(keys("STUDY", StudyInstanceUID=""))[0] == 0xA900
    assert client.get(keys("STUDY", StudyInstanceUID="1.2.3"))[0] == 0x0000
    assert client.arrived == {}


def test_objects_are_moved_to_a_known_destination_only(folder: Path) -> None:
    arrived: dict[str, str] = {}
    destination = AE("STORE")
    for name in (CTImageStorage, EnhancedSRStorage, *(uid for uid in STORAGE_CLASSES)):
        destination.add_supported_context(name, ALL_SYNTAXES)

    def keep(event: evt.Event) -> int:
        arrived[str(event.request.AffectedSOPInstanceUID)] = str(event.context.transfer_syntax)
        return 0x0000

    server = destination.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    with EmbeddedArchive(folder, move_destinations={"STORE": ("127.0.0.1", server.server_address[1])}) as archive:
        study = next(stored for stored in archive.objects if stored.keys["StudyDate"] == "20221214")
        members = {
            stored.sop_instance_uid: stored.transfer_syntax_uid
            for stored in archive.objects
            if stored.keys["StudyInstanceUID"] == study.keys["StudyInstanceUID"]
        }
        asking = Client(archive)
        wanted = keys("STUDY", StudyInstanceUID=study.keys["StudyInstanceUID"])
        assert asking.move(wanted, "NOBODY")[0] == 0xA801
        status, final = asking.move(wanted, "STORE")
        asking.association.release()
    server.shutdown()
    assert (status, final.NumberOfCompletedSuboperations) == (0x0000, len(members))
    assert arrived == members


STORAGE_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.11")
ALL_SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless,
]  # fmt: skip


# --- storage ---------------------------------------------------------------------------------------------


def test_a_stored_object_is_kept_under_a_hash_and_found_at_once(folder: Path, tmp_path: Path) -> None:
    path = next(folder.rglob("report_read.dcm"))
    with EmbeddedArchive(tmp_path) as archive:
        asking = Client(archive, {EnhancedSRStorage: [ImplicitVRLittleEndian]})
        report = pydicom.dcmread(path)
        assert report.SOPClassUID == EnhancedSRStorage
        sender = AE("SENDER")
        sender.add_requested_context(EnhancedSRStorage, ImplicitVRLittleEndian)
        association = sender.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
        assert association.send_c_store(report).Status == 0x0000
        changed = pydicom.dcmread(path)
        changed.SeriesDescription = "another"
        assert association.send_c_store(changed).Status == 0x0000
        association.release()
        (row,), _ = asking.find(keys("SERIES", StudyInstanceUID="", SeriesDescription=""))
        asking.association.release()
    assert row.SeriesDescription == report.SeriesDescription
    name = hashlib.sha256(str(report.SOPInstanceUID).encode()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == [f"{name}.dcm"]
    assert pydicom.dcmread(tmp_path / f"{name}.dcm") == report


def test_files_that_are_no_objects_are_passed_over(folder: Path, tmp_path: Path) -> None:
    source = next(folder.rglob("report_read.dcm"))
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "cut.dcm").write_bytes(source.read_bytes()[:200])
    (tmp_path / "good.dcm").write_bytes(source.read_bytes())
    assert read_stored_object(tmp_path / "notes.txt") is None
    with EmbeddedArchive(tmp_path) as archive:
        assert [stored.path.name for stored in archive.objects] == ["good.dcm"]


def test_many_associations_are_served_at_once(archive: EmbeddedArchive) -> None:
    counts: list[int] = []

    def ask() -> None:
        asking = Client(archive)
        counts.append(len(asking.find(keys("STUDY", StudyInstanceUID=""))[0]))
        asking.association.release()

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [10] * 12


# --- faults ----------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(folder: Path) -> Iterator[Callable[[Faults], EmbeddedArchive]]:
    running: list[EmbeddedArchive] = []

    def start(faults: Faults) -> EmbeddedArchive:
        running.append(EmbeddedArchive(folder, faults=faults).__enter__())
        return running[-1]

    yield start
    for archive in running:
        archive.__exit__(None, None, None)


def prone_series(archive: EmbeddedArchive) -> tuple[Dataset, list[str]]:
    ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200103").items()
    return keys("SERIES", SeriesInstanceUID=series_uid), images


def test_an_association_can_be_aborted_after_some_images_and_the_next_retrieve_succeeds(
    faulty: Callable[[Faults], EmbeddedArchive],
) -> None:
    archive = faulty(Faults(abort_after_images=2))
    wanted, images = prone_series(archive)
    first = Client(archive)
    status, _ = first.get(wanted)
    assert status is None
    assert len(first.arrived) == 2
    second = Client(archive)
    assert second.get(wanted)[0] == 0x0000
    assert set(second.arrived) == set(images)
    second.association.release()


def test_fewer_objects_than_listed_can_be_delivered_with_success(faulty: Callable[[Faults], EmbeddedArchive]) -> None:
    archive = faulty(Faults(deliver_at_most=3))
    wanted, images = prone_series(archive)
    asking = Client(archive)
    assert asking.get(wanted)[0] == 0x0000
    assert len(asking.arrived) == 3 < len(images)
    asking.association.release()


def test_named_objects_can_be_withheld_with_success(
    faulty: Callable[[Faults], EmbeddedArchive], archive: EmbeddedArchive
) -> None:
    wanted, images = prone_series(archive)
    asking = Client(faulty(Faults(withheld=frozenset(images[:1]))))
    assert asking.get(wanted)[0] == 0x0000
    assert set(asking.arrived) == set(images[1:])
    assert len(asking.find(keys("IMAGE", SeriesInstanceUID=str(wanted.SeriesInstanceUID), SOPInstanceUID=""))[0]) == 6
    asking.association.release()


def test_a_busy_archive_refuses_the_first_retrieves(faulty: Callable[[Faults], EmbeddedArchive]) -> None:
    archive = faulty(Faults(refuse_retrieves=1))
    wanted, _ = prone_series(archive)
    asking = Client(archive)
    assert asking.get(wanted)[0] == 0xA702
    assert asking.get(wanted)[0] == 0x0000
    asking.association.release()


def test_rows_can_be_repeated_and_keys_ignored(faulty: Callable[[Faults], EmbeddedArchive]) -> None:
    archive = faulty(Faults(duplicate_rows=True, ignored_keys=frozenset({"ModalitiesInStudy"})))
    asking = Client(archive)
    rows, _ = asking.find(keys("STUDY", StudyInstanceUID="", ModalitiesInStudy="PR"))
    assert len(rows) == len(archive.objects)
    assert all("ModalitiesInStudy" not in row for row in rows)
    asking.association.release()


def test_lists_of_uids_can_be_refused(faulty: Callable[[Faults], EmbeddedArchive]) -> None:
    archive = faulty(Faults(refuse_lists=True))
    wanted, images = prone_series(archive)
    asking = Client(archive)
    two = keys("IMAGE", SeriesInstanceUID=str(wanted.SeriesInstanceUID), SOPInstanceUID="\\".join(images[:2]))
    assert asking.find(two)[1] == 0xC000
    assert asking.get(two)[0] == 0xC000
    assert asking.arrived == {}
    asking.association.release()


def test_a_silent_archive_answers_a_query_with_nothing_until_the_client_gives_up(
    faulty: Callable[[Faults], EmbeddedArchive],
) -> None:
    archive = faulty(Faults(silent_finds=1))
    asking = Client(archive)
    asking.association.dimse_timeout = 0.5
    assert asking.find(keys("STUDY", StudyInstanceUID=""))[1] is None
    again = Client(archive)
    assert len(again.find(keys("STUDY", StudyInstanceUID=""))[0]) == 10
    again.association.release()


# --- DCMTK as an independent client ----------------------------------------------------------------------


def dcmtk(tool: str, archive: EmbeddedArchive, *arguments: str | Path) -> str:
    command = [str(DCMTK[tool]), "-aec", archive.ae_title, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return done.stdout + done.stderr


@needs_dcmtk
@pytest.mark.servers
def test_dcmtk_finds_and_gets_what_is_there(archive: EmbeddedArchive, tmp_path: Path) -> None:
    here = ("127.0.0.1", str(archive.port))
    dcmtk("echoscu", archive, *here)
    said = dcmtk("findscu", archive, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", *here)
    studies = re.findall(r"\(0020,000d\) UI \[([0-9.]+)", said)
    assert len(set(studies)) == len(studies) == 10
    ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200103").items()
    dcmtk(
        "getscu", archive, "-S", "-od", tmp_path, "-k", "QueryRetrieveLevel=SERIES",
        "-k", f"SeriesInstanceUID={series_uid}", *here,
    )  # fmt: skip
    received = {str(pydicom.dcmread(path).SOPInstanceUID): pydicom.dcmread(path) for path in tmp_path.iterdir()}
    assert set(received) == set(images)
    for stored in archive.objects:
        if stored.sop_instance_uid in received:
            assert received[stored.sop_instance_uid] == pydicom.dcmread(stored.path)


@needs_dcmtk
@pytest.mark.servers
def test_dcmtk_moves_to_its_own_receiver_and_stores_back(folder: Path, tmp_path: Path) -> None:
    incoming, second_home = tmp_path / "incoming", tmp_path / "second"
    incoming.mkdir()
    second_home.mkdir()
    with EmbeddedArchive(folder) as archive, EmbeddedArchive(second_home) as other:
        port = free_port()
        receiver = subprocess.Popen([str(DCMTK["storescp"]), "+xa", "-od", str(incoming), str(port)])
        try:
            wait_for(port)
            archive.move_destinations["RECEIVER"] = ("127.0.0.1", port)
            ((series_uid, images),) = axial_series(archive, "MRN-CANARY-02", "20200103").items()
            dcmtk(
                "movescu", archive, "-S", "-aem", "RECEIVER", "-k", "QueryRetrieveLevel=SERIES",
                "-k", f"SeriesInstanceUID={series_uid}", "127.0.0.1", str(archive.port),
            )  # fmt: skip
        finally:
            receiver.terminate()
            receiver.wait(timeout=PATIENCE_S)
        assert len(list(incoming.iterdir())) == len(images)
        dcmtk("storescu", other, "127.0.0.1", str(other.port), *sorted(incoming.iterdir()))
        assert {stored.sop_instance_uid for stored in other.objects} == set(images)


def wait_for(port: int) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, lambda: "the receiver did not start")


def test_the_archive_runs_by_itself_and_says_where(folder: Path) -> None:
    command = [sys.executable, "-m", "dicom_io.testbed.embedded", str(folder), "--ae-title", "ALONE"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = re.match(r"(\w+)@127\.0\.0\.1:(\d+) \d+ objects", process.stdout.readline())
        assert said is not None
        title, port = said.groups()
        entity = AE("CLIENT")
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", int(port), ae_title=title)
        assert association.send_c_echo().Status == 0x0000
        association.release()
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
