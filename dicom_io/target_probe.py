"""What an archive takes that results are to go to: the findings behind the second half of `mine doctor`.

Found out by negotiation, by questions for what does not exist and by a request for commitment to it: nothing is stored.
"""

from __future__ import annotations

import ssl
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.sop_class import Verification

import schemas
from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io import association as associations
from dicom_io import commitment, negotiation, reencoding
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.commitment import CommitmentReport
from dicom_io.link import Link
from dicom_io.probe import Finding, Level
from dicom_io.proof import FindInquiry
from dicom_io.report_listener import ReportListener
from dicom_io.sending import StoreSender
from dicom_io.web import WebSession
from dicom_io.web_inquiry import QidoInquiry

_REPORT_S = 5.0
_REPORTS = ("sr_comprehensive", "sr_comprehensive_3d")
"""Without one of these no measurement can be edited in a viewer."""

Accepted = Mapping[str, frozenset[str]]
"""Transfer syntaxes by SOP class."""


def probe_target(
    address: Address,
    calling_ae: str,
    *,
    limits: Limits | None = None,
    tls_context: ssl.SSLContext | None = None,
    report_host: str = "0.0.0.0",
    report_port: int | None = None,
) -> list[Finding]:
    """Findings about a DIMSE target, with the fallback for each thing that it refuses; an archive that is away is one.

    `report_port` None listens for the report of commitment on the association of the request only.
    """
    limits = limits or Limits(connect_s=5.0, idle_s=30.0, total_s=120.0)
    try:
        accepted = _accepted(address, calling_ae, limits, tls_context)
    except ArchiveError as error:
        advice = "Check host, port, TLS and both AE titles with the administrator."
        return [Finding("target", Level.FAIL, str(error), advice)]
    where = "over TLS" if tls_context is not None else "without TLS"
    return [
        Finding("target", Level.OK, f"{address} answers {calling_ae} {where}"),
        *_classes(accepted),
        *_syntaxes(accepted),
        _found(address, calling_ae, limits, tls_context, accepted),
        _service("get", accepted, "offered: what the archive kept can be compared"),
        _committed(address, calling_ae, limits, tls_context, accepted, report_host, report_port),
    ]


def probe_web_target(session: WebSession) -> list[Finding]:
    """Findings about a DICOMweb target: whether it answers QIDO-RS, and would take objects by STOW-RS."""
    return [_qido(session), _stow(session)]


def _accepted(address: Address, calling_ae: str, limits: Limits, tls_context: ssl.SSLContext | None) -> Accepted:
    """What the archive agrees to, after it has answered C-ECHO. Raises `ArchiveError`."""
    tables = schemas.load("target")
    wanted = {(row["uid"], syntax) for row in tables["class"] for syntax in (reencoding.EXPLICIT, reencoding.IMPLICIT)}
    by_name = {row["name"]: row["uid"] for row in tables["class"]}
    wanted |= {(by_name[name], row["uid"]) for row in tables["syntax"] for name in row["classes"]}
    services = [row["uid"] for row in tables["service"].values() if "uid" in row]
    contexts = [build_context(Verification), *(build_context(one, negotiation.UNCOMPRESSED) for one in services)]
    contexts += [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]
    association = associations.associate(address, calling_ae, contexts, limits=limits, tls_context=tls_context)
    try:
        accepted: dict[str, set[str]] = {}
        for context in association.accepted_contexts:
            accepted.setdefault(str(context.abstract_syntax), set()).add(str(context.transfer_syntax[0]))
        _echo(association, address)
        return {one: frozenset(syntaxes) for one, syntaxes in accepted.items()}
    finally:
        associations.release(association)


def _echo(association: Any, address: Address) -> None:
    request = C_ECHO()
    request.MessageID = 1
    request.AffectedSOPClassUID = Verification
    contexts = [one for one in association.accepted_contexts if one.abstract_syntax == Verification]
    response = associations.ask(association, request, contexts[0].context_id) if contexts else None
    if response is None or response.Status != 0:
        raise ArchiveError("it does not answer", peer=str(address), operation="C-ECHO", temporary=True)


def _classes(accepted: Accepted) -> Iterator[Finding]:
    tables = schemas.load("target")
    meanings = {row["uid"]: row["meaning"] for row in tables["syntax"]}
    meanings[reencoding.IMPLICIT] = "Implicit VR Little Endian"
    by_name = {row["name"]: row["uid"] for row in tables["class"]}
    no_report = not any(by_name[name] in accepted for name in _REPORTS)
    for row in tables["class"]:
        name = f"target_{row['name']}"
        if row["uid"] in accepted:
            syntaxes = ", ".join(meanings[one] for one in sorted(accepted[row["uid"]]))
            yield Finding(name, Level.OK, f"{row['meaning']} is taken: {syntaxes}")
        elif no_report and row["name"] in _REPORTS:
            yield Finding(name, Level.FAIL, f"{row['meaning']} is refused", "No report can go there: ask for it.")
        else:
            yield Finding(name, Level(row["level"]), f"{row['meaning']} is refused", f"Fallback: {row['fallback']}.")


def _syntaxes(accepted: Accepted) -> Iterator[Finding]:
    tables = schemas.load("target")
    classes = {row["name"]: row for row in tables["class"]}
    for row in tables["syntax"]:
        offered = [classes[name] for name in row["classes"] if classes[name]["uid"] in accepted]
        refused = [one["meaning"] for one in offered if row["uid"] not in accepted[one["uid"]]]
        name = f"target_{row['name']}"
        if refused:
            text = f"{row['meaning']} is refused for {', '.join(refused)}"
            yield Finding(name, Level(row["level"]), text, f"Fallback: {row['fallback']}.")
        elif offered:
            yield Finding(name, Level.OK, f"{row['meaning']} is taken wherever we would use it")


def _service(name: str, accepted: Accepted, text: str) -> Finding:
    row = schemas.load("target")["service"][name]
    if row["uid"] in accepted:
        return Finding(f"target_{name}", Level.OK, f"{row['meaning']} is {text}")
    return _without(name, f"{row['meaning']} is not offered")


def _without(name: str, text: str) -> Finding:
    return Finding(
        f"target_{name}", Level.WARN, text, f"Fallback: {schemas.load('target')['service'][name]['fallback']}."
    )


def _found(
    address: Address, calling_ae: str, limits: Limits, tls_context: ssl.SSLContext | None, accepted: Accepted
) -> Finding:
    """Is a question for a study that nobody has answered with nothing?"""
    if schemas.load("target")["service"]["find"]["uid"] not in accepted:
        return _without("find", "C-FIND is not offered")
    link = Link(address, calling_ae, limits=limits, tls_context=tls_context)
    try:
        rows = FindInquiry(link).identities(_nothing())
    except ArchiveError as error:
        return _without("find", str(error))
    finally:
        link.close()
    if rows:
        return _without("find", "C-FIND lists a study that cannot exist")
    return Finding("target_find", Level.OK, "C-FIND answers: whose a study is, and what has stayed, can be asked")


def _committed(
    address: Address,
    calling_ae: str,
    limits: Limits,
    tls_context: ssl.SSLContext | None,
    accepted: Accepted,
    report_host: str,
    report_port: int | None,
) -> Finding:
    """Does a report come for an object that nobody has?"""
    if schemas.load("target")["service"]["commitment"]["uid"] not in accepted:
        return _without("commitment", "storage commitment is not offered")
    transaction, came = _nothing(), threading.Event()

    def take(report: CommitmentReport) -> bool:
        if report.transaction_uid == transaction:
            came.set()
        return report.transaction_uid == transaction

    sender = StoreSender(address, calling_ae, limits=limits, tls_context=tls_context, on_report=take)
    listener: ReportListener | None = None
    try:
        if report_port is not None:
            listener = ReportListener(calling_ae, take, host=report_host, port=report_port)
        sop_class = schemas.load("target")["class"][0]["uid"]
        sender.request_commitment(transaction, [commitment.Reference(sop_class, _nothing())])
        came.wait(_REPORT_S)
    except ArchiveError as error:
        return _without("commitment", f"{error}; does the archive list {calling_ae}?")
    except ConfigError as error:
        return _without("commitment", str(error))
    finally:
        sender.close()
        if listener is not None:
            listener.close()
    if came.is_set():
        return Finding("target_commitment", Level.OK, "storage commitment is offered, and its reports reach us")
    place = (
        "on the association of the request" if report_port is None else f"for {calling_ae} at our port {report_port}"
    )
    hint = "; archives want a port of ours that they know (--report-port)" if report_port is None else ""
    return _without(
        "commitment", f"storage commitment is offered, but no report came {place} in {_REPORT_S:.0f} s{hint}"
    )


def _qido(session: WebSession) -> Finding:
    try:
        rows = QidoInquiry(session).identities(_nothing())
    except ArchiveError as error:
        return _without("qido", str(error))
    if rows:
        return _without("qido", "QIDO-RS lists a study that cannot exist")
    return Finding("target_qido", Level.OK, f"QIDO-RS answers at {session.address}")


def _stow(session: WebSession) -> Finding:
    """A request that holds no object: a server that offers the service answers it, well or not."""
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=nothing',
        "Content-Length": "13",
        "Accept": "application/dicom+json",
    }
    advice = f"Fallback: {schemas.load('target')['service']['stow']['fallback']}."
    try:
        reply = session.request("STOW-RS", "POST", "/studies", headers, lambda: [b"--nothing--\r\n"])
    except ArchiveError as error:
        return Finding("target_stow", Level.FAIL, str(error), advice)
    if reply.status in (404, 405, 501):
        return Finding("target_stow", Level.FAIL, f"STOW-RS is not offered (HTTP {reply.status})", advice)
    return Finding("target_stow", Level.OK, f"STOW-RS is offered (HTTP {reply.status} to a request without objects)")


def _nothing() -> str:
    """A UID that nobody has."""
    return f"2.25.{uuid.uuid4().int}"
