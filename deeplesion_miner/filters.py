"""The rules, in one order: from a bookmark and an image header to a verdict with its reason.

What an image is (CT? a localizer?) comes before where it lies, because only CT slices need usable geometry;
then the filters on the located lesion in the order of `LESION_RULES`, then the flags. Pure functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import schemas
from deeplesion_miner import geometry, recist, stated
from deeplesion_miner.locating import locate, off_plane_mm, what_of
from deeplesion_miner.reasons import vocabulary
from deeplesion_miner.rules import Rules
from deeplesion_miner.stated import Agreement, Comparison
from deeplesion_miner.types import (
    Bookmark,
    Fact,
    ImageHeader,
    ImagePlane,
    ImageRef,
    Kept,
    Kind,
    Lesion,
    Note,
    Rejected,
    Unreadable,
    Verdict,
)

__all__ = ["FLAGS", "IMAGE_RULES", "LESION_RULES", "RuleVerdict", "Rules", "judge", "locate", "verdicts_in_detail"]

Facts: TypeAlias = tuple[tuple[str, Fact], ...]
Headers: TypeAlias = Mapping[ImageRef, ImageHeader | Unreadable]

READ_KINDS = (Kind.BIDIRECTIONAL, Kind.LENGTH)
SAME_DISTANCE_MM = 1e-3
"""Planes whose distances from a line differ by less than this are equally near."""


class RuleVerdict(NamedTuple):
    """What one rule says: `name` is the code of its reason; the facts are there whether it passed or not."""

    name: str
    passed: bool
    facts: Facts = ()


# --- rules on what an image is ---------------------------------------------------------------------------


def not_ct(header: ImageHeader, rules: Rules) -> RuleVerdict:
    """Only CT, Enhanced CT and Legacy Converted Enhanced CT images enter."""
    known = schemas.load("sop_classes")
    modality = known["modality"].get(header.sop_class_uid, header.modality)
    passed = header.sop_class_uid in known["ct"] and header.modality in ("CT", "")
    if passed:
        modality = "CT"
    elif modality not in vocabulary() or modality == "CT":
        modality = "other"
    return RuleVerdict("not_ct", passed, (("modality", modality),))


def localizer(header: ImageHeader, rules: Rules) -> RuleVerdict:
    """Localizers are projections, not slices."""
    return RuleVerdict("localizer", not _image_type_has(header, "localizer"))


IMAGE_RULES: tuple[Callable[[ImageHeader, Rules], RuleVerdict], ...] = (not_ct, localizer)


def _image_type_has(header: ImageHeader, group: str) -> bool:
    words = {word for value in header.image_type for word in re.split(r"[\s_]+", value.upper())}
    return not words.isdisjoint(schemas.load("sop_classes")["image_type"][group])


# --- rules on where a lesion lies and what it is ---------------------------------------------------------


def non_axial(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """The plane's normal must be near the patient's z axis."""
    tilt = geometry.tilt_deg(lesion.plane)
    facts = (("tilt_deg", tilt), ("limit_deg", rules.max_tilt_deg))
    return RuleVerdict("non_axial", tilt <= rules.max_tilt_deg, facts)


def off_plane(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """Patient coordinates must lie on the image."""
    facts = (("distance_mm", lesion.off_plane_mm), ("limit_mm", rules.max_off_plane_mm))
    return RuleVerdict("off_plane", lesion.off_plane_mm <= rules.max_off_plane_mm, facts)


def outside_image(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """At least one end must lie on the image."""
    return RuleVerdict("outside_image", any(_inside(lesion)), (("ends_outside", _inside(lesion).count(False)),))


def _inside(lesion: Lesion) -> list[bool]:
    return [geometry.is_inside(lesion.plane, end) for end in recist.ends(lesion.long_axis, lesion.short_axis)]


def derived_image(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """Reformats, projections, screens and the like; DERIVED alone (compression) passes."""
    return RuleVerdict("derived_image", rules.allow_derived or not is_reformat(lesion.header))


def is_reformat(header: ImageHeader) -> bool:
    """Whether ImageType says that the image was computed from others."""
    derived = bool(header.image_type) and header.image_type[0].strip().upper() == "DERIVED"
    return derived and _image_type_has(header, "derived")


def burned_in(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """Text in the pixels may identify a person."""
    return RuleVerdict("burned_in", not lesion.header.burned_in_annotation)


def no_second_axis(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """A RECIST cross has two axes; a length may be kept by option."""
    allowed = rules.keep_lengths and lesion.bookmark.kind is Kind.LENGTH
    return RuleVerdict("no_second_axis", lesion.short_axis is not None or allowed)


def zero_length(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """An axis without length is a click."""
    lengths = [("long", lesion.long_axis_mm)]
    if lesion.short_axis_mm is not None:
        lengths.append(("short", lesion.short_axis_mm))
    axis, shortest = min(lengths, key=lambda item: item[1])
    return RuleVerdict("zero_length", shortest >= rules.min_length_mm, (("axis", axis), ("length_mm", shortest)))


def stated_value_mismatch(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """The stated lengths must be explainable by the drawn ones, in whatever unit."""
    return _stated_rule("stated_value_mismatch", Agreement.MISMATCH, lesion, rules)


def by_algorithm(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """What a model found is no reader's bookmark, until a reader saves it again."""
    return RuleVerdict("by_algorithm", rules.keep_algorithms or not lesion.bookmark.algorithm)


LESION_RULES: tuple[Callable[[Lesion, Rules], RuleVerdict], ...] = (
    by_algorithm,
    non_axial,
    off_plane,
    outside_image,
    derived_image,
    burned_in,
    no_second_axis,
    zero_length,
    stated_value_mismatch,
)


def _compared(lesion: Lesion, rules: Rules) -> list[tuple[str, Comparison]]:
    """Each axis that states a value, under the name that the object gives it."""
    named = (("long", lesion.bookmark.long_axis), ("short", lesion.bookmark.short_axis))
    swapped = any(note.code == "axes_swapped" for note in lesion.notes)
    found = []
    for name, axis in named:
        if axis is None or axis.stated is None:
            continue
        is_long = (name == "long") != swapped
        segment = lesion.long_axis if is_long else lesion.short_axis
        assert segment is not None
        drawn_mm = geometry.length_mm(lesion.plane, segment)
        mm_per_px = drawn_mm / segment.length_px if segment.length_px > 0 else lesion.plane.col_spacing_mm
        found.append((name, stated.compare(axis.stated, drawn_mm, mm_per_px, rules)))
    return found


def _stated_rule(name: str, bad: Agreement, lesion: Lesion, rules: Rules) -> RuleVerdict:
    compared = _compared(lesion, rules)
    worst = next((item for item in compared if item[1].agreement is bad), compared[0] if compared else None)
    if worst is None:
        return RuleVerdict(name, True)
    axis, found = worst
    facts: Facts = (
        ("axis", axis),
        ("unit", found.unit),
        ("fits", found.fits),
        ("stated_mm", found.stated_mm),
        ("drawn_mm", found.drawn_mm),
    )
    return RuleVerdict(name, found.agreement is not bad, facts)


# --- flags -----------------------------------------------------------------------------------------------


def axes_do_not_cross(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """The two axes should meet."""
    short = lesion.short_axis
    passed = short is None or recist.crosses(lesion.long_axis, short, rules.crossing_tolerance)
    return RuleVerdict("axes_do_not_cross", passed)


def not_perpendicular(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """The two axes should be at right angles."""
    if lesion.short_axis is None:
        return RuleVerdict("not_perpendicular", True)
    deviation = recist.deviation_deg(lesion.plane, lesion.long_axis, lesion.short_axis)
    facts = (("deviation_deg", deviation), ("limit_deg", rules.max_perpendicular_deviation_deg))
    return RuleVerdict("not_perpendicular", not deviation > rules.max_perpendicular_deviation_deg, facts)


def end_outside_image(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """Every end should lie on the image."""
    return RuleVerdict("end_outside_image", all(_inside(lesion)), (("ends_outside", _inside(lesion).count(False)),))


def default_short_axis(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """Writers with the quirk of the same name draw the short axis themselves until a reader moves a handle."""
    short = lesion.short_axis
    if "default_short_axis" not in lesion.bookmark.source.quirks or short is None or not lesion.long_axis_mm:
        return RuleVerdict("default_short_axis", True)
    ratio = geometry.length_mm(lesion.plane, short) / lesion.long_axis_mm
    centre_px = math.dist(recist.midpoint(short), recist.midpoint(lesion.long_axis))
    deviation = recist.deviation_deg(lesion.plane, lesion.long_axis, short)
    untouched = (
        abs(ratio - 2 / 3) <= rules.default_short_axis_fraction
        and centre_px <= rules.default_short_axis_centre_px
        and deviation <= rules.default_short_axis_deviation_deg
    )
    facts = (("ratio", ratio), ("centre_px", centre_px), ("deviation_deg", deviation))
    return RuleVerdict("default_short_axis", not untouched, facts)


def unit_slip(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """A stated value should be in the stated unit."""
    return _stated_rule("unit_slip", Agreement.UNIT_SLIP, lesion, rules)


def stated_value_differs(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """A stated value should be the drawn one."""
    return _stated_rule("stated_value_differs", Agreement.DIFFERS, lesion, rules)


def extent_over_long(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """A cross should not reach much farther than its long axis."""
    if lesion.short_axis is None:
        return RuleVerdict("extent_over_long", True)
    ratio = recist.extent_over_long(lesion.long_axis, lesion.short_axis)
    facts = (("ratio", ratio), ("limit", rules.max_extent_over_long))
    return RuleVerdict("extent_over_long", ratio <= rules.max_extent_over_long, facts)


def narrow_window(lesion: Lesion, rules: Rules) -> RuleVerdict:
    """A display window as of a body examination; passed where the header has none."""
    if lesion.header.window is None:
        return RuleVerdict("narrow_window", True)
    low, high = lesion.header.window
    facts = (("width_hu", high - low), ("limit_hu", rules.min_window_width_hu))
    return RuleVerdict("narrow_window", high - low > rules.min_window_width_hu, facts)


FLAGS: tuple[Callable[[Lesion, Rules], RuleVerdict], ...] = (
    axes_do_not_cross,
    not_perpendicular,
    end_outside_image,
    default_short_axis,
    unit_slip,
    stated_value_differs,
    extent_over_long,
    narrow_window,
)


# --- which image -----------------------------------------------------------------------------------------


def key_image(bookmark: Bookmark, headers: Headers, rules: Rules) -> ImageHeader | Rejected:
    """The header of the image on which the bookmark lies, or why there is none.

    Patient coordinates that select no image belong to the nearest CT slice of their frame of reference, among
    the named images where several are named.
    """
    selected = {ref for ref in bookmark.axis_images if ref is not None}
    candidates = sorted(selected) if selected else list(bookmark.images)
    if not candidates:
        return _nearest(bookmark, [h for h in headers.values() if isinstance(h, ImageHeader)], rules)
    if len(candidates) > 1 and not selected and bookmark.frame_of_reference_uid:
        named = [headers[ref] for ref in candidates if ref in headers]
        if not named:
            return Rejected(bookmark, "image_missing")
        return _nearest(bookmark, [h for h in named if isinstance(h, ImageHeader)], rules)
    if len(candidates) > 1:
        return Rejected(bookmark, "axes_on_different_images")
    header = headers.get(candidates[0])
    if header is None:
        return Rejected(bookmark, "image_missing")
    if isinstance(header, Unreadable):
        if header.why == "bad_geometry":
            return Rejected(bookmark, "bad_geometry", what_of(header))
        return Rejected(bookmark, "image_unreadable")
    return header


def _nearest(bookmark: Bookmark, headers: list[ImageHeader], rules: Rules) -> ImageHeader | Rejected:
    """The one CT slice nearest to all ends, in the bookmark's frame of reference; a tie is no reference."""
    if not bookmark.frame_of_reference_uid:
        return Rejected(bookmark, "no_image_reference")
    distances = sorted(
        (
            (off_plane_mm(bookmark, header.plane), header.ref, header)
            for header in headers
            if isinstance(header.plane, ImagePlane)
            and header.plane.frame_of_reference_uid == bookmark.frame_of_reference_uid
            and all(rule(header, rules).passed for rule in IMAGE_RULES)
        ),
        key=lambda item: item[:2],
    )
    is_tie = len(distances) > 1 and distances[1][0] - distances[0][0] < SAME_DISTANCE_MM
    if not distances or is_tie:
        return Rejected(bookmark, "no_image_reference")
    return distances[0][2]


# --- verdicts --------------------------------------------------------------------------------------------


def judge(bookmark: Bookmark, headers: Headers, rules: Rules) -> Verdict:
    """The one verdict of a bookmark, given the headers of the images that it may lie on."""
    stopped = _not_read(bookmark)
    if stopped is not None:
        return stopped
    header = key_image(bookmark, headers, rules)
    if isinstance(header, Rejected):
        return header
    for image_rule in IMAGE_RULES:
        found = image_rule(header, rules)
        if not found.passed:
            return Rejected(bookmark, found.name, found.facts)
    lesion = locate(bookmark, header, rules)
    if isinstance(lesion, Rejected):
        return lesion
    for lesion_rule in LESION_RULES:
        found = lesion_rule(lesion, rules)
        if not found.passed:
            return Rejected(bookmark, found.name, found.facts, lesion.notes)
    flags = [flag(lesion, rules) for flag in FLAGS]
    return Kept(lesion, lesion.notes + tuple(Note(flag.name, flag.facts) for flag in flags if not flag.passed))


def _not_read(bookmark: Bookmark) -> Rejected | None:
    if bookmark.kind not in READ_KINDS:
        return Rejected(bookmark, "unsupported_source", (("kind", bookmark.kind.value),))
    if bookmark.problem:
        return Rejected(bookmark, bookmark.problem, bookmark.facts)
    return None


def verdicts_in_detail(bookmark: Bookmark, header: ImageHeader, rules: Rules) -> tuple[RuleVerdict, ...]:
    """What every rule says about a bookmark on an image, also after the first that fails, then every flag.

    Rules on the lesion are left out where it cannot be located; flags are told from rejections by their codes.
    """
    stopped = _not_read(bookmark)
    if stopped is not None:
        return (RuleVerdict(stopped.reason, False, stopped.facts),)
    of_image = tuple(rule(header, rules) for rule in IMAGE_RULES)
    lesion = locate(bookmark, header, rules)
    if isinstance(lesion, Rejected):
        return (*of_image, RuleVerdict(lesion.reason, False, lesion.facts))
    notes = tuple(RuleVerdict(note.code, False, note.facts) for note in lesion.notes)
    return (
        *of_image,
        *(rule(lesion, rules) for rule in LESION_RULES),
        *notes,
        *(flag(lesion, rules) for flag in FLAGS),
    )
