"""What an archive's answer to a stored object means: one table for C-STORE and STOW-RS, `schemas/store_status.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import schemas


class Verdict(StrEnum):
    """What became of an object that was sent."""

    STORED = "stored"
    WARNING = "warning"
    """Stored, with something to be said."""
    THERE = "there"
    """An object of this UID was there before; whether it is the same one is to be found out."""
    TEMPORARY = "temporary"
    """Not stored; the same object may be taken later."""
    PERMANENT = "permanent"
    """Not stored, and the same object will not be."""


@dataclass(frozen=True)
class StoreAnswer:
    """What an archive said of one object."""

    sop_instance_uid: str
    verdict: Verdict
    text: str
    """For people; '' is never given."""
    status: int | None = None
    """Of C-STORE, or the failure or warning reason of STOW-RS; None where the archive gave none."""
    transfer_syntax: str = ""
    """In which the object went out; '' where it did not. It is not the object's own where `text` says so."""

    @property
    def accepted(self) -> bool:
        """The archive says that it has an object of this UID."""
        return self.verdict in (Verdict.STORED, Verdict.WARNING, Verdict.THERE)

    @property
    def temporary(self) -> bool:
        """Not accepted, and worth another attempt."""
        return self.verdict is Verdict.TEMPORARY


def one_line(said: object) -> str:
    """What somebody else wrote, for people: without what would steer a terminal or begin a new line."""
    return "".join(one if one.isprintable() else " " for one in str(said or "")).strip()


def judge(status: int) -> tuple[Verdict, str]:
    """Verdict and text of a status of C-STORE or a reason of STOW-RS."""
    for row in schemas.load("store_status")["status"]:
        if int(row["first"], 16) <= status <= int(row["last"], 16):
            return Verdict(row["verdict"]), row["text"]
    raise ValueError(f"{status:X}H is no status: it has more than 16 bits")


def commitment_failure(reason: int) -> tuple[str, bool]:
    """Text of a failure reason of storage commitment, and whether sending the object again may help."""
    row = schemas.load("store_status")["commitment"].get(f"{reason:04X}")
    if row is None:
        return f"failure reason {reason:04X}H, which storage commitment does not name", True
    return row["text"], row["send_again"]
