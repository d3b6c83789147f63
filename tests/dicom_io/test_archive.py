from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from little_objects import (
    ct,
    ct_series_uid,
    ct_uid,
    pr,
    pr_uid,
    sr,
    sr_series_uid,
    sr_uid,
    study_objects,
    study_uid,
    write,
)

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.studies import ObjectReading, StudyListing, StudyQuery, StudyRef, Transfers
from deeplesion_miner.types import ImageRef, Kind, Slice, Unreadable
from dicom_io.archive import TransportArchive
from dicom_io.association import Limits
from dicom_io.opening import ArchiveOpener, ArchiveSettings, open_archive
from dicom_io.retry import Retry
from dicom_io.testbed.embedded import EmbeddedArchive, Faults

STUDY = StudyRef(study_uid(1), "PAT0001", "20240215")
QUICK = {
    "limits": Limits(idle_s=5),
    "retry": Retry(attempts=2, sleep=lambda pause_s: None),
    "late_s": 0.3,
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write(tmp_path / "in", *study_objects(1), pr(1), *study_objects(2, measured=False))


@pytest.fixture
def over_network(files: Path, tmp_path: Path) -> Iterator[Callable[..., TransportArchive]]:
    """Opens an archive over C-GET whose server has the given faults."""
    running: list[EmbeddedArchive] = []
    opened: list[TransportArchive] = []

    def start(faults: Faults | None = None, name: str = "store") -> TransportArchive:
        server = EmbeddedArchive(files, faults=faults or Faults()).__enter__()
        running.append(server)
        settings = ArchiveSettings(address=server.address, store_folder=tmp_path / name, **QUICK)
        opened.append(open_archive(settings))
        return opened[-1]

    yield start
    for archive in opened:
        archive.close()
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture
def in_folder(files: Path) -> TransportArchive:
    return open_archive(ArchiveSettings(paths=(files,)))


def listing_of(archive: TransportArchive) -> StudyListing:
    return archive.listing(STUDY)


def test_only_studies_with_measurement_series_are_offered(in_folder: TransportArchive, over_network):
    for archive in (in_folder, over_network()):
        assert list(archive.studies(StudyQuery())) == [STUDY]


def test_a_listing_names_the_measurement_objects_and_counts_the_rest(in_folder: TransportArchive, over_network):
    for archive in (in_folder, over_network()):
        listing = listing_of(archive)
        assert [(one.modality, one.instance_count) for one in listing.series] == [("CT", 5), ("SR", 1), ("PR", 1)]
        named = [[each.sop_instance_uid for each in one.instances or ()] for one in listing.series]
        assert named == [[], [sr_uid(1)], [pr_uid(1)]]
        assert archive.transfers(listing).objects == 0


def test_the_fingerprint_stays_while_the_study_does(in_folder: TransportArchive, over_network):
    network = over_network()
    assert listing_of(network).fingerprint == listing_of(network).fingerprint == listing_of(in_folder).fingerprint


def test_the_fingerprint_is_the_same_where_the_archive_does_not_tell_counts(over_network):
    untold = over_network(Faults(ignored_keys=frozenset({"NumberOfSeriesRelatedInstances"})), "untold")
    assert listing_of(untold).fingerprint == listing_of(over_network()).fingerprint


@pytest.mark.parametrize("added", [sr(1, 2), ct(1, 6)], ids=["a report", "an image"])
def test_the_fingerprint_changes_with_the_study(files: Path, in_folder: TransportArchive, added):
    write(files, added)
    grown = open_archive(ArchiveSettings(paths=(files,)))
    assert listing_of(grown).fingerprint != listing_of(in_folder).fingerprint


def test_reports_are_read_and_other_kinds_named_without_a_transfer(in_folder: TransportArchive, over_network):
    answers = []
    for archive in (in_folder, over_network()):
        listing = listing_of(archive)
        report, state = archive.measurements(listing)
        assert isinstance(report, ObjectReading) and isinstance(state, ObjectReading)
        assert report.source.sop_instance_uid == sr_uid(1)
        assert report.patient.patient_id == state.patient.patient_id == "PAT0001"
        assert [one.kind for one in state.bookmarks] == [Kind.PRESENTATION_STATE]
        transfers = archive.transfers(listing)
        assert (transfers.objects, transfers.images) == (1, 0)
        assert (transfers.images_in_studies, transfers.images_not_transferred) == (5, 5)
        answers.append((report, state))
    assert answers[0] == answers[1]


def test_headers_and_pixels_of_the_named_images_are_given_and_counted(in_folder: TransportArchive, over_network):
    for archive in (in_folder, over_network()):
        listing = listing_of(archive)
        found = archive.headers(study_uid(1), ct_series_uid(1), [ct_uid(1, 2), ct_uid(1, 4), ct_uid(1, 99)])
        assert sorted(found) == [ct_uid(1, 2), ct_uid(1, 4)]
        (header,) = found[ct_uid(1, 2)]
        assert header.ref == ImageRef(study_uid(1), ct_series_uid(1), ct_uid(1, 2))
        assert header.size_bytes > 512
        refs = [header.ref, found[ct_uid(1, 4)][0].ref]
        decoded = list(archive.slices(refs))
        assert [ref for ref, _ in decoded] == refs
        assert [image.hu[0, 0] for _, image in decoded if isinstance(image, Slice)] == [2, 4]
        transfers = archive.transfers(listing)
        assert (transfers.objects, transfers.images, transfers.images_not_transferred) == (2, 2, 3)
        assert transfers.image_bytes == sum(found[uid][0].size_bytes for uid in found)
        assert transfers.bytes_not_transferred == pytest.approx(3 * transfers.image_bytes / 2, abs=1)


@pytest.mark.parametrize("series", ["", "1.2.3"], ids=["unknown series", "wrong series"])
def test_an_image_is_found_in_the_study_where_its_series_is_not_known(in_folder, over_network, series: str):
    for archive in (in_folder, over_network()):
        listing_of(archive)
        found = archive.headers(study_uid(1), series, [ct_uid(1, 3)])
        assert found[ct_uid(1, 3)][0].ref.series_instance_uid == ct_series_uid(1)


def test_images_of_another_study_are_found_by_its_uid(in_folder: TransportArchive, over_network):
    for archive in (in_folder, over_network()):
        listing = listing_of(archive)
        found = archive.headers(study_uid(2), ct_series_uid(2), [ct_uid(2, 1)])
        assert list(found) == [ct_uid(2, 1)]
        transfers = archive.transfers(listing)
        assert (transfers.images, transfers.images_not_transferred) == (1, 5)


def test_images_of_a_study_that_is_not_there_are_left_out(in_folder: TransportArchive, over_network):
    for archive in (in_folder, over_network()):
        listing_of(archive)
        assert archive.headers("1.2.3", "", ["1.2.3.4"]) == {}
        assert archive.instances("1.2.3", "1.2.3.4") == ()


def test_a_report_that_is_listed_and_not_delivered_says_so(over_network):
    archive = over_network(Faults(withheld=frozenset({sr_uid(1)})))
    report, state = archive.measurements(listing_of(archive))
    assert isinstance(report, Unreadable) and report.why == "not_delivered"
    assert isinstance(state, ObjectReading) and state.patient.patient_id == "PAT0001"


def test_what_was_fetched_before_is_not_moved_again(over_network, files: Path):
    for moved in (1, 0):
        archive = over_network()
        listing = listing_of(archive)
        archive.measurements(listing)
        archive.measurements(listing)
        assert archive.transfers(listing).objects == moved


def test_counts_begin_anew_with_each_listing(in_folder: TransportArchive):
    in_folder.measurements(listing_of(in_folder))
    assert in_folder.transfers(listing_of(in_folder)) == Transfers(
        images_in_studies=5, images_not_transferred=5, bytes_not_transferred=0
    )


def test_pixels_that_were_not_fetched_are_not_delivered(over_network):
    archive = over_network()
    ((_, image),) = archive.slices([ImageRef(study_uid(1), ct_series_uid(1), ct_uid(1, 1))])
    assert isinstance(image, Unreadable) and image.why == "not_delivered"


def test_a_file_that_goes_away_after_indexing_is_a_value(files: Path, in_folder: TransportArchive):
    (files / f"{ct_uid(1, 1)}.dcm").unlink()
    found = in_folder.headers(study_uid(1), ct_series_uid(1), [ct_uid(1, 1), ct_uid(1, 2)])
    assert isinstance(found[ct_uid(1, 1)], Unreadable) and found[ct_uid(1, 1)].why == "not_opened"
    assert not isinstance(found[ct_uid(1, 2)], Unreadable)


def test_a_delivered_object_of_another_study_is_not_taken_for_the_asked_one(over_network, tmp_path: Path):
    from dicom_io.store import ObjectStore

    archive = over_network()
    stranger = write(tmp_path / "other", sr(7)) / f"{sr_uid(7)}.dcm"
    content = stranger.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    ObjectStore(tmp_path / "store").put_encoded(
        sr_uid(1), "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.1.2.1", content[start:]
    )
    report, _ = archive.measurements(listing_of(archive))
    assert isinstance(report, Unreadable)
    assert (report.source, report.why) == (sr_uid(1), "bad_value")


def test_an_object_over_the_limit_is_named_and_not_fetched_twice(files: Path, tmp_path: Path):
    with EmbeddedArchive(files) as server:
        settings = ArchiveSettings(
            address=server.address, store_folder=tmp_path / "store", max_object_mb=0.0005, **QUICK
        )
        archive = open_archive(settings)
        listing_of(archive)
        found = archive.headers(study_uid(1), ct_series_uid(1), [ct_uid(1, 1)])
        assert isinstance(found[ct_uid(1, 1)], Unreadable) and found[ct_uid(1, 1)].why == "too_large"
        assert server.sent == (ct_uid(1, 1),)
        archive.close()


# --- opening -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "either an address"),
        ({"address": "A@h:104", "paths": (Path("x"),)}, "either an address"),
        ({"address": "nonsense"}, "expected AET@host:port"),
        ({"address": "A@h:104"}, "needs a folder"),
        ({"address": "A@h:104", "method": "push"}, "'get' or 'move'"),
        ({"address": "A@h:104", "calling_ae": ""}, "AE title"),
        ({"address": "A@h:104", "hours": "late"}, "HH:MM-HH:MM"),
        ({"address": "A@h:104", "images_per_minute": 0}, "images_per_minute"),
        ({"address": "A@h:104", "max_associations": 0}, "max_associations"),
        ({"paths": (Path("/no/such/path"),)}, "no such file"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_fetched(settings, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        open_archive(ArchiveSettings(**settings))


def test_no_more_archives_are_opened_than_associations_are_allowed(tmp_path: Path):
    settings = ArchiveSettings(address="A@127.0.0.1:1", store_folder=tmp_path / "store", max_associations=2)
    with ArchiveOpener(settings) as opener:
        first, _ = opener.open(), opener.open()
        with pytest.raises(ConfigError, match="more than 2 associations"):
            opener.open()
        first.close()
        opener.open()


def test_archives_opened_by_one_opener_read_a_folder_once(files: Path):
    counts: list[int] = []
    with ArchiveOpener(ArchiveSettings(paths=(files,)), counts.append) as opener:
        first, second = opener.open(), opener.open()
    assert listing_of(first) == listing_of(second)
    assert counts == list(range(1, 13))


def test_archives_opened_by_one_opener_share_the_receiver_of_c_move(files: Path, tmp_path: Path):
    with EmbeddedArchive(files) as server:
        settings = ArchiveSettings(
            address=server.address,
            store_folder=tmp_path / "store",
            method="move",
            move_host="127.0.0.1",
            move_port=0,
            **QUICK,
        )
        with ArchiveOpener(settings) as opener:
            archives = [opener.open(), opener.open()]
            server.move_destinations["MINER"] = ("127.0.0.1", opener.move_port)
            for archive in archives:
                listing = listing_of(archive)
                assert len(archive.measurements(listing)) == 2
                archive.close()
        assert server.sent == (sr_uid(1),)


def test_broken_files_of_a_folder_are_set_aside(files: Path):
    (files / "notes.txt").write_text("no images here")
    archive = open_archive(ArchiveSettings(paths=(files,)))
    assert [one.why for one in archive.set_aside()] == ["not_dicom"]


def test_the_series_of_a_report_can_be_listed(in_folder: TransportArchive):
    assert [one.sop_instance_uid for one in in_folder.instances(study_uid(1), sr_series_uid(1))] == [sr_uid(1)]


def test_images_without_a_series_uid_are_found_by_a_report_that_names_no_series(tmp_path: Path):
    slices = [ct(1, number) for number in range(1, 6)]
    for one in slices:
        del one.SeriesInstanceUID
    archive = open_archive(ArchiveSettings(paths=(write(tmp_path / "in", sr(1), *slices),)))
    archive.listing(STUDY)
    wanted = [ct_uid(1, number) for number in (2, 3)]
    assert sorted(archive.headers(study_uid(1), "", wanted)) == wanted
    assert len(archive.instances(study_uid(1), "")) == 5
