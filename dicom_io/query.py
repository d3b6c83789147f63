"""C-FIND in pure functions: what is asked, and what may be believed of the answer.

Archives ignore matching keys, leave out return keys, repeat rows and cap counts. So every match is checked
again, a missing key is unknown (never "no"), and rows count once per UID of their level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase

from pydicom.dataset import Dataset

from deeplesion_miner.errors import ArchiveError, ConfigError
from deeplesion_miner.studies import InstanceListing, SeriesListing, StudyQuery, StudyRef
from dicom_io.attributes import integer, quiet, text
from dicom_io.store import normal_uid

EARLIEST = date(1970, 1, 1)
"""Where bisection of an open date range begins: before the first CT scanner."""


@dataclass(frozen=True)
class Window:
    """Study dates, both inclusive; None on both sides asks for every study, dated or not."""

    first: date | None
    last: date | None

    def key(self) -> str:
        """As a range matching key (PS3.4 C.2.2.2.5), always closed: some archives answer open ranges with none."""
        if self.first is None or self.last is None:
            return ""
        return f"{self.first:%Y%m%d}-{self.last:%Y%m%d}"

    def holds(self, study_date: str) -> bool:
        """False only where the date is known and outside."""
        if self.first is None or self.last is None or not study_date:
            return True
        return f"{self.first:%Y%m%d}" <= study_date.replace(".", "") <= f"{self.last:%Y%m%d}"

    def halves(self, today: date) -> tuple[Window, ...]:
        """Two windows that cover this one; () for a single day."""
        first, last = self.first or EARLIEST, self.last or today + timedelta(days=366)
        if first >= last:
            return ()
        middle = first + (last - first) // 2
        return Window(first, middle), Window(middle + timedelta(days=1), last)


def window_of(query: StudyQuery, today: date) -> Window:
    """The dates that a query names; raises `ConfigError` for what is no date."""
    if not query.date_from and not query.date_to:
        return Window(None, None)
    first = _date(query.date_from) if query.date_from else EARLIEST
    last = _date(query.date_to) if query.date_to else today + timedelta(days=366)
    if first > last and not query.date_to:
        raise ConfigError(f"study dates from {query.date_from} on: that is more than a year ahead of today")
    if first > last:
        raise ConfigError(f"study dates from {query.date_from} to {query.date_to}: the first is after the last")
    return Window(first, last)


def _date(text: str) -> date:
    try:
        if len(text) != 8 or not text.isdigit():
            raise ValueError(text)
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError as error:
        raise ConfigError(f"study date {text!r}: expected YYYYMMDD") from error


def looks_capped(count: int) -> bool:
    """True where a count of rows looks like a server's limit: 100 or more, and a round number or a power of two."""
    return count >= 100 and (count % 50 == 0 or count & (count - 1) == 0)


# --- what is asked ---------------------------------------------------------------------------------------


def study_keys(window: Window, patient_id: str = "", study_instance_uid: str = "") -> Dataset:
    """A STUDY level identifier."""
    return _identifier(
        "STUDY",
        StudyInstanceUID=study_instance_uid,
        StudyDate=window.key(),
        PatientID=patient_id,
        ModalitiesInStudy="",
    )


def series_keys(study_instance_uid: str, modality: str = "", window: Window | None = None) -> Dataset:
    """A SERIES level identifier; an empty study UID makes it relational, `window` then narrows the studies."""
    narrowing = {"StudyDate": window.key()} if window and window.key() else {}
    return _identifier(
        "SERIES",
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID="",
        Modality=modality,
        NumberOfSeriesRelatedInstances="",
        **narrowing,
    )


def image_keys(study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Iterable[str] = ()) -> Dataset:
    """An IMAGE level identifier, to find or to retrieve; no SOP Instance UID asks for the whole series."""
    uids = list(sop_instance_uids)
    return _identifier(
        "IMAGE",
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID=series_instance_uid,
        SOPInstanceUID=uids if uids else "",
    )


def listing_keys(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    """An IMAGE level identifier that lists a series."""
    identifier = image_keys(study_instance_uid, series_instance_uid)
    identifier.SOPClassUID = ""
    identifier.InstanceNumber = ""
    return identifier


def _identifier(level: str, **keys: str | list[str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


# --- what may be believed --------------------------------------------------------------------------------


@quiet()
def studies(rows: Iterable[Dataset], window: Window, query: StudyQuery) -> dict[str, StudyRef]:
    """The studies among the rows, by UID, that do not contradict the query."""
    found: dict[str, StudyRef] = {}
    for row in rows:
        uid = normal_uid(text(row, "StudyInstanceUID"))
        study = StudyRef(uid, text(row, "PatientID"), text(row, "StudyDate"))
        if uid and matches(study, window, query):
            found[uid] = min(found.get(uid, study), study)
    return found


def matches(study: StudyRef, window: Window, query: StudyQuery) -> bool:
    """True unless what is known of the study contradicts the query."""
    wanted = not query.study_instance_uids or study.study_instance_uid in query.study_instance_uids
    return wanted and window.holds(study.study_date) and _patient_matches(query.patient_id, study.patient_id)


def _patient_matches(wanted: str, found: str) -> bool:
    return not wanted or not found or fnmatchcase(found, wanted.strip(" "))


@quiet()
def series(rows: Iterable[Dataset], study_instance_uid: str) -> tuple[SeriesListing, ...]:
    """The series among the rows that do not contradict the study, each once, sorted by UID."""
    found: dict[str, SeriesListing] = {}
    for row in rows:
        uid = normal_uid(text(row, "SeriesInstanceUID"))
        if uid and _agrees(row, "StudyInstanceUID", study_instance_uid):
            count = integer(row, "NumberOfSeriesRelatedInstances")
            found.setdefault(uid, SeriesListing(uid, text(row, "Modality"), count))
    return tuple(found[uid] for uid in sorted(found))


@quiet()
def measured_studies(rows: Iterable[Dataset], modality: str) -> set[str]:
    """The study UIDs of relational SERIES rows that do not contradict the modality."""
    return {
        normal_uid(text(row, "StudyInstanceUID"))
        for row in rows
        if text(row, "StudyInstanceUID") and _agrees(row, "Modality", modality)
    }


@quiet()
def instances(
    rows: Iterable[Dataset], study_instance_uid: str, series_instance_uid: str
) -> tuple[InstanceListing, ...]:
    """The objects among the rows that do not contradict study and series, each once, sorted by UID."""
    found: dict[str, InstanceListing] = {}
    for row in rows:
        uid = normal_uid(text(row, "SOPInstanceUID"))
        agrees = _agrees(row, "StudyInstanceUID", study_instance_uid) and _agrees(
            row, "SeriesInstanceUID", series_instance_uid
        )
        if uid and agrees:
            found.setdefault(uid, InstanceListing(uid, integer(row, "InstanceNumber"), text(row, "SOPClassUID")))
    return tuple(found[uid] for uid in sorted(found))


def _agrees(row: Dataset, keyword: str, wanted: str) -> bool:
    """True unless the row states another value."""
    return text(row, keyword) in ("", wanted)


# --- the whole of a window -------------------------------------------------------------------------------


def sweep(window: Window, ask: Callable[[Window], dict[str, StudyRef]], today: date) -> dict[str, StudyRef]:
    """All studies of a window, though the archive caps its answers or refuses wide questions.

    A window that was refused, timed out, or whose count looks like a limit, is asked again in halves, down to
    single days; the union counts. Raises the `ArchiveError` of a single day, or one that says that the archive
    is away.
    """
    halves = window.halves(today)
    found: dict[str, StudyRef] = {}
    try:
        found = ask(window)
        enough = not looks_capped(len(found))
    except ArchiveError as error:
        if not halves or not error.temporary or error.operation != "C-FIND":
            raise
        enough = False
    if not enough:
        for half in halves:
            found.update(sweep(half, ask, today))
    return found
