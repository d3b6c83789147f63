"""What an outbox forgets of what has arrived: files where a person asks for it, rows and files after a set time."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import schemas
from dicom_io.delivery_rules import DELIVERED, State
from dicom_io.outbox_contents import Contents
from dicom_io.outbox_file import OutboxFile
from dicom_io.outbox_rows import column, marks

MOST = 100
"""Objects in one transaction: others wait for the outbox no longer than that."""


def forget_files(file: OutboxFile, contents: Contents) -> tuple[int, int]:
    """Deletes the files of objects that have arrived wherever they were to go; how many, how many bytes.

    The rows stay: what was delivered is never sent again. What a killed process left without a row goes, too.
    """
    with file.transaction() as database:
        arrived = [
            sha256
            for (sha256,) in database.execute(
                "SELECT sha256 FROM object WHERE file_kept = 1 GROUP BY sha256"
                f" HAVING sum(state NOT IN ({marks(DELIVERED)})) = 0",
                tuple(DELIVERED),
            )
        ]
        database.executemany("UPDATE object SET file_kept = 0 WHERE sha256 = ?", ((one,) for one in arrived))
        # Within the transaction, so that nobody queues the same content for another destination meanwhile.
        freed_bytes = sum(contents.remove(sha256) for sha256 in arrived)
        referred = {sha256 for (sha256,) in database.execute("SELECT sha256 FROM object WHERE file_kept = 1")}
        for sha256 in contents.digests() - referred:
            contents.remove(sha256)
    return len(arrived), freed_bytes


def prune(
    file: OutboxFile, contents: Contents, destination: str, before_s: float, proven: Collection[State] = DELIVERED
) -> int:
    """Forgets at most `MOST` objects that the destination is known to have since before a time; how many.

    Row and file go, and old commitment requests of which no row speaks. Reports stay, row and file: a corrected
    report names by them the one that it corrects. So do dead letters, and all that is not proven to have arrived.
    """
    reports = schemas.load("dialects/objects")["content_tree"]
    old = (
        "SELECT number, sha256 FROM object WHERE destination = ? AND owner = ''"
        f" AND state IN ({marks(proven)}) AND due_s < ? AND settled_s < ?"
        f" AND sop_class_uid NOT IN ({marks(reports)}) LIMIT ?"
    )
    values = (column(destination), *proven, before_s, before_s, *reports, MOST)
    if not file.rows(old, *values):
        return 0
    with file.transaction() as database:
        found = database.execute(old, values).fetchall()
        database.executemany("DELETE FROM object WHERE number = ?", ((number,) for number, _ in found))
        database.execute(
            "DELETE FROM commitment WHERE destination = ?1 AND requested_s < ?2"
            " AND transaction_uid NOT IN (SELECT transaction_uid FROM object WHERE destination = ?1)",
            (column(destination), before_s),
        )
        for _, sha256 in found:
            remove_unused(database, contents, sha256)
    return len(found)


def remove_unused(database: sqlite3.Connection, contents: Contents, sha256: str) -> None:
    """Deletes a file that no row refers to."""
    if database.execute("SELECT 1 FROM object WHERE sha256 = ? AND file_kept", (sha256,)).fetchone() is None:
        contents.remove(sha256)
