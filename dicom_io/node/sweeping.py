"""Removes the files of received objects that nobody answers for: what a kill left behind.

An object is written before it is in the journal, and leaves the journal before its file goes. So a kill at any instant
breaks no promise, but it may leave a file: of a study that was being freed, or of an object whose sender never had its
answer and does not send it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from dicom_io.node.journal import Journal
from dicom_io.store import ObjectStore


def sweep(journal: Journal, store: ObjectStore, before_s: float) -> Iterator[int]:
    """Looks at what was written before a time, folder by folder; yields how many files of each were removed.

    What is older than the journal stays: an earlier journal, lost since, may have answered for it. What is just
    arriving is not taken away: it is looked up once more while nothing else changes the journal.
    """
    for uids in store.others(journal.each_object_uid(), journal.began_s, before_s):
        yield sum(_is_removed(uid, journal, store) for uid in uids)


def _is_removed(uid: str, journal: Journal, store: ObjectStore) -> bool:
    with journal.undisturbed():
        return not journal.is_received(uid) and store.remove(uid)
