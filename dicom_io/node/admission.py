"""Who may associate: our title, the peers' titles and hosts, and how many associations each may have.

Decided on the fixed part of an A-ASSOCIATE-RQ (PS3.8 9.3.2), before anything is made for the peer.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

ASSOCIATE_RQ, ASSOCIATE_RJ, ABORT = 0x01, 0x03, 0x07
HEADER_BYTES = 6
_TITLES = slice(10, 26), slice(26, 42)
FIXED_BYTES = 74
"""Of an A-ASSOCIATE-RQ with its header: what comes before the first variable item."""


@dataclass(frozen=True)
class Peer:
    """An application entity that may talk to the node."""

    ae_title: str
    host: str = ""
    """Numeric address that it must come from; '' lets it come from anywhere."""
    associations: int = 8
    """At one time."""
    objects_per_minute: float | None = None
    """Faster senders are slowed down; None for no limit."""
    report_to: str = ""
    """AET@host:port that takes its storage commitment reports; '' sends them on the association of the request."""


@dataclass(frozen=True)
class Request:
    """What the fixed part of an A-ASSOCIATE-RQ says."""

    called: str
    calling: str


@dataclass(frozen=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), and the reason in one word for counters."""

    result: int
    source: int
    reason: int
    word: str

    def encoded(self) -> bytes:
        """The A-ASSOCIATE-RJ PDU."""
        return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, self.result, self.source, self.reason))


UNKNOWN_CALLING = Rejection(1, 1, 3, "unknown_calling_title")
UNKNOWN_CALLED = Rejection(1, 1, 7, "unknown_called_title")
WRONG_HOST = Rejection(1, 1, 3, "wrong_host")
PEER_LIMIT = Rejection(2, 3, 2, "peer_limit")
NODE_LIMIT = Rejection(2, 3, 2, "node_limit")
STOPPING = Rejection(2, 3, 1, "stopping")


def abort_pdu(reason: int) -> bytes:
    """An A-ABORT of the service provider (PS3.8 table 9-26): 1 unrecognised PDU, 6 invalid parameter value."""
    return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, 2, reason))


def parse(pdu: bytes) -> Request:
    """The titles of an A-ASSOCIATE-RQ of at least `FIXED_BYTES`."""
    called, calling = (pdu[place].decode("ascii", "replace").strip(" \0") for place in _TITLES)
    return Request(called, calling)


class Admission:
    """Decides on requests and counts who is in; safe to use from many threads."""

    def __init__(self, ae_title: str, peers: Sequence[Peer], associations: int) -> None:
        self._ae_title = ae_title
        self._peers = {peer.ae_title: peer for peer in peers}
        self._hosts = {peer.host for peer in peers}
        self._associations = associations
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()
        self._is_open = True

    def may_connect(self, host: str) -> bool:
        """False where no peer can come from this host: nothing is read from it."""
        return "" in self._hosts or host in self._hosts

    def decide(self, request: Request, host: str) -> Peer | Rejection:
        """The peer, which is inside from now until `leave`; or why not."""
        peer = self._peers.get(request.calling)
        if request.called != self._ae_title:
            return UNKNOWN_CALLED
        if peer is None:
            return UNKNOWN_CALLING
        if peer.host and peer.host != host:
            return WRONG_HOST
        with self._lock:
            if not self._is_open:
                return STOPPING
            if self._inside.total() >= self._associations:
                return NODE_LIMIT
            if self._inside[peer.ae_title] >= peer.associations:
                return PEER_LIMIT
            self._inside[peer.ae_title] += 1
        return peer

    def leave(self, peer: Peer) -> None:
        """The association of a peer has ended."""
        with self._lock:
            self._inside[peer.ae_title] -= 1

    def inside(self) -> int:
        """Associations of all peers."""
        with self._lock:
            return self._inside.total()

    def close(self) -> None:
        """From now on requests are rejected, to be tried again later."""
        with self._lock:
            self._is_open = False
