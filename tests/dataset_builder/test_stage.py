"""The stage: content-addressed, private, written once."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np

from dataset_builder.png import read_png
from dataset_builder.stage import Stage
from deeplesion_miner.types import ImageRef, Slice


def image(value: int) -> Slice:
    return Slice(ImageRef("1", "2", str(value)), np.full((8, 9), value, np.int16))


def test_the_name_of_a_staged_slice_is_the_sha256_of_its_file(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    name = stage.put(image(7))
    path = stage.path(name)
    assert path == tmp_path / "stage" / name[:2] / f"{name}.png"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == name
    np.testing.assert_array_equal(read_png(path), image(7).hu)


def test_a_slice_staged_twice_is_written_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    path = stage.path(stage.put(image(1)))
    before = path.stat()
    assert stage.path(stage.put(image(1))) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_cut_short_from_outside_is_written_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    path = stage.path(stage.put(image(1)))
    path.write_bytes(path.read_bytes()[:20])
    stage.put(image(1))
    np.testing.assert_array_equal(read_png(path), image(1).hu)


def test_the_folder_is_private_and_the_files_can_travel(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    path = stage.path(stage.put(image(1)))
    assert (tmp_path / "stage").stat().st_mode & 0o777 == 0o700
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o644


def test_many_threads_leave_whole_files_and_nothing_else(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    names: list[str] = []
    threads = [threading.Thread(target=lambda n=n: names.append(stage.put(image(n % 3)))) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 12 and len(set(names)) == 3
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {f"{n}.png" for n in names}


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    path = stage.path(stage.put(image(1)))
    (path.parent / ".k1ll3d__.part").write_bytes(b"half")
    (tmp_path / "kept.txt").write_text("somebody else's")
    Stage(tmp_path).remove_left_overs()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted([path.name, "kept.txt"])
