"""Slices of a series in order: their numbers from head to feet, the interval, the context of key slices.

A slice number is InstanceNumber where that is unique and grows from head to feet (checked on the positions
of the images at hand), else the rank from head to feet. Only where InstanceNumber tells nothing must every
header of the series be read.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deeplesion_miner import deeplesion, geometry
from deeplesion_miner.types import ImageHeader, ImagePlane, ImageRef, InstanceListing, Lesion, Note, Unreadable

PARALLEL_COSINE = 0.9998
"""Planes whose normals differ by less than about 1.1 degrees belong to one stack."""
SAME_POSITION_MM = 1e-4
UNEVEN_FRACTION = 0.05
"""Intervals around a key slice that differ by more than this share of their median are flagged."""

Headers = Mapping[str, tuple[ImageHeader, ...] | Unreadable]
FetchHeaders = Callable[[Collection[str]], Headers]
"""SOP Instance UIDs of the series -> headers of those that are delivered."""


@dataclass(frozen=True)
class NumberedStack:
    """The slices of a series that lie parallel to its key slices, numbered from head to feet."""

    numbering: str
    """'instance_number' or 'rank'."""
    last_slice: int
    numbers: Mapping[ImageRef, int]
    headers: Mapping[ImageRef, ImageHeader]
    wanted: Mapping[str, frozenset[int]]
    """Per lesion (bookmark key) the slice numbers that its own window asks for and the archive lists."""
    ranges: Mapping[str, tuple[int, int]]
    """Per lesion first and last slice number of the merged range."""
    intervals_mm: Mapping[str, float]
    notes: Mapping[str, tuple[Note, ...]]

    def plane(self, ref: ImageRef) -> ImagePlane:
        """Where a slice of the stack lies."""
        return _plane(self.headers[ref])


def stack_key(header: ImageHeader) -> str:
    """SeriesInstanceUID, with the SOPInstanceUID for a multi-frame object: each is a stack of its own."""
    series = header.ref.series_instance_uid
    return f"{series}/{header.ref.sop_instance_uid}" if header.number_of_frames > 1 else series


def number_stack(lesions: Sequence[Lesion], listing: Sequence[InstanceListing], fetch: FetchHeaders) -> NumberedStack:
    """Numbers the slices around the lesions of one stack and asks for the headers of their context.

    `listing`: the objects of the series as the archive lists them; `fetch` is called with as few of them as
    will do.
    """
    keys = {lesion.header.ref: lesion.header for lesion in lesions}
    if any(header.number_of_frames > 1 for header in keys.values()):
        headers = _readable(fetch({ref.sop_instance_uid for ref in keys}))
        return _finish(lesions, _ranked(keys, headers), "rank")
    usable = _usable_instance_numbers(listing)
    if usable is not None:
        found = _by_instance_number(lesions, usable, fetch)
        if found is not None:
            return found
    everything = _readable(fetch({item.sop_instance_uid for item in listing} | {r.sop_instance_uid for r in keys}))
    return _finish(lesions, _ranked(keys, everything), "rank")


@dataclass(frozen=True)
class _Numbered:
    numbers: Mapping[str, int]
    """SOP Instance UID (with '#frame' for frames) -> slice number; listed, not necessarily fetched."""
    headers: Mapping[ImageRef, ImageHeader]


def _name(ref: ImageRef) -> str:
    return f"{ref.sop_instance_uid}#{ref.frame_number}"


def _readable(found: Headers) -> dict[ImageRef, ImageHeader]:
    frames = (frame for answer in found.values() if not isinstance(answer, Unreadable) for frame in answer)
    return {frame.ref: frame for frame in frames if isinstance(frame.plane, ImagePlane)}


def _plane(header: ImageHeader) -> ImagePlane:
    assert isinstance(header.plane, ImagePlane)
    return header.plane


def _parallel(first: ImageHeader, second: ImageHeader) -> bool:
    one, other = _plane(first), _plane(second)
    cosine = float(np.dot(geometry.normal(one), geometry.normal(other)))
    return abs(cosine) >= PARALLEL_COSINE and one.frame_of_reference_uid == other.frame_of_reference_uid


def _of_stack(keys: Mapping[ImageRef, ImageHeader], headers: Mapping[ImageRef, ImageHeader]) -> list[ImageHeader]:
    """Headers parallel to some key slice, the keys included, from head to feet."""
    members = {**headers, **keys}
    chosen = [h for h in members.values() if any(_parallel(h, key) for key in keys.values())]
    return sorted(chosen, key=lambda h: (geometry.head_to_feet_mm(_plane(h)), h.instance_number or 0, h.ref))


def _ranked(keys: Mapping[ImageRef, ImageHeader], headers: Mapping[ImageRef, ImageHeader]) -> _Numbered:
    ordered = _of_stack(keys, headers)
    return _Numbered(
        {_name(header.ref): rank for rank, header in enumerate(ordered, start=1)},
        {header.ref: header for header in ordered},
    )


def _usable_instance_numbers(listing: Sequence[InstanceListing]) -> dict[str, int] | None:
    """SOP Instance UID -> InstanceNumber if every object has one, positive, its own; else None."""
    numbers = {item.sop_instance_uid: item.instance_number for item in listing}
    known = [number for number in numbers.values() if number is not None]
    if not known or len(known) != len(numbers) or len(set(known)) != len(known) or min(known) < 1:
        return None
    return {uid: number for uid, number in numbers.items() if number is not None}


def _by_instance_number(
    lesions: Sequence[Lesion], usable: Mapping[str, int], fetch: FetchHeaders
) -> NumberedStack | None:
    """The stack numbered by InstanceNumber (or its reverse), or None where positions contradict it."""
    keys = {lesion.header.ref: lesion.header for lesion in lesions}
    if any(ref.sop_instance_uid not in usable for ref in keys):
        return None
    ordered = sorted(usable, key=lambda uid: usable[uid])
    place = {uid: index for index, uid in enumerate(ordered)}
    near = {
        ordered[index]
        for ref in keys
        for index in range(place[ref.sop_instance_uid] - 1, place[ref.sop_instance_uid] + 2)
        if 0 <= index < len(ordered)
    }
    headers = _readable(fetch(near))
    direction = _direction(_of_stack(keys, headers), usable)
    if direction is None:
        return None
    numbers = usable if direction > 0 else {uid: len(ordered) - index for uid, index in place.items()}
    named = {f"{uid}#1": number for uid, number in numbers.items()}
    first = _finish(lesions, _Numbered(named, headers | keys), "instance_number" if direction > 0 else "rank")
    inside = {uid for uid, n in numbers.items() if any(low <= n <= high for low, high in first.ranges.values())}
    headers = _readable(fetch(inside)) | headers
    members = _of_stack(keys, headers)
    if _direction(members, usable) != direction:
        return None
    off_stack = {_name(ref) for ref in headers} - {_name(header.ref) for header in members}
    named = {name: number for name, number in named.items() if name not in off_stack}
    numbered = _Numbered(named, {header.ref: header for header in members})
    return _finish(lesions, numbered, first.numbering, intervals=first.intervals_mm, last_slice=first.last_slice)


def _direction(members: Sequence[ImageHeader], usable: Mapping[str, int]) -> int | None:
    """+1 where InstanceNumber grows from head to feet, -1 where it falls, None where it does neither.

    A stack of one slice has no direction: +1.
    """
    signs = set()
    for upper, lower in pairwise(members):
        if geometry.head_to_feet_mm(_plane(lower)) - geometry.head_to_feet_mm(_plane(upper)) < SAME_POSITION_MM:
            return None
        signs.add(usable[lower.ref.sop_instance_uid] > usable[upper.ref.sop_instance_uid])
    if len(signs) > 1:
        return None
    return -1 if signs == {False} else 1


def _finish(
    lesions: Sequence[Lesion],
    numbered: _Numbered,
    numbering: str,
    *,
    intervals: Mapping[str, float] | None = None,
    last_slice: int | None = None,
) -> NumberedStack:
    """Intervals, half ranges and merged ranges for numbered slices."""
    numbers = {ref: numbered.numbers[_name(ref)] for ref in numbered.headers if _name(ref) in numbered.numbers}
    last = last_slice if last_slice is not None else max(numbered.numbers.values())
    by_number = sorted((numbers[ref], geometry.head_to_feet_mm(_plane(numbered.headers[ref]))) for ref in numbers)
    found_mm: dict[str, float] = {}
    notes: dict[str, tuple[Note, ...]] = {}
    halves: dict[str, int] = {}
    key_numbers: dict[str, int] = {}
    for lesion in lesions:
        key = lesion.bookmark.key
        key_numbers[key] = numbers[lesion.header.ref]
        steps = _steps_mm(by_number, key_numbers[key])
        found_mm[key] = intervals[key] if intervals is not None else _interval_mm(steps)
        notes[key] = _interval_notes(steps)
        halves[key] = deeplesion.half_range(lesion.long_axis_mm, found_mm[key]) if steps else 0
    ranges = dict(
        zip(
            key_numbers,
            deeplesion.slice_ranges(list(key_numbers.values()), [halves[key] for key in key_numbers], last),
            strict=True,
        )
    )
    listed = set(numbered.numbers.values())
    wanted = {
        key: frozenset(listed.intersection(range(key_numbers[key] - halves[key], key_numbers[key] + halves[key] + 1)))
        for key in key_numbers
    }
    return NumberedStack(numbering, last, numbers, dict(numbered.headers), wanted, ranges, found_mm, notes)


def _steps_mm(by_number: Sequence[tuple[int, float]], key_number: int) -> list[float]:
    """Distances per slice number between the key slice and its neighbours at hand, one on each side."""
    index = next(i for i, (number, _) in enumerate(by_number) if number == key_number)
    around = by_number[max(0, index - 1) : index + 2]
    return [
        (lower_mm - upper_mm) / (lower - upper)
        for (upper, upper_mm), (lower, lower_mm) in pairwise(around)
        if lower > upper
    ]


def _interval_mm(steps: Iterable[float]) -> float:
    """The slice interval at the key slice, freed of the noise of decimal strings; NaN for a single slice."""
    known = [abs(step) for step in steps if abs(step) > SAME_POSITION_MM]
    return float(f"{statistics.median(known):.6g}") if known else math.nan


def _interval_notes(steps: Sequence[float]) -> tuple[Note, ...]:
    if not steps:
        return (Note("single_slice"),)
    least, most = min(map(abs, steps)), max(map(abs, steps))
    if most - least > UNEVEN_FRACTION * statistics.median(map(abs, steps)):
        return (Note("uneven_interval", (("least_mm", least), ("most_mm", most))),)
    return ()
