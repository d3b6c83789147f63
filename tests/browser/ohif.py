"""The static OHIF viewer and an archive's DICOMweb on one origin of loopback: no CORS, no header of its own."""

from __future__ import annotations

import functools
import http.client
import http.server
import json
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NEWER, OLDER = "3.13.2", "3.11.1"
"""The versions that `.ci/viewer` pins."""
LOOPBACK = "127.0.0.1"
_BELOW = Path(os.environ.get("DLM_VIEWER", Path(__file__).resolve().parents[2] / ".viewer"))
_BACKEND = ("/dicom-web", "/wado?")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}
_CONFIG = {
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "maxNumberOfWebWorkers": 2,
    "showLoadingIndicator": True,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "strictZSpacingForVolumeViewport": True,
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "wadoUriRoot": "/wado",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "qidoSupportsIncludeField": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "supportsReject": False,
                "dicomUploadEnabled": False,
                "omitQuotationForMultipartRequest": True,
                "singlepart": "bulkdata,pdf,video",
                "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
            },
        }
    ],
}


def distribution(version: str) -> Path:
    """The folder of an unpacked distribution; the test is skipped, with a word, where it was not fetched."""
    folder = _BELOW / version
    if not (folder / "index.html").is_file():
        pytest.skip(f"OHIF {version} was not fetched (.ci/viewer {version})")
    return folder


@contextmanager
def serving(version: str, archive: str) -> Iterator[str]:
    """URL of the viewer, whose one data source is the archive at the HTTP address `archive`."""
    handler = type("_Bound", (_Handler,), {"archive": urllib.parse.urlsplit(archive).netloc})
    directory = str(distribution(version))
    with _Server((LOOPBACK, 0), functools.partial(handler, directory=directory)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing where the browser dropped a connection that it no longer needed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the distribution; DICOMweb goes to the archive; every other path is the viewer's own router's."""

    protocol_version = "HTTP/1.1"
    extensions_map: dict[str, str] = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }
    archive: str

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if self.path.startswith(_BACKEND):
            self._forward()
        elif path == "/app-config.js":
            body = f"window.config = {json.dumps(_CONFIG)};".encode()
            self._answer(200, {"Content-Type": "text/javascript", "Cache-Control": "no-store"}, body)
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def do_POST(self) -> None:
        if self.path.startswith(_BACKEND):
            self._forward()
        else:
            self.send_error(405)

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # The archive writes URIs of bulk data from Host: the viewer's own keeps them on this origin.
        headers = {
            key: value for key, value in self.headers.items() if key.lower() not in ("connection", "accept-encoding")
        }
        upstream = http.client.HTTPConnection(self.archive, timeout=180)
        try:
            upstream.request(self.command, self.path, body, headers)
            reply = upstream.getresponse()
            kept = {key: value for key, value in reply.getheaders() if key.lower() not in _HOP_BY_HOP}
            self._answer(reply.status, kept, reply.read())
        finally:
            upstream.close()

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is its own."""
