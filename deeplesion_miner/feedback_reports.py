"""Reports and rejection notes as feedback needs them: whose they are, what they hold, what they reject."""

from __future__ import annotations

from dataclasses import dataclass

import schemas
from deeplesion_miner.results import Author
from deeplesion_miner.types import Bookmark, Source


def known_reader(name: str) -> str:
    """The name; '' where viewers write it for nobody."""
    return "" if name in schemas.load("feedback")["nobody"] else name


@dataclass(frozen=True)
class ReadReport:
    """One measurement report of an archive, ours or another's."""

    source: Source
    bookmarks: tuple[Bookmark, ...]
    author: Author | None = None
    """Of a report of ours who measured, read back from it; None for any other report."""

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.source.sop_instance_uid

    @property
    def is_of_model(self) -> bool:
        """Whether it is ours and a model's; one that passes on what a person measured says nothing of a model."""
        return self.author is not None and self.author.is_algorithm

    @property
    def reader(self) -> str:
        """Who observed, by the first bookmark that tells; '' where none does."""
        return next((one.reader for one in self.bookmarks if one.reader), "")


@dataclass(frozen=True)
class RejectionNote:
    """A key object selection that rejects objects (IHE Radiology TF-3, Imaging Object Change Management)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    reason: str
    """A word of `schemas/feedback.toml` rejection, e.g. 'quality'."""
    rejected: tuple[str, ...]
    """SOP Instance UIDs, in document order."""
    reader: str = ""
    written_at: str = ""
    """YYYYMMDDHHMMSS of the content, '' if unknown."""
