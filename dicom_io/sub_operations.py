"""Sending stored objects as the bytes that lie in their files (C-STORE, PS3.7 9.1.1)."""

from __future__ import annotations

import socket
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from dicom_io.catalogue import StoredObject
from dicom_io.standstill import go_on, stand_still

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
LONGEST_CONTEXT_LIST = 128
"""Presentation context IDs are odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""


class Ticket(Dataset):  # type: ignore[misc]
    """Stands for a stored object in pynetdicom's handlers, which insist on a Dataset."""

    def __init__(self, stored: StoredObject) -> None:
        super().__init__()
        object.__setattr__(self, "stored", stored)
        self.SOPClassUID = stored.sop_class_uid
        self.SOPInstanceUID = stored.sop_instance_uid

    stored: StoredObject


def send(
    association: Any,
    stored: StoredObject,
    msg_id: int = 1,
    originator_aet: str | None = None,
    originator_id: int | None = None,
) -> Dataset:
    """One C-STORE sub-operation (PS3.7 9.1.1); returns the peer's status, empty if it went away.

    Raises ValueError where the peer accepted no context that fits the object.
    """
    fitting = [
        context
        for context in association.accepted_contexts
        if context.abstract_syntax == stored.sop_class_uid and context.as_scu
    ]
    exact = [context for context in fitting if context.transfer_syntax[0] == stored.transfer_syntax_uid]
    plain = [context for context in fitting if context.transfer_syntax[0] in UNCOMPRESSED]
    if exact:
        context, encoded = exact[0], _data_set_bytes(stored.path)
    elif plain and stored.transfer_syntax_uid in UNCOMPRESSED:
        context = plain[0]
        encoded = _encoded_anew(stored.path, context.transfer_syntax[0])
    else:
        raise ValueError(f"no context for {stored.sop_class_uid} in {stored.transfer_syntax_uid} was accepted")
    request = C_STORE()
    request.MessageID = msg_id
    request.Priority = 2
    request.AffectedSOPClassUID = stored.sop_class_uid
    request.AffectedSOPInstanceUID = stored.sop_instance_uid
    request.MoveOriginatorApplicationEntityTitle = originator_aet
    request.MoveOriginatorMessageID = originator_id
    request.DataSet = BytesIO(encoded)
    return _exchange(association, request, context.context_id)


def _exchange(association: Any, request: C_STORE, context_id: int) -> Dataset:
    """Sends the request and waits for its answer, as pynetdicom's send_c_store does."""
    stand_still(association)
    association.dimse.send_msg(request, context_id)
    _, response = association.dimse.get_msg(block=True)
    go_on(association)
    status = Dataset()
    if response is not None and response.is_valid_response:
        status.Status = response.Status
    return status


def _data_set_bytes(path: Path) -> bytes:
    """The encoded data set of a Part 10 file: all that follows its file meta information."""
    meta_length = int(read_file_meta_info(path).FileMetaInformationGroupLength)
    # Preamble and prefix (132 bytes) and the group length element (12 bytes) come before the rest (PS3.10 7.1).
    return path.read_bytes()[132 + 12 + meta_length :]


def _encoded_anew(path: Path, syntax: UID) -> bytes:
    encoded = encode(dcmread(path), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise ValueError(f"{path.name} cannot be encoded as {syntax.name}")
    return bytes(encoded)


def contexts_for(objects: tuple[StoredObject, ...]) -> list[Any]:
    """Contexts to propose to a move destination: each class in its stored syntaxes, and uncompressed."""
    proposals: dict[tuple[str, str], list[UID]] = {}
    for stored in objects:
        syntax = UID(stored.transfer_syntax_uid)
        proposals[stored.sop_class_uid, syntax] = [syntax]
        if syntax in UNCOMPRESSED:
            proposals[stored.sop_class_uid, "plain"] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    contexts = [build_context(sop_class, syntaxes) for (sop_class, _), syntaxes in sorted(proposals.items())]
    return contexts[:LONGEST_CONTEXT_LIST]


def send_at_once(event: Any) -> None:
    """Turns off Nagle's algorithm, which costs 40 ms an object against delayed acknowledgements."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
