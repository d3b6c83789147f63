"""A corrected report names the one that it corrects; the same report twice is the same object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from dicom_validators import dcentvfy, dciodvfy, dsrdump
from highdicom.sr import srread
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_results import MADE, MODEL, Phantoms, changed
from pydicom.dataset import Dataset

from deeplesion_miner.results import Author, ObjectRef, Result
from dicom_io import lint
from dicom_io.emit import EmitSettings, EmittedObject
from dicom_io.emit.earlier import EarlierReport, earlier_reports, follow
from dicom_io.emit.from_archive import emit_from
from dicom_io.emit.identity import report_uid
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from dicom_io.testbed.embedded import EmbeddedArchive

LATER = MADE + timedelta(days=3)
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms.write(tmp_path_factory.getbasetemp() / "phantom_results")


class World:
    """An archive of files: the images of a study, and what was emitted into it."""

    def __init__(self, phantoms: Phantoms, folder: Path, study: str = "chiara/0") -> None:
        self.result, self.folder = phantoms.result(study), folder
        self.images = phantoms.images(self.result)

    def emit(
        self,
        result: Result,
        kinds: Sequence[str] = ("dicom-sr",),
        settings: EmitSettings | None = None,
        waiting: Iterable[Path] = (),
    ) -> dict[str, EmittedObject]:
        """Emits and stores; the objects by kind."""
        archive = ArchiveSettings(paths=(*self.images, self.folder))
        with ArchiveOpener(archive) as opener, closing(opener.open()) as opened:
            self.emission = emit_from(opened, result, kinds, settings, waiting)
        for one in self.emission.objects:
            (self.folder / f"{one.sop_instance_uid}.dcm").write_bytes(one.encoded)
        return {one.kind: one for one in self.emission.objects}

    def report(self, result: Result, **more: object) -> EmittedObject:
        return self.emit(result, **more)["dicom-sr"]  # type: ignore[arg-type]


@pytest.fixture
def world(phantoms: Phantoms, tmp_path: Path) -> World:
    folder = tmp_path / "emitted"
    folder.mkdir()
    return World(phantoms, folder)


def dataset(one: EmittedObject) -> Dataset:
    return pydicom.dcmread(BytesIO(one.encoded))


def named(one: EmittedObject) -> list[str]:
    """What a report names as predecessors."""
    return [
        sop.ReferencedSOPInstanceUID
        for study in dataset(one).get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    ]


def corrected(result: Result, score: float = 0.123) -> Result:
    return replace(changed(result, score=score), made_at=LATER)


# --- in an archive ---------------------------------------------------------------------------------------


def test_a_first_report_names_none_and_the_same_once_more_is_the_same_bytes(world: World) -> None:
    first = world.report(world.result)
    again = world.report(replace(world.result, made_at=LATER))
    assert named(first) == []
    assert again == first


def test_another_content_names_the_report_that_it_corrects_and_is_the_same_object_from_then_on(world: World) -> None:
    first = world.report(world.result)
    second = world.report(corrected(world.result))
    assert world.emission.corrects == (first.sop_instance_uid,)
    assert named(second) == [first.sop_instance_uid]
    assert second.series_instance_uid != first.series_instance_uid
    for _ in range(2):
        assert world.report(replace(corrected(world.result), made_at=datetime(2026, 1, 1))) == second
        assert not world.emission.corrects


def test_a_third_names_the_last_alone(world: World) -> None:
    world.report(world.result)
    second = world.report(corrected(world.result))
    third = world.report(corrected(world.result, 0.2))
    assert named(third) == [second.sop_instance_uid]


def test_what_was_said_before_is_that_report_again_and_the_later_one_is_told(world: World) -> None:
    first = world.report(world.result)
    second = world.report(corrected(world.result))
    third = world.report(corrected(world.result, 0.2))
    assert world.report(replace(world.result, made_at=LATER)) == first
    assert world.emission.corrected_by == (third.sop_instance_uid,)
    assert world.report(corrected(world.result)) == second
    assert world.report(corrected(world.result, 0.2)) == third
    assert not world.emission.corrected_by


def test_a_report_made_while_an_image_was_missing_is_corrected_by_the_whole_one(world: World) -> None:
    images = world.images
    assert len(images) == 2
    world.images = images[:1]
    part = world.report(world.result)
    assert [one.why for one in world.emission.left_out] == ["image_missing"]
    world.images = images
    whole = world.report(world.result)
    assert named(whole) == [part.sop_instance_uid]


def test_while_an_image_is_missing_a_whole_report_is_not_replaced_by_a_part_of_it(world: World) -> None:
    whole = world.report(world.result)
    images = world.images
    world.images = images[:1]
    part = world.emit(world.result, ("dicom-sr", "volume-sr"))
    assert set(part) == {"volume-sr"}
    assert {one.why for one in world.emission.left_out} == {"image_missing"}
    assert not world.emission.corrects
    newer = world.report(corrected(world.result))
    assert named(newer) == [whole.sop_instance_uid], "another content is told as far as it can be"
    world.images = images
    assert named(world.report(corrected(world.result))) == [newer.sop_instance_uid]


def test_masks_and_volumes_of_the_same_content_are_the_same_objects_whatever_the_report_follows(
    phantoms: Phantoms, world: World, tmp_path: Path
) -> None:
    kinds = ("dicom-sr", "volume-sr", "dicom-seg", "rtstruct", "gsps")
    world.emit(world.result, kinds)
    after = world.emit(corrected(world.result), kinds)
    (tmp_path / "empty").mkdir()
    alone = World(phantoms, tmp_path / "empty").emit(corrected(world.result), kinds)
    assert named(after["volume-sr"]) == []
    assert after.pop("dicom-sr") != alone.pop("dicom-sr")
    assert after == alone


def test_boxes_are_another_content(world: World) -> None:
    plain = world.report(world.result)
    boxed = world.report(world.result, settings=EmitSettings(planar_boxes=True))
    assert named(boxed) == [plain.sop_instance_uid]
    assert world.report(world.result) == plain
    assert world.report(world.result, settings=EmitSettings(planar_boxes=True)) == boxed


@pytest.mark.parametrize(
    "other",
    [Author("another", "1.2"), Author("", "1"), Author("Roe^Jane", is_algorithm=False)],
    ids=["another algorithm", "a nameless one", "a reader"],
)
def test_reports_of_another_author_are_not_corrected(world: World, other: Author) -> None:
    world.report(world.result)
    assert named(world.report(corrected(replace(world.result, author=other)))) == []


def test_another_version_of_the_algorithm_corrects(world: World) -> None:
    first = world.report(world.result)
    newer = replace(world.result, author=replace(MODEL, version="1.3", parameters=(("weights", "ff"),)))
    assert named(world.report(newer)) == [first.sop_instance_uid]


def test_a_report_on_other_series_is_not_corrected(world: World) -> None:
    """The node may look at each series of a study by a rule of its own."""
    first = world.report(world.result)
    path = world.folder / f"{first.sop_instance_uid}.dcm"
    moved = pydicom.dcmread(path)
    moved.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.99"
    moved.save_as(path)
    assert named(world.report(corrected(world.result))) == []


def test_a_readers_save_of_our_report_is_the_readers(world: World) -> None:
    first = world.report(world.result)
    save = dataset(first)
    save.SOPInstanceUID, save.SeriesInstanceUID = "1.2.3.4.1", "1.2.3.4"
    save.file_meta.MediaStorageSOPInstanceUID = save.SOPInstanceUID
    save.Manufacturer = save.ManufacturerModelName = "Unspecified"
    save.PredecessorDocumentsSequence = dataset(world.report(corrected(world.result))).PredecessorDocumentsSequence
    save.save_as(world.folder / "save.dcm", enforce_file_format=True)
    assert earlier_reports([world.folder / "save.dcm"]) == ()
    third = world.report(corrected(world.result, 0.2))
    assert named(third) == [world.report(corrected(world.result)).sop_instance_uid]


def test_what_cannot_be_read_is_passed_over(world: World) -> None:
    first = world.report(world.result)
    path = world.folder / f"{first.sop_instance_uid}.dcm"
    cut = world.folder / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:1000])
    nameless = pydicom.dcmread(path)
    del nameless.ConceptNameCodeSequence
    nameless.save_as(world.folder / "nameless.dcm")
    assert earlier_reports([cut, world.folder / "gone.dcm", world.folder / "nameless.dcm"]) == ()


def test_reports_on_their_way_count_and_those_that_are_here_as_well_count_once(world: World, tmp_path: Path) -> None:
    first = world.report(world.result)
    here = world.folder / f"{first.sop_instance_uid}.dcm"
    elsewhere = here.rename(tmp_path / "queued.dcm")
    second = world.report(corrected(world.result), waiting=[elsewhere])
    assert named(second) == [first.sop_instance_uid]
    elsewhere.rename(here)
    assert world.report(corrected(world.result), waiting=[here]) == second


def test_a_lesion_that_is_left_out_for_its_numbers_does_not_make_another_report(world: World) -> None:
    fewer = replace(world.result, lesions=world.result.lesions[1:])
    first = world.report(fewer)
    assert world.report(changed(world.result, score=float("nan"))) == first
    assert [one.why for one in world.emission.left_out] == ["not_finite"]


def test_of_a_pacs_only_reports_are_fetched_and_nothing_where_it_has_none(
    phantoms: Phantoms, world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "pacs"
    folder.mkdir()
    for path in world.images:
        (folder / path.name).write_bytes(path.read_bytes())
    reports: list[EmittedObject] = []
    for result in (world.result, corrected(world.result)):
        with EmbeddedArchive(folder) as served:
            settings = ArchiveSettings(address=served.address, store_folder=tmp_path / f"store{len(reports)}")
            with ArchiveOpener(settings) as opener, closing(opener.open()) as opened:
                (made,) = emit_from(opened, result, ["dicom-sr"]).objects
        (folder / "report.dcm").write_bytes(made.encoded)
        reports.append(made)
        stored = [path for path in (tmp_path / f"store{len(reports) - 1}").rglob("*") if path.suffix == ".dcm"]
        assert len(stored) == len(world.images) + len(reports) - 1
    assert named(reports[1]) == [reports[0].sop_instance_uid]


# --- judges ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", ["anna/0", "dmitri/0"])
def test_validators_and_readers_take_a_report_that_names_its_predecessor(
    phantoms: Phantoms, tmp_path: Path, study: str
) -> None:
    folder = tmp_path / "emitted"
    folder.mkdir()
    world = World(phantoms, folder, study)
    first, second = world.report(world.result), world.report(corrected(world.result))
    path = folder / f"{second.sop_instance_uid}.dcm"
    assert dciodvfy(path) == dciodvfy(folder / f"{first.sop_instance_uid}.dcm") == []
    assert dcentvfy(sorted(folder.iterdir())) == []
    assert "Predecessor Docs    : 1" in dsrdump(path)
    assert len(srread(path).content.get_planar_roi_measurement_groups()) == 0
    images = lint.study_images(world.images)
    assert {one.rule for one in lint.check_before_sending(second.encoded, images)} <= {"G1"}


# --- the rule itself -------------------------------------------------------------------------------------


def ref(uid: str) -> ObjectRef:
    return ObjectRef("1.2.1", f"{uid}.0", uid, SR_CLASS)


def report_of(result: Result, series: str = "1.2.2") -> EarlierReport:
    """As it is read back once it was emitted."""
    uid = report_uid(result, result.predecessors, "")
    own = ObjectRef(result.study_instance_uid, f"{uid}.0", uid, SR_CLASS)
    return EarlierReport(own, "finder", frozenset({series}), result.predecessors, result.made_at)


def said(phantoms: Phantoms, number: int) -> Result:
    return changed(phantoms.result("chiara/0"), score=number / 10)


@settings(max_examples=60, deadline=None)
@given(history=st.lists(st.integers(0, 3), max_size=8), shuffled=st.randoms(use_true_random=False))
def test_whatever_is_said_in_whatever_order_each_content_is_one_report_and_one_is_the_last(
    phantoms: Phantoms, history: list[int], shuffled: object
) -> None:
    archive: list[EarlierReport] = []
    uids: dict[int, str] = {}
    for number in history:
        shuffled.shuffle(archive)  # type: ignore[attr-defined]
        result = said(phantoms, number)
        series = result.lesions[0].image.series_instance_uid
        following = follow(result, archive, "")
        made = report_of(following.result, series)
        uid = made.ref.sop_instance_uid
        assert uids.setdefault(number, uid) == uid
        if uid not in {one.ref.sop_instance_uid for one in archive}:
            archive.append(made)
    assert len(archive) == len(set(history))
    followed = {one.sop_instance_uid for report in archive for one in report.predecessors}
    assert len({one.ref.sop_instance_uid for one in archive} - followed) == min(1, len(archive))


def test_several_last_reports_are_all_corrected(phantoms: Phantoms) -> None:
    series = said(phantoms, 1).lesions[0].image.series_instance_uid
    two = [report_of(said(phantoms, number), series) for number in (1, 2)]
    following = follow(said(phantoms, 3), two, "")
    assert sorted(following.corrects) == sorted(one.ref.sop_instance_uid for one in two)


def test_reports_that_name_one_another_end_in_none(phantoms: Phantoms) -> None:
    series = said(phantoms, 1).lesions[0].image.series_instance_uid
    one, other = (report_of(said(phantoms, number), series) for number in (1, 2))
    circle = [replace(one, predecessors=(other.ref,)), replace(other, predecessors=(one.ref,))]
    assert follow(said(phantoms, 3), circle, "").result.predecessors == ()


def test_reports_of_another_study_are_none_of_it(phantoms: Phantoms) -> None:
    series = said(phantoms, 1).lesions[0].image.series_instance_uid
    one = report_of(said(phantoms, 1), series)
    assert follow(said(phantoms, 2), [replace(one, ref=ref("1.2.9"))], "").corrects == ()
