"""Home from the public side: detections on slices of a de-identified dataset, back on the images of the archive.

Nobody is believed: a name leads home only through the ledger that made the dataset, and only where the picture that
lies under it is the one that mining wrote of that image. What does not fit is refused, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import schemas
from deeplesion_miner.detection import Detection
from deeplesion_miner.types import ImageRef


@dataclass(frozen=True)
class HomeSlice:
    """Where a slice of the dataset comes from, by the ledger."""

    image: ImageRef
    staged_png: str
    """sha256 of the PNG that mining wrote of it."""


@dataclass(frozen=True, eq=False)
class HomeIndex:
    """The ways home of one dataset."""

    places: Mapping[str, HomeSlice]
    """By file name, e.g. '000001_01_01/103.png'; slices that the ledger does not know are absent."""
    digests: Mapping[str, str]
    """sha256 of the picture that lies in the dataset now, by file name; absent where there is none."""
    names: frozenset[str] = field(default_factory=frozenset)
    """All slices that the dataset lists."""


@dataclass(frozen=True, eq=False)
class NotHome:
    """A detection that is refused."""

    detection: Detection
    reason: str
    """A code of `schemas/homecoming.toml`."""
    file_name: str
    """The slice that is at fault."""

    def __str__(self) -> str:
        facts = schemas.load("homecoming")["reason"][self.reason]
        return f"{self.file_name}: {self.reason}: {facts['message']}; {facts['advice']}"


def home(detections: Iterable[Detection], index: HomeIndex) -> tuple[tuple[Detection, ...], tuple[NotHome, ...]]:
    """The detections on the images that they were made on, in their order, and those that are refused.

    A detection is refused whole where one slice of its 3-D mask is. One on an image of an archive stays as it is.
    """
    found: list[Detection] = []
    refused: list[NotHome] = []
    for detection in detections:
        one = _home(detection, index)
        if isinstance(one, Detection):
            found.append(one)
        else:
            refused.append(one)
    return tuple(found), tuple(refused)


def _home(detection: Detection, index: HomeIndex) -> Detection | NotHome:
    images: dict[ImageRef | str, ImageRef] = {}
    for name in (detection.image, *(image for image, _ in detection.volume)):
        place = name if isinstance(name, ImageRef) else _place(name, index)
        if isinstance(place, str):
            return NotHome(detection, place, str(name))
        images[name] = place
    key = images[detection.image]
    strays = [name for name, image in images.items() if _series(image) != _series(key)]
    if strays:
        return NotHome(detection, "several_series", str(strays[0]))
    volume = tuple((images[name], mask) for name, mask in detection.volume)
    return replace(detection, image=key, volume=volume)


def _place(name: str, index: HomeIndex) -> ImageRef | str:
    """The image, or the code of the reason why there is none."""
    place = index.places.get(name)
    if place is None:
        if not index.places:
            return "another_ledger"
        return "not_in_crosswalk" if name in index.names else "not_in_dataset"
    digest = index.digests.get(name)
    if digest is None:
        return "picture_missing"
    return place.image if digest == place.staged_png else "image_mismatch"


def _series(image: ImageRef) -> tuple[str, str]:
    return image.study_instance_uid, image.series_instance_uid
