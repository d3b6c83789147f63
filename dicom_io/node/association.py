"""Associations of the node: pynetdicom's, with the lengths that a peer states checked before they are believed.

A PDU larger than announced is answered with an abort before memory is taken for it, data sets of C-STORE go to the
store's disk piece by piece, and what a peer sends ahead of our answers stays in its own buffers.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_io.attributes import DECODING_ERRORS
from dicom_io.node.admission import HEADER_BYTES, Peer, abort_pdu
from dicom_io.node.limits import NodeLimits
from dicom_io.store import Incoming, ObjectStore

_PDU_MARGIN_BYTES = 1024
"""What a peer may add to the announced length: some count the item headers, some do not."""

_PDU_TYPES = range(1, 8)
"""PS3.8 9.3.1."""

Ended = Callable[["NodeAssociation"], None]


class AdmittedSocket(AssociationSocket):  # type: ignore[misc]
    """A connection that the gate admitted; its first PDU was read and is given out again."""

    def __init__(
        self, association: NodeAssociation, connection: socket.socket, first_pdu: bytes, limits: NodeLimits
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._limits = limits
        self._first = bytearray(first_pdu)
        self._body_bytes: int | None = None
        """Of the PDU whose header was read; None before a header."""
        self._until_s = 0.0

    @property
    def ready(self) -> bool:
        """True where bytes can be read; not beyond so many messages that wait to be served."""
        if self.socket is None or not self._is_connected:
            return False
        if self._first:
            return True
        if self.assoc.dimse.msg_queue.qsize() >= self._limits.messages:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        poll = select.poll()  # select() knows descriptors below 1024 only
        try:
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` bytes, fewer at the end of the connection.

        pynetdicom asks for the six bytes of a PDU's header and then for the length that they state. Raises OSError,
        with an A-ABORT sent, for a length that was not agreed, and TimeoutError for a PDU that does not end.
        """
        if self._first:
            given, self._first = self._first[:nr_bytes], self._first[nr_bytes:]
            return given
        if self._body_bytes is not None:
            self._body_bytes = None
            return self._read(nr_bytes)
        self._until_s = time.monotonic() + self._limits.idle_s
        header = self._read(nr_bytes)
        if len(header) == HEADER_BYTES and header[0] in _PDU_TYPES:  # else no body is asked for
            (self._body_bytes,) = struct.unpack_from(">L", header, 2)
            if self._body_bytes > self._limits.pdu_bytes + _PDU_MARGIN_BYTES:
                self._refuse(self._body_bytes)
        return header

    def _read(self, nr_bytes: int) -> bytearray:
        assert self.socket is not None
        read = bytearray(nr_bytes)
        view, count = memoryview(read), 0
        while count < nr_bytes:
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"a PDU did not end within {self._limits.idle_s:.0f} s")
            self.socket.settimeout(left_s)
            came = self.socket.recv_into(view[count:])
            if not came:
                break
            count += came
        view.release()
        self.socket.settimeout(self._limits.idle_s)
        return read[:count]

    def _refuse(self, nr_bytes: int) -> None:
        self.assoc.note_abort("pdu_size")
        with suppress(OSError):
            assert self.socket is not None
            self.socket.sendall(abort_pdu(6))
        raise OSError(f"a PDU of {nr_bytes} bytes; {self._limits.pdu_bytes} were agreed")


class IntakeProvider(DIMSEServiceProvider):  # type: ignore[misc]
    """Puts messages together; the data sets of C-STORE requests in files of the store."""

    def __init__(self, association: NodeAssociation, store: ObjectStore, limits: NodeLimits) -> None:
        super().__init__(association)
        self._store, self._limits = store, limits
        self._command_bytes = self._identifier_bytes = 0
        self._open: list[Incoming] = []

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Takes the fragments of one P-DATA-TF in; aborts the association where they break a limit."""
        for context_id, data in primitive.presentation_data_value_list:
            one = P_DATA()
            one.presentation_data_value_list = [[context_id, data]]
            if not self._prepare(context_id, data):
                self.dul.event_queue.put("Evt19")
                return
            try:
                super().receive_primitive(one)
            except DECODING_ERRORS:  # a command set that is none
                self._refused("command")
                self.dul.event_queue.put("Evt19")
                return

    def _prepare(self, context_id: int, data: bytes) -> bool:
        """Makes ready for a fragment; False for one that must not be."""
        if not data or context_id not in self.assoc._accepted_cx:
            return self._refused("fragment")
        if self.message is None:
            self._command_bytes = self._identifier_bytes = 0
        if data[0] & 1:
            self._command_bytes += len(data)
            return self._command_bytes <= self._limits.command_bytes or self._refused("command_size")
        if self.message is None or self.message.context_id is None:
            return self._refused("fragment")  # a data set before its command set
        if isinstance(self.message, C_STORE_RQ):
            return self._prepare_store(context_id)
        self._identifier_bytes += len(data)
        return self._identifier_bytes <= self._limits.identifier_bytes or self._refused("identifier_size")

    def _prepare_store(self, context_id: int) -> bool:
        message = self.message
        if message._data_set_file is None:
            command = message.command_set
            uid, sop_class = command.get("AffectedSOPInstanceUID"), command.get("AffectedSOPClassUID")
            syntax = self.assoc._accepted_cx[context_id].transfer_syntax[0]
            incoming = self._store.incoming(str(uid or ""), str(sop_class or ""), str(syntax))
            message._data_set_file = StoreFile(incoming)
            self._open = [one for one in self._open if not one.is_done]
            self._open.append(incoming)
        return True

    def _refused(self, reason: str) -> bool:
        self.assoc.note_abort(reason)
        return False

    def close(self) -> None:
        """Throws away what did not come to its end."""
        for incoming in self._open:
            incoming.discard()


class StoreFile:
    """An object on its way in, as pynetdicom writes, closes and removes the file of a data set."""

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.file = self

    @property
    def name(self) -> str:
        """What pynetdicom removes when the request was served; nothing is there by then."""
        return f"{self.incoming.uid}.served"

    def write(self, piece: bytes) -> None:
        """Adds to the data set."""
        self.incoming.write(piece)

    def flush(self) -> None:
        """Nothing: pieces are read when all have come."""

    def close(self) -> None:
        """Removes what was not kept."""
        self.incoming.discard()


class NodeAssociation(Association):  # type: ignore[misc]
    """An association that a peer asked for."""

    def __init__(self, entity: AE, peer: Peer, ended: Ended, aborted: Callable[[str], None]) -> None:
        super().__init__(entity, MODE_ACCEPTOR)
        self.peer = peer
        self._ended = ended
        self._aborted = aborted

    def note_abort(self, reason: str) -> None:
        """Counts why the node aborts the association."""
        self._aborted(reason)

    def cut_off(self) -> None:
        """Ends it now: an aborted peer that reads nothing would hold it for `idle_s`."""
        self._kill = self.dul._kill_thread = True
        connection = self.dul.socket and self.dul.socket.socket
        if connection:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def run_reactor(self) -> None:
        """Serves until the association ends, then lets go of everything that it held."""
        try:
            super().run_reactor()
        finally:
            connection = self.dul.socket and self.dul.socket.socket
            if connection:  # where its second thread could not be started, nobody else closes it
                connection.close()
            try:
                self.dimse.close()
            finally:
                self._ended(self)


class _Closer:
    """The one thing that associations ask of pynetdicom's server."""

    @staticmethod
    def shutdown_request(connection: socket.socket) -> None:
        """Ends a connection."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()


def make_association(
    entity: AE,
    connection: socket.socket,
    remote: tuple[str, int],
    first_pdu: bytes,
    peer: Peer,
    *,
    store: ObjectStore,
    limits: NodeLimits,
    handlers: list[tuple[Any, Callable[[Any], Any]]],
    ended: Ended,
    aborted: Callable[[str], None],
) -> NodeAssociation:
    """The association of an admitted connection, not started."""
    association = NodeAssociation(entity, peer, ended, aborted)
    association._server = _Closer()
    association.name = f"AcceptorThread@{peer.ae_title}"
    association.dimse = IntakeProvider(association, store, limits)
    association.set_socket(AdmittedSocket(association, connection, first_pdu, limits))
    acceptor = association.acceptor
    acceptor.maximum_length = entity.maximum_pdu_size
    acceptor.ae_title = entity.ae_title
    acceptor.address_info = AddressInformation.from_tuple(connection.getsockname()[:2])
    acceptor.implementation_class_uid = entity.implementation_class_uid
    acceptor.implementation_version_name = entity.implementation_version_name
    acceptor.supported_contexts = entity.supported_contexts
    association.requestor.address_info = AddressInformation.from_tuple(remote)
    for event, handler in handlers:
        association.bind(event, handler)
    evt.trigger(association, evt.EVT_CONN_OPEN, {"address": remote})
    return association
