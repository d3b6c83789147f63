"""From kept lesions to placed ones: which slices a study gives to the dataset, fetched, decoded, staged (sip c)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import schemas
from deeplesion_miner import deeplesion
from deeplesion_miner.ports import Archive, PngStage
from deeplesion_miner.stacks import Headers, NumberedStack, number_stacks, series_key
from deeplesion_miner.studies import InstanceListing, PlacedLesion, Stack, StackSlice
from deeplesion_miner.types import ImageHeader, ImageRef, Kept, Note, Rejected, Slice, Unreadable

BodyBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placing:
    """What placing the lesions of a study gave."""

    placed: tuple[PlacedLesion, ...]
    rejected: tuple[Rejected, ...]
    stacks: tuple[Stack, ...]
    objects_read: frozenset[str]
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True)
class _Staged:
    slices: Mapping[ImageRef, StackSlice]
    body_boxes: Mapping[ImageRef, BodyBox | None]
    unreadable: tuple[Unreadable, ...]


def place(archive: Archive, stage: PngStage, kept: Sequence[Kept]) -> Placing:
    """Numbers the slices, fetches and stages the context of every kept lesion of one study.

    A lesion whose key slice cannot be decoded is rejected with 'pixels_unreadable'; context that is missing
    is noted.
    """
    ordered = sorted(kept, key=lambda k: (series_key(k.lesion.header), k.bookmark.key))
    parts = [
        _place_series(archive, stage, key, list(members))
        for key, members in groupby(ordered, key=lambda k: series_key(k.lesion.header))
    ]
    return Placing(
        placed=tuple(lesion for part in parts for lesion in part.placed),
        rejected=tuple(verdict for part in parts for verdict in part.rejected),
        stacks=tuple(stack for part in parts for stack in part.stacks if stack.slices),
        objects_read=frozenset(uid for part in parts for uid in part.objects_read),
        unreadable=tuple(broken for part in parts for broken in part.unreadable),
    )


def _place_series(archive: Archive, stage: PngStage, key: str, kept: Sequence[Kept]) -> Placing:
    study = kept[0].lesion.header.ref.study_instance_uid
    series = kept[0].lesion.header.ref.series_instance_uid
    seen: dict[str, tuple[ImageHeader, ...] | Unreadable] = {}

    def fetch(uids: Collection[str]) -> Headers:
        found = archive.headers(study, series, sorted(uids))
        seen.update(found)
        return found

    lesions = [verdict.lesion for verdict in kept]
    numbered = number_stacks(lesions, _images(archive.instances(study, series)), fetch)
    parts = [_place_stack(archive, stage, key, kept, stack) for stack in numbered]
    return Placing(
        placed=tuple(lesion for part in parts for lesion in part.placed),
        rejected=tuple(verdict for part in parts for verdict in part.rejected),
        stacks=tuple(stack for part in parts for stack in part.stacks),
        objects_read=frozenset(uid for uid, answer in seen.items() if not isinstance(answer, Unreadable)),
        unreadable=(*_header_problems(seen), *(broken for part in parts for broken in part.unreadable)),
    )


def _header_problems(seen: Headers) -> Iterator[Unreadable]:
    """Objects that are no image for us, and images whose place is unknown: they may be missing context."""
    for answer in seen.values():
        if isinstance(answer, Unreadable):
            yield answer
        else:
            yield from (frame.plane for frame in answer if isinstance(frame.plane, Unreadable))


def _place_stack(
    archive: Archive, stage: PngStage, series: str, kept: Sequence[Kept], numbered: NumberedStack
) -> Placing:
    """Stages one stack of the series `series` and gives its lesions their places."""
    own = [verdict for verdict in kept if verdict.bookmark.key in numbered.ranges]
    key = f"{series}@{numbered.volume + 1}" if numbered.volume else series
    staged = _stage(archive, stage, numbered, {verdict.lesion.header.ref for verdict in own})
    placed, rejected = _verdicts(key, own, numbered, staged)
    used = {lesion.slice_range for lesion in placed}
    slices = tuple(
        sorted(
            (s for s in staged.slices.values() if any(low <= s.slice_number <= high for low, high in used)),
            key=lambda s: s.slice_number,
        )
    )
    stack = Stack(key, own[0].lesion.header.series_number, numbered.numbering, slices)
    return Placing(placed, rejected, (stack,), frozenset(), staged.unreadable)


def _images(listing: Iterable[InstanceListing]) -> list[InstanceListing]:
    """What may be a slice: reports that were put into the series of their images are none."""
    ct = schemas.load("sop_classes")["ct"]
    return [item for item in listing if not item.sop_class_uid or item.sop_class_uid in ct]


def _stage(archive: Archive, stage: PngStage, numbered: NumberedStack, keys: Iterable[ImageRef]) -> _Staged:
    """Decodes and stages every slice inside a range, one at a time: memory does not grow with the series."""
    key_refs = set(keys)
    ranges = set(numbered.ranges.values())
    wanted = sorted(
        (ref for ref, n in numbered.numbers.items() if any(low <= n <= high for low, high in ranges)),
        key=lambda ref: numbered.numbers[ref],
    )
    slices: dict[ImageRef, StackSlice] = {}
    boxes: dict[ImageRef, BodyBox | None] = {}
    broken: list[Unreadable] = []
    for ref, image in archive.slices(wanted):
        if isinstance(image, Unreadable):
            broken.append(image)
            continue
        slices[ref] = _staged_slice(stage, numbered, ref, image)
        if ref in key_refs:
            boxes[ref] = deeplesion.body_box(image.hu)
    return _Staged(slices, boxes, tuple(broken))


def _staged_slice(stage: PngStage, numbered: NumberedStack, ref: ImageRef, image: Slice) -> StackSlice:
    plane = numbered.plane(ref)
    return StackSlice(
        ref=ref,
        slice_number=numbered.numbers[ref],
        position_mm=numbered.positions_mm[ref],
        staged_png=stage.put(image),
        rows=plane.rows,
        columns=plane.columns,
        row_spacing_mm=plane.row_spacing_mm,
        col_spacing_mm=plane.col_spacing_mm,
        clipped_px=image.clipped_px,
    )


def _verdicts(
    key: str, kept: Sequence[Kept], numbered: NumberedStack, staged: _Staged
) -> tuple[tuple[PlacedLesion, ...], tuple[Rejected, ...]]:
    at_hand = {s.slice_number for s in staged.slices.values()}
    placed: list[PlacedLesion] = []
    rejected: list[Rejected] = []
    for verdict in kept:
        ref, name = verdict.lesion.header.ref, verdict.bookmark.key
        if ref not in staged.slices:
            rejected.append(Rejected(verdict.bookmark, "pixels_unreadable", (), verdict.notes))
            continue
        wanted = numbered.wanted[name]
        missing = len(wanted - at_hand)
        notes = [*verdict.notes, *numbered.notes[name]]
        if missing:
            notes.append(Note("context_missing", (("missing", missing), ("wanted", len(wanted)))))
        placed.append(
            PlacedLesion(
                kept=replace(verdict, notes=tuple(notes)),
                stack_key=key,
                slice_number=numbered.numbers[ref],
                slice_range=numbered.ranges[name],
                slice_interval_mm=numbered.intervals_mm[name],
                body_box=staged.body_boxes[ref],
            )
        )
    return tuple(placed), tuple(rejected)
