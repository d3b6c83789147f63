"""The door: nothing that identifies a person passes, and what may pass arrives whole."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
from core_factories import bookmark, header, image_ref, kept

from deeplesion_miner.deidentify import (
    Crosswalk,
    DeidentifyOptions,
    Indices,
    PublicIds,
    crosswalk,
    deidentify,
)
from deeplesion_miner.pseudonyms import Pseudonyms
from deeplesion_miner.studies import PatientFacts, PlacedLesion, Stack, StackSlice, StudyOutcome, StudyRef
from deeplesion_miner.types import Code, Kept, Note, Rejected, Unreadable

PSEUDONYMS = Pseudonyms(bytes(range(32)))
SECRETS = ("Meier", "MRN-4711", "19610203", "20190314", "1.2.840.99.1", "1.2.840.99.2", "1.2.840.99.3", "Hospital")
INDICES = Indices(7, 2, {"1.2.840.99.2": 3})
OPTIONS = DeidentifyOptions()


def outcome(verdict: Kept | None = None, rejected: tuple[Rejected, ...] = ()) -> StudyOutcome:
    ref = image_ref("1.2.840.99.3", series="1.2.840.99.2", study="1.2.840.99.1")
    mark = replace(
        bookmark("1.2.840.99.4#1.2", ref),
        label="Meier, left lobe",
        reader="Dr. Meier",
        tracking_identifier="MRN-4711",
        finding=Code("52988006", "SCT", "Lesion of Meier"),
        finding_site=Code("Meier", "99HOSP", "Hospital"),
    )
    at = header(ref, number=12)
    chosen = verdict or kept(at)
    chosen = replace(chosen, lesion=replace(chosen.lesion, bookmark=mark, header=at))
    placed = PlacedLesion(chosen, "1.2.840.99.2", 12, (6, 18), 5.0, (10, 20, 110, 120))
    slices = tuple(
        StackSlice(
            image_ref(f"1.2.840.99.3.{n}", series="1.2.840.99.2"), n, -500.0 + 5.0 * n, f"{n:064x}", 128, 128, 0.8, 0.8
        )
        for n in (11, 12, 13)
    )
    return StudyOutcome(
        study=StudyRef("1.2.840.99.1", "MRN-4711", "20190314"),
        patient=PatientFacts("1.2.840.99.1", "MRN-4711", "Hospital", "F", "19610203", "20190314", "101112"),
        fingerprint="f",
        objects_read=("1.2.840.99.4",),
        unreadable=(Unreadable("1.2.840.99.5", "truncated", (), "Meier"),),
        rejected=rejected,
        placed=(placed,),
        stacks=(Stack("1.2.840.99.2", 4, "instance_number", slices),),
    )


def test_nothing_that_identifies_a_person_is_in_any_public_record() -> None:
    rejection = Rejected(bookmark("1.2.840.99.6#1"), "not_ct", (("modality", "Meier"),))
    sample = deidentify(outcome(rejected=(rejection,)), PSEUDONYMS, INDICES, OPTIONS)
    public = repr(sample)
    for secret in (*SECRETS, "1.2.840", "1961", "2019"):
        assert secret not in public


def test_the_lesion_arrives_whole() -> None:
    (lesion,) = deidentify(outcome(), PSEUDONYMS, INDICES, OPTIONS).lesions
    assert lesion.file_name == "000007_02_03/012.png"
    assert (lesion.slice_first, lesion.slice_last, lesion.slice_interval_mm) == (6, 18, 5.0)
    assert lesion.long_axis_px == (40.0, 50.0, 60.0, 50.0)
    assert lesion.short_axis_px == (50.0, 44.0, 50.0, 56.0)
    assert lesion.box_px == (35.0, 39.0, 65.0, 61.0)
    assert lesion.finding_code == "SCT:52988006"
    assert lesion.finding_site_code == ""
    assert (lesion.patient_sex, lesion.patient_age_years) == ("F", 50)
    assert lesion.location_x == pytest.approx(0.99642374 * (51.0 - 10) / 100 - 0.00906259)
    assert lesion.coarse_lesion_type == -1


def test_slices_keep_their_distances_but_not_their_places() -> None:
    slices = deidentify(outcome(), PSEUDONYMS, INDICES, OPTIONS).slices
    assert [s.position_mm for s in slices] == [0.0, 5.0, 10.0]
    assert [s.is_key_slice for s in slices] == [False, True, False]
    assert slices[0].file_name == "000007_02_03/011.png"


@pytest.mark.parametrize(
    ("age", "cap", "written"), [(89, 89, 89), (90, 89, 90), (104, 89, 90), (104, None, 104), (None, 89, None)]
)
def test_ages_above_the_cap_are_written_as_one_above_it(age: int | None, cap: int | None, written: int | None) -> None:
    chosen = outcome()
    placed = chosen.placed[0]
    lesion = replace(placed.kept.lesion, header=replace(placed.kept.lesion.header, patient_age_years=age))
    chosen = replace(chosen, placed=(replace(placed, kept=replace(placed.kept, lesion=lesion)),))
    (record,) = deidentify(chosen, PSEUDONYMS, INDICES, DeidentifyOptions(age_cap_years=cap)).lesions
    assert record.patient_age_years == written


@pytest.mark.parametrize("code", ["population_outlier", "extent_over_long", "narrow_window"])
def test_flags_of_the_population_rule_make_a_lesion_possibly_noisy(code: str) -> None:
    (quiet,) = deidentify(outcome(), PSEUDONYMS, INDICES, OPTIONS).lesions
    flagged = outcome(Kept(kept(header()).lesion, (Note(code),)))
    (noisy,) = deidentify(flagged, PSEUDONYMS, INDICES, OPTIONS).lesions
    assert not quiet.possibly_noisy
    assert noisy.possibly_noisy
    assert noisy.notes == (code,)


def test_each_bookmark_has_one_row_with_its_verdict_and_reason() -> None:
    rejection = Rejected(bookmark("1.2.840.99.6#1"), "no_second_axis")
    sample = deidentify(outcome(rejected=(rejection,)), PSEUDONYMS, INDICES, OPTIONS)
    kept_row, rejected_row = sample.bookmarks
    assert (kept_row.verdict, kept_row.reason, kept_row.lesion_id) == ("kept", "", sample.lesions[0].lesion_id)
    assert (rejected_row.verdict, rejected_row.reason, rejected_row.lesion_id) == ("rejected", "no_second_axis", "")
    assert rejected_row.detail == "there is no short axis"


def test_a_study_without_lesions_gives_its_rejections_only() -> None:
    empty = replace(outcome(rejected=(Rejected(bookmark(), "no_second_axis"),)), placed=(), stacks=())
    sample = deidentify(empty, PSEUDONYMS, None, OPTIONS)
    assert (len(sample.lesions), len(sample.slices), len(sample.bookmarks)) == (0, 0, 1)


@pytest.mark.parametrize("sex", ["", "Meier", "male"])
def test_a_sex_that_is_no_dicom_value_does_not_leave(sex: str) -> None:
    chosen = outcome()
    placed = chosen.placed[0]
    at = replace(placed.kept.lesion.header, patient_sex=sex)
    kept_lesion = replace(placed.kept, lesion=replace(placed.kept.lesion, header=at))
    chosen = replace(
        chosen, placed=(replace(placed, kept=kept_lesion),), patient=replace(chosen.patient, patient_sex="")
    )
    assert deidentify(chosen, PSEUDONYMS, INDICES, OPTIONS).lesions[0].patient_sex == ""


def test_the_crosswalk_leads_back_from_every_public_id() -> None:
    chosen = outcome(rejected=(Rejected(bookmark("1.2.840.99.6#1"), "no_second_axis"),))
    way_back = {row.public_id: row for row in crosswalk(chosen, PSEUDONYMS, OPTIONS)}
    sample = deidentify(chosen, PSEUDONYMS, INDICES, OPTIONS)
    lesion = sample.lesions[0]
    assert way_back[lesion.lesion_id] == Crosswalk(lesion.lesion_id, "lesion", "1.2.840.99.4#1.2")
    assert way_back[lesion.patient_id].original == "MRN-4711"
    assert way_back[lesion.study_id].original == "1.2.840.99.1"
    assert way_back[lesion.series_id].original == "1.2.840.99.2"
    for row in sample.bookmarks:
        assert {row.bookmark_id, row.source_id} <= set(way_back)


def test_ids_of_different_things_never_coincide() -> None:
    ids = PublicIds(PSEUDONYMS, PatientFacts("1", "1"), OPTIONS)
    assert len({ids.study("1"), ids.series("1"), ids.source("1"), ids.bookmark("1"), ids.lesion("1")}) == 5
    assert len(astuple(Crosswalk("a", "b", "c"))) == 3


def patient_of(patient_id: str, issuer: str, study: str, options: DeidentifyOptions) -> str:
    return PublicIds(PSEUDONYMS, PatientFacts(study, patient_id, issuer), options).patient_id


def test_a_report_without_the_issuer_does_not_make_another_person() -> None:
    assert patient_of("P1", "", "1.1", OPTIONS) == patient_of("P1", "CLINIC", "1.2", OPTIONS)


def test_issuers_tell_people_apart_where_that_is_asked_for() -> None:
    strict = DeidentifyOptions(issuer_is_identity=True)
    assert patient_of("P1", "CLINIC A", "1.1", strict) != patient_of("P1", "CLINIC B", "1.2", strict)


def test_studies_without_a_patient_id_are_not_taken_for_one_person() -> None:
    assert patient_of(" ", "", "1.1", OPTIONS) != patient_of("", "", "1.2", OPTIONS)
