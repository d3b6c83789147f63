"""Whether an archive keeps our object: what it may coerce makes no other one of it, a word of its content does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import BytesIO

import pytest
from little_objects import ct, sr
from placed import place
from pydicom import dcmread, dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

import schemas
from dicom_io.attributes import quiet
from dicom_io.comparison import differs
from dicom_io.object_file import ObjectFile


def report() -> Dataset:
    dataset = sr(1)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller^A"
    dataset.ContentSequence[0].TextValue = "gr\N{LATIN SMALL LETTER O WITH DIAERESIS}\N{LATIN SMALL LETTER SHARP S}er"
    return dataset


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    with quiet():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def kept(change: Callable[[Dataset], None], own: Dataset) -> bool | None:
    """What is said of an archive that changes the object when it stores it."""
    theirs = dcmread(BytesIO(encoded(own)))
    change(theirs)
    return differs(lambda placed: encoded(theirs), place(own), ObjectFile.read(encoded(own)))


def in_utf_8(dataset: Dataset) -> None:
    dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"


def private(dataset: Dataset) -> None:
    dataset.private_block(0x0099, "SOME ARCHIVE", create=True).add_new(1, "LO", "stored at noon")


def described(dataset: Dataset) -> None:
    dataset.PatientName, dataset.PatientSex, dataset.AccessionNumber = "Muller^Anna", "", "A77"
    dataset.StudyDescription = "CT of the chest"
    del dataset.ReferringPhysicianName


def of_the_archive(dataset: Dataset) -> None:
    dataset.RetrieveURL, dataset.RetrieveAETitle = "https://archive/studies/1", "ARCHIVE"
    dataset.InstanceAvailability = "ONLINE"


def in_another_syntax(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (in_utf_8, "SpecificCharacterSet"),
        (private, "private attributes"),
        (described, "AccessionNumber, PatientName, PatientSex, ReferringPhysicianName, StudyDescription"),
        (of_the_archive, "InstanceAvailability, RetrieveAETitle, RetrieveURL"),
        (in_another_syntax, ""),
        (lambda dataset: None, ""),
    ],
)
def test_what_an_archive_may_coerce_leaves_our_object_ours_and_is_told_by_name(
    change: Callable[[Dataset], None], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="dicom_io.comparison"):
        assert kept(change, report()) is False
    assert "ller" not in caplog.text, "no values"
    assert caplog.text.strip().endswith(f"is ours, but for what archives may change: {told}" if told else "")


def another_word(dataset: Dataset) -> None:
    dataset.ContentSequence[0].TextValue = "kleiner"


def another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "P2"


def another_character(dataset: Dataset) -> None:
    """The bytes stay and mean something else."""
    dataset.decode()
    dataset.ContentSequence[0].TextValue = report().ContentSequence[0].TextValue.encode("latin-1").decode("iso8859_5")
    dataset.PatientName = "M"
    dataset.SpecificCharacterSet = "ISO_IR 144"


def less(dataset: Dataset) -> None:
    del dataset.ContentSequence


def more(dataset: Dataset) -> None:
    dataset.ContentLabel = "MORE"


def private_within(dataset: Dataset) -> None:
    private(dataset.ContentSequence[0])


def with_images_and_points(*, moved: str = "") -> Dataset:
    """A report whose elements are the same and in the same order, two of them in other items where they moved."""
    dataset = report()
    content, image, other, child = dataset.ContentSequence[0], Dataset(), Dataset(), Dataset()
    image.ReferencedFrameNumber, child.TextValue = 3, "x"
    (image if moved == "between items" else other).ReferencedSegmentNumber = 5
    (child if moved == "into a child" else content).GraphicData = [1.0, 2.0]
    content.ReferencedImageSequence, content.ContentSequence = [image, other], [child]
    return dataset


@pytest.mark.parametrize("moved", ["between items", "into a child"])
def test_what_moved_to_another_item_is_another_content(moved: str) -> None:
    own, theirs = with_images_and_points(), with_images_and_points(moved=moved)
    assert differs(lambda placed: encoded(own), place(own), ObjectFile.read(encoded(own))) is False
    assert differs(lambda placed: encoded(theirs), place(own), ObjectFile.read(encoded(own))) is True


@pytest.mark.parametrize("change", [another_word, another_patient, another_character, less, more, private_within])
def test_another_content_is_another_object(change: Callable[[Dataset], None]) -> None:
    assert kept(change, report()) is True


def test_private_attributes_of_ours_that_changed_are_another_content() -> None:
    own = report()
    private(own)

    def later(dataset: Dataset) -> None:
        dataset.private_block(0x0099, "SOME ARCHIVE")[1].value = "stored at midnight"

    assert kept(later, own) is True


def test_other_pixels_are_another_object() -> None:
    def inverted(dataset: Dataset) -> None:
        dataset.PixelData = bytes(255 - one for one in dataset.PixelData)

    assert kept(inverted, ct(1, 1)) is True
    assert kept(described, ct(1, 1)) is False


def test_an_archives_pixels_that_cannot_be_decoded_are_no_proof_of_a_difference(
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = ct(1, 1)
    theirs.compress(RLELossless, generate_instance_uid=False)
    theirs.PixelData = encapsulate([b"no RLE header"])
    theirs["PixelData"].is_undefined_length = True
    assert differs(lambda placed: encoded(theirs), place(ct(1, 1)), ObjectFile.read(encoded(ct(1, 1)))) is None
    assert "its content cannot be compared" in caplog.text


def test_the_same_is_told_once_of_many_objects(caplog: pytest.LogCaptureFixture) -> None:
    own = report()
    theirs = dcmread(BytesIO(encoded(own)))
    described(theirs)
    told: set[frozenset[str]] = set()
    for _ in range(3):
        assert differs(lambda placed: encoded(theirs), place(own), ObjectFile.read(encoded(own)), told) is False
    assert len(caplog.records) == 1


def test_what_may_be_coerced_are_keywords_of_the_standard_and_neither_uids_nor_the_patients_number() -> None:
    keywords = [keyword for group in schemas.load("coercion").values() for keyword in group]
    assert len(keywords) == len(set(keywords))
    assert [one for one in keywords if tag_for_keyword(one) is None] == []
    assert "PatientID" not in keywords
    assert [one for one in keywords if one.endswith("InstanceUID")] == []
