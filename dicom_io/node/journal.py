"""What the node knows, durable: arrivals, studies, jobs, results, commitment requests. SQLite, one process.

Each method that changes something is one transaction (write-ahead log, ``synchronous = FULL``): a kill at any
instant loses nothing that a peer was told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from dicom_io.node.journal_file import JournalError, JournalFile
from dicom_io.node.records import Arrival, CommitmentRequest, Job, ReceivedSeries, ReceivedStudy, StoredResult

__all__ = ["Journal", "JournalError"]

PAGE = 200
"""Results that are read at a time: whoever asks for all of them costs no more memory than that."""
_OBJECT_PAGE = 10_000

_FREE = (
    "SELECT study_instance_uid FROM study WHERE is_freed = 0 AND state <> 'receiving' AND last_arrival_s < ?1"
    " AND study_instance_uid NOT IN (SELECT study_instance_uid FROM job WHERE state IN ('queued', 'running'))"
)
"""Studies of which nothing is still to be done."""


class Journal(JournalFile):
    """The journal of a folder, shared by threads; LedgerInUse where another process has it."""

    # --- arrivals ------------------------------------------------------------------------------------------

    def record_arrival(self, one: Arrival, quiet_s: float, now_s: float) -> bool:
        """An object is in the store; its study is looked at `quiet_s` after its last object. False: known before."""
        with self.transaction() as database:
            known = database.execute("SELECT 1 FROM object WHERE sop_instance_uid = ?", (one.sop_instance_uid,))
            if known.fetchone():
                return False
            study, series = one.study_instance_uid, one.series_instance_uid
            database.execute(
                "INSERT INTO object VALUES (?, ?, ?, ?, ?, ?)",
                (one.sop_instance_uid, study, series, one.sop_class_uid, one.size_bytes, now_s),
            )
            database.execute(
                "INSERT OR IGNORE INTO series VALUES (?, ?, ?, ?, ?, ?)",
                (study, series, one.modality, one.description, one.body_part, one.slice_thickness_mm),
            )
            database.execute(
                "INSERT INTO study VALUES (?, ?, 'receiving', '', 0, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET"
                " source = excluded.source, state = 'receiving', reason = '', looks = 0, is_freed = 0,"
                " last_arrival_s = excluded.last_arrival_s, look_at_s = excluded.look_at_s",
                (study, one.source, now_s, now_s, now_s + quiet_s),
            )
            return True

    def has_object(self, sop_instance_uid: str, sop_class_uid: str) -> bool | None:
        """True where the object was answered with success, None where it was of another class."""
        rows = self.rows(
            "SELECT sop_class_uid FROM object WHERE sop_instance_uid = ?1"
            " UNION ALL SELECT sop_class_uid FROM result WHERE sop_instance_uid = ?1",
            sop_instance_uid,
        )
        if not rows:
            return False
        return True if (sop_class_uid,) in rows else None

    def is_received(self, sop_instance_uid: str) -> bool:
        """Whether the object of a peer was answered with success; False where its study has been freed since."""
        return bool(self.rows("SELECT 1 FROM object WHERE sop_instance_uid = ?", sop_instance_uid))

    def object_uids(self) -> frozenset[str]:
        """Of every object that was answered with success."""
        return frozenset(self.each_object_uid())

    def each_object_uid(self) -> Iterator[str]:
        """The same one by one, by UID, read in pages: what arrives meanwhile may be among them or not."""
        last, query = "", "SELECT sop_instance_uid FROM object WHERE sop_instance_uid > ? ORDER BY 1 LIMIT ?"
        while page := self.rows(query, last, _OBJECT_PAGE):
            yield from (uid for (uid,) in page)
            (last,) = page[-1]

    def open_studies(self, besides: str = "") -> int:
        """Studies that are received, and those with jobs that are not done, without one of them."""
        (row,) = self.rows(
            "SELECT count(*) FROM (SELECT study_instance_uid FROM study WHERE state = 'receiving'"
            " UNION SELECT study_instance_uid FROM job WHERE state IN ('queued', 'running'))"
            " WHERE study_instance_uid <> ?",
            besides,
        )
        return int(row[0])

    # --- studies -------------------------------------------------------------------------------------------

    def studies_to_look_at(self, now_s: float, most: int = 32) -> list[ReceivedStudy]:
        """Studies whose time has come, the longest waiting first."""
        rows = self.rows(
            "SELECT study_instance_uid, source, looks, first_arrival_s, last_arrival_s FROM study"
            " WHERE state = 'receiving' AND look_at_s <= ? ORDER BY look_at_s LIMIT ?",
            now_s,
            most,
        )
        return [ReceivedStudy(*row) for row in rows]

    def series_of(self, study_instance_uid: str) -> tuple[ReceivedSeries, ...]:
        """The series of a study with their objects, by UID."""
        objects: dict[str, list[str]] = {}
        for series, uid in self.rows(
            "SELECT series_instance_uid, sop_instance_uid FROM object WHERE study_instance_uid = ?"
            " ORDER BY sop_instance_uid",
            study_instance_uid,
        ):
            objects.setdefault(series, []).append(uid)
        rows = self.rows(
            "SELECT series_instance_uid, modality, description, body_part, slice_thickness_mm FROM series"
            " WHERE study_instance_uid = ? ORDER BY series_instance_uid",
            study_instance_uid,
        )
        return tuple(
            ReceivedSeries(uid, modality, description, body_part, thickness_mm, tuple(objects.get(uid, ())))
            for uid, modality, description, body_part, thickness_mm in rows
        )

    def look_again(self, study: ReceivedStudy, reason: str, at_s: float) -> None:
        """The study is not whole yet; nothing where something arrived since it was looked at."""
        with self.transaction() as database:
            database.execute(
                "UPDATE study SET looks = looks + 1, reason = ?, look_at_s = ?"
                " WHERE study_instance_uid = ? AND last_arrival_s = ?",
                (reason, at_s, study.study_instance_uid, study.last_arrival_s),
            )

    def settle(
        self,
        study: ReceivedStudy,
        state: str,
        reason: str,
        jobs: Iterable[tuple[str, Sequence[str], str]],
        now_s: float,
    ) -> int | None:
        """The study is 'whole' or 'incomplete'; queues its jobs (rule, series, digest) and says how many are new.

        None where something arrived since it was looked at: it is looked at again then.
        """
        with self.transaction() as database:
            changed = database.execute(
                "UPDATE study SET state = ?, reason = ?, looks = looks + 1"
                " WHERE study_instance_uid = ? AND last_arrival_s = ? AND state = 'receiving'",
                (state, reason, study.study_instance_uid, study.last_arrival_s),
            )
            if not changed.rowcount:
                return None
            return sum(
                database.execute(
                    "INSERT OR IGNORE INTO job (study_instance_uid, rule, series, digest, state, attempts, reason,"
                    " due_s, made_s, results) VALUES (?, ?, ?, ?, 'queued', 0, '', ?, ?, 0)",
                    (study.study_instance_uid, rule, json.dumps(list(series)), digest, now_s, now_s),
                ).rowcount
                for rule, series, digest in jobs
            )

    def studies_by_state(self) -> dict[str, int]:
        """How many studies there are in each state."""
        return dict(self.rows("SELECT state, count(*) FROM study GROUP BY state"))

    def to_free(self, before_s: float, most: int = 8) -> list[str]:
        """Studies without open jobs whose last object came before a time."""
        return [uid for (uid,) in self.rows(_FREE + " LIMIT ?2", before_s, most)]

    def freed(self, study_instance_uid: str, before_s: float) -> tuple[str, ...]:
        """The objects of such a study are no longer answered for; their UIDs, () where it is no such study any more."""
        with self.transaction() as database:
            if not database.execute(_FREE + " AND study_instance_uid = ?2", (before_s, study_instance_uid)).fetchall():
                return ()
            uids = database.execute(
                "DELETE FROM object WHERE study_instance_uid = ? RETURNING sop_instance_uid", (study_instance_uid,)
            ).fetchall()
            database.execute("UPDATE study SET is_freed = 1 WHERE study_instance_uid = ?", (study_instance_uid,))
        return tuple(uid for (uid,) in uids)

    # --- jobs ----------------------------------------------------------------------------------------------

    def claim_job(self, now_s: float) -> Job | None:
        """The job that has waited longest, running from now on and one attempt older; None where none is due.

        Of a study one job runs at a time: the next one is to see what it reported, to name it where it corrects it.
        And no job runs before an older one of its rule, which would correct it by what the study held before.
        """
        with self.transaction() as database:
            row = database.execute(
                "SELECT number, study_instance_uid, rule, series, attempts + 1, made_s FROM job AS next"
                " WHERE state = 'queued' AND due_s <= ? AND NOT EXISTS (SELECT 1 FROM job AS other"
                " WHERE other.study_instance_uid = next.study_instance_uid AND (other.state = 'running'"
                " OR (other.state = 'queued' AND other.rule = next.rule AND other.number < next.number)))"
                " ORDER BY due_s, number LIMIT 1",
                (now_s,),
            ).fetchone()
            if row is None:
                return None
            database.execute("UPDATE job SET state = 'running', attempts = attempts + 1 WHERE number = ?", row[:1])
        number, study, rule, series, attempts, made_s = row
        return Job(number, study, rule, tuple(json.loads(series)), attempts, made_s)

    def job_done(self, job: Job, results: int, left_out: str = "", *, now_s: float) -> None:
        """A job has made so many objects, which are where they belong; and what they do not hold, with the reason."""
        self._set_job(job, "done", left_out, 0.0, results, now_s)

    def job_failed(self, job: Job, reason: str, again_at_s: float | None, *, now_s: float) -> None:
        """A job did not succeed; it is tried again then, or never."""
        if again_at_s is None:
            self._set_job(job, "failed", reason, 0.0, 0, now_s)
        else:
            self._set_job(job, "queued", reason, again_at_s, 0, None)

    def job_interrupted(self, job: Job) -> None:
        """A stop ended the job: it is queued again, and the attempt does not count."""
        with self.transaction() as database:
            database.execute(
                "UPDATE job SET state = 'queued', attempts = attempts - 1, due_s = 0 WHERE number = ?", (job.number,)
            )

    def requeue_interrupted(self) -> int:
        """Jobs that ran when the last process ended are queued again; to be called before any is claimed."""
        with self.transaction() as database:
            return database.execute("UPDATE job SET state = 'queued' WHERE state = 'running'").rowcount

    def jobs_by_state(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return dict(self.rows("SELECT state, count(*) FROM job GROUP BY state"))

    def failures(self, most: int = 20) -> list[tuple[str, str, int, str]]:
        """Study, rule, attempts and reason of failed jobs, the newest first."""
        return self.rows(
            "SELECT study_instance_uid, rule, attempts, reason FROM job WHERE state = 'failed' ORDER BY number DESC"
            " LIMIT ?",
            most,
        )

    def _set_job(self, job: Job, state: str, reason: str, due_s: float, results: int, ended_s: float | None) -> None:
        with self.transaction() as database:
            database.execute(
                "UPDATE job SET state = ?, reason = ?, due_s = ?, results = ?, ended_s = ? WHERE number = ?",
                (state, reason, due_s, results, ended_s, job.number),
            )

    # --- results -------------------------------------------------------------------------------------------

    def record_results(self, results: Iterable[StoredResult]) -> None:
        """Objects that a job made are in the store."""
        with self.transaction() as database:
            for one in results:
                database.execute(
                    "INSERT OR IGNORE INTO result VALUES (?, ?, ?, ?, ?, ?)",
                    (one.sop_instance_uid, one.keys["StudyInstanceUID"], one.keys["SeriesInstanceUID"],
                     one.sop_class_uid, one.transfer_syntax_uid, json.dumps(dict(one.keys), sort_keys=True)),
                )  # fmt: skip

    def results(self, study_instance_uids: Sequence[str] = ()) -> list[StoredResult]:
        """Objects that jobs made, of all studies or of those named, by study, series and SOP Instance UID."""
        return [one for page in self.result_pages(study_instance_uids) for one in page]

    def result_pages(self, study_instance_uids: Sequence[str] = ()) -> Iterator[list[StoredResult]]:
        """The same in pages, each read when it is asked for: what is recorded meanwhile may be among them or not."""
        for study in sorted(set(study_instance_uids)) or [""]:
            last = (study, "", "")
            where = "study_instance_uid = ?1 AND " if study else ""
            while True:
                rows = self.rows(
                    "SELECT study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid,"
                    f" transfer_syntax_uid, keys FROM result WHERE {where}"
                    "(study_instance_uid, series_instance_uid, sop_instance_uid) > (?1, ?2, ?3)"
                    " ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid LIMIT ?4",
                    *last,
                    PAGE,
                )
                if rows:
                    last = rows[-1][:3]
                    yield [_result(row[2:]) for row in rows]
                if len(rows) < PAGE:
                    break

    def result(self, sop_instance_uid: str) -> StoredResult | None:
        """One object that a job made; None where there is none of this UID."""
        rows = self.rows(
            "SELECT sop_instance_uid, sop_class_uid, transfer_syntax_uid, keys FROM result WHERE sop_instance_uid = ?",
            sop_instance_uid,
        )
        return _result(rows[0]) if rows else None

    # --- storage commitment --------------------------------------------------------------------------------

    def record_commitment_request(
        self, peer: str, transaction_uid: str, items: Sequence[tuple[str, str]], due_s: float
    ) -> None:
        """A peer asked; asked once more, it is answered once more."""
        with self.transaction() as database:
            database.execute(
                "INSERT INTO commitment VALUES (?, ?, ?, 'asked', 0, '', ?, NULL) ON CONFLICT DO UPDATE SET"
                " items = excluded.items, state = 'asked', attempts = 0, reason = '', due_s = excluded.due_s,"
                " ended_s = NULL",
                (transaction_uid, peer, json.dumps([list(item) for item in items]), due_s),
            )

    def commitment_requests(self, now_s: float, most: int = 8) -> list[CommitmentRequest]:
        """Requests whose report is due."""
        rows = self.rows(
            "SELECT transaction_uid, peer, items, attempts, due_s FROM commitment WHERE state = 'asked' AND due_s <= ?"
            " ORDER BY due_s LIMIT ?",
            now_s,
            most,
        )
        return [
            CommitmentRequest(uid, peer, tuple((sop_class, one) for sop_class, one in json.loads(items)), attempts, due)
            for uid, peer, items, attempts, due in rows
        ]

    def commitment_reported(self, request: CommitmentRequest, *, now_s: float) -> None:
        """The peer has taken the report."""
        self._set_commitment(request, "reported", "", 0.0, now_s)

    def commitment_failed(
        self, request: CommitmentRequest, reason: str, again_at_s: float | None, *, now_s: float
    ) -> None:
        """The peer did not take the report; it is sent again then, or never."""
        if again_at_s is None:
            self._set_commitment(request, "failed", reason, 0.0, now_s)
        else:
            self._set_commitment(request, "asked", reason, again_at_s, None)

    def _set_commitment(
        self, request: CommitmentRequest, state: str, reason: str, due_s: float, ended_s: float | None
    ) -> None:
        with self.transaction() as database:
            database.execute(
                "UPDATE commitment SET state = ?, reason = ?, due_s = ?, attempts = attempts + 1, ended_s = ?"
                " WHERE transaction_uid = ? AND peer = ? AND due_s = ?",  # else it was asked again meanwhile
                (state, reason, due_s, ended_s, request.transaction_uid, request.peer, request.due_s),
            )


def _result(row: Sequence[str]) -> StoredResult:
    uid, sop_class, syntax, keys = row
    return StoredResult(uid, sop_class, syntax, json.loads(keys))
