"""What the node made on its way: delivered as soon as it can be, and no association held for what cannot be yet."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

from listing_archive import ListingArchive
from test_delivery import QUICK, RESULTS, STUDY
from waiting import until

from dicom_io.delivery import Wire
from dicom_io.destination import WireSettings, open_wire
from dicom_io.node.deliveries import Deliveries
from dicom_io.node.log import NodeLog
from dicom_io.outbox import Outbox


def test_while_results_wait_for_their_study_no_association_is_held_and_then_they_go(tmp_path: Path) -> None:
    patient = replace(QUICK, study_patience_s=3600.0, first_pause_s=1.0, longest_pause_s=1.0)
    opened: list[Wire] = []
    closed: list[Wire] = []
    with ListingArchive(RESULTS, {}, report_on_same=1) as archive, Outbox.open(tmp_path / "outbox", patient) as outbox:
        destination = str(archive.address)

        def opener(where: str) -> Wire:
            wire = open_wire(where, WireSettings(), outbox)
            opened.append(wire)

            def close() -> None:
                wire.on_close()
                closed.append(wire)

            return replace(wire, on_close=close)

        outbox.put(RESULTS, destination)
        deliveries = Deliveries(outbox, [destination], opener, NodeLog(StringIO(), b"key"))
        deliveries.start()
        try:
            until(lambda: closed)
            assert outbox.awaiting(destination, 0.0) == len(RESULTS)
            archive.patients[STUDY] = ["P1"]
            until(lambda: outbox.counts()[destination] == {"committed": len(RESULTS)})
        finally:
            assert deliveries.stop(60.0)
    assert len(opened) == len(closed)
