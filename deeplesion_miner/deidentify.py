"""The door between the identified and the public side: the only maker of a `Sample`.

It works by construction: a public record has no field for anything that identifies a person, text facts
are words of our own vocabulary, codes leave only in the shape of a known scheme, and dates are shifted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import schemas
from deeplesion_miner import deeplesion, geometry
from deeplesion_miner.outliers import possibly_noisy
from deeplesion_miner.pseudonyms import Pseudonyms
from deeplesion_miner.reasons import message
from deeplesion_miner.records import BookmarkRecord, LesionRecord, Sample, SliceRecord
from deeplesion_miner.splits import split_of
from deeplesion_miner.studies import PatientFacts, PlacedLesion, Stack, StackSlice, StudyOutcome
from deeplesion_miner.types import Bookmark, Code, Kept, Rejected

UNKNOWN_LESION_TYPE = -1
"""Coarse_lesion_type of DeepLesion until a model fills it."""
SEXES = frozenset({"M", "F", "O"})


@dataclass(frozen=True)
class DeidentifyOptions:
    """What may leave; the defaults are the safe ones."""

    age_cap_years: int | None = 89
    """Ages above are written as this plus one (45 CFR 164.514(b)(2)(i)(C)); None writes them as they are."""
    issuer_is_identity: bool = False
    """Whether patients with one PatientID but different issuers are different people. Off by default: reports
    often leave the issuer out that the images have, and one person as two could stand on both sides of a split."""


@dataclass(frozen=True)
class Indices:
    """The numbers of a study and its stacks in the dataset (1-based)."""

    patient: int
    study: int
    series: Mapping[str, int]
    """Stack key -> series index."""


@dataclass(frozen=True)
class Crosswalk:
    """One way back: public id, its kind, the archive's own identifier. Trusted side only."""

    public_id: str
    kind: str
    original: str


class PublicIds:
    """Public identifiers of one study's things."""

    def __init__(self, pseudonyms: Pseudonyms, patient: PatientFacts, options: DeidentifyOptions) -> None:
        self._pseudonyms = pseudonyms
        self._study_instance_uid = patient.study_instance_uid
        issuer = patient.issuer_of_patient_id if options.issuer_is_identity else ""
        if patient.patient_id.strip():
            self.patient_id = pseudonyms.patient(patient.patient_id, issuer)
        else:
            # Nameless studies must not become one person.
            self.patient_id = pseudonyms.token("patient of study", patient.study_instance_uid)
        self.study_id = self.study(patient.study_instance_uid)

    def study(self, study_instance_uid: str) -> str:
        """Public id of a study."""
        return self._pseudonyms.token("study", study_instance_uid)

    def series(self, stack_key: str) -> str:
        """Public id of a series (or of a multi-frame object)."""
        return self._pseudonyms.token("series", stack_key)

    def source(self, sop_instance_uid: str) -> str:
        """Public id of a measurement object in its study: archives were seen to hold one object in two studies."""
        return self._pseudonyms.token("source", self._study_instance_uid, sop_instance_uid)

    def bookmark(self, key: str) -> str:
        """Public id of a bookmark."""
        return self._pseudonyms.token("bookmark", self._study_instance_uid, key)

    def lesion(self, key: str) -> str:
        """Public id of the lesion that a bookmark became."""
        return self._pseudonyms.token("lesion", self._study_instance_uid, key)


def deidentify(
    outcome: StudyOutcome,
    pseudonyms: Pseudonyms,
    indices: Indices | None,
    options: DeidentifyOptions,
) -> Sample:
    """The public part of one study; `indices` is None for a study without kept lesions."""
    ids = PublicIds(pseudonyms, outcome.patient, options)
    if indices is None:
        return Sample((), (), tuple(_rejected_record(r, ids) for r in outcome.rejected))
    stacks = {stack.key: stack for stack in outcome.stacks}
    lesions = tuple(
        _lesion_record(lesion, stacks[lesion.stack_key], outcome.patient, ids, pseudonyms, indices, options)
        for lesion in outcome.placed
    )
    keys = {(lesion.stack_key, lesion.slice_number) for lesion in outcome.placed}
    slices = tuple(
        _slice_record(image, stack, ids, indices, (stack.key, image.slice_number) in keys)
        for stack in outcome.stacks
        for image in stack.slices
    )
    bookmarks = tuple(_kept_record(lesion.kept, ids, _codes(lesion.kept)) for lesion in outcome.placed)
    return Sample(lesions, slices, bookmarks + tuple(_rejected_record(r, ids) for r in outcome.rejected))


def crosswalk(outcome: StudyOutcome, pseudonyms: Pseudonyms, options: DeidentifyOptions) -> list[Crosswalk]:
    """Every public id that the study's sample uses, with what it stands for."""
    ids = PublicIds(pseudonyms, outcome.patient, options)
    patient = outcome.patient
    issuer = f"^^^{patient.issuer_of_patient_id}" if options.issuer_is_identity else ""
    bookmarks = [r.bookmark for r in outcome.rejected] + [p.kept.bookmark for p in outcome.placed]
    rows = [
        Crosswalk(ids.patient_id, "patient", f"{patient.patient_id.strip()}{issuer}"),
        Crosswalk(ids.study_id, "study", patient.study_instance_uid),
        *(Crosswalk(ids.series(stack.key), "series", stack.key) for stack in outcome.stacks),
        *(Crosswalk(ids.source(b.source.sop_instance_uid), "source", b.source.sop_instance_uid) for b in bookmarks),
        *(Crosswalk(ids.bookmark(b.key), "bookmark", b.key) for b in bookmarks),
        *(Crosswalk(ids.lesion(p.kept.bookmark.key), "lesion", p.kept.bookmark.key) for p in outcome.placed),
    ]
    return list(dict.fromkeys(rows))


# --- records ---------------------------------------------------------------------------------------------


def _lesion_record(
    placed: PlacedLesion,
    stack: Stack,
    patient: PatientFacts,
    ids: PublicIds,
    pseudonyms: Pseudonyms,
    indices: Indices,
    options: DeidentifyOptions,
) -> LesionRecord:
    lesion, header, bookmark = placed.kept.lesion, placed.kept.lesion.header, placed.kept.bookmark
    series_index = indices.series[stack.key]
    location = _location(placed)
    window_low, window_high = header.window if header.window is not None else (None, None)
    return LesionRecord(
        lesion_id=ids.lesion(bookmark.key),
        bookmark_id=ids.bookmark(bookmark.key),
        patient_id=ids.patient_id,
        study_id=ids.study_id,
        series_id=ids.series(stack.key),
        patient_index=indices.patient,
        study_index=indices.study,
        series_index=series_index,
        file_name=file_name(indices.patient, indices.study, series_index, placed.slice_number),
        key_slice_number=placed.slice_number,
        slice_first=placed.slice_range[0],
        slice_last=placed.slice_range[1],
        slice_numbering=stack.numbering,
        long_axis_px=(*lesion.long_axis.start, *lesion.long_axis.end),
        short_axis_px=None if lesion.short_axis is None else (*lesion.short_axis.start, *lesion.short_axis.end),
        box_px=(lesion.box.x_min, lesion.box.y_min, lesion.box.x_max, lesion.box.y_max),
        long_axis_length_px=lesion.long_axis.length_px,
        short_axis_length_px=None if lesion.short_axis is None else lesion.short_axis.length_px,
        long_axis_mm=lesion.long_axis_mm,
        short_axis_mm=lesion.short_axis_mm,
        col_spacing_mm=lesion.plane.col_spacing_mm,
        row_spacing_mm=lesion.plane.row_spacing_mm,
        slice_interval_mm=None if math.isnan(placed.slice_interval_mm) else placed.slice_interval_mm,
        slice_thickness_mm=lesion.plane.slice_thickness_mm,
        rows=lesion.plane.rows,
        columns=lesion.plane.columns,
        normal_tilt_deg=geometry.tilt_deg(lesion.plane),
        location_x=None if location is None else location[0],
        location_y=None if location is None else location[1],
        location_z=None,
        coarse_lesion_type=UNKNOWN_LESION_TYPE,
        window_low_hu=window_low,
        window_high_hu=window_high,
        patient_sex=_sex(header.patient_sex or patient.patient_sex),
        patient_age_years=_age(header.patient_age_years, options),
        study_date_shifted=pseudonyms.shifted_date(patient.study_date, ids.patient_id),
        finding_code=_public_code(bookmark.finding),
        finding_site_code=_public_code(bookmark.finding_site),
        dialect=bookmark.source.dialect,
        writer=bookmark.source.writer,
        off_plane_mm=lesion.off_plane_mm,
        notes=_codes(placed.kept),
        possibly_noisy=possibly_noisy(placed.kept.notes),
        split=split_of(pseudonyms.fraction_digest("split", ids.patient_id)),
    )


def file_name(patient_index: int, study_index: int, series_index: int, slice_number: int) -> str:
    """Path of an image below Images_png, as DeepLesion has it: '000001_01_01/103.png'."""
    return f"{patient_index:06d}_{study_index:02d}_{series_index:02d}/{slice_number:03d}.png"


def _slice_record(image: StackSlice, stack: Stack, ids: PublicIds, indices: Indices, is_key: bool) -> SliceRecord:
    series_index = indices.series[stack.key]
    return SliceRecord(
        series_id=ids.series(stack.key),
        patient_index=indices.patient,
        study_index=indices.study,
        series_index=series_index,
        file_name=file_name(indices.patient, indices.study, series_index, image.slice_number),
        slice_number=image.slice_number,
        # Absolute positions could link a dataset with another; distances are all that is needed.
        position_mm=round(image.position_mm - stack.slices[0].position_mm, 6),
        rows=image.rows,
        columns=image.columns,
        col_spacing_mm=image.col_spacing_mm,
        row_spacing_mm=image.row_spacing_mm,
        is_key_slice=is_key,
        clipped_px=image.clipped_px,
        png_sha256=image.staged_png,
    )


def _bookmark_record(
    bookmark: Bookmark, ids: PublicIds, *, reason: str, detail: str, notes: tuple[str, ...]
) -> BookmarkRecord:
    return BookmarkRecord(
        bookmark_id=ids.bookmark(bookmark.key),
        patient_id=ids.patient_id,
        study_id=ids.study_id,
        source_id=ids.source(bookmark.source.sop_instance_uid),
        kind=bookmark.kind.value,
        dialect=bookmark.source.dialect,
        writer=bookmark.source.writer,
        verdict="rejected" if reason else "kept",
        reason=reason,
        detail=detail,
        notes=notes,
        lesion_id="" if reason else ids.lesion(bookmark.key),
    )


def _kept_record(kept: Kept, ids: PublicIds, codes: tuple[str, ...]) -> BookmarkRecord:
    return _bookmark_record(kept.bookmark, ids, reason="", detail="", notes=codes)


def _rejected_record(rejected: Rejected, ids: PublicIds) -> BookmarkRecord:
    detail = message("reject", rejected.reason, rejected.facts)
    codes = tuple(sorted({note.code for note in rejected.notes}))
    return _bookmark_record(rejected.bookmark, ids, reason=rejected.reason, detail=detail, notes=codes)


# --- values ----------------------------------------------------------------------------------------------


def _codes(kept: Kept) -> tuple[str, ...]:
    return tuple(sorted({note.code for note in (*kept.notes, *kept.lesion.notes)}))


def _location(placed: PlacedLesion) -> tuple[float, float] | None:
    """x and y of Normalized_lesion_location; None where the key slice shows no body."""
    if placed.body_box is None:
        return None
    box = placed.kept.lesion.box
    centre = geometry.to_public(((box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2))
    return deeplesion.normalized_location(centre, placed.body_box)


def _sex(written: str) -> str:
    sex = written.strip().upper()
    return sex if sex in SEXES else ""


def _age(years: int | None, options: DeidentifyOptions) -> int | None:
    if years is None or options.age_cap_years is None:
        return years
    return min(years, options.age_cap_years + 1)


@cache
def _code_patterns() -> dict[str, re.Pattern[str]]:
    return {scheme: re.compile(shape) for scheme, shape in schemas.load("deid/codes")["patterns"].items()}


def _public_code(code: Code | None) -> str:
    """'scheme:value' where both are of a known shape, else ''."""
    if code is None:
        return ""
    pattern = _code_patterns().get(code.scheme)
    return f"{code.scheme}:{code.value}" if pattern is not None and pattern.fullmatch(code.value) else ""
