"""Exit codes: stable, documented (`docs/cli.md`) and tested. An unknown code is a failure."""

from __future__ import annotations

from enum import IntEnum

from deeplesion_miner.errors import ArchiveError, ConfigError, LedgerInUse, MinerError, VerificationFailed


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    NOTHING_MATCHED = 4
    ARCHIVE_AWAY = 5
    VERIFICATION_FAILED = 6
    LEDGER_IN_USE = 7
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "usage or configuration",
    Exit.PARTIAL: "partial: some studies failed or are not there, or some objects could not be read; the rest is in",
    Exit.NOTHING_MATCHED: "nothing matched",
    Exit.ARCHIVE_AWAY: "the archive is away or refuses; what was mined until then is kept",
    Exit.VERIFICATION_FAILED: "verification failed",
    Exit.LEDGER_IN_USE: "another `mine` works on the same working folder or writes the same dataset",
    Exit.INTERRUPTED: "interrupted; run the same command again to go on",
}

_OF_ERROR: tuple[tuple[type[MinerError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (ArchiveError, Exit.ARCHIVE_AWAY),
    (LedgerInUse, Exit.LEDGER_IN_USE),
    (VerificationFailed, Exit.VERIFICATION_FAILED),
)


def of_error(error: MinerError) -> Exit:
    """The exit code of an error that a person can act on."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), Exit.FAILED)
