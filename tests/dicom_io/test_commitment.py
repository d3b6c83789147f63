"""An archive's word that it keeps objects: asked for on the association of sending, taken on whatever it comes by."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO

import pytest
from hostile_archive import ABORT, HostileArchive, send_report
from hypothesis import given, settings
from hypothesis import strategies as st
from little_objects import sr, sr_uid, study_objects
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel
from servers import LOOPBACK, Server

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io.address import Address
from dicom_io.commitment import CommitmentReport, Reference, read_report
from dicom_io.committing import Committer
from dicom_io.object_file import ObjectFile
from dicom_io.report_listener import ReportListener
from dicom_io.sending import StoreSender
from tests.waiting import PATIENCE_S, until

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"
TRANSACTION = "2.25.4711"


class Desk:
    """Takes reports of the transactions that it knows, as an outbox does."""

    def __init__(self, *transactions: str) -> None:
        self._transactions = transactions
        self._changed = threading.Condition()
        self.reports: list[CommitmentReport] = []

    def take(self, report: CommitmentReport) -> bool:
        with self._changed:
            if report.transaction_uid in self._transactions:
                self.reports.append(report)
                self._changed.notify_all()
            return report.transaction_uid in self._transactions

    def wait(self, count: int = 1) -> list[CommitmentReport]:
        """So many reports, or those that came until patience ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.reports) >= count, PATIENCE_S)
            return list(self.reports)


def as_files(*objects: Dataset) -> list[ObjectFile]:
    files = []
    for one in objects:
        buffer = BytesIO()
        dcmwrite(buffer, one, enforce_file_format=True)
        files.append(ObjectFile.read(buffer.getvalue()))
    return files


def pairs(objects: list[ObjectFile]) -> list[tuple[str, str]]:
    return [(one.sop_class_uid, one.sop_instance_uid) for one in objects]


# --- a real archive --------------------------------------------------------------------------------------


@pytest.mark.servers
def test_orthanc_reports_on_an_association_of_its_own_what_it_has_and_what_not(target: Server) -> None:
    if target.name != "orthanc":
        pytest.skip("dcmqrscp offers no commitment")
    objects, desk = as_files(*study_objects(71, 3)), Desk(TRANSACTION)
    references = [*pairs(objects), (CT, "1.2.3.4.5"), (CT, sr_uid(71))]
    with (
        ReportListener("MINER", desk.take, host=LOOPBACK, port=target.move_port),
        StoreSender(Address.parse(target.address), "MINER", on_report=desk.take) as sender,
    ):
        assert all(one.accepted for one in sender.send(objects))
        assert Committer(sender).request(TRANSACTION, references)
        (report,) = desk.wait()
    ours = {one.sop_instance_uid for one in objects}
    assert set(report.committed) == ours - {sr_uid(71)}
    assert report.failed == {"1.2.3.4.5": 0x0112, sr_uid(71): 0x0119}, "not there; of another class"


@pytest.mark.servers
def test_a_title_that_orthanc_does_not_list_gets_no_commitment_and_no_error(target: Server) -> None:
    """It accepts the context and drops the association at the request; dcmqrscp refuses the context."""
    objects = as_files(sr(72))
    with StoreSender(Address.parse(target.address), "STRANGER") as sender:
        assert Committer(sender).request(TRANSACTION, pairs(objects)) is False
        assert all(one.accepted for one in sender.send(objects)), "sending goes on"


# --- the request -----------------------------------------------------------------------------------------


def test_an_archive_that_does_not_offer_the_service_is_told_from_one_that_is_away() -> None:
    objects = as_files(sr(1))
    with HostileArchive(commitment=False) as archive, StoreSender(archive.address, "MINER") as sender:
        assert not sender.takes_commitment
        assert Committer(sender).request(TRANSACTION, pairs(objects)) is False
        with pytest.raises(ArchiveError, match="offers no storage commitment") as caught:
            sender.request_commitment(TRANSACTION, [Reference(*one) for one in pairs(objects)])
    assert not caught.value.temporary


@pytest.mark.parametrize(("status", "temporary"), [(0x0110, True), (0x0213, True), (0x0131, False), (0x0124, False)])
def test_a_refused_request_says_whether_to_ask_again(status: int, temporary: bool) -> None:
    with HostileArchive(action_status=status) as archive, StoreSender(archive.address, "MINER") as sender:
        assert all(one.accepted for one in sender.send(as_files(sr(2))))
        with pytest.raises(ArchiveError, match="storage commitment refused") as caught:
            Committer(sender).request(TRANSACTION, [(SR, sr_uid(1))])
        assert all(one.accepted for one in sender.send(as_files(sr(1)))), "the association lives"
    assert (caught.value.status, caught.value.temporary) == (status, temporary)
    assert archive.associations == 1


def test_an_archive_that_drops_every_request_counts_as_one_without_the_service() -> None:
    with HostileArchive(action_status=ABORT) as archive, StoreSender(archive.address, "MINER") as sender:
        assert Committer(sender).request(TRANSACTION, [(SR, sr_uid(1))]) is False


def test_commitment_of_nothing_is_a_mistake_of_ours() -> None:
    with HostileArchive() as archive, StoreSender(archive.address, "MINER") as sender, pytest.raises(ValueError):
        sender.request_commitment(TRANSACTION, [])


# --- reports on the association of the request -----------------------------------------------------------


def test_a_report_on_the_same_association_is_taken_and_answered() -> None:
    objects, desk = as_files(*study_objects(1, 2)), Desk(TRANSACTION)
    with (
        HostileArchive(report_on_same=1) as archive,
        StoreSender(archive.address, "MINER", on_report=desk.take) as sender,
    ):
        list(sender.send(objects))
        assert Committer(sender).request(TRANSACTION, [*pairs(objects), (SR, "1.2.3")])
        (report,) = desk.wait()
        until(lambda: archive.report_statuses == [0x0000])
        assert all(one.accepted for one in sender.send(objects)), "the association goes on"
    assert report.committed == tuple(sorted(one.sop_instance_uid for one in objects))
    assert report.failed == {"1.2.3": 0x0112}
    assert archive.associations == 1
    until(lambda: archive.released == 1)


def test_reports_that_come_while_we_send_take_no_answer_and_lose_no_object() -> None:
    """Their answers go out from another thread: fragments of two messages must not mix."""
    objects = as_files(*study_objects(1, 60))
    transactions = [f"2.25.{number}" for number in range(1, 9)]
    desk = Desk(*transactions)
    with (
        HostileArchive(report_on_same=1) as archive,
        StoreSender(archive.address, "MINER", on_report=desk.take) as sender,
    ):
        answers = []
        for number, answer in enumerate(sender.send(objects)):
            answers.append(answer)
            if number % 8 == 0:
                sender.request_commitment(transactions[number // 8], [Reference(CT, answer.sop_instance_uid)])
        reports = desk.wait(len(transactions))
        until(lambda: len(archive.report_statuses) == len(transactions))
    assert all(one.accepted for one in answers)
    assert len(archive.stored) == len(objects) == len(archive.arrivals)
    assert {one.transaction_uid for one in reports} == set(transactions)
    assert archive.report_statuses == [0x0000] * len(transactions)


# --- reports on an association of the archive's ----------------------------------------------------------


@pytest.fixture
def desk() -> Desk:
    return Desk(TRANSACTION)


@pytest.fixture
def listener(desk: Desk) -> Iterator[ReportListener]:
    with ReportListener("MINER", desk.take, host=LOOPBACK) as listening:
        yield listening


def report_data_set(transaction: str, committed: list[str], failed: dict[str, int] | None = None) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = Sequence(_item(uid) for uid in committed)
    if failed:
        information.FailedSOPSequence = Sequence(_item(uid, reason) for uid, reason in failed.items())
    return information


def _item(uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SR, uid
    if reason is not None:
        item.FailureReason = reason
    return item


def reported(
    listener: ReportListener, information: Dataset, event_type: int | None = None, *, selects_role: bool = True
) -> int | None:
    """The status with which a report is answered that an archive brings."""
    entity = AE(ae_title="ARCHIVE")
    entity.add_requested_context(StorageCommitmentPushModel)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if selects_role else []
    association = entity.associate(LOOPBACK, listener.port, ext_neg=roles)
    assert association.is_established
    try:
        if selects_role:
            return send_report(association, information, event_type)
        # pynetdicom does not send what its default role does not allow; archives do.
        association.accepted_contexts[0]._as_scp = True
        return send_report(association, information, event_type)
    finally:
        association.release()


@pytest.mark.parametrize("selects_role", [True, False])
def test_an_archive_may_report_later_over_an_association_that_it_opens(
    desk: Desk, listener: ReportListener, selects_role: bool
) -> None:
    information = report_data_set(TRANSACTION, ["1.2.1", "1.2.2"], {"1.2.3": 0x0213})
    assert reported(listener, information, selects_role=selects_role) == 0x0000
    assert desk.reports == [CommitmentReport(TRANSACTION, ("1.2.1", "1.2.2"), {"1.2.3": 0x0213})]


def test_a_report_may_come_twice(desk: Desk, listener: ReportListener) -> None:
    information = report_data_set(TRANSACTION, ["1.2.1"])
    assert [reported(listener, information) for _ in range(2)] == [0x0000, 0x0000]
    assert desk.reports[0] == desk.reports[1]


def test_a_report_on_a_transaction_that_is_not_ours_is_refused_and_kept_nowhere(
    desk: Desk, listener: ReportListener
) -> None:
    assert reported(listener, report_data_set("2.25.666", ["1.2.1"])) == 0x0115
    assert reported(listener, report_data_set("", ["1.2.1"])) == 0x0115
    assert desk.reports == []


def test_a_report_of_a_kind_that_does_not_exist_is_refused(desk: Desk, listener: ReportListener) -> None:
    assert reported(listener, report_data_set(TRANSACTION, ["1.2.1"]), event_type=3) == 0x0113
    assert desk.reports == []


def test_a_report_that_could_not_be_kept_is_not_acknowledged() -> None:
    def disk_full(report: CommitmentReport) -> bool:
        raise OSError("no space left")

    with ReportListener("MINER", disk_full, host=LOOPBACK) as listening:
        assert reported(listening, report_data_set(TRANSACTION, ["1.2.1"])) == 0x0110


def test_what_a_report_says_twice_about_an_object_counts_as_failed() -> None:
    report = read_report(report_data_set(TRANSACTION, ["1.2.1", "1.2.2", ""], {"1.2.2": 0x0112}))
    assert report == CommitmentReport(TRANSACTION, ("1.2.1",), {"1.2.2": 0x0112})


@settings(max_examples=30)
@given(st.sets(st.from_regex(r"1\.2\.[1-9][0-9]{0,8}", fullmatch=True)), st.data())
def test_a_report_holds_each_object_once_whatever_its_order(uids: set[str], data: st.DataObject) -> None:
    failing = data.draw(st.sets(st.sampled_from(sorted(uids))) if uids else st.just(set()))
    order = data.draw(st.permutations(sorted(uids - failing)))
    report = read_report(report_data_set(TRANSACTION, order, dict.fromkeys(failing, 272)))
    assert (set(report.committed), set(report.failed)) == (uids - failing, failing)
    assert list(report.committed) == sorted(report.committed)


def test_a_port_that_is_taken_is_named(listener: ReportListener, desk: Desk) -> None:
    with pytest.raises(ConfigError, match=rf"commitment reports MINER on 127\.0\.0\.1:{listener.port}: .*in use"):
        ReportListener("MINER", desk.take, host=LOOPBACK, port=listener.port)


def test_the_listener_answers_who_looks_whether_it_is_there(listener: ReportListener) -> None:
    entity = AE(ae_title="ARCHIVE")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate(LOOPBACK, listener.port)
    assert association.send_c_echo().Status == 0x0000
    association.release()
