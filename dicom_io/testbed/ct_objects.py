"""CT Image, Enhanced CT Image and Secondary Capture objects of phantoms (PS3.3 A.3, A.38, A.8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from deeplesion_miner.types import ImageRef
from dicom_io.testbed.identity import StudyIdentity, write_part10
from dicom_io.testbed.rasteriser import Grid


@dataclass(frozen=True)
class Storing:
    """How pixels are stored: stored value = (HU - intercept); unsigned where the intercept makes that possible."""

    intercept: int = 0
    signed: bool = True
    padding: int | None = None
    """Stored value outside the round field of view."""
    syntax: UID = ExplicitVRLittleEndian


@dataclass(frozen=True)
class SeriesHeader:
    """What the images of one series share."""

    study: StudyIdentity
    key: str
    number: int
    description: str
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    frame_of_reference: str = "table"
    patient_position: str = "HFS"
    thickness_mm: float = 5.0
    windows: tuple[tuple[float, float], ...] = ((40.0, 400.0),)
    """(center, width), HU."""
    tilt_deg: float = 0.0
    kernel: str = "B30f"

    @property
    def series_instance_uid(self) -> str:
        """The Series Instance UID."""
        return self.study.uid("series", self.key)

    @property
    def frame_of_reference_uid(self) -> str:
        """The Frame of Reference UID; series with one name share it."""
        return self.study.uid("frame of reference", self.frame_of_reference)

    def ref(self, instance: int, frame: int = 1) -> ImageRef:
        """The reference to the image with this instance number."""
        sop_instance_uid = self.study.uid("image", self.key, instance)
        return ImageRef(self.study.study_instance_uid, self.series_instance_uid, sop_instance_uid, frame)


def number_text(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2, VR DS)."""
    for digits in range(15, 5, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value!r} does not fit in a decimal string")


def numbers(*values: float) -> list[str]:
    """Decimal strings."""
    return [number_text(value + 0.0) for value in values]


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """A code sequence item (PS3.3 table 8.8-1)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def stored_pixels(hu: NDArray[np.float64], storing: Storing) -> NDArray[np.int16] | NDArray[np.uint16]:
    """Rounded CT numbers as stored values, with padding outside the round field of view where asked for."""
    values = np.rint(hu) - storing.intercept
    if storing.padding is not None:
        rows, columns = hu.shape
        y, x = np.mgrid[0:rows, 0:columns]
        outside = np.hypot((x + 0.5) / columns - 0.5, (y + 0.5) / rows - 0.5) > 0.5
        values[outside] = storing.padding
    return values.astype("<i2" if storing.signed else "<u2")


def encode_frame(pixels: NDArray[np.int16] | NDArray[np.uint16], syntax: UID) -> bytes:
    """One frame in a compressed transfer syntax (PS3.5 annexes G and A.4.3); ValueError for other syntaxes."""
    if syntax == RLELossless:
        # Two segments, most significant bytes first; each row is packed on its own (PS3.5 G.2, G.3.1).
        planes = pixels.view(np.uint8).reshape(*pixels.shape, 2)
        segments = [imagecodecs.packbits_encode(np.ascontiguousarray(planes[:, :, byte])) for byte in (1, 0)]
        padded = [segment + b"\x00" * (len(segment) % 2) for segment in segments]
        offsets = [2, 64, 64 + len(padded[0])] + [0] * 13
        return np.array(offsets, "<u4").tobytes() + b"".join(padded)
    if syntax == JPEGLSLossless:
        # The codec knows unsigned samples only; two's complement words are the same bits.
        return bytes(imagecodecs.jpegls_encode(pixels.view(np.uint16)))
    raise ValueError(f"no encoder for {syntax.name}")


def _set_pixels(image: Dataset, frames: list[NDArray[np.int16] | NDArray[np.uint16]], storing: Storing) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = frames[0].shape
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = int(storing.signed)
    if storing.syntax.is_encapsulated:
        image.PixelData = encapsulate([encode_frame(frame, storing.syntax) for frame in frames])
        image["PixelData"].VR = "OB"
    else:
        image.PixelData = b"".join(frame.tobytes() for frame in frames)
        image["PixelData"].VR = "OW"


def _series_attributes(series: SeriesHeader) -> Dataset:
    image = series.study.attributes()
    image.update(series.study.equipment())
    image.Modality = "CT"
    image.SeriesInstanceUID, image.SeriesNumber = series.series_instance_uid, series.number
    image.SeriesDescription = f"{series.description} CANARYSERIES"
    image.SeriesDate = image.AcquisitionDate = image.ContentDate = series.study.date
    image.SeriesTime = image.AcquisitionTime = image.ContentTime = series.study.time
    image.OperatorsName = "CANARYOPERATOR^Olga"
    image.ProtocolName, image.BodyPartExamined = "CANARYPROTOCOL", "ABDOMEN"
    image.PatientPosition = series.patient_position
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = series.frame_of_reference_uid, ""
    return image


def ct_image(series: SeriesHeader, instance: int, grid: Grid, hu: NDArray[np.float64], storing: Storing) -> Dataset:
    """A CT Image (PS3.3 A.3) of one plane; `instance` is its InstanceNumber."""
    image = _series_attributes(series)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, series.ref(instance).sop_instance_uid
    image.ImageType = list(series.image_type)
    image.InstanceNumber, image.AcquisitionNumber = instance, 1
    image.ImagePositionPatient = numbers(*grid.origin_mm)
    image.ImageOrientationPatient = numbers(*grid.row_dir, *grid.col_dir)
    image.PixelSpacing = numbers(grid.row_spacing_mm, grid.col_spacing_mm)
    image.SliceThickness = number_text(series.thickness_mm)
    image.SliceLocation = number_text(grid.origin_mm[2])
    image.KVP, image.ConvolutionKernel = "120", series.kernel
    image.XRayTubeCurrent, image.ExposureTime = "200", "500"
    image.GantryDetectorTilt = number_text(series.tilt_deg)
    _set_pixels(image, [stored_pixels(hu, storing)], storing)
    if storing.padding is not None:
        image.add_new("PixelPaddingValue", "SS" if storing.signed else "US", storing.padding)
    image.RescaleIntercept, image.RescaleSlope = str(storing.intercept), "1"
    image.RescaleType = "US" if "LOCALIZER" in series.image_type else "HU"
    image.WindowCenter = [number_text(center) for center, _ in series.windows]
    image.WindowWidth = [number_text(width) for _, width in series.windows]
    return image


def enhanced_ct_image(
    series: SeriesHeader, grids: list[Grid], pictures_hu: list[NDArray[np.float64]], storing: Storing
) -> Dataset:
    """An Enhanced CT Image (PS3.3 A.38) whose frames are the planes, in order; all geometry is in functional groups."""
    image = _series_attributes(series)
    for keyword in ("AcquisitionDate", "AcquisitionTime"):
        delattr(image, keyword)
    image.SOPClassUID, image.SOPInstanceUID = EnhancedCTImageStorage, series.ref(1).sop_instance_uid
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.InstanceNumber, image.AcquisitionNumber = 1, 1
    image.AcquisitionDateTime = f"{series.study.date}{series.study.time}"
    image.AcquisitionDuration = 4.0
    image.NumberOfFrames = len(grids)
    _set_pixels(image, [stored_pixels(hu, storing) for hu in pictures_hu], storing)
    image.ContentQualification = "RESEARCH"
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    image.PresentationLUTShape = "IDENTITY"
    image.PixelPresentation, image.VolumetricProperties = "MONOCHROME", "VOLUME"
    image.VolumeBasedCalculationTechnique = "NONE"
    image.AcquisitionContextSequence = Sequence()
    organization = Dataset()
    organization.DimensionOrganizationUID = series.study.uid("dimensions", series.key)
    image.DimensionOrganizationSequence = Sequence([organization])
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer, index.FunctionalGroupPointer = 0x00200032, 0x00209113
    image.DimensionIndexSequence = Sequence([index])
    image.SharedFunctionalGroupsSequence = Sequence([_shared_groups(series, grids[0], storing)])
    image.PerFrameFunctionalGroupsSequence = Sequence(
        _frame_groups(series, number, grid) for number, grid in enumerate(grids, start=1)
    )
    return image


def _group(keyword: str, **elements: object) -> tuple[str, Sequence]:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return keyword, Sequence([item])


def _shared_groups(series: SeriesHeader, grid: Grid, storing: Storing) -> Dataset:
    center, width = series.windows[0]
    region = Sequence([coded("818983003", "SCT", "Abdomen")])
    kernel = {"ConvolutionKernel": series.kernel, "ConvolutionKernelGroup": "BODY"}
    spacing = numbers(grid.row_spacing_mm, grid.col_spacing_mm)
    groups = [
        _group("PixelMeasuresSequence", PixelSpacing=spacing, SliceThickness=number_text(series.thickness_mm)),
        _group("PlaneOrientationSequence", ImageOrientationPatient=numbers(*grid.row_dir, *grid.col_dir)),
        _group("FrameAnatomySequence", AnatomicRegionSequence=region, FrameLaterality="U"),
        _group(
            "PixelValueTransformationSequence",
            RescaleIntercept=str(storing.intercept),
            RescaleSlope="1",
            RescaleType="HU",
        ),
        _group("FrameVOILUTSequence", WindowCenter=number_text(center), WindowWidth=number_text(width)),
        _group(
            "CTImageFrameTypeSequence",
            FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
        ),
        _group(
            "CTAcquisitionTypeSequence",
            AcquisitionType="SEQUENCED",
            ConstantVolumeFlag="NO",
            FluoroscopyFlag="NO",
        ),
        _group(
            "CTAcquisitionDetailsSequence",
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=1.0,
            TotalCollimationWidth=10.0,
            TableHeight="150",
            GantryDetectorTilt="0",
            DataCollectionDiameter="500",
        ),
        _group("CTTableDynamicsSequence", TableSpeed=10.0, TableFeedPerRotation=10.0, SpiralPitchFactor=1.0),
        _group("CTGeometrySequence", DistanceSourceToDetector="1040", DistanceSourceToDataCollectionCenter=570.0),
        _group(
            "CTReconstructionSequence",
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            **kernel,
            ReconstructionDiameter=number_text(grid.columns * grid.col_spacing_mm),
            ReconstructionPixelSpacing=[float(value) for value in spacing],
            ReconstructionAngle=0.0,
            ImageFilter="NONE",
        ),
        _group(
            "CTExposureSequence",
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=200.0,
            ExposureInmAs=100.0,
            ExposureModulationType="NONE",
            CTDIvol=8.0,
            CTDIPhantomTypeCodeSequence=Sequence([coded("113691", "DCM", "IEC Body Dosimetry Phantom")]),
        ),
        _group(
            "CTXRayDetailsSequence",
            KVP="120",
            FocalSpots="1.2",
            FilterType="FLAT",
            FilterMaterial="ALUMINUM",
            CalciumScoringMassFactorDevice=[0.8, 0.8, 0.8],
        ),
    ]
    shared = Dataset()
    for keyword, sequence in groups:
        setattr(shared, keyword, sequence)
    return shared


def _frame_groups(series: SeriesHeader, number: int, grid: Grid) -> Dataset:
    moment = f"{series.study.date}{series.study.time}"
    frame = Dataset()
    for keyword, sequence in (
        _group(
            "FrameContentSequence",
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime=moment,
            FrameAcquisitionDateTime=moment,
            FrameAcquisitionDuration=500.0,
            DimensionIndexValues=[number],
            StackID="1",
            InStackPositionNumber=number,
        ),
        _group("PlanePositionSequence", ImagePositionPatient=numbers(*grid.origin_mm)),
        _group(
            "CTPositionSequence",
            TablePosition=grid.origin_mm[2],
            DataCollectionCenterPatient=[0.0, 0.0, grid.origin_mm[2]],
            ReconstructionTargetCenterPatient=[0.0, 0.0, grid.origin_mm[2]],
        ),
        _group(
            "IrradiationEventIdentificationSequence",
            IrradiationEventUID=series.study.uid("irradiation", series.key),
        ),
    ):
        setattr(frame, keyword, sequence)
    return frame


def dose_screen(series: SeriesHeader) -> Dataset:
    """A dose report as scanners save it: a Secondary Capture that calls itself CT, with patient data in its pixels."""
    image = _series_attributes(series)
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "ProtocolName"):
        delattr(image, keyword)
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, series.ref(1).sop_instance_uid
    image.ConversionType, image.ImageType = "WSD", ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    image.InstanceNumber, image.BurnedInAnnotation = 1, "YES"
    image.PatientOrientation = ""
    page = np.zeros((256, 256), np.uint8)
    for line in range(16, 240, 16):
        # Bars stand for lines of text.
        page[line : line + 8, 16 : 16 + 40 + 8 * (line * 7 % 20)] = 220
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = page.shape
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = page.tobytes()
    image["PixelData"].VR = "OB"
    return image


def projection_hu(planes_hu: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """A localizer's picture: the mean through the body, stretched as scanners show it; (rows, columns)."""
    mean = np.mean(planes_hu, axis=0)
    spread = float(np.ptp(mean)) or math.inf
    return np.asarray((mean - mean.min()) / spread * 1500 - 1000)


def write_image(image: Dataset, path: Path, storing: Storing) -> None:
    """Writes an image in its transfer syntax."""
    write_part10(image, path, storing.syntax)
