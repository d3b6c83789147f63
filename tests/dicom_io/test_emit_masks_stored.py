"""Real archives take every kind and encoding of masks, contours and presentation states, and give the masks back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Server

from dicom_io.address import Address
from dicom_io.emit import EmitSettings, EmittedObject, emit
from dicom_io.object_file import ObjectFile
from dicom_io.sending import StoreSender
from dicom_io.store_status import StoreAnswer, Verdict
from dicom_io.stow import StowSender
from dicom_io.web import WebAddress, WebSession
from tests.mask_readers import by_contours, by_pydicom
from tests.masked_studies import Study, assert_same, lesion, planes_of, written

pytestmark = pytest.mark.servers

ENCODINGS = {
    "bits": EmitSettings(),
    "bits, deflated": EmitSettings(segmentation_syntax="deflated"),
    "fractions": EmitSettings(segmentation="fractional"),
    "fractions, run lengths": EmitSettings(segmentation="fractional", segmentation_syntax="rle"),
}
LABEL_MAPS = {
    "labels": EmitSettings(segmentation="labelmap"),
    "labels, run lengths": EmitSettings(segmentation="labelmap", segmentation_syntax="rle"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return written(tmp_path_factory.mktemp("stored"), time_point=7)


def objects(study: Study, settings: EmitSettings) -> tuple[EmittedObject, ...]:
    result = study.result(lesion(study, 1, range(2, 6)), lesion(study, 2, (7,)))
    return emit(result, study.source, ("dicom-seg", "rtstruct", "gsps"), settings).objects


def by_store(server: Server, files: list[ObjectFile]) -> list[StoreAnswer]:
    with StoreSender(Address.parse(server.address), "MINER") as sender:
        return list(sender.send(files))


def by_stow(server: Server, files: list[ObjectFile]) -> list[StoreAnswer]:
    with WebSession(WebAddress(server.web)) as session, StowSender(session) as sender:
        return list(sender.send(files))


def as_stored(server: Server, uid: str, folder: Path) -> Path:
    """The file that Orthanc keeps."""

    def asked(place: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"{server.rest}{place}", body) as answer:
            found: bytes = answer.read()
            return found

    query = {"Level": "Instance", "Query": {"SOPInstanceUID": uid}}
    (found,) = json.loads(asked("/tools/find", json.dumps(query).encode()))
    path = folder / uid
    path.write_bytes(asked(f"/instances/{found}/file"))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_archives_take_every_kind_by_c_store(target: Server, study: Study, encoding: str) -> None:
    files = [ObjectFile.read(one.encoded) for one in objects(study, ENCODINGS[encoding])]
    assert len(files) == 3
    assert {one.verdict for one in by_store(target, files)} == {Verdict.STORED}


@pytest.mark.parametrize("way", [by_store, by_stow])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_an_archive_gives_back_holds_the_same_masks(
    orthanc_web: Server,
    study: Study,
    tmp_path: Path,
    encoding: str,
    way: Callable[[Server, list[ObjectFile]], list[StoreAnswer]],
) -> None:
    mask, structures, state = objects(study, ENCODINGS[encoding])
    answers = way(orthanc_web, [ObjectFile.read(one.encoded) for one in (mask, structures, state)])
    assert {one.verdict for one in answers} == {Verdict.STORED}
    truth = planes_of(study, [lesion(study, 1, range(2, 6)), lesion(study, 2, (7,))])
    assert_same(by_pydicom(as_stored(orthanc_web, mask.sop_instance_uid, tmp_path), study), truth)
    assert_same(by_contours(as_stored(orthanc_web, structures.sop_instance_uid, tmp_path), study), truth)
    assert as_stored(orthanc_web, state.sop_instance_uid, tmp_path).read_bytes()[128:132] == b"DICM"


@pytest.mark.parametrize("encoding", LABEL_MAPS)
def test_label_maps_are_taken_by_stow(orthanc_web: Server, study: Study, tmp_path: Path, encoding: str) -> None:
    mask, *_ = objects(study, LABEL_MAPS[encoding])
    (answer,) = by_stow(orthanc_web, [ObjectFile.read(mask.encoded)])
    assert answer.verdict is Verdict.STORED
    truth = planes_of(study, [lesion(study, 1, range(2, 6)), lesion(study, 2, (7,))])
    assert_same(by_pydicom(as_stored(orthanc_web, mask.sop_instance_uid, tmp_path), study), truth)


def test_an_archive_that_does_not_know_label_maps_refuses_them_by_c_store(target: Server, study: Study) -> None:
    mask, *_ = objects(study, LABEL_MAPS["labels"])
    (answer,) = by_store(target, [ObjectFile.read(mask.encoded)])
    assert answer.verdict is Verdict.PERMANENT
    assert "Label Map" in answer.text
