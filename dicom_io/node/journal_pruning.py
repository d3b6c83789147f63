"""Forgets what a node is done with, so that its journal does not grow for as long as it runs.

Forgotten are commitment requests whose report was taken or given up, and studies whose images were removed after
their time, with their series and jobs. A study whose images are here is never forgotten, nor are its jobs: they are
how the same images are known to need no second look. Results stay; a study that comes once more after it was
forgotten is looked at like a new one, and makes the same objects under the same UIDs, which store and outbox know.
"""

from __future__ import annotations

from dicom_io.node.journal_file import JournalFile

MOST = 100
"""Rows of a kind in one transaction: others wait for the journal no longer than that."""

_COMMITMENTS = """
DELETE FROM commitment WHERE (transaction_uid, peer) IN (
  SELECT transaction_uid, peer FROM commitment WHERE state <> 'asked' AND ended_s < ?1 LIMIT ?2)
"""
_STUDIES = """
SELECT study_instance_uid FROM study WHERE is_freed = 1 AND state <> 'receiving' AND last_arrival_s < ?1
AND NOT EXISTS (SELECT 1 FROM object WHERE object.study_instance_uid = study.study_instance_uid)
AND NOT EXISTS (SELECT 1 FROM job WHERE job.study_instance_uid = study.study_instance_uid
                AND (job.ended_s IS NULL OR job.ended_s >= ?1))
LIMIT ?2
"""


def prune(journal: JournalFile, before_s: float, most: int = MOST) -> int:
    """One transaction: forgets at most `most` requests and studies that ended before a time; how many it were."""
    with journal.transaction() as database:
        count = database.execute(_COMMITMENTS, (before_s, most)).rowcount
        studies = database.execute(_STUDIES, (before_s, most)).fetchall()
        for table in ("job", "series", "study"):
            database.executemany(f"DELETE FROM {table} WHERE study_instance_uid = ?", studies)
    return count + len(studies)
