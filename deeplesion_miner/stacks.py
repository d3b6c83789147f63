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
from deeplesion_miner.studies import InstanceListing
from deeplesion_miner.types import ImageHeader, ImagePlane, ImageRef, Lesion, Note, Unreadable

PARALLEL_COSINE = 0.9998
"""Planes whose normals differ by less than about 1.1 degrees belong to one stack."""
SAME_POSITION_MM = 0.01
"""Planes nearer than this lie at one position (positions are decimal strings, slices at least 0.1 mm apart)."""
UNEVEN_FRACTION = 0.05
"""Intervals around a key slice that differ by more than this share of their median are flagged."""
LARGEST_INSTANCE_NUMBER = 99_999
"""Larger ones number no slices: they hold dates, times or accession numbers."""
NEIGHBOURS = 2
"""Objects on each side of a key slice that show how InstanceNumber grows; one could be a slice sent again."""
LOOK_AROUND = 5
"""So far out we look where those are no slices of its stack."""

Headers = Mapping[str, tuple[ImageHeader, ...] | Unreadable]
FetchHeaders = Callable[[Collection[str]], Headers]
"""SOP Instance UIDs of the series -> headers of those that are delivered."""


@dataclass(frozen=True)
class NumberedStack:
    """The slices of a series that lie parallel to its key slices, numbered from head to feet."""

    volume: int
    """0, or which of several images at one position: series may hold several phases of one region."""
    numbering: str
    """'instance_number' or 'rank'."""
    numbers: Mapping[ImageRef, int]
    positions_mm: Mapping[ImageRef, float]
    """Along one normal for all slices, growing towards the feet."""
    headers: Mapping[ImageRef, ImageHeader]
    wanted: Mapping[str, frozenset[int]]
    """Per lesion (bookmark key) the slice numbers that its own window asks for and the archive lists."""
    ranges: Mapping[str, tuple[int, int]]
    """Per lesion first and last slice number of the merged range."""
    intervals_mm: Mapping[str, float]
    """Per lesion; NaN for a single slice."""
    notes: Mapping[str, tuple[Note, ...]]

    def plane(self, ref: ImageRef) -> ImagePlane:
        """Where a slice of the stack lies."""
        return _plane(self.headers[ref])


def series_key(header: ImageHeader) -> str:
    """SeriesInstanceUID, with the SOPInstanceUID for a multi-frame object: each is numbered by itself."""
    series = header.ref.series_instance_uid
    return f"{series}/{header.ref.sop_instance_uid}" if header.number_of_frames > 1 else series


def number_stacks(
    lesions: Sequence[Lesion], listing: Sequence[InstanceListing], fetch: FetchHeaders
) -> tuple[NumberedStack, ...]:
    """Numbers the slices around the lesions of one series and asks for the headers of their context.

    Every lesion is in exactly one of the stacks. `listing`: the objects of the series as the archive lists
    them; `fetch` is called with as few of them as will do.
    """
    keys = {lesion.header.ref: lesion.header for lesion in lesions}
    if any(header.number_of_frames > 1 for header in keys.values()):
        return _by_rank(lesions, _readable(fetch({ref.sop_instance_uid for ref in keys})))
    usable = _usable_instance_numbers(listing)
    if all(ref.sop_instance_uid in usable for ref in keys):
        found = _by_instance_number(lesions, usable, fetch)
        if found is not None:
            return (found,)
    everything = {item.sop_instance_uid for item in listing} | {ref.sop_instance_uid for ref in keys}
    return _by_rank(lesions, _readable(fetch(everything)))


# --- members of a stack ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Members:
    """Slices parallel to the key slices, from head to feet along one normal."""

    headers: Mapping[ImageRef, ImageHeader]
    positions_mm: Mapping[ImageRef, float]

    @property
    def in_order(self) -> list[ImageRef]:
        return list(self.positions_mm)


def _members(keys: Mapping[ImageRef, ImageHeader], headers: Mapping[ImageRef, ImageHeader]) -> _Members:
    """The key slices and all that is parallel to one of them; projected on the normal of the first key slice."""
    reference = _plane(keys[min(keys)])
    chosen = {
        ref: header
        for ref, header in {**headers, **keys}.items()
        if any(_parallel(header, key) for key in keys.values())
    }
    positions = {ref: geometry.head_to_feet_mm(_plane(header), reference) for ref, header in chosen.items()}
    in_order = sorted(chosen, key=lambda ref: (positions[ref], chosen[ref].instance_number or 0, ref))
    return _Members(chosen, {ref: positions[ref] for ref in in_order})


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


# --- by rank ---------------------------------------------------------------------------------------------


def _by_rank(lesions: Sequence[Lesion], headers: Mapping[ImageRef, ImageHeader]) -> tuple[NumberedStack, ...]:
    """One stack for each volume that holds a key slice: the k-th image at every position, or the last there is."""
    members = _members({lesion.header.ref: lesion.header for lesion in lesions}, headers)
    places = _places(members)
    volume_of = {ref: volume for place in places for volume, ref in enumerate(place)}
    stacks = []
    for volume in sorted({volume_of[lesion.header.ref] for lesion in lesions}):
        chosen = [place[min(volume, len(place) - 1)] for place in places]
        numbers = {ref: rank for rank, ref in enumerate(chosen, start=1)}
        own = [lesion for lesion in lesions if volume_of[lesion.header.ref] == volume]
        most = max(map(len, places))
        repeated = (Note("repeated_position", (("images", most),)),) if most > 1 else ()
        stacks.append(_finish(own, members, numbers, set(numbers.values()), "rank", volume=volume, notes=repeated))
    return tuple(stacks)


def _places(members: _Members) -> list[list[ImageRef]]:
    """Slices grouped by position, from head to feet; at one position by InstanceNumber and frame."""
    places: list[list[ImageRef]] = []
    last_mm = -math.inf
    for ref in members.in_order:
        if members.positions_mm[ref] - last_mm >= SAME_POSITION_MM:
            places.append([])
            last_mm = members.positions_mm[ref]
        places[-1].append(ref)
    return [sorted(place, key=lambda ref: (members.headers[ref].instance_number or 0, ref)) for place in places]


# --- by InstanceNumber -----------------------------------------------------------------------------------


def _usable_instance_numbers(listing: Sequence[InstanceListing]) -> dict[str, int]:
    """SOP Instance UID -> InstanceNumber if every object has a fitting one of its own; else empty."""
    numbers = {item.sop_instance_uid: item.instance_number for item in listing}
    known = {uid: n for uid, n in numbers.items() if n is not None and 1 <= n <= LARGEST_INSTANCE_NUMBER}
    return known if len(known) == len(numbers) == len(set(known.values())) else {}


def _by_instance_number(
    lesions: Sequence[Lesion], usable: Mapping[str, int], fetch: FetchHeaders
) -> NumberedStack | None:
    """The stack numbered by InstanceNumber (or its reverse), or None where positions contradict it."""
    keys = {lesion.header.ref: lesion.header for lesion in lesions}
    ordered = sorted(usable, key=lambda uid: usable[uid])
    headers, near = _neighbours(keys, ordered, fetch)
    direction = _direction(near, usable)
    if direction == 0 or (direction > 0 and not _counts_slices(keys, near, usable)):
        return None
    numbers = usable if direction > 0 else {uid: len(ordered) - place for place, uid in enumerate(ordered)}
    numbering = "instance_number" if direction > 0 else "rank"
    first = _finish(lesions, near, _numbers_of(near, numbers), set(numbers.values()), numbering)
    inside = {uid for uid, n in numbers.items() if any(low <= n <= high for low, high in first.ranges.values())}
    headers |= _readable(fetch(inside))
    members = _members(keys, headers)
    if _direction(members, usable) != direction:
        return None
    off_stack = {numbers[ref.sop_instance_uid] for ref in headers.keys() - members.headers.keys()}
    listed = set(numbers.values()) - off_stack
    return _finish(lesions, members, _numbers_of(members, numbers), listed, numbering)


def _numbers_of(members: _Members, numbers: Mapping[str, int]) -> dict[ImageRef, int]:
    return {ref: numbers[ref.sop_instance_uid] for ref in members.in_order}


def _neighbours(
    keys: Mapping[ImageRef, ImageHeader], ordered: Sequence[str], fetch: FetchHeaders
) -> tuple[dict[ImageRef, ImageHeader], _Members]:
    """Headers around the key slices, farther out where the next objects are no slices of their stack."""
    place = {uid: index for index, uid in enumerate(ordered)}
    centres = {place[ref.sop_instance_uid] for ref in keys}
    headers: dict[ImageRef, ImageHeader] = {}
    members = _members(keys, headers)
    for reach in range(NEIGHBOURS, LOOK_AROUND + 1):
        around = {index for centre in centres for index in range(centre - reach, centre + reach + 1)}
        headers |= _readable(fetch({ordered[index] for index in around if 0 <= index < len(ordered)}))
        members = _members(keys, headers)
        found = {place[ref.sop_instance_uid] for ref in members.in_order}
        if all(
            (centre - reach < 0 or any(centre - reach <= index < centre for index in found))
            and (centre + reach >= len(ordered) or any(centre < index <= centre + reach for index in found))
            for centre in centres
        ):
            break
    return headers, members


def _direction(members: _Members, usable: Mapping[str, int]) -> int:
    """+1 where InstanceNumber grows from head to feet, -1 where it falls, 0 where it does neither.

    A stack of one slice has no direction: +1.
    """
    signs = set()
    for upper, lower in pairwise(members.in_order):
        if members.positions_mm[lower] - members.positions_mm[upper] < SAME_POSITION_MM:
            return 0
        signs.add(usable[lower.sop_instance_uid] > usable[upper.sop_instance_uid])
    if len(signs) > 1:
        return 0
    return -1 if signs == {False} else 1


def _counts_slices(keys: Mapping[ImageRef, ImageHeader], near: _Members, usable: Mapping[str, int]) -> bool:
    """Whether InstanceNumber steps by one at each key slice that has a neighbour: in tens it counts no slices."""
    numbers = [usable[ref.sop_instance_uid] for ref in near.in_order]
    for ref in keys:
        steps = [abs(number - usable[ref.sop_instance_uid]) for number in numbers]
        others = [step for step in steps if step > 0]
        if others and min(others) > 1:
            return False
    return True


# --- intervals and ranges --------------------------------------------------------------------------------


def _finish(
    lesions: Sequence[Lesion],
    members: _Members,
    numbers: Mapping[ImageRef, int],
    listed: Collection[int],
    numbering: str,
    *,
    volume: int = 0,
    notes: tuple[Note, ...] = (),
) -> NumberedStack:
    """Intervals, windows and merged ranges; `listed` are the slice numbers that the archive has."""
    by_number = sorted((number, members.positions_mm[ref]) for ref, number in numbers.items())
    names = [lesion.bookmark.key for lesion in lesions]
    at = [numbers[lesion.header.ref] for lesion in lesions]
    steps = [_steps_mm(by_number, number) for number in at]
    intervals = [_interval_mm(around) for around in steps]
    halves = [
        0 if math.isnan(interval) else deeplesion.half_range(lesion.long_axis_mm, interval)
        for lesion, interval in zip(lesions, intervals, strict=True)
    ]
    windows = [range(number - half, number + half + 1) for number, half in zip(at, halves, strict=True)]
    ranges = deeplesion.slice_ranges(at, halves, max(listed))
    return NumberedStack(
        volume=volume,
        numbering=numbering,
        numbers=numbers,
        positions_mm={ref: members.positions_mm[ref] for ref in numbers},
        headers={ref: members.headers[ref] for ref in numbers},
        wanted={name: frozenset(set(listed).intersection(w)) for name, w in zip(names, windows, strict=True)},
        ranges=dict(zip(names, ranges, strict=True)),
        intervals_mm=dict(zip(names, intervals, strict=True)),
        notes={name: (*notes, *_interval_notes(around)) for name, around in zip(names, steps, strict=True)},
    )


def _steps_mm(by_number: Sequence[tuple[int, float]], key_number: int) -> list[float]:
    """Distances per slice number between the key slice and its neighbours at hand, one on each side."""
    index = next(i for i, (number, _) in enumerate(by_number) if number == key_number)
    around = by_number[max(0, index - 1) : index + 2]
    return [(lower_mm - upper_mm) / (lower - upper) for (upper, upper_mm), (lower, lower_mm) in pairwise(around)]


def _interval_mm(steps: Iterable[float]) -> float:
    """The slice interval at the key slice, freed of the noise of decimal strings; NaN for a single slice."""
    known = list(steps)
    return float(f"{statistics.median(known):.6g}") if known else math.nan


def _interval_notes(steps: Sequence[float]) -> tuple[Note, ...]:
    if not steps:
        return (Note("single_slice"),)
    if max(steps) - min(steps) > UNEVEN_FRACTION * statistics.median(steps):
        return (Note("uneven_interval", (("least_mm", min(steps)), ("most_mm", max(steps)))),)
    return ()
