from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from little_objects import (
    ct,
    ct_series_uid,
    ct_uid,
    pr,
    sr,
    sr_series_uid,
    sr_uid,
    study_objects,
    study_uid,
    write,
)

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.studies import StudyQuery
from dicom_io.folder import FolderIndex, FolderTransport


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "in"
    write(top / "b" / "deep", *study_objects(1))
    write(top / "a", *study_objects(2), pr(2))
    write(top, *study_objects(3, measured=False))
    return top


def test_studies_with_measurement_series_are_found_at_any_depth(folder: Path):
    transport = FolderTransport(FolderIndex([folder]))
    assert [one.study_instance_uid for one in transport.find_studies(StudyQuery())] == [study_uid(1), study_uid(2)]
    assert transport.unreadable == ()


def test_series_and_instances_are_listed_sorted_with_counts(folder: Path):
    transport = FolderTransport(FolderIndex([folder]))
    series = transport.find_series(study_uid(2))
    assert [(one.modality, one.instance_count) for one in series] == [("CT", 5), ("SR", 1), ("PR", 1)]
    instances = transport.find_instances(study_uid(2), ct_series_uid(2))
    assert [one.sop_instance_uid for one in instances] == [ct_uid(2, number) for number in range(1, 6)]
    assert [one.instance_number for one in instances] == [1, 2, 3, 4, 5]
    assert transport.find_series("1.2.3") == ()
    assert transport.find_instances(study_uid(2), "1.2.3") == ()


def test_a_query_narrows_the_studies(folder: Path):
    transport = FolderTransport(FolderIndex([folder]))

    def found(query: StudyQuery) -> list[str]:
        return [one.study_instance_uid for one in transport.find_studies(query)]

    assert found(StudyQuery(patient_id="PAT0002")) == [study_uid(2)]
    assert found(StudyQuery(date_from="20240301")) == [study_uid(2)]
    assert found(StudyQuery(study_instance_uids=(study_uid(1), study_uid(3)))) == [study_uid(1)]
    assert found(StudyQuery(measured=False)) == [study_uid(number) for number in (1, 2, 3)]


def test_objects_are_referred_to_in_place(folder: Path):
    index = FolderIndex([folder])
    path = index.path(sr_uid(1))
    assert path == folder / "b" / "deep" / f"{sr_uid(1)}.dcm"
    assert index.size_bytes(sr_uid(1)) == path.stat().st_size
    assert FolderTransport(index).retrieve(study_uid(1), sr_series_uid(1), [sr_uid(1), "9.9"]) == (sr_uid(1),)


def test_files_and_folders_may_be_named_together_and_twice(folder: Path):
    file = folder / "a" / f"{sr_uid(2)}.dcm"
    index = FolderIndex([file, folder / "a", folder])
    assert index.unreadable == ()
    assert index.path(sr_uid(2)) == file


def test_what_is_no_dicom_file_or_broken_is_set_aside_with_its_reason(folder: Path):
    (folder / "notes.txt").write_text("no images here")
    (folder / "empty").write_bytes(b"")
    whole = (folder / "a" / f"{sr_uid(2)}.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    nameless = sr(7)
    del nameless.SOPInstanceUID
    nameless.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    nameless.save_as(folder / "nameless.dcm", enforce_file_format=False)
    found = {Path(one.source).name: one.why for one in FolderIndex([folder]).unreadable}
    assert found.pop("cut.dcm") in ("truncated", "missing_attribute", "bad_encoding")
    assert found == {"notes.txt": "not_dicom", "empty": "not_dicom", "nameless.dcm": "missing_attribute"}


def test_an_object_without_a_series_uid_is_listed_in_its_study(folder: Path):
    loose = sr(1, 7)
    del loose.SeriesInstanceUID
    write(folder, loose)
    transport = FolderTransport(FolderIndex([folder]))
    assert transport.unreadable == ()
    assert "" in [one.series_instance_uid for one in transport.find_series(study_uid(1))]
    assert [one.sop_instance_uid for one in transport.find_instances(study_uid(1), "")] == [sr_uid(1, 7)]


def test_an_equal_copy_is_no_matter_and_one_that_differs_is_set_aside(folder: Path):
    shutil.copy(folder / "a" / f"{sr_uid(2)}.dcm", folder / "z_copy.dcm")
    other = sr(1)
    other.PatientID = "SOMEBODY"
    other.save_as(folder / "z_other.dcm", enforce_file_format=True)
    index = FolderIndex([folder])
    assert [(Path(one.source).name, one.why) for one in index.unreadable] == [("z_other.dcm", "conflicting_copies")]
    assert index.path(sr_uid(1)) == folder / "b" / "deep" / f"{sr_uid(1)}.dcm"


def test_a_copy_with_another_meta_header_is_an_equal_copy(folder: Path):
    copy = sr(1)
    copy.preamble = b"TIFF" + bytes(124)
    copy.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    copy.save_as(folder / "z_copy.dcm", enforce_file_format=True)
    assert FolderIndex([folder]).unreadable == ()


def test_an_object_over_the_limit_is_set_aside(folder: Path):
    large = ct(1, 9)
    large.ImageComments = "x" * 5000
    write(folder, large)
    index = FolderIndex([folder], max_object_bytes=4000)
    (problem,) = index.unreadable
    assert (problem.source, problem.why) == (ct_uid(1, 9), "too_large")
    assert index.kept_out(ct_uid(1, 9)) == problem
    assert index.path(ct_uid(1, 9)) is None


def test_links_to_files_are_followed_and_links_to_folders_are_not(folder: Path, tmp_path: Path):
    write(tmp_path / "elsewhere", *study_objects(5))
    (folder / "loop").symlink_to(folder)
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    (folder / "linked.dcm").symlink_to(tmp_path / "elsewhere" / f"{sr_uid(5)}.dcm")
    index = FolderIndex([folder])
    assert index.path(sr_uid(5)) == folder / "linked.dcm"
    assert index.path(ct_uid(5, 1)) is None


def test_a_link_that_leads_nowhere_is_set_aside(folder: Path):
    (folder / "gone.dcm").symlink_to(folder / "nowhere")
    (problem,) = FolderIndex([folder]).unreadable
    assert problem.why == "not_opened"


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        FolderIndex([tmp_path / "nowhere"])


def test_progress_is_told_after_each_file(folder: Path):
    counts: list[int] = []
    FolderIndex([folder], progress=counts.append)
    assert counts == list(range(1, 19))


def test_a_report_in_the_series_of_its_images_is_listed_as_a_report(folder: Path):
    hidden = sr(1, 7)
    hidden.SeriesInstanceUID = ct_series_uid(1)
    write(folder, hidden)
    listed = {
        (one.series_instance_uid, one.modality): one
        for one in FolderTransport(FolderIndex([folder])).find_series(study_uid(1))
    }
    report = listed[ct_series_uid(1), "SR"]
    assert report.instances is not None
    assert [one.sop_instance_uid for one in report.instances] == [sr_uid(1, 7)]
    assert (ct_series_uid(1), "CT") in listed


def test_a_device_or_pipe_is_passed_over_unopened_with_a_word(folder: Path):
    os.mkfifo(folder / "pipe")
    found = {one.source: (one.why, one.detail) for one in FolderIndex([folder, Path("/dev/null")]).unreadable}
    assert found == {
        str(path): ("not_dicom", f"{path}: a device, pipe or socket, passed over")
        for path in (folder / "pipe", Path("/dev/null"))
    }
