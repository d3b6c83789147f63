"""Headers for highdicom of the images that masks and marks lie on: geometry and identity, nothing of the scanner.

highdicom copies whole modules from its source images; what is not here cannot be copied.
"""

from __future__ import annotations

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from deeplesion_miner.types import ImageRef
from dicom_io.emit.masked import MaskGroup
from dicom_io.emit.source import SourceImages, is_multi_frame
from dicom_io.planes import FrameAttributes

IDENTITY = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
            "PositionReferenceIndicator", "Modality", "Rows", "Columns",
            "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")  # fmt: skip
ORIENTATION = ("PlaneOrientationSequence", "ImageOrientationPatient")
POSITION = ("PlanePositionSequence", "ImagePositionPatient")
SPACING = ("PixelMeasuresSequence", "PixelSpacing")
THICKNESS = ("PixelMeasuresSequence", "SliceThickness")
ASKED_FOR = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
             "StudyTime")  # fmt: skip
"""What highdicom asks every source image for; `envelope` puts the archive's own values in at the end."""


def bare(image: Dataset) -> Dataset:
    """Identity, size and frame of reference of an image, and empty patient and study attributes.

    highdicom tells multi-frame images by their class, and knows only some: each is called CT or enhanced CT here, until
    `put_classes` says what they are.
    """
    found = Dataset()
    found.SOPClassUID, found.SamplesPerPixel = CTImageStorage, 1
    if is_multi_frame(image):
        found.SOPClassUID, found.NumberOfFrames = EnhancedCTImageStorage, len(image.PerFrameFunctionalGroupsSequence)
    for keyword in IDENTITY:
        if keyword in image:
            found[keyword] = image[keyword]
    for keyword in ASKED_FOR:
        setattr(found, keyword, None)
    return found


def of_group(group: MaskGroup, source: SourceImages) -> list[Dataset]:
    """The images of a group with their geometry, one for each plane.

    Of a multi-frame image a single header comes back, as if it held the frames with a mask and no other ones: highdicom
    wants distinct positions of all frames, which need not have any. `put_frame_numbers` says later which they are.
    """
    images = tuple(group.planes)
    first = source.dataset(images[0])
    if group.is_multi_frame:
        return [_multi_frame(first, images)]
    return [_single_frame(source.dataset(image), first) for image in images]


def put_classes(derived: Dataset, source: SourceImages) -> None:
    """In all references to images of the source: their own classes."""

    def put(holder: Dataset, element: DataElement) -> None:
        if element.keyword == "ReferencedSOPInstanceUID" and element.value in source.datasets:
            holder.ReferencedSOPClassUID = source.datasets[element.value].SOPClassUID

    derived.walk(put)


def put_frame_numbers(derived: Dataset, group: MaskGroup) -> None:
    """In frames derived from the header of a multi-frame image: the numbers that its frames have in the archive."""
    numbers = [image.frame_number for image in group.planes]
    frames = derived.PerFrameFunctionalGroupsSequence
    images = [image for frame in frames for image in frame.DerivationImageSequence[0].SourceImageSequence]
    # Segments of one plane share their item.
    for image in {id(image): image for image in images}.values():
        image.ReferencedFrameNumber = numbers[image.ReferencedFrameNumber - 1]


def _single_frame(image: Dataset, first: Dataset) -> Dataset:
    found = bare(image)
    _put(found, first, ORIENTATION, SPACING, THICKNESS)
    _put(found, image, POSITION)
    if "SliceThickness" not in found:
        found.SliceThickness = None  # highdicom asks for it, present or not
    return found


def _multi_frame(image: Dataset, masked: tuple[ImageRef, ...]) -> Dataset:
    found = bare(image)
    found.NumberOfFrames = len(masked)
    frames = [FrameAttributes.of(image, one.frame_number) for one in masked]
    found.SharedFunctionalGroupsSequence = [_macros(frames[0], ORIENTATION, SPACING, THICKNESS)]
    found.PerFrameFunctionalGroupsSequence = [_macros(frame, POSITION) for frame in frames]
    return found


def _put(found: Dataset, image: Dataset, *attributes: tuple[str, str]) -> None:
    frame = FrameAttributes.of(image, 1)
    for macro, keyword in attributes:
        holder = frame.holder(macro, keyword)
        if keyword in holder:
            found[keyword] = holder[keyword]


def _macros(frame: FrameAttributes, *attributes: tuple[str, str]) -> Dataset:
    found = Dataset()
    for macro, keyword in attributes:
        holder = frame.holder(macro, keyword)
        if keyword in holder:
            if macro not in found:
                setattr(found, macro, [Dataset()])
            found[macro].value[0][keyword] = holder[keyword]
    return found
