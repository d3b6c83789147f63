"""Home from the public side, by names, ledgers and digests alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import schemas
from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.homecoming import HomeIndex, HomeSlice, home
from deeplesion_miner.types import Box, ImageRef

NAMES = tuple(f"000001_01_01/{number:03d}.png" for number in (1, 2, 3))
ELSEWHERE = "000001_01_02/001.png"
MASK = PixelMask(0, 0, np.ones((1, 1), np.bool_))
IMAGES = {name: ImageRef("1.2", "1.2.3", f"1.2.3.{k}") for k, name in enumerate(NAMES)}
PLACES = {
    **{name: HomeSlice(image, f"digest {name}") for name, image in IMAGES.items()},
    ELSEWHERE: HomeSlice(ImageRef("1.2", "1.2.4", "1.2.4.1"), f"digest {ELSEWHERE}"),
}
INDEX = HomeIndex(PLACES, {name: f"digest {name}" for name in PLACES}, frozenset(PLACES))
FOUND = Detection(NAMES[1], Box(1, 2, 3, 4), 0.5, "model-0", volume=tuple((name, MASK) for name in NAMES))


def reason(detection: Detection, index: HomeIndex = INDEX) -> tuple[str, str]:
    found, (refused,) = home([detection], index)
    assert found == ()
    assert refused.detection is detection
    return refused.reason, refused.file_name


def test_a_detection_comes_home_with_its_mask() -> None:
    (one,), refused = home([FOUND], INDEX)
    assert refused == ()
    assert one.image == IMAGES[NAMES[1]]
    assert [image for image, _ in one.volume] == list(IMAGES.values())
    assert (one.box, one.score, one.model_id) == (FOUND.box, FOUND.score, FOUND.model_id)


def test_what_is_home_stays_there() -> None:
    at_home = replace(FOUND, image=IMAGES[NAMES[0]], volume=())
    (one,), _ = home([at_home], INDEX)
    assert one.image == IMAGES[NAMES[0]]


def test_order_is_kept_and_every_detection_is_either_home_or_refused() -> None:
    stray = replace(FOUND, image="nowhere.png", volume=())
    found, refused = home([stray, FOUND, stray, FOUND], INDEX)
    assert (len(found), len(refused)) == (2, 2)


def test_another_picture_under_the_name_is_refused() -> None:
    changed = HomeIndex(PLACES, {**INDEX.digests, NAMES[2]: "another"}, INDEX.names)
    assert reason(FOUND, changed) == ("image_mismatch", NAMES[2])


def test_a_slice_without_its_picture_is_refused() -> None:
    assert reason(FOUND, HomeIndex(PLACES, {}, INDEX.names)) == ("picture_missing", NAMES[1])


def test_a_slice_that_the_ledger_does_not_know_is_refused() -> None:
    places = {name: place for name, place in PLACES.items() if name != NAMES[1]}
    assert reason(FOUND, HomeIndex(places, INDEX.digests, INDEX.names)) == ("not_in_crosswalk", NAMES[1])


def test_a_ledger_that_knows_nothing_of_the_dataset_is_another_one() -> None:
    assert reason(FOUND, HomeIndex({}, INDEX.digests, INDEX.names)) == ("another_ledger", NAMES[1])


def test_a_slice_that_the_dataset_does_not_list_is_refused() -> None:
    assert reason(replace(FOUND, image="nowhere.png", volume=())) == ("not_in_dataset", "nowhere.png")


def test_a_mask_across_series_is_refused() -> None:
    across = replace(FOUND, volume=((NAMES[1], MASK), (ELSEWHERE, MASK)))
    assert reason(across) == ("several_series", ELSEWHERE)


@pytest.mark.parametrize("code", schemas.load("homecoming")["reason"])
def test_a_refusal_says_what_is_wrong_and_what_to_do(code: str) -> None:
    _, (refused,) = home([replace(FOUND, image="nowhere.png", volume=())], INDEX)
    text = str(replace(refused, reason=code))
    facts = schemas.load("homecoming")["reason"][code]
    assert text == f"nowhere.png: {code}: {facts['message']}; {facts['advice']}"
