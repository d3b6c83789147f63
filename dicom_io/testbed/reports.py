"""Drawing on phantom lesions and writing the drawings as reports, with what should become of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset

from deeplesion_miner.types import Kind, Segment, SegmentMm, Vector
from dicom_io.testbed.anatomy import ORGAN_HU, on_grid
from dicom_io.testbed.drawn import SITES, Drawing, DrawnOn
from dicom_io.testbed.identity import StudyIdentity, uid_of
from dicom_io.testbed.rasteriser import Grid
from dicom_io.testbed.series import Series
from dicom_io.testbed.sr_highdicom import Manner, write_highdicom_report, write_text_report
from dicom_io.testbed.sr_ohif import Edition, ReportHeader, write_ohif_report
from dicom_io.testbed.truth import ExpectedBookmark

KINDS = {
    "Bidirectional": Kind.BIDIRECTIONAL,
    "Length": Kind.LENGTH,
    "ArrowAnnotate": Kind.POINT,
    "EllipticalROI": Kind.ELLIPSE,
}


@dataclass(frozen=True)
class Mark:
    """A drawing with what should become of it."""

    name: str
    drawing: Drawing
    evidence: Dataset | None
    kept: bool = True
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    ends_on_edges: bool = False
    lesion_hu: float = 0.0
    organ_hu: float = 0.0
    lesion: str = ""

    def rejected(self, *reasons: str) -> Mark:
        """The same mark where it must be rejected for one of these reasons."""
        return replace(self, kept=False, reasons=reasons, flags=())

    def flagged(self, *flags: str) -> Mark:
        """The same mark where a kept one must have these notes."""
        return replace(self, flags=flags)

    def stated(self, *values: float) -> Mark:
        """The same mark with other stated values."""
        return replace(self, drawing=replace(self.drawing, values=values))


def cross_on(series: Series, lesion: str, label: str = "", tracking: object = None) -> Mark:
    """Long and short axis of a lesion on its key slice, exactly from edge to edge.

    `tracking` names the lesion for tracking UIDs that are equal in several reports; by default each has its own.
    """
    index, placed = series.lesions[lesion]
    lines_mm = (placed.long_axis_mm, placed.short_axis_mm)
    study = series.header.study
    drawing = Drawing(
        tool="Bidirectional",
        on=series.drawn_on(index),
        lines_px=(placed.long_axis_px, placed.short_axis_px),
        values=tuple(line.length_mm for line in lines_mm),
        tracking_uid=_tracking_uid(study, tracking or (series.header.key, lesion, study.time_point)),
        label=label or f"{study.person.key} {lesion}",
        site=next((code for word, code in SITES.items() if word in placed.plan.organ), None),
        lines_mm=lines_mm,
    )
    return Mark(
        name=lesion,
        drawing=drawing,
        evidence=series.evidence_of(index),
        ends_on_edges=True,
        lesion_hu=placed.plan.hu,
        organ_hu=ORGAN_HU[placed.plan.organ],
        lesion=lesion,
    )


def _tracking_uid(study: StudyIdentity, name: object) -> str:
    return replace(study, time_point=-1).uid("tracking", name)


def drawn_with(mark: Mark, tool: str) -> Mark:
    """The lesion of a cross marked with another tool: its long axis for a length or an arrow, both for an ellipse."""
    lines = mark.drawing.lines_px if tool == "EllipticalROI" else mark.drawing.lines_px[:1]
    lines_mm = mark.drawing.lines_mm[: len(lines)]
    uid = uid_of(mark.drawing.tracking_uid, tool)
    drawing = replace(
        mark.drawing,
        tool=tool,
        lines_px=lines,
        lines_mm=lines_mm,
        values=mark.drawing.values[: len(lines)],
        tracking_uid=uid,
        label=f"{mark.drawing.label} {tool}",
    )
    reason = "no_second_axis" if tool == "Length" else "unsupported_source"
    changed = replace(mark, name=f"{mark.name} {tool}", drawing=drawing, ends_on_edges=False)
    return changed.rejected(reason)


def moved(mark: Mark, grid: Grid, shift_mm: Vector, name: str) -> Mark:
    """The cross shifted in the patient; its pixels are the feet of the shifted ends on the plane."""
    lines_mm = tuple(SegmentMm(_sum(line.start, shift_mm), _sum(line.end, shift_mm)) for line in mark.drawing.lines_mm)
    return _redrawn(mark, grid, lines_mm, name)


def shrunk(mark: Mark, grid: Grid, share: float, name: str) -> Mark:
    """The cross drawn smaller about its middle by a share of its length."""
    lines_mm = tuple(
        SegmentMm(_between(line, share / 2), _between(line, 1 - share / 2)) for line in mark.drawing.lines_mm
    )
    return _redrawn(mark, grid, lines_mm, name)


def _redrawn(mark: Mark, grid: Grid, lines_mm: tuple[SegmentMm, ...], name: str) -> Mark:
    drawing = replace(
        mark.drawing,
        lines_mm=lines_mm,
        lines_px=tuple(on_grid(grid, line) for line in lines_mm),
        values=tuple(line.length_mm for line in lines_mm),
        tracking_uid=uid_of(mark.drawing.tracking_uid, name),
        label=f"{mark.drawing.label} {name}",
    )
    return replace(mark, name=f"{mark.name} {name}", drawing=drawing, ends_on_edges=False, lesion="")


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _between(line: SegmentMm, share: float) -> Vector:
    x, y, z = (line.start[i] + share * (line.end[i] - line.start[i]) for i in range(3))
    return x, y, z


def plain_cross(on: DrawnOn, evidence: Dataset | None, columns: int, rows: int, name: str, tracking_uid: str) -> Mark:
    """A cross in the middle of an image that shows no lesion there."""
    x, y = columns * 0.5 + 0.3, rows * 0.5 - 0.2
    long_px = Segment((x - columns / 8, y), (x + columns / 8, y))
    short_px = Segment((x, y - rows / 12), (x, y + rows / 12))
    values = (long_px.length_px * on.col_spacing_mm, short_px.length_px * on.row_spacing_mm)
    drawing = Drawing("Bidirectional", on, (long_px, short_px), values, tracking_uid, name)
    return Mark(name, drawing, evidence)


class Desk:
    """Where the reports of one study are written: keeps the truth of each mark as its report is saved."""

    def __init__(self, study: StudyIdentity, folder: Path) -> None:
        self.study = study
        self.folder = folder
        self.expected: list[ExpectedBookmark] = []
        self.headers: list[ReportHeader] = []

    def header(self, key: str, number: int, minutes: int, series_key: str = "", instance: int = 1) -> ReportHeader:
        """The header of a report saved so many minutes (below 60) after nine in the evening of the study."""
        return ReportHeader(
            study=self.study,
            key=key,
            series_key=series_key or key,
            series_number=number,
            description=f"RECIST {key}",
            date=self.study.date,
            time=f"21{minutes:02d}30",
            instance=instance,
        )

    def ohif(
        self, header: ReportHeader, edition: Edition, marks: tuple[Mark, ...], replaces: tuple[ReportHeader, ...] = ()
    ) -> None:
        """Saves the marks as OHIF does."""
        drawings = tuple(mark.drawing for mark in marks)
        report = write_ohif_report(header, edition, drawings, self._path(header), replaces)
        self._note(header, report, f"ohif {edition.version}", marks)

    def highdicom(self, header: ReportHeader, marks: tuple[Mark, ...], manner: Manner) -> None:
        """Saves the marks with highdicom."""
        evidence = {str(mark.evidence.SOPInstanceUID): mark.evidence for mark in marks if mark.evidence is not None}
        drawings = tuple(mark.drawing for mark in marks)
        report = write_highdicom_report(header, drawings, tuple(evidence.values()), manner, self._path(header))
        self._note(header, report, "highdicom SCOORD3D" if manner.in_patient else "highdicom SCOORD", marks)

    def text(self, header: ReportHeader) -> None:
        """Saves a report in which nothing is measured."""
        write_text_report(header, self._path(header))
        self.headers.append(header)
        self.expected.append(
            ExpectedBookmark(
                name=self._name(header, "text"),
                patient_id=self.study.person.patient_id,
                study_instance_uid=self.study.study_instance_uid,
                source_series_instance_uid=header.series_instance_uid,
                source_sop_instance_uid=header.sop_instance_uid,
                item_path="",
                writer="text",
                kind=Kind.NO_MEASUREMENT_GROUPS,
                kept=False,
                reasons=("unsupported_source",),
            )
        )

    def _path(self, header: ReportHeader) -> Path:
        return self.folder / f"report_{header.key}.dcm"

    def _name(self, header: ReportHeader, what: str) -> str:
        return f"{self.study.person.key}/{self.study.time_point}/{header.key}/{what}"

    def _note(self, header: ReportHeader, report: Dataset, writer: str, marks: tuple[Mark, ...]) -> None:
        self.headers.append(header)
        paths = {uid: path for path, uid in _group_paths(report)}
        for mark in marks:
            drawing = mark.drawing
            lines_px: list[Segment | None] = [*drawing.lines_px, None]
            lines_mm: list[SegmentMm | None] = [*drawing.lines_mm, None, None]
            self.expected.append(
                ExpectedBookmark(
                    name=self._name(header, mark.name),
                    patient_id=self.study.person.patient_id,
                    study_instance_uid=self.study.study_instance_uid,
                    source_series_instance_uid=header.series_instance_uid,
                    source_sop_instance_uid=header.sop_instance_uid,
                    item_path=paths[drawing.tracking_uid],
                    writer=writer,
                    kind=KINDS[drawing.tool],
                    kept=mark.kept,
                    reasons=mark.reasons,
                    flags=mark.flags,
                    image=drawing.on.ref,
                    long_axis_px=lines_px[0],
                    short_axis_px=lines_px[1],
                    long_axis_mm=lines_mm[0],
                    short_axis_mm=lines_mm[1],
                    ends_on_edges=mark.ends_on_edges,
                    lesion_hu=mark.lesion_hu,
                    organ_hu=mark.organ_hu,
                    lesion=mark.lesion,
                    label=drawing.label,
                    tracking_uid=drawing.tracking_uid,
                )
            )


def _group_paths(item: Dataset, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, tracking UID) of every measurement group below an item, as they lie in the written report."""
    for position, child in enumerate(item.get("ContentSequence", []), start=1):
        child_path = f"{path}.{position}" if path else str(position)
        if child.ValueType == "UIDREF" and child.ConceptNameCodeSequence[0].CodeValue == "112040":
            yield path, str(child.UID)
        yield from _group_paths(child, child_path)
