"""Segmentations (PS3.3 A.51; label maps A.51 too): one segment a lesion, frames only where it has pixels.

One object a series, or a multi-frame image: highdicom, like most readers, takes the images of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import format_number_as_ds

from deeplesion_miner import geometry
from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, Result
from deeplesion_miner.types import ImagePlane, ImageRef
from dicom_io.attributes import quiet
from dicom_io.emit import envelope, grid_headers
from dicom_io.emit.colours import colour
from dicom_io.emit.concepts import brought, concept
from dicom_io.emit.emitting import EmitSettings, Written
from dicom_io.emit.identity import derived_uid, object_uid, series_uid, tracking_uid
from dicom_io.emit.masked import MaskedLesion, MaskGroup, grouped
from dicom_io.emit.source import SourceImages
from dicom_io.emit.wording import LONG_STRING, one_line, person_name

KIND = "dicom-seg"
TYPES = {
    "binary": SegmentationTypeValues.BINARY,
    "fractional": SegmentationTypeValues.FRACTIONAL,
    "labelmap": SegmentationTypeValues.LABELMAP,
}
NOT_STATED = "not stated"
"""Name or version of an algorithm whose author does not say them (type 1)."""
LARGEST_STACK_BYTES = 1 << 29
"""Masks that overlap are stacked, a byte a pixel and segment; a larger stack is written as several objects instead."""
LARGEST_GAP_IN_THICKNESSES = 2.0
"""Planes farther apart than this have slices between them that were not asked for: the interval is not known."""


def write(result: Result, source: SourceImages, settings: EmitSettings, _before: Mapping[str, Dataset]) -> Written:
    """Segmentations by series, the lesions without a usable mask left out."""
    groups, left_out = grouped(result, source, KIND)
    with quiet():
        found = tuple(
            _written(part, result, source, settings) for group in groups for part in _objects(group, settings)
        )
    return found, left_out


def transfer_syntax(settings: EmitSettings) -> UID:
    """Of the settings; where run lengths of single bits are asked for, deflated.

    PS3.5 8.2.2 has RLE of single bits since CP-2301 only, and decoders in use (DCMTK's among them) do not know it.
    """
    if settings.segmentation_syntax == "explicit":
        return ExplicitVRLittleEndian
    if settings.segmentation_syntax == "rle" and settings.segmentation != "binary":
        return RLELossless
    return DeflatedExplicitVRLittleEndian


def _written(group: MaskGroup, result: Result, source: SourceImages, settings: EmitSettings) -> Dataset:
    images = grid_headers.of_group(group, source)
    named, syntax = f"{settings.segmentation} {settings.segmentation_syntax} {group.key}", transfer_syntax(settings)
    found = Segmentation(
        source_images=images,
        pixel_array=_pixels(group),
        segmentation_type=TYPES[settings.segmentation],
        segment_descriptions=[_segment(number, masked, result) for number, masked in enumerate(group.lesions, start=1)],
        series_instance_uid=series_uid(KIND, result, named),
        series_number=envelope.SERIES_NUMBERS[KIND],
        sop_instance_uid=object_uid(KIND, result, named),
        instance_number=1,
        manufacturer=envelope.MANUFACTURER,
        manufacturer_model_name=envelope.MODEL_NAME,
        software_versions=envelope.software_version(),
        device_serial_number="0",
        fractional_type=SegmentationFractionalTypeValues.OCCUPANCY,
        content_label="LESIONS",
        content_description="Masks of lesions",
        content_creator_name="" if result.author.is_algorithm else person_name(result.author.name),
        # highdicom does not deflate: the writer of the file does, from the same data set.
        transfer_syntax_uid=RLELossless if syntax == RLELossless else ExplicitVRLittleEndian,
        series_description="Lesions (masks)",
    )
    found.file_meta.TransferSyntaxUID = syntax
    envelope.put_patient_and_study(found, source.dataset(next(iter(group.planes))))
    envelope.put_equipment(found)
    envelope.put_times(found, result)
    _without_chance(found)
    _put_interval(found, group)
    grid_headers.put_classes(found, source)
    if group.is_multi_frame:
        grid_headers.put_frame_numbers(found, group)
    return found


def _without_chance(found: Segmentation) -> None:
    """Replaces the random UID, and takes out what is said of highdicom and of a volume: frames may be missing."""
    organization = derived_uid("dimensions", str(found.SOPInstanceUID))
    for item in (*found.DimensionOrganizationSequence, *found.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    for keyword in ("ContributingEquipmentSequence", "DimensionOrganizationType"):
        found.pop(keyword, None)


def _put_interval(found: Segmentation, group: MaskGroup) -> None:
    """The distance between neighbouring slices where masks show it, which readers build their volumes from.

    highdicom would take the distance between masks that are far apart for that of slices.
    """
    (measures,) = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    measures.pop("SpacingBetweenSlices", None)
    places = sorted({geometry.head_to_feet_mm(plane) for plane in group.planes.values()})
    thickness_mm = next(iter(group.planes.values())).slice_thickness_mm
    if len(places) < 2:
        return
    nearest_mm = min(after - before for before, after in pairwise(places))
    if not thickness_mm or nearest_mm <= LARGEST_GAP_IN_THICKNESSES * thickness_mm:
        measures.SpacingBetweenSlices = format_number_as_ds(nearest_mm)


def _pixels(group: MaskGroup) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """One number a pixel, that of its segment; where masks overlap one channel a segment, which needs more memory."""
    planes, first = list(group.planes), next(iter(group.planes.values()))
    labels = np.zeros((len(planes), first.rows, first.columns), np.min_scalar_type(len(group.lesions)))
    for number, image, plane in _drawn(group):
        label = labels[planes.index(image)]
        if label[plane].any():
            return _channels(group)
        label[plane] = number
    return labels


def _channels(group: MaskGroup) -> NDArray[np.uint8]:
    planes, first = list(group.planes), next(iter(group.planes.values()))
    found = np.zeros((len(planes), first.rows, first.columns, len(group.lesions)), np.uint8)
    for number, image, plane in _drawn(group):
        found[planes.index(image), ..., number - 1] |= plane
    return found


def _drawn(group: MaskGroup) -> Iterator[tuple[int, ImageRef, NDArray[np.bool_]]]:
    """Segment number, image and whole plane of each mask."""
    for number, masked in enumerate(group.lesions, start=1):
        for image, mask in masked.masks:
            yield number, image, _whole(mask, group.planes[image])


def _objects(group: MaskGroup, settings: EmitSettings) -> tuple[MaskGroup, ...]:
    """The group, or parts of it without overlaps where one object cannot hold them: a label map, or a huge stack."""
    first = next(iter(group.planes.values()))
    stack_bytes = len(group.planes) * first.rows * first.columns * len(group.lesions)
    if settings.segmentation != "labelmap" and stack_bytes <= LARGEST_STACK_BYTES:
        return (group,)
    layers: list[tuple[dict[ImageRef, NDArray[np.bool_]], list[MaskedLesion]]] = []
    for masked in group.lesions:
        planes = {image: _whole(mask, group.planes[image]) for image, mask in masked.masks}
        free = (layer for layer in layers if not _overlap(layer[0], planes))
        taken, lesions = layer = next(free, ({}, []))
        if not lesions:
            layers.append(layer)
        lesions.append(masked)
        for image, plane in planes.items():
            taken[image] = taken[image] | plane if image in taken else plane
    return tuple(
        replace(
            group,
            key=f"{group.key} layer {number}",
            planes={image: plane for image, plane in group.planes.items() if image in taken},
            lesions=tuple(lesions),
        )
        for number, (taken, lesions) in enumerate(layers, start=1)
    )


def _overlap(one: Mapping[ImageRef, NDArray[np.bool_]], other: Mapping[ImageRef, NDArray[np.bool_]]) -> bool:
    return any((one[image] & plane).any() for image, plane in other.items() if image in one)


def _whole(mask: PixelMask, plane: ImagePlane) -> NDArray[np.bool_]:
    return mask.on_plane(plane.rows, plane.columns)


def _segment(number: int, masked: MaskedLesion, result: Result) -> SegmentDescription:
    lesion, site = masked.lesion, brought(masked.lesion.site)
    by_machine = result.author.is_algorithm
    return SegmentDescription(
        segment_number=number,
        segment_label=masked.label,
        segmented_property_category=concept("segment", "category"),
        segmented_property_type=concept("segment", "type"),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC if by_machine else SegmentAlgorithmTypeValues.MANUAL,
        algorithm_identification=_algorithm(result.author) if by_machine else None,
        tracking_uid=tracking_uid(result, lesion),
        tracking_id=masked.label,
        anatomic_regions=[site] if site is not None else None,
        display_color=colour(number),
    )


def _algorithm(author: Author) -> AlgorithmIdentificationSequence:
    return AlgorithmIdentificationSequence(
        name=one_line(author.name, LONG_STRING) or NOT_STATED,
        family=concept("segment", "algorithm_family"),
        version=one_line(author.version, LONG_STRING) or NOT_STATED,
        source=one_line(author.manufacturer, LONG_STRING) or None,
        parameters={one_line(name, LONG_STRING): one_line(value, LONG_STRING) for name, value in author.parameters}
        or None,
    )
