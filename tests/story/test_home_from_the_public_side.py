"""Home from the public side: what is found on a de-identified dataset lands in the study that it came from, or not."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dataset_builder.homecoming_index import home_index
from dataset_builder.ledger import SqliteLedger
from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.homecoming import NotHome, home
from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Box, ImageRef, Segment
from dicom_io.dialects import read_object
from dicom_io.testbed.embedded import EmbeddedArchive
from dicom_io.testbed.phantoms import write_phantoms
from dicom_io.testbed.truth import ExpectedBookmark, PhantomArchive
from models.predictions_table import write_predictions
from tests.experiments.mined import Mined, import_files, in_group, mine

WITHIN_PX = 0.01
OTHER_KEY = "another pseudonym key, of 32 or more bytes"


@dataclass(frozen=True)
class Public:
    """What the public side knows: the dataset, and detections that a model made on it."""

    archive: PhantomArchive
    mined: Mined
    detections: dict[str, Detection]
    """By lesion_id."""

    def truth(self) -> dict[str, ExpectedBookmark]:
        """The phantom's own mark of each lesion_id."""
        return {
            public: mark
            for key, public in self.mined.crosswalk("lesion").items()
            for mark in self.archive.kept
            if in_group(key, mark.source_sop_instance_uid, mark.item_path)
        }


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Public:
    """Phantoms, mined."""
    folder = tmp_path_factory.mktemp("public")
    archive = write_phantoms(folder / "files", small=True)
    mined = import_files(folder, [archive.folder])
    return Public(archive, mined, {row["lesion_id"]: detection_of(row, mined) for row in mined.table("lesions")})


def detection_of(row: dict[str, Any], mined: Mined) -> Detection:
    """As a model finds a lesion: a box on the key slice, a mask on it and on its neighbours in the dataset."""
    folder = row["file_name"].rpartition("/")[0]
    numbers = range(row["key_slice_number"] - 1, row["key_slice_number"] + 2)
    names = [
        name
        for name in (f"{folder}/{number:03d}.png" for number in numbers)
        if (mined.out / "Images_png" / name).exists()
    ]
    bits = PixelMask(3, 4, np.ones((2, 2), np.bool_))
    return Detection(
        image=row["file_name"],
        box=Box(*row["box_px"]),
        score=0.9,
        model_id="model-0",
        mask=bits,
        volume=tuple((name, bits) for name in names),
        long_axis=segment(row["long_axis_px"]),
        short_axis=segment(row["short_axis_px"]),
    )


def segment(ends: list[float]) -> Segment:
    return Segment((ends[0], ends[1]), (ends[2], ends[3]))


def come_home(mined: Mined, detections: list[Detection]) -> tuple[tuple[Detection, ...], tuple[NotHome, ...]]:
    with SqliteLedger.reader(mined.work / "ledger.sqlite") as ledger:
        return home(detections, home_index(ledger, mined.out))


def copy_of(mined: Mined, folder: Path) -> Mined:
    """The same ledger with a dataset that may be spoilt."""
    shutil.copytree(mined.out, folder / "dataset")
    return Mined(folder / "dataset", mined.work)


def test_every_detection_lands_on_the_image_that_its_lesion_was_drawn_on(public: Public) -> None:
    found, refused = come_home(public.mined, list(public.detections.values()))
    assert not refused
    truth = public.truth()
    homes = dict(zip(public.detections, found, strict=True))
    assert homes.keys() == truth.keys() and homes
    assert {one: detection.image for one, detection in homes.items()} == {
        one: mark.image for one, mark in truth.items()
    }


def test_objects_of_what_came_home_lie_in_the_right_studies_on_the_right_images(public: Public, tmp_path: Path) -> None:
    """As a person brings it home: predictions of the dataset, the ledger, the archive."""
    write_predictions(tmp_path / "found.parquet", public.detections.values())
    words = ("--dataset", public.mined.out, "--work", public.mined.work, "--to", "dicom-sr")
    with EmbeddedArchive(public.archive.folder) as served:
        where = ("--archive", served.address, "--objects", tmp_path / "objects")
        ended = mine("export", tmp_path / "found.parquet", *words, *where)
    assert ended.code == 0, ended.stderr
    marks = [mark for path in sorted((tmp_path / "objects").rglob("*.dcm")) for mark in marks_of(path)]
    truth = public.truth()
    assert sorted(where for where, _ in marks) == sorted(
        (mark.study_instance_uid, mark.image) for mark in truth.values() if mark.image is not None
    )
    rows = {row["lesion_id"]: segment(row["long_axis_px"]) for row in public.mined.table("lesions")}
    expected = [((mark.study_instance_uid, mark.image), rows[one]) for one, mark in truth.items()]
    for where, line in marks:
        distances = [
            max(math.dist(line.start, own.start), math.dist(line.end, own.end)) for at, own in expected if at == where
        ]
        assert min(distances) <= WITHIN_PX


def marks_of(path: Path) -> list[tuple[tuple[str, ImageRef], Segment]]:
    """Study and image with the long axis of each cross in a report."""
    reading = read_object(dcmread(path), str(path))
    assert isinstance(reading, ObjectReading)
    return [
        ((reading.source.study_instance_uid, one.images[0]), one.long_axis.segment)
        for one in reading.bookmarks
        if one.long_axis is not None and isinstance(one.long_axis.segment, Segment)
    ]


def test_a_mask_comes_home_slice_by_slice(public: Public) -> None:
    found, _ = come_home(public.mined, list(public.detections.values()))
    before = list(public.detections.values())
    assert [len(one.volume) for one in found] == [len(one.volume) for one in before]
    assert max(len(one.volume) for one in found) == 3
    for one in found:
        images = [image for image, _ in one.volume]
        assert one.image in images
        assert len(set(images)) == len(images)
        assert {image.series_instance_uid for image in images if isinstance(image, ImageRef)} == {
            one.image.series_instance_uid if isinstance(one.image, ImageRef) else ""
        }


def test_pictures_that_changed_places_are_refused_and_the_others_come_home(public: Public, tmp_path: Path) -> None:
    spoilt = copy_of(public.mined, tmp_path)
    swapped = sorted({str(one.image) for one in public.detections.values()})[:2]
    one, other = (spoilt.out / "Images_png" / name for name in swapped)
    first, second = one.read_bytes(), other.read_bytes()
    assert first != second
    one.write_bytes(second)
    other.write_bytes(first)
    alone = [replace(detection, volume=()) for detection in public.detections.values()]
    found, refused = come_home(spoilt, alone)
    assert {(one.file_name, one.reason) for one in refused} == {(name, "image_mismatch") for name in swapped}
    assert len(found) + len(refused) == len(alone)


def test_a_mask_with_one_changed_picture_is_refused_whole(public: Public, tmp_path: Path) -> None:
    spoilt = copy_of(public.mined, tmp_path)
    detection = next(one for one in public.detections.values() if len(one.volume) == 3)
    neighbour = next(str(name) for name, _ in detection.volume if name != detection.image)
    picture = spoilt.out / "Images_png" / neighbour
    picture.write_bytes(picture.read_bytes() + b"\0")
    found, (refused,) = come_home(spoilt, [detection])
    assert found == ()
    assert (refused.reason, refused.file_name) == ("image_mismatch", neighbour)


def test_a_picture_that_is_gone_is_refused(public: Public, tmp_path: Path) -> None:
    spoilt = copy_of(public.mined, tmp_path)
    detection = next(iter(public.detections.values()))
    (spoilt.out / "Images_png" / str(detection.image)).unlink()
    _, (refused,) = come_home(spoilt, [detection])
    assert refused.reason == "picture_missing"


def test_a_name_that_the_dataset_does_not_list_is_refused(public: Public) -> None:
    detection = replace(next(iter(public.detections.values())), image="999999_01_01/001.png", volume=())
    _, (refused,) = come_home(public.mined, [detection])
    assert refused.reason == "not_in_dataset"


def test_another_ledger_is_refused_even_of_the_same_archive(public: Public, tmp_path: Path) -> None:
    other = Mined(tmp_path / "dataset", tmp_path / "work")
    ended = mine(
        "import", public.archive.folder, "--out", other.out, "--work", other.work, environment={"MINE_KEY": OTHER_KEY}
    )
    assert ended.code == 0, ended.stderr
    found, refused = come_home(Mined(public.mined.out, other.work), list(public.detections.values()))
    assert found == ()
    assert {one.reason for one in refused} == {"another_ledger"}


def test_a_ledger_of_some_of_the_patients_brings_only_theirs_home(public: Public, tmp_path: Path) -> None:
    some = Mined(tmp_path / "dataset", tmp_path / "work")
    assert mine("import", public.archive.folder / "anna", "--out", some.out, "--work", some.work).code == 0
    found, refused = come_home(Mined(public.mined.out, some.work), list(public.detections.values()))
    annas = {one: mark for one, mark in public.truth().items() if mark.name.startswith("anna/")}
    assert {one.image for one in found} == {mark.image for mark in annas.values()}
    assert {one.reason for one in refused} == {"not_in_crosswalk"}
    assert len(found) + len(refused) == len(public.detections)


def test_a_folder_that_mining_did_not_write_is_an_error(public: Public, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"slices\.parquet"):
        come_home(Mined(tmp_path, public.mined.work), list(public.detections.values()))
