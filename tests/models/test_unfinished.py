"""What a model has found so far stays on disk, part by part, until the predictions are whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.errors import ConfigError, LedgerInUse
from deeplesion_miner.types import Box, ImageRef
from models.unfinished import Looked, Unfinished, begun, is_unfinished, unfinished_folder

ASKED = {"model": "a-1", "least_score": "0.1"}


def part(name: str, *scores: float) -> Looked:
    """What was found on a series: a mask on two slices each, the key slice of the first to be drawn."""
    image = ImageRef("1.2", "1.2.3", f"1.2.3.{name}", 1)
    mask = PixelMask(3, 4, np.eye(2, dtype=np.bool_))
    found = [Detection(image, Box(1, 2, 3, 4.5), one, "a-1", mask=mask, volume=((image, mask),)) for one in scores]
    pixels = {0: np.full((4, 5), 7, np.int16)} if scores else {}
    return Looked(name, 12, tuple(found), {"localizer": len(scores)}, pixels)


def told(one: Looked) -> tuple[object, ...]:
    """What can be compared: detections hold arrays."""
    masks = [[mask.bits.tolist() for _, mask in found.volume] for found in one.detections]
    plain = [{**vars(found), "mask": None, "volume": ()} for found in one.detections]
    return one.name, one.slices, dict(one.left_out), plain, masks, {at: hu.tolist() for at, hu in one.pixels.items()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "found.parquet"


def left_behind(out: Path, *parts: Looked, asked: Mapping[str, str] = ASKED) -> None:
    """What an interrupted run leaves."""
    with begun(out, asked, fresh=False) as unfinished:
        for one in parts:
            unfinished.add(one)


def test_parts_come_back_as_they_were_in_whatever_batches_they_were_written(out: Path) -> None:
    parts = [part("1", 0.5, 0.25), part("2"), part("3", 0.125), part("4", 1.0)]
    left_behind(out, *parts[:3])
    left_behind(out, *parts[3:])
    assert is_unfinished(out)
    with begun(out, ASKED, fresh=False) as unfinished:
        assert [told(one) for one in unfinished.looked.values()] == [told(one) for one in parts]


def test_the_first_part_is_on_disk_at_once_and_an_error_loses_none_of_the_others(out: Path) -> None:
    with pytest.raises(ZeroDivisionError), begun(out, ASKED, fresh=False) as unfinished:
        unfinished.add(part("1", 0.5))
        assert set(Unfinished(unfinished_folder(out)).looked) == {"1"}
        unfinished.add(part("2", 0.5))
        raise ZeroDivisionError
    assert set(Unfinished(unfinished_folder(out)).looked) == {"1", "2"}


def test_a_batch_whose_list_was_not_written_any_more_is_done_again(out: Path) -> None:
    left_behind(out, part("1", 0.5))
    left_behind(out, part("2", 0.5))
    (unfinished_folder(out) / "000001.json").unlink()
    left_behind(out, part("3", 0.75))
    with begun(out, ASKED, fresh=False) as unfinished:
        assert [told(one) for one in unfinished.looked.values()] == [told(part("1", 0.5)), told(part("3", 0.75))]


def test_nothing_is_left_when_the_predictions_are_whole(out: Path) -> None:
    with begun(out, ASKED, fresh=False) as unfinished:
        unfinished.add(part("1", 0.5))
        unfinished.add(part("2", 0.5))
        unfinished.remove()
    assert not unfinished_folder(out).exists()
    assert not is_unfinished(out)


def test_what_was_asked_for_otherwise_is_refused_by_name_and_stays(out: Path) -> None:
    left_behind(out, part("1", 0.5))
    with (
        pytest.raises(ConfigError, match=r"least_score was 0\.1, not 0\.2; name another --out, or --fresh"),
        begun(out, {**ASKED, "least_score": "0.2"}, fresh=False),
    ):
        pass
    assert set(Unfinished(unfinished_folder(out)).looked) == {"1"}


def test_a_run_that_failed_before_it_found_anything_leaves_nothing_behind(out: Path) -> None:
    with pytest.raises(ZeroDivisionError), begun(out, ASKED, fresh=False):
        raise ZeroDivisionError
    assert not unfinished_folder(out).exists()


def test_a_run_that_was_killed_before_it_kept_anything_binds_nobody(out: Path) -> None:
    left_behind(out, part("1", 0.5))
    (unfinished_folder(out) / "000000.json").unlink()
    assert not is_unfinished(out)
    with begun(out, {"model": "b-2"}, fresh=False) as unfinished:
        assert not unfinished.looked
        unfinished.add(part("2", 0.5))
    with begun(out, {"model": "b-2"}, fresh=False) as unfinished:
        assert set(unfinished.looked) == {"2"}


def test_who_starts_anew_finds_nothing(out: Path) -> None:
    left_behind(out, part("1", 0.5))
    with begun(out, {"model": "b-2"}, fresh=True) as unfinished:
        assert not unfinished.looked


def test_what_is_left_without_what_was_asked_for_is_nobodys(out: Path) -> None:
    left_behind(out, part("1", 0.5))
    (unfinished_folder(out) / "asked.json").unlink()
    with begun(out, ASKED, fresh=False) as unfinished:
        assert not unfinished.looked


def test_two_runs_do_not_write_one_file(out: Path) -> None:
    again = begun(out, ASKED, fresh=False)
    with begun(out, ASKED, fresh=False), pytest.raises(LedgerInUse, match="another `mine predict`"), again:
        pass


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(
    ("name", "spoil"),
    [("000000.json", _cut), ("000000.parquet", _cut), ("asked.json", _cut), ("000000.parquet", Path.unlink)],
)
def test_broken_files_are_named(out: Path, name: str, spoil: Callable[[Path], None]) -> None:
    left_behind(out, part("1", 0.5))
    spoil(unfinished_folder(out) / name)
    with pytest.raises(ConfigError, match=name), begun(out, ASKED, fresh=False):
        pass
