"""Where archives report storage commitment to: our application entity on a port of its own (PS3.4 J.3.3)."""

from __future__ import annotations

import ssl
from typing import Any, Self

from pynetdicom import AE, evt

from deeplesion_miner.errors import ConfigError
from dicom_io import commitment, negotiation
from dicom_io.store import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


class ReportListener:
    """Takes reports on `host`:`port` (0 takes a free port) from construction to `close`.

    Everybody who can reach the port can report: a report counts only for a transaction UID that `on_report` knows,
    which nobody can guess who did not get the request.
    """

    def __init__(
        self,
        ae_title: str,
        on_report: commitment.OnReport,
        *,
        host: str = "0.0.0.0",
        port: int = 0,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        entity = AE(ae_title=ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_associations = 20
        entity.maximum_pdu_size = negotiation.MAXIMUM_PDU_BYTES
        entity.network_timeout = 60
        entity.add_supported_context(negotiation.ECHO)
        commitment.support(entity)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, negotiation.send_at_once), commitment.handler(on_report)]
        try:
            self._server = entity.start_server(
                (host, port), block=False, evt_handlers=handlers, ssl_context=tls_context
            )
        except (OSError, UnicodeError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            text = f"the receiver of commitment reports {ae_title} on {host}:{port}: {why}"
            raise ConfigError(text) from error
        self.port: int = self._server.socket.getsockname()[1]

    def close(self) -> None:
        """Stops listening and ends all associations; reports under way are kept, or reported again."""
        self._server.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
