"""The node's jobs are given the reports that their destination has, so that a corrected one names its predecessor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from little_objects import ct, study_uid
from node_under_test import PEER, UnderTest, running, send_all
from pydicom import dcmread

from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Segment
from dicom_io.emit import Emission
from dicom_io.emit.from_archive import emit_from
from dicom_io.emit.source import SourceImages
from dicom_io.node import JobRequest, NodeRules
from dicom_io.node.rules import PeerRule, SeriesRule
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from tests.waiting import PATIENCE_S, until

HERE, ELSEWHERE = "PACS@127.0.0.1:1", "OTHER@127.0.0.1:1"


def lesion_on_each_image(request: JobRequest) -> Emission:
    """A report that is another one as soon as the study has another image."""
    (paths,) = request.paths.values()
    images = sorted(headers[0].ref for headers in SourceImages.read(paths).headers.values())
    lesions = tuple(
        ReportedLesion(str(number), image, f"Lesion {number}", coded("finding", "lesion"),
                       long_axis=Segment((2.0, 2.0), (8.0, 8.0)), short_axis=Segment((3.0, 7.0), (7.0, 3.0)))
        for number, image in enumerate(images, start=1)
    )  # fmt: skip
    result = Result(request.study_instance_uid, Author("model", "1"), lesions, request.made_at)
    with ArchiveOpener(ArchiveSettings(paths=paths)) as opener, closing(opener.open()) as archive:
        return emit_from(archive, result, request.rule.emit, waiting=request.earlier)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[UnderTest]:
    """No archive can be asked, and none answers where results are to go: they stay in the outbox."""
    rule = SeriesRule("lesions", Path("model"), HERE, peers=(PEER,))
    given = NodeRules((PeerRule(PEER, archive="", quiet_s=0.2),), (rule,))
    with running(tmp_path, given, lesion_on_each_image) as under_test:
        yield under_test


def test_a_later_image_makes_a_report_that_names_the_first_and_the_job_says_so(node: UnderTest) -> None:
    for number in (1, 2):
        assert send_all(node.port, [ct(1, number)]) == [0]
        until(lambda number=number: len(node.events("job_done")) == number)  # type: ignore[misc]
    first, second = node.outbox.of_study(HERE, study_uid(1))
    assert node.outbox.of_study(ELSEWHERE, study_uid(1)) == ()
    content = node.outbox.content(second)
    assert content is not None
    (named,) = dcmread(BytesIO(content)).PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.sop_instance_uid
    assert [one["corrects"] for one in node.events("job_done")] == [0, 1]


def test_a_job_that_runs_again_makes_the_same_report(node: UnderTest) -> None:
    send_all(node.port, [ct(1, 1)])
    until(lambda: len(node.events("job_done")) == 1)
    node.node.journal._database.execute("UPDATE job SET state = 'queued', due_s = 0")
    until(lambda: len(node.events("job_done")) == 2)
    assert len(node.outbox.of_study(HERE, study_uid(1))) == 1
    assert [one["corrects"] for one in node.events("job_done")] == [0, 0]


def test_a_job_of_a_study_waits_for_the_one_before_it_and_those_of_other_studies_do_not(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def first_waits(request: JobRequest) -> Emission:
        if request.study_instance_uid == study_uid(1) and not begun.is_set():
            begun.set()
            assert release.wait(PATIENCE_S)
        return lesion_on_each_image(request)

    rule = SeriesRule("lesions", Path("model"), HERE, peers=(PEER,))
    given = NodeRules((PeerRule(PEER, archive="", quiet_s=0.2),), (rule,))
    with running(tmp_path, given, first_waits, concurrency=3) as node:
        for number in (1, 2):
            send_all(node.port, [ct(1, number)])
            until(lambda number=number: sum(node.node.journal.jobs_by_state().values()) == number)  # type: ignore[misc]
            assert begun.wait(PATIENCE_S)
        send_all(node.port, [ct(2, 1)])
        until(lambda: len(node.events("job_done")) == 1)
        assert len(node.events("job_started")) == 2  # the first one of each study
        release.set()
        until(lambda: len(node.events("job_done")) == 3)
        assert [one["corrects"] for one in node.events("job_done")] == [0, 0, 1]
        assert len(node.outbox.of_study(HERE, study_uid(1))) == 2
