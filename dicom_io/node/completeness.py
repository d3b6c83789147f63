"""When a study is whole: when what its archive lists is here, not when nothing has come for a while.

Silence only says when to ask. Where there is no archive to ask, silence has to do, and the rule file says so.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from deeplesion_miner.errors import ArchiveError
from deeplesion_miner.studies import InstanceListing, SeriesListing
from dicom_io import query
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.link import Link
from dicom_io.node.records import ReceivedSeries
from dicom_io.node.rules import NodeRules, SeriesRule

ALL_MODALITIES = ""
_LIMITS = Limits(connect_s=5.0, negotiate_s=10.0, idle_s=60.0, total_s=300.0)


class Listing(Protocol):
    """An archive that is asked. Raises ArchiveError."""

    def find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        """The series of a study."""

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """The objects of a series."""

    def close(self) -> None:
        """Ends the association."""

    def cut(self) -> None:
        """Called from another thread: who waits for an answer is told that there is none."""


class ArchiveListing:
    """What an archive lists, by C-FIND over one association."""

    def __init__(self, address: str, calling_ae: str, tls: ssl.SSLContext | None) -> None:
        self._link = Link(Address.parse(address), calling_ae, limits=_LIMITS, tls_context=tls)

    def find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        """The series of a study, by UID; () for one that the archive does not know."""
        return query.series(self._link.find(query.series_keys(study_instance_uid)), study_instance_uid)

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """The objects of a series, by UID."""
        rows = self._link.find(query.listing_keys(study_instance_uid, series_instance_uid))
        return query.instances(rows, study_instance_uid, series_instance_uid)

    def close(self) -> None:
        """Releases the association."""
        self._link.close()

    def cut(self) -> None:
        """Called from another thread: who waits for an answer is told that there is none."""
        self._link.cut()


@dataclass(frozen=True)
class Look:
    """What one look at a study found."""

    is_whole: bool
    reason: str
    """What is missing, or why that could not be told; '' for a whole study."""
    missing: int = 0
    """Objects that the archive lists and that are not here; 0 where that is not known."""
    error: ArchiveError | None = None
    """What kept the archive from being asked."""


def wanted_modalities(rules: Sequence[SeriesRule]) -> frozenset[str]:
    """Modalities whose series must be here; one rule without modalities wants all."""
    if any(not rule.modalities for rule in rules):
        return frozenset({ALL_MODALITIES})
    return frozenset(modality for rule in rules for modality in rule.modalities)


def look(study_instance_uid: str, here: Sequence[ReceivedSeries], archive: Listing, modalities: frozenset[str]) -> Look:
    """Compares what the archive lists of the study with what is here, series by series of the wanted modalities.

    A study that the archive does not know is not whole: its archive gets it later than we do.
    """
    listed = archive.find_series(study_instance_uid)
    if not listed:
        return Look(False, "the archive does not list the study")
    mine = {one.series_instance_uid: frozenset(one.sop_instance_uids) for one in here}
    missing = 0
    for series in listed:
        if series.modality and ALL_MODALITIES not in modalities and series.modality not in modalities:
            continue
        uids = {one.sop_instance_uid for one in archive.find_instances(study_instance_uid, series.series_instance_uid)}
        missing += len(uids - mine.get(series.series_instance_uid, frozenset()))
    if missing:
        return Look(False, f"{missing} listed objects are not here", missing)
    return Look(True, "")


def look_at(
    study_instance_uid: str,
    source: str,
    here: Sequence[ReceivedSeries],
    rules: NodeRules,
    open_archive: Callable[[str], Listing],
) -> Look:
    """A look at a study of a peer by the peer's rule: by its archive where it has one, else silence was enough."""
    peer = rules.peer(source)
    if peer is None or not peer.archive or not rules.of_peer(source):
        return Look(True, "")
    archive = open_archive(peer.archive)
    try:
        return look(study_instance_uid, here, archive, wanted_modalities(rules.of_peer(source)))
    except ArchiveError as error:
        return Look(False, str(error), error=error)
    finally:
        archive.close()
