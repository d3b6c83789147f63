"""What is emitted again, corrected or left out, as people see it: `mine export`, `mine predict`, jobs of the node."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest

from cli import finding, serve_jobs
from cli.config import Settings
from cli.exits import Exit
from cli.finding import Finding, Predictor
from cli.main import run
from cli.output import Output
from cli.results import results_of
from deeplesion_miner.detection import Detection
from deeplesion_miner.types import Box, ImageRef, Segment
from dicom_io.emit import Emission
from dicom_io.node import JobRequest
from dicom_io.node.rules import SeriesRule
from dicom_io.outbox import Outbox
from dicom_io.testbed.newcomer import write_newcomer
from models import prediction
from models.detectors.port import Found
from models.prediction import PredictionSettings
from models.predictions_table import write_predictions
from models.volume import Volume

ELSEWHERE = "PACS@127.0.0.1:1"
Export = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_newcomer(tmp_path_factory.mktemp("corrections") / "study", small=True).folder


@pytest.fixture
def predictions(study: Path, tmp_path: Path) -> Path:
    """Three crosses on the first three images."""
    path = tmp_path / "predictions.parquet"
    write_predictions(path, [cross(image, 0.9 - number / 10) for number, image in enumerate(images_of(study)[:3])])
    return path


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str], study: Path, tmp_path: Path) -> Export:
    """`mine export PREDICTIONS` in this process, with the study and what was emitted so far as files."""

    def export(predictions: Path, *words: str | Path) -> tuple[int, str]:
        (tmp_path / "objects").mkdir(exist_ok=True)
        given = ["export", predictions, "--files", study, "--to", "dicom-sr", "--work", tmp_path / "work", *words]
        return run([str(word) for word in given]), capsys.readouterr().err

    return export


def images_of(study: Path) -> list[ImageRef]:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in study.rglob("*.dcm")]
    return sorted(ImageRef(str(one.StudyInstanceUID), str(one.SeriesInstanceUID), str(one.SOPInstanceUID))
                  for one in headers)  # fmt: skip


def cross(image: ImageRef, score: float) -> Detection:
    return Detection(image, Box(20, 15, 40, 25), score, "finder-ab12", "", Segment((20.0, 20.0), (40.0, 20.0)),
                     Segment((30.0, 15.0), (30.0, 25.0)), 20.0, 10.0)  # fmt: skip


def spoil(predictions: Path, column: str, row: int, value: object) -> None:
    """As another program may write it."""
    table = pq.read_table(predictions)
    values = table.column(column).to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), predictions)


def reports(folder: Path) -> dict[str, list[str]]:
    """Predecessors of the reports in a folder, by SOP Instance UID."""
    found = {}
    for path in folder.glob("*.dcm"):
        report = pydicom.dcmread(path)
        found[str(report.SOPInstanceUID)] = [
            str(sop.ReferencedSOPInstanceUID)
            for study in report.get("PredecessorDocumentsSequence", [])
            for series in study.ReferencedSeriesSequence
            for sop in series.ReferencedSOPSequence
        ]
    return found


# --- corrections -----------------------------------------------------------------------------------------


def test_an_export_into_an_archive_that_has_an_earlier_report_corrects_it(
    export: Export, predictions: Path, tmp_path: Path
) -> None:
    objects = tmp_path / "objects"
    seen = ("--files", objects, "--objects", objects)
    assert export(predictions, *seen)[0] == Exit.DONE
    (first,) = reports(objects)
    assert "correct" not in export(predictions, *seen)[1]
    assert list(reports(objects)) == [first]
    said = export(predictions, *seen, "--least-score", "0.75")[1]
    assert "they correct 1 earlier report of the same algorithm" in said
    (second,) = set(reports(objects)) - {first}
    assert reports(objects) == {first: [], second: [first]}
    said = export(predictions, *seen)[1]
    assert "1 result told by an earlier report, which a later one corrects" in said
    assert len(reports(objects)) == 2


def test_what_is_queued_and_not_sent_is_corrected_too(export: Export, predictions: Path, tmp_path: Path) -> None:
    for score in ("0.5", "0.75", "0.5", "0.75"):
        assert export(predictions, "--queue", ELSEWHERE, "--least-score", score)[0] == Exit.DONE
    with Outbox.open(tmp_path / "work" / "outbox") as outbox:
        first, second = outbox.parcels()
        named = pydicom.dcmread(outbox.path(second)).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
        assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.sop_instance_uid
        study = first.study_instance_uid
        assert outbox.of_study(ELSEWHERE, study) == (first, second)
        assert outbox.of_study("OTHER@127.0.0.1:1", study) == outbox.of_study(ELSEWHERE, "1.2.3") == ()


def test_a_job_of_the_node_corrects_what_its_destination_has_from_an_earlier_one(
    export: Export, predictions: Path, study: Path, tmp_path: Path
) -> None:
    export(predictions, "--objects", tmp_path / "objects")
    (first,) = reports(tmp_path / "objects")
    (result,) = results_of([cross(images_of(study)[0], 0.8)], datetime(2026, 1, 1, tzinfo=UTC))
    paths = tuple(study.rglob("*.dcm"))
    series = result.lesions[0].image.series_instance_uid
    rule = SeriesRule("lesions", Path("model"), ELSEWHERE)
    request = JobRequest(result.study_instance_uid, rule, {series: paths}, result.made_at)
    assert serve_jobs._emitted(result, request, Settings(), paths).corrects == ()
    knowing = replace(request, earlier=tuple((tmp_path / "objects").glob("*.dcm")))
    assert serve_jobs._emitted(result, knowing, Settings(), paths).corrects == (first,)


# --- numbers that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("score", math.nan),
        ("score", math.inf),
        ("volume_mm3", math.nan),
        ("x_max", math.inf),
        ("long_axis_px", [math.nan, 20.0, 40.0, 20.0]),
        ("short_axis_px", [30.0, 15.0, 30.0, math.inf]),
    ],
)
def test_a_number_that_is_none_leaves_out_its_lesion_by_name_and_the_others_are_written(
    export: Export, predictions: Path, tmp_path: Path, column: str, value: object
) -> None:
    spoil(predictions, column, 1, value)
    code, said = export(predictions, "--objects", tmp_path / "objects")
    assert code == Exit.PARTIAL, said
    assert "left out 1 time: not_finite: its score, volume, axes or box hold a number that is none" in said
    (path,) = (tmp_path / "objects").glob("*.dcm")
    groups = [
        item for item in pydicom.dcmread(path).ContentSequence[-1].ContentSequence if item.ValueType == "CONTAINER"
    ]
    assert len(groups) == 2


# --- no detection vanishes silently ----------------------------------------------------------------------


class SeesMany:
    """A detector that finds as many on each slice, one of them nowhere."""

    model_id = "many-1"

    def __init__(self, boxes: int) -> None:
        self.boxes = boxes

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        boxes = np.array([[4.0 * number, 4, 4 * number + 3, 9] for number in range(self.boxes)])
        boxes[-1, 0] = np.nan
        scores = np.linspace(0.9, 0.5, self.boxes)
        return tuple(Found(boxes, scores, np.full((self.boxes, 4, 2), np.nan)) for _ in indices)


def test_the_reasons_are_those_of_the_models_room() -> None:
    assert finding.DROPPED == prediction.DROPPED


def test_a_prediction_tells_what_it_dropped_to_people_and_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    found = Finding("", left_out=Counter(beyond_most=12, not_finite=1, not_ct=3))
    finding.tell_left_out(found, Output(True))
    printed = capsys.readouterr()
    told = [json.loads(line) for line in printed.out.splitlines()]
    assert [(one["type"], one["reason"], one["count"]) for one in told] == [
        ("left_out", "beyond_most", 12), ("left_out", "not_finite", 1), ("left_out", "not_ct", 3)]  # fmt: skip
    assert "left out: 12 detections, beyond_most: a slice or a series had more detections than are kept" in printed.err
    assert "left out: 1 detection, not_finite" in printed.err
    assert "left out: 3 images, not_ct" in printed.err
    finding.tell_left_out(found, Output(False))
    assert capsys.readouterr().out == ""


def test_a_job_tells_what_the_model_found_beyond_the_most(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = serve_jobs.MOST_DETECTIONS
    predictor = Predictor(SeesMany(most + 8), None, PredictionSettings(most=most, masks=False))
    monkeypatch.setattr(serve_jobs, "_predictor", lambda *_: predictor)
    images = images_of(study)
    rule = SeriesRule("lesions", Path("model"), ELSEWHERE, emit=("dicom-sr",))
    paths = {images[0].series_instance_uid: tuple(study.rglob("*.dcm"))}
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    emission = serve_jobs.run_job(JobRequest(images[0].study_instance_uid, rule, paths, made_at), Settings())
    assert isinstance(emission, Emission)
    told = Counter(one.why for one in emission.left_out)
    assert told["beyond_most"] == 7 * len(images)
    assert told["not_finite"] == len(images)
