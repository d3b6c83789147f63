"""An Orthanc with DICOMweb, as a viewer needs it: filled, asked and emptied by its REST interface."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_io.emit import EmittedObject
from dicom_io.object_file import ObjectFile
from dicom_io.stow import StowSender
from dicom_io.web import WebAddress, WebSession
from tests.servers import orthanc

_WHOLE = {"StudiesMetadata": "Full", "SeriesMetadata": "Full"}


@dataclass(frozen=True)
class WebArchive:
    """A running Orthanc."""

    url: str

    def put(self, objects: Iterable[bytes]) -> None:
        """Stores whole PS3.10 files behind the archive's back; urllib's HTTPError where one is refused."""
        for encoded in objects:
            self._ask("/instances", encoded)

    def send(self, objects: Iterable[EmittedObject]) -> None:
        """Sends our own objects as the product does, by STOW-RS; AssertionError where one is not taken."""
        files = [ObjectFile.read(one.encoded) for one in objects]
        with StowSender(WebSession(WebAddress(f"{self.url}/dicom-web"))) as sender:
            refused = [answer for answer in sender.send(files) if not answer.accepted]
        assert not refused, refused

    def reports(self, study_instance_uid: str) -> dict[str, bytes]:
        """All structured reports of a study as files, by SOP Instance UID."""
        return {
            one["MainDicomTags"]["SOPInstanceUID"]: self._ask(f"/instances/{one['ID']}/file")
            for one in self._find("Instance", study_instance_uid, "SR")
        }

    def forget(self, study_instance_uid: str, modality: str) -> None:
        """Deletes all series of a modality from a study."""
        for found in self._find("Series", study_instance_uid, modality):
            request = urllib.request.Request(f"{self.url}/series/{found['ID']}", method="DELETE")
            with urllib.request.urlopen(request, timeout=180):
                pass

    def _find(self, level: str, study_instance_uid: str, modality: str) -> list[dict[str, Any]]:
        wanted = {"StudyInstanceUID": study_instance_uid, "Modality": modality}
        query = {"Level": level, "Query": wanted, "Expand": True}
        found: list[dict[str, Any]] = json.loads(self._ask("/tools/find", json.dumps(query).encode()))
        return found

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(self.url + path, data=body, timeout=180) as reply:
            content: bytes = reply.read()
            return content


@contextmanager
def web_archive(folder: Path) -> Iterator[WebArchive]:
    """An empty Orthanc whose files lie in `folder`; the test is skipped, with a word, where it is not installed."""
    # The viewer asks for metadata of whole series: the plug-in's default for it reads every file.
    more = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/", **_WHOLE}}
    with orthanc(folder, web=True, more=more) as server:
        yield WebArchive(server.rest)
