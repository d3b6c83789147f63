"""TLS for associations and for DICOMweb (PS3.15 annex B, BCP 195): who we trust, and who we are.

Never without verification: a peer is who a certificate authority says that it is, or there is no connection.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from deeplesion_miner.errors import ConfigError

_ALERT_S = 5.0
"""With TLS 1.3 a server refuses our certificate after the handshake: so long its alert is waited for."""


def client_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """For connections that we open: the server's certificate must be signed by `ca` and name its host.

    `ca` None trusts what the system trusts. `certificate` and `key` are ours, for servers that ask for them; None
    for both shows none. TLS 1.2 or later. Raises `ConfigError` for a file that is missing or no such thing.
    """
    context = _trusting(ssl.Purpose.SERVER_AUTH, ca)
    if certificate is not None or key is not None:
        _identify(context, certificate, key)
    return context


def server_context(ca: Path | None, certificate: Path, key: Path) -> ssl.SSLContext:
    """For connections that others open: they must show a certificate signed by `ca`; None asks for none.

    TLS 1.2 or later. Raises `ConfigError` for a file that is missing or no such thing.
    """
    context = _trusting(ssl.Purpose.CLIENT_AUTH, ca)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    _identify(context, certificate, key)
    return context


def handshake_failure(host: str, port: int, context: ssl.SSLContext, patience_s: float) -> str:
    """Why no TLS connection comes about, as the handshake says it; '' where one does, or nobody listens."""
    try:
        with (
            socket.create_connection((host, port), timeout=patience_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            secure.settimeout(_ALERT_S)
            secure.recv(1)
    except TimeoutError:
        return ""
    except ssl.SSLCertVerificationError as error:
        return f"the archive's certificate is not trusted: {error.verify_message or error}"
    except ssl.SSLError as error:
        return _alert_text(error)
    except OSError:
        return ""
    return ""


def _alert_text(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate" in reason or "unknown ca" in reason:
        return f"the archive does not trust our certificate, or asks for one: {reason}"
    return reason


def _trusting(purpose: ssl.Purpose, ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca}: no certificate authority in PEM can be read from it: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _identify(context: ssl.SSLContext, certificate: Path | None, key: Path | None) -> None:
    if certificate is None or key is None:
        raise ConfigError("TLS needs both a certificate and its private key, or neither")
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; TLS needs a certificate and its private key in PEM")
    try:
        # Without a password function OpenSSL would ask the terminal for the password of an encrypted key.
        context.load_cert_chain(str(certificate), str(key), password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        text = f"{certificate} and {key} are no certificate with its private key (unencrypted, PEM): {error}"
        raise ConfigError(text) from error
