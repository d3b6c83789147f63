"""A small dataset in memory with planted marks and detections, for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import Detection
from deeplesion_miner.types import Box, Segment
from models.evaluation.cases import counted_slices
from models.evaluation.evaluate import Evaluation, Predictions, evaluate
from models.evaluation.intervals import Draws
from models.evaluation.protocol import Protocol
from models.marks import Annotation, KeySlice, Mark

SIDE = 128
FEW = Draws(seed=1, replicates=60)


@dataclass(frozen=True)
class World:
    """What evaluation asks of a dataset."""

    key_slices: tuple[KeySlice, ...]
    shipped: frozenset[str] = field(default=frozenset())
    digest: str = "d1"

    def has(self, file_name: str) -> bool:
        return file_name in self.shipped or any(one.file_name == file_name for one in self.key_slices)

    def hu(self, file_name: str) -> NDArray[np.int16]:
        columns = np.arange(SIDE, dtype=np.int16)
        return np.broadcast_to(columns * 2 - 100, (SIDE, SIDE)).astype(np.int16)


def mark(name: str, at: tuple[float, float], long_px: float = 20.0, **facts: object) -> Mark:
    """A mark with its long axis along the row, the short one half as long; pixels of 1 mm."""
    column, row = at
    half, short = long_px / 2, long_px / 4
    ends = np.array([[column - half, row], [column + half, row], [column, row - short], [column, row + short]])
    box = (column - half - 5, row - short - 5, column + half + 5, row + short + 5)
    known: dict[str, object] = {"coarse_lesion_type": 5, "possibly_noisy": False}
    return Mark(name, ends, box, long_px, 2 * short, **(known | facts))  # type: ignore[arg-type]


def key_slice(patient_number: int, number: int, /, *marks: Mark, **facts: object) -> KeySlice:
    """Slice `number` of the only series of a patient, of the test split."""
    series = f"{patient_number:06d}_01_01"
    known: dict[str, object] = {
        "file_name": f"{series}/{number:03d}.png",
        "series": series,
        "patient": f"patient {patient_number}",
        "split": "test",
        "slice_number": number,
        "slice_range": (1, 40),
        "rows": SIDE,
        "columns": SIDE,
        "row_spacing_mm": 1.0,
        "col_spacing_mm": 1.0,
        "slice_interval_mm": 5.0,
        "marks": marks,
        "annotation": Annotation.PARTIAL,
    }
    return KeySlice(**(known | facts))  # type: ignore[arg-type]


def on_mark(one: KeySlice, number: int, score: float, **facts: object) -> Detection:
    """A detection that agrees with a mark to the pixel, axes and all."""
    found = one.marks[number]
    ends = [tuple(end) for end in found.ends_px.tolist()]
    known: dict[str, object] = {
        "image": one.file_name,
        "box": Box(*found.tight_box_px.tolist()),
        "score": score,
        "model_id": "planted",
        "long_axis": Segment(ends[0], ends[1]),
        "short_axis": Segment(ends[2], ends[3]),
        "long_axis_mm": found.long_axis_mm,
        "short_axis_mm": found.short_axis_mm,
    }
    return Detection(**(known | facts))  # type: ignore[arg-type]


def beside(file_name: str, score: float, at: tuple[float, float] = (100.0, 100.0), side: float = 10.0) -> Detection:
    """A square detection around a point."""
    (x, y), half = at, side / 2
    return Detection(file_name, Box(x - half, y - half, x + half, y + half), score, "planted")


def evaluated(
    world: World, detections: Sequence[Detection], protocol: Protocol | None = None, **more: object
) -> Evaluation:
    """The evaluation of detections on the test split."""
    rules = protocol or Protocol()
    annotation = more.pop("annotation", {})
    slices = counted_slices(world, "test", rules, annotation)  # type: ignore[arg-type]
    return evaluate(world, slices, Predictions("a.parquet", tuple(detections)), rules, FEW, **more)  # type: ignore[arg-type]
