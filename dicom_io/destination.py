"""The ways to an archive that objects are sent to: C-STORE with C-FIND and storage commitment, or DICOMweb."""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from deeplesion_miner.errors import ConfigError
from dicom_io.address import Address, ae_title
from dicom_io.association import Limits
from dicom_io.commitment import CommitmentReport, OnReport
from dicom_io.committing import Committer
from dicom_io.comparison import GetFetch, differs
from dicom_io.delivery import Wire
from dicom_io.link import Link
from dicom_io.outbox import Outbox
from dicom_io.proof import FindInquiry
from dicom_io.report_listener import ReportListener
from dicom_io.sending import StoreSender
from dicom_io.stow import StowSender
from dicom_io.web import WebAddress, WebSession
from dicom_io.web_inquiry import QidoInquiry, WadoFetch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WireSettings:
    """How an archive is talked to."""

    calling_ae: str = "MINER"
    report_host: str = "0.0.0.0"
    report_port: int | None = None
    """Where archives report storage commitment; None listens on the association of the request only."""
    tls_context: ssl.SSLContext | None = None
    report_tls_context: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    authorization: str = field(default="", repr=False)
    """Value of the HTTP header Authorization; '' sends none."""
    compare: Literal["auto", "always", "never"] = "auto"
    """Whether what the archive lists is fetched and compared with ours; auto: over DICOMweb, where archives silently
    keep an older object."""

    def __post_init__(self) -> None:
        ae_title(self.calling_ae)
        if self.report_port is not None and not 0 <= self.report_port <= 65535:
            raise ConfigError(f"report port {self.report_port}: not a number from 0 to 65535")


def is_web(destination: str) -> bool:
    """Whether a destination is the URL of a STOW-RS service."""
    return destination.strip().lower().startswith(("http://", "https://"))


def checked(destination: str) -> str:
    """The destination, written in one way only; ConfigError for what is neither an address nor a URL."""
    if not is_web(destination):
        return str(Address.parse(destination))
    scheme, _, rest = destination.strip().rstrip("/").partition(":")
    return WebAddress(f"{scheme.lower()}:{rest}").url


def open_wire(destination: str, settings: WireSettings, outbox: Outbox) -> Wire:
    """The ways to a destination; commitment reports go into the outbox.

    Nothing is asked of the archive yet.
    """
    return _web(destination, settings) if is_web(destination) else _dimse(destination, settings, outbox)


def _web(destination: str, settings: WireSettings) -> Wire:
    session = WebSession(
        WebAddress(destination, settings.authorization),
        tls_context=settings.tls_context,
        patience_s=settings.limits.idle_s,
    )
    compared = None if settings.compare == "never" else partial(differs, WadoFetch(session), told=set())
    return Wire(StowSender(session), QidoInquiry(session), differs=compared, must_compare=settings.compare == "always")


def _dimse(destination: str, settings: WireSettings, outbox: Outbox) -> Wire:
    address = Address.parse(destination)

    def keep(report: CommitmentReport) -> bool:
        return outbox.report(report.transaction_uid, report.committed, report.failed, time.time())

    sender = StoreSender(
        address, settings.calling_ae, limits=settings.limits, tls_context=settings.tls_context, on_report=keep
    )
    link = Link(address, settings.calling_ae, limits=settings.limits, tls_context=settings.tls_context)
    fetch = None
    if settings.compare == "always":
        fetch = GetFetch(address, settings.calling_ae, limits=settings.limits, tls_context=settings.tls_context)
    listener = _listener(settings, keep)

    def close() -> None:
        link.close()
        if fetch is not None:
            fetch.close()
        if listener is not None:
            listener.close()

    compared = None if fetch is None else partial(differs, fetch, told=set())
    return Wire(
        sender, FindInquiry(link), Committer(sender), differs=compared, must_compare=fetch is not None, on_close=close
    )


def _listener(settings: WireSettings, keep: OnReport) -> ReportListener | None:
    """The receiver of reports; None where none is wanted, or another process of ours takes them for the same outbox."""
    if settings.report_port is None:
        return None
    try:
        return ReportListener(
            settings.calling_ae,
            keep,
            host=settings.report_host,
            port=settings.report_port,
            tls_context=settings.report_tls_context,
        )
    except ConfigError as error:
        logger.warning("%s: reports are left to whoever listens there; what they miss is proven by query", error)
        return None
