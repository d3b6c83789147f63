"""Files and folders as an archive: indexed by their headers, referred to in place, never copied."""

from __future__ import annotations

import hashlib
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import MediaStorageDirectoryStorage

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.studies import InstanceListing, SeriesListing, StudyQuery, StudyRef
from deeplesion_miner.types import Unreadable
from dicom_io import part10
from dicom_io import query as q
from dicom_io.attributes import integer, quiet, text
from dicom_io.dialects import MEASUREMENT_MODALITIES

_INDEXED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
)
"""All that is asked of a file for the index."""
_INDEXED_TAGS = frozenset(int(Tag(keyword)) for keyword in _INDEXED)


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What is remembered of a file: enough to answer as an archive does."""

    path: str
    size_bytes: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    instance_number: int | None
    patient_id: str
    study_date: str


class FolderIndex:
    """All objects under some paths, by SOP Instance UID; read once, then safe to share between threads.

    Files are visited in sorted order, so that of two copies the same one is always the first. `progress` is
    called with the number of files after each. Raises `ConfigError` for a path that does not exist.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        *,
        max_object_bytes: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self._max_object_bytes = max_object_bytes
        self._files: dict[str, IndexedFile] = {}
        self._unreadable: list[Unreadable] = []
        self._too_large: dict[str, Unreadable] = {}
        self._studies: dict[str, dict[str, list[IndexedFile]]] = defaultdict(lambda: defaultdict(list))
        for count, path in enumerate(files_under(self.paths), start=1):
            self._add(path)
            if progress is not None:
                progress(count)
        for file in self._files.values():
            self._studies[file.study_instance_uid][file.series_instance_uid].append(file)

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """Files that are not in the index, and why; sorted by path."""
        return tuple(sorted(self._unreadable, key=lambda one: (one.source, one.why)))

    def path(self, sop_instance_uid: str) -> Path | None:
        """The file that holds the object."""
        file = self._files.get(sop_instance_uid)
        return None if file is None else Path(file.path)

    def size_bytes(self, sop_instance_uid: str) -> int:
        """Size of the object's file; KeyError where there is none."""
        return self._files[sop_instance_uid].size_bytes

    def kept_out(self, sop_instance_uid: str) -> Unreadable | None:
        """Why an object is not in reach; None where it is, or was never seen."""
        return self._too_large.get(sop_instance_uid)

    def set_aside(self) -> tuple[Unreadable, ...]:
        """The same as `unreadable`."""
        return self.unreadable

    def studies(self) -> dict[str, dict[str, list[IndexedFile]]]:
        """Files by study and series."""
        return self._studies

    def _add(self, path: Path) -> None:
        try:
            status = path.stat()
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                # Opening a pipe would wait for its other end.
                detail = f"{path}: a device, pipe or socket, passed over"
                self._unreadable.append(Unreadable(str(path), "not_dicom", detail=detail))
                return
            size_bytes = status.st_size
            dataset = part10.read(path, pixels=False, only=_INDEXED_TAGS)
        except OSError as error:
            self._unreadable.append(Unreadable(str(path), "not_opened", detail=f"{path}: {error.strerror}"))
            return
        if isinstance(dataset, Unreadable):
            self._unreadable.append(dataset)
            return
        if _sop_class(dataset) == MediaStorageDirectoryStorage:
            return  # an index of other files (PS3.10 8.6), no object of its own
        file = _indexed(path, size_bytes, dataset)
        if isinstance(file, Unreadable):
            self._unreadable.append(file)
        elif self._max_object_bytes is not None and size_bytes > self._max_object_bytes:
            detail = f"{path}: {size_bytes} bytes, the limit is {self._max_object_bytes}"
            problem = Unreadable(file.sop_instance_uid, "too_large", detail=detail)
            self._too_large[file.sop_instance_uid] = problem
            self._unreadable.append(problem)
        else:
            self._keep_first(file)

    def _keep_first(self, file: IndexedFile) -> None:
        first = self._files.setdefault(file.sop_instance_uid, file)
        if first is not file and _content_digest(Path(first.path)) != _content_digest(Path(file.path)):
            detail = f"{file.path} differs from {first.path}, which is used; both are {file.sop_instance_uid}"
            self._unreadable.append(Unreadable(file.path, "conflicting_copies", detail=detail))


class FolderTransport:
    """A `FolderIndex` answering as an archive; one index may serve many threads."""

    def __init__(self, index: FolderIndex) -> None:
        self._index = index

    @property
    def peer(self) -> str:
        """The paths."""
        return ", ".join(map(str, self._index.paths))

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """Files that are not in the index, and why."""
        return self._index.unreadable

    def echo(self) -> None:
        """The paths were read when the index was made."""

    def find_studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        """Studies that match (and have measurement series, if the query says so), sorted by UID."""
        window = q.window_of(query, datetime.now(UTC).date())
        for uid, series in sorted(self._index.studies().items()):
            files = [file for members in series.values() for file in members]
            measured = any(file.modality in MEASUREMENT_MODALITIES or not file.modality for file in files)
            if measured or not query.measured:
                study = min(StudyRef(uid, file.patient_id, file.study_date) for file in files)
                if q.matches(study, window, query):
                    yield study

    def find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        """The series of a study; one that mixes modalities is listed once for each, so that no report hides in it."""
        series = self._index.studies().get(study_instance_uid, {})
        return tuple(
            _listed(uid, modality, [file for file in files if file.modality == modality])
            for uid, files in sorted(series.items())
            for modality in sorted({file.modality for file in files})
        )

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """The objects of a series."""
        files = self._index.studies().get(study_instance_uid, {}).get(series_instance_uid, [])
        return _instances(files)

    def retrieve(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> tuple[str, ...]:
        """Nothing moves: the named objects that exist count as moved when they are first asked for."""
        return tuple(sorted(uid for uid in set(sop_instance_uids) if self._index.path(uid) is not None))

    def close(self) -> None:
        """Nothing is held."""


def _listed(series_instance_uid: str, modality: str, files: Collection[IndexedFile]) -> SeriesListing:
    may_measure = not modality or modality in MEASUREMENT_MODALITIES
    return SeriesListing(series_instance_uid, modality, len(files), _instances(files) if may_measure else None)


def _instances(files: Iterable[IndexedFile]) -> tuple[InstanceListing, ...]:
    return tuple(
        sorted(InstanceListing(file.sop_instance_uid, file.instance_number, file.sop_class_uid) for file in files)
    )


def files_under(paths: Iterable[Path]) -> Iterator[Path]:
    """All files under the paths, each once, in sorted order; links to folders below them are not followed.

    Folders that cannot be listed, links that lead nowhere, devices and pipes are among them, so that each is
    accounted for.
    """
    seen: set[Path] = set()
    for top in paths:
        if not top.exists():
            raise ConfigError(f"{top}: no such file or folder")
        for path in _walk(top):
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                yield path


def _walk(top: Path) -> Iterator[Path]:
    waiting = [top]
    while waiting:
        path = waiting.pop()
        if path.is_dir() and (path == top or not path.is_symlink()):
            try:
                waiting.extend(sorted(path.iterdir(), reverse=True))
            except OSError:
                yield path
        elif not path.is_dir():
            yield path


@quiet()
def _sop_class(dataset: Dataset) -> str:
    """SOP class of the data set, else of the file meta information."""
    stated = text(dataset, "SOPClassUID")
    return stated or text(dataset.file_meta, "MediaStorageSOPClassUID")


@quiet()
def _indexed(path: Path, size_bytes: int, dataset: Dataset) -> IndexedFile | Unreadable:
    """What is remembered of a file. An object without a series UID is kept: its study and its own UID place it."""
    for keyword in ("StudyInstanceUID", "SOPInstanceUID"):
        if not text(dataset, keyword):
            detail = f"{path}: {keyword} is missing or empty; repair the file at its source"
            return Unreadable(str(path), "missing_attribute", detail=detail)
    return IndexedFile(
        path=str(path),
        size_bytes=size_bytes,
        study_instance_uid=text(dataset, "StudyInstanceUID"),
        series_instance_uid=text(dataset, "SeriesInstanceUID"),
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        sop_class_uid=_sop_class(dataset),
        modality=text(dataset, "Modality"),
        instance_number=integer(dataset, "InstanceNumber"),
        patient_id=text(dataset, "PatientID"),
        study_date=text(dataset, "StudyDate"),
    )


def _content_digest(path: Path) -> bytes:
    """Digest of the data set: copies may differ in preamble and file meta information (PS3.10 7.1)."""
    content = path.read_bytes()
    start = 0
    if content[128:136] == b"DICM\x02\x00\x00\x00" and content[136:140] == b"UL\x04\x00":
        start = 144 + int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[start:]).digest()
