"""The evaluation protocol read a second time, from its words, one number at a time: no code of `models` is used.

1. Pool the detections of all images, best score first. 2. A detection that overlaps no lesion of its image enough is
a false positive; any other hits every lesion, not yet hit, that it overlaps enough. 3. Extents are last - first + 1.
4. Divide hits by all lesions and false positives by all images. 5. Between points go straight.
"""

from __future__ import annotations

from fractions import Fraction


def overlap(box: list[float], lesion: list[float], space: str, criterion: str) -> Fraction:
    """Exactly, in fractions of the given numbers."""
    half = len(lesion) // 2
    axes = range(half) if space != "P3D" else range(2)
    common = own = its = Fraction(1)
    for axis in axes:
        low, high = Fraction(box[axis]), Fraction(box[axis + half])
        other_low, other_high = Fraction(lesion[axis]), Fraction(lesion[axis + half])
        own *= high - low + 1
        its *= other_high - other_low + 1
        common *= max(Fraction(0), min(high, other_high) - max(low, other_low) + 1)
    if space == "P3D" and not box[2] <= lesion[2] <= box[5]:
        common = Fraction(0)
    if criterion == "IOU":
        return common / (own + its - common)
    if criterion == "IOBB":
        return common / own
    if criterion == "IOGT":
        return common / its
    return max(common / own, common / its)


def points(
    lesions: list[list[list[float]]], detections: list[list[list[float]]], space: str, criterion: str, threshold: float
) -> list[tuple[Fraction, Fraction]]:
    """(false positives per image, sensitivity) after each detection; scores must differ, or the order is open."""
    pooled = [(one[-1], image, one[:-1]) for image, found in enumerate(detections) for one in found]
    hit: set[tuple[int, int]] = set()
    wrong = 0
    total = sum(len(one) for one in lesions)
    curve = []
    for _, image, box in sorted(pooled, key=lambda entry: -entry[0]):
        reached = [
            number
            for number, lesion in enumerate(lesions[image])
            if float(overlap(box, lesion, space, criterion)) >= threshold
        ]
        if reached:
            hit |= {(image, number) for number in reached}
        else:
            wrong += 1
        curve.append((Fraction(wrong, len(lesions)), Fraction(len(hit), total)))
    return curve


def read(curve: list[tuple[Fraction, Fraction]], asked: float) -> float:
    """The last point at or left of what was asked, and from there straight to the next."""
    left = [point for point in curve if float(point[0]) <= asked]
    right = [point for point in curve if float(point[0]) > asked]
    if not left:
        return 0.0
    if not right:
        return float(left[-1][1])
    (x, y), (next_x, next_y) = left[-1], right[0]
    return float(y + (next_y - y) * (Fraction(asked) - x) / (next_x - x))
