"""Sparing the archive: so many images and bytes a minute, and only at certain hours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as clock_time

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.studies import InstanceListing, SeriesListing, StudyQuery, StudyRef
from dicom_io.transport import Objects, Transport

_BURST = 32
"""Images asked for in one request at most while a rate is set."""


@dataclass(frozen=True)
class Hours:
    """Local hours of the day in which images are fetched, e.g. ``19:00-07:00`` over midnight."""

    begin: clock_time
    end: clock_time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """The hours written as ``HH:MM-HH:MM``; raises `ConfigError`."""
        begin, dash, end = text.strip().partition("-")
        try:
            if not dash:
                raise ValueError(text)
            hours = cls(clock_time.fromisoformat(begin.strip()), clock_time.fromisoformat(end.strip()))
        except ValueError as error:
            raise ConfigError(f"hours {text!r}: expected HH:MM-HH:MM, for instance 19:00-07:00") from error
        if hours.begin == hours.end:
            raise ConfigError(f"hours {text!r}: begin and end are the same; leave the setting out to fetch at any hour")
        return hours

    def wait_s(self, now: datetime) -> float:
        """Seconds from `now` until the hours begin; 0 inside them."""
        time_of_day = now.time()
        if self.begin < self.end:
            inside = self.begin <= time_of_day < self.end
        else:
            inside = time_of_day >= self.begin or time_of_day < self.end
        if inside:
            return 0.0
        start = now.replace(hour=self.begin.hour, minute=self.begin.minute, second=self.begin.second, microsecond=0)
        return ((start if start > now else start + timedelta(days=1)) - now).total_seconds()


class RateLimit:
    """A pace shared by all threads that fetch from one archive: each image and byte makes later ones wait."""

    def __init__(
        self,
        images_per_minute: float | None = None,
        bytes_per_minute: float | None = None,
        hours: Hours | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        for name, rate in (("images_per_minute", images_per_minute), ("bytes_per_minute", bytes_per_minute)):
            if rate is not None and rate <= 0:
                raise ConfigError(f"{name} {rate}: more than 0 is needed; leave the setting out for no limit")
        self._images_per_minute = images_per_minute
        self._bytes_per_minute = bytes_per_minute
        self._hours = hours
        self._sleep, self._monotonic, self._now = sleep, monotonic, now
        self._lock = threading.Lock()
        self._images_free_at_s = self._bytes_free_at_s = monotonic()

    @property
    def burst(self) -> int:
        """How many images may be asked for at once: about a quarter of a minute's budget."""
        if self._images_per_minute is None:
            return _BURST
        return max(1, min(_BURST, int(self._images_per_minute / 4)))

    def wait(self, images: int) -> None:
        """Returns when so many images may be asked for; their share of the minute is taken at once."""
        while self._hours is not None and (closed_s := self._hours.wait_s(self._now())) > 0:
            self._sleep(min(closed_s, 300.0))
        with self._lock:
            now_s = self._monotonic()
            start_s = max(self._images_free_at_s, self._bytes_free_at_s, now_s)
            if self._images_per_minute:
                self._images_free_at_s = start_s + 60.0 * images / self._images_per_minute
        if start_s > now_s:
            self._sleep(start_s - now_s)

    def spend(self, size_bytes: int) -> None:
        """Accounts for bytes that came: later requests wait for them."""
        if self._bytes_per_minute:
            with self._lock:
                start_s = max(self._bytes_free_at_s, self._monotonic())
                self._bytes_free_at_s = start_s + 60.0 * size_bytes / self._bytes_per_minute


class Throttled:
    """A transport that fetches at the pace of a `RateLimit`; looking is not slowed down."""

    def __init__(self, transport: Transport, objects: Objects, limit: RateLimit) -> None:
        self._transport = transport
        self._objects = objects
        self._limit = limit

    @property
    def peer(self) -> str:
        """Whom the wrapped transport talks to."""
        return self._transport.peer

    def echo(self) -> None:
        """As the wrapped transport."""
        self._transport.echo()

    def find_studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        """As the wrapped transport."""
        return self._transport.find_studies(query)

    def find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        """As the wrapped transport."""
        return self._transport.find_series(study_instance_uid)

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """As the wrapped transport."""
        return self._transport.find_instances(study_instance_uid, series_instance_uid)

    def retrieve(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> tuple[str, ...]:
        """Fetches in bursts, waiting before each; what is in reach already costs nothing."""
        wanted = sorted(uid for uid in set(sop_instance_uids) if self._objects.path(uid) is None)
        moved: list[str] = []
        for start in range(0, len(wanted), self._limit.burst):
            burst = wanted[start : start + self._limit.burst]
            self._limit.wait(len(burst))
            arrived = self._transport.retrieve(study_instance_uid, series_instance_uid, burst)
            self._limit.spend(sum(self._objects.size_bytes(uid) for uid in arrived))
            moved.extend(arrived)
        return tuple(sorted(moved))

    def close(self) -> None:
        """Closes the wrapped transport."""
        self._transport.close()
