"""The node and a real archive: Orthanc sends images and asks for commitment, takes results and reports on them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from little_objects import ct, ct_uid, study_uid
from node_under_test import running
from servers import CALLING_AE, Server, free_port, orthanc
from test_node_flow import LIMITS, one_lesion

from dicom_io.destination import WireSettings, open_wire
from dicom_io.node import NodeRules
from dicom_io.node.rules import PeerRule, SeriesRule
from dicom_io.outbox import Outbox
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

IMAGES = 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Orthanc with the images of one study, which knows the node under `CALLING_AE`."""
    images = tmp_path_factory.mktemp("images")
    for number in range(1, IMAGES + 1):
        ct(1, number).save_as(images / f"{number}.dcm", enforce_file_format=True)
    with orthanc(tmp_path_factory.mktemp("orthanc"), web=True, move_port=free_port()) as server:
        server.send(images)
        yield server


def rest(server: Server, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{server.rest}/{path}", data, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def test_orthanc_sends_a_study_and_asks_for_commitment_and_the_results_lie_committed_in_it(
    tmp_path: Path, archive: Server
) -> None:
    peer = PeerRule("ORTHANC", archive=archive.address, quiet_s=0.5, report_to=archive.address)
    rules = NodeRules((peer,), (SeriesRule("lesions", Path("model"), archive.address),))

    def wires(outbox: Outbox) -> Any:
        return partial(open_wire, settings=WireSettings(calling_ae=CALLING_AE), outbox=outbox)

    with running(
        tmp_path, rules, one_lesion, limits=LIMITS, open_wire=wires, title=CALLING_AE, port=archive.move_port
    ) as node:
        (study,) = rest(archive, "tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_uid(1)}})
        sent = rest(archive, "modalities/miner/store", {"Resources": [study], "StorageCommitment": True})
        assert sent["FailedInstancesCount"] == 0
        assert node.node.journal.object_uids() >= {ct_uid(1, number) for number in range(1, IMAGES + 1)}
        transaction = sent["StorageCommitmentTransactionUID"]
        until(lambda: rest(archive, f"storage-commitment/{transaction}")["Status"] == "Success")

        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        until(lambda: node.outbox.counts()[archive.address] == {"committed": 1})
        until(lambda: node.events("report_came"))
        assert node.events("report_came")[0]["is_ours"] is True
        (made,) = node.node.journal.results()
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": made.sop_instance_uid}}
        assert len(rest(archive, "tools/find", query)) == 1
