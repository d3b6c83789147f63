"""Whether an archive has kept our object or another one of its UID: it is fetched and compared by what it says."""

from __future__ import annotations

import logging
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

import schemas
from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io import query as q
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.content_digest import coerced, content_digest
from dicom_io.link import Link
from dicom_io.object_file import ObjectFile
from dicom_io.proof import Placed
from dicom_io.store import ObjectStore

logger = logging.getLogger(__name__)

Fetch = Callable[[Placed], bytes | None]
"""An object's file as the archive has it; None where it does not give it. Raises `ArchiveError`."""


def differs(fetch: Fetch, placed: Placed, own: ObjectFile, told: set[frozenset[str]] | None = None) -> bool | None:
    """Whether the archive's object says something else than ours; None where it cannot be fetched or read.

    What an archive may coerce makes no other object; what it coerced is warned of, once for the same attributes where
    `told` remembers them. Raises `ArchiveError` where the archive is away.
    """
    try:
        theirs = fetch(placed)
        if theirs is None:
            return None
        name = f"the archive's {placed.sop_instance_uid}"
        ours = own.file_bytes()
        if content_digest(theirs, name) == content_digest(ours, f"our {own.sop_instance_uid}"):
            return False
        changed = coerced(theirs, ours, name)
        if changed is None:
            return True
        if told is None or changed not in told:
            logger.warning("%s is ours, but for what archives may change: %s", name, ", ".join(sorted(changed)))
        if told is not None:
            told.add(changed)
        return False
    except ConfigError as error:
        logger.warning("%s", error)
    except ArchiveError as error:
        if error.temporary and error.status is None:
            raise
        logger.warning("%s", error)
    return None


class GetFetch:
    """Fetches single objects of the classes of `schemas/target.toml` by C-GET over one association."""

    def __init__(
        self,
        address: Address,
        calling_ae: str,
        *,
        limits: Limits | None = None,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="archive-comparison-")
        self._store = ObjectStore(Path(self._folder.name))
        classes = [row["uid"] for row in schemas.load("target")["class"]]
        self._link = Link(
            address, calling_ae, store=self._store, limits=limits, tls_context=tls_context, classes=classes
        )

    def __call__(self, placed: Placed) -> bytes | None:
        """The object's file; None where C-GET ends without it. Raises `ArchiveError`."""
        uid = placed.sop_instance_uid
        self._link.get(q.image_keys(placed.study_instance_uid, placed.series_instance_uid, [uid]))
        path = self._store.path(uid)
        if path is None:
            return None
        content = path.read_bytes()
        path.unlink()
        return content

    def close(self) -> None:
        """Releases the association and removes what was fetched."""
        self._link.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
