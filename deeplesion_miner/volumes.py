"""Which images of a study form stacks of axial CT slices that a model may look at, and why the others do not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deeplesion_miner import filters, geometry
from deeplesion_miner.rules import Rules
from deeplesion_miner.stacks import PARALLEL_COSINE, SAME_POSITION_MM, series_key
from deeplesion_miner.types import Fact, ImageHeader, ImagePlane, ImageRef, Unreadable


@dataclass(frozen=True)
class AxialStack:
    """Parallel slices on one pixel grid, from head to feet, each position once."""

    key: str
    """The series (or multi-frame object), with '@2' ... where positions repeat."""
    headers: tuple[ImageHeader, ...]
    positions_mm: tuple[float, ...]
    """Along the normal of the first slice, rising strictly."""

    @property
    def refs(self) -> tuple[ImageRef, ...]:
        """The images, head to feet."""
        return tuple(header.ref for header in self.headers)

    @property
    def plane(self) -> ImagePlane:
        """Where the first slice lies."""
        return _plane(self.headers[0])


@dataclass(frozen=True)
class LeftOut:
    """An image that no model looks at. `reason` is a code of `schemas/reasons.toml`."""

    ref: ImageRef | str
    """The image, or the SOP Instance UID of an object that cannot be read."""
    reason: str
    facts: tuple[tuple[str, Fact], ...] = ()


def axial_stacks(
    objects: Mapping[str, tuple[ImageHeader, ...] | Unreadable], rules: Rules
) -> tuple[tuple[AxialStack, ...], tuple[LeftOut, ...]]:
    """The stacks of the given objects, sorted by key, and what is left out; each image is in one of the two.

    The rules are those of mining: CT, no localizer, no reformat, no burned-in text, tilted by at most
    `rules.max_tilt_deg`.
    """
    left_out: list[LeftOut] = []
    usable: list[ImageHeader] = []
    for uid, answer in sorted(objects.items()):
        if isinstance(answer, Unreadable):
            left_out.append(LeftOut(uid, answer.why, answer.facts))
            continue
        for header in answer:
            problem = _problem(header, rules)
            if problem is None:
                usable.append(header)
            else:
                left_out.append(problem)
    stacks = [stack for group in _groups(usable) for stack in _stacks(group)]
    return tuple(sorted(stacks, key=lambda stack: stack.key)), tuple(left_out)


def _problem(header: ImageHeader, rules: Rules) -> LeftOut | None:
    """The first rule that an image breaks."""
    for rule in filters.IMAGE_RULES:
        verdict = rule(header, rules)
        if not verdict.passed:
            return LeftOut(header.ref, verdict.name, verdict.facts)
    if isinstance(header.plane, Unreadable):
        return LeftOut(header.ref, header.plane.why, header.plane.facts)
    tilt = geometry.tilt_deg(header.plane)
    if tilt > rules.max_tilt_deg:
        return LeftOut(header.ref, "non_axial", (("tilt_deg", tilt), ("limit_deg", rules.max_tilt_deg)))
    if filters.is_reformat(header) and not rules.allow_derived:
        return LeftOut(header.ref, "derived_image")
    return LeftOut(header.ref, "burned_in") if header.burned_in_annotation else None


def _groups(headers: Iterable[ImageHeader]) -> list[list[ImageHeader]]:
    """Images of one series, orientation and pixel grid together."""
    groups: list[list[ImageHeader]] = []
    for header in sorted(headers, key=lambda one: one.ref):
        group = next((group for group in groups if _belong_together(group[0], header)), None)
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    return groups


def _belong_together(one: ImageHeader, other: ImageHeader) -> bool:
    first, second = _plane(one), _plane(other)
    return (
        series_key(one) == series_key(other)
        and _grid(first) == _grid(second)
        and _parallel(first.row_dir, second.row_dir)
        and _parallel(first.col_dir, second.col_dir)
    )


def _grid(plane: ImagePlane) -> tuple[str, int, int, float, float]:
    return plane.frame_of_reference_uid, plane.rows, plane.columns, plane.row_spacing_mm, plane.col_spacing_mm


def _parallel(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    return sum(a * b for a, b in zip(one, other, strict=True)) >= PARALLEL_COSINE


def _stacks(group: list[ImageHeader]) -> list[AxialStack]:
    """One stack, or one for each of several images at one position (phases of one region)."""
    reference = _plane(group[0])
    placed = sorted(
        (geometry.head_to_feet_mm(_plane(one), reference), one.instance_number or 0, one.ref, one) for one in group
    )
    places: list[list[tuple[float, ImageHeader]]] = []
    last_mm = -math.inf
    for position, _, _, header in placed:
        if position - last_mm >= SAME_POSITION_MM:
            places.append([])
            last_mm = position
        places[-1].append((places[-1][0][0] if places[-1] else position, header))
    stacks = []
    for volume in range(max(map(len, places))):
        chosen = [place[volume] for place in places if len(place) > volume]
        key = series_key(chosen[0][1]) + (f"@{volume + 1}" if volume else "")
        stacks.append(AxialStack(key, tuple(one for _, one in chosen), tuple(position for position, _ in chosen)))
    return stacks


def _plane(header: ImageHeader) -> ImagePlane:
    assert isinstance(header.plane, ImagePlane)
    return header.plane
