"""What peers may cost the node: associations, connections that say nothing, sizes, times."""

from __future__ import annotations

from dataclasses import dataclass

from deeplesion_miner.errors import ConfigError
from dicom_io.negotiation import MAXIMUM_PDU_BYTES

_MOST_DESCRIPTORS = 1024
"""pynetdicom's associations of our own (queries, deliveries) use select(), which knows no more."""
_OTHER_DESCRIPTORS = 128


@dataclass(frozen=True)
class NodeLimits:
    """Limits of one node; each holds whatever a peer does."""

    associations: int = 32
    """At one time, of all peers; each costs two threads."""
    waiting: int = 512
    """Connections that have not asked for an association yet; each costs a descriptor and no thread. Where there are
    more, the one that has waited longest is closed, so that a flood of silent ones keeps nobody out."""
    request_s: float = 10.0
    """Time to ask for an association, TLS handshake included (the ARTIM timer of PS3.8 9.1.5)."""
    idle_s: float = 120.0
    """Silence on an association, and the longest that one PDU may take, before it is aborted."""
    pdu_bytes: int = MAXIMUM_PDU_BYTES
    """Largest P-DATA-TF that we announce (PS3.8 D.1); an association that sends a larger one is aborted unread."""
    request_bytes: int = 262_144
    """Largest A-ASSOCIATE-RQ: 128 contexts with all transfer syntaxes need about 80 kB."""
    command_bytes: int = 16_384
    """Largest command set of a message; a C-STORE-RQ needs about 300 bytes."""
    identifier_bytes: int = 4_194_304
    """Largest data set of a message other than C-STORE; 4 MiB hold a commitment request for 25,000 objects."""
    messages: int = 4
    """Messages of one association that wait to be served; the socket is not read beyond."""
    free_bytes: int = 1_000_000_000
    """Disk space that images do not take: below it they are refused with A700, to be sent again."""
    open_studies: int = 10_000
    """Studies that are not done; more are refused with A700."""
    stop_s: float = 30.0
    """What associations and jobs get to end after a stop was asked for."""

    def __post_init__(self) -> None:
        for name in ("associations", "waiting", "pdu_bytes", "messages", "request_s", "idle_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"node: {name} = {getattr(self, name)}: more than 0 is needed")
        descriptors = self.waiting + 4 * self.associations + _OTHER_DESCRIPTORS
        if descriptors > _MOST_DESCRIPTORS:
            raise ConfigError(
                f"node: {self.waiting} waiting connections and {self.associations} associations may need {descriptors}"
                f" descriptors, and {_MOST_DESCRIPTORS} can be used: lower one of them"
            )
        if self.pdu_bytes < 4096:
            raise ConfigError(f"node: pdu_bytes = {self.pdu_bytes}: at least 4096 are needed")
