from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_objects import ct_series_uid, ct_uid, study_objects, study_uid, write

from deeplesion_miner.errors import ConfigError
from dicom_io.folder import FolderIndex, FolderTransport
from dicom_io.throttle import Hours, RateLimit, Throttled


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def monotonic(self) -> float:
        return self.now_s


class NothingInReach:
    """A folder's index that seems empty before something is asked for, as a store is."""

    def __init__(self, index: FolderIndex) -> None:
        self._index = index

    def path(self, uid: str) -> None:
        return None

    def size_bytes(self, uid: str) -> int:
        return self._index.size_bytes(uid)

    def kept_out(self, uid: str) -> None:
        return None

    def set_aside(self) -> tuple[()]:
        return ()


class Counting(FolderTransport):
    requests: list[int]

    def retrieve(self, study: str, series: str, uids: Collection[str]) -> tuple[str, ...]:
        self.requests.append(len(uids))
        return super().retrieve(study, series, uids)


@pytest.fixture
def index(tmp_path: Path) -> FolderIndex:
    return FolderIndex([write(tmp_path / "in", *study_objects(1, images=40))])


def fetch_forty(index: FolderIndex, limit: RateLimit) -> list[int]:
    transport = Counting(index)
    transport.requests = []
    throttled = Throttled(transport, NothingInReach(index), limit)
    uids = [ct_uid(1, number) for number in range(1, 41)]
    assert throttled.retrieve(study_uid(1), ct_series_uid(1), uids) == tuple(sorted(uids))
    return transport.requests


def test_images_are_asked_for_at_the_allowed_pace(index: FolderIndex):
    clock = Clock()
    limit = RateLimit(images_per_minute=40, sleep=clock.sleep, monotonic=clock.monotonic)
    assert fetch_forty(index, limit) == [10, 10, 10, 10]
    assert clock.now_s == pytest.approx(45.0)
    limit.wait(1)
    assert clock.now_s == pytest.approx(60.0)


def test_bytes_that_came_make_the_next_request_wait(index: FolderIndex):
    clock = Clock()
    size_bytes = index.size_bytes(ct_uid(1, 1))
    limit = RateLimit(bytes_per_minute=32 * size_bytes, sleep=clock.sleep, monotonic=clock.monotonic)
    assert fetch_forty(index, limit) == [32, 8]
    assert clock.now_s == pytest.approx(60.0, rel=0.05)


def test_what_is_in_reach_already_costs_nothing(index: FolderIndex):
    clock = Clock()
    limit = RateLimit(images_per_minute=1, sleep=clock.sleep, monotonic=clock.monotonic)
    throttled = Throttled(FolderTransport(index), index, limit)
    assert throttled.retrieve(study_uid(1), ct_series_uid(1), [ct_uid(1, 1), ct_uid(1, 2)]) == ()
    assert clock.now_s == 0.0


@pytest.mark.parametrize(
    ("hours", "now", "wait_h"),
    [
        ("19:00-07:00", "2024-01-01T23:30", 0),
        ("19:00-07:00", "2024-01-02T06:59", 0),
        ("19:00-07:00", "2024-01-01T12:00", 7),
        ("19:00-07:00", "2024-01-01T07:00", 12),
        ("12:00-13:00", "2024-01-01T12:59", 0),
        ("12:00-13:00", "2024-01-01T13:00", 23),
    ],
)
def test_hours_tell_how_long_to_wait(hours: str, now: str, wait_h: float):
    assert Hours.parse(hours).wait_s(datetime.fromisoformat(now)) == pytest.approx(wait_h * 3600)


@pytest.mark.parametrize("text", ["", "19:00", "19-25:00", "a-b", "07:00-07:00"])
def test_hours_that_cannot_work_are_refused(text: str):
    with pytest.raises(ConfigError, match="hours"):
        Hours.parse(text)


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_cannot_work_is_refused(rate: float):
    with pytest.raises(ConfigError, match="images_per_minute"):
        RateLimit(images_per_minute=rate)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.floats(1, 1000))
def test_no_more_images_than_allowed_are_asked_for_in_any_time(bursts: list[int], rate: float):
    clock = Clock()
    limit = RateLimit(images_per_minute=rate, sleep=clock.sleep, monotonic=clock.monotonic)
    for images in bursts:
        limit.wait(images)
    assert clock.now_s == pytest.approx(60.0 * sum(bursts[:-1]) / rate)
