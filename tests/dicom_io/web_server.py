"""An HTTP server on loopback whose answers are planned: what DICOMweb servers say on their bad days."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What goes out; status 0 closes the connection without an answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/dicom+json"
    headers: dict[str, str] = field(default_factory=dict)
    unread: bool = False
    """Answer without reading the request's body."""
    cut_from: int | None = None
    """The length that is told, where the connection is closed after less."""


class WebServer:
    """Serves while open; `answer` makes an answer of a request."""

    def __init__(self, answer: Callable[[Request], Answer], tls_context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                early = answer(Request(self.command, self.path, dict(self.headers), b""))
                body = b"" if early.unread else self.rfile.read(length)
                request = Request(self.command, self.path, dict(self.headers), body)
                outer.requests.append(request)
                given = early if early.unread else answer(request)
                if early.unread or given.status == 0:
                    self.close_connection = True
                if given.status == 0:
                    return
                self.send_response(given.status)
                for name, value in given.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", given.content_type)
                told = len(given.body) if given.cut_from is None else given.cut_from
                self.send_header("Content-Length", str(told))
                self.close_connection = self.close_connection or given.cut_from is not None
                self.end_headers()
                self.wfile.write(given.body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: what came in is in `requests`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if tls_context is not None:
            self._server.socket = tls_context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/dicom-web"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
