"""Same input, same output: what does not belong to the input does not change a bit of the dataset."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from dicom_io.testbed.phantoms import write_phantoms
from tests.experiments.mined import Mined, mine


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("same") / "files", small=True).folder


@pytest.fixture(scope="module")
def usual(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Mined:
    return mined(archive, tmp_path_factory.mktemp("usual"))


def mined(archive: Path, folder: Path, *arguments: object, **environment: str) -> Mined:
    found = Mined(folder / "dataset", folder / "work")
    ended = mine("import", archive, "--out", found.out, "--work", found.work, *arguments, environment=environment)
    assert ended.code == 0, ended.stderr
    return found


def files(dataset: Mined) -> Mapping[str, bytes]:
    """Every file that the digest is about, by path."""
    return {
        str(path.relative_to(dataset.out)): path.read_bytes()
        for path in sorted(dataset.out.rglob("*"))
        if path.suffix in (".png", ".parquet", ".csv")
    }


def shuffled(archive: Path, folder: Path) -> Path:
    """The same objects under other names, in one folder, in another order."""
    chance = random.Random(3)
    paths = sorted(archive.rglob("*.dcm"))
    chance.shuffle(paths)
    folder.mkdir()
    for number, path in enumerate(paths):
        shutil.copyfile(path, folder / f"{number:05d}")
    return folder


def test_names_and_order_of_files_do_not_matter(archive: Path, usual: Mined, tmp_path: Path) -> None:
    other = mined(shuffled(archive, tmp_path / "shuffled"), tmp_path)
    assert other.digest == usual.digest
    assert files(other) == files(usual)


def test_the_number_of_workers_does_not_matter(archive: Path, usual: Mined, tmp_path: Path) -> None:
    other = mined(archive, tmp_path, "--workers", 4)
    assert other.digest == usual.digest
    assert files(other) == files(usual)


def test_time_zone_locale_and_hash_seed_do_not_matter(archive: Path, usual: Mined, tmp_path: Path) -> None:
    other = mined(
        archive, tmp_path, TZ="Asia/Tokyo", LC_ALL="C", LANG="C", PYTHONHASHSEED="7", PYTHONUTF8="0", COLUMNS="40"
    )
    assert other.digest == usual.digest
    assert files(other) == files(usual)


def test_another_copy_of_every_object_does_not_matter(archive: Path, usual: Mined, tmp_path: Path) -> None:
    doubled = tmp_path / "doubled"
    shutil.copytree(archive, doubled / "one")
    shutil.copytree(archive, doubled / "two")
    assert mined(doubled, tmp_path).digest == usual.digest


def test_studies_that_came_one_after_the_other_give_the_rows_of_a_fresh_run(
    archive: Path, usual: Mined, tmp_path: Path
) -> None:
    """Only indices may differ: a grown dataset keeps those that it gave."""
    people = sorted(path for path in archive.iterdir() if path.is_dir())
    grown = Mined(tmp_path / "dataset", tmp_path / "work")
    for person in people:
        assert mine("import", person, "--out", grown.out, "--work", grown.work).code == 0
    names = (
        "lesion_id",
        "long_axis_px",
        "short_axis_px",
        "box_px",
        "key_slice_number",
        "slice_first",
        "split",
        "notes",
    )
    assert rows(grown, names) == rows(usual, names)
    pictures = {row["png_sha256"] for row in usual.table("slices")}
    assert {row["png_sha256"] for row in grown.table("slices")} == pictures


def rows(dataset: Mined, names: tuple[str, ...]) -> list[str]:
    return sorted(repr([row[name] for name in names]) for row in dataset.table("lesions"))


def test_another_key_gives_other_names_for_the_same_lesions(archive: Path, usual: Mined, tmp_path: Path) -> None:
    """The digest can differ: it is not blind to what it covers."""
    other = mined(archive, tmp_path, MINE_KEY="another pseudonym key, of 32 or more bytes")
    assert other.digest != usual.digest
    ours, theirs = ({row["lesion_id"] for row in one.table("lesions")} for one in (usual, other))
    assert not ours & theirs
    assert rows(other, ("long_axis_px", "box_px")) == rows(usual, ("long_axis_px", "box_px"))
