"""The dataset folder: whole or not at all, the same bytes for the same records."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import factories
import numpy as np
import pytest

from dataset_builder import durable, swap
from dataset_builder.manifest import read_manifest
from dataset_builder.png import read_png
from dataset_builder.stage import Stage
from dataset_builder.swap import DatasetInUse
from dataset_builder.verify import check
from dataset_builder.writer import DatasetWriter, StagedImageMissing, WriterSettings
from deeplesion_miner.errors import ConfigError, SumsDoNotHold
from deeplesion_miner.records import Sample


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder with the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def neighbours(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()}


def test_a_written_dataset_is_sound_and_complete(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    digest = DatasetWriter(folder, stage).write(samples)
    assert check(folder) == []
    assert digest == read_manifest(folder).digest
    top = {path.name for path in folder.iterdir()}
    assert top == {
        "README.md", "DL_info.csv", "lesions.parquet", "slices.parquet", "bookmarks.parquet", "splits.parquet",
        "Images_png", "manifest.json", "report.html", "contact_sheet.png", "croissant.json",
    }  # fmt: skip
    np.testing.assert_array_equal(
        read_png(folder / "Images_png" / "000002_01_02" / "1003.png"), factories.pixels(2, 2, 1003)
    )
    assert neighbours(folder) == {"DATASET", "stage"}


def test_the_digest_is_that_of_sha256sum_over_all_files(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    digest = DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    files = content(tmp_path / "DATASET")
    del files["manifest.json"]
    listing = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(files.items()))
    assert digest == hashlib.sha256(listing.encode()).hexdigest()


def test_the_same_records_give_the_same_bytes_in_any_order_at_any_place(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    DatasetWriter(tmp_path / "one", stage).write(samples)
    random.Random(1).shuffle(samples)
    mixed = [replace(s, lesions=s.lesions[::-1], slices=s.slices[::-1], bookmarks=s.bookmarks[::-1]) for s in samples]
    DatasetWriter(tmp_path / "deeper" / "two", Stage(tmp_path / "stage"), settings=WriterSettings()).write(mixed)
    assert content(tmp_path / "one") == content(tmp_path / "deeper" / "two")


def test_images_are_not_copied_where_they_can_be_linked(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    record = samples[0].slices[0]
    linked = tmp_path / "DATASET" / "Images_png" / record.file_name
    assert linked.stat().st_ino == stage.path(record.png_sha256).stat().st_ino
    assert linked.stat().st_mode & 0o777 == 0o644


def test_images_are_copied_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, samples = factories.staged(tmp_path)

    def other_disk(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    assert check(tmp_path / "DATASET") == []


def test_a_link_that_fails_for_another_reason_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"")
    (tmp_path / "source").write_bytes(b"")
    with pytest.raises(FileExistsError):
        durable.link_or_copy(tmp_path / "source", tmp_path / "there")


def test_writing_the_same_again_touches_nothing(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    DatasetWriter(folder, stage).write(samples)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    DatasetWriter(folder, stage).write(samples)
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    assert neighbours(folder) == {"DATASET", "stage"}


@pytest.mark.parametrize("lost", ["DL_info.csv", "Images_png/000001_01_01/012.png"])
def test_writing_the_same_again_heals_a_lost_file(tmp_path: Path, lost: str) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    DatasetWriter(folder, stage).write(samples)
    (folder / lost).unlink()
    assert check(folder) != []
    DatasetWriter(folder, stage).write(samples)
    assert check(folder) == []


def test_a_grown_dataset_equals_a_fresh_one(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    DatasetWriter(tmp_path / "grown", stage).write(samples[:2])
    DatasetWriter(tmp_path / "grown", stage).write(samples)
    DatasetWriter(tmp_path / "fresh", stage).write(samples)
    assert content(tmp_path / "grown") == content(tmp_path / "fresh")


def test_a_patient_who_is_taken_out_leaves_no_file_behind(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    DatasetWriter(folder, stage).write(samples)
    DatasetWriter(folder, stage).write(samples[:1])
    assert not list(folder.glob("Images_png/000002*"))
    assert check(folder) == []


def test_files_that_others_put_into_the_dataset_stay_and_are_reported(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    DatasetWriter(folder, stage).write(samples[:1])
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("keep me")
    DatasetWriter(folder, stage).write(samples)
    assert (folder / "notes" / "mine.txt").read_text() == "keep me"
    assert [finding.where for finding in check(folder)] == ["notes/mine.txt"]


def test_an_empty_folder_can_become_a_dataset_and_a_link_to_a_folder_too(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    (tmp_path / "empty").mkdir()
    DatasetWriter(tmp_path / "empty", stage).write(samples)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    DatasetWriter(tmp_path / "link", stage).write(samples[:1])
    assert (tmp_path / "link").is_symlink()
    assert check(tmp_path / "empty") == []
    assert read_manifest(tmp_path / "empty").counts["patients"] == 1


def test_a_mount_point_is_refused_with_advice_since_it_cannot_be_renamed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/proc: a mount point .* such as /proc/dataset"):
        DatasetWriter(Path("/proc"), Stage(tmp_path / "stage"))


@pytest.mark.parametrize("what", ["file", "foreign folder", "damaged manifest"])
def test_what_is_no_dataset_is_never_replaced(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "file":
        place.write_text("precious")
    else:
        place.mkdir()
        (place / ("manifest.json" if what == "damaged manifest" else "thesis.tex")).write_text("precious")
    with pytest.raises(ConfigError, match="place"):
        DatasetWriter(place, Stage(tmp_path / "stage"))


def test_an_image_gone_from_the_stage_is_named_and_the_old_dataset_stays(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    digest = DatasetWriter(folder, stage).write(samples[:1])
    stage.path(samples[1].slices[0].png_sha256).unlink()
    with pytest.raises(StagedImageMissing, match=samples[1].slices[0].file_name):
        DatasetWriter(folder, stage).write(samples)
    assert read_manifest(folder).digest == digest
    assert check(folder) == []


def without_bookmark(sample: Sample) -> Sample:
    return replace(sample, bookmarks=sample.bookmarks[1:])


def without_lesion(sample: Sample) -> Sample:
    return replace(sample, lesions=sample.lesions[1:])


def without_key_slice(sample: Sample) -> Sample:
    return replace(sample, slices=tuple(s for s in sample.slices if not s.is_key_slice))


def bookmark_twice(sample: Sample) -> Sample:
    return replace(sample, bookmarks=sample.bookmarks + sample.bookmarks[-1:])


def lesion_twice(sample: Sample) -> Sample:
    return replace(sample, lesions=sample.lesions + sample.lesions[-1:])


@pytest.mark.parametrize("spoil", [without_bookmark, without_lesion, without_key_slice, bookmark_twice, lesion_twice])
def test_rows_that_do_not_add_up_are_not_written(tmp_path: Path, spoil: Callable[[Sample], Sample]) -> None:
    stage, samples = factories.staged(tmp_path)
    with pytest.raises(SumsDoNotHold):
        DatasetWriter(tmp_path / "DATASET", stage).write([spoil(samples[0]), *samples[1:]])
    assert neighbours(tmp_path / "DATASET") == {"stage"}


# --- two writers -----------------------------------------------------------------------------------------


def test_a_dataset_of_another_key_is_never_replaced(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    one, other = WriterSettings(key_token="1" * 16), WriterSettings(key_token="2" * 16)
    DatasetWriter(folder, stage, settings=one).write(samples)
    before = content(folder)
    with pytest.raises(ConfigError, match="another pseudonym key"):
        DatasetWriter(folder, stage, settings=other)
    assert content(folder) == before
    DatasetWriter(folder, stage, settings=one).write(samples[:1])
    assert read_manifest(folder).counts["patients"] == 1


def test_a_dataset_of_another_key_that_came_in_the_meantime_is_not_replaced_either(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    late = DatasetWriter(folder, stage, settings=WriterSettings(key_token="2" * 16))
    DatasetWriter(folder, stage, settings=WriterSettings(key_token="1" * 16)).write(samples)
    before = content(folder)
    with pytest.raises(ConfigError, match="another pseudonym key"):
        late.write(samples[:1])
    assert content(folder) == before
    assert neighbours(folder) == {"DATASET", "stage"}


def test_the_digest_does_not_depend_on_the_key_token(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    digests = {
        DatasetWriter(tmp_path / token, stage, settings=WriterSettings(key_token=token)).write(samples)
        for token in ("one", "two")
    }
    assert len(digests) == 1


def test_two_processes_do_not_write_one_dataset_at_a_time(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    folder = tmp_path / "DATASET"
    with swap.held(folder):
        (tmp_path / ".DATASET.building").mkdir()
        with pytest.raises(DatasetInUse, match="another `mine` writes this dataset"):
            DatasetWriter(folder, stage).write(samples)
        assert (tmp_path / ".DATASET.building").is_dir()
    DatasetWriter(folder, stage).write(samples)
    assert neighbours(folder) == {"DATASET", "stage"}


def test_a_lock_that_a_killed_process_left_holds_nobody_up(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    (tmp_path / ".DATASET.lock").touch()
    DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    assert neighbours(tmp_path / "DATASET") == {"DATASET", "stage"}


# --- interruptions ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nobody handles it."""


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the run at the `count`-th change of the file system."""
    left = [count]

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments, **named)

        return call

    for owner, name in [
        (os, "link"), (os, "replace"), (os, "fsync"), (os, "unlink"), (os, "rmdir"),
        (Path, "replace"), (Path, "mkdir"),
    ]:  # fmt: skip
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))


def digest_in(folder: Path) -> str:
    return read_manifest(folder).digest if folder.exists() else "nothing"


@pytest.mark.slow
@pytest.mark.parametrize("replaces", [False, True])
def test_a_run_ended_at_any_change_leaves_the_old_or_the_new_dataset_and_the_next_run_completes_it(
    tmp_path: Path, replaces: bool
) -> None:
    stage, samples = factories.staged(tmp_path)
    old, new = [factories.sample([factories.lesion(key=2, slice_last=3)], stage)], samples[1:2]
    before = DatasetWriter(tmp_path / "before", stage).write(old) if replaces else "nothing"
    after = DatasetWriter(tmp_path / "after", stage).write(new)
    seen, changes, finished = set(), 0, False
    while not finished:
        folder = tmp_path / f"run{changes}" / "DATASET"
        if replaces:
            DatasetWriter(folder, stage).write(old)
            (folder / "mine.txt").write_text("keep me")
        with pytest.MonkeyPatch.context() as monkeypatch:
            interrupt_after(changes, monkeypatch)
            try:
                DatasetWriter(folder, stage).write(new)
                finished = True
            except Killed:
                finished = False
        seen.add(digest_in(folder))
        if folder.exists():
            assert [finding for finding in check(folder) if finding.where != "mine.txt"] == []
        assert DatasetWriter(folder, stage).write(new) == after
        assert [finding.where for finding in check(folder)] == (["mine.txt"] if replaces else [])
        assert neighbours(folder) == {"DATASET"}
        changes += 1
    assert seen == {before, after, "nothing"}
    assert changes > 60


def test_the_manifest_is_the_last_file_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, samples = factories.staged(tmp_path)
    written: list[str] = []
    real = durable.write_file

    def watched(path: Path, data: bytes) -> None:
        written.append(path.name)
        real(path, data)

    monkeypatch.setattr("dataset_builder.writer.write_file", watched)
    DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    assert written[-1] == "manifest.json" and written.count("manifest.json") == 1


def test_no_file_names_a_place_of_this_machine(tmp_path: Path) -> None:
    stage, samples = factories.staged(tmp_path)
    DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    for path in (tmp_path / "DATASET").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
