"""The slices that explain the figures: worst and nearest misses, surest detections beside the marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deeplesion_miner.detection import Detection
from models.evaluation.cases import MarkedDataset
from models.evaluation.evaluate import Evaluation
from models.evaluation.findings import (
    OPERATING_POINT,
    Beside,
    Miss,
    misses,
    nearest_misses,
    operating_score,
    surest_beside,
)
from models.evaluation.strata import COARSE_TYPES
from models.evaluation.tiles import mark_box, tile
from models.marks import Mark

MOST = 12
"""Tiles of a gallery."""
LEGEND = (
    '<p class="legend"><i class="long"></i> long axis, <i class="short"></i> short axis and <i class="box"></i> tight '
    'box of a mark; <i class="strong"></i> detection with its score, <i class="faint"></i> detection below the score '
    "where the curve has 4 false positives per image.</p>"
)


def galleries(evaluation: Evaluation, dataset: MarkedDataset) -> Iterator[tuple[str, str]]:
    """(title, HTML) of each gallery that has something to show; only the slices shown are read."""
    missed = misses(evaluation.cases, evaluation.pool, evaluation.count)
    beside = surest_beside(evaluation.cases, evaluation.count, MOST)
    found = len(evaluation.count.mark)
    if missed:
        lead = (
            f"<p>{len(missed):,} of {found:,} marks are missed at {OPERATING_POINT:g} false positives per image. "
            "The least overlapped come first, of these the largest.</p>"
        )
        yield "The worst misses", lead + LEGEND + _sheet(_miss(one, evaluation, dataset) for one in missed[:MOST])
    near = nearest_misses(missed)
    if near:
        lead = "<p>Missed marks that some detection touches: the box is off, or the score too low.</p>"
        yield "The nearest misses", lead + _sheet(_miss(one, evaluation, dataset) for one in near[:MOST])
    if beside:
        lead = (
            "<p>The highest scores on no mark, two of a slice at most. On slices marked in part some may be right.</p>"
        )
        yield "The surest false positives", lead + LEGEND + _sheet(_beside(one, evaluation, dataset) for one in beside)


def _sheet(tiles: Iterator[str]) -> str:
    return f'<div class="sheet">{"".join(tiles)}</div>'


def _miss(one: Miss, evaluation: Evaluation, dataset: MarkedDataset) -> str:
    strong, faint = _around(evaluation, one.key_slice.file_name, one.nearest)
    if one.nearest is None:
        words = "no detection touches it"
    else:
        words = f"{evaluation.protocol.measure} {one.overlap:.2f}, score {one.nearest.score:.2f}"
    hu = dataset.hu(one.key_slice.file_name)
    return tile(hu, one.key_slice, mark_box(one.mark), strong, faint, f"{_size(one.mark)}; {words}")


def _beside(one: Beside, evaluation: Evaluation, dataset: MarkedDataset) -> str:
    strong, _ = _around(evaluation, one.key_slice.file_name, None)
    hu = dataset.hu(one.key_slice.file_name)
    shown = strong if one.detection in strong else (*strong, one.detection)
    return tile(hu, one.key_slice, one.detection.box, shown, (), f"score {one.detection.score:.3f}")


def _around(
    evaluation: Evaluation, file_name: str, nearest: Detection | None
) -> tuple[Sequence[Detection], Sequence[Detection]]:
    """Detections of a slice from the operating score on, and the nearest where it scores less."""
    names = [one.file_name for one in evaluation.slices.counted]
    least = operating_score(evaluation.count)
    strong = tuple(one for one in evaluation.cases.detected[names.index(file_name)] if one.score >= least)
    faint = () if nearest is None or nearest in strong else (nearest,)
    return strong, faint


def _size(mark: Mark) -> str:
    kind = COARSE_TYPES.get(mark.coarse_lesion_type, "")
    short = "" if mark.short_axis_mm is None else f" x {mark.short_axis_mm:.1f}"
    known = f", {kind}" if mark.coarse_lesion_type > 0 else ""
    return f"{mark.long_axis_mm:.1f}{short} mm{known}"
