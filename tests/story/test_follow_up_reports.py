"""Three studies of a patient with lymph nodes, mined, become reports that state the response, and against what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from deeplesion_miner.types import Segment
from dicom_io.testbed.identity import PERSONS
from dicom_io.testbed.synthetic import Cross, write_synthetic_study
from tests.dicom_validators import dciodvfy, dsrdump
from tests.experiments.mined import Ended, Mined, import_files, mine

COURSE_MM = (
    (20.0, 30.0, 12.0),
    (12.0, 20.0, 30.0),
    (16.0, 26.0, 8.0),
)
"""Short axis of a node, long axis of a mass in the liver, short axis of a node that is too small at first, by study."""
DAYS = ("20010101", "20010102", "20010103")
SLICES, MATRIX = 5, 96


def crosses(study: int) -> list[Cross]:
    """Nodes are 40 mm long, which must not count."""
    node, mass, small = COURSE_MM[study]
    sizes = ((1, "node", 40.0, node), (2, "liver", mass, 10.0), (3, "node", 40.0, small))
    return [
        Cross(
            index,
            Segment((48 - long_mm / 2, 48.0), (48 + long_mm / 2, 48.0)),
            Segment((48.0, 48 - short_mm / 2), (48.0, 48 + short_mm / 2)),
            word,
        )
        for index, word, long_mm, short_mm in sizes
    ]


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Mined:
    folder = tmp_path_factory.mktemp("course")
    hu = np.full((SLICES, MATRIX, MATRIX), 40, np.int16)
    for number in range(len(COURSE_MM)):
        position_mm = np.arange(0.0, 5.0 * SLICES, 5.0, dtype=np.float64)
        write_synthetic_study(
            folder / "files" / str(number), PERSONS[0], number, hu, (1.0, 1.0), position_mm, crosses(number)
        )
    return import_files(folder, [folder / "files"])


@pytest.fixture(scope="module")
def ended(mined: Mined, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    out = tmp_path_factory.mktemp("told") / "reports"
    files = mined.work.parent / "files"
    words = ("--files", files, "--to", "dicom-sr", "--objects", out, "--follow-up")
    return mine("export", "--work", mined.work, *words), out


@pytest.fixture(scope="module")
def reports(ended: tuple[Ended, Path]) -> dict[str, Path]:
    """By study date."""
    return {str(dcmread(path).StudyDate): path for path in ended[1].iterdir()}


def evaluations(path: Path) -> Dataset | None:
    """The container of the response; None without one."""
    found = [item for item in dcmread(path).ContentSequence
             if item.ConceptNameCodeSequence[0].CodeMeaning == "Qualitative Evaluations"]  # fmt: skip
    return found[0] if found else None


def said(path: Path) -> tuple[Any, str]:
    container = evaluations(path)
    assert container is not None
    code, words, *_ = container.ContentSequence
    return code.ConceptCodeSequence[0], str(words.TextValue)


def test_the_first_study_has_no_response_and_each_later_one_has(reports: dict[str, Path]) -> None:
    assert sorted(reports) == list(DAYS)
    assert evaluations(reports[DAYS[0]]) is None
    found = [said(reports[day])[0] for day in DAYS[1:]]
    assert [(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) for code in found] == [
        ("112042", "DCM", "Target Lesion Partial Response"),
        ("112043", "DCM", "Target Lesion Progressive Disease"),
    ]


def test_the_report_says_against_which_studies_it_was_computed(reports: dict[str, Path]) -> None:
    first, second = (str(dcmread(reports[day]).StudyInstanceUID) for day in DAYS[:2])
    assert said(reports[DAYS[2]])[1] == (
        f"RECIST 1.1, target lesions only: sum of diameters 42.00 mm; baseline 50.00 mm on 20010101 (study {first}), "
        f"-16.0 %; nadir 32.00 mm on 20010102 (study {second}), +31.2 %. Of 2 target lesions 1 count by the short "
        "axis, as lymph nodes by their codes, and 1 by the long axis, since no code says that they are nodes."
    )


def notes(path: Path) -> list[str]:
    container = evaluations(path)
    assert container is not None
    return [str(item.TextValue) for item in container.ContentSequence[2:]]


def test_the_report_lists_targets_and_non_targets_and_leaves_the_patients_response_to_a_reader(
    reports: dict[str, Path],
) -> None:
    targets, non_targets, overall = notes(reports[DAYS[1]])
    assert "long axis 30.00 mm, now 20.00 mm" in targets
    assert "short axis 20.00 mm, now 12.00 mm" in targets
    assert "short axis 12.00 mm, now 30.00 mm, present [a lymph node with a short axis of 10 to 15 mm" in non_targets
    assert overall == (
        "Overall response by RECIST 1.1, table 1: partial response (PR) if there is no new lesion (no mark is a"
        " candidate), and no non-target lesion has progressed unequivocally, else progressive disease (PD). A reader"
        " must decide; marks cannot."
    )
    assert notes(reports[DAYS[2]])[-1].endswith("by the target lesions alone, whether or not a lesion is new.")


def test_each_group_says_whether_its_lesion_is_a_target(reports: dict[str, Path]) -> None:
    found = {
        day: [
            dsrdump(path).count(f'"{said}"') for said in ("Target Lesion at Baseline", "Non-Target Lesion at Baseline")
        ]
        for day, path in reports.items()
    }
    assert found == {DAYS[0]: [0, 0], DAYS[1]: [2, 1], DAYS[2]: [2, 1]}


def test_what_does_not_count_is_told_with_its_reason(ended: tuple[Ended, Path]) -> None:
    assert ended[0].code == 0, ended[0].stderr
    assert "1 lesion without a part in the sum of the targets (node_below_15_mm): a lymph node" in ended[0].stderr
    assert "targets that no code of finding or site calls a lymph node count by the long axis" in ended[0].stderr


def test_independent_readers_take_the_reports(reports: dict[str, Path]) -> None:
    for day, path in reports.items():
        assert dciodvfy(path) == []
        tree = dsrdump(path)
        assert ("Target Lesion" in tree) == (day != DAYS[0])
        document = highdicom.sr.srread(path)
        assert len(document.content.get_planar_roi_measurement_groups()) == 0
        groups = document.content.get_image_measurement_groups()
        assert len(groups) == 3
        assert {site.value.meaning for group in groups for site in group.finding_sites} == {"Lymph node", "Liver"}
