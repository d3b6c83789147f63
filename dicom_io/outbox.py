"""The outbox: objects on their way to archives, with what became of each. Trusted side.

Every change is one transaction, durable when it returns: a kill at any instant loses nothing and doubles nothing.
Several processes may work on one outbox. What a process claims is its own until it records or releases it, or ends.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path
from typing import Literal, Self

from deeplesion_miner.errors import ConfigError
from dicom_io.delivery_rules import (
    DELIVERED,
    OPEN,
    Event,
    Happening,
    Policy,
    Standing,
    State,
    after,
    of_commitment_failure,
)
from dicom_io.emit import EmittedObject
from dicom_io.object_file import ObjectFile
from dicom_io.outbox_contents import Contents
from dicom_io.outbox_file import OutboxFile
from dicom_io.outbox_owners import Owner, alone, ended, known
from dicom_io.outbox_pruning import forget_files, prune, remove_unused
from dicom_io.outbox_rows import PARCEL, STANDING, Parcel, column, marks, parcel, standing

_MANY = 500
"""UIDs or numbers in one statement; SQLite's limit is larger."""


class Outbox:
    """The outbox of a folder. `policy` decides about repetitions of what this user of it records."""

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.folder = folder
        self.policy = policy or Policy()
        self._file = OutboxFile(folder)
        self._owners = folder / "owners"
        self._owner = Owner(self._owners)
        self._contents = Contents(folder / "objects", self._owner.name)
        self.take_back()

    @classmethod
    def open(cls, folder: Path, policy: Policy | None = None) -> Self:
        """The outbox of a folder, made where there is none. Raises ConfigError and OutboxNotWorking."""
        return cls(folder, policy)

    def close(self) -> None:
        """Gives back what is claimed and closes."""
        with self._file.transaction() as database:
            database.execute("UPDATE object SET owner = '' WHERE owner = ?", (self._owner.name,))
        self._owner.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- putting in ----------------------------------------------------------------------------------

    def put(self, objects: Iterable[EmittedObject], destination: str, now_s: float = 0.0) -> Mapping[str, str]:
        """Queues objects for a destination; the state of each by SOP Instance UID.

        A UID that is known for the destination is not queued again, whatever became of it, and the first content
        is kept. Files are durable before the rows are.
        """
        given = [(hashlib.sha256(one.encoded).hexdigest(), one) for one in objects]
        self._contents.put((sha256, one.encoded) for sha256, one in given)
        with self._file.transaction() as database:
            return {
                one.sop_instance_uid: self._queue(database, sha256, one, destination, now_s) for sha256, one in given
            }

    def _queue(
        self, database: sqlite3.Connection, sha256: str, one: EmittedObject, destination: str, now_s: float
    ) -> str:
        """The row of an object, a new one where there is none; its state."""
        values = {
            "destination": destination,
            "sop_instance_uid": one.sop_instance_uid,
            "sop_class_uid": one.sop_class_uid,
            "transfer_syntax_uid": one.transfer_syntax_uid,
            "series_instance_uid": one.series_instance_uid,
            "study_instance_uid": one.study_instance_uid,
            "patient_id": one.patient_id,
            "issuer_of_patient_id": one.issuer_of_patient_id,
            "kind": one.kind,
            "sha256": sha256,
            "stored_sha256": _stored_sha256(one),
            "size_bytes": len(one.encoded),
            "file_kept": 1,
            "owner": "",
            "queued_s": now_s,
            **asdict(Standing()),
        }
        database.execute(
            f"INSERT INTO object ({', '.join(values)}) VALUES ({marks(values)})"
            " ON CONFLICT (destination, sop_instance_uid) DO NOTHING",
            [column(value) for value in values.values()],
        )
        kept, file_kept, state = database.execute(
            "SELECT sha256, file_kept, state FROM object WHERE destination = ? AND sop_instance_uid = ?",
            (column(destination), one.sop_instance_uid),
        ).fetchone()
        if kept != sha256 or not file_kept:
            remove_unused(database, self._contents, sha256)
        elif not self._contents.path(sha256).exists():
            # It was there, and another process has just found that nothing referred to it.
            self._contents.put([(sha256, one.encoded)])
        return str(state)

    def known(self, digests: Collection[str], destination: str) -> Mapping[str, tuple[str, str]]:
        """Of files by the sha256 of their bytes: SOP Instance UID and state of those that need no second putting in."""
        found: dict[str, tuple[str, str]] = {}
        wanted = list(digests)
        for start in range(0, len(wanted), _MANY):
            some = wanted[start : start + _MANY]
            rows = self._file.rows(
                "SELECT sha256, sop_instance_uid, state FROM object WHERE destination = ? AND reason <> 'file_damaged'"
                f" AND sha256 IN ({marks(some)})",
                column(destination),
                *some,
            )
            found.update((sha256, (uid, state)) for sha256, uid, state in rows)
        return found

    def has_same(self, one: EmittedObject, destination: str) -> bool:
        """Whether what is known of its UID for a destination is what an archive would store of this object, too.

        Files may differ in their headers: preamble, file meta information.
        """
        rows = self._file.rows(
            f"SELECT {PARCEL}, {STANDING} FROM object WHERE destination = ? AND sop_instance_uid = ?",
            column(destination),
            column(one.sop_instance_uid),
        )
        ours = _stored_sha256(one)
        for row in rows:
            kept = parcel(row)
            if kept.stored_sha256:
                return kept.stored_sha256 == ours
            content = self.content(kept)
            return (
                content is not None
                and _stored_sha256(replace(one, encoded=content, transfer_syntax_uid=kept.transfer_syntax_uid)) == ours
            )
        return False

    # --- working on it -------------------------------------------------------------------------------

    def claim(
        self, destination: str, work: Literal["send", "confirm"], now_s: float, limit: int, longest_s: float = math.inf
    ) -> tuple[Parcel, ...]:
        """At most `limit` objects that are due, now this process's own: to be sent, or to be confirmed.

        What is due for longest is taken first, so that nothing that comes back again and again keeps others from
        their turn; what is taken is together by study. What is due later than `longest_s` from now is due, too: nothing
        pauses so long, a clock noted it that has been set back since.
        """
        states = (State.QUEUED, State.FAILED) if work == "send" else (State.SENT,)
        self.take_back()
        with self._file.transaction() as database:
            found = database.execute(
                f"SELECT {PARCEL}, {STANDING} FROM object WHERE number IN ("
                "SELECT number FROM object WHERE destination = ? AND owner = ''"
                f" AND state IN ({marks(states)}) AND (due_s <= ? OR due_s > ?)"
                " ORDER BY due_s, study_instance_uid, number LIMIT ?) ORDER BY study_instance_uid, number",
                (column(destination), *states, now_s, now_s + longest_s, limit),
            ).fetchall()
            parcels = tuple(parcel(row) for row in found)
            database.executemany(
                "UPDATE object SET owner = ? WHERE number = ?", ((self._owner.name, one.number) for one in parcels)
            )
        return parcels

    def sending(self, destination: str) -> AbstractContextManager[bool]:
        """A block in which only one sends to a destination; it is told whether it is the one.

        Archives are known that give two objects of two associations one file, and say that both are stored.
        """
        name = hashlib.sha256(column(destination).encode()).hexdigest()[:16]
        return alone(self.folder / "senders", name)

    def going_out(self, parcels: Iterable[Parcel]) -> None:
        """Notes, before their bytes go out, that from now on the archive may have these objects."""
        with self._file.transaction() as database:
            numbers = ((one.number,) for one in parcels)
            database.executemany("UPDATE object SET maybe_there = 1 WHERE number = ?", numbers)

    def content(self, parcel: Parcel) -> bytes | None:
        """The object's file; None where our copy is gone or damaged."""
        return self._contents.read(parcel.sha256)

    def path(self, parcel: Parcel) -> Path:
        """Where the object's file lies, if it is kept."""
        return self._contents.path(parcel.sha256)

    def record(self, happened: Iterable[tuple[Parcel, Happening]], now_s: float) -> dict[int, Standing]:
        """Notes what happened to claimed objects, which are nobody's afterwards; the new standings by number."""
        with self._file.transaction() as database:
            return {
                parcel.number: self._happen(database, parcel.number, happening, now_s) for parcel, happening in happened
            }

    def release(self, parcels: Iterable[Parcel]) -> None:
        """Gives back claimed objects of which nothing new is known."""
        with self._file.transaction() as database:
            numbers = ((one.number, self._owner.name) for one in parcels)
            database.executemany("UPDATE object SET owner = '' WHERE number = ? AND owner = ?", numbers)

    def take_back(self) -> int:
        """Frees what processes had claimed that have ended since; how many objects."""
        claiming = {name for (name,) in self._file.rows("SELECT DISTINCT owner FROM object WHERE owner <> ''")}
        freed = 0
        for name in sorted((claiming | known(self._owners)) - {self._owner.name}):
            with ended(self._owners, name) as is_dead:
                if is_dead:
                    with self._file.transaction() as database:
                        freed += database.execute("UPDATE object SET owner = '' WHERE owner = ?", (name,)).rowcount
                    self._contents.remove_left_overs(name)
        return freed

    # --- storage commitment --------------------------------------------------------------------------

    def request(self, transaction_uid: str, parcels: Sequence[Parcel], now_s: float, report_due_s: float) -> None:
        """Notes, before it is made, a request for commitment of claimed objects, which are nobody's afterwards.

        After `report_due_s` they are due for confirmation again.
        """
        destination = column(parcels[0].destination)
        with self._file.transaction() as database:
            database.execute(
                "INSERT INTO commitment VALUES (?, ?, ?, ?, NULL)", (transaction_uid, destination, len(parcels), now_s)
            )
            database.executemany(
                "UPDATE object SET transaction_uid = ?, due_s = ? WHERE number = ? AND state = 'sent'",
                ((transaction_uid, report_due_s, one.number) for one in parcels),
            )
            # Also of those about which an older report has come meanwhile.
            database.executemany("UPDATE object SET owner = '' WHERE number = ?", ((one.number,) for one in parcels))

    def expect_no_report(self, transaction_uid: str, now_s: float) -> None:
        """Has the objects of a request that was not taken be confirmed in another way, now."""
        with self._file.transaction() as database:
            database.execute(
                "UPDATE object SET due_s = ? WHERE transaction_uid = ? AND state = 'sent'", (now_s, transaction_uid)
            )

    def report(self, transaction_uid: str, committed: Collection[str], failed: Mapping[str, int], now_s: float) -> bool:
        """Notes a storage commitment report; False where the transaction is not one of ours.

        `failed` holds failure reasons (0008,1197) by SOP Instance UID. Reports may be repeated, and come late: a
        failure counts only for what has not been sent again since.
        """
        with self._file.transaction() as database:
            known_one = database.execute(
                "SELECT destination FROM commitment WHERE transaction_uid = ?", (transaction_uid,)
            ).fetchone()
            if known_one is None:
                return False
            database.execute(
                "UPDATE commitment SET reported_s = coalesce(reported_s, ?) WHERE transaction_uid = ?",
                (now_s, transaction_uid),
            )
            members = self._members(database, known_one[0], [*committed, *failed])
            for uid in committed:
                if uid in members:
                    self._happen(database, members[uid][0], Happening(Event.COMMITTED), now_s, keep_owner=True)
            for uid, failure_reason in failed.items():
                if uid in members and members[uid][1] == transaction_uid:
                    happening = of_commitment_failure(failure_reason)
                    self._happen(database, members[uid][0], happening, now_s, keep_owner=True)
        return True

    def _members(
        self, database: sqlite3.Connection, destination: str, uids: Sequence[str]
    ) -> dict[str, tuple[int, str]]:
        """Number and last transaction of objects, by SOP Instance UID."""
        found: dict[str, tuple[int, str]] = {}
        for start in range(0, len(uids), _MANY):
            some = [column(uid) for uid in uids[start : start + _MANY]]
            rows = database.execute(
                "SELECT sop_instance_uid, number, transaction_uid FROM object"
                f" WHERE destination = ? AND sop_instance_uid IN ({marks(some)})",
                (destination, *some),
            )
            found.update((uid, (number, transaction_uid)) for uid, number, transaction_uid in rows)
        return found

    # --- what people ask -----------------------------------------------------------------------------

    def counts(self, destination: str | None = None) -> Mapping[str, Mapping[str, int]]:
        """How many objects are in each state, by destination."""
        found: dict[str, Counter[str]] = {}
        rows = self._file.rows("SELECT destination, state, count(*) FROM object GROUP BY 1, 2 ORDER BY 1, 2")
        for where, state, count in rows:
            if destination in (None, where):
                found.setdefault(where, Counter())[state] = count
        return found

    def parcels(self, destination: str | None = None, states: Collection[State] = tuple(State)) -> tuple[Parcel, ...]:
        """Objects in these states, in the order in which they were queued."""
        rows = self._file.rows(
            f"SELECT {PARCEL}, {STANDING} FROM object WHERE state IN ({marks(states)})"
            " AND (? IS NULL OR destination = ?) ORDER BY number",
            *states,
            *[None if destination is None else column(destination)] * 2,
        )
        return tuple(parcel(row) for row in rows)

    def of_study(self, destination: str, study_instance_uid: str) -> tuple[Parcel, ...]:
        """The objects of a study that a destination has or is to have: all but dead ones, as they were queued."""
        rows = self._file.rows(
            f"SELECT {PARCEL}, {STANDING} FROM object WHERE study_instance_uid = ? AND destination = ?"
            " AND state <> 'dead' ORDER BY number",
            column(study_instance_uid),
            column(destination),
        )
        return tuple(parcel(row) for row in rows)

    def pending(self, destination: str) -> int:
        """How many objects still have something to be done."""
        ((count,),) = self._file.rows(
            f"SELECT count(*) FROM object WHERE destination = ? AND state IN ({marks(OPEN)})",
            column(destination),
            *OPEN,
        )
        return int(count)

    def awaiting(self, destination: str, now_s: float, reason: str = "") -> int:
        """How many objects wait for their study, or word of it, and are not to be asked for yet; '' for any reason."""
        ((count,),) = self._file.rows(
            "SELECT count(*) FROM object WHERE destination = ?1 AND awaited_since_s IS NOT NULL AND due_s > ?2"
            f" AND (?3 = '' OR reason = ?3) AND state IN ({marks(OPEN)})",
            column(destination),
            now_s,
            reason,
            *OPEN,
        )
        return int(count)

    def next_due_s(self, destination: str) -> float | None:
        """When the next object is due that nobody works on; None where there is none."""
        ((due_s,),) = self._file.rows(
            f"SELECT min(due_s) FROM object WHERE destination = ? AND owner = '' AND state IN ({marks(OPEN)})",
            column(destination),
            *OPEN,
        )
        return None if due_s is None else float(due_s)

    def retry_dead(self, destination: str | None = None) -> int:
        """Queues dead objects anew, with all their attempts; how many. Those without a file stay dead.

        What waits for its study is due at once, too.
        """
        where = [None if destination is None else column(destination)] * 2
        with self._file.transaction() as database:
            database.execute(
                f"UPDATE object SET due_s = 0 WHERE awaited_since_s IS NOT NULL AND state IN ({marks(OPEN)})"
                " AND (? IS NULL OR destination = ?)",
                (*OPEN, *where),
            )
            return database.execute(
                "UPDATE object SET state = 'queued', attempts = 0, refusals = 0, due_s = 0, settled_s = NULL,"
                " awaited_since_s = NULL"
                " WHERE state = 'dead' AND file_kept = 1 AND (? IS NULL OR destination = ?)",
                where,
            ).rowcount

    def forget_delivered(self) -> tuple[int, int]:
        """Deletes the files of objects that have arrived, as `outbox_pruning.forget_files` says."""
        return forget_files(self._file, self._contents)

    def prune(self, destination: str, now_s: float) -> int:
        """Forgets some objects that arrived longer ago than the policy keeps them; how many."""
        if self.policy.keep_done_s is None:
            return 0
        proven = {State.COMMITTED} if self.policy.commitment == "required" else DELIVERED
        return prune(self._file, self._contents, destination, now_s - self.policy.keep_done_s, proven)

    # --- rows ----------------------------------------------------------------------------------------

    def _happen(
        self, database: sqlite3.Connection, number: int, happening: Happening, now_s: float, keep_owner: bool = False
    ) -> Standing:
        """One event on the object as it stands now: a report may have come while it was being worked on."""
        row = database.execute(
            f"SELECT sop_instance_uid, owner, {STANDING} FROM object WHERE number = ?", (number,)
        ).fetchone()
        uid, owner = row[:2]
        before = standing(row[2:])
        now = after(before, happening, self.policy, now_s, uid)
        owner = owner if keep_owner else ""
        assignments = ", ".join(f"{item.name} = ?" for item in fields(Standing))
        database.execute(
            f"UPDATE object SET {assignments}, owner = ? WHERE number = ?",
            (*(column(one) for one in astuple(now)), owner, number),
        )
        return now


def _stored_sha256(one: EmittedObject) -> str:
    """Of what an archive stores; '' for what is no PS3.10 file."""
    try:
        return ObjectFile(one.sop_instance_uid, one.sop_class_uid, one.transfer_syntax_uid, one.encoded).stored_sha256()
    except ConfigError:
        return ""
