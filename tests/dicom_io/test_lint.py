"""Lint says of every report what the viewer was seen to do with it, and names the rule and the place."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items

import schemas
from deeplesion_miner.errors import ConfigError
from dicom_io.attributes import quiet
from dicom_io.lint import (
    SEVERITIES,
    VERSIONS,
    Linted,
    StudyImages,
    check_before_sending,
    examine_object,
    lint_files,
    lint_object,
    study_images,
)
from tests.dicom_io import little_objects
from tests.dicom_io.lint_breakages import Breakage, breakages
from tests.dicom_io.ohif_variants import (
    FIRST,
    FREE_TEXT,
    LONG,
    LONG_MM,
    LONG_PX,
    OTHER_TITLE,
    SECOND,
    SHORT,
    SHORT_MM,
    Variant,
    axes,
    box,
    commented,
    described,
    document,
    drawn,
    good,
    num,
    variants,
    volume_group,
)

NEWEST, OLDER = VERSIONS
VARIANTS = variants()
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyImages:
    """The two images that the reports lie on."""
    return study_images([_ct_folder(tmp_path_factory.mktemp("study"))])


def _ct_folder(folder: Path, **changes: object) -> Path:
    for number in (1, 2):
        image = little_objects.ct(1, number)
        for keyword, value in changes.items():
            setattr(image, keyword, value)
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def editable(linted: Linted) -> tuple[int, ...]:
    return tuple(one.measurements for one in linted.outlooks)


def broken(linted: Linted) -> set[str]:
    return {one.rule for one in linted.findings if not one.is_advice}


def cases(linted: Linted) -> set[tuple[str, str]]:
    return {(one.rule, one.case) for one in linted.findings}


# --- reports that were opened in the viewer --------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
def test_as_many_measurements_can_be_edited_as_the_viewer_was_seen_to_load(
    variant: Variant, study: StudyImages
) -> None:
    assert editable(examine_object(variant.dataset, study)) == variant.editable


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
def test_of_a_measured_report_the_rules_that_were_broken_in_it_are_named_and_no_others(
    variant: Variant, study: StudyImages
) -> None:
    assert broken(examine_object(variant.dataset, study)) == variant.broken


@pytest.mark.parametrize("breakage", breakages(), ids=lambda one: f"{one.rule}.{one.case}")
def test_a_report_that_breaks_one_case_is_found_by_it_and_foretold(breakage: Breakage, study: StudyImages) -> None:
    linted = examine_object(breakage.dataset, study)
    assert (breakage.rule, breakage.case) in cases(linted)
    assert editable(linted) == breakage.editable


def test_the_recommended_form_gives_not_even_advice(study: StudyImages) -> None:
    assert lint_object(good(), study) == ()


def test_every_case_of_the_table_is_found_in_some_object(study: StudyImages, tmp_path: Path) -> None:
    reports = [one.dataset for one in (*variants(), *breakages())]
    found = {case for one in reports for case in cases(examine_object(one, study))}
    found |= {("R11", "same_series"), ("G1", "not_square")}  # told by several files, and by other images: below
    found |= {case for one in (fractional(), label_map(), presentation_state()) for case in cases(examine_object(one))}
    table = schemas.load("ohif_rules")["rule"]
    assert found == {(rule, case) for rule, entry in table.items() for case in entry["case"]}


def test_every_case_of_the_table_is_complete() -> None:
    effects = {"fails", "text", "drops", "read_only", "wrong", "fine"}
    for rule, entry in schemas.load("ohif_rules")["rule"].items():
        assert entry["asks"].endswith("."), rule
        for case in entry["case"].values():
            assert case["severity"] in SEVERITIES
            assert case["sure"] in {"measured", "read", "tools"}
            assert set(case["does"]) == set(VERSIONS)
            assert {effect for effect, _ in case["does"].values()} <= effects


# --- where, and what it says -----------------------------------------------------------------------------


def test_a_finding_names_the_item_by_its_path() -> None:
    report = document(commented(described(*axes())), commented(described(*axes(SECOND), identifier="lesion-42")))
    (shared, free) = lint_object(report)
    assert (shared.rule, shared.path) == ("R4", "2.2")
    assert (free.rule, free.path, free.found) == ("R3", "2.2.1", "the Tracking Identifier is 'lesion-42'")


def test_findings_stand_in_the_order_of_the_document() -> None:
    report = document(*(described(*axes(), identifier="x", tracking_uid=f"1.2.{number}") for number in range(12)))
    positions = [[int(part) for part in one.path.split(".")] for one in lint_object(report)]
    assert positions == sorted(positions)


def test_text_of_a_report_is_quoted_so_that_it_cannot_drive_a_terminal() -> None:
    (found,) = lint_object(document(commented(described(*axes(), identifier="\x1b[2Jlesion" + "ü" * 100))))
    assert "\x1b" not in found.found
    assert found.found.isascii()
    assert len(found.found) < 400


def test_a_free_identifier_is_drawn_read_only_and_said_so() -> None:
    linted = examine_object(document(described(*axes(), identifier="lesion-42")))
    assert [one.opens for one in linted.outlooks] == ["read_only", "read_only"]


def test_a_number_without_a_line_is_harmless_in_the_newer_version_only() -> None:
    variant = next(one for one in variants() if one.name == "v09_extra_num_no_scoord")
    (found,) = [one for one in lint_object(variant.dataset) if one.rule == "R7"]
    assert (found.effect(NEWEST), found.effect(OLDER)) == ("fine", "fails")
    assert found.severity == "fails_whole"


def test_a_report_of_volumes_under_another_title_is_good_and_shown_as_text() -> None:
    linted = examine_object(document(volume_group(), title=OTHER_TITLE))
    assert linted.findings == ()
    assert [one.opens for one in linted.outlooks] == ["text", "text"]


def test_a_box_beside_a_cross_is_advice_only(study: StudyImages) -> None:
    linted = examine_object(document(commented(described(*axes())), box(tracking_uid="1.2.3.9")), study)
    assert linted.is_good
    assert cases(linted) == {("R3", "region"), ("R4", "same_image")}


def test_a_free_text_site_is_advice_and_a_free_text_finding_is_not() -> None:
    with quiet():
        site, finding = described(*axes(), site=FREE_TEXT), described(*axes(), finding=FREE_TEXT)
    assert examine_object(document(commented(site))).is_good
    assert not examine_object(document(commented(finding))).is_good


# --- what only the study tells ---------------------------------------------------------------------------


def test_without_the_study_images_and_lengths_are_not_judged() -> None:
    report = document(commented(described(num(LONG, 300.0, children=[drawn(LONG_PX, "1.2.3")]), axes()[1])))
    assert lint_object(report) == ()


def test_an_image_that_the_study_lacks_is_named() -> None:
    first, found = lint_object(good(), StudyImages.of_uids([SECOND]))
    assert (first.rule, first.severity) == ("F1", "fails_whole")
    assert (found.rule, found.severity) == ("R9", "drops_item")
    assert FIRST in found.found


def test_images_may_be_known_by_their_uids_alone() -> None:
    assert lint_object(good(), StudyImages.of_uids([FIRST])) == ()


def test_a_frame_that_the_image_does_not_have_is_missing(study: StudyImages) -> None:
    report = good()
    for number in report.ContentSequence[-1].ContentSequence[0].ContentSequence:
        for line in number.get("ContentSequence", ()):
            line.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = 2
    assert {one.rule for one in lint_object(report, study)} == {"R9", "F1"}


@pytest.mark.parametrize(("stated_mm", "is_good"), [(LONG_MM, True), (8.0, True), (8.01, False), (6.9, False)])
def test_a_stated_length_may_be_rounded_to_whole_millimetres(
    stated_mm: float, is_good: bool, study: StudyImages
) -> None:
    report = document(commented(described(num(LONG, stated_mm, children=[drawn(LONG_PX)]), axes()[1])))
    assert examine_object(report, study).is_good == is_good


def test_lengths_are_recomputed_with_each_axis_own_spacing_and_other_pixels_are_named(tmp_path: Path) -> None:
    study = study_images([_ct_folder(tmp_path, PixelSpacing=[0.5, 0.75])])
    short = num(SHORT, SHORT_MM * 0.5 / 0.75, children=axes()[1].ContentSequence)
    found = lint_object(document(commented(described(axes()[0], short))), study)
    assert {one.rule for one in found} == {"G1"}
    assert "0.5\\0.75" in found[0].found


def test_a_folder_without_images_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no image"):
        study_images([tmp_path])


def test_reports_do_not_count_as_images_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "report.dcm").write_bytes(encoded(good()))
    with pytest.raises(ConfigError, match="no image"):
        study_images([tmp_path])


# --- other objects ---------------------------------------------------------------------------------------


def other(sop_class: str, **attributes: object) -> Dataset:
    dataset = little_objects.sr(1)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def fractional() -> Dataset:
    return other(uid.SegmentationStorage, SegmentationType="FRACTIONAL")


def label_map() -> Dataset:
    background = Dataset()
    background.SegmentNumber = 0
    return other(LABEL_MAP, SegmentationType="LABELMAP", SegmentSequence=Items([background]))


def presentation_state() -> Dataset:
    return other(uid.GrayscaleSoftcopyPresentationStateStorage)


@pytest.mark.parametrize(
    ("dataset", "rule", "opens"),
    [
        (other(uid.SegmentationStorage, SegmentationType="BINARY"), None, "overlay"),
        (other(uid.RTStructureSetStorage), None, "overlay"),
        (other(LABEL_MAP, SegmentationType="LABELMAP"), None, "overlay"),
        (fractional(), "S1", "fails"),
        (label_map(), "S1", "overlay"),
        (presentation_state(), "P1", "fails"),
    ],
)
def test_masks_contours_and_presentation_states_are_foretold_too(
    dataset: Dataset, rule: str | None, opens: str
) -> None:
    linted = examine_object(dataset)
    assert {one.rule for one in linted.findings} == ({rule} if rule else set())
    assert [one.opens for one in linted.outlooks] == [opens, opens]


def test_of_objects_that_nobody_measured_nothing_is_foretold() -> None:
    linted = examine_object(other(uid.KeyObjectSelectionDocumentStorage))
    assert (linted.kind, linted.findings, linted.outlooks) == ("other", (), ())


def test_of_two_reports_in_a_series_the_older_one_is_not_shown(tmp_path: Path) -> None:
    older, newer = good(), good()
    newer.SOPInstanceUID, newer.ContentTime = f"{newer.SOPInstanceUID}.1", "235959"
    (tmp_path / "a.dcm").write_bytes(encoded(newer))
    (tmp_path / "b.dcm").write_bytes(encoded(older))
    new, old = lint_files([tmp_path]).objects
    assert new.linted.findings == ()
    assert [one.rule for one in old.linted.findings] == ["R11"]
    assert [one.opens for one in old.linted.outlooks] == ["fails", "fails"]


# --- before sending --------------------------------------------------------------------------------------


def test_a_good_report_may_be_sent() -> None:
    assert check_before_sending(encoded(good())) == ()


def test_advice_does_not_forbid_to_send() -> None:
    assert check_before_sending(encoded(document(described(*axes()), box()))) == ()


def test_a_broken_report_may_not_be_sent() -> None:
    report = document(commented(described(*axes(), identifier="lesion-42")))
    assert [one.rule for one in check_before_sending(encoded(report))] == ["R3"]


def test_what_was_asked_for_by_name_may_be_sent_though_this_viewer_does_not_open_it() -> None:
    assert check_before_sending(encoded(fractional())) == ()


def test_bytes_that_are_no_object_are_refused() -> None:
    with pytest.raises(ValueError, match="not_dicom"):
        check_before_sending(b"no report")
