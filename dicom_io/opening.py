"""From settings to archives: one object a worker thread, behind it one store, one receiver and one pace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deeplesion_miner.errors import ConfigError
from dicom_io.address import Address, ae_title
from dicom_io.archive import TransportArchive
from dicom_io.association import Limits
from dicom_io.dimse import DimseTransport, Method
from dicom_io.folder import FolderIndex, FolderTransport
from dicom_io.receiver import Receiver
from dicom_io.retry import Retry
from dicom_io.store import ObjectStore
from dicom_io.throttle import Hours, RateLimit, Throttled
from dicom_io.transport import Transport


@dataclass(frozen=True)
class ArchiveSettings:
    """How to reach an archive, and how gently. Either `address` and `store_folder`, or `paths`."""

    address: str = ""
    """AET@host:port."""
    store_folder: Path | None = None
    """Where received objects are kept (trusted side)."""
    paths: tuple[Path, ...] = ()
    calling_ae: str = "MINER"
    method: Method = "get"
    move_host: str = "0.0.0.0"
    """Where our storage SCP listens for C-MOVE; the archive must know `calling_ae` at this port."""
    move_port: int = 11112
    limits: Limits = field(default_factory=Limits)
    retry: Retry = field(default_factory=Retry)
    late_s: float = 3.0
    """How long after the end of a C-MOVE without any arrival the rest is asked for again."""
    images_per_minute: float | None = None
    bytes_per_minute: float | None = None
    hours: str = ""
    """Local hours in which objects are fetched, 'HH:MM-HH:MM'; '' is any hour."""
    max_object_mb: float | None = 4096.0
    max_associations: int = 2


class ArchiveOpener:
    """Opens archives that share what must be shared. Raises `ConfigError` for settings that cannot work.

    A folder is read at the first `open`; `progress` is then called with the number of files after each.
    """

    def __init__(self, settings: ArchiveSettings, progress: Callable[[int], None] | None = None) -> None:
        if bool(settings.address) == bool(settings.paths):
            raise ConfigError("an archive is either an address (AET@host:port) or files and folders")
        if settings.method not in ("get", "move"):
            raise ConfigError(f"method {settings.method!r}: expected 'get' or 'move'")
        if settings.max_associations < 1:
            raise ConfigError(f"max_associations {settings.max_associations}: at least 1 is needed")
        self._settings = settings
        self._progress = progress
        self._address = Address.parse(settings.address) if settings.address else None
        self._calling_ae = ae_title(settings.calling_ae)
        hours = Hours.parse(settings.hours) if settings.hours else None
        self._limit = RateLimit(settings.images_per_minute, settings.bytes_per_minute, hours)
        self._paced = bool(hours or settings.images_per_minute or settings.bytes_per_minute)
        self._lock = threading.Lock()
        self._index: FolderIndex | None = None
        self._store: ObjectStore | None = None
        self._receiver: Receiver | None = None
        self._open = 0

    def open(self) -> TransportArchive:
        """A new archive for the calling thread; raises `ConfigError` beyond `max_associations` open ones."""
        with self._lock:
            if self._address is None:
                return self._open_folder()
            if self._open >= self._settings.max_associations:
                raise ConfigError(
                    f"more than {self._open} associations with {self._address} at once: "
                    "use fewer workers or raise max_associations in [archive]"
                )
            self._open += 1
            return self._open_network(self._address)

    @property
    def move_port(self) -> int | None:
        """Where our storage SCP listens; None before the first archive over C-MOVE is opened."""
        return None if self._receiver is None else self._receiver.port

    def close(self) -> None:
        """Stops the receiver; archives are closed by who opened them."""
        with self._lock:
            if self._receiver is not None:
                self._receiver.close()
                self._receiver = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open_folder(self) -> TransportArchive:
        if self._index is None:
            self._index = FolderIndex(
                self._settings.paths, max_object_bytes=self._max_object_bytes(), progress=self._progress
            )
        return TransportArchive(FolderTransport(self._index), self._index)

    def _open_network(self, address: Address) -> TransportArchive:
        settings = self._settings
        if self._store is None:
            if settings.store_folder is None:
                raise ConfigError("an archive on the network needs a folder for received objects")
            self._store = ObjectStore(settings.store_folder, self._max_object_bytes())
        if settings.method == "move" and self._receiver is None:
            self._receiver = Receiver(self._store, self._calling_ae, host=settings.move_host, port=settings.move_port)
        transport: Transport = DimseTransport(
            address,
            self._calling_ae,
            self._store,
            method=settings.method,
            receiver=self._receiver,
            limits=settings.limits,
            retry=settings.retry,
            late_s=settings.late_s,
        )
        if self._paced:
            transport = Throttled(transport, self._store, self._limit)
        return TransportArchive(transport, self._store, on_close=self._closed)

    def _closed(self) -> None:
        with self._lock:
            self._open -= 1

    def _max_object_bytes(self) -> int | None:
        return None if self._settings.max_object_mb is None else int(self._settings.max_object_mb * 1e6)


def open_archive(settings: ArchiveSettings, progress: Callable[[int], None] | None = None) -> TransportArchive:
    """A single archive for a single thread; its `close` ends all that was opened for it."""
    opener = ArchiveOpener(settings, progress)
    archive = opener.open()
    archive.on_close(opener.close)
    return archive
