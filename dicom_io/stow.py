"""Objects to an archive by STOW-RS (PS3.18 10.5): the bytes of their files, and what the answer says of each.

The answer "stored" is no proof: archives keep an older object of the same UID without a word. Whoever must know
fetches the object and compares (`dicom_io.comparison`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

from pydicom.uid import UID

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io import dicom_json, reencoding
from dicom_io.object_file import ObjectFile
from dicom_io.store import file_header
from dicom_io.store_status import StoreAnswer, Verdict, judge
from dicom_io.web import Reply, WebSession

OPERATION = "STOW-RS"
_REFERENCED_UID, _REFERENCED, _FAILED = "00081155", "00081199", "00081198"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
_ANSWERED = frozenset({200, 202, 409})
"""With these the body names objects (PS3.18 table 10.5.3-1)."""
_NO_SERVICE = frozenset({404, 405, 501})
_SYNTAX_REFUSED = 0xC122


class StowSender:
    """Sends over one connection; of one thread. Some objects go into one request, as long as they are small."""

    def __init__(
        self, session: WebSession, *, objects_per_request: int = 10, bytes_per_request: int = 32_000_000
    ) -> None:
        self._session = session
        self._objects_per_request = objects_per_request
        self._bytes_per_request = bytes_per_request

    def send(self, objects: Iterable[ObjectFile]) -> Iterator[StoreAnswer]:
        """What the archive says of each object, as it comes.

        A request that is refused as a whole is made anew object by object, and an object whose transfer syntax is
        refused goes out once more without compression. Raises `ArchiveError` where the server is away, busy or lets
        nobody store: objects that were not answered then may have been stored all the same. To send an object again
        does no harm.
        """
        batch: list[ObjectFile] = []
        for one in objects:
            try:
                loaded = replace(one, content=one.file_bytes())
            except OSError as error:
                yield StoreAnswer(one.sop_instance_uid, Verdict.TEMPORARY, f"its file cannot be read: {error}")
                continue
            size_bytes = sum(each.size_bytes() for each in (*batch, loaded))
            if batch and (len(batch) == self._objects_per_request or size_bytes > self._bytes_per_request):
                yield from self._sent(batch)
                batch = []
            batch.append(loaded)
        if batch:
            yield from self._sent(batch)

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _sent(self, batch: Sequence[ObjectFile]) -> Iterator[StoreAnswer]:
        reply = self._post([one.file_bytes() for one in batch])
        if reply.status not in _ANSWERED and len(batch) > 1:
            for one in batch:
                yield from self._sent([one])
            return
        answers = self._answers(batch, reply)
        for one in batch:
            yield self._without_compression(one, answers[one.sop_instance_uid])

    def _without_compression(self, item: ObjectFile, answer: StoreAnswer) -> StoreAnswer:
        """The answer, or that to the object in explicit VR little endian where its own syntax is refused."""
        if answer.status != _SYNTAX_REFUSED and answer.text != _HTTP_TEXTS[415]:
            return answer
        plain = reencoding.EXPLICIT
        if item.transfer_syntax_uid == plain or plain not in reencoding.syntaxes(item.transfer_syntax_uid):
            return answer
        try:
            encoded = reencoding.encoded_as(item, plain)
        except ConfigError as error:
            return StoreAnswer(item.sop_instance_uid, Verdict.PERMANENT, str(error))
        whole = file_header(item.sop_instance_uid, item.sop_class_uid, plain) + encoded
        turned = ObjectFile(item.sop_instance_uid, item.sop_class_uid, plain, whole)
        second = self._answers([turned], self._post([whole]))[item.sop_instance_uid]
        text = f"{second.text}; sent as {UID(plain).name}, since {UID(item.transfer_syntax_uid).name} is refused"
        return replace(second, text=text)

    def _post(self, files: Sequence[bytes]) -> Reply:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        tail = f"--{boundary}--\r\n".encode("ascii")
        length = sum(len(head) + len(one) + 2 for one in files) + len(tail)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
            "Accept": "application/dicom+json",
        }
        return self._session.request(OPERATION, "POST", "/studies", headers, partial(_pieces, head, files, tail))

    def _answers(self, batch: Sequence[ObjectFile], reply: Reply) -> dict[str, StoreAnswer]:
        """By SOP Instance UID; raises `ArchiveError` where the server offers no such service."""
        if reply.status in _NO_SERVICE:
            raise self._no_service(reply)
        if reply.status not in _ANSWERED:
            return {one.sop_instance_uid: _answer_of_http(one, reply) for one in batch}
        try:
            found = dicom_json.data_sets(reply.body, reply.content_type)
        except ConfigError as error:
            raise self._session.error(OPERATION, f"HTTP {reply.status}: {error}", temporary=True) from error
        said = {uid: answer for data_set in found for uid, answer in _said(data_set)}
        silent = {one.sop_instance_uid: _unnamed(one, reply, named=bool(said)) for one in batch}
        answers = {**silent, **{uid: answer for uid, answer in said.items() if uid in silent}}
        syntaxes = {one.sop_instance_uid: one.transfer_syntax_uid for one in batch}
        return {uid: StoreAnswer(uid, one.verdict, one.text, one.status, syntaxes[uid]) for uid, one in answers.items()}

    def _no_service(self, reply: Reply) -> ArchiveError:
        text = f"HTTP {reply.status} {reply.reason}: the server does not store at this address"
        return self._session.error(OPERATION, text, temporary=False)


_HTTP_TEXTS = {
    400: "the server cannot read the request or the object (HTTP 400)",
    409: "the server has stored none of the request's objects, and names no reason (HTTP 409)",
    413: "the object is larger than the server takes (HTTP 413)",
    415: "the server does not take the object's transfer syntax (HTTP 415)",
}


def _answer_of_http(item: ObjectFile, reply: Reply) -> StoreAnswer:
    """Of an object that was alone in a request that was refused: a failure of the server may pass, others do not."""
    if reply.status in _HTTP_TEXTS:
        return StoreAnswer(item.sop_instance_uid, Verdict.PERMANENT, _HTTP_TEXTS[reply.status])
    verdict = Verdict.TEMPORARY if reply.status >= 500 else Verdict.PERMANENT
    return StoreAnswer(item.sop_instance_uid, verdict, f"HTTP {reply.status} {reply.reason}".strip())


def _unnamed(item: ObjectFile, reply: Reply, *, named: bool) -> StoreAnswer:
    """Of an object that the answer does not name; `named` where it names others."""
    uid = item.sop_instance_uid
    if named:
        return StoreAnswer(uid, Verdict.TEMPORARY, f"HTTP {reply.status} names other objects of the request, not this")
    if reply.status == 200:
        return StoreAnswer(uid, Verdict.WARNING, "stored, as HTTP 200 says without naming it")
    if reply.status == 409:
        return StoreAnswer(uid, Verdict.PERMANENT, _HTTP_TEXTS[409])
    return StoreAnswer(uid, Verdict.TEMPORARY, f"HTTP {reply.status} without a word of the object")


def _said(data_set: dicom_json.Attributes) -> Iterator[tuple[str, StoreAnswer]]:
    """What the body says (PS3.18 table 10.5.3-2): an object that failed is not stored, though it is named twice."""
    for item in dicom_json.items(data_set, _REFERENCED):
        uid = dicom_json.text(item, _REFERENCED_UID)
        warning = dicom_json.integer(item, _WARNING_REASON) or 0
        verdict, words = judge(warning & 0xFFFF)
        accepted = verdict in (Verdict.STORED, Verdict.WARNING, Verdict.THERE)
        yield uid, StoreAnswer(uid, verdict if accepted else Verdict.WARNING, words, warning)
    for item in dicom_json.items(data_set, _FAILED):
        uid = dicom_json.text(item, _REFERENCED_UID)
        status = dicom_json.integer(item, _FAILURE_REASON)
        if not status:
            yield uid, StoreAnswer(uid, Verdict.TEMPORARY, "not stored, and the server gives no reason")
            continue
        verdict, words = judge(status & 0xFFFF)
        if verdict in (Verdict.STORED, Verdict.WARNING):
            verdict, words = Verdict.TEMPORARY, f"not stored, though the reason means: {words}"
        yield uid, StoreAnswer(uid, verdict, words, status)


def _pieces(head: bytes, files: Sequence[bytes], tail: bytes) -> Iterator[bytes]:
    for one in files:
        yield head
        yield one
        yield b"\r\n"
    yield tail
