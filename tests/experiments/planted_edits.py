"""Edits planted into reports of ours, saved again as OHIF does, with what must be said of each lesion.

Our reports come from our own emitter over phantom CT; each edit is drawn as the viewer's hand does it, by seed.
`python -m tests.experiments.feedback` classes many of them and counts.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Code, Point, Segment
from dicom_io.emit import EmitSettings, EmittedObject, emit
from dicom_io.emit.source import SourceImages
from dicom_io.testbed.drawn import Drawing, DrawnOn
from dicom_io.testbed.identity import PERSONS, StudyIdentity
from dicom_io.testbed.phantoms import LIVER
from dicom_io.testbed.series import SeriesPlan, Size, write_series
from dicom_io.testbed.sr_ohif import OHIF_3_11, OHIF_3_13, Edition, ReportHeader, write_ohif_report

MATRIX, SLICES = 128, 3
SPACINGS_MM = ((1.6, 1.6), (1.6, 1.6), (1.8, 1.4))
"""Between rows and columns; over the last ones OHIF draws our crosses elsewhere."""
LESIONS_A_STUDY = 12
APART_PX = 17.0
"""Least distance of two lesions' middles on one slice: their crosses may touch."""
EDITS = ("moved", "resized", "relabelled", "deleted", "moved_resized", "moved and relabelled", "resized and relabelled",
         "another slice", "dragged to another slice")  # fmt: skip
AMBIGUOUS = ("moved_resized and relabelled",)
KEPT_SHARE, ADDED_SHARE = 0.2, 0.15
AUTHOR = Author("planted model", "3.1", "deeplesion_miner", parameters=(("weights", "abc"),))
MADE_AT = datetime(2024, 3, 19, 8, 30)
NEW_NAMES = ("Node, seen before", "Target 2", "metastasis ä", "Lesion 1")


@dataclass(frozen=True)
class Said:
    """What must be said of one lesion."""

    verdict: str
    geometry_change: str = ""
    label_change: str = ""
    is_on_another_slice: bool = False


@dataclass
class Planted:
    """The archive's folder and the truth."""

    folder: Path
    lesions: dict[tuple[str, str], Said] = field(default_factory=dict)
    """By SOP Instance UID of our report and label in it."""
    added: Counter[str] = field(default_factory=Counter)
    """How many marks readers added, by SOP Instance UID of our report."""
    corrected: dict[tuple[str, str], tuple[Segment, Segment]] = field(default_factory=dict)
    """The axes as the viewer showed them at the end, by the same key; without deleted ones."""
    links: dict[str, str] = field(default_factory=dict)
    """By which way a re-save is found, by SOP Instance UID of our report."""

    @property
    def edits(self) -> int:
        """Everything that a reader did, leaving lesions alone not counted."""
        touched = sum(said.verdict != "kept" for said in self.lesions.values())
        return touched + self.added.total()


def plant(folder: Path, edits: int, seed: int = 0, *, ambiguous: bool = False) -> Planted:
    """Writes studies with our report and its re-save until so many edits are planted; OHIF 3.13 and 3.11 in turn.

    `ambiguous` plants what a file cannot tell, too: crosses drawn over deleted lesions; lesions moved, resized and
    renamed at once.
    """
    chance = random.Random(seed)
    planted = Planted(folder)
    number = 0
    while planted.edits < edits:
        _Study(planted, number, chance, seed, ambiguous).write()
        number += 1
    return planted


@dataclass(frozen=True)
class _Saved(ReportHeader):
    """A header whose UIDs are given: of our report, or of a re-save in its series."""

    sop: str = ""
    series: str = ""

    @property
    def sop_instance_uid(self) -> str:
        return self.sop or super().sop_instance_uid

    @property
    def series_instance_uid(self) -> str:
        return self.series or super().series_instance_uid


class _Study:
    """One study: its CT, our report, what the reader saved, once or twice."""

    def __init__(self, planted: Planted, number: int, chance: random.Random, seed: int, ambiguous: bool) -> None:
        self.planted, self.number, self.chance = planted, number, chance
        self.ambiguous = ambiguous
        self.edition: Edition = (OHIF_3_13, OHIF_3_11)[number % 2]
        self.folder = planted.folder / f"study_{number:04d}"
        self.identity = StudyIdentity(PERSONS[number % 5], number, "20240318", "091500", f"edits/{seed}")
        plan = SeriesPlan("axial", 2, "Abdomen", MATRIX, 5.0, SLICES, spacing_mm=SPACINGS_MM[number % len(SPACINGS_MM)])
        self.series = write_series(
            self.identity, plan, (LIVER,), Size(matrix=MATRIX, slices_per_series=SLICES), self.folder
        )

    def write(self) -> None:
        """Writes our report and its re-saves, and notes the truth."""
        source = SourceImages.read(sorted((self.folder / "axial").iterdir()))
        crosses = self._crosses()
        lesions = tuple(self._lesion(k, on, cross) for k, (on, cross) in enumerate(crosses, start=1))
        result = Result(self.identity.study_instance_uid, AUTHOR, lesions, MADE_AT)
        settings = EmitSettings(planar_boxes=self.number % 5 == 4)
        (ours,) = emit(result, source, ["dicom-sr"], settings).objects
        (self.folder / "ours.dcm").write_bytes(ours.encoded)
        opened = [self._opened(one) for one in lesions]
        self._save(ours, opened)

    def _crosses(self) -> list[tuple[DrawnOn, tuple[Segment, Segment]]]:
        found: list[tuple[DrawnOn, tuple[Segment, Segment]]] = []
        for _ in range(LESIONS_A_STUDY):
            index = self.chance.randrange(SLICES)
            on = self.series.drawn_on(index)
            taken = [_middle(cross[0]) for other, cross in found if other.ref == on.ref]
            found.append((on, self._cross(on, taken)))
        return found

    def _cross(self, on: DrawnOn, taken: list[Point], ratio: float = 0.0) -> tuple[Segment, Segment]:
        """Perpendicular in millimetres, away from those that are there."""
        while True:
            middle = (self.chance.uniform(30, MATRIX - 30), self.chance.uniform(30, MATRIX - 30))
            if all(math.dist(middle, other) >= APART_PX for other in taken):
                break
        long_mm = self.chance.uniform(8, 30)
        short_mm = long_mm * (ratio or self.chance.uniform(0.45, 0.95))
        turn = self.chance.uniform(0, math.pi)
        off_mm = self.chance.uniform(-0.15, 0.15) * long_mm
        crossing = _along(middle, turn, off_mm, on)
        return (
            Segment(_along(middle, turn, -long_mm / 2, on), _along(middle, turn, long_mm / 2, on)),
            Segment(
                _along(crossing, turn + math.pi / 2, -short_mm / 2, on),
                _along(crossing, turn + math.pi / 2, short_mm / 2, on),
            ),
        )

    def _lesion(self, number: int, on: DrawnOn, cross: tuple[Segment, Segment]) -> ReportedLesion:
        return ReportedLesion(
            key=str(number),
            image=on.ref,
            label=f"Lesion {number}",
            finding=coded("finding", "lesion"),
            site=coded("site", self.chance.choice(["lung", "liver", "kidney"])),
            score=0.9,
            long_axis=cross[0],
            short_axis=cross[1],
        )

    # --- the reader --------------------------------------------------------------------------------------

    def _opened(self, lesion: ReportedLesion) -> Drawing:
        """Our lesion as the viewer shows it: elsewhere over pixels that are not square."""
        assert lesion.long_axis is not None and lesion.short_axis is not None
        on = next(on for on in map(self.series.drawn_on, range(SLICES)) if on.ref == lesion.image)
        ratio = on.row_spacing_mm / on.col_spacing_mm
        lines = tuple(_stretched(line, ratio) for line in (lesion.long_axis, lesion.short_axis))
        return self._drawing(on, lines, lesion.label, lesion.site, lesion.finding)

    def _drawing(
        self, on: DrawnOn, lines: tuple[Segment, ...], label: str, site: Code | None, finding: Code | None
    ) -> Drawing:
        tracking_uid = self.identity.uid("tracking", self.chance.random())
        values = tuple(_length_mm(line, on) for line in lines)
        return Drawing("Bidirectional", on, lines, values, tracking_uid, label, site, finding=finding)

    def _save(self, ours: EmittedObject, opened: list[Drawing]) -> None:
        truth = {one.label: Said("kept") for one in opened}
        state: dict[str, Drawing] = {one.label: one for one in opened}
        for label in list(state):
            if self.chance.random() >= KEPT_SHARE:
                self._edit(label, self.chance.choice(EDITS + AMBIGUOUS if self.ambiguous else EDITS), state, truth)
        shown = [*state.values()] if self.ambiguous else [*opened, *state.values()]
        added = [self._new(shown) for _ in opened if self.chance.random() < ADDED_SHARE]
        if not state and not added:
            # OHIF saves nothing where nothing is left.
            added.append(self._new(shown))
        minutes = 10
        before = self._header(ours.sop_instance_uid, ours.series_instance_uid, 1)
        if self.number % 4 >= 2:
            # A first save without edits, which the second one replaces.
            before = self._write("first", opened, before, minutes, 2)
            minutes += 5
        drawings = [*state.values(), *added]
        self.chance.shuffle(drawings)
        self._write("last", drawings, before, minutes, 3)
        uid = ours.sop_instance_uid
        self.planted.lesions.update({(uid, label): said for label, said in truth.items()})
        self.planted.added[uid] += len(added)
        self.planted.corrected.update(
            {(uid, label): (one.lines_px[0], one.lines_px[1]) for label, one in state.items()}
        )
        self.planted.links[uid] = "predecessor" if self.edition is OHIF_3_13 else "label_and_place"

    def _header(self, sop: str, series: str, instance: int) -> _Saved:
        return _Saved(
            self.identity, "ours", "ours", 9100, "RECIST measurements", "20240319", "083000", instance, sop, series
        )

    def _write(self, key: str, drawings: list[Drawing], before: _Saved, minutes: int, instance: int) -> _Saved:
        """3.13 saves into our series and names what it opened; 3.11 neither."""
        time = (MADE_AT + timedelta(minutes=minutes)).strftime("%H%M%S")
        names_it = self.edition is OHIF_3_13
        series = before.series_instance_uid if names_it else ""
        header = _Saved(self.identity, key, key, 4700 + instance, "saved", "20240319", time, instance, "", series)
        renewed = tuple(
            replace(one, tracking_uid=self.identity.uid("tracking", key, k)) for k, one in enumerate(drawings)
        )
        write_ohif_report(header, self.edition, renewed, self.folder / f"{key}.dcm", (before,) if names_it else ())
        return header

    def _edit(self, label: str, edit: str, state: dict[str, Drawing], truth: dict[str, Said]) -> None:
        one = state[label]
        if edit == "deleted":
            del state[label]
            truth[label] = Said("deleted")
            return
        if edit.endswith("another slice"):
            state[label] = self._on_another_slice(one, is_drawn_again=edit == "another slice")
            truth[label] = Said("moved", "moved_resized" if edit == "another slice" else "moved", "", True)
            return
        geometry = edit.removesuffix(" and relabelled") if edit != "relabelled" else ""
        relabelled = edit.endswith("relabelled")
        lines = self._changed(geometry, one) if geometry else one.lines_px
        named = self._new_name(state, label) if relabelled else one.label
        state[label] = replace(one, lines_px=lines, label=named, values=tuple(_length_mm(x, one.on) for x in lines))
        verdict = geometry.split("_")[0] if geometry else "relabelled"
        truth[label] = Said(verdict, geometry, "label" if relabelled else "")

    def _on_another_slice(self, one: Drawing, *, is_drawn_again: bool) -> Drawing:
        """Under its label and over its place, one or two slices away: drawn again, or the same cross taken there."""
        slices = [self.series.drawn_on(index) for index in range(SLICES)]
        on = self.chance.choice([other for other in slices if other.ref != one.on.ref])
        factor = 1 + self.chance.choice([-0.3, -0.1, 0.1, 0.3]) if is_drawn_again else 1.0
        there = replace(one, on=on, lines_px=_scaled_about(one, factor))
        aside_mm = self.chance.uniform(0, 0.4) * _length_mm(one.lines_px[0], on)
        lines = _shifted(there, min(aside_mm, 10.0), self.chance.uniform(0, 2 * math.pi))
        return replace(there, lines_px=lines, values=tuple(_length_mm(line, on) for line in lines))

    def _new_name(self, state: dict[str, Drawing], label: str) -> str:
        """Mostly another word; now and then none at all, or that of another lesion that the reader deleted."""
        used = {one.label for one in state.values()} | {label}
        names = (*NEW_NAMES, "", f"node {self.chance.randrange(1000)}")
        return self.chance.choice([name for name in names if name not in used])

    def _changed(self, geometry: str, one: Drawing) -> tuple[Segment, ...]:
        long_axis, short_axis = one.lines_px
        half_mm = min(_length_mm(long_axis, one.on), _length_mm(short_axis, one.on)) / 2
        if geometry == "moved":
            return _shifted(one, self.chance.uniform(0.3, half_mm), self.chance.uniform(0, 2 * math.pi))
        if geometry == "moved_resized":
            grown = replace(one, lines_px=_scaled_about(one, 1 + self.chance.choice([-0.06, 0.06])))
            return _shifted(grown, half_mm, self.chance.uniform(0, 2 * math.pi))
        hand = self.chance.choice(["long handle", "short handle", "both ends of the short axis"])
        share = self.chance.choice([-0.25, -0.1, 0.1, 0.25])
        if hand == "long handle":
            # The other end stays; OHIF takes the short axis along and keeps its length.
            end = _between(long_axis.start, long_axis.end, 1 + share)
            by = ((end[0] - long_axis.end[0]) / 2, (end[1] - long_axis.end[1]) / 2)
            return Segment(long_axis.start, end), _moved_by(short_axis, by)
        end = _between(short_axis.start, short_axis.end, 1 + share)
        start = short_axis.start if hand == "short handle" else _between(short_axis.end, short_axis.start, 1 + share)
        return long_axis, Segment(start, end)

    def _new(self, shown: list[Drawing]) -> Drawing:
        """The reader's own cross: without finding and site, mostly without a label, its short axis untouched.

        Away from deleted lesions, too: over one it would be its correction.
        """
        on = self.series.drawn_on(self.chance.randrange(SLICES))
        taken = [_middle(one.lines_px[0]) for one in shown if one.on.ref == on.ref]
        return self._drawing(on, self._cross(on, taken, 2 / 3), self.chance.choice(["", "", "new node"]), None, None)


# --- lines -----------------------------------------------------------------------------------------------


def _along(point: Point, turn: float, by_mm: float, on: DrawnOn) -> Point:
    return (
        point[0] + by_mm * math.cos(turn) / on.col_spacing_mm,
        point[1] + by_mm * math.sin(turn) / on.row_spacing_mm,
    )


def _length_mm(line: Segment, on: DrawnOn) -> float:
    return math.hypot(
        (line.end[0] - line.start[0]) * on.col_spacing_mm, (line.end[1] - line.start[1]) * on.row_spacing_mm
    )


def _middle(line: Segment) -> Point:
    return _between(line.start, line.end, 0.5)


def _between(one: Point, other: Point, share: float) -> Point:
    return one[0] + share * (other[0] - one[0]), one[1] + share * (other[1] - one[1])


def _moved_by(line: Segment, by: Point) -> Segment:
    return Segment((line.start[0] + by[0], line.start[1] + by[1]), (line.end[0] + by[0], line.end[1] + by[1]))


def _shifted(one: Drawing, by_mm: float, turn: float) -> tuple[Segment, ...]:
    by = (by_mm * math.cos(turn) / one.on.col_spacing_mm, by_mm * math.sin(turn) / one.on.row_spacing_mm)
    return tuple(_moved_by(line, by) for line in one.lines_px)


def _scaled_about(one: Drawing, factor: float) -> tuple[Segment, ...]:
    middle = _middle(one.lines_px[0])
    return tuple(
        Segment(_between(middle, line.start, factor), _between(middle, line.end, factor)) for line in one.lines_px
    )


def _stretched(line: Segment, ratio: float) -> Segment:
    """As a viewer shows it that multiplies columns with the row spacing and rows with the column spacing."""
    (x1, y1), (x2, y2) = line.start, line.end
    return Segment((x1 * ratio, y1 / ratio), (x2 * ratio, y2 / ratio))
