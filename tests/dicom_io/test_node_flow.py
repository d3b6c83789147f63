"""From images to results in the archive: whole studies, jobs, what is answered for, storage commitment."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from little_objects import ct, ct_uid, sr, study_uid
from node_under_test import CT, PEER, TITLE, UnderTest, associate, patient_limits, running, send_all
from pydicom.dataset import Dataset
from pynetdicom import AE

from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Segment
from dicom_io import commitment, query
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.destination import WireSettings, open_wire
from dicom_io.emit import Emission, emit
from dicom_io.emit.source import SourceImages
from dicom_io.link import Link
from dicom_io.node import JobFailed, JobRequest, NodeRules
from dicom_io.node.completeness import look
from dicom_io.node.journal import Journal
from dicom_io.node.records import Arrival, ReceivedSeries
from dicom_io.node.rules import PeerRule, SeriesRule
from dicom_io.outbox import Outbox
from dicom_io.store import ObjectStore
from dicom_io.testbed.embedded import EmbeddedArchive
from tests.waiting import PATIENCE_S, until

IMAGES = 3
LIMITS = patient_limits()


def one_lesion(request: JobRequest) -> Emission:
    """A report of one lesion on the first image, and one without axes: what a model's runner gives."""
    (paths,) = request.paths.values()
    source = SourceImages.read(paths)
    uid = sorted(source.headers)[0]
    image = source.headers[uid][0].ref
    lesion = ReportedLesion(
        "1", image, "Lesion 1", coded("finding", "lesion"), long_axis=Segment((2.0, 2.0), (8.0, 8.0)),
        short_axis=Segment((3.0, 7.0), (7.0, 3.0)),
    )  # fmt: skip
    bare = ReportedLesion("2", image, "Lesion 2", coded("finding", "lesion"))
    result = Result(request.study_instance_uid, Author("model", "1"), (lesion, bare), request.made_at)
    return emit(result, source, request.rule.emit)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[EmbeddedArchive]:
    """Holds the images of one study, and a report in a series that nobody sends to the node."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(1, IMAGES + 1):
        ct(1, number).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    sr(1).save_as(folder / "sr.dcm", enforce_file_format=True)
    with EmbeddedArchive(folder) as embedded:
        yield embedded


def rules_for(served: EmbeddedArchive, **peer: Any) -> NodeRules:
    given = {"archive": served.address, "quiet_s": 0.2, **peer}
    rule = SeriesRule("lesions", Path("model"), served.address, peers=(PEER,))
    return NodeRules((PeerRule(PEER, **given), PeerRule("OTHER")), (rule,))


def wires(outbox: Outbox) -> Any:
    return partial(open_wire, settings=WireSettings(calling_ae=TITLE), outbox=outbox)


def test_a_study_is_whole_when_what_its_archive_lists_is_here_and_its_results_go_home(
    tmp_path: Path, archive: EmbeddedArchive
) -> None:
    with running(tmp_path, rules_for(archive), one_lesion, limits=LIMITS, open_wire=wires) as node:
        assert send_all(node.port, [ct(1, 1)]) == [0]
        until(lambda: node.events("study_waits"))
        assert node.events("study_waits")[0]["missing"] == IMAGES - 1
        assert node.node.journal.jobs_by_state() == {}
        assert send_all(node.port, [ct(1, 2), ct(1, 3)]) == [0, 0]
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        (made,) = node.node.journal.results()
        until(lambda: made.sop_instance_uid in {one.sop_instance_uid for one in archive.objects})
        until(lambda: node.outbox.counts()[archive.address].get("verified", 0) == 1)
        until(lambda: node.events("job_done"))
        assert [one["left_out"] for one in node.events("job_done")] == ["1 no_axes of dicom-sr"]


def test_the_same_study_once_more_is_no_new_job(tmp_path: Path, archive: EmbeddedArchive) -> None:
    images = [ct(1, number) for number in range(1, IMAGES + 1)]
    with running(tmp_path, rules_for(archive), one_lesion, limits=LIMITS) as node:
        send_all(node.port, images)
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        send_all(node.port, images)
        assert node.node.journal.studies_by_state() == {"whole": 1}
        assert len(node.events("job_started")) == 1


def test_a_study_whose_rest_never_comes_is_incomplete_and_not_looked_at(
    tmp_path: Path, archive: EmbeddedArchive
) -> None:
    with running(tmp_path, rules_for(archive, give_up_h=1 / 3600), one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.studies_by_state() == {"incomplete": 1})
        assert node.node.journal.jobs_by_state() == {}
        assert "2 listed objects are not here" in node.events("study_incomplete")[0]["why"]


def test_where_no_archive_can_be_asked_silence_has_to_do(tmp_path: Path, archive: EmbeddedArchive) -> None:
    with running(tmp_path, rules_for(archive, archive=""), one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})


def test_an_archive_that_is_away_makes_the_study_wait(tmp_path: Path, archive: EmbeddedArchive) -> None:
    with running(tmp_path, rules_for(archive, archive="AWAY@127.0.0.1:1"), one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.events("study_waits"))
        (waits, *_) = node.events("study_waits")
        assert (waits["kind"], waits["why"]) == (
            "ArchiveError", "AWAY@127.0.0.1:1: A-ASSOCIATE failed; it may pass")  # fmt: skip
        assert node.node.journal.studies_by_state() == {"receiving": 1}


def test_our_own_results_in_the_archive_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    ct(1, 1).save_as(tmp_path / "images" / "1.dcm", enforce_file_format=True)
    with EmbeddedArchive(tmp_path / "images") as archive:
        given = rules_for(archive)
        rules = replace(given, rules=(replace(given.rules[0], modalities=()),))
        with running(tmp_path, rules, one_lesion, limits=LIMITS, open_wire=wires) as node:
            journal = node.node.journal
            send_all(node.port, [ct(1, 1)])
            until(lambda: node.outbox.counts().get(archive.address, {}).get("verified") == 1)
            journal._database.execute("UPDATE study SET state = 'receiving', look_at_s = 0")  # as a late image would
            until(lambda: journal.studies_by_state() == {"whole": 1})


def test_a_study_that_the_archive_does_not_list_is_not_whole() -> None:
    class Empty:
        def find_series(self, study_instance_uid: str) -> tuple[()]:
            return ()

        def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[()]:
            raise AssertionError("nothing to ask for")

        def close(self) -> None: ...

    here = [ReceivedSeries("1.1", "CT", "", "", None, ("1.1.1",))]
    assert not look("1", here, Empty(), frozenset({"CT"})).is_whole


def test_a_job_that_fails_for_a_while_is_tried_again_and_a_hopeless_one_is_told(
    tmp_path: Path, archive: EmbeddedArchive
) -> None:
    tries: list[JobRequest] = []

    def failing(request: JobRequest) -> Emission:
        tries.append(request)
        raise JobFailed("the model is broken", temporary=len(tries) == 1)

    with running(tmp_path, rules_for(archive, archive=""), failing, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.jobs_by_state() == {"queued": 1} and node.events("job_failed"))
        node.node.journal._database.execute("UPDATE job SET due_s = 0")
        until(lambda: node.node.journal.jobs_by_state() == {"failed": 1} and len(node.events("job_failed")) == 2)
        assert [one["again"] for one in node.events("job_failed")] == [True, False]
        assert tries[0].made_at == tries[1].made_at


def test_results_that_the_outbox_cannot_take_now_are_put_into_it_later(
    tmp_path: Path, archive: EmbeddedArchive
) -> None:
    with running(tmp_path, rules_for(archive, archive=""), one_lesion, limits=LIMITS) as node:
        node.outbox._file._database.execute("PRAGMA query_only = ON")
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.jobs_by_state() == {"queued": 1} and node.events("job_failed"))
        node.outbox._file._database.execute("PRAGMA query_only = OFF")
        node.node.journal._database.execute("UPDATE job SET due_s = 0")
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        assert [one["again"] for one in node.events("job_failed")] == [True]
        assert len(node.outbox.parcels()) == 1


def test_deliveries_go_on_after_an_error_of_the_system(tmp_path: Path, archive: EmbeddedArchive) -> None:
    def stumbling(outbox: Outbox) -> Any:
        errors = [OSError(errno.EMFILE, "too many open files")]

        def open_one(destination: str) -> Any:
            if errors:
                raise errors.pop()
            return wires(outbox)(destination)

        return open_one

    with running(tmp_path, rules_for(archive), one_lesion, limits=LIMITS, open_wire=stumbling) as node:
        send_all(node.port, [ct(1, number) for number in range(1, IMAGES + 1)])
        until(lambda: node.outbox.counts().get(archive.address, {}).get("verified") == 1)
        assert node.events("not_delivered")[0]["why"] == "Too many open files"
        assert node.node.health_problems() == {}


def test_a_job_that_a_stop_interrupts_runs_again_and_makes_the_same_object(
    tmp_path: Path, archive: EmbeddedArchive
) -> None:
    begun, release = threading.Event(), threading.Event()

    def stuck(request: JobRequest) -> Emission:
        begun.set()
        release.wait()
        return Emission((), ())

    rules = rules_for(archive, archive="")
    with running(tmp_path, rules, stuck, limits=patient_limits(stop_s=0.3)) as node:
        send_all(node.port, [ct(1, 1)])
        assert begun.wait(PATIENCE_S)
        assert node.node.stop() is False
        node.node.journal.close()  # as the end of the process would
    with running(tmp_path, rules, one_lesion, limits=LIMITS) as node:
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        assert node.events("jobs_taken_up_again")[0]["count"] == 1
        assert len(node.node.journal.results()) == 1
    release.set()


def test_our_own_results_are_found_and_fetched_and_the_images_of_others_are_not(
    tmp_path: Path, archive: EmbeddedArchive
) -> None:
    with running(tmp_path, rules_for(archive, archive=""), one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        (made,) = node.node.journal.results()
        fetched = ObjectStore(tmp_path / "fetched")
        link = Link(Address(TITLE, "127.0.0.1", node.port), PEER, store=fetched, limits=Limits(idle_s=PATIENCE_S))
        (study,) = link.find(query.study_keys(query.Window(None, None)))
        assert (study.StudyInstanceUID, study.ModalitiesInStudy) == (study_uid(1), "SR")
        (series,) = link.find(query.series_keys(study_uid(1)))
        assert (series.SeriesInstanceUID, series.Modality) == (made.keys["SeriesInstanceUID"], "SR")
        (image,) = link.find(query.listing_keys(study_uid(1), series.SeriesInstanceUID))
        assert image.SOPInstanceUID == made.sop_instance_uid
        assert link.find(query.study_keys(query.Window(None, None), patient_id="NOBODY")) == []
        link.get(query.image_keys(study_uid(1), series.SeriesInstanceUID, [made.sop_instance_uid]))
        link.close()
        path, original = fetched.path(made.sop_instance_uid), node.outbox.parcels()[0]
        assert path is not None
        content = node.outbox.content(original)
        assert content is not None
        from dicom_io.object_file import ObjectFile

        assert ObjectFile.read(path).data_set_bytes() == ObjectFile.read(content).data_set_bytes()


def free_now(node: UnderTest) -> None:
    """As the node's thread does each minute: nothing else frees, however long a test takes."""
    studies = node.node._studies
    assert studies.stop(PATIENCE_S)
    studies._settings = replace(studies._settings, keep_images_h=0.0)
    studies._free()


def test_images_are_removed_when_their_time_is_over_and_results_stay(tmp_path: Path, archive: EmbeddedArchive) -> None:
    rules = rules_for(archive, archive="")
    with running(tmp_path, rules, one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        free_now(node)
        assert not node.node.store.has(ct_uid(1, 1))
        (made,) = node.node.journal.results()
        assert node.node.journal.has_object(ct_uid(1, 1), CT) is False
        assert node.node.journal.has_object(made.sop_instance_uid, made.sop_class_uid) is True
        assert send_all(node.port, [ct(1, 1)]) == [0]
        assert node.node.store.has(ct_uid(1, 1))


class Busy(Journal):
    """A journal into which a peer's object comes again at the moment at which its study is freed."""

    def freed(self, study_instance_uid: str, before_s: float) -> tuple[str, ...]:
        uids = super().freed(study_instance_uid, before_s)
        self.record_arrival(self.comes_again, 0.0, 0.0)
        return uids

    comes_again: Arrival


def test_an_object_that_comes_again_while_it_is_removed_stays(tmp_path: Path, archive: EmbeddedArchive) -> None:
    rules = rules_for(archive, archive="")
    with running(tmp_path, rules, one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1), ct(1, 2)])
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        journal = node.node.journal
        journal.__class__ = Busy
        assert isinstance(journal, Busy)
        (series,) = journal.series_of(study_uid(1))
        journal.comes_again = Arrival(
            PEER, study_uid(1), series.series_instance_uid, ct_uid(1, 1), CT, 1, "CT", "", "", None
        )
        free_now(node)
        assert node.node.store.has(ct_uid(1, 1))
        assert not node.node.store.has(ct_uid(1, 2))


# --- storage commitment ------------------------------------------------------------------------------------


def ask_for_commitment(association: Any, transaction_uid: str, *uids: str) -> int:
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        information.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(
        information, 1, commitment.StorageCommitmentPushModel, commitment.StorageCommitmentPushModelInstance
    )
    return int(status.Status)


def test_commitment_is_given_for_what_is_here_on_the_association_of_the_request(tmp_path: Path) -> None:
    reports: list[commitment.CommitmentReport] = []

    def keep(report: commitment.CommitmentReport) -> bool:
        reports.append(report)
        return True

    with running(tmp_path) as node:
        send_all(node.port, [ct(1, 1)])
        association = associate(
            node.port, [commitment.StorageCommitmentPushModel], evt_handlers=[commitment.handler(keep)]
        )
        assert ask_for_commitment(association, "9.1", ct_uid(1, 1), ct_uid(1, 2)) == 0
        until(lambda: node.events("report_taken"))
        association.release()  # not before its answer has gone out, which pynetdicom cannot send after a release
    (report,) = reports
    assert (report.transaction_uid, report.committed, dict(report.failed)) == (
        "9.1", (ct_uid(1, 1),), {ct_uid(1, 2): 0x0112})  # fmt: skip


def test_the_report_goes_to_the_address_of_the_rule_and_is_repeated_until_it_is_taken(tmp_path: Path) -> None:
    reports: list[commitment.CommitmentReport] = []
    answers = iter([False, True])

    def keep(report: commitment.CommitmentReport) -> bool:
        reports.append(report)
        return next(answers)

    entity = AE(ae_title=PEER)
    entity.add_supported_context(commitment.StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[commitment.handler(keep)])
    rules = NodeRules((PeerRule(PEER, report_to=f"{PEER}@127.0.0.1:{server.server_address[1]}"),))
    try:
        with running(tmp_path, rules) as node:
            send_all(node.port, [ct(1, 1)])
            association = associate(node.port, [commitment.StorageCommitmentPushModel])
            assert ask_for_commitment(association, "9.2", ct_uid(1, 1)) == 0
            association.release()
            until(lambda: node.events("report_taken"))
            assert len(node.events("report_not_taken")) == 1
    finally:
        server.shutdown()
    assert [one.transaction_uid for one in reports] == ["9.2", "9.2"]
    assert reports[1].committed == (ct_uid(1, 1),)


def test_a_request_that_was_taken_is_answered_by_the_next_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node")
    journal.record_commitment_request(PEER, "9.3", [(CT, ct_uid(1, 1))], 0.0)
    journal.close()
    with running(tmp_path) as node:
        until(lambda: node.events("report_not_taken"))
        assert "will not pass by itself" in node.events("report_not_taken")[0]["why"]
        assert node.events("report_not_taken")[0]["again"] is False


@pytest.mark.parametrize(("transaction", "uids", "status"), [("", ["1.2"], 0x0115), ("9.4", [], 0x0115)])
def test_a_request_that_says_too_little_is_refused(
    tmp_path: Path, transaction: str, uids: list[str], status: int
) -> None:
    with running(tmp_path) as node:
        association = associate(node.port, [commitment.StorageCommitmentPushModel])
        assert ask_for_commitment(association, transaction, *uids) == status
        association.release()


def test_reports_on_what_the_outbox_sent_are_kept_there(tmp_path: Path, archive: EmbeddedArchive) -> None:
    with running(tmp_path, rules_for(archive, archive=""), one_lesion, limits=LIMITS) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        (parcel,) = node.outbox.claim(archive.address, "send", 1e12, 10)
        from dicom_io.delivery_rules import Event, Happening

        node.outbox.record([(parcel, Happening(Event.STORED))], 0.0)
        (parcel,) = node.outbox.claim(archive.address, "confirm", 1e12, 10)
        node.outbox.request("9.5", [parcel], 0.0, 1e12)
        assert _report(node, "9.5", parcel.sop_instance_uid) == 0
        assert node.outbox.counts()[archive.address] == {"committed": 1}
        assert _report(node, "9.6", parcel.sop_instance_uid) == commitment.INVALID_ARGUMENT


def _report(node: UnderTest, transaction_uid: str, uid: str) -> int:
    """The node's answer to an archive's event report on an association of the archive's."""
    from pynetdicom import build_role

    item, information = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
    information.TransactionUID, information.ReferencedSOPSequence = transaction_uid, [item]
    model = commitment.StorageCommitmentPushModel
    association = associate(node.port, [model], ext_neg=[build_role(model, scp_role=True)])
    status, _ = association.send_n_event_report(information, 1, model, commitment.StorageCommitmentPushModelInstance)
    association.release()
    return int(status.Status)
