"""Results: what detections and mined bookmarks become before they go back to an archive."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from core_factories import axial_plane, header, image_ref, lesion

from deeplesion_miner import results
from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.results import Author, ObjectRef
from deeplesion_miner.types import Box, Code, ImageRef, Kept, Segment

MADE = datetime(2024, 5, 6, 7, 8, 9)
UNREAD = datetime(2000, 1, 1)
MODEL = Author("finder", "1.0", "acme", parameters=(("weights", "ab12"),))
BOX = Box(10.0, 12.0, 30.0, 28.0)
MASK = PixelMask(10, 12, np.ones((4, 5), np.bool_))


def detection(image: ImageRef | str | None = None, score: float = 0.5, **more: object) -> Detection:
    return Detection(image=image or image_ref(), box=BOX, score=score, model_id="finder ab12", **more)  # type: ignore[arg-type]


def kept(key: str = "9.9#1", reader: str = "", written: str = "20240102030405", **said: object) -> Kept:
    found = lesion(header(image_ref(), axial_plane()), key)
    source = replace(found.bookmark.source, content_datetime=written)
    return Kept(replace(found, bookmark=replace(found.bookmark, source=source, reader=reader, **said)))  # type: ignore[arg-type]


# --- detections ------------------------------------------------------------------------------------------


def test_each_study_has_a_result_of_its_own_in_the_order_of_the_studies() -> None:
    found = [detection(image_ref(study="2")), detection(image_ref(study="1")), detection(image_ref(study="2"))]
    made = results.of_detections(found, MODEL, MADE)
    assert [(one.study_instance_uid, len(one.lesions)) for one in made] == [("1", 1), ("2", 2)]
    assert {(one.author, one.made_at) for one in made} == {(MODEL, MADE)}


def test_lesions_are_numbered_by_falling_score_whatever_order_they_come_in() -> None:
    found = [detection(score=0.3), detection(score=0.9), detection(score=0.6)]
    one, other = (results.of_detections(order, MODEL, MADE)[0] for order in (found, found[::-1]))
    assert [(lesion.key, lesion.label, lesion.score) for lesion in one.lesions] == [
        ("1", "Lesion 1", 0.9),
        ("2", "Lesion 2", 0.6),
        ("3", "Lesion 3", 0.3),
    ]
    assert [lesion.score for lesion in other.lesions] == [0.9, 0.6, 0.3]


def test_equal_scores_are_ordered_by_image_and_then_by_place() -> None:
    low, high = replace(BOX, y_min=1.0), replace(BOX, y_min=5.0)
    found = [
        replace(detection(image_ref("1.2.4")), box=low),
        replace(detection(image_ref("1.2.3")), box=high),
        replace(detection(image_ref("1.2.3")), box=low),
    ]
    lesions = results.of_detections(found, MODEL, MADE)[0].lesions
    assert [(one.image.sop_instance_uid, one.box) for one in lesions] == [
        ("1.2.3", low),
        ("1.2.3", high),
        ("1.2.4", low),
    ]


def test_what_a_model_says_of_a_lesion_is_kept() -> None:
    long_axis, short_axis = Segment((1, 2), (3, 4)), Segment((2, 1), (2, 5))
    volume = ((image_ref("1.2.2"), MASK), (image_ref(), MASK))
    said = detection(
        label="liver", long_axis=long_axis, short_axis=short_axis, mask=MASK, volume=volume, volume_mm3=7.5
    )
    (one,) = results.of_detections([said], MODEL, MADE)[0].lesions
    assert (one.image, one.box, one.long_axis, one.short_axis) == (image_ref(), BOX, long_axis, short_axis)
    assert (one.masks, one.volume_mm3) == (volume, 7.5)
    assert one.finding == Code("52988006", "SCT", "Lesion")
    assert one.site == Code("10200004", "SCT", "Liver")


def test_a_lesion_without_a_volume_has_the_mask_of_its_key_slice_alone() -> None:
    (one,) = results.of_detections([detection(mask=MASK)], MODEL, MADE)[0].lesions
    assert one.masks == ((image_ref(), MASK),)
    (bare,) = results.of_detections([detection()], MODEL, MADE)[0].lesions
    assert (bare.masks, bare.site) == ((), None)


def test_a_slice_of_a_dataset_must_come_home_first() -> None:
    with pytest.raises(ValueError, match=r"000001_01_01/103\.png is a slice of a dataset"):
        results.of_detections([detection("000001_01_01/103.png")], MODEL, MADE)


def test_a_place_that_no_table_holds_is_an_error() -> None:
    with pytest.raises(KeyError):
        results.of_detections([detection(label="elbow")], MODEL, MADE)


# --- mined bookmarks -------------------------------------------------------------------------------------


def test_each_reader_of_a_study_has_a_result_of_their_own() -> None:
    made = results.of_bookmarks([kept("9.9#1", "Roe"), kept("9.9#2", "Doe"), kept("9.8#1", "Roe")], UNREAD)
    assert [(one.author.name, len(one.lesions)) for one in made] == [("Doe", 1), ("Roe", 2)]
    assert not any(one.author.is_algorithm for one in made)


def test_a_mined_result_names_the_reports_that_it_takes_its_bookmarks_from() -> None:
    (made,) = results.of_bookmarks([kept("9.9#2"), kept("9.8#1"), kept("9.9#1")], UNREAD)
    sop_class = "1.2.840.10008.5.1.4.1.1.88.22"
    assert made.predecessors == (ObjectRef("1", "1.5", "9.8", sop_class), ObjectRef("1", "1.5", "9.9", sop_class))


def test_a_mined_result_is_as_old_as_the_newest_of_its_reports() -> None:
    two = [kept("9.9#1", written="20230102030405"), kept("9.8#1", written="20240506070809.5")]
    assert results.of_bookmarks(two, UNREAD)[0].made_at == MADE


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ((("9.9#1", "deeplesion_miner"), ("9.9#2", "deeplesion_miner")), True),
        ((("9.9#1", "ohif"),), False),
        ((("9.9#1", "deeplesion_miner"), ("9.8#1", "ohif")), False),
        ((("9.9#1", "deeplesion_miner"), ("9.8#1", "deeplesion_miner")), False),
    ],
    ids=["one report of ours", "a reader's", "ours and a reader's", "two of ours"],
)
def test_what_a_single_report_of_ours_holds_is_told_already(marks: tuple[tuple[str, str], ...], told: bool) -> None:
    found = [by_writer(kept(key), writer) for key, writer in marks]
    (made,) = results.of_bookmarks(found, UNREAD)
    assert results.is_told_already(made, found) is told


def by_writer(one: Kept, writer: str) -> Kept:
    bookmark = one.bookmark
    source = replace(bookmark.source, writer=writer)
    return replace(one, lesion=replace(one.lesion, bookmark=replace(bookmark, source=source)))


@pytest.mark.parametrize("written", ["", "20240631120000", "20240101250000"])
def test_reports_that_do_not_tell_their_time_get_the_one_that_is_given(written: str) -> None:
    assert results.of_bookmarks([kept(written=written)], UNREAD)[0].made_at == UNREAD


def test_what_a_reader_said_of_a_lesion_is_kept() -> None:
    finding, site = Code("4147007", "SCT", "Mass"), Code("39607008", "SCT", "Lung")
    (made,) = results.of_bookmarks(
        [kept(label="Target 1", finding=finding, finding_site=site, tracking_uid="1.2.9")], UNREAD
    )
    (one,) = made.lesions
    assert (one.key, one.label, one.finding, one.site) == ("9.9#1", "Target 1", finding, site)
    assert (one.tracking_uid, one.score, one.image) == ("1.2.9", None, image_ref())
    assert (one.long_axis, one.short_axis) == (Segment((40, 50), (60, 50)), Segment((50, 44), (50, 56)))


def test_a_bookmark_without_label_and_finding_is_a_numbered_lesion() -> None:
    (made,) = results.of_bookmarks([kept("9.9#1"), kept("9.9#2")], UNREAD)
    assert [one.label for one in made.lesions] == ["Lesion 1", "Lesion 2"]
    assert {one.finding for one in made.lesions} == {Code("52988006", "SCT", "Lesion")}
