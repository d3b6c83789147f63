"""HTTP to the DICOMweb services of one archive (PS3.18): one connection, kept; every failure an `ArchiveError`."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io.address import is_host
from dicom_io.store_status import one_line

_LONGEST_ANSWER_BYTES = 1 << 30
_TEMPORARY = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP statuses after which the same request may succeed (RFC 9110 15.5, 15.6; RFC 6585)."""
_BROKEN = (http.client.HTTPException, OSError)

Body = Callable[[], Iterable[bytes]]
"""Makes the pieces of a request's body, anew for each attempt."""


@dataclass(frozen=True)
class WebAddress:
    """The root of DICOMweb services and what we show there."""

    url: str
    authorization: str = field(default="", repr=False)
    """Value of the header Authorization; '' sends none. Never logged."""

    def __post_init__(self) -> None:
        shown = f"DICOMweb address {printable(self.url)!a}"
        if "@" in self.url or "?" in self.url or "#" in self.url:
            raise ConfigError(
                f"{shown}: neither credentials nor a query belong into it; "
                "credentials belong into the file that [send] credentials names, or into MINE_WEB_CREDENTIALS"
            )
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ConfigError(f"{shown}: only printable ASCII without spaces is allowed; write the rest as %XX")
        try:
            parts = urlsplit(self.url)
            possible = parts.port is None or parts.port > 0
        except ValueError as error:
            raise ConfigError(f"{shown}: {error}") from error
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not is_host(host) or not possible:
            raise ConfigError(f"{shown}: expected http(s)://host[:port]/path")
        if self.authorization and parts.scheme == "http" and not _is_loopback(host):
            raise ConfigError(f"DICOMweb address {self.url}: credentials would travel unencrypted; use https")

    def __str__(self) -> str:
        return self.url


def printable(url: str) -> str:
    """What of a URL may be shown: neither credentials nor a query."""
    return re.split("[?#]", url.rpartition("@")[2], maxsplit=1)[0]


def read_authorization(file: Path | None, environment: Mapping[str, str], variable: str) -> str:
    """The value of the header Authorization from a file, else from a variable of the environment; '' for neither.

    Either holds ``user:password``, a bearer token, or the whole value (``Bearer ...``, ``Basic ...``). Raises
    `ConfigError` where the file cannot be read or holds nothing.
    """
    if file is not None:
        try:
            secret = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: the credentials cannot be read: {error}") from error
        if not secret:
            raise ConfigError(f"{file}: it holds no credentials; write user:password or a token into it")
    else:
        secret = environment.get(variable, "").strip()
    if any(ord(character) < 32 or ord(character) == 127 for character in secret):
        raise ConfigError("the credentials hold a line break or another control character; one line is expected")
    if not secret.isascii() and (":" not in secret or secret.startswith(("Bearer ", "Basic "))):
        raise ConfigError("the credentials hold a character that is not ASCII, which no token does")
    if not secret or secret.startswith(("Bearer ", "Basic ")):
        return secret
    if ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode('ascii')}"
    return f"Bearer {secret}"


@dataclass(frozen=True)
class Reply:
    """An answer of the server, whatever its status."""

    status: int
    reason: str
    content_type: str
    body: bytes


class WebSession:
    """Requests over one connection, made when needed; of one thread."""

    def __init__(
        self, address: WebAddress, *, tls_context: ssl.SSLContext | None = None, patience_s: float = 120.0
    ) -> None:
        self.address = address
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._root = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._tls_context = tls_context
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None

    def get(self, operation: str, path: str, accept: str, query: Iterable[tuple[str, str]] = ()) -> Reply:
        """GET of a path below the root; raises `ArchiveError` as `request` does."""
        asked = urlencode(list(query))
        return self.request(operation, "GET", f"{path}?{asked}" if asked else path, {"Accept": accept})

    def request(
        self, operation: str, method: str, path: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """The server's answer.

        Raises `ArchiveError` where there is none, where the server is busy or redirects, and where it does not let
        us in; every other status is the caller's to judge. A kept connection that the server has closed is made anew.
        """
        was_kept = self._connection is not None
        try:
            reply = self._exchange(method, path, headers, body)
        except _BROKEN as error:
            self.close()
            if not was_kept:
                raise self._failure(operation, error) from error
            try:
                reply = self._exchange(method, path, headers, body)
            except _BROKEN as second:
                self.close()
                raise self._failure(operation, second) from second
        self._check(operation, reply)
        return reply

    def error(self, operation: str, text: str, *, temporary: bool) -> ArchiveError:
        """An `ArchiveError` of this server."""
        return ArchiveError(text, peer=str(self.address), operation=operation, temporary=temporary)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: Body | None) -> Reply:
        connection = self._connection or self._connect()
        self._connection = connection
        sent = dict(headers)
        if self.address.authorization:
            sent["Authorization"] = self.address.authorization
        try:
            pieces = None if body is None else body()
            connection.request(method, self._root + path, body=pieces, headers=sent)
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise
            # A server may refuse a body before it has read all of it: then its answer lies here already.
        response = connection.getresponse()
        content = response.read(_LONGEST_ANSWER_BYTES)
        left_bytes = response.length or 0
        if left_bytes and len(content) < _LONGEST_ANSWER_BYTES:
            raise http.client.IncompleteRead(content, left_bytes)
        if response.will_close or left_bytes:
            self.close()
        return Reply(response.status, one_line(response.reason), response.headers.get("Content-Type", ""), content)

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = self._tls_context or ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._patience_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._patience_s)

    def _check(self, operation: str, reply: Reply) -> None:
        said = f"HTTP {reply.status} {reply.reason}".strip()
        if reply.status in (401, 403):
            text = f"{said}: the server does not let us in; look at the credentials"
            raise self.error(operation, text, temporary=False)
        if 300 <= reply.status < 400:
            raise self.error(operation, f"{said}: the server is elsewhere; name its own address", temporary=False)
        if reply.status in _TEMPORARY:
            raise self.error(operation, f"{said}: the server is busy or away", temporary=True)

    def _failure(self, operation: str, error: Exception) -> ArchiveError:
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"the server's certificate is not trusted: {error.verify_message or error}"
            return self.error(operation, text, temporary=False)
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return self.error(operation, f"TLS: {error.reason or error}", temporary=False)
        return self.error(operation, f"no answer: {error or type(error).__name__}", temporary=True)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
