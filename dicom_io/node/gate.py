"""Before an association: connections wait here without a thread of their own until they have asked for one.

One thread looks after all of them: TLS handshakes, the first PDU, time limits, rejections. pynetdicom spends two
threads on a connection before it has said a word, and makes all others wait for a TLS handshake; so it only gets
those that were admitted, with the A-ASSOCIATE-RQ that was read.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from deeplesion_miner.errors import ConfigError
from dicom_io.node.admission import (
    ASSOCIATE_RQ,
    FIXED_BYTES,
    HEADER_BYTES,
    Admission,
    Peer,
    Rejection,
    abort_pdu,
    parse,
)
from dicom_io.node.limits import NodeLimits
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics

_TICK_S = 0.25
_LINGER_S = 2.0
"""What a rejected peer gets to close the connection, so that it can read why."""
_BACKLOG = 512

Enter = Callable[[socket.socket, tuple[str, int], bytes, Peer], None]
"""Takes an admitted connection, its remote address and the A-ASSOCIATE-RQ that was read from it."""


@dataclass(eq=False)
class _Waiting:
    """A connection that has not asked yet, or that was answered and has not closed yet."""

    connection: socket.socket
    remote: tuple[str, int]
    until_s: float
    is_handshaking: bool
    is_answered: bool = False
    read: bytearray = field(default_factory=bytearray)


class Gate:
    """Listens on `host`:`port` (0 takes a free one) from construction to `close`; `start` lets it look."""

    def __init__(
        self,
        address: tuple[str, int],
        admission: Admission,
        limits: NodeLimits,
        enter: Enter,
        *,
        tls: ssl.SSLContext | None,
        log: NodeLog,
        metrics: Metrics,
    ) -> None:
        self._admission, self._limits, self._enter = admission, limits, enter
        self._tls, self._log, self._metrics = tls, log, metrics
        try:
            self._listener = socket.create_server(address, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waiting: dict[socket.socket, _Waiting] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="gate")

    def start(self) -> None:
        """Begins to accept."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False where nobody accepts any more."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Connections without an association."""
        return len(self._waiting)

    def close(self) -> None:
        """Stops listening; connections that wait are closed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for one in list(self._waiting.values()):
            self._drop(one)
        self._selector.close()
        self._listener.close()

    # --- the one thread ------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(_TICK_S):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    waiting: _Waiting = key.data
                    if self._waiting.get(waiting.connection) is waiting:
                        self._go_on(waiting)
            self._drop_late()

    def _accept(self) -> None:
        while True:
            try:
                connection, remote = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # descriptors are used up, or the peer has gone already
                self._metrics.count("connections_total", outcome="not_accepted")
                self._log.warning("not_accepted", why=error.strerror or type(error).__name__)
                time.sleep(_TICK_S)
                return
            host = remote[0]
            if not self._admission.may_connect(host):
                connection.close()
                self._metrics.count("connections_total", outcome="unknown_host")
                self._log.warning("unknown_host", host=host)
                continue
            if len(self._waiting) >= self._limits.waiting:
                self._drop_longest()
            self._take(connection, (host, remote[1]))

    def _take(self, connection: socket.socket, remote: tuple[str, int]) -> None:
        connection.setblocking(False)
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            except OSError:  # the peer has gone already
                connection.close()
                return
        until_s = time.monotonic() + self._limits.request_s
        waiting = _Waiting(connection, remote, until_s, is_handshaking=self._tls is not None)
        self._waiting[connection] = waiting
        self._selector.register(connection, selectors.EVENT_READ, waiting)
        self._metrics.count("connections_total", outcome="accepted")

    def _go_on(self, waiting: _Waiting) -> None:
        """Does what can be done for a connection without waiting."""
        try:
            if waiting.is_handshaking:
                assert isinstance(waiting.connection, ssl.SSLSocket)
                waiting.connection.do_handshake()
                waiting.is_handshaking = False
            self._read(waiting)
        except (ssl.SSLWantReadError, BlockingIOError):
            self._selector.modify(waiting.connection, selectors.EVENT_READ, waiting)
        except ssl.SSLWantWriteError:
            self._selector.modify(waiting.connection, selectors.EVENT_WRITE, waiting)
        except ssl.SSLError as error:
            self._metrics.count("connections_total", outcome="tls_failed")
            self._log.warning("tls_failed", host=waiting.remote[0], why=error.reason or type(error).__name__)
            self._drop(waiting)
        except OSError:
            self._drop(waiting)

    def _read(self, waiting: _Waiting) -> None:
        """Reads the first PDU up to its end, never beyond; what follows an answer is thrown away."""
        while True:
            if waiting.is_answered:
                wanted = 4096
            else:
                wanted = self._wanted(waiting)
                if wanted == 0:
                    return
            piece = waiting.connection.recv(wanted)
            if not piece:
                self._drop(waiting)
                return
            if not waiting.is_answered:
                waiting.read += piece

    def _wanted(self, waiting: _Waiting) -> int:
        """How many bytes the first PDU lacks; 0 where the connection was answered or handed over."""
        read = waiting.read
        if read and read[0] != ASSOCIATE_RQ:
            self._answer(waiting, abort_pdu(1), "no_dicom")
            return 0
        if len(read) < HEADER_BYTES:
            return HEADER_BYTES - len(read)
        (length,) = struct.unpack_from(">L", read, 2)
        if not FIXED_BYTES - HEADER_BYTES <= length <= self._limits.request_bytes:
            self._answer(waiting, abort_pdu(6), "request_size")
            return 0
        missing = HEADER_BYTES + length - len(read)
        if missing == 0:
            self._decide(waiting)
        return int(missing)

    def _decide(self, waiting: _Waiting) -> None:
        request = parse(bytes(waiting.read))
        decision = self._admission.decide(request, waiting.remote[0])
        if isinstance(decision, Rejection):
            self._log.warning(
                "rejected", host=waiting.remote[0], calling=request.calling, called=request.called, why=decision.word
            )
            self._answer(waiting, decision.encoded(), decision.word)
            return
        self._selector.unregister(waiting.connection)
        del self._waiting[waiting.connection]
        self._metrics.count("associations_total", outcome="admitted")
        try:
            waiting.connection.settimeout(self._limits.idle_s)
            self._enter(waiting.connection, waiting.remote, bytes(waiting.read), decision)
        except (OSError, RuntimeError) as error:  # the peer has gone, or no thread can be started
            self._admission.leave(decision)
            self._log.warning("not_served", error, host=waiting.remote[0])
            waiting.connection.close()

    def _answer(self, waiting: _Waiting, pdu: bytes, word: str) -> None:
        """Sends a last PDU and waits a little for the peer to close."""
        self._metrics.count("associations_total", outcome=word)
        waiting.is_answered = True
        waiting.until_s = time.monotonic() + _LINGER_S
        with suppress(OSError):
            waiting.connection.send(pdu)
            waiting.connection.shutdown(socket.SHUT_WR)

    def _drop_late(self) -> None:
        now_s = time.monotonic()
        for one in [one for one in self._waiting.values() if one.until_s < now_s]:
            if not one.is_answered:
                self._metrics.count("connections_total", outcome="silent")
                self._log.warning("silent", host=one.remote[0])
            self._drop(one)

    def _drop_longest(self) -> None:
        """Closes the connection that has waited longest; a dict keeps the order of arrival."""
        self._metrics.count("connections_total", outcome="crowded_out")
        self._drop(next(iter(self._waiting.values())))

    def _drop(self, waiting: _Waiting) -> None:
        del self._waiting[waiting.connection]
        with suppress(KeyError, ValueError):
            self._selector.unregister(waiting.connection)
        with suppress(OSError):
            waiting.connection.close()
