"""What is true of the phantom archive, from the phantoms' own definition: what a miner must find, keep and reject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deeplesion_miner.types import ImageRef, Kind, Segment, SegmentMm
from dicom_io.testbed.identity import CANARY_WORDS


@dataclass(frozen=True)
class ExpectedBookmark:
    """One measurement group of a report, or one whole object without groups, and what should become of it."""

    name: str
    """patient/time point/report/lesion, e.g. 'anna/0/read/liver'."""
    patient_id: str
    study_instance_uid: str
    source_series_instance_uid: str
    source_sop_instance_uid: str
    item_path: str
    """Path of the group in its report: 1-based positions from the root's children on, e.g. '5.1'; '' = the object."""
    writer: str
    """'ohif 3.13', 'ohif 3.11', 'highdicom SCOORD', 'highdicom SCOORD3D' or 'text'."""
    kind: Kind
    """By tool: an arrow is a POINT, however its writer codes it."""
    kept: bool
    """By the default rules."""
    reasons: tuple[str, ...] = ()
    """Codes of level 'reject' of which any one is right; the first is the expected one. Empty if kept."""
    flags: tuple[str, ...] = ()
    """Codes of level 'flag' that must be among the notes of a kept one; there may be others."""
    image: ImageRef | None = None
    """The image and frame drawn on, whether or not the archive has it."""
    long_axis_px: Segment | None = None
    """Analytic, on `image`: (column, row), the first pixel's centre being (0, 0). For a length, its line."""
    short_axis_px: Segment | None = None
    long_axis_mm: SegmentMm | None = None
    short_axis_mm: SegmentMm | None = None
    ends_on_edges: bool = False
    """The ends lie exactly on the lesion's edge, where the CT number crosses the middle between the two below."""
    lesion_hu: float = 0.0
    organ_hu: float = 0.0
    lesion: str = ""
    """The same word at both time points of a patient names the same lesion."""
    label: str = ""
    tracking_uid: str = ""

    @property
    def key(self) -> str:
        """The bookmark's key: SOP Instance UID of the source, '#', path of the item in it."""
        return f"{self.source_sop_instance_uid}#{self.item_path}"


@dataclass(frozen=True)
class PhantomArchive:
    """The archive's folder and all that is true of it."""

    folder: Path
    expected: tuple[ExpectedBookmark, ...]
    images: int
    """CT, Enhanced CT, localizer and Secondary Capture objects."""
    reports: int
    study_dates: tuple[str, ...]
    """YYYYMMDD of every study: shifted, they must not stand in any output."""
    uids: frozenset[str]
    """Every Study, Series, SOP Instance and Frame of Reference UID: none may stand in any output."""
    canaries: tuple[str, ...] = CANARY_WORDS
    """Tokens of identifying values: none may stand in any output, in whatever case."""

    @property
    def kept(self) -> tuple[ExpectedBookmark, ...]:
        """Those that become rows."""
        return tuple(bookmark for bookmark in self.expected if bookmark.kept)
