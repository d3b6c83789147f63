"""Lint and the viewer's reader against what OHIF 3.13.2 and 3.11.1 were seen to do with the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicom_io.lint import Linted, StudyImages, examine, lint_files, study_images
from tests.dicom_io import viewer_adapters
from tests.dicom_io.ohif_variants import variants

pytestmark = pytest.mark.real

NEWEST, OLDER = "ohif_3.13.2", "ohif_3.11.1"
BY_ADAPTERS = "node_adapters_5.6.8"
WITHIN_MM = 0.01
CT_OF_WRITTEN = {
    "g1_bidirectional_3.13.dcm": "ct_B",
    "g2_all_tools_3.13.dcm": "ct_B",
    "g3_prone_anisotropic_3.13.dcm": "ct_C",
    "g4_all_tools_3.11.dcm": "ct_B",
    "g5_bidirectional_3.11.dcm": "ct_B",
    "g8_prone_square_3.13.dcm": "ct_D",
}
"""Reports whose viewer told what it held, and their images."""
WRITTEN_BY_OHIF = {
    "g1_bidirectional_3.13.dcm": (1, 1),
    "g2_all_tools_3.13.dcm": (7, 0),
    "g3_prone_anisotropic_3.13.dcm": (1, 1),
    "g4_all_tools_3.11.dcm": (7, 7),
    "g5_bidirectional_3.11.dcm": (1, 1),
    "g6_resave_of_ours_3.13.dcm": (1, 1),
    "g7_resave_of_ours_3.11.dcm": (1, 1),
    "g8_prone_square_3.13.dcm": (1, 1),
}
"""Of what OHIF wrote itself: how many measurements open in 3.13.2 and in 3.11.1."""


@pytest.fixture(scope="module")
def measured(viewer_variants: Path) -> dict[str, dict[str, Any]]:
    """What was seen, by the name of the variant."""
    rows = json.loads((viewer_variants.parent / "variants.json").read_text(encoding="utf-8"))
    return {row["variant"]: row for row in rows}


@pytest.fixture(scope="module")
def study(viewer_variants: Path) -> StudyImages:
    return study_images([viewer_variants / "ct_A"])


def test_every_file_that_was_opened_is_foretold_as_it_was_seen(
    viewer_variants: Path, study: StudyImages, measured: dict[str, dict[str, Any]]
) -> None:
    files = [path for path in sorted(viewer_variants.glob("*.dcm")) if path.stem in measured]
    assert len(files) >= 11
    for path in files:
        linted = examine(path, study)
        assert isinstance(linted, Linted)
        seen = (measured[path.stem][NEWEST], measured[path.stem][OLDER])
        assert tuple(one.measurements for one in linted.outlooks) == seen, path.stem


def test_the_rebuilt_reports_state_what_was_seen(measured: dict[str, dict[str, Any]]) -> None:
    stated = {one.name: (*one.editable, one.by_adapters) for one in variants()}
    assert stated == {name: (row[NEWEST], row[OLDER], row[BY_ADAPTERS]) for name, row in measured.items()}


def test_segmentations_contours_and_the_report_of_volumes_are_good(viewer_variants: Path) -> None:
    opens = {"r01_rtstruct": "overlay", "s01_binary": "overlay", "s06_binary_overlap": "overlay",
             "s08_one_slice": "overlay", "w20_volume_sr_title_126001": "text"}  # fmt: skip
    for name, wanted in opens.items():
        linted = examine(viewer_variants / f"{name}.dcm")
        assert isinstance(linted, Linted)
        assert linted.findings == ()
        assert {one.opens for one in linted.outlooks} == {wanted}


def test_the_adapters_load_of_each_file_as_many_as_were_counted(
    viewer_variants: Path, measured: dict[str, dict[str, Any]]
) -> None:
    reports = {path.stem: dcmread(path) for path in viewer_variants.glob("*.dcm") if path.stem in measured}
    images = [dcmread(path) for path in sorted((viewer_variants / "ct_A").glob("*.dcm"))]
    found = viewer_adapters.opened(reports, images)
    counts = {name: len(one.measurements) for name, one in found.items()}
    assert counts == {name: measured[name][BY_ADAPTERS] for name in reports}


# --- what the viewer wrote itself ------------------------------------------------------------------------


def test_what_ohif_wrote_opens_in_it_again_but_not_every_report_of_the_newer_in_the_older(real_data: Path) -> None:
    for name, wanted in WRITTEN_BY_OHIF.items():
        linted = examine(real_data / "ohif_phantom" / name)
        assert isinstance(linted, Linted)
        assert tuple(one.measurements for one in linted.outlooks) == wanted, name


def test_what_ohif_writes_beside_the_standard_is_named(real_data: Path) -> None:
    linted = examine(real_data / "ohif_phantom" / "g4_all_tools_3.11.dcm")
    assert isinstance(linted, Linted)
    assert {(one.rule, one.case) for one in linted.findings} >= {("V1", "no_value"), ("V1", "point"), ("U1", "unit")}


def test_pixels_that_are_not_square_are_named_over_their_images_only(real_data: Path) -> None:
    folder = real_data / "ohif_phantom"
    found = {
        name: lint_files([folder / name], study_images([folder / ct])).objects[0].linted.findings
        for name, ct in (("g3_prone_anisotropic_3.13.dcm", "ct_C"), ("g8_prone_square_3.13.dcm", "ct_D"))
    }
    assert "G1" in {one.rule for one in found["g3_prone_anisotropic_3.13.dcm"]}
    assert {one.rule for one in found["g8_prone_square_3.13.dcm"] if not one.is_advice} == set()


def test_a_re_save_into_our_series_hides_our_report(real_data: Path) -> None:
    folder = real_data / "ohif_phantom"
    names = ("ours_B.dcm", "g6_resave_of_ours_3.13.dcm")
    found = {one.path.name: one.linted for one in lint_files([folder / name for name in names]).objects}
    assert {one.rule for one in found["ours_B.dcm"].findings} == {"R11"}
    assert found["g6_resave_of_ours_3.13.dcm"].is_good


@pytest.mark.parametrize(("name", "ct"), CT_OF_WRITTEN.items())
def test_the_adapters_find_lines_where_the_viewer_held_them(name: str, ct: str, real_data: Path) -> None:
    folder = real_data / "ohif_phantom"
    images = [dcmread(path) for path in sorted((folder / ct).glob("*.dcm"))]
    found = viewer_adapters.opened({name: dcmread(folder / name)}, images)[name].measurements
    held = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    of_file = next(one for one in held if one["file"] == name)["viewer_measurements"]
    for tool in ("Bidirectional", "Length"):
        shown = [one["points_lps"] for one in of_file if one["tool"] == tool]
        read = [one["points_mm"] for one in found if one["tool"] == tool]
        np.testing.assert_allclose(read, shown, atol=WITHIN_MM)


def test_no_real_report_makes_lint_fail(real_data: Path) -> None:
    folders = [real_data / name for name in ("measurement_objects", "ohif_genuine", "ct_nlst_sr", "ct_liver_seg_sr")]
    found = lint_files(folders)
    assert len(found.objects) > 20
    assert {one.linted.kind for one in found.objects} >= {"report", "segmentation"}
