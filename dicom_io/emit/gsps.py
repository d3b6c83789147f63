"""Grayscale softcopy presentation states (PS3.3 A.33.1): crosses and labels for viewers without reports.

One object for the images of a series that share size, spacing and modality LUT, which hold for a whole state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from highdicom import ModalityLUTTransformation, ReferencedImageSequence
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextJustificationValues,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from deeplesion_miner import geometry
from deeplesion_miner.results import ReportedLesion, Result
from deeplesion_miner.types import Box, ImagePlane, ImageRef, Point, Unreadable
from dicom_io.attributes import number, quiet, text
from dicom_io.emit import envelope, grid_headers
from dicom_io.emit.colours import colour
from dicom_io.emit.emitting import EmitSettings, LeftOut, Written
from dicom_io.emit.identity import object_uid, series_uid, tracking_uid
from dicom_io.emit.source import SourceImages, is_multi_frame
from dicom_io.emit.wording import LONG_STRING, one_line, person_name
from dicom_io.planes import FrameAttributes

KIND = "gsps"
SOFT_TISSUE_HU = (-160.0, 240.0)
"""Low and high bound of the window for images that state none: without one a viewer would show the whole range."""
TEXT_PX = (160.0, 16.0)
"""Width and height of the box that a viewer may fit a text into."""
TEXT_DISTANCE_PX = 4.0

Lines: TypeAlias = tuple[tuple[Point, ...], ...]
"""Each through its points; in pixels of the core's convention."""
_Sheet: TypeAlias = tuple[str, str, tuple[int, int], tuple[float, float], tuple[float | None, float | None, str]]
"""Series, object if multi-frame, rows and columns, spacings, rescale slope, intercept and type."""


def write(result: Result, source: SourceImages, _settings: EmitSettings, _before: Mapping[str, Dataset]) -> Written:
    """Presentation states by series; lesions with neither axes nor box are left out."""
    left_out: list[LeftOut] = []
    sheets: dict[_Sheet, list[ReportedLesion]] = defaultdict(list)
    for lesion in result.lesions:
        why = _unfit(lesion, source)
        if why:
            left_out.append(LeftOut(lesion.key, lesion.label, KIND, why))
        else:
            sheets[_sheet(lesion.image, source)].append(lesion)
    with quiet():
        found = tuple(_written(sheet, sheets[sheet], result, source) for sheet in sorted(sheets, key=repr))
    return found, tuple(left_out)


def lines_of(lesion: ReportedLesion, plane: ImagePlane) -> Lines:
    """Both axes; of a lesion without any its box, which is clipped to the image."""
    axes = tuple((axis.start, axis.end) for axis in (lesion.long_axis, lesion.short_axis) if axis is not None)
    if axes or lesion.box is None:
        return axes
    box = _clipped(lesion.box, plane)
    corners = ((box.x_min, box.y_min), (box.x_max, box.y_min), (box.x_max, box.y_max), (box.x_min, box.y_max))
    return ((*corners, corners[0]),)


def _clipped(box: Box, plane: ImagePlane) -> Box:
    return Box(
        max(box.x_min, -0.5),
        max(box.y_min, -0.5),
        min(box.x_max, plane.columns - 0.5),
        min(box.y_max, plane.rows - 0.5),
    )


def _unfit(lesion: ReportedLesion, source: SourceImages) -> str:
    """Why a lesion cannot be drawn, a code of `schemas/emit.toml` left_out; '' where it can."""
    if lesion.image not in source:
        return "image_missing"
    if not text(source.dataset(lesion.image), "SOPClassUID"):
        return "no_sop_class"
    plane = source.plane(lesion.image)
    if isinstance(plane, Unreadable):
        return "bad_geometry"
    lines = lines_of(lesion, plane)
    if not lines:
        return "nothing_drawn"
    return "" if all(geometry.is_inside(plane, point) for line in lines for point in line) else "outside_image"


def _plane(image: ImageRef, source: SourceImages) -> ImagePlane:
    plane = source.plane(image)
    assert isinstance(plane, ImagePlane)
    return plane


def _sheet(image: ImageRef, source: SourceImages) -> _Sheet:
    dataset, plane = source.dataset(image), _plane(image, source)
    rescale = FrameAttributes.of(dataset, image.frame_number).holder(
        "PixelValueTransformationSequence", "RescaleIntercept"
    )
    return (
        text(dataset, "SeriesInstanceUID"),
        image.sop_instance_uid if is_multi_frame(dataset) else "",
        (plane.rows, plane.columns),
        (plane.row_spacing_mm, plane.col_spacing_mm),
        (number(rescale, "RescaleSlope"), number(rescale, "RescaleIntercept"), text(rescale, "RescaleType")),
    )


def _written(sheet: _Sheet, lesions: list[ReportedLesion], result: Result, source: SourceImages) -> Dataset:
    named = str(sheet)
    images = sorted({lesion.image for lesion in lesions})
    headers = {uid: _header(source.datasets[uid]) for uid in sorted({image.sop_instance_uid for image in images})}
    found = GrayscaleSoftcopyPresentationState(
        referenced_images=list(headers.values()),
        series_instance_uid=series_uid(KIND, result, named),
        series_number=envelope.SERIES_NUMBERS[KIND],
        sop_instance_uid=object_uid(KIND, result, named),
        instance_number=1,
        manufacturer=envelope.MANUFACTURER,
        manufacturer_model_name=envelope.MODEL_NAME,
        software_versions=envelope.software_version(),
        device_serial_number="0",
        content_label="LESIONS",
        content_description="Axes of lesions",
        content_creator_name="" if result.author.is_algorithm else person_name(result.author.name),
        graphic_layers=[_layer()],
        graphic_annotations=[
            _annotation(sheet, lesion, headers[lesion.image.sop_instance_uid], result, source) for lesion in lesions
        ],
        modality_lut_transformation=_modality_lut(sheet),
        voi_lut_transformations=_windows(sheet, images, headers, source),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="Lesions (presentation state)",
    )
    envelope.put_patient_and_study(found, source.dataset(images[0]))
    envelope.put_equipment(found)
    envelope.put_times(found, result)
    grid_headers.put_classes(found, source)
    _put_presentation(found, sheet)
    _put_body_part(found, source.dataset(images[0]))
    return found


def _header(image: Dataset) -> Dataset:
    found = grid_headers.bare(image)
    found.SharedFunctionalGroupsSequence = [Dataset()]
    return found


def _put_presentation(found: GrayscaleSoftcopyPresentationState, sheet: _Sheet) -> None:
    """Times and spacing as the IOD has them (PS3.3 C.10.4, C.11.10); nothing is said of highdicom."""
    found.PresentationCreationDate, found.PresentationCreationTime = found.ContentDate, found.ContentTime
    for keyword in ("ContentDate", "ContentTime", "ContributingEquipmentSequence"):
        found.pop(keyword, None)
    (area,) = found.DisplayedAreaSelectionSequence
    area.pop("PixelOriginInterpretation", None)
    area.pop("PresentationPixelAspectRatio", None)
    area.PresentationPixelSpacing = list(sheet[3])


def _put_body_part(found: Dataset, image: Dataset) -> None:
    """Laterality is asked for unless the body part has none (PS3.3 C.7.3.1): both as the images' series states them."""
    for keyword in ("BodyPartExamined", "Laterality"):
        if keyword in image:
            found[keyword] = image[keyword]
    if not text(found, "BodyPartExamined"):
        found.setdefault("Laterality", "")


def _modality_lut(sheet: _Sheet) -> ModalityLUTTransformation | None:
    slope, intercept, rescale_type = sheet[4]
    if slope is None or intercept is None:
        return None
    return ModalityLUTTransformation(intercept, slope, rescale_type or "US")


def _frames(sheet: _Sheet, numbers: list[int]) -> list[int] | None:
    """Frame numbers as a reference states them: of multi-frame images only."""
    return numbers if sheet[1] else None


def _windows(
    sheet: _Sheet, images: list[ImageRef], headers: Mapping[str, Dataset], source: SourceImages
) -> list[SoftcopyVOILUTTransformation]:
    """The first window of each image, else one for soft tissue; images of one window share an item."""
    by_window: dict[tuple[float, float], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        header = source.headers[image.sop_instance_uid][image.frame_number - 1]
        by_window[header.window or SOFT_TISSUE_HU][image.sop_instance_uid].append(image.frame_number)
    return [
        SoftcopyVOILUTTransformation(
            window_center=(low + high) / 2,
            window_width=high - low,
            referenced_images=ReferencedImageSequence(
                [headers[uid] for uid in sorted(by_uid)], _frames(sheet, next(iter(by_uid.values())))
            ),
        )
        for (low, high), by_uid in sorted(by_window.items())
    ]


def _annotation(
    sheet: _Sheet, lesion: ReportedLesion, header: Dataset, result: Result, source: SourceImages
) -> GraphicAnnotation:
    plane = _plane(lesion.image, source)
    lines = [[geometry.centre_to_corner(point) for point in line] for line in lines_of(lesion, plane)]
    label, uid = one_line(lesion.label, LONG_STRING) or "Lesion", tracking_uid(result, lesion)
    return GraphicAnnotation(
        referenced_images=[header],
        referenced_frame_number=_frames(sheet, [lesion.image.frame_number]),
        graphic_layer=_layer(),
        graphic_objects=[
            GraphicObject(GraphicTypeValues.POLYLINE, np.array(line), AnnotationUnitsValues.PIXEL, False, label, uid)
            for line in lines
        ],
        text_objects=[
            TextObject(
                _said(label, lesion, plane),
                AnnotationUnitsValues.PIXEL,
                bounding_box=_text_box(lines, plane),
                anchor_point=lines[0][1],
                text_justification=TextJustificationValues.LEFT,
                anchor_point_visible=False,
                tracking_id=label,
                tracking_uid=uid,
            )
        ],
    )


def _layer() -> GraphicLayer:
    return GraphicLayer("LESIONS", 1, description="Lesions", display_color=colour(1))


def _said(label: str, lesion: ReportedLesion, plane: ImagePlane) -> str:
    """The label with the lengths of the axes that are drawn."""
    axes = (axis for axis in (lesion.long_axis, lesion.short_axis) if axis is not None)
    lengths = " x ".join(f"{geometry.length_mm(plane, axis):.1f}" for axis in axes)
    return f"{label}: {lengths} mm" if lengths else label


def _text_box(lines: list[list[Point]], plane: ImagePlane) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the text's place: right of the lines, moved into the image where that is outside.

    Corners as PIXEL units count them (PS3.3 C.10.5.1): the image reaches from 0 to its columns and rows.
    """
    width, height = min(TEXT_PX[0], plane.columns / 2), min(TEXT_PX[1], plane.rows / 2)
    right_of = max(column for line in lines for column, _ in line) + TEXT_DISTANCE_PX
    top_of = min(row for line in lines for _, row in line)
    left, top = min(right_of, plane.columns - width), min(top_of, plane.rows - height)
    return (left, top, left + width, top + height)
