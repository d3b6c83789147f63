"""Whatever a result says, lint has nothing to say against the report that we write of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import schemas
from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Box, ImagePlane, Segment
from dicom_io.emit import EmitSettings, emit
from dicom_io.emit.source import SourceImages
from dicom_io.lint import VERSIONS, Linted, StudyImages, examine
from tests.dicom_io import little_objects

IMAGES = 2
points = st.tuples(*(st.floats(0, little_objects.COLUMNS - 1, width=32) for _ in range(2)))
segments = st.builds(Segment, points, points)
labels = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=80)
sites = st.sampled_from([None, *schemas.load("emit")["site"]])
authors = st.one_of(
    st.builds(Author, labels, version=labels, manufacturer=labels),
    st.builds(Author, labels, is_algorithm=st.just(False)),
)
drawn_lesions = st.tuples(segments, segments, labels, sites, st.integers(1, IMAGES), st.floats(0, 1))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceImages:
    return SourceImages.read(image_files(tmp_path_factory.mktemp("images")))


def image_files(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.dcm" for number in range(1, IMAGES + 1)]
    for number, path in enumerate(paths, start=1):
        little_objects.ct(1, number).save_as(path, enforce_file_format=True)
    return paths


def plane_of(source: SourceImages, sop_instance_uid: str) -> ImagePlane:
    plane = source.plane(source.headers[sop_instance_uid][0].ref)
    assert isinstance(plane, ImagePlane)
    return plane


@settings(max_examples=25, deadline=None)
@given(drawn=st.lists(drawn_lesions, min_size=1, max_size=4), author=authors, planar_boxes=st.booleans())
def test_no_report_of_ours_breaks_a_rule_and_every_lesion_in_it_can_be_edited(
    drawn: list[tuple[Segment, Segment, str, str | None, int, float]],
    author: Author,
    planar_boxes: bool,
    source: SourceImages,
) -> None:
    lesions = []
    for number, (one, other, label, site, image, score) in enumerate(drawn, start=1):
        long_axis, short_axis = sorted((one, other), key=lambda axis: -axis.length_px)
        assume(short_axis.length_px > 0.5)
        columns, rows = zip(*(one.start, one.end, other.start, other.end), strict=True)
        lesions.append(
            ReportedLesion(
                key=str(number),
                image=source.headers[little_objects.ct_uid(1, image)][0].ref,
                label=label,
                finding=coded("finding", "lesion"),
                site=coded("site", site) if site else None,
                score=score if author.is_algorithm else None,
                long_axis=long_axis,
                short_axis=short_axis,
                box=Box(min(columns), min(rows), max(columns), max(rows)),
            )
        )
    result = Result(little_objects.study_uid(1), author, tuple(lesions), datetime(2024, 3, 19, 8, 30))
    (written,) = emit(result, source, ["dicom-sr"], EmitSettings(planar_boxes=planar_boxes)).objects
    planes = {uid: (plane_of(source, uid),) for uid in source.headers}
    linted = examine(written.encoded, StudyImages(planes))
    assert isinstance(linted, Linted)
    assert linted.is_good, linted.findings
    assert linted.outlooks[-1].version == VERSIONS[-1]
    assert linted.outlooks[-1].measurements == len(lesions)
