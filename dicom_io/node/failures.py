"""What the log says of an error: its kind, and words of our own.

The text of an error is another's: of an archive, a library, a model. It may hold a name, a UID or a path, so the log
holds it only where it is verbose; the journal, which identifies patients anyway, keeps the reasons of jobs.
"""

from __future__ import annotations

import os
from enum import StrEnum

from deeplesion_miner.errors import ArchiveError, MinerError


class Problem(StrEnum):
    """Why a job was not done, in words that hold nothing of its images."""

    OTHER = "the reason stands in the journal"
    KILLED = "the process of the model was killed, or crashed"
    STOPPED = "the node stopped"
    UNFORESEEN = "an error that was not foreseen"
    NO_RULE = "its rule is no longer in the rule file"
    NO_IMAGES = "its images are no longer here"
    IMAGES_UNREADABLE = "images cannot be read"


class JobFailed(MinerError):
    """A job cannot be done; `temporary` where it may succeed later.

    `text` goes to the journal; the log says `problem`, and `kind`: the name of the error behind it.
    """

    def __init__(self, text: str, *, temporary: bool, problem: Problem = Problem.OTHER, kind: str = "") -> None:
        super().__init__(text)
        self.temporary = temporary
        self.problem = problem
        self.kind = kind or type(self).__name__


def kind(error: BaseException) -> str:
    """The name of an error's class."""
    return error.kind if isinstance(error, JobFailed) else type(error).__name__


def words(error: BaseException) -> str:
    """What is known of an error that is no text of others: '' where its kind has to do."""
    if isinstance(error, JobFailed):
        return str(error.problem)
    if isinstance(error, ArchiveError):
        status = "" if error.status is None else f" (status {error.status:04X}H)"
        then = "it may pass" if error.temporary else "it will not pass by itself"
        return f"{error.peer}: {error.operation} failed{status}; {then}"
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else ""
    return getattr(error.__cause__, "sqlite_errorname", "")  # e.g. SQLITE_FULL
