"""One UID is one content: what a kind's objects say of a result may change with the number of its layout only.

Where a test here fails, the objects of that kind have another content than before under the same UID, which archives
take for a conflict: raise the kind's number in `layout` of `schemas/emit.toml` and write the new digest here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ObjectRef, Prior, ReportedLesion, Result, coded
from deeplesion_miner.studies import PatientFacts
from deeplesion_miner.types import Box, ImageRef, Segment
from dicom_io import planes
from dicom_io.content_digest import content_digest
from dicom_io.emit import KINDS, EmitSettings, emit, identity
from dicom_io.emit.source import SourceImages

STUDY, SERIES, IMAGE, FRAME_OF_REFERENCE = "1.2.1", "1.2.2", "1.2.3", "1.2.9"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"
SAID = {
    ("dicom-sr", 1): "f36bd59b934ddd40",
    ("volume-sr", 1): "e5c5368dfb896760",
    ("dicom-seg", 1): "68ca50eb25ebd153",
    ("rtstruct", 1): "17687039ac0cef6e",
    ("gsps", 1): "2af632dc49323584",
    ("kos", 1): "7d3cd1806ea524b6",
}
"""First characters of the digest of what the objects say, by kind and layout."""
FOLLOWED = {1: "d30549b6de5370e5"}
"""The same of a report that tells a follow-up, by the layout of `dicom-sr`."""
WRITTEN_WITH = "0.28"
"""The edition of highdicom that made them: another one may say other things beside ours."""


def source() -> SourceImages:
    """One CT header, written down here so that nothing else changes it."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", IMAGE
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, FRAME_OF_REFERENCE
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "P1", "Doe^Jane"
    ds.PatientBirthDate, ds.PatientSex, ds.StudyDate, ds.StudyTime = "19500101", "F", "20240102", "0304"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "S1", "A1", "Roe^Rita"
    ds.InstanceNumber, ds.SeriesNumber, ds.PositionReferenceIndicator = 1, 2, ""
    ds.Rows, ds.Columns, ds.PixelSpacing, ds.SliceThickness = 32, 32, [0.5, 0.5], "2.5"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.BodyPartExamined = "CHEST"
    headers = planes.headers_of(ds, 1000)
    assert isinstance(headers, tuple)
    return SourceImages({IMAGE: ds}, {IMAGE: headers}, PatientFacts(STUDY, "P1"))


def result() -> Result:
    """All that a result can say."""
    image = ImageRef(STUDY, SERIES, IMAGE)
    lesion = ReportedLesion(
        key="1",
        image=image,
        label="Lesion 1",
        finding=coded("finding", "lesion"),
        site=coded("site", "lung"),
        lesion_type=coded("lesion_type", "target"),
        score=0.75,
        long_axis=Segment((5.0, 10.0), (15.0, 10.0)),
        short_axis=Segment((10.0, 8.0), (10.0, 13.0)),
        box=Box(5.0, 8.0, 15.0, 13.0),
        masks=((image, PixelMask(6, 9, np.ones((4, 8), np.bool_))),),
        volume_mm3=20.0,
        prior=Prior("20230102", 12.0, 6.0, ObjectRef("1.2.4", "1.2.5", "1.2.6", SR_CLASS)),
    )
    author = Author("finder", "1.2", "acme", parameters=(("weights", "ab12"),))
    earlier = (ObjectRef(STUDY, "1.2.7", "1.2.8", SR_CLASS),)
    return Result(STUDY, author, (lesion,), datetime(2024, 5, 6, 7, 8, 9), earlier, coded("response", "PR"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_objects_say_changes_with_the_number_of_their_layout_only(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not highdicom.__version__.startswith(WRITTEN_WITH):
        pytest.skip(f"the digests are those of highdicom {WRITTEN_WITH}, this is {highdicom.__version__}")
    layout = schemas.load("emit")["layout"]
    # UIDs of the others are said, too: they are those of the first layout.
    monkeypatch.setattr(identity, "layout_of", lambda _: "1")
    emission = emit(result(), source(), KINDS, EmitSettings(planar_boxes=True))
    (one,) = (one for one in emission.objects if one.kind == kind)
    assert emission.left_out == ()
    assert content_digest(one.encoded, kind)[:16] == SAID[kind, layout[kind]]


def test_what_reports_say_of_a_follow_up_changes_with_the_number_of_their_layout_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not highdicom.__version__.startswith(WRITTEN_WITH):
        pytest.skip(f"the digests are those of highdicom {WRITTEN_WITH}, this is {highdicom.__version__}")
    layout = schemas.load("emit")["layout"]["dicom-sr"]
    monkeypatch.setattr(identity, "layout_of", lambda _: "1")
    (lesion,) = result().lesions
    told = replace(
        result(),
        lesions=(replace(lesion, prior_note="Candidate"),),
        response_basis="Sums",
        response_notes=("Targets", "Overall"),
    )
    (one,) = emit(told, source(), ("dicom-sr",)).objects
    assert content_digest(one.encoded, "dicom-sr")[:16] == FOLLOWED[layout]


@pytest.mark.parametrize("kind", KINDS)
def test_another_layout_is_another_object_in_another_series(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def uids() -> set[str]:
        (one,) = (one for one in emit(result(), source(), (kind,)).objects if one.kind == kind)
        return {one.sop_instance_uid, one.series_instance_uid}

    before = uids()
    monkeypatch.setattr(identity, "layout_of", lambda _: "2")
    assert uids().isdisjoint(before)


def test_every_kind_has_a_layout() -> None:
    assert set(schemas.load("emit")["layout"]) == set(KINDS)
