"""Orthanc and dcmqrscp on loopback that are killed -9 and started again on the same files and the same port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.servers import free_port
from tests.waiting import PATIENCE_S

LOOPBACK = "127.0.0.1"
ORTHANC, DCMQRSCP = "/usr/sbin/Orthanc", "/usr/bin/dcmqrscp"
TITLES = {"orthanc": "ORTHANC", "dcmqrscp": "ARCHIVE"}
CALLING_AE = "MINER"


class KilledArchive:
    """An archive of `kind` 'orthanc' or 'dcmqrscp'; it reports commitment to `report_port`."""

    def __init__(self, kind: str, folder: Path, report_port: int) -> None:
        self.kind = kind
        self.title = TITLES[kind]
        self.port = free_port()
        self.kills = 0
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "db").mkdir(parents=True)
        self._command = _orthanc(folder, self.port, report_port) if kind == "orthanc" else _dcmqrscp(folder, self.port)

    @classmethod
    def is_installed(cls, kind: str) -> bool:
        """Whether its program is here."""
        return Path(ORTHANC if kind == "orthanc" else DCMQRSCP).exists()

    def start(self) -> None:
        """Starts and waits until it accepts connections."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TCP_NODELAY": "1"},
                start_new_session=True,
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            assert self._process.poll() is None, (self._folder / "server.log").read_text(errors="replace")[-2000:]
            try:
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{self.kind} does not answer")

    def kill(self) -> None:
        """Ends it by SIGKILL, with the children that serve its associations."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self.kills += 1

    def stop(self) -> None:
        """Ends it in peace, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


def _orthanc(folder: Path, port: int, report_port: int) -> list[str]:
    settings: dict[str, object] = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [],
        "HttpServerEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": TITLES["orthanc"],
        "DicomPort": port,
        **{f"DicomAlwaysAllow{service}": True for service in ("Echo", "Store", "Find", "Get", "Move")},
        "DicomModalities": {"miner": [CALLING_AE, LOOPBACK, report_port]},
        "OverwriteInstances": False,
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    return [ORTHANC, str(config)]


def _dcmqrscp(folder: Path, port: int) -> list[str]:
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{TITLES['dcmqrscp']} {folder}/db RW (20000, 4096mb) ANY\nAETable END\n"
    )
    return [DCMQRSCP, "-c", str(config)]
