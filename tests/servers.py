"""Real archives on loopback: Orthanc, DCMTK's dcmqrscp and pynetdicom's qrscp, each on free ports, stopped by pid.

A pytest plug-in (`tests/conftest.py` names it). A server that is not installed skips its test with a word.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pynetdicom import AE

from tests.waiting import PATIENCE_S

LOOPBACK = "127.0.0.1"
CALLING_AE = "MINER"
ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
ORTHANC_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
DCMQRSCP = "/usr/bin/dcmqrscp"
_ECHO = "1.2.840.10008.1.1"
_LOWEST_PORT = 10_000


@dataclass(frozen=True)
class Server:
    """A running archive that knows `CALLING_AE` at 127.0.0.1:`move_port`: as a C-MOVE destination, and, as Orthanc
    does, as the receiver of reports of storage commitment."""

    name: str
    address: str
    move_port: int
    web: str = ""
    """Root of its DICOMweb services, where it has them."""
    rest: str = ""
    """Root of Orthanc's own REST interface, where it is on: for counting and deleting behind the archive's back."""

    def send(self, folder: Path) -> None:
        """Stores every file below the folder into the archive, by DCMTK's dcmsend."""
        title, _, place = self.address.partition("@")
        host, _, port = place.rpartition(":")
        command = [
            "/usr/bin/dcmsend",
            "-aet",
            CALLING_AE,
            "-aec",
            title,
            "+sd",
            "+r",
            "-nh",
            "-nuc",
            host,
            port,
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TCP_NODELAY": "1"})
        assert done.returncode == 0, done.stdout + done.stderr


_given_ports: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody uses now, and that nobody is given by chance before the caller binds it.

    Taken below the ports that the system gives to connections and to who binds port 0, by lot, so that another
    process that asks the same hardly gets the same; never twice in one process.
    """
    lots = random.SystemRandom()
    for _ in range(1000):
        port = lots.randrange(_LOWEST_PORT, _first_ephemeral_port())
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        if port not in _given_ports:
            _given_ports.add(port)
            return port
    raise AssertionError("no port of loopback is free")


def _first_ephemeral_port() -> int:
    told = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(told.read_text().split()[0]) if told.exists() else 32768
    return first if first > _LOWEST_PORT + 1000 else 65536


@contextmanager
def orthanc(
    folder: Path,
    *,
    web: bool = False,
    certificates: Path | None = None,
    port: int = 0,
    move_port: int = 0,
    more: Mapping[str, object] | None = None,
) -> Iterator[Server]:
    """An Orthanc whose files lie in `folder`: empty, or what an earlier one left there.

    `web` turns on REST and DICOMweb; `certificates`, a folder as `make_certificates` fills it, has it speak TLS only,
    to who shows a certificate; ports of 0 take free ones; `more` are further settings of its configuration.
    """
    if not Path(ORTHANC).exists():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    if web and not ORTHANC_WEB.exists():
        pytest.skip("Orthanc's DICOMweb is not installed (apt-get install orthanc-dicomweb)")
    port, move_port, http_port = port or free_port(), move_port or free_port(), free_port()
    settings: dict[str, object] = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(ORTHANC_WEB)] if web else [],
        "HttpServerEnabled": web,
        "HttpPort": http_port,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "DicomPort": port,
        "UnknownSopClassAccepted": False,
        **{f"DicomAlwaysAllow{service}": True for service in ("Echo", "Store", "Find", "Get", "Move")},
        "DicomModalities": {
            "miner": {"AET": CALLING_AE, "Host": LOOPBACK, "Port": move_port, "UseDicomTls": certificates is not None}
        },
        "OverwriteInstances": False,
        "StorageAccessOnFind": "Always",
        **({} if certificates is None else _over_tls(certificates)),
        **(more or {}),
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    rest = f"http://{LOOPBACK}:{http_port}" if web else ""
    with _running([ORTHANC, str(config)], folder, "ORTHANC", port, certificates):
        yield Server("orthanc", f"ORTHANC@{LOOPBACK}:{port}", move_port, rest and f"{rest}/dicom-web", rest)


def _over_tls(certificates: Path) -> dict[str, object]:
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificates / "server.crt"),
        "DicomTlsPrivateKey": str(certificates / "server.key"),
        "DicomTlsTrustedCertificates": str(certificates / "ca.crt"),
        "DicomTlsRemoteCertificateRequired": True,
    }


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[Server]:
    """An empty dcmqrscp whose files lie in `folder`."""
    if not Path(DCMQRSCP).exists():
        pytest.skip("dcmqrscp is not installed (apt-get install dcmtk)")
    port, move_port = free_port(), free_port()
    (folder / "db").mkdir()
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nminer = ({CALLING_AE}, {LOOPBACK}, {move_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {folder}/db RW (2000, 4096mb) ANY\nAETable END\n"
    )
    with _running([DCMQRSCP, "-c", str(config)], folder, "ARCHIVE", port):
        yield Server("dcmqrscp", f"ARCHIVE@{LOOPBACK}:{port}", move_port)


@contextmanager
def qrscp(folder: Path) -> Iterator[Server]:
    """An empty qrscp of pynetdicom whose files lie in `folder`."""
    if importlib.util.find_spec("sqlalchemy") is None:
        pytest.skip("pynetdicom's qrscp needs sqlalchemy (pip install sqlalchemy)")
    port, move_port = free_port(), free_port()
    (folder / "db").mkdir()
    config = folder / "qrscp.ini"
    config.write_text(
        "[DEFAULT]\nae_title: QRSCP\n"
        f"port: {port}\nmax_pdu: 16382\nacse_timeout: 180\ndimse_timeout: 180\nnetwork_timeout: 180\n"
        f"bind_address: {LOOPBACK}\ninstance_location: {folder}/db\ndatabase_location: {folder}/qrscp.sqlite\n\n"
        f"[{CALLING_AE}]\naddress: {LOOPBACK}\nport: {move_port}\n"
    )
    with _running([sys.executable, "-m", "pynetdicom", "qrscp", "-c", str(config)], folder, "QRSCP", port):
        yield Server("qrscp", f"QRSCP@{LOOPBACK}:{port}", move_port)


STARTERS = {"orthanc": orthanc, "dcmqrscp": dcmqrscp, "qrscp": qrscp}


@pytest.fixture(scope="session", params=["orthanc", "dcmqrscp"])
def pacs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each of the installed archives in turn, empty at the start of the session."""
    with STARTERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture(scope="session", params=["orthanc", "dcmqrscp"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each of the installed archives in turn, for tests that send: unlike `pacs` it fills with whatever they like."""
    with STARTERS[request.param](tmp_path_factory.mktemp(f"target-{request.param}")) as server:
        yield server


@pytest.fixture(scope="session")
def orthanc_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Orthanc with DICOMweb and storage commitment, empty at the start of the session."""
    with orthanc(tmp_path_factory.mktemp("orthanc_web"), web=True) as server:
        yield server


@contextmanager
def _running(
    command: list[str], folder: Path, title: str, port: int, certificates: Path | None = None
) -> Iterator[None]:
    """The server process, from its first C-ECHO answer to its end."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "TCP_NODELAY": "1"}
        )
    try:
        _wait_for_echo(process, folder, title, port, certificates)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_echo(
    process: subprocess.Popen[bytes], folder: Path, title: str, port: int, certificates: Path | None
) -> None:
    entity = AE(ae_title=CALLING_AE)
    entity.add_requested_context(_ECHO)
    entity.connection_timeout = 10
    tls_args = None
    if certificates is not None:
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.load_cert_chain(str(certificates / "client.crt"), str(certificates / "client.key"))
        tls_args = (context, LOOPBACK)
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        association = entity.associate(LOOPBACK, port, ae_title=title, tls_args=tls_args)
        if association.is_established:
            association.release()
            return
        time.sleep(0.2)
    pytest.fail(f"{title} did not start:\n{(folder / 'server.log').read_text(errors='replace')[-2000:]}")
