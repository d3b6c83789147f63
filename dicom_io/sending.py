"""Objects to an archive by C-STORE (PS3.4 annex B, PS3.7 9.1.1): the bytes of their files, an answer for each.

One association for all, with a presentation context for each class and transfer syntax (PS3.8 9.3.2.2): an archive
picks one syntax a context, and we must know before we encode which one it took.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Self

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

import schemas
from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io import association as associations
from dicom_io import commitment, negotiation, reencoding
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.commitment import CommitmentReport
from dicom_io.object_file import ObjectFile
from dicom_io.store_status import StoreAnswer, Verdict, judge, one_line

MAXIMUM_CONTEXTS = 126
"""Presentation context IDs are odd numbers from 1 to 255 (PS3.8 9.3.2.2); two are for other services."""
_ATTEMPTS = 2
"""How often an object goes out within one call where the association is lost before it is answered."""
_MEDIUM = 0

Wanted = tuple[str, str]
"""SOP class and transfer syntax."""


class StoreSender:
    """Sends to one archive over one association, made when needed and kept until `close`; of one thread.

    `on_report` takes the reports of storage commitment that the archive sends on this association.
    """

    def __init__(
        self,
        address: Address,
        calling_ae: str,
        *,
        limits: Limits | None = None,
        tls_context: ssl.SSLContext | None = None,
        on_report: Callable[[CommitmentReport], bool] | None = None,
    ) -> None:
        self.address = address
        self.calling_ae = calling_ae
        self._limits = limits or Limits()
        self._tls_context = tls_context
        self._on_report = on_report
        self._association: Association | None = None
        self._proposed: set[Wanted] = set()
        self._message_id = 0

    def send(self, objects: Iterable[ObjectFile]) -> Iterator[StoreAnswer]:
        """The archive's answer to each object, in their order, as it comes.

        An object that is broken here, or that the archive takes in no syntax that it can be turned into without loss,
        is answered as permanent; one that was sent twice and twice lost its association, as temporary. Raises
        `ArchiveError` where there is no association: objects that were not answered then were not sent, or may have
        been stored all the same. To send an object again does no harm.
        """
        waiting = list(objects)
        for start in range(0, len(waiting), _batch_length(waiting)):
            batch = waiting[start : start + _batch_length(waiting)]
            wanted = {(one.sop_class_uid, syntax) for one in batch for syntax in _proposals(one.transfer_syntax_uid)}
            for one in batch:
                yield self._sent(one, wanted)

    def request_commitment(self, transaction_uid: str, references: Sequence[commitment.Reference]) -> None:
        """Asks on this association for storage commitment; `ArchiveError` as `commitment.request` raises it."""
        association = self._established(set())
        if commitment.request(association, str(self.address), transaction_uid, references, self._next_message_id()):
            return
        self._drop()
        raise self._lost("N-ACTION")

    @property
    def takes_commitment(self) -> bool:
        """The archive accepted the context of storage commitment; raises `ArchiveError` where it is away."""
        return commitment.is_accepted(self._established(set()))

    def close(self) -> None:
        """Releases the association: some archives take the release as the end of a job."""
        if self._association is not None:
            associations.release(self._association)
        self._association = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _sent(self, item: ObjectFile, wanted: Collection[Wanted]) -> StoreAnswer:
        """One object's answer; it is sent again, once, where the association was lost before it was answered."""
        uid = item.sop_instance_uid
        for _ in range(_ATTEMPTS):
            association = self._established(wanted)
            context = _fitting(association, item)
            if context is None:
                return StoreAnswer(uid, Verdict.PERMANENT, _refused_text(association, item))
            syntax = str(context.transfer_syntax[0])
            try:
                encoded = reencoding.encoded_as(item, syntax)
            except ConfigError as error:
                return StoreAnswer(uid, Verdict.PERMANENT, str(error))
            except OSError as error:
                return StoreAnswer(uid, Verdict.TEMPORARY, f"its file cannot be read: {error}")
            response = associations.ask(association, self._request(item, encoded), context.context_id)
            if response is not None:
                return _answer(item, syntax, response)
            self._drop()
        return StoreAnswer(uid, Verdict.TEMPORARY, "no answer: the archive was silent, or the association was lost")

    def _request(self, item: ObjectFile, encoded: bytes) -> C_STORE:
        request = C_STORE()
        request.MessageID = self._next_message_id()
        request.Priority = _MEDIUM
        request.AffectedSOPClassUID = item.sop_class_uid
        request.AffectedSOPInstanceUID = item.sop_instance_uid
        request.DataSet = BytesIO(encoded)
        return request

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 65535 + 1
        return self._message_id

    def _established(self, wanted: Collection[Wanted]) -> Association:
        """The association, made anew where it is lost or lacks a context that is wanted."""
        if self._association is not None and self._association.is_established and self._proposed >= set(wanted):
            return self._association
        self.close()
        proposed = set(wanted) | self._proposed
        if len(proposed) > MAXIMUM_CONTEXTS:
            proposed = set(wanted)
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(proposed)]
        self._association = associations.associate(
            self.address,
            self.calling_ae,
            # Some archives abort an association of which they take no context: all take Verification.
            [*contexts, commitment.context(), build_context(negotiation.ECHO, negotiation.UNCOMPRESSED)],
            limits=self._limits,
            tls_context=self._tls_context,
            handlers=[] if self._on_report is None else [commitment.handler(self._on_report)],
        )
        self._proposed = proposed
        return self._association

    def _drop(self) -> None:
        if self._association is not None:
            associations.drop(self._association)
        self._association = None

    def _lost(self, operation: str) -> ArchiveError:
        text = "no answer: the archive was silent, or the association was lost"
        return ArchiveError(text, peer=str(self.address), operation=operation, temporary=True)


def _proposals(transfer_syntax_uid: str) -> tuple[str, ...]:
    """What is proposed for an object: its own syntax, what it can be turned into, and what every archive takes."""
    return tuple(dict.fromkeys((*reencoding.syntaxes(transfer_syntax_uid), reencoding.EXPLICIT, reencoding.IMPLICIT)))


def _batch_length(objects: Sequence[ObjectFile]) -> int:
    """All, where their contexts fit into one association; else as few as surely fit."""
    kinds = {(one.sop_class_uid, syntax) for one in objects for syntax in _proposals(one.transfer_syntax_uid)}
    return max(len(objects), 1) if len(kinds) <= MAXIMUM_CONTEXTS else MAXIMUM_CONTEXTS // 4


def _fitting(association: Association, item: ObjectFile) -> PresentationContext | None:
    """The accepted context for the best syntax in which the object can go out."""
    accepted: Mapping[str, PresentationContext] = {
        str(context.transfer_syntax[0]): context
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class_uid
    }
    return next((accepted[one] for one in reencoding.syntaxes(item.transfer_syntax_uid) if one in accepted), None)


def _refused_text(association: Association, item: ObjectFile) -> str:
    """Whether the archive refuses the class, or only the syntax."""
    name = _class_name(item.sop_class_uid)
    taken = sorted(
        UID(str(context.transfer_syntax[0])).name
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class_uid
    )
    if not taken:
        return f"the archive takes no objects of the class {name}"
    return f"the archive takes {name} as {', '.join(taken)}, not as {UID(item.transfer_syntax_uid).name}"


def _class_name(sop_class_uid: str) -> str:
    """As people call it; pydicom does not know the newest classes."""
    own = {row["uid"]: str(row["meaning"]) for row in schemas.load("target")["class"]}
    return own.get(sop_class_uid) or str(UID(sop_class_uid).name)


def _answer(item: ObjectFile, syntax: str, response: Any) -> StoreAnswer:
    verdict, text = judge(response.Status)
    comment = one_line(getattr(response, "ErrorComment", None))
    if comment:
        text = f"{text}: {comment}"
    if syntax != item.transfer_syntax_uid:
        text = f"{text}; sent as {UID(syntax).name}, since {UID(item.transfer_syntax_uid).name} is refused"
    return StoreAnswer(item.sop_instance_uid, verdict, text, response.Status, syntax)
