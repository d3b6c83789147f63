"""A report that another thread serves while an association of ours is released."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hostile_archive import HostileArchive
from test_commitment import SR, TRANSACTION

from dicom_io import association as associations
from dicom_io import commitment
from tests.waiting import PATIENCE_S, until


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_answer_that_comes_too_late_for_a_release_is_left_out() -> None:
    came, asked, answered = threading.Event(), threading.Event(), threading.Event()
    made: list[Any] = []

    def take(report: commitment.CommitmentReport) -> bool:
        came.set()
        assert asked.wait(PATIENCE_S)
        answered.set()
        return True

    with HostileArchive(report_on_same=1) as archive:
        limits = associations.Limits(negotiate_s=PATIENCE_S)
        handlers = [commitment.handler(take)]
        contexts = [commitment.context()]
        made.append(associations.associate(archive.address, "MINER", contexts, limits=limits, handlers=handlers))
        assert commitment.request(made[0], "ARCHIVE", TRANSACTION, [commitment.Reference(SR, "1.2.3")])
        assert came.wait(PATIENCE_S)
        send_release = made[0].acse.send_release

        def send_and_tell(is_response: bool = False) -> None:
            send_release(is_response)
            asked.set()

        made[0].acse.send_release = send_and_tell
        associations.release(made[0])
        assert answered.wait(PATIENCE_S)
        assert made[0].is_released
        until(lambda: archive.released == 1)
