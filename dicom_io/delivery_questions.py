"""What a delivery asks the archive about studies, and what it means that the archive does not say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from deeplesion_miner.errors import ArchiveError
from dicom_io.delivery_rules import UNTOLD, Event, Happening, Identity
from dicom_io.outbox_rows import Parcel
from dicom_io.proof import Inquiry, QuestionRefused, prove

_STUDIES_REMEMBERED = 1000


class Questions:
    """The questions of one delivery; whose a study is, is asked anew after `valid_s`: patients get merged."""

    def __init__(self, inquiry: Inquiry, valid_s: float, stopwatch: Callable[[], float]) -> None:
        self._inquiry = inquiry
        self._valid_s = valid_s
        self._stopwatch = stopwatch
        self._patients: dict[str, tuple[float, Collection[Identity]]] = {}
        self.answered = False
        """Whether any question was answered since this was set to False."""
        self._ever_answered = False
        self.refusal: ArchiveError | None = None
        """How the last question was refused, where none has ever been answered."""

    def identity(self, study_instance_uid: str) -> Collection[Identity] | None:
        """The patients of the study in the archive, None where it does not have it. Raises `ArchiveError`."""
        now_s = self._stopwatch()
        asked_s, known = self._patients.get(study_instance_uid, (float("-inf"), ()))
        if now_s - asked_s <= self._valid_s:
            return known
        found = self._inquiry.identities(study_instance_uid) or None
        self._is_answered()
        if len(self._patients) >= _STUDIES_REMEMBERED:
            self._patients.clear()
        if found is not None:
            self._patients[study_instance_uid] = (now_s, found)
        return found

    def listed(self, parcels: Sequence[Parcel]) -> frozenset[str]:
        """The SOP Instance UIDs of those that the archive lists. Raises `ArchiveError`."""
        if not parcels:
            return frozenset()
        found = prove(self._inquiry, parcels)
        self._is_answered()
        return found

    def untold(self, error: ArchiveError) -> Happening:
        """What it means for a study's objects that a question about it ended so; raises what is no matter of theirs.

        An association that was lost over the question may have been lost for its sake.
        """
        is_refused = error.status is not None or isinstance(error, QuestionRefused)
        if not is_refused and not is_lost(error):
            raise error
        if is_refused and not self._ever_answered:
            self.refusal = error
        return Happening(Event.UNTOLD, UNTOLD, str(error))

    def _is_answered(self) -> None:
        self.answered = self._ever_answered = True
        self.refusal = None


def is_lost(error: ArchiveError) -> bool:
    """Whether the archive was there, and the association was lost over a question."""
    return error.temporary and error.status is None and error.operation == "C-FIND"
