"""RT Structure Sets (PS3.3 A.19): one region of interest a lesion, as a gross tumour volume.

Contours run along the edges of the mask's pixels; a hole hangs on its part by a channel without width (the keyhole
technique of C.8.8.6.3), which more readers know than CLOSEDPLANAR_XOR. One object a series, as of segmentations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from deeplesion_miner import geometry
from deeplesion_miner.contours import Polygon, keyholed
from deeplesion_miner.results import Result
from deeplesion_miner.types import ImagePlane, ImageRef
from dicom_io.emit import envelope
from dicom_io.emit.colours import rgb
from dicom_io.emit.emitting import EmitSettings, Written
from dicom_io.emit.identity import object_uid, series_uid
from dicom_io.emit.masked import MaskedLesion, MaskGroup, grouped
from dicom_io.emit.source import SourceImages
from dicom_io.emit.wording import SHORT_STRING, one_line, person_name

KIND = "rtstruct"
DECIMALS = 4
"""Of a coordinate in millimetres: a ten-thousandth is far below what a pixel's edge needs, and fits into a DS."""
LONGEST_EXPLICIT_BYTES = 65_534
"""Of a DS in explicit VR, whose length has 16 bits (PS3.5 7.1.2); more would be written as UN, which viewers skip."""
STUDY_COMPONENT_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management (retired): what PS3.3 C.8.8.5 has writers state as the class of the referenced study."""


def write(result: Result, source: SourceImages, _settings: EmitSettings, _before: Mapping[str, Dataset]) -> Written:
    """Structure sets by series, the lesions without a usable mask left out."""
    groups, left_out = grouped(result, source, KIND)
    return tuple(_written(group, result, source) for group in groups), left_out


def _written(group: MaskGroup, result: Result, source: SourceImages) -> Dataset:
    image = source.dataset(next(iter(group.planes)))
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = object_uid(KIND, result, group.key)
    found.Modality = "RTSTRUCT"
    found.SeriesInstanceUID = series_uid(KIND, result, group.key)
    found.SeriesNumber = envelope.SERIES_NUMBERS[KIND]
    found.SeriesDescription = "Lesions (contours)"
    found.OperatorsName = ""
    found.FrameOfReferenceUID = next(iter(group.planes.values())).frame_of_reference_uid
    found.PositionReferenceIndicator = image.get("PositionReferenceIndicator", "")
    envelope.put_patient_and_study(found, image)
    envelope.put_equipment(found)
    envelope.put_times(found, result)
    _without_content_time(found)
    _put_structure_set(found, group, result, source)
    _put_contours(found, group, source)
    _put_observations(found, group, result)
    if _longest_contour_bytes(found) > LONGEST_EXPLICIT_BYTES:
        found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return found


def _without_content_time(found: Dataset) -> None:
    """A structure set has a date and a time of its own, and no content's."""
    found.StructureSetDate, found.StructureSetTime = found.ContentDate, found.ContentTime
    del found.ContentDate
    del found.ContentTime


def _put_structure_set(found: Dataset, group: MaskGroup, result: Result, source: SourceImages) -> None:
    """Label, the images that it lies on and its regions (PS3.3 C.8.8.5)."""
    found.InstanceNumber = 1
    found.StructureSetLabel = "LESIONS"
    found.StructureSetName = "Lesions"
    found.ReferencedFrameOfReferenceSequence = [_frame_of_reference(group, source)]
    found.StructureSetROISequence = [
        _region(number, masked, group, result) for number, masked in enumerate(group.lesions, start=1)
    ]


def _frame_of_reference(group: MaskGroup, source: SourceImages) -> Dataset:
    first = next(iter(group.planes))
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.dataset(first).SeriesInstanceUID
    series.ContourImageSequence = [_reference(image, group, source) for image in group.planes]
    study.ReferencedSOPClassUID = STUDY_COMPONENT_MANAGEMENT
    study.ReferencedSOPInstanceUID = source.dataset(first).StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = group.planes[first].frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(image: ImageRef, group: MaskGroup, source: SourceImages) -> Dataset:
    found = Dataset()
    found.ReferencedSOPClassUID = source.dataset(image).SOPClassUID
    found.ReferencedSOPInstanceUID = image.sop_instance_uid
    if group.is_multi_frame:
        found.ReferencedFrameNumber = image.frame_number
    return found


def _region(number: int, masked: MaskedLesion, group: MaskGroup, result: Result) -> Dataset:
    found = Dataset()
    found.ROINumber = number
    found.ReferencedFrameOfReferenceUID = next(iter(group.planes.values())).frame_of_reference_uid
    found.ROIName = masked.label
    found.ROIGenerationAlgorithm = "AUTOMATIC" if result.author.is_algorithm else "MANUAL"
    return found


def _put_contours(found: Dataset, group: MaskGroup, source: SourceImages) -> None:
    """The closed contours of each region, from head to feet (PS3.3 C.8.8.6)."""
    found.ROIContourSequence = []
    for number, masked in enumerate(group.lesions, start=1):
        item = Dataset()
        item.ROIDisplayColor = rgb(number)
        item.ReferencedROINumber = number
        item.ContourSequence = list(_contours(masked, group, source))
        found.ROIContourSequence.append(item)


def _longest_contour_bytes(found: Dataset) -> int:
    """Length of the longest ContourData as it is written, without padding."""
    contours = (contour for item in found.ROIContourSequence for contour in item.ContourSequence)
    return max((sum(len(str(one)) + 1 for one in contour.ContourData) - 1 for contour in contours), default=0)


def _contours(masked: MaskedLesion, group: MaskGroup, source: SourceImages) -> Iterator[Dataset]:
    order = list(group.planes)
    polygons = (
        (image, polygon)
        for image, mask in sorted(masked.masks, key=lambda one: order.index(one[0]))
        for polygon in keyholed(mask)
    )
    for number, (image, polygon) in enumerate(polygons, start=1):
        found = Dataset()
        found.ContourNumber = number
        found.ContourImageSequence = [_reference(image, group, source)]
        found.ContourGeometricType = "CLOSED_PLANAR"
        found.NumberOfContourPoints = len(polygon)
        found.ContourData = _coordinates(polygon, group.planes[image])
        yield found


def _coordinates(polygon: Polygon, plane: ImagePlane) -> list[str]:
    """x, y, z of each point in LPS millimetres."""
    return [_decimal(value) for point in polygon for value in geometry.to_patient_mm(plane, point)]


def _decimal(value_mm: float) -> str:
    # Adding zero makes minus zero zero.
    return f"{round(value_mm, DECIMALS) + 0.0:.{DECIMALS}f}".rstrip("0").rstrip(".")


def _put_observations(found: Dataset, group: MaskGroup, result: Result) -> None:
    """Each region is a gross tumour volume (PS3.3 C.8.8.8)."""
    found.RTROIObservationsSequence = []
    for number, masked in enumerate(group.lesions, start=1):
        item = Dataset()
        item.ObservationNumber = number
        item.ReferencedROINumber = number
        item.ROIObservationLabel = one_line(masked.label, SHORT_STRING)
        item.RTROIInterpretedType = "GTV"
        item.ROIInterpreter = "" if result.author.is_algorithm else person_name(result.author.name)
        found.RTROIObservationsSequence.append(item)
