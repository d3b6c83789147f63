"""Headers of CT images: one `ImageHeader` a frame, its plane in the patient, and what they say about the patient.

Single-frame images carry their attributes at the top (PS3.3 A.3). Enhanced and legacy converted multi-frame
images carry them in functional groups (C.7.6.16), per frame, else shared by all frames.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from deeplesion_miner import geometry
from deeplesion_miner.studies import PatientFacts
from deeplesion_miner.types import ImageHeader, ImagePlane, ImageRef, Unreadable
from dicom_io.attributes import first, integer, items, number, numbers, quiet, text, texts

MAX_FRAMES = 65_536
"""An object that claims more frames than this is broken: a header would be made for each."""
DAYS_OF_UNIT = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}


def headers_of(ds: Dataset, size_bytes: int) -> tuple[ImageHeader, ...] | Unreadable:
    """One header a frame, in the order of the frames. `size_bytes`: size of the whole encoded object.

    Unreadable where the object has no identity (missing_attribute) or its frames cannot be counted (bad_value).
    Geometry that is not usable stands as Unreadable (bad_geometry) in the header's plane.
    """
    with quiet():
        for keyword, tag in (("SOPInstanceUID", "(0008,0018)"), ("StudyInstanceUID", "(0020,000D)")):
            if not text(ds, keyword):
                named = text(ds, "SOPInstanceUID")
                return Unreadable(named, "missing_attribute", detail=f"{keyword} {tag} is missing or empty")
        frames = _frame_count(ds)
        if isinstance(frames, Unreadable):
            return frames
        common = _Common.of(ds, frames, size_bytes)
        return tuple(_header(FrameAttributes.of(ds, number), number, common) for number in range(1, frames + 1))


def patient_of(ds: Dataset) -> PatientFacts:
    """What any object says about patient and study; '' for what it does not say."""
    with quiet():
        return PatientFacts(
            study_instance_uid=text(ds, "StudyInstanceUID"),
            patient_id=text(ds, "PatientID"),
            issuer_of_patient_id=text(ds, "IssuerOfPatientID"),
            patient_sex=text(ds, "PatientSex"),
            patient_birth_date=text(ds, "PatientBirthDate"),
            study_date=text(ds, "StudyDate"),
            study_time=text(ds, "StudyTime"),
        )


@dataclass(frozen=True)
class FrameAttributes:
    """Where the attributes of one frame are looked up: per-frame groups, shared groups, the data set itself."""

    groups: tuple[Dataset, ...]
    ds: Dataset

    @classmethod
    def of(cls, ds: Dataset, frame_number: int) -> FrameAttributes:
        """Of the frame with this number (1-based)."""
        per_frame = items(ds, "PerFrameFunctionalGroupsSequence")
        own = per_frame[frame_number - 1 : frame_number]
        return cls((*own, *items(ds, "SharedFunctionalGroupsSequence")[:1]), ds)

    def holder(self, macro: str, keyword: str) -> Dataset:
        """The data set that holds `keyword`: the macro's item of the frame, of all frames, else the top."""
        for group in self.groups:
            found = first(group, macro)
            if found is not None and keyword in found:
                return found
        return self.ds


@dataclass(frozen=True)
class _Common:
    """What all frames of an object share."""

    ref: ImageRef
    sop_class_uid: str
    modality: str
    frames: int
    size_bytes: int
    sex: str
    age_years: int | None

    @classmethod
    def of(cls, ds: Dataset, frames: int, size_bytes: int) -> _Common:
        ref = ImageRef(text(ds, "StudyInstanceUID"), text(ds, "SeriesInstanceUID"), text(ds, "SOPInstanceUID"))
        return cls(
            ref=ref,
            sop_class_uid=text(ds, "SOPClassUID"),
            modality=text(ds, "Modality"),
            frames=frames,
            size_bytes=size_bytes,
            sex=text(ds, "PatientSex"),
            age_years=age_years(text(ds, "PatientAge"), text(ds, "PatientBirthDate"), text(ds, "StudyDate")),
        )


def _header(frame: FrameAttributes, frame_number: int, common: _Common) -> ImageHeader:
    ds, ref = frame.ds, common.ref
    frame_type = texts(frame.holder("CTImageFrameTypeSequence", "FrameType"), "FrameType")
    return ImageHeader(
        ref=ImageRef(ref.study_instance_uid, ref.series_instance_uid, ref.sop_instance_uid, frame_number),
        sop_class_uid=common.sop_class_uid,
        modality=common.modality,
        image_type=frame_type or texts(ds, "ImageType"),
        plane=_plane(frame, ref.sop_instance_uid),
        instance_number=integer(ds, "InstanceNumber"),
        series_number=integer(ds, "SeriesNumber"),
        number_of_frames=common.frames,
        window=_window(frame.holder("FrameVOILUTSequence", "WindowCenter")),
        patient_sex=common.sex,
        patient_age_years=common.age_years,
        burned_in_annotation=text(ds, "BurnedInAnnotation").upper() == "YES",
        manufacturer=text(ds, "Manufacturer"),
        convolution_kernel=_kernel(frame),
        kvp=number(frame.holder("CTXRayDetailsSequence", "KVP"), "KVP"),
        size_bytes=common.size_bytes,
    )


def _frame_count(ds: Dataset) -> int | Unreadable:
    listed = len(items(ds, "PerFrameFunctionalGroupsSequence"))
    stated = integer(ds, "NumberOfFrames")
    if stated is None:
        stated = listed or 1
    if not 1 <= stated <= MAX_FRAMES or (listed and listed != stated):
        found = f"NumberOfFrames (0028,0008) is {stated}"
        also = f", PerFrameFunctionalGroupsSequence (5200,9230) has {listed} items" if listed else ""
        return Unreadable(text(ds, "SOPInstanceUID"), "bad_value", detail=f"{found}{also}; repair it at its source")
    return stated


def _plane(frame: FrameAttributes, source: str) -> ImagePlane | Unreadable:
    try:
        return geometry.plane_of(
            _needed(frame, "PlanePositionSequence", "ImagePositionPatient", "position"),
            _needed(frame, "PlaneOrientationSequence", "ImageOrientationPatient", "orientation"),
            _needed(frame, "PixelMeasuresSequence", "PixelSpacing", "spacing"),
            integer(frame.ds, "Rows"),
            integer(frame.ds, "Columns"),
            frame_of_reference_uid=text(frame.ds, "FrameOfReferenceUID"),
            slice_thickness_mm=number(frame.holder("PixelMeasuresSequence", "SliceThickness"), "SliceThickness"),
        )
    except geometry.BadGeometry as problem:
        return Unreadable(source, "bad_geometry", (("what", problem.what),), f"{problem}; repair it at its source")


def _needed(frame: FrameAttributes, macro: str, keyword: str, what: str) -> tuple[float, ...] | None:
    """The values of a geometric attribute, None where there are none; BadGeometry where they are no numbers."""
    found = numbers(frame.holder(macro, keyword), keyword)
    if found is None:
        raise geometry.BadGeometry(what, f"{keyword} holds what is no number")
    return found or None


def _window(holder: Dataset) -> tuple[float, float] | None:
    """Low and high bound of the first window (PS3.3 C.11.2.1.2, linear); None where it is absent or has no width."""
    centre, width = number(holder, "WindowCenter"), number(holder, "WindowWidth")
    if centre is None or width is None or not width > 0:
        return None
    return (centre - width / 2, centre + width / 2)


def _kernel(frame: FrameAttributes) -> str:
    holder = frame.holder("CTReconstructionSequence", "ConvolutionKernel")
    return "\\".join(texts(holder, "ConvolutionKernel"))


def age_years(age: str, birth_date: str, study_date: str) -> int | None:
    """Completed years from an age string (PS3.5 AS: '053Y', '011M'), else from two dates; None where neither says."""
    if len(age) == 4 and age[:3].isdigit() and age[3].upper() in DAYS_OF_UNIT:
        unit = age[3].upper()
        return int(age[:3]) if unit == "Y" else int(int(age[:3]) * DAYS_OF_UNIT[unit] / DAYS_OF_UNIT["Y"] + 1e-9)
    born, seen = _digits(birth_date), _digits(study_date)
    if len(born) != 8 or len(seen) != 8 or seen < born:
        return None
    return int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:])


def _digits(date: str) -> str:
    """A date without the dots of the old form (PS3.5 DA: '1999.05.24')."""
    return date.replace(".", "") if date.replace(".", "").isdigit() else ""
