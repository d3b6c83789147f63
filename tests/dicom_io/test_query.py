from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from deeplesion_miner.errors import ArchiveError, ConfigError
from deeplesion_miner.studies import StudyQuery, StudyRef
from dicom_io import query as q

TODAY = date(2024, 6, 30)
ANY_TIME = q.Window(None, None)


def row(**keys: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def study(uid: str, day: str = "", patient: str = "") -> StudyRef:
    return StudyRef(uid, patient, day)


def test_rows_count_once_per_study():
    rows = [row(StudyInstanceUID="1.2", PatientID="A", StudyDate="20240101")] * 3
    assert q.studies(rows, ANY_TIME, StudyQuery()) == {"1.2": StudyRef("1.2", "A", "20240101")}


def test_a_row_that_contradicts_the_query_is_dropped_and_one_that_does_not_tell_is_kept():
    window = q.window_of(StudyQuery(date_from="20240101", date_to="20241231"), TODAY)
    rows = [
        row(StudyInstanceUID="1.1", StudyDate="20240301", PatientID="A"),
        row(StudyInstanceUID="1.2", StudyDate="20230301", PatientID="A"),
        row(StudyInstanceUID="1.3", StudyDate="20240301", PatientID="B"),
        row(StudyInstanceUID="1.4"),
        row(StudyDate="20240301", PatientID="A"),
    ]
    assert sorted(q.studies(rows, window, StudyQuery(patient_id="A"))) == ["1.1", "1.4"]


def test_old_dates_with_dots_are_dates():
    assert q.Window(date(1999, 1, 1), date(1999, 12, 31)).holds("1999.05.24")


@pytest.mark.parametrize("found", ["PAT0001", "PAT0009"])
def test_a_patient_id_may_hold_wildcards(found: str):
    rows = [row(StudyInstanceUID="1.1", PatientID=found), row(StudyInstanceUID="1.2", PatientID="X")]
    assert sorted(q.studies(rows, ANY_TIME, StudyQuery(patient_id="PAT000?"))) == ["1.1"]


def test_series_of_another_study_are_dropped_and_a_missing_count_is_unknown():
    rows = [
        row(SeriesInstanceUID="2.2", StudyInstanceUID="1.1", Modality="CT", NumberOfSeriesRelatedInstances="12"),
        row(SeriesInstanceUID="2.1", StudyInstanceUID="1.1"),
        row(SeriesInstanceUID="2.3", StudyInstanceUID="1.9", Modality="SR"),
    ]
    found = q.series(rows, "1.1")
    assert [(one.series_instance_uid, one.modality, one.instance_count) for one in found] == [
        ("2.1", "", None),
        ("2.2", "CT", 12),
    ]


def test_a_value_that_is_no_number_is_unknown():
    rows = [row(SOPInstanceUID="3.1", InstanceNumber=None)]
    broken = Dataset()
    broken.add_new("SOPInstanceUID", "UI", "3.2")
    broken.add_new("InstanceNumber", "LO", "seven")
    found = q.instances([*rows, broken], "1.1", "2.1")
    assert [(one.sop_instance_uid, one.instance_number) for one in found] == [("3.1", None), ("3.2", None)]


def test_relational_rows_of_another_modality_do_not_make_a_study_a_measured_one():
    rows = [row(StudyInstanceUID="1.1", Modality="SR"), row(StudyInstanceUID="1.2", Modality="CT")]
    assert q.measured_studies([*rows, row(StudyInstanceUID="1.3")], "SR") == {"1.1", "1.3"}


def test_open_ranges_are_asked_as_closed_ones():
    window = q.window_of(StudyQuery(date_from="20240101"), TODAY)
    assert q.study_keys(window).StudyDate == "20240101-20250701"
    assert q.study_keys(ANY_TIME).StudyDate == ""


@pytest.mark.parametrize("text", ["2024-01-01", "20240230", "2024", "abcdefgh"])
def test_what_is_no_date_is_refused(text: str):
    with pytest.raises(ConfigError, match="expected YYYYMMDD"):
        q.window_of(StudyQuery(date_from=text), TODAY)


def test_a_range_that_ends_before_it_begins_is_refused():
    with pytest.raises(ConfigError, match="the first is after the last"):
        q.window_of(StudyQuery(date_from="20240201", date_to="20240101"), TODAY)


def test_an_open_range_that_begins_beyond_the_days_that_are_asked_for_says_so():
    with pytest.raises(ConfigError, match="study dates from 20270101 on: that is more than a year ahead of today"):
        q.window_of(StudyQuery(date_from="20270101"), TODAY)


DAYS = st.dates(date(1970, 1, 1), date(2024, 12, 31))


@given(DAYS, DAYS)
def test_halves_cover_their_window_without_overlap(one: date, other: date):
    window = q.Window(min(one, other), max(one, other))
    halves = window.halves(TODAY)
    if window.first == window.last:
        assert halves == ()
    else:
        first, second = halves
        assert first.first == window.first and second.last == window.last
        assert first.last is not None and second.first is not None
        assert (second.first - first.last).days == 1


@given(st.lists(st.tuples(st.integers(1, 10**6), DAYS), max_size=300, unique_by=lambda one: one[0]))
def test_a_sweep_finds_every_study_of_an_archive_that_caps_its_answers(studies: list[tuple[int, date]]):
    cap = 100
    days: dict[date, int] = {}
    for _, day in studies:
        days[day] = days.get(day, 0) + 1
    archive = [study(f"1.{number}", f"{day:%Y%m%d}") for number, day in studies]

    def ask(window: q.Window) -> dict[str, StudyRef]:
        return {one.study_instance_uid: one for one in [s for s in archive if window.holds(s.study_date)][:cap]}

    found = q.sweep(ANY_TIME, ask, TODAY)
    if max(days.values(), default=0) < cap:
        assert sorted(found) == sorted(one.study_instance_uid for one in archive)


def test_a_sweep_halves_what_the_archive_refuses_as_too_wide():
    def ask(window: q.Window) -> dict[str, StudyRef]:
        if window.first is None or window.last is None or (window.last - window.first).days > 400:
            raise ArchiveError("too many", peer="P", operation="C-FIND", status=0xA700, temporary=True)
        return {"1.1": study("1.1", "20240301")} if window.holds("20240301") else {}

    assert list(q.sweep(ANY_TIME, ask, TODAY)) == ["1.1"]


def test_a_sweep_of_an_archive_that_is_away_asks_once():
    asked = []

    def ask(window: q.Window) -> dict[str, StudyRef]:
        asked.append(window)
        raise ArchiveError("nobody there", peer="P", operation="A-ASSOCIATE", temporary=True)

    with pytest.raises(ArchiveError, match="nobody there"):
        q.sweep(ANY_TIME, ask, TODAY)
    assert len(asked) == 1
