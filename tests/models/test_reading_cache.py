"""A cache gives what the picture holds, and nothing else."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import reading_folders as folders
from reading_folders import lesion, series

from deeplesion_miner.errors import ConfigError, MinerError
from models.reading.cache import SliceCache
from models.reading.folder import DatasetFolder

HU = np.arange(-3000, 3000, dtype=np.int16).reshape(60, 100)


class Pictures:
    """Counts what is decoded."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    def __call__(self, path: Path) -> np.ndarray:
        self.decoded.append(path.name)
        return HU + np.int16(int(path.stem))


def read(cache: SliceCache, number: int, decode: Pictures) -> np.ndarray:
    hu = cache.get(f"s/{number}.png", Path(f"s/{number}.png"), decode)
    np.testing.assert_array_equal(hu, HU + number)
    assert not hu.flags.writeable
    return hu


def test_the_slices_used_last_stay_in_memory_within_its_bound() -> None:
    cache, decode = SliceCache(memory_bytes=2 * HU.nbytes), Pictures()
    for number in (1, 2, 1, 3, 1, 2):
        read(cache, number, decode)
    assert decode.decoded == ["1.png", "2.png", "3.png", "2.png"], "2 made room for 3, 1 was used again"


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache, decode = SliceCache(memory_bytes=0), Pictures()
    read(cache, 1, decode)
    read(cache, 1, decode)
    assert len(decode.decoded) == 2


def test_a_dataset_can_be_sent_to_another_process_which_remembers_nothing(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion()))
    name = dataset.key_slices[0].file_name
    dataset.hu(name)
    sent = pickle.dumps(dataset)
    assert len(sent) < dataset.hu(name).nbytes
    np.testing.assert_array_equal(pickle.loads(sent).hu(name), dataset.hu(name))


def on_disk(tmp_path: Path) -> tuple[DatasetFolder, Path, str]:
    pytest.importorskip("blosc2")
    folder = folders.write_mined(tmp_path / "data", series(lesion()))
    cache = tmp_path / "cache"
    return DatasetFolder.open(folder, memory_bytes=0, cache=cache), cache, "000001_01_01/005.png"


def test_a_copy_on_disk_is_read_instead_of_the_picture(tmp_path: Path) -> None:
    dataset, cache, name = on_disk(tmp_path)
    first = dataset.hu(name)
    (kept,) = cache.rglob("*.blosc2")
    assert kept.is_relative_to(cache / dataset.digest) and not list(cache.rglob("*.tmp*"))
    picture = dataset.path / "Images_png" / name
    # the same size, so that only the copy can tell what was there
    picture.write_bytes(bytes(picture.stat().st_size))
    np.testing.assert_array_equal(dataset.hu(name), first)


def test_a_picture_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    dataset, _, name = on_disk(tmp_path)
    dataset.hu(name)
    (dataset.path / "Images_png" / name).write_bytes(
        (dataset.path / "Images_png" / "000001_01_01" / "002.png").read_bytes() + b"\0"
    )
    assert dataset.hu(name).max() == 20


@pytest.mark.parametrize("damage", [lambda kept: kept[:-9], lambda kept: b"", lambda kept: kept[:-1] + b"\xaa"])
def test_a_damaged_copy_is_made_again(tmp_path: Path, damage: object) -> None:
    dataset, cache, name = on_disk(tmp_path)
    first = dataset.hu(name)
    (kept,) = cache.rglob("*.blosc2")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))  # type: ignore[operator]
    np.testing.assert_array_equal(dataset.hu(name), first)
    assert kept.read_bytes() == whole


def test_two_datasets_share_a_cache_folder_without_sharing_slices(tmp_path: Path) -> None:
    dataset, cache, name = on_disk(tmp_path)
    dataset.hu(name)
    other = folders.write_mined(tmp_path / "other", series(lesion(), picture=lambda number: folders.flat(number + 1)))
    (other / "manifest.json").write_text('{"digest": "other"}')
    assert DatasetFolder.open(other, cache=cache).hu(name).max() == 60
    assert dataset.hu(name).max() == 50


def test_a_cache_that_cannot_be_made_or_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, cache, name = on_disk(tmp_path)
    (cache / dataset.digest).rmdir()
    (cache / dataset.digest).write_text("in the way")
    with pytest.raises(MinerError, match="cannot be written"):
        dataset.hu(name)
    with pytest.raises(ConfigError, match="cannot be made"):
        DatasetFolder.open(dataset.path, cache=cache)
    monkeypatch.setitem(sys.modules, "blosc2", None)
    with pytest.raises(ConfigError, match=r"deeplesion-miner\[models-more\]"):
        DatasetFolder.open(dataset.path, cache=tmp_path / "third")


def test_a_picture_that_is_absent_is_refused_with_a_cache_too(tmp_path: Path) -> None:
    dataset, _, name = on_disk(tmp_path)
    (dataset.path / "Images_png" / name).unlink()
    with pytest.raises(MinerError, match="missing"):
        dataset.hu(name)
