"""Results on real CT of many makers: which series, and a cross with a mask in the middle of each image."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import ImagePlane, Segment
from dicom_io.emit.source import SourceImages

MADE = datetime(2024, 5, 6, 7, 8, 9)
MODEL = Author("finder", "1.2", "acme", parameters=(("weights", "ab12cd34"),))
SERIES = (
    "ct_liver_seg_sr/ct/*.dcm",
    "ct_lung1_rtstruct/ct/*.dcm",
    "ohif_phantom/ct_B/*.dcm",
    "ohif_phantom/ct_C/*.dcm",
    "ohif_phantom/ct_D/*.dcm",
    "tricky_ct/geometry/gantry_tilt_philips/*",
    "tricky_ct/geometry/siemens_mpr_oblique_study1234.dcm",
    "tricky_ct/geometry/xeos_specimen_1024_0.1mm_jpegll.dcm",
    "tricky_ct/multiframe/enhanced_ct_explicit_le.dcm",
    "tricky_ct/transfer_syntaxes/CTImage_BigEndianExplicit.dcm",
    "tricky_ct/transfer_syntaxes/nema_CT2_J2KR.dcm",
    "archive_population/bellona_whole_series/chest_lung/*.dcm",
)


def image_paths(real_data: Path, pattern: str) -> list[Path]:
    """A few slices from the middle of a series, in the order of their names."""
    paths = sorted(real_data.glob(pattern))
    assert paths, pattern
    middle = len(paths) // 2
    return paths[max(0, middle - 1) : middle + 2]


def crossed(source: SourceImages) -> Result:
    """A cross with a mask in the middle of each image, as a model might find it."""
    lesions = []
    refs = [header.ref for frames in source.headers.values() for header in frames]
    for number, ref in enumerate(sorted(refs), start=1):
        plane = source.plane(ref)
        if not isinstance(plane, ImagePlane):
            continue
        x, y = plane.columns * 0.4 + 0.123 * number, plane.rows * 0.5 + 0.321
        lesions.append(
            ReportedLesion(
                key=str(number),
                image=ref,
                label=f"Lesion {number}",
                finding=coded("finding", "lesion"),
                site=coded("site", "abdomen"),
                score=0.875,
                long_axis=Segment((x - 9.25, y - 4.5), (x + 9.25, y + 4.5)),
                short_axis=Segment((x - 2.0, y + 4.0), (x + 2.0, y - 4.0)),
                masks=((ref, PixelMask(int(x) - 4, int(y) - 3, np.ones((7, 9), np.bool_))),),
                volume_mm3=321.5,
            )
        )
    study = next(iter(source.headers.values()))[0].ref.study_instance_uid
    return Result(study, MODEL, tuple(lesions), MADE)


def without_values(finding: str) -> str:
    """A finding about an attribute, whatever it holds: 'Value dubious for this VR - (0x0010,0x0010) PN'."""
    return re.split(r" PN | = |<(?![A-Z])", finding)[0]
