"""No response is lost to pynetdicom's own reader thread, however slowly that thread comes to a stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from little_objects import ct_series_uid, study_objects, study_uid, write
from pynetdicom.association import Association

from dicom_io.address import Address
from dicom_io.dimse import DimseTransport
from dicom_io.store import ObjectStore
from dicom_io.testbed.embedded import EmbeddedArchive

IMAGES = 60


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[EmbeddedArchive]:
    write(tmp_path / "in", *study_objects(1, IMAGES))
    with EmbeddedArchive(tmp_path / "in") as served:
        yield served


@pytest.fixture
def late_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of an association of ours goes on after a wait when answers are there: a busy machine."""
    wait = threading.Event.wait

    def until_there_is_something_to_steal(event: threading.Event, timeout: float | None = None) -> bool:
        answer = wait(event, timeout)
        thread = threading.current_thread()
        if isinstance(thread, Association) and thread.is_requestor:
            deadline_s = time.monotonic() + 0.5
            while thread.dimse.msg_queue.empty() and time.monotonic() < deadline_s:
                time.sleep(0)
        return answer

    monkeypatch.setattr(threading.Event, "wait", until_there_is_something_to_steal)


@pytest.mark.usefixtures("late_reader")
def test_every_row_of_every_question_is_seen(archive: EmbeddedArchive, tmp_path: Path) -> None:
    transport = DimseTransport(Address.parse(archive.address), "MINER", ObjectStore(tmp_path / "store"))
    rows = [len(transport.find_instances(study_uid(1), ct_series_uid(1))) for _ in range(5)]
    transport.close()
    assert rows == [IMAGES] * 5


@pytest.mark.usefixtures("late_reader")
def test_an_archive_that_goes_away_does_not_make_us_wait_for_ever(archive: EmbeddedArchive, tmp_path: Path) -> None:
    transport = DimseTransport(Address.parse(archive.address), "MINER", ObjectStore(tmp_path / "store"))
    transport.echo()
    transport._link._association.abort()  # type: ignore[union-attr]
    transport.echo()
    transport.close()
