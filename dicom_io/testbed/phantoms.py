"""Phantom patients: five people who never lived, two time points each, with the reports that readers left.

Everything that a miner must cope with is in it once, and the truth of each mark is known from the phantom's own
definition (`ExpectedBookmark`). The same arguments give the same bytes: no clock, no random UID.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_io.testbed.anatomy import LesionPlan
from dicom_io.testbed.ct_objects import SeriesHeader, Storing, dose_screen, write_image
from dicom_io.testbed.drawn import DrawnOn
from dicom_io.testbed.identity import FREE_TEXT, PERSONS, Person, StudyIdentity, uid_of
from dicom_io.testbed.reports import Desk, Mark, cross_on, drawn_with, moved, plain_cross, shrunk
from dicom_io.testbed.series import (
    PRONE,
    Series,
    SeriesPlan,
    Size,
    tilted,
    turned,
    write_coronal_reformat,
    write_localizer,
    write_series,
)
from dicom_io.testbed.sr_highdicom import Manner
from dicom_io.testbed.sr_ohif import OHIF_3_11, OHIF_3_13
from dicom_io.testbed.truth import ExpectedBookmark, PhantomArchive

# Axes near 45 degrees to the pixels: an interpolated profile finds their ends best there.
LUNG = LesionPlan("lung", "right lung", (-76.3, -11.7), 0.28, (18.0, 14.2), 45, 40)
LUNG_LEFT = LesionPlan("lung left", "left lung", (79.2, 13.9), 0.36, (15.0, 12.4), 130, 25)
LIVER = LesionPlan("liver", "liver", (-71.4, -16.8), 0.76, (22.5, 15.0), 45, 20)
"""Its short axis is two thirds of the long one: what OHIF draws unasked is here the lesion's own edge."""
LIVER_FRONT = LesionPlan("liver front", "liver", (-36.2, -38.3), 0.80, (16.0, 12.8), 137, 25)
KIDNEY = LesionPlan("kidney", "left kidney", (54.4, 52.7), 0.84, (16.0, 12.8), 49, 20)
SPLEEN = LesionPlan("spleen", "spleen", (100.1, 33.6), 0.74, (16.0, 13.0), 45, 30)
VERTEBRA = LesionPlan("vertebra", "vertebra", (0.6, 62.3), 0.5, (14.0, 11.6), 42, 60)

SIGNED = Storing()
UNSIGNED = Storing(intercept=-1024, signed=False)
PADDED = Storing(padding=-2000)
RLE = replace(UNSIGNED, syntax=RLELossless)
JPEG_LS = replace(UNSIGNED, syntax=JPEGLSLossless)
SCOORD = Manner()


def write_phantoms(
    folder: Path,
    *,
    small: bool = False,
    seed: int = 0,
    slices_per_series: int | None = None,
    matrix: int | None = None,
    noise_hu: int = 0,
) -> PhantomArchive:
    """Writes the archive below `folder` (made if absent) and returns its truth.

    `small` makes small images and short series; `slices_per_series` and `matrix` set every axial series to one
    size; `noise_hu` adds whole numbers between -/+ that many HU. `seed` changes every UID, nothing else.
    """
    size = Size(small, slices_per_series, matrix, noise_hu)
    root = f"phantoms/{seed}/{size}"
    desks = []
    for person, visits in zip(PERSONS, (_anna, _bertram, _chiara, _dmitri, _elena), strict=True):
        desks += visits(person, root, size, folder)
    paths = sorted(folder.rglob("*.dcm"))
    reports = sum(len(desk.headers) for desk in desks)
    return PhantomArchive(
        folder=folder,
        expected=tuple(mark for desk in desks for mark in desk.expected),
        images=len(paths) - reports,
        reports=reports,
        study_dates=tuple(desk.study.date for desk in desks),
        uids=frozenset(uid for path in paths for uid in _uids(path)),
    )


def _uids(path: Path) -> set[str]:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    header = dcmread(path, specific_tags=list(keywords), stop_before_pixels=True)
    return {str(header[keyword].value) for keyword in keywords if keyword in header}


def _visit(person: Person, root: str, folder: Path, time_point: int, date: str) -> tuple[StudyIdentity, Desk]:
    study = StudyIdentity(person, time_point, date, "091500", root)
    return study, Desk(study, folder / person.key / f"time_{time_point}")


def _grown(factor: float, *lesions: LesionPlan) -> tuple[LesionPlan, ...]:
    return tuple(replace(lesion, growth=factor) for lesion in lesions)


def _anna(person: Person, root: str, size: Size, folder: Path) -> list[Desk]:
    """512 x 512, 5 mm; OHIF 3.13 with every tool, a copy, marks on distractors, a report saved again."""
    axial = SeriesPlan("axial", 2, "Abdomen 5.0", 512, 5.0, 28, storing=SIGNED)
    study, first = _visit(person, root, folder, 0, "20190412")
    series = write_series(study, axial, (LUNG, LUNG_LEFT, LIVER, LIVER_FRONT, VERTEBRA, SPLEEN), size, first.folder)
    localizer = write_localizer(series, 1, first.folder)
    coronal = write_coronal_reformat(series, 3, size, first.folder, "liver")
    marks = (
        cross_on(series, "lung", "Lesion 1"),
        cross_on(series, "liver", "Lesion 2").flagged("default_short_axis"),
        cross_on(series, "vertebra", f"Lesion 3 {FREE_TEXT}"),
        drawn_with(cross_on(series, "lung left"), "Length"),
        drawn_with(cross_on(series, "liver front"), "ArrowAnnotate"),
        drawn_with(cross_on(series, "spleen"), "EllipticalROI"),
    )
    first.ohif(first.header("read", 3001, 1), OHIF_3_13, marks)
    first.ohif(first.header("copy", 3002, 2), OHIF_3_13, tuple(_copied(mark) for mark in marks[:3]))
    on_distractors = (
        _middle_cross(localizer, 0, "on localizer").rejected("localizer"),
        _middle_cross(coronal, 2, "on reformat").rejected("non_axial", "derived_image"),
    )
    first.ohif(first.header("marks", 3003, 3), OHIF_3_13, on_distractors)

    study, second = _visit(person, root, folder, 1, "20190719")
    series = write_series(study, axial, _grown(1.15, LUNG, LIVER, VERTEBRA), size, second.folder)
    labels = {"lung": "Lesion 1", "liver": "Lesion 2", "vertebra": f"Lesion 3 {FREE_TEXT}"}
    final = tuple(cross_on(series, name, label) for name, label in labels.items())
    final = tuple(mark.flagged("default_short_axis") if mark.lesion == "liver" else mark for mark in final)
    draft = tuple(_draft(mark, series) for mark in final)
    draft_header = second.header("draft", 3001, 1, series_key="read")
    second.ohif(draft_header, OHIF_3_13, draft)
    second.ohif(second.header("final", 3001, 9, series_key="read", instance=2), OHIF_3_13, final, (draft_header,))
    return [first, second]


def _copied(mark: Mark) -> Mark:
    """The same lines saved once more; OHIF gives each save its own tracking UIDs."""
    drawing = replace(mark.drawing, tracking_uid=uid_of(mark.drawing.tracking_uid, "copy"))
    return replace(mark, drawing=drawing, ends_on_edges=False).rejected("duplicate")


def _draft(mark: Mark, series: Series) -> Mark:
    """A cross drawn too small, before the reader corrected it and saved again."""
    grid = series.grids[series.lesions[mark.lesion][0]]
    draft = shrunk(mark, grid, 0.15, "draft")
    return replace(draft, drawing=replace(draft.drawing, label=mark.drawing.label)).rejected("superseded")


def _middle_cross(series: Series, index: int, name: str) -> Mark:
    grid = series.grids[index]
    uid = series.header.study.uid("tracking", series.plan.key)
    return plain_cross(series.drawn_on(index), None, grid.columns, grid.rows, name, uid)


def _bertram(person: Person, root: str, size: Size, folder: Path) -> list[Desk]:
    """256 x 256, 2.5 mm; prone, then supine numbered from the feet in RLE; highdicom on the image, in the patient."""
    prone = SeriesPlan(
        "axial", 4, "Prone 2.5", 256, 2.5, 36, (0.8, 0.8), PRONE, storing=UNSIGNED, patient_position="HFP"
    )
    study, first = _visit(person, root, folder, 0, "20200103")
    series = write_series(study, prone, (LUNG, KIDNEY, LIVER), size, first.folder)
    crosses = tuple(cross_on(series, name, tracking=name) for name in ("lung", "kidney", "liver"))
    first.highdicom(first.header("read", 101, 1), crosses, SCOORD)

    supine = SeriesPlan("axial", 2, "From feet 2.5", 256, 2.5, 36, (0.8, 0.8), numbered_from_head=False, storing=RLE)
    study, second = _visit(person, root, folder, 1, "20200228")
    lesions = (*_grown(0.85, LUNG, KIDNEY, LIVER), LUNG_LEFT, LIVER_FRONT, SPLEEN, VERTEBRA)
    series = write_series(study, supine, lesions, size, second.folder)
    crosses = tuple(cross_on(series, name, tracking=name) for name in ("lung", "kidney", "liver"))
    between = moved(cross_on(series, "spleen"), series.grids[series.lesions["spleen"][0]], (0.0, 0.0, 1.6), "between")
    second.highdicom(
        second.header("patient", 101, 1), (*crosses, between.rejected("off_plane")), Manner(in_patient=True)
    )
    second.highdicom(second.header("slips", 102, 2), _slips(series), SCOORD)
    return [first, second]


def _slips(series: Series) -> tuple[Mark, ...]:
    """What goes wrong at the keyboard: centimetres for millimetres, a wrong number, a click without a drag."""
    in_cm = cross_on(series, "liver front")
    in_cm = in_cm.stated(*(value / 10 for value in in_cm.drawing.values)).flagged("unit_slip")
    wrong = cross_on(series, "lung left")
    wrong = replace(wrong, ends_on_edges=False).stated(*(value * 1.7 for value in wrong.drawing.values))
    click = cross_on(series, "vertebra")
    click = shrunk(click, series.grids[series.lesions["vertebra"][0]], 0.999, "click")
    return in_cm, wrong.rejected("stated_value_mismatch"), click.rejected("zero_length")


def _chiara(person: Person, root: str, size: Size, folder: Path) -> list[Desk]:
    """Tilted gantry, 6 and 12 degrees, with padding outside the round field; OHIF 3.11; an oblique reformat."""
    slight = SeriesPlan("axial", 3, "Gantry 6 deg", 512, 5.0, 24, orientation=tilted(6.0), tilt_deg=6.0, storing=PADDED)
    windows = ((40.0, 400.0), (-500.0, 1500.0))
    study, first = _visit(person, root, folder, 0, "20181130")
    series = write_series(study, replace(slight, windows=windows), (LUNG, LIVER, LUNG_LEFT), size, first.folder)
    crosses = (
        cross_on(series, "lung", "Lesion 1"),
        cross_on(series, "liver", "Lesion 2").flagged("default_short_axis"),
    )
    arrow = drawn_with(cross_on(series, "lung left"), "ArrowAnnotate")
    first.ohif(first.header("read", 4701, 1), OHIF_3_11, (*crosses, arrow))

    steep = replace(slight, description="Gantry 12 deg", orientation=tilted(12.0), tilt_deg=12.0)
    study, second = _visit(person, root, folder, 1, "20190301")
    series = write_series(study, steep, _grown(1.1, LUNG, LIVER), size, second.folder)
    on_steep = tuple(cross_on(series, name).rejected("non_axial") for name in ("lung", "liver"))
    second.ohif(second.header("read", 4701, 1), OHIF_3_11, on_steep)
    oblique = SeriesPlan("oblique", 5, "Oblique 35 deg", 256, 4.0, 8, (0.8, 0.8), turned(35.0), storing=SIGNED)
    oblique = replace(oblique, image_type=("ORIGINAL", "PRIMARY", "OBLIQUE"))
    centred = replace(LIVER, centre_mm=(-40.0, 10.0), slice_share=0.5)
    # The reformat is as long as it is planned: more slices would leave the body.
    series = write_series(study, oblique, (centred,), replace(size, slices_per_series=None), second.folder)
    on_oblique = replace(cross_on(series, "liver", "oblique"), name="oblique", ends_on_edges=False)
    second.highdicom(second.header("oblique", 101, 2), (on_oblique.rejected("non_axial"),), SCOORD)
    return [first, second]


def _dmitri(person: Person, root: str, size: Size, folder: Path) -> list[Desk]:
    """A multi-frame Enhanced CT, then 1 mm in JPEG-LS with a deflated report; a report whose images are gone."""
    multi_frame = SeriesPlan(
        "enhanced", 2, "Enhanced 2.5", 256, 2.5, 30, (0.75, 0.75), multi_frame=True, storing=UNSIGNED
    )
    study, first = _visit(person, root, folder, 0, "20220907")
    series = write_series(study, multi_frame, (LUNG, LIVER, KIDNEY), size, first.folder)
    crosses = tuple(cross_on(series, name, tracking=name) for name in ("lung", "liver", "kidney"))
    first.highdicom(first.header("read", 101, 1), crosses, SCOORD)

    thin = SeriesPlan("axial", 2, "Thin 1.0", 256, 1.0, 60, (0.75, 0.75), storing=JPEG_LS)
    study, second = _visit(person, root, folder, 1, "20221214")
    series = write_series(study, thin, _grown(0.9, LUNG, LIVER, KIDNEY), size, second.folder)
    crosses = tuple(cross_on(series, name, tracking=name) for name in ("lung", "liver", "kidney"))
    second.highdicom(second.header("read", 101, 1), crosses, Manner(syntax=DeflatedExplicitVRLittleEndian))
    second.highdicom(second.header("gone", 102, 2), (_on_missing_image(cross_on(series, "lung", "gone")),), SCOORD)
    return [first, second]


def _on_missing_image(mark: Mark) -> Mark:
    """The mark moved to an image that the archive does not have."""
    evidence = copy.deepcopy(mark.evidence)
    assert evidence is not None
    uid = uid_of(mark.drawing.on.ref.sop_instance_uid, "gone")
    series_uid = uid_of(mark.drawing.on.ref.series_instance_uid, "gone")
    evidence.SOPInstanceUID, evidence.SeriesInstanceUID = uid, series_uid
    ref = replace(mark.drawing.on.ref, sop_instance_uid=uid, series_instance_uid=series_uid)
    drawing = replace(mark.drawing, on=replace(mark.drawing.on, ref=ref))
    moved_mark = replace(mark, name="gone", drawing=drawing, evidence=evidence, ends_on_edges=False, lesion="")
    return moved_mark.rejected("image_missing")


def _elena(person: Person, root: str, size: Size, folder: Path) -> list[Desk]:
    """Pixels that are not square, prone with OHIF's swapped spacings, then supine; a dose screen; a text report."""
    prone = SeriesPlan("axial", 2, "Prone 3.0", 256, 3.0, 30, (0.9, 0.7), PRONE, storing=SIGNED, patient_position="HFP")
    study, first = _visit(person, root, folder, 0, "20230516")
    series = write_series(study, prone, (LUNG, LIVER_FRONT), size, first.folder)
    crosses = tuple(cross_on(series, name).flagged("swapped_spacing_undone") for name in ("lung", "liver front"))
    first.ohif(first.header("read", 3001, 1), OHIF_3_13, crosses)
    first.text(first.header("dictated", 900, 2))

    supine = replace(prone, description="Supine 3.0", orientation=SeriesPlan.orientation, patient_position="HFS")
    study, second = _visit(person, root, folder, 1, "20230822")
    series = write_series(study, supine, _grown(1.2, LUNG, LIVER_FRONT), size, second.folder)
    crosses = tuple(cross_on(series, name) for name in ("lung", "liver front"))
    second.highdicom(second.header("read", 101, 1), crosses, SCOORD)
    second.ohif(second.header("dose", 3002, 2), OHIF_3_13, _on_dose_screen(study, second.folder))
    return [first, second]


def _on_dose_screen(study: StudyIdentity, folder: Path) -> tuple[Mark, ...]:
    header = SeriesHeader(study, "dose", 999, "Dose Report")
    screen = dose_screen(header)
    write_image(screen, folder / "dose" / "0001.dcm", SIGNED)
    on = DrawnOn(header.ref(1), SecondaryCaptureImageStorage)
    cross = plain_cross(on, None, 256, 256, "on dose screen", study.uid("tracking", "dose"))
    reasons = ("not_ct", "bad_geometry", "derived_image", "burned_in")
    return cross.rejected(*reasons), replace(drawn_with(cross, "Length"), reasons=(*reasons, "no_second_axis"))


__all__ = ["ExpectedBookmark", "PhantomArchive", "write_phantoms"]
