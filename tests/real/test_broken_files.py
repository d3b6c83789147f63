"""Every broken and tricky file is read, or set aside with its reason: the table."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from deeplesion_miner.types import ImageRef, Slice, Unreadable
from dicom_io import part10
from dicom_io.pixels import decode
from dicom_io.planes import headers_of

pytestmark = pytest.mark.real

# What reading the file gives, its header, and its first frame's pixels ('-' = not come to that).
TABLE = {
    "cornerstone_no_pixel_spacing_us": ("read", "bad_geometry", "not_hounsfield"),
    "dcm4che_3gb_bulk_data_truncated": ("truncated", "-", "-"),
    "dcm4che_no_preamble_dicm_in_data": ("read", "missing_attribute", "no_pixels"),
    "dcmjs_no_meta_length": ("read", "bad_geometry", "no_pixels"),
    "dwv_no_number_rows": ("read", "bad_geometry", "bad_value"),
    "fodicom_deflated_with_sq_truncated": ("read", "bad_geometry", "no_pixels"),
    "orthanc_2026-05-26-oob-monochrome-46341": ("read", "bad_geometry", "too_large"),
    "orthanc_2026-05-26-oob-monochrome-65535": ("read", "bad_geometry", "too_large"),
    "orthanc_Issue131-a": ("read", "bad_geometry", "no_pixels"),
    "orthanc_Issue131-b": ("read", "bad_geometry", "no_pixels"),
    "orthanc_Issue195": ("read", "bad_geometry", "no_pixels"),
    "orthanc_Issue195-bis": ("read", "bad_geometry", "no_pixels"),
    "orthanc_Issue196": ("read", "missing_attribute", "no_pixels"),
    "orthanc_MultiframeWindowing": ("read", "bad_geometry", "bad_value"),
    "orthanc_UnknownSopClassUid": ("read", "bad_geometry", "not_hounsfield"),
    "pydicom_ExplVR_BigEndNoMeta": ("read", "bad_geometry", "no_pixels"),
    "pydicom_ExplVR_LitEndNoMeta": ("read", "bad_geometry", "no_pixels"),
    "pydicom_J2K_pixelrep_mismatch": ("read", "plane", "pixels"),
    "pydicom_MR_truncated": ("truncated", "-", "-"),
    "pydicom_SC_rgb_jpeg_app14_dcmd": ("read", "bad_geometry", "not_hounsfield"),
    "pydicom_UN_sequence": ("read", "missing_attribute", "no_pixels"),
    "pydicom_badVR": ("read", "plane", "not_hounsfield"),
    "pydicom_empty_charset_LEI": ("read", "missing_attribute", "no_pixels"),
    "pydicom_meta_missing_tsyntax": ("read", "missing_attribute", "not_hounsfield"),
    "pydicom_nested_priv_SQ": ("read", "missing_attribute", "not_hounsfield"),
    "pydicom_no_meta": ("not_dicom", "-", "-"),
    "pydicom_no_meta_group_length": ("read", "missing_attribute", "no_pixels"),
    "pydicom_reportsi_with_empty_number_tags": ("read", "bad_geometry", "no_pixels"),
    "pydicom_rtplan_truncated": ("truncated", "-", "-"),
    "pydicomdata_bad_sequence": ("read", "plane", "pixels"),
    "pydicomdata_emri_small_jpeg_2k_lossless_too_short": ("truncated", "-", "-"),
}


def outcome(path: Path) -> tuple[str, str, str]:
    found = part10.read(path)
    if isinstance(found, Unreadable):
        assert found.detail
        return found.why, "-", "-"
    headers = headers_of(found, path.stat().st_size)
    if isinstance(headers, Unreadable):
        header = headers.why
    else:
        plane = headers[0].plane
        header = plane.why if isinstance(plane, Unreadable) else "plane"
    pixels = decode(found, ImageRef("", "", "", 1))
    return "read", header, "pixels" if isinstance(pixels, Slice) else pixels.why


def test_every_broken_file_is_read_or_set_aside_with_its_reason(real_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {path.stem: outcome(path) for path in sorted((real_data / "tricky_ct" / "broken").iterdir())}
    assert found == TABLE


def test_a_truncated_file_still_has_a_header_where_only_its_pixels_are_cut(real_data: Path) -> None:
    found = part10.read(real_data / "tricky_ct" / "broken" / "pydicom_MR_truncated.dcm", pixels=False)
    assert not isinstance(found, Unreadable)
    assert found.Rows == 64


def test_one_slice_has_the_same_ct_numbers_in_every_lossless_syntax(real_data: Path) -> None:
    folder = real_data / "tricky_ct" / "transfer_syntaxes"
    lossless = ["implicit_LE_original", "BigEndianExplicit", "DeflatedExplicitVRLittleEndian", "RLELossless"]
    lossless += ["JPEG2000LosslessOnly", "JPEGLSLossless", "JPEGProcess14", "JPEGProcess14SV1"]
    slices = [decode(folder / f"CTImage_{name}.dcm", ImageRef("", "", "")) for name in lossless]
    first = slices[0]
    assert isinstance(first, Slice)
    assert (first.hu.min(), first.hu.max()) == (-3024, 1378)
    for name, found in zip(lossless, slices, strict=True):
        assert isinstance(found, Slice), name
        assert np.array_equal(found.hu, first.hu), name


@pytest.mark.parametrize("process", ["1", "2_4", "6_8", "10_12"])
def test_its_cosine_transform_copies_are_no_ct_numbers(real_data: Path, process: str) -> None:
    path = real_data / "tricky_ct" / "transfer_syntaxes" / f"CTImage_JPEGProcess{process}.dcm"
    found = decode(path, ImageRef("", "", ""))
    assert isinstance(found, Unreadable)
    assert found.why == "not_hounsfield"


def test_ct_numbers_equal_pydicoms_wherever_it_can_decode(real_data: Path) -> None:
    compared = 0
    for path in sorted((real_data / "tricky_ct").rglob("*")):
        if not path.is_file() or path.suffix == ".md" or "broken" in path.parts:
            continue
        found = decode(path, ImageRef("", "", ""))
        if isinstance(found, Unreadable):
            continue
        expected = by_pydicom(path)
        if expected is None:
            continue
        assert np.array_equal(found.hu, expected), path
        compared += 1
    assert compared >= 50


def by_pydicom(path: Path) -> np.ndarray | None:
    """Hounsfield units of the first frame as pydicom decodes them; None where its codecs do not suffice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path)
            stored = ds.pixel_array
        except (RuntimeError, NotImplementedError, OSError):
            return None
    shared = ds.get("SharedFunctionalGroupsSequence")
    holder = shared[0].PixelValueTransformationSequence[0] if shared else ds
    first = stored[0] if stored.ndim == 3 else stored
    exact = np.rint(first.astype(np.float64) * float(holder.RescaleSlope) + float(holder.RescaleIntercept))
    return np.clip(exact, -32768, 32767).astype(np.int16)
