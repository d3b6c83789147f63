"""What the archive client needs of a way to an archive: DIMSE, a folder, and wrappers of either."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from deeplesion_miner.studies import InstanceListing, SeriesListing, StudyQuery, StudyRef
from deeplesion_miner.types import Unreadable


class Transport(Protocol):
    """One way to one archive, used by one thread. Every method raises `ArchiveError`."""

    @property
    def peer(self) -> str:
        """Whom we talk to, for messages: an address or a folder."""

    def echo(self) -> None:
        """Asks whether the archive is there; returns nothing where it is."""

    def find_studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        """Studies that match and have, or may have, measurement objects; each once."""

    def find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        """The series of a study, sorted by UID, without their instances; () where there is no such study."""

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """The objects of a series, sorted by UID; () where there is no such series."""

    def retrieve(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> tuple[str, ...]:
        """Brings the named objects into reach and returns the UIDs that had to be moved for it, sorted.

        What is not delivered, though asked for again one by one, is left out and not in reach afterwards.
        """

    def close(self) -> None:
        """Releases what is held; the transport is not used afterwards."""


class Objects(Protocol):
    """Objects in reach, by SOP Instance UID: the store of received objects, or a folder's index."""

    def path(self, sop_instance_uid: str) -> Path | None:
        """The file that holds the object; None where it is not in reach."""

    def size_bytes(self, sop_instance_uid: str) -> int:
        """Size of the object's file; KeyError where it is not in reach."""

    def kept_out(self, sop_instance_uid: str) -> Unreadable | None:
        """Why the object was seen but is not in reach (for instance too large); None where that is not so."""

    def set_aside(self) -> tuple[Unreadable, ...]:
        """What was seen besides and is not used: files that are not objects, second copies that differ."""
