"""What an archive has, by QIDO-RS and WADO-RS (PS3.18 10.6, 10.4)."""

from __future__ import annotations

from collections.abc import Iterable
from email.message import Message

from deeplesion_miner.errors import ConfigError
from dicom_io import dicom_json
from dicom_io.delivery_rules import Identity
from dicom_io.proof import Placed, QuestionRefused
from dicom_io.store import normal_uid
from dicom_io.web import WebSession

_JSON = "application/dicom+json"
_PAGE = 1000
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_PATIENT_ID, _ISSUER = "00100020", "00100021"
_NOT_THERE = frozenset({404, 410})


class QidoInquiry:
    """An `Inquiry` by QIDO-RS over a session, which the caller closes."""

    def __init__(self, session: WebSession) -> None:
        self._session = session

    def listed(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> frozenset[str]:
        """Rows that state another study, series or object than was asked for do not count."""
        path = f"/studies/{study_instance_uid}"
        path += f"/series/{series_instance_uid}/instances" if series_instance_uid else "/instances"
        asked = {_STUDY: study_instance_uid, _SERIES: series_instance_uid, _INSTANCE: sop_instance_uid}
        query = [("SOPInstanceUID", sop_instance_uid)] if sop_instance_uid else []
        found: set[str] = set()
        for row in self._rows(path, query, one_row=bool(sop_instance_uid)):
            stated = {tag: normal_uid(dicom_json.text(row, tag)) for tag in asked}
            if all(not uid or stated[tag] in ("", uid) for tag, uid in asked.items()):
                found.add(stated[_INSTANCE])
        return frozenset(found - {""})

    def identities(self, study_instance_uid: str) -> frozenset[Identity]:
        """Rows that do not state this study do not count."""
        query = [("StudyInstanceUID", study_instance_uid), ("includefield", _ISSUER)]
        return frozenset(
            (dicom_json.text(row, _PATIENT_ID), dicom_json.text(row, _ISSUER))
            for row in self._rows("/studies", query, one_row=True)
            if normal_uid(dicom_json.text(row, _STUDY)) == study_instance_uid
        )

    def _rows(self, path: str, query: Iterable[tuple[str, str]], *, one_row: bool) -> list[dicom_json.Attributes]:
        """All pages; a server that ignores the offset brings nothing new with the second one."""
        rows: list[dicom_json.Attributes] = []
        seen: set[str] = set()
        while True:
            page = self._page(path, [*query, ("limit", str(_PAGE)), ("offset", str(len(rows)))])
            fresh = [row for row in page if repr(row) not in seen]
            if not fresh:
                return rows
            seen.update(map(repr, fresh))
            rows.extend(fresh)
            if one_row:
                return rows

    def _page(self, path: str, query: Iterable[tuple[str, str]]) -> list[dicom_json.Attributes]:
        reply = self._session.get("QIDO-RS", path, _JSON, query)
        if reply.status == 204 or (reply.status in _NOT_THERE and path != "/studies"):
            return []
        if reply.status != 200:
            text = f"HTTP {reply.status} {reply.reason}".strip()
            if reply.status in _NOT_THERE:
                text += ": the server does not answer questions at this address; name it up to before /studies"
                raise self._session.error("QIDO-RS", text, temporary=False)
            peer = str(self._session.address)
            raise QuestionRefused(text, peer=peer, operation="QIDO-RS", temporary=reply.status >= 500)
        try:
            return dicom_json.data_sets(reply.body, reply.content_type)
        except ConfigError as error:
            raise self._session.error("QIDO-RS", str(error), temporary=False) from error


class WadoFetch:
    """Fetches single objects by WADO-RS as they are stored, over a session, which the caller closes."""

    def __init__(self, session: WebSession) -> None:
        self._session = session

    def __call__(self, placed: Placed) -> bytes | None:
        """The object's file; None where the server does not have it. Raises `ArchiveError`."""
        path = (
            f"/studies/{placed.study_instance_uid}/series/{placed.series_instance_uid}"
            f"/instances/{placed.sop_instance_uid}"
        )
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        reply = self._session.get("WADO-RS", path, accept)
        if reply.status in _NOT_THERE:
            return None
        if reply.status != 200:
            text = f"HTTP {reply.status} {reply.reason}".strip()
            peer = str(self._session.address)
            raise QuestionRefused(text, peer=peer, operation="WADO-RS", temporary=reply.status >= 500)
        part = _first_part(reply.body, reply.content_type)
        if part is None:
            raise self._session.error("WADO-RS", f"the answer is {reply.content_type or 'untyped'}", temporary=False)
        return part


def _first_part(body: bytes, content_type: str) -> bytes | None:
    """The first part of a multipart answer, or the whole of one that is a single object (RFC 2046 5.1)."""
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() == "application/dicom":
        return body
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str):
        return None
    delimiter = b"--" + boundary.encode("ascii", "replace")
    start = body.find(delimiter)
    content = body.find(b"\r\n\r\n", start)
    end = body.find(b"\r\n" + delimiter, content)
    return body[content + 4 : end] if start >= 0 and content >= 0 and end >= 0 else None
