"""GET /health, /ready and /metrics, for whoever looks after the node; nothing there names a patient."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from deeplesion_miner.errors import ConfigError, MinerError
from dicom_io.node.metrics import Metrics

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE_S = 5.0

Problems = Callable[[], Mapping[str, str]]
"""What is wrong, by name; nothing where all is well."""


class HealthServer:
    """Answers on `host`:`port` (0 takes a free one) from construction to `close`.

    /health: 200 while the node's threads live, else 503: start it anew. /ready: 200 while images are taken, else 503
    with what is in the way. /metrics: Prometheus.
    """

    def __init__(self, host: str, port: int, health: Problems, readiness: Problems, metrics: Metrics) -> None:
        class Handler(_Handler):
            pages: ClassVar = {
                "/health": lambda: _page(health()),
                "/ready": lambda: _page({**health(), **readiness()}),
                "/metrics": lambda: (HTTPStatus.OK, _METRICS_TYPE, metrics.text()),
            }

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            text = f"health page: cannot listen on {host}:{port}: {error.strerror or error}; name another --health-port"
            raise ConfigError(text) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Begins to answer; who asks before waits."""
        self._thread.start()

    def close(self) -> None:
        """Stops answering."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: who asks may hang up in the middle, and stderr is the node's log."""


def _page(problems: Mapping[str, str]) -> tuple[HTTPStatus, str, str]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    body = {"status": "not well" if problems else "ok", "problems": dict(problems)}
    return status, "application/json", json.dumps(body) + "\n"


class _Handler(BaseHTTPRequestHandler):
    pages: ClassVar[Mapping[str, Callable[[], tuple[HTTPStatus, str, str]]]]
    timeout = _PATIENCE_S
    server_version = "mine"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            status, kind, body = page()
        except (MinerError, OSError) as error:  # a journal that cannot be read, or is closed just now
            status, kind, body = _page({"node": f"cannot tell: {type(error).__name__}"})
        encoded = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the node logs what it does itself."""
