"""What an archive has, in its own words: which objects it lists, and whose study it is (PS3.4 annex C).

A listing proves that an object is there, not that it is unchanged: for that it must be fetched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

from deeplesion_miner.errors import ArchiveError
from dicom_io import attributes
from dicom_io import query as q
from dicom_io.delivery_rules import Identity
from dicom_io.link import Link
from dicom_io.store import normal_uid

_FEW_SERIES = 4
"""So many series of a study are asked one by one; for more, the whole study is listed at once first."""


class Placed(Protocol):
    """An object and where it belongs."""

    @property
    def study_instance_uid(self) -> str:
        """Of its study."""

    @property
    def series_instance_uid(self) -> str:
        """Of its series."""

    @property
    def sop_instance_uid(self) -> str:
        """Its own."""


class QuestionRefused(ArchiveError):
    """The archive is there and does not answer this question; it may answer others."""


class Inquiry(Protocol):
    """Two questions to an archive, by C-FIND or by QIDO-RS; both raise `ArchiveError`.

    One that is a `QuestionRefused`, or has a status, tells that the archive is there.
    """

    def listed(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs that the archive lists there; '' for series and object asks for the whole study."""

    def identities(self, study_instance_uid: str) -> frozenset[Identity]:
        """Whose the study is: nobody's where the archive has no such study, several after a merge gone wrong."""


def prove(inquiry: Inquiry, objects: Iterable[Placed]) -> frozenset[str]:
    """The SOP Instance UIDs of those objects that the archive lists in their study and series.

    What is left out is not listed. Raises `ArchiveError` where the archive cannot be asked. A study with many of our
    series is listed at once; what that does not show is asked for by its own UID, since archives need not answer
    questions that leave out a level (PS3.4 C.4.1.2.2).
    """
    studies: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in objects:
        studies[one.study_instance_uid][one.series_instance_uid].add(one.sop_instance_uid)
    found: set[str] = set()
    for study, series in studies.items():
        found |= _proven_in_study(inquiry, study, series)
    return frozenset(found)


def _proven_in_study(inquiry: Inquiry, study: str, series: Mapping[str, set[str]]) -> set[str]:
    wanted = set().union(*series.values())
    found: set[str] = set()
    if len(series) > _FEW_SERIES:
        found = wanted & inquiry.listed(study, "", "")
    for uid, expected in series.items():
        missing = expected - found
        if len(missing) == 1:
            found |= missing & inquiry.listed(study, uid, next(iter(missing)))
        elif missing:
            found |= missing & inquiry.listed(study, uid, "")
    return found


class FindInquiry:
    """Asks by C-FIND in the Study Root model over a link, which the caller closes."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def listed(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> frozenset[str]:
        """IMAGE level; rows that state another study, series or object than was asked for do not count."""
        identifier = q.image_keys(
            study_instance_uid, series_instance_uid, [sop_instance_uid] if sop_instance_uid else ()
        )
        asked = {
            "StudyInstanceUID": study_instance_uid,
            "SeriesInstanceUID": series_instance_uid,
            "SOPInstanceUID": sop_instance_uid,
        }
        found = set()
        with attributes.quiet():
            for row in self._link.find(identifier):
                stated = {keyword: normal_uid(attributes.text(row, keyword)) for keyword in asked}
                if all(not uid or stated[keyword] in ("", uid) for keyword, uid in asked.items()):
                    found.add(stated["SOPInstanceUID"])
        return frozenset(found - {""})

    def identities(self, study_instance_uid: str) -> frozenset[Identity]:
        """STUDY level; rows that do not state this study do not count."""
        identifier = q.study_keys(q.Window(None, None), study_instance_uid=study_instance_uid)
        identifier.IssuerOfPatientID = ""
        found = set()
        with attributes.quiet():
            for row in self._link.find(identifier):
                if normal_uid(attributes.text(row, "StudyInstanceUID")) == study_instance_uid:
                    found.add((attributes.text(row, "PatientID"), attributes.text(row, "IssuerOfPatientID")))
        return frozenset(found)
