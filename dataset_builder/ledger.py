"""The trusted side's memory: which study was mined, what came of it, who is who. One writing process.

Every method that changes something is one transaction, durable when it returns (write-ahead log,
``synchronous = FULL``): a kill at any instant loses nothing that was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from dataset_builder.ledger_file import LedgerFile
from dataset_builder.ledger_rows import column, flat_rows, unreadable_rows
from dataset_builder.outcome_json import from_json, to_json
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.ports import TRY_AGAIN
from deeplesion_miner.reasons import message
from deeplesion_miner.studies import StudyOutcome, StudyRef, Transfers
from deeplesion_miner.types import Unreadable

FILE_NAME = "ledger.sqlite"
"""Name of the ledger in the working folder."""


@dataclass(frozen=True)
class CrosswalkRow:
    """One way back: a public id and what it stands for. Trusted side only."""

    public_id: str
    kind: str
    """What is meant: 'patient', 'study', 'series', 'source', 'bookmark' or 'lesion'."""
    original: str


@dataclass(frozen=True)
class StudyState:
    """What the ledger knows about one study, without its outcome."""

    number: int
    """The study's row in the ledger: its name in messages, free of UIDs."""
    study: StudyRef
    state: str
    """'done' or 'failed'."""
    attempts: int
    last_error: str
    bookmarks: int
    kept: int
    unreadable: int


@dataclass(frozen=True)
class Loss:
    """What one reason took away."""

    count: int
    example: str
    """The reason's message with the numbers of one of them; public text."""


@dataclass(frozen=True)
class Funnel:
    """How many of what were found, and where each loss went; `problems()` is empty where the sums hold."""

    studies_done: int
    studies_failed: int
    objects_read: int
    unreadable: Mapping[str, Loss]
    """Objects and images that could not be read, by code."""
    bookmarks: int
    rejected: Mapping[str, Loss]
    """Bookmarks by code."""
    kept: int
    flags: Mapping[str, int]
    """Flags of kept bookmarks by code."""
    lesions: int
    """Lesions of the outcomes themselves, counted apart from `kept`."""

    def problems(self) -> tuple[str, ...]:
        """The sums that do not hold, in words (design 6.1)."""
        found: list[str] = []
        rejected = sum(loss.count for loss in self.rejected.values())
        if self.bookmarks != self.kept + rejected:
            found.append(f"{self.bookmarks} bookmarks are not {self.kept} kept and {rejected} rejected")
        if self.kept != self.lesions:
            found.append(f"{self.kept} bookmarks were kept, {self.lesions} lesions recorded")
        return tuple(found)


class SqliteLedger(LedgerFile):
    """The ledger of a working folder: `deeplesion_miner.ports.Ledger` on SQLite, shared by threads."""

    # --- the port ------------------------------------------------------------------------------------

    def is_done(self, study_instance_uid: str, fingerprint: str, settings_digest: str) -> bool:
        """True where this very state of the study was mined under these settings."""
        found = self._rows(
            "SELECT fingerprint, settings_digest FROM study WHERE study_instance_uid = ? AND state = 'done'",
            column(study_instance_uid),
        )
        return found == [(column(fingerprint), column(settings_digest))]

    def record(self, outcome: StudyOutcome, settings_digest: str) -> None:
        """Replaces what is known of the study, in one transaction."""
        study = outcome.study
        values = (
            column(study.study_instance_uid),
            column(study.patient_id),
            column(study.study_date),
            column(outcome.fingerprint),
            column(settings_digest),
            len(outcome.objects_read),
            len(outcome.placed),
            to_json(outcome),
        )
        with self._transaction() as database:
            database.execute(
                "INSERT INTO study (study_instance_uid, patient_id, study_date, state, fingerprint,"
                " settings_digest, attempts, last_error, objects_read, lesions, outcome)"
                " VALUES (?, ?, ?, 'done', ?, ?, 1, '', ?, ?, ?)"
                " ON CONFLICT (study_instance_uid) DO UPDATE SET patient_id = excluded.patient_id,"
                " study_date = excluded.study_date, state = 'done', fingerprint = excluded.fingerprint,"
                " settings_digest = excluded.settings_digest, last_error = '',"
                " attempts = CASE state WHEN 'failed' THEN attempts + 1 ELSE 1 END,"
                " objects_read = excluded.objects_read, lesions = excluded.lesions,"
                " outcome = excluded.outcome",
                values,
            )
            for table, table_rows in flat_rows(outcome).items():
                database.execute(f"DELETE FROM {table} WHERE study_instance_uid = ?", values[:1])
                for row in table_rows:
                    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def record_failure(self, study: StudyRef, error: str) -> None:
        """Notes that a study could not be mined now; what an earlier run learned of it stays."""
        values = (study.study_instance_uid, study.patient_id, study.study_date, error)
        with self._transaction() as database:
            database.execute(
                "INSERT INTO study (study_instance_uid, patient_id, study_date, state, fingerprint,"
                " settings_digest, attempts, last_error, objects_read, lesions, outcome)"
                " VALUES (?, ?, ?, 'failed', '', '', 1, ?, 0, 0, NULL)"
                " ON CONFLICT (study_instance_uid) DO UPDATE SET last_error = excluded.last_error,"
                " attempts = CASE state WHEN 'failed' THEN attempts + 1 ELSE 1 END, state = 'failed'",
                tuple(column(value) for value in values),
            )

    def record_set_aside(self, objects: Iterable[Unreadable]) -> None:
        """Replaces the list of objects that belong to no study."""
        with self._transaction() as database:
            database.execute("DELETE FROM unreadable WHERE study_instance_uid IS NULL")
            for row in unreadable_rows(None, objects):
                database.execute("INSERT INTO unreadable VALUES (?, ?, ?, ?, ?)", row)

    def outcomes(self) -> Iterator[StudyOutcome]:
        """Every study's outcome, sorted by StudyInstanceUID, one in memory at a time."""
        known = self._rows("SELECT study_instance_uid FROM study WHERE outcome IS NOT NULL ORDER BY 1")
        for (uid,) in known:
            ((text,),) = self._rows("SELECT outcome FROM study WHERE study_instance_uid = ?", uid)
            yield from_json(text)

    def patient_index(self, patient_ids: Iterable[str]) -> Mapping[str, int]:
        """1-based indices of pseudonymous patients; new ones follow in sorted order, none ever changes."""
        wanted = sorted(set(patient_ids))
        with self._transaction() as database:
            known = dict(database.execute("SELECT patient_id, number FROM patient_index"))
            for patient in wanted:
                if patient not in known:
                    known[patient] = len(known) + 1
                    database.execute("INSERT INTO patient_index VALUES (?, ?)", (patient, known[patient]))
        return {patient: known[patient] for patient in wanted}

    def study_index(self, patient_id: str, study_ids: Iterable[str]) -> Mapping[str, int]:
        """1-based indices of a patient's studies; new ones are appended in the given order."""
        return self._append("study_index", "patient_id", "study_id", patient_id, study_ids)

    def series_index(self, study_id: str, series_ids: Iterable[str]) -> Mapping[str, int]:
        """1-based indices of a study's series; new ones are appended in the given order."""
        return self._append("series_index", "study_id", "series_id", study_id, series_ids)

    # --- what people ask -----------------------------------------------------------------------------

    def outcome(self, study_instance_uid: str) -> StudyOutcome | None:
        """One study's outcome; None where the study is unknown or was never mined."""
        found = self._rows(
            "SELECT outcome FROM study WHERE study_instance_uid = ? AND outcome IS NOT NULL",
            column(study_instance_uid),
        )
        return from_json(found[0][0]) if found else None

    def studies(self) -> list[StudyState]:
        """Every study, sorted by StudyInstanceUID."""
        found = self._rows(
            "SELECT number, study_instance_uid, patient_id, study_date, state, attempts, last_error,"
            " (SELECT count(*) FROM bookmark AS b WHERE b.study_instance_uid = s.study_instance_uid),"
            " (SELECT count(*) FROM bookmark AS b WHERE b.study_instance_uid = s.study_instance_uid"
            "  AND b.verdict = 'kept'),"
            " (SELECT count(*) FROM unreadable AS u WHERE u.study_instance_uid = s.study_instance_uid)"
            " FROM study AS s ORDER BY study_instance_uid"
        )
        return [StudyState(number, StudyRef(uid, patient, date), *rest) for number, uid, patient, date, *rest in found]

    def unreadable(self) -> list[tuple[int | None, Unreadable]]:
        """Every object or image that could not be read, with its study's number; by study and source.

        The number is None where the object could not be assigned to a study.
        """
        found = self._rows(
            "SELECT number, source, why, facts, detail FROM unreadable"
            " LEFT JOIN study USING (study_instance_uid) ORDER BY study_instance_uid, source"
        )
        return [
            (number, Unreadable(source, why, tuple(json.loads(facts).items()), detail))
            for number, source, why, facts, detail in found
        ]

    def funnel(self) -> Funnel:
        """Counts over all studies."""
        states = dict(self._rows("SELECT state, count(*) FROM study GROUP BY state"))
        ((bookmarks, kept),) = self._rows("SELECT count(*), count(*) FILTER (WHERE verdict = 'kept') FROM bookmark")
        ((objects, lesions),) = self._rows(
            "SELECT coalesce(sum(objects_read), 0), coalesce(sum(lesions), 0) FROM study"
        )
        # Beside min(), SQLite takes the other columns from the row of the minimum: one example, always the same.
        unreadable = self._rows("SELECT why, count(*), facts, min(source) FROM unreadable GROUP BY why ORDER BY why")
        rejected = self._rows(
            "SELECT reason, count(*), facts, min(key) FROM bookmark WHERE verdict = 'rejected'"
            " GROUP BY reason ORDER BY reason"
        )
        flags = self._rows("SELECT code, count(*) FROM note WHERE verdict = 'kept' GROUP BY code ORDER BY code")
        return Funnel(
            studies_done=states.get("done", 0),
            studies_failed=states.get("failed", 0),
            objects_read=objects,
            unreadable=_losses("unreadable", unreadable),
            bookmarks=bookmarks,
            rejected=_losses("reject", rejected),
            kept=kept,
            flags=dict(flags),
            lesions=lesions,
        )

    def studies_by_settings(self) -> dict[str, int]:
        """How many studies were last mined under each settings' digest, most frequent first.

        Studies that the next run tries again anyway, and those never mined, are left out.
        """
        found = self._rows(
            "SELECT settings_digest, count(*) AS studies FROM study WHERE outcome IS NOT NULL AND settings_digest <> ?"
            " GROUP BY settings_digest ORDER BY studies DESC, settings_digest",
            TRY_AGAIN,
        )
        return dict(found)

    def transfers(self) -> Transfers:
        """What moved for all studies together, and what did not."""
        sums = ", ".join(f"coalesce(sum({field.name}), 0)" for field in fields(Transfers))
        return Transfers(*self._rows(f"SELECT {sums} FROM transfer")[0])

    def find_bookmarks(self, word: str) -> list[tuple[str, str]]:
        """StudyInstanceUID and key of the bookmarks that `word` names, sorted.

        `word` is a bookmark's key, or the SOP Instance UID of its source or of an image that it lies on.
        """
        found = self._rows(
            "SELECT study_instance_uid, key FROM bookmark WHERE key = ?1 OR source_uid = ?1 UNION"
            " SELECT study_instance_uid, key FROM bookmark_image WHERE sop_instance_uid = ?1 ORDER BY 1, 2",
            column(word),
        )
        return [(uid, key) for uid, key in found]

    # --- the crosswalk -------------------------------------------------------------------------------

    def record_crosswalk(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Remembers (public id, kind, original identifier): the only way back, never inside a dataset."""
        with self._transaction() as database:
            for public_id, kind, original in rows:
                database.execute(
                    "INSERT INTO crosswalk VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (public_id, kind, column(original)),
                )

    def crosswalk(self, public_id: str = "") -> list[CrosswalkRow]:
        """Every way back, or those of one public id; sorted."""
        found = self._rows(
            "SELECT public_id, kind, original FROM crosswalk WHERE public_id = ?1 OR ?1 = '' ORDER BY 1, 2, 3",
            public_id,
        )
        return [CrosswalkRow(*row) for row in found]

    def ways_to(self, original: str) -> list[CrosswalkRow]:
        """The public ids of an identifier of the archive; sorted."""
        found = self._rows(
            "SELECT public_id, kind, original FROM crosswalk WHERE original = ? ORDER BY 2, 1", column(original)
        )
        return [CrosswalkRow(*row) for row in found]

    # --- the life of a ledger ------------------------------------------------------------------------

    def bind(self, name: str, value: str, advice: str) -> None:
        """Keeps `value` under `name` for ever; ConfigError with the advice where another one is kept."""
        with self._transaction() as database:
            database.execute("INSERT INTO bound VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))
            ((found,),) = database.execute("SELECT value FROM bound WHERE name = ?", (name,))
        if found != value:
            raise ConfigError(f"{self.path}: made with another {name}; {advice}")

    def is_bound(self, name: str) -> bool:
        """True where a value is kept under `name`."""
        return bool(self._rows("SELECT 1 FROM bound WHERE name = ?", name))

    def start_run(self, command: str, archive: str) -> int:
        """Notes that a run started and returns its number."""
        with self._transaction() as database:
            started = database.execute(
                "INSERT INTO run (command, archive, started) VALUES (?, ?, ?) RETURNING number",
                (command, column(archive), _now()),
            )
            ((number,),) = started.fetchall()
        return int(number)

    def finish_run(self, number: int, summary: Mapping[str, Any]) -> None:
        """Notes that a run came to its end; one without an end was killed or still goes on."""
        with self._transaction() as database:
            database.execute(
                "UPDATE run SET finished = ?, summary = ? WHERE number = ?",
                (_now(), json.dumps(summary), number),
            )

    def runs(self) -> list[dict[str, Any]]:
        """Every run, the first one first: the columns of the table, `summary` parsed."""
        names = ("number", "command", "archive", "started", "finished", "summary")
        found = self._rows(f"SELECT {', '.join(names)} FROM run ORDER BY number")
        runs = [dict(zip(names, row, strict=True)) for row in found]
        return [{**run, "summary": json.loads(run["summary"] or "null")} for run in runs]

    def _append(self, table: str, parent: str, child: str, parent_id: str, child_ids: Iterable[str]) -> dict[str, int]:
        """Numbers of one parent's children; new ones get the next numbers in the given order."""
        wanted = list(dict.fromkeys(child_ids))
        with self._transaction() as database:
            known = dict(database.execute(f"SELECT {child}, number FROM {table} WHERE {parent} = ?", (parent_id,)))
            for name in wanted:
                if name not in known:
                    known[name] = len(known) + 1
                    database.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (parent_id, name, known[name]))
        return {name: known[name] for name in wanted}


def _losses(level: str, found: Iterable[tuple[str, int, str, str]]) -> dict[str, Loss]:
    """Losses by code, from rows of code, count and the facts of an example."""
    return {code: Loss(count, message(level, code, json.loads(facts).items())) for code, count, facts, _ in found}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
