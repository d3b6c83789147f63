"""A node in a process of its own, small objects for it, and what the system says of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_io.object_file import ObjectFile
from tests.servers import free_port
from tests.waiting import PATIENCE_S

LOOPBACK = "127.0.0.1"
# DCMTK's: pynetdicom puts programs of these names into an environment, which come first where it is activated.
ECHOSCU, STORESCU = "/usr/bin/echoscu", "/usr/bin/storescu"
NODE_AE = "NODE"
_MARK = "1.2.826.0.1.3680043.8.498.1{:0>15}"
"""UIDs of one length, so that one encoded object becomes all others by replacing them."""


@dataclass
class RunningNode:
    """The process of a node."""

    process: subprocess.Popen[bytes]
    port: int
    health_port: int
    work: Path

    def kill(self, number: signal.Signals) -> int:
        """Sends a signal and waits for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_S)

    def page(self, name: str) -> tuple[int, str]:
        """Status and text of a page."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.health_port}/{name}", timeout=PATIENCE_S) as answer:
                return int(answer.status), str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """The most that the process ever had resident."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def descriptors(self) -> int:
        """Open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def threads(self) -> int:
        """Threads of the process."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/task").iterdir())


@contextmanager
def running_node(
    work: Path, rules: Path, *, port: int | None = None, settings: Sequence[str] = ()
) -> Iterator[RunningNode]:
    """`mine serve` until the end of the block; `settings` as ``section.name=value``."""
    port, health_port = port or free_port(), free_port()
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--rules", str(rules),
               "--aet", NODE_AE, "--host", LOOPBACK, "--port", str(port), "--health-port", str(health_port),
               "--work", str(work)]  # fmt: skip
    for one in settings:
        command += ["--set", one]
    work.mkdir(parents=True, exist_ok=True)
    with (work / "serve.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    node = RunningNode(process, port, health_port, work)
    try:
        _wait_until_ready(node)
        yield node
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(node: RunningNode) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s and node.process.poll() is None:
        with suppress(OSError):
            if node.page("health")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"the node did not start:\n{(node.work / 'serve.log').read_text()[-2000:]}")


def log_events(work: Path, event: str) -> list[dict[str, object]]:
    """Lines of the node's log of one kind."""
    found = []
    for line in (work / "serve.log").read_text().splitlines():
        with suppress(json.JSONDecodeError):
            one = json.loads(line)
            if one.get("event") == event:
                found.append(one)
    return found


class SmallObjects:
    """CT images of `rows` x `rows` pixels, each with its own UIDs, made by replacing bytes of a template."""

    def __init__(self, rows: int = 32) -> None:
        dataset = Dataset()
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
            _MARK.format(one) for one in (1, 2, 3)
        )
        dataset.PatientID, dataset.PatientName, dataset.Modality = "SOAK", "Soak^Test", "CT"
        dataset.SeriesDescription, dataset.SliceThickness = "small", "1.0"
        dataset.Rows = dataset.Columns = rows
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = bytes(2 * rows * rows)
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        self._template = buffer.getvalue()

    def one(self, number: int, study: int, series: int) -> ObjectFile:
        """An object; equal numbers give equal objects."""
        sop, study_uid, series_uid = (
            _MARK.format(one) for one in (10**12 + number, 2 * 10**12 + study, 3 * 10**12 + series)
        )
        content = self._template
        for mark, uid in zip((1, 2, 3), (sop, study_uid, series_uid), strict=True):
            content = content.replace(_MARK.format(mark).encode(), uid.encode())
        return ObjectFile(sop, str(CTImageStorage), str(ExplicitVRLittleEndian), content)


@dataclass(frozen=True)
class Sent:
    """What DCMTK's storescu was answered."""

    succeeded: tuple[str, ...]
    """SOP Instance UIDs of objects answered 0000."""
    refused: int
    unanswered: int
    code: int


def storescu(port: int, objects: Sequence[ObjectFile], folder: Path, *, more: Sequence[str] = ()) -> Sent:
    """Sends objects by DCMTK over one association; `folder` takes their files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for number, one in enumerate(objects):
        path = folder / f"{number:05d}.dcm"
        path.write_bytes(one.file_bytes())
        names[str(path)] = one.sop_instance_uid
    command = [STORESCU, "-v", "-nh", "-R", *more, "-aet", "STORESCU", "-aec", NODE_AE, LOOPBACK, str(port), *names]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TCP_NODELAY": "1"})
    return _of_storescu(done.stdout + done.stderr, names, done.returncode)


def _of_storescu(text: str, names: Mapping[str, str], code: int) -> Sent:
    succeeded, refused, current = [], 0, ""
    for line in text.splitlines():
        if "Sending file: " in line:
            current = line.partition("Sending file: ")[2].strip()
        if "Received Store Response" in line:
            if "(Success)" in line:
                succeeded.append(names[current])
            else:
                refused += 1
    return Sent(tuple(succeeded), refused, len(names) - len(succeeded) - refused, code)


def write_rules(path: Path, *titles: str, quiet_s: float = 5.0, more: str = "") -> Path:
    """A rule file that lets these peers send."""
    tables = [f'[[peer]]\nae_title = "{one}"\nquiet_s = {quiet_s}\nassociations = 24\n{more}\n' for one in titles]
    path.write_text("\n".join(tables))
    return path
