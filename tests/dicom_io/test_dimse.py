"""The client against archives: the installed ones, the embedded one with faults, and worse ones made here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from little_objects import (
    ct,
    ct_series_uid,
    ct_uid,
    sr,
    sr_series_uid,
    sr_uid,
    study_objects,
    study_uid,
    write,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from servers import Server, free_port

from deeplesion_miner.errors import ArchiveError
from deeplesion_miner.studies import StudyQuery
from dicom_io import negotiation
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.dimse import DimseTransport
from dicom_io.receiver import Receiver
from dicom_io.retry import Retry
from dicom_io.store import ObjectStore
from dicom_io.testbed.embedded import EmbeddedArchive, Faults

STUDIES = range(1, 21)
MEASURED = [number for number in STUDIES if number % 4 == 0]
ALL_CT = [ct_uid(4, number) for number in range(1, 6)]
SHORT = Limits(idle_s=2)
"""For archives that fall silent: ten times what an answer takes."""


def population() -> list[Dataset]:
    return [one for study in STUDIES for one in study_objects(study, measured=study in MEASURED)]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("population") / "in", *population())


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


class Pauses(list[float]):
    """Notes the pauses of a retry instead of sleeping."""

    def retry(self, attempts: int = 4) -> Retry:
        return Retry(attempts=attempts, sleep=self.append)


@contextmanager
def connected(
    address: str,
    store: ObjectStore,
    *,
    move_port: int | None = None,
    retry: Retry | None = None,
    limits: Limits | None = None,
    late_s: float = 0.3,
) -> Iterator[DimseTransport]:
    """A transport by C-GET, or by C-MOVE where `move_port` is given."""
    receiver = None if move_port is None else Receiver(store, "MINER", host="127.0.0.1", port=move_port)
    transport = DimseTransport(
        Address.parse(address),
        "MINER",
        store,
        method="get" if receiver is None else "move",
        receiver=receiver,
        limits=limits or Limits(),
        retry=retry or Pauses().retry(),
        late_s=late_s,
    )
    try:
        yield transport
    finally:
        transport.close()
        if receiver is not None:
            receiver.close()


@contextmanager
def embedded(files: Path, store: ObjectStore, faults: Faults | None = None, **options: Any) -> Iterator[DimseTransport]:
    with (
        EmbeddedArchive(files, faults=faults or Faults()) as archive,
        connected(archive.address, store, **options) as transport,
    ):
        yield transport


def found(transport: DimseTransport, query: StudyQuery | None = None) -> list[str]:
    return [one.study_instance_uid for one in transport.find_studies(query or StudyQuery())]


# --- the installed archives --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def filled_pacs(pacs: Server, files: Path) -> Server:
    pacs.send(files)
    return pacs


@pytest.mark.servers
@pytest.mark.parametrize("method", ["get", "move"])
def test_measured_studies_are_found_and_their_objects_fetched(filled_pacs: Server, store: ObjectStore, method: str):
    move_port = filled_pacs.move_port if method == "move" else None
    with connected(filled_pacs.address, store, move_port=move_port, limits=Limits()) as transport:
        transport.echo()
        assert found(transport) == sorted(study_uid(number) for number in MEASURED)
        assert found(transport, StudyQuery(patient_id="PAT0008")) == [study_uid(8)]
        assert found(transport, StudyQuery(date_from="20240501", date_to="20240531")) == [study_uid(16), study_uid(4)]
        assert found(transport, StudyQuery(study_instance_uids=(study_uid(4), study_uid(5), "1.2.3"))) == [study_uid(4)]
        unmeasured_too = StudyQuery(study_instance_uids=(study_uid(4), study_uid(5)), measured=False)
        assert found(transport, unmeasured_too) == [study_uid(4), study_uid(5)]
        series = transport.find_series(study_uid(4))
        assert [one.modality for one in series] == ["CT", "SR"]
        instances = transport.find_instances(study_uid(4), ct_series_uid(4))
        assert [(one.sop_instance_uid, one.instance_number) for one in instances] == [
            (uid, number) for number, uid in enumerate(ALL_CT, start=1)
        ]
        assert transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT[:3]) == tuple(ALL_CT[:3])
        assert transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT[2:]) == tuple(ALL_CT[3:])
        assert transport.retrieve(study_uid(4), sr_series_uid(4), [sr_uid(4)]) == (sr_uid(4),)
    assert sorted(store.uids()) == sorted([*ALL_CT, sr_uid(4)])
    path = store.path(ct_uid(4, 2))
    assert path is not None and dcmread(path).pixel_array[0, 0] == 2


@pytest.mark.servers
def test_what_comes_by_get_and_by_move_is_the_same_file(filled_pacs: Server, tmp_path: Path):
    contents = []
    for method, move_port in (("get", None), ("move", filled_pacs.move_port)):
        store = ObjectStore(tmp_path / method)
        with connected(filled_pacs.address, store, move_port=move_port, limits=Limits()) as transport:
            transport.retrieve(study_uid(8), sr_series_uid(8), [sr_uid(8)])
        path = store.path(sr_uid(8))
        assert path is not None
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.servers
@pytest.mark.parametrize("method", ["get", "move"])
def test_an_object_that_the_archive_does_not_have_does_not_keep_others_from_coming(
    filled_pacs: Server, store: ObjectStore, method: str
):
    move_port = filled_pacs.move_port if method == "move" else None
    with connected(filled_pacs.address, store, move_port=move_port, limits=Limits()) as transport:
        wanted = [*ALL_CT, ct_uid(4, 99)]
        assert transport.retrieve(study_uid(4), ct_series_uid(4), wanted) == tuple(ALL_CT)


# --- the embedded archive, well and with faults ------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(duplicate_rows=True),
        Faults(refuse_lists=True),
        Faults(ignored_keys=frozenset({"ModalitiesInStudy"})),
        Faults(ignored_keys=frozenset({"Modality"})),
        Faults(ignored_keys=frozenset({"StudyDate", "PatientID"})),
        Faults(ignored_keys=frozenset({"NumberOfSeriesRelatedInstances", "InstanceNumber", "SOPClassUID"})),
    ],
    ids=str,
)
def test_an_archive_that_answers_badly_shows_the_same_studies(files: Path, store: ObjectStore, faults: Faults):
    with embedded(files, store, faults) as transport:
        names = found(transport)
        if "Modality" in faults.ignored_keys:
            assert set(names) >= {study_uid(number) for number in MEASURED}
        else:
            assert names == sorted(study_uid(number) for number in MEASURED)
        instances = transport.find_instances(study_uid(4), ct_series_uid(4))
        assert [one.sop_instance_uid for one in instances] == ALL_CT


@pytest.mark.parametrize("method", ["get", "move"])
@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(abort_after_images=2),
        Faults(abort_after_images=1, abort_times=2),
        Faults(deliver_at_most=1),
        Faults(refuse_retrieves=2),
        Faults(refuse_lists=True),
    ],
    ids=str,
)
def test_all_objects_arrive_from_an_archive_that_delivers_badly(
    files: Path, store: ObjectStore, faults: Faults, method: str
):
    with EmbeddedArchive(files, faults=faults) as archive:
        port = free_port() if method == "move" else None
        if port is not None:
            archive.move_destinations["MINER"] = ("127.0.0.1", port)
        with connected(archive.address, store, move_port=port) as transport:
            assert transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT) == tuple(ALL_CT)
            assert transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT) == ()


def test_what_is_listed_and_never_sent_is_left_out(files: Path, store: ObjectStore):
    with embedded(files, store, Faults(withheld=frozenset({ct_uid(4, 3)}))) as transport:
        arrived = transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT)
    assert arrived == tuple(uid for uid in ALL_CT if uid != ct_uid(4, 3))


def test_one_association_serves_many_operations_and_only_needed_objects_move(files: Path, store: ObjectStore):
    opened: list[Any] = []
    with EmbeddedArchive(files) as archive:
        archive._entity._servers[0].bind(evt.EVT_ACCEPTED, opened.append)
        with connected(archive.address, store) as transport:
            transport.echo()
            found(transport)
            transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT[:2])
            transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT)
        assert len(opened) == 1
        assert sorted(archive.sent) == ALL_CT


def test_an_archive_that_falls_silent_is_asked_again_on_a_new_association(files: Path, store: ObjectStore):
    pauses = Pauses()
    with embedded(files, store, Faults(silent_finds=1), retry=pauses.retry(), limits=SHORT) as transport:
        assert [one.modality for one in transport.find_series(study_uid(4))] == ["CT", "SR"]
    assert pauses == [0.5]


def test_an_archive_that_stays_silent_is_a_temporary_error(files: Path, store: ObjectStore):
    with (
        embedded(files, store, Faults(silent_finds=9), retry=Pauses().retry(attempts=2), limits=SHORT) as transport,
        pytest.raises(ArchiveError, match="no answer") as caught,
    ):
        transport.find_series(study_uid(4))
    assert caught.value.temporary and caught.value.status is None


def test_an_archive_that_never_delivers_anything_is_an_error_and_not_a_gap(files: Path, store: ObjectStore):
    with (
        embedded(files, store, Faults(refuse_retrieves=99)) as transport,
        pytest.raises(ArchiveError, match="A702H"),
    ):
        transport.retrieve(study_uid(4), ct_series_uid(4), ALL_CT)


def test_an_archive_that_does_not_know_the_move_destination_is_a_permanent_error(files: Path, store: ObjectStore):
    pauses = Pauses()
    with (
        embedded(files, store, move_port=0, retry=pauses.retry()) as transport,
        pytest.raises(ArchiveError, match="A801H") as caught,
    ):
        transport.retrieve(study_uid(4), sr_series_uid(4), [sr_uid(4)])
    assert not caught.value.temporary
    assert pauses == []


def test_nobody_listening_is_a_temporary_error_that_is_tried_again(store: ObjectStore):
    pauses = Pauses()
    with (
        connected(f"NOBODY@127.0.0.1:{free_port()}", store, retry=pauses.retry()) as transport,
        pytest.raises(ArchiveError, match="nobody listens") as caught,
    ):
        transport.echo()
    assert caught.value.temporary
    assert pauses == [0.5, 1.5, 4.5]


# --- worse archives ----------------------------------------------------------------------------------------


@contextmanager
def serving(handlers: list[Any], require_called: str | None = None) -> Iterator[str]:
    """An archive whose answers are the given handlers'."""
    entity = AE(ae_title="BAD")
    entity.require_called_aet = require_called is not None
    for service in (negotiation.ECHO, negotiation.FIND, negotiation.GET, negotiation.MOVE):
        entity.add_supported_context(service)
    for sop_class in (*negotiation.CT_CLASSES, *negotiation.REPORT_CLASSES):
        entity.add_supported_context(sop_class, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"{require_called or 'BAD'}@127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()


def series_row(event: Any) -> Dataset:
    row = Dataset()
    row.QueryRetrieveLevel = "SERIES"
    row.StudyInstanceUID, row.SeriesInstanceUID = event.identifier.StudyInstanceUID, "2.1"
    return row


def test_pending_answers_without_end_are_cut_off(store: ObjectStore):
    def endless(event: Any) -> Iterator[tuple[int, Dataset]]:
        while event.assoc.is_established:
            time.sleep(0.01)
            yield 0xFF00, series_row(event)

    limits = Limits(total_s=0.5)
    with (
        serving([(evt.EVT_C_FIND, endless)]) as address,
        connected(address, store, limits=limits, retry=Pauses().retry(attempts=1)) as transport,
        pytest.raises(ArchiveError, match="not finished"),
    ):
        transport.find_series("1.2.3")


def test_objects_without_end_are_cut_off(store: ObjectStore):
    def endless(event: Any) -> Iterator[Any]:
        yield 60000
        while event.assoc.is_established and len(sent) < 20_000:
            sent.append(ct_uid(9, len(sent) + 1))
            yield 0xFF00, ct(9, len(sent))

    limits = Limits(idle_s=1, total_s=0.5)  # whichever ends it
    sent: list[str] = []
    with (
        serving([(evt.EVT_C_GET, endless)]) as address,
        connected(address, store, limits=limits, retry=Pauses().retry(attempts=1)) as transport,
        pytest.raises(ArchiveError),
    ):
        transport.retrieve(study_uid(9), ct_series_uid(9), ["9.9"])
    assert 0 < len(sent) < 20_000, "cut off, not heard out"


def test_two_objects_under_one_uid_keep_the_first_and_are_noted(store: ObjectStore):
    other = sr(4)
    other.PatientID = "SOMEBODY"

    def twice(event: Any) -> Iterator[Any]:
        yield 2
        yield 0xFF00, sr(4)
        yield 0xFF00, other

    with serving([(evt.EVT_C_GET, twice)]) as address, connected(address, store) as transport:
        assert transport.retrieve(study_uid(4), sr_series_uid(4), [sr_uid(4)]) == (sr_uid(4),)
    path = store.path(sr_uid(4))
    assert path is not None and dcmread(path).PatientID == "PAT0004"
    assert [one.why for one in store.set_aside()] == ["conflicting_copies"]


def test_an_object_named_by_a_hostile_uid_stays_inside_the_store(store: ObjectStore, tmp_path: Path):
    hostile = sr(4)
    hostile.SOPInstanceUID = "../../../tmp/1.2.3"

    def send(event: Any) -> Iterator[Any]:
        yield 2
        yield 0xFF00, hostile
        yield 0xFF00, sr(4)

    with serving([(evt.EVT_C_GET, send)]) as address, connected(address, store) as transport:
        assert transport.retrieve(study_uid(4), sr_series_uid(4), [sr_uid(4)]) == (sr_uid(4),)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and (tmp_path / "store") not in path.parents]
    assert outside == []


def test_a_rejected_title_is_a_permanent_error_that_says_which(store: ObjectStore):
    pauses = Pauses()
    with (
        serving([], require_called="WRONG") as address,
        connected(address, store, retry=pauses.retry()) as transport,
        pytest.raises(ArchiveError, match="its AE title is not WRONG") as caught,
    ):
        transport.echo()
    assert not caught.value.temporary
    assert pauses == []


@pytest.mark.parametrize(("status", "temporary"), [(0xA700, True), (0xC000, True), (0xA900, False), (0x0122, False)])
def test_a_status_decides_whether_a_question_is_asked_again(store: ObjectStore, status: int, temporary: bool):
    asked: list[int] = []

    def refuse(event: Any) -> Iterator[tuple[int, None]]:
        asked.append(status)
        yield status, None

    with (
        serving([(evt.EVT_C_FIND, refuse)]) as address,
        connected(address, store) as transport,
        pytest.raises(ArchiveError) as caught,
    ):
        transport.find_series("1.2.3")
    assert (caught.value.status, caught.value.temporary) == (status, temporary)
    assert len(asked) == (4 if temporary else 1)


def test_an_archive_that_drops_the_connection_is_asked_again(store: ObjectStore):
    asked: list[Any] = []

    def drop_once(event: Any) -> Iterator[tuple[int, Dataset]]:
        asked.append(event)
        if len(asked) == 1:
            event.assoc.dul.socket.close()
            return
        yield 0xFF00, series_row(event)

    with serving([(evt.EVT_C_FIND, drop_once)]) as address, connected(address, store) as transport:
        assert [one.series_instance_uid for one in transport.find_series("1.2.3")] == ["2.1"]
    assert len(asked) == 2


def test_a_full_disk_is_neither_a_gap_nor_a_fault_of_the_archive(
    files: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dicom_io.store.os.fsync", full)
    with embedded(files, store) as transport, pytest.raises(OSError, match="No space left"):
        transport.retrieve(study_uid(4), sr_series_uid(4), [sr_uid(4)])


def test_threads_with_a_transport_each_share_a_store_and_a_receiver(files: Path, store: ObjectStore):
    failures: list[BaseException] = []
    port = free_port()

    def work(receiver: Receiver, address: str, study: int) -> None:
        transport = DimseTransport(Address.parse(address), "MINER", store, method="move", receiver=receiver, late_s=3.0)
        try:
            uids = [ct_uid(study, number) for number in range(1, 6)]
            assert transport.retrieve(study_uid(study), ct_series_uid(study), uids) == tuple(uids)
        except (ArchiveError, AssertionError) as error:
            failures.append(error)
        finally:
            transport.close()

    with (
        EmbeddedArchive(files, move_destinations={"MINER": ("127.0.0.1", port)}) as archive,
        Receiver(store, "MINER", host="127.0.0.1", port=port) as receiver,
    ):
        run_all(lambda study: work(receiver, archive.address, study), range(1, 5))
    assert failures == []
    assert len(list(store.uids())) == 20


def run_all(work: Callable[[int], None], studies: range) -> None:
    threads = [threading.Thread(target=work, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
