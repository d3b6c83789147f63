"""A proxy before a real archive that understands DIMSE well enough to hurt: it refuses, lies, cuts and drops.

It stands between a storage SCU and an archive, or between an archive and the receiver of its commitment reports. What
happens to each message is drawn by a seeded die.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

LOOPBACK = "127.0.0.1"
P_DATA = 0x04
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
COMMAND_FIELD, MESSAGE_ID, SOP_INSTANCE, STATUS = (0x0000, 0x0100), (0x0000, 0x0110), (0x0000, 0x1000), (0x0000, 0x0900)
SOP_CLASS = (0x0000, 0x0002)
A_ABORT = bytes.fromhex("07000000000400000200")
REJECT_TRANSIENT = bytes.fromhex("0300000000040002 0302".replace(" ", ""))
"""Result 2 (transient), source 3 (service provider), diagnostic 2 (local limit exceeded)."""


@dataclass(frozen=True)
class Chances:
    """Of what befalls a connection, a stored object or any other request; 0 to 1."""

    close_at_connect: float = 0.0
    reject_transient: float = 0.0
    refuse: Mapping[int, float] = field(default_factory=dict)
    """Answered with this status; the archive never sees it."""
    warn: Mapping[int, float] = field(default_factory=dict)
    """Stored, and the answer's status replaced."""
    lie: Mapping[int, float] = field(default_factory=dict)
    """Stored, and the answer replaced by a failure."""
    reset_before: float = 0.0
    reset_after: float = 0.0
    """The archive has stored it; its answer is lost."""
    cut: float = 0.0
    """Half of the request reaches the archive."""
    abort: float = 0.0
    silence: float = 0.0
    """The archive has stored it; its answer never comes, and the connection stays open."""
    reset_other: float = 0.0
    """A query or a request for commitment is lost with its connection."""
    replay: float = 0.0
    """What a whole connection said is said again on another one, later."""


class HostileProxy:
    """Listens on loopback from construction to `close` and passes on to `target_port`."""

    def __init__(
        self, target_port: int, seed: int, chances: Chances, *, port: int = 0, poison: Mapping[str, int] | None = None
    ) -> None:
        self.chances = chances
        self.happened: Counter[str] = Counter()
        self._poison = dict(poison or {})
        self._target_port = target_port
        self._die = random.Random(seed)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((LOOPBACK, port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def calm(self) -> None:
        """No more faults."""
        self.chances = Chances()

    def close(self) -> None:
        """Stops listening and resets what is open."""
        self._listener.close()
        with self._lock:
            for one in self._open:
                _reset(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def strikes(self, chance: float) -> bool:
        """Draws."""
        with self._lock:
            return chance > 0 and self._die.random() < chance

    def drawn(self, chances: Mapping[int, float]) -> int | None:
        """A status, or None."""
        return next((status for status, chance in chances.items() if self.strikes(chance)), None)

    def note(self, what: str) -> None:
        """Counts what happened."""
        with self._lock:
            self.happened[what] += 1

    def poisoned(self, uid: str) -> int | None:
        """The status with which an object is always refused."""
        return self._poison.get(uid)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.strikes(self.chances.close_at_connect):
            self.note("closed at connect")
            _reset(client)
            return
        if self.strikes(self.chances.reject_transient):
            self.note("rejected as busy")
            _read_pdu(client)
            _send(client, REJECT_TRANSIENT)
            client.close()
            return
        try:
            server = socket.create_connection((LOOPBACK, self._target_port), timeout=30)
        except OSError:
            self.note("archive was down")
            _reset(client)
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(one)
        said = Conversation(self, client, server).run()
        with self._lock:
            self._open -= {client, server}
        if said and self.strikes(self.chances.replay):
            self.note("replayed")
            self._replay(said)

    def _replay(self, said: list[bytes]) -> None:
        time.sleep(0.5)
        try:
            with socket.create_connection((LOOPBACK, self._target_port), timeout=30) as again:
                for pdu in said:
                    again.sendall(pdu)
                    time.sleep(0.2)
        except OSError:
            return


class Conversation:
    """One connection: requests one way, answers the other."""

    def __init__(self, proxy: HostileProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._on_answer: list[tuple[str, int]] = []
        self._said: list[bytes] = []

    def run(self) -> list[bytes]:
        """Passes on until one side ends; what the client said."""
        answers = threading.Thread(target=self._answers, daemon=True)
        answers.start()
        self._requests()
        _shut(self._server)
        answers.join(timeout=30)
        for one in (self._client, self._server):
            one.close()
        return self._said

    def _requests(self) -> None:
        """Client to archive, message by message."""
        message: list[bytes] = []
        command = b""
        while pdu := _read_pdu(self._client):
            if len(self._said) < 50:
                self._said.append(pdu)
            if pdu[0] != P_DATA:
                if not _send(self._server, pdu):
                    return
                continue
            message.append(pdu)
            is_last = False
            for control, fragment in _values(pdu):
                command += fragment if control & 1 else b""
                is_last = bool(control & 2) and (not control & 1 or not _has_data(command))
            if is_last:
                if not self._pass_on(message, _elements(command)):
                    return
                message, command = [], b""

    def _pass_on(self, message: list[bytes], command: dict[tuple[int, int], bytes]) -> bool:
        """One whole message; False where the connection is over."""
        proxy, chances = self._proxy, self._proxy.chances
        if _number(command, COMMAND_FIELD) != C_STORE_RQ:
            is_request = _number(command, COMMAND_FIELD) < 0x8000
            if is_request and proxy.strikes(chances.reset_other):
                return self._end("reset another request")
            return _send(self._server, b"".join(message))
        status = proxy.poisoned(_text(command, SOP_INSTANCE)) or proxy.drawn(chances.refuse)
        if status is not None:
            proxy.note(f"refused {status:04X}")
            return _send(self._client, _store_response(message[0], command, status))
        if proxy.strikes(chances.reset_before):
            return self._end("reset before storing")
        if proxy.strikes(chances.abort):
            _send(self._client, A_ABORT)
            return self._end("aborted", client=False)
        whole = b"".join(message)
        if proxy.strikes(chances.cut):
            _send(self._server, whole[: len(whole) // 2])
            return self._end("cut in the middle")
        self._plan_answer()
        return _send(self._server, whole)

    def _plan_answer(self) -> None:
        """What is to happen to the archive's answer."""
        proxy, chances = self._proxy, self._proxy.chances
        plan = ("pass", 0)
        if proxy.strikes(chances.reset_after):
            plan = ("reset", 0)
        elif proxy.strikes(chances.silence):
            plan = ("silence", 0)
        elif (status := proxy.drawn(chances.warn)) is not None:
            plan = ("warning", status)
        elif (status := proxy.drawn(chances.lie)) is not None:
            plan = ("lie", status)
        self._on_answer.append(plan)

    def _answers(self) -> None:
        """Archive to client."""
        while pdu := _read_pdu(self._server):
            command: dict[tuple[int, int], bytes] = {}
            if pdu[0] == P_DATA:
                command = _elements(b"".join(fragment for control, fragment in _values(pdu) if control & 1))
            if _number(command, COMMAND_FIELD) == C_STORE_RSP and self._on_answer:
                plan, status = self._on_answer.pop(0)
                if plan == "reset":
                    self._end("reset after storing")
                    return
                if plan == "silence":
                    self._proxy.note("silent after storing")
                    continue
                if plan in ("warning", "lie") and _number(command, STATUS) == 0:
                    self._proxy.note(f"stored, answered {status:04X}")
                    pdu = _with_status(pdu, status)
            if not _send(self._client, pdu):
                break
        _shut(self._client)

    def _end(self, what: str, *, client: bool = True) -> bool:
        self._proxy.note(what)
        _reset(self._server)
        if client:
            _reset(self._client)
        else:
            _shut(self._client)
        return False


def _values(pdu: bytes) -> list[tuple[int, bytes]]:
    """Message control header and fragment of each presentation data value (PS3.8 9.3.5, annex E)."""
    found, at = [], 6
    while at < len(pdu):
        (length,) = struct.unpack_from(">L", pdu, at)
        found.append((pdu[at + 5], pdu[at + 6 : at + 4 + length]))
        at += 4 + length
    return found


def _elements(command: bytes) -> dict[tuple[int, int], bytes]:
    """Of a command set: implicit VR little endian (PS3.7 6.3.1)."""
    found, at = {}, 0
    while at + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHL", command, at)
        found[group, element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def _number(command: Mapping[tuple[int, int], bytes], tag: tuple[int, int]) -> int:
    value = command.get(tag, b"")
    return int.from_bytes(value[:2], "little") if value else -1


def _text(command: Mapping[tuple[int, int], bytes], tag: tuple[int, int]) -> str:
    return command.get(tag, b"").decode("ascii", "replace").strip(" \0")


def _has_data(command: bytes) -> bool:
    return _number(_elements(command), (0x0000, 0x0800)) != 0x0101


def _store_response(first: bytes, command: Mapping[tuple[int, int], bytes], status: int) -> bytes:
    """C-STORE-RSP (PS3.7 table 9.3-2) as one PDU on the request's presentation context."""

    def element(tag: tuple[int, int], value: bytes) -> bytes:
        return struct.pack("<HHL", *tag, len(value)) + value

    body = (
        element(SOP_CLASS, command[SOP_CLASS])
        + element(COMMAND_FIELD, struct.pack("<H", C_STORE_RSP))
        + element((0x0000, 0x0120), command[MESSAGE_ID])
        + element((0x0000, 0x0800), struct.pack("<H", 0x0101))
        + element(STATUS, struct.pack("<H", status))
        + element(SOP_INSTANCE, command[SOP_INSTANCE])
    )
    body = element((0x0000, 0x0000), struct.pack("<L", len(body))) + body
    value = struct.pack(">LBB", len(body) + 2, first[10], 0x03) + body
    return struct.pack(">BBL", P_DATA, 0, len(value)) + value


def _with_status(pdu: bytes, status: int) -> bytes:
    place = pdu.index(struct.pack("<HHL", *STATUS, 2)) + 8
    return pdu[:place] + struct.pack("<H", status) + pdu[place + 2 :]


def _read_pdu(source: socket.socket) -> bytes:
    """One whole PDU; b'' where the connection is over."""
    head = _read(source, 6)
    if len(head) < 6:
        return b""
    (length,) = struct.unpack_from(">L", head, 2)
    body = _read(source, length)
    return head + body if len(body) == length else b""


def _read(source: socket.socket, count: int) -> bytes:
    data = bytearray()
    try:
        while len(data) < count:
            more = source.recv(min(count - len(data), 1 << 16))
            if not more:
                break
            data += more
    except OSError:
        return b""
    return bytes(data)


def _send(target: socket.socket, data: bytes) -> bool:
    try:
        target.sendall(data)
    except OSError:
        return False
    return True


def _shut(one: socket.socket) -> None:
    """Ends a connection so that whoever reads from it wakes up."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _reset(one: socket.socket) -> None:
    """Ends a connection by RST: what was under way is lost."""
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RD)
    except OSError:
        return
    finally:
        one.close()
