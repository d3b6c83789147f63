"""Exceptions for broken worlds; what a rule decides is a value (`Rejected`, `Unreadable`), never an exception."""

from __future__ import annotations


class MinerError(Exception):
    """Base of every error that a person can act on; its text says what, where and what to do."""


class ConfigError(MinerError):
    """A setting, path, key or argument that cannot work; found before anything is fetched."""


class ArchiveError(MinerError):
    """An archive did not do what was asked.

    `temporary` decides retry: True where the same request may succeed later (time-out, lost
    association, A7xx, transient rejection), False where it will not (refused title, A8xx, A9xx).
    """

    def __init__(self, text: str, *, peer: str, operation: str, status: int | None = None, temporary: bool) -> None:
        super().__init__(text)
        self.peer = peer
        self.operation = operation
        self.status = status
        self.temporary = temporary

    def __str__(self) -> str:
        status = "" if self.status is None else f" (status {self.status:04X}H)"
        return f"{self.peer}: {self.operation}: {self.args[0]}{status}"


class LedgerInUse(MinerError):
    """Another process holds the ledger."""


class SumsDoNotHold(MinerError):
    """Objects, bookmarks or rows do not add up: the run is a failed run (a programming error)."""


class VerificationFailed(MinerError):
    """A dataset is not what its manifest says."""
