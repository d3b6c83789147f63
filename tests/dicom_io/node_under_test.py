"""A node within the test's process, peers that talk to it, and what lies on its disk."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from dicom_io.emit import Emission
from dicom_io.node import JobRequest, Node, NodeLimits, NodeRules, NodeSettings
from dicom_io.node.rules import PeerRule
from dicom_io.outbox import Outbox
from dicom_io.store import normal_uid
from tests.waiting import PATIENCE_S

LOOPBACK, TITLE, PEER = "127.0.0.1", "NODE", "SENDER"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class UnderTest:
    """A running node, its outbox and its log."""

    node: Node
    outbox: Outbox
    log: StringIO

    @property
    def port(self) -> int:
        return self.node.port

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of the log of one kind."""
        lines = (json.loads(line) for line in self.log.getvalue().splitlines())
        return [line for line in lines if line["event"] == name]

    def parts(self) -> list[Path]:
        """Temporary files of objects on their way in."""
        return list((self.node.journal.path.parent / "objects" / "incoming").iterdir())


def nothing_found(request: JobRequest) -> Emission:
    return Emission((), ())


def patient_limits(**limits: Any) -> NodeLimits:
    """Limits that nothing reaches on a slow machine, but those that are given: what a test is about."""
    patient = {"stop_s": PATIENCE_S, "request_s": PATIENCE_S, "idle_s": PATIENCE_S, "free_bytes": 1}
    return NodeLimits(**{**patient, **limits})


@contextmanager
def running(
    folder: Path,
    rules: NodeRules | None = None,
    runner: Callable[[JobRequest], Emission] = nothing_found,
    *,
    limits: NodeLimits | None = None,
    open_wire: Callable[[Outbox], Any] | None = None,
    tls: Any = None,
    port: int = 0,
    title: str = TITLE,
    **settings: Any,
) -> Iterator[UnderTest]:
    """A node in `folder` until the end of the block; by default `PEER` may send and nothing is done with it."""
    rules = rules or NodeRules((PeerRule(PEER, quiet_s=0.2),))
    limits = limits or patient_limits()
    log = StringIO()
    with Outbox.open(folder / "outbox") as outbox:
        given = NodeSettings(folder / "node", title, port=port, limits=limits, **settings)
        node = Node(given, rules, outbox, runner, open_wire=open_wire and open_wire(outbox), tls=tls, log_to=log)
        with node:
            yield UnderTest(node, outbox, log)


def associate(
    port: int, contexts: Sequence[str] = (CT,), *, title: str = PEER, called: str = TITLE, **more: Any
) -> Association:
    """An association, established or not."""
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = PATIENCE_S
    proposed = [build_context(one, [EXPLICIT]) for one in contexts]
    return entity.associate(LOOPBACK, port, contexts=proposed, ae_title=called, **more)


def echoes(port: int, **more: Any) -> bool:
    """Whether C-ECHO is answered with success."""
    association = associate(port, ["1.2.840.10008.1.1"], **more)
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status.get("Status") == 0)


def store(association: Association, dataset: Dataset) -> tuple[int, str]:
    """Status and comment that an object is answered with."""
    answer = association.send_c_store(dataset)
    return int(answer.Status), str(answer.get("ErrorComment", ""))


def send_all(port: int, datasets: Sequence[Dataset], title: str = PEER) -> list[int]:
    """Statuses of objects that are sent over one association."""
    association = associate(port, sorted({str(one.SOPClassUID) for one in datasets}), title=title)
    assert association.is_established
    statuses = [store(association, one)[0] for one in datasets]
    association.release()
    return statuses


def association_request(calling: str = PEER, called: str = TITLE, abstract_syntax: str = CT) -> bytes:
    """An A-ASSOCIATE-RQ PDU, made by pynetdicom."""
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    context = build_context(abstract_syntax, [EXPLICIT])
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16382, "1.2.3"
    primitive.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


@contextmanager
def raw(port: int) -> Iterator[socket.socket]:
    """A TCP connection that says nothing by itself."""
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S) as connection:
        yield connection


def read_pdu(connection: socket.socket) -> bytes:
    """A whole PDU; b'' where the peer closed."""
    header = _read(connection, 6)
    if len(header) < 6:
        return b""
    return header + _read(connection, struct.unpack_from(">L", header, 2)[0])


def _read(connection: socket.socket, count: int) -> bytes:
    buffer = BytesIO()
    while buffer.tell() < count:
        piece = connection.recv(count - buffer.tell())
        if not piece:
            break
        buffer.write(piece)
    return buffer.getvalue()


def kept(under_test: UnderTest, dataset: Dataset) -> bool:
    """Whether the object lies in the node's store and in its journal."""
    uid = normal_uid(str(dataset.SOPInstanceUID))
    return under_test.node.store.has(uid) and uid in under_test.node.journal.object_uids()
