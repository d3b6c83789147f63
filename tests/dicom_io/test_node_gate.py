"""Who gets an association of the node, and what everybody else costs it: little."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from certificates import make_certificates
from little_objects import ct
from node_under_test import (
    PEER,
    UnderTest,
    associate,
    association_request,
    echoes,
    patient_limits,
    raw,
    read_pdu,
    running,
    send_all,
)

from deeplesion_miner.errors import ConfigError
from dicom_io.node import NodeRules
from dicom_io.node.rules import PeerRule
from dicom_io.tls import client_context, server_context
from tests.waiting import until

REJECT, ABORT = 3, 7


@pytest.fixture
def node(tmp_path: Path) -> Iterator[UnderTest]:
    limits = patient_limits(associations=3, waiting=20)
    rules = NodeRules((PeerRule(PEER, associations=2), PeerRule("FAR", host="192.0.2.1"), PeerRule("OTHER")))
    with running(tmp_path, rules, limits=limits) as under_test:
        yield under_test


@pytest.mark.parametrize(
    ("calling", "called", "answer", "why"),
    [
        ("STRANGER", "NODE", (1, 1, 3), "unknown_calling_title"),
        (PEER, "ELSE", (1, 1, 7), "unknown_called_title"),
        (PEER.lower(), "NODE", (1, 1, 3), "unknown_calling_title"),
        ("FAR", "NODE", (1, 1, 3), "wrong_host"),
    ],
)
def test_titles_and_hosts_are_compared_to_the_letter_and_refused_with_the_standards_reason(
    node: UnderTest, calling: str, called: str, answer: tuple[int, int, int], why: str
) -> None:
    with raw(node.port) as connection:
        connection.sendall(association_request(calling, called))
        pdu = read_pdu(connection)
    assert (pdu[0], tuple(pdu[7:10])) == (REJECT, answer)
    assert node.node.metrics.value("associations_total", outcome=why) == 1
    assert echoes(node.port)


def test_one_peer_cannot_take_the_associations_of_the_others(node: UnderTest) -> None:
    first, second = associate(node.port), associate(node.port)
    third = associate(node.port)
    assert first.is_established
    assert second.is_established
    assert third.is_rejected
    assert third.acceptor.primitive.result == 2  # transient: try again later
    other = associate(node.port, title="OTHER")
    assert other.is_established
    assert associate(node.port, title="OTHER").is_rejected  # the node's own limit
    first.release()
    until(lambda: node.node._admission.inside() == 2)
    assert echoes(node.port)
    second.release()
    other.release()


def test_a_flood_of_silent_connections_keeps_nobody_out_and_costs_no_threads(node: UnderTest) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(raw(node.port))
        assert echoes(node.port)
        until(lambda: threading.active_count() <= before)
        assert node.node._gate.waiting <= 20
    until(lambda: node.node._gate.waiting == 0)


def test_who_does_not_ask_for_an_association_in_time_is_closed(tmp_path: Path) -> None:
    with running(tmp_path, limits=patient_limits(request_s=1.0)) as under_test:
        with raw(under_test.port) as silent, raw(under_test.port) as slow:
            with suppress(ConnectionError):  # closed before it was sent: this process stood still
                slow.sendall(association_request()[:50])
            assert is_closed(silent)
            assert is_closed(slow)
        assert under_test.node.metrics.value("connections_total", outcome="silent") == 2


def is_closed(connection: socket.socket) -> bool:
    """Waits for the end of a connection on which nothing comes."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("bytes_", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", "no_dicom"),
        (struct.pack(">BBL", 1, 0, 2**31), "request_size"),
        (struct.pack(">BBL", 1, 0, 4), "request_size"),
    ],
    ids=["http", "huge", "tiny"],
)
def test_what_is_no_request_is_aborted_before_memory_is_taken(node: UnderTest, bytes_: bytes, reason: str) -> None:
    with raw(node.port) as connection:
        connection.sendall(bytes_)
        assert read_pdu(connection)[0] == ABORT
    assert node.node.metrics.value("associations_total", outcome=reason) == 1
    assert echoes(node.port)


@pytest.mark.parametrize("length", [2**31, 2**32 - 1, 262_144 + 2048])
def test_a_pdu_larger_than_announced_is_answered_by_an_abort_and_not_read(node: UnderTest, length: int) -> None:
    with raw(node.port) as connection:
        connection.sendall(association_request())
        assert read_pdu(connection)[0] == 2
        connection.sendall(struct.pack(">BBL", 4, 0, length))
        assert read_pdu(connection)[0] == ABORT
    until(lambda: node.node._admission.inside() == 0)
    until(lambda: node.node.metrics.value("aborts_total", reason="pdu_size") == 1)
    assert send_all(node.port, [ct(1, 1)]) == [0]


@pytest.mark.parametrize(
    ("fragments", "reason"),
    [
        ([(1, 3, b"\0" * 20_000)], "command_size"),
        ([(1, 1, b"\0" * 9_000), (1, 1, b"\0" * 9_000)], "command_size"),
        ([(99, 3, b"\0" * 20)], "fragment"),
        ([(1, 0, b"\0" * 20)], "fragment"),
        ([(1, 3, b"\xff" * 20)], "command"),
    ],
    ids=["large command", "large in parts", "unknown context", "data before a command", "no command set"],
)
def test_messages_that_cannot_be_end_the_association_and_nothing_else(
    node: UnderTest, fragments: list[tuple[int, int, bytes]], reason: str
) -> None:
    with raw(node.port) as connection:
        connection.sendall(association_request())
        assert read_pdu(connection)[0] == 2
        for context_id, header, data in fragments:
            value = struct.pack(">LBB", len(data) + 2, context_id, header) + data
            connection.sendall(struct.pack(">BBL", 4, 0, len(value)) + value)
        assert read_pdu(connection)[0] == ABORT
    until(lambda: node.node._admission.inside() == 0)
    until(lambda: node.node.metrics.value("aborts_total", reason=reason) == 1)
    assert echoes(node.port)


def test_a_peer_that_stops_in_the_middle_of_a_pdu_is_given_up(tmp_path: Path) -> None:
    limits = patient_limits(idle_s=0.7)
    with running(tmp_path, limits=limits) as under_test, raw(under_test.port) as connection:
        connection.sendall(association_request())
        assert read_pdu(connection)[0] == 2
        with suppress(ConnectionError):  # given up before: this process stood still
            connection.sendall(struct.pack(">BBL", 4, 0, 1000) + bytes(10))
        until(lambda: under_test.node._admission.inside() == 0)


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, node: UnderTest) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on .*{node.port}"):
        running(tmp_path / "second", port=node.port).__enter__()


# --- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(tmp_path: Path, certificates: Path) -> Iterator[UnderTest]:
    tls = server_context(certificates / "ca.crt", certificates / "server.crt", certificates / "server.key")
    with running(tmp_path, limits=patient_limits(), tls=tls) as under_test:
        yield under_test


def context_of(certificates: Path, name: str) -> ssl.SSLContext:
    return client_context(certificates / "ca.crt", certificates / f"{name}.crt", certificates / f"{name}.key")


def test_objects_come_in_over_tls_from_who_shows_a_certificate(secure: UnderTest, certificates: Path) -> None:
    association = associate(secure.port, tls_args=(context_of(certificates, "client"), "localhost"))
    assert association.is_established
    large = ct(1, 1)
    large.Rows = large.Columns = 512
    large.PixelData = bytes(range(256)) * (2 * 512 * 2)
    assert association.send_c_store(large).Status == 0
    association.release()
    path = secure.node.store.path(large.SOPInstanceUID)
    assert path is not None
    assert path.read_bytes().endswith(large.PixelData)


def test_without_a_certificate_or_with_a_foreign_one_or_without_tls_there_is_no_association(
    secure: UnderTest, certificates: Path
) -> None:
    none = client_context(certificates / "ca.crt", None, None)
    assert not echoes(secure.port, tls_args=(none, "localhost"))
    assert not echoes(secure.port, tls_args=(context_of(certificates, "rogue"), "localhost"))
    assert not echoes(secure.port)
    assert secure.events("tls_failed")
    assert echoes(secure.port, tls_args=(context_of(certificates, "client"), "localhost"))


def test_a_handshake_that_does_not_go_on_makes_nobody_wait(secure: UnderTest, certificates: Path) -> None:
    with raw(secure.port) as stalled:
        stalled.sendall(b"\x16\x03\x01\x02")
        assert echoes(secure.port, tls_args=(context_of(certificates, "client"), "localhost"))
        assert secure.node._gate.waiting == 1, "the other one waits, and the echo did not wait for it"


def test_a_handshake_that_does_not_go_on_is_given_up(tmp_path: Path, certificates: Path) -> None:
    tls = server_context(certificates / "ca.crt", certificates / "server.crt", certificates / "server.key")
    with (
        running(tmp_path, limits=patient_limits(request_s=1.0), tls=tls) as under_test,
        raw(under_test.port) as stalled,
    ):
        stalled.sendall(b"\x16\x03\x01\x02")
        assert is_closed(stalled)


def test_a_socket_that_is_reset_at_once_is_nobodys_trouble(node: UnderTest) -> None:
    for _ in range(20):
        with raw(node.port) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert echoes(node.port)
