"""Which mark of a later state of a report is which lesion of the earlier one.

Viewers give new tracking UIDs (OHIF 3.11, 3.13: seen), so that a lesion is known again by its ends, its lengths, its
label and its place, in this order; on another slice by its tracking UID, or by its label and its place together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deeplesion_miner.assignment import assign
from deeplesion_miner.feedback_geometry import distance, in_patient, on_one_image
from deeplesion_miner.feedback_marks import FeedbackSettings, ImageKey, Mark

Evidence = Callable[[Mark, Mark, FeedbackSettings], bool]


def pairs(before: Sequence[Mark], after: Sequence[Mark], settings: FeedbackSettings) -> tuple[tuple[int, int], ...]:
    """Positions (before, after) of the same lesions, by strength of evidence, then the nearest ones together."""
    found: dict[int, int] = {}
    for tests, key, cost in _ROUNDS:
        for here, there in _together(before, after, key):
            for holds in tests:
                taken = set(found.values())
                left = [i for i in here if i not in found]
                right = [j for j in there if j not in taken]
                costs = np.full((len(left), len(right)), math.inf)
                for row, i in enumerate(left):
                    for column, j in enumerate(right):
                        if holds(before[i], after[j], settings):
                            costs[row, column] = cost(before[i], after[j])
                found.update((left[row], right[column]) for row, column in assign(costs))
    return tuple(sorted(found.items()))


def _together(
    before: Sequence[Mark], after: Sequence[Mark], key: Callable[[Mark], object]
) -> Iterator[tuple[list[int], list[int]]]:
    """Positions of marks that can be the same lesion: those with one key, which is not empty."""
    groups: dict[object, tuple[list[int], list[int]]] = {}
    for side, marks in enumerate((before, after)):
        for position, mark in enumerate(marks):
            if key(mark):
                groups.setdefault(key(mark), ([], []))[side].append(position)
    return (group for group in groups.values() if all(group))


def _tracking_uid_of(mark: Mark) -> str:
    return mark.bookmark.tracking_uid


def _image_of(mark: Mark) -> ImageKey | None:
    return mark.image


def _label_of(mark: Mark) -> str:
    return mark.bookmark.label


def strength_of(before: Mark, after: Mark, settings: FeedbackSettings) -> int | None:
    """The strongest evidence on one image that both are the same lesion, 0 being the strongest; None without any."""
    return next((k for k, holds in enumerate(_EVIDENCE) if holds(before, after, settings)), None)


def _same_tracking_uid(before: Mark, after: Mark, _: FeedbackSettings) -> bool:
    return bool(before.bookmark.tracking_uid) and before.bookmark.tracking_uid == after.bookmark.tracking_uid


def _untouched(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    both = on_one_image(before, after)
    return both is not None and both.is_untouched(settings)


def _handle_moved(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    """Two of four ends stay where the short axis' handle is moved; one end and the width where the long axis' is."""
    both = on_one_image(before, after)
    if both is None or not both.has_same_shape:
        return False
    unmoved = both.unmoved_ends(settings)
    if len(unmoved) == 1:
        return unmoved[0] == 1
    return sum(unmoved) >= 2 or any(unmoved[k] and both.is_same_length(1 - k, settings) for k in (0, 1))


def _same_size(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    """Both lengths of a cross agree to the noise: it was dragged as a whole. One length alone may agree by chance."""
    both = on_one_image(before, after)
    return both is not None and len(both.paired) == 2 and both.is_same_size(settings)


def _same_label(before: Mark, after: Mark, _: FeedbackSettings) -> bool:
    same_image = before.image is not None and before.image == after.image
    return same_image and bool(before.bookmark.label) and before.bookmark.label == after.bookmark.label


def _near(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    both = on_one_image(before, after)
    return both is not None and both.shift <= max(settings.near_mm, settings.near_axes * max(both.lengths(both.old)))


def _on_another_slice(before: Mark, after: Mark, settings: FeedbackSettings) -> bool:
    """The same label over the same place of the patient, not far along the normal: it was drawn again there."""
    label = before.bookmark.label
    if not label or label != after.bookmark.label or before.image == after.image:
        return False
    apart = in_patient(before, after)
    return apart is not None and apart.shift_mm <= settings.other_slice_mm and apart.overlaps


def _shift_mm(before: Mark, after: Mark) -> float:
    apart = in_patient(before, after)
    return math.inf if apart is None else apart.shift_mm


_EVIDENCE: tuple[Evidence, ...] = (_same_tracking_uid, _untouched, _handle_moved, _same_size, _same_label, _near)
UNTOUCHED, SAME_LABEL = 1, 4
"""The strength of evidence that ends which stayed are, and that an equal label is."""
_ROUNDS: tuple[tuple[tuple[Evidence, ...], Callable[[Mark], object], Callable[[Mark, Mark], float]], ...] = (
    (_EVIDENCE[:1], _tracking_uid_of, distance),
    (_EVIDENCE[1:5], _image_of, distance),
    # A name and a place together say more than a place that was drawn over without a name.
    ((_on_another_slice,), _label_of, _shift_mm),
    (_EVIDENCE[5:], _image_of, distance),
)


def is_link(before: Mark, after: Mark, settings: FeedbackSettings) -> int | None:
    """Strength of the evidence that a report without a predecessor answers ours; None where it does not.

    A label alone proves nothing, everybody has a 'Lesion 1': the mark must be near, too.
    """
    strength = strength_of(before, after, settings)
    if strength is None or strength < SAME_LABEL:
        return strength
    return strength if strength == SAME_LABEL and _near(before, after, settings) else None
