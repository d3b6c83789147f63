"""What a model found, as results that emitters take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cli.output import notice, plural

if TYPE_CHECKING:
    from deeplesion_miner.detection import Detection
    from deeplesion_miner.results import Result


def at_least(detections: Sequence[Detection], score: float, option: str) -> list[Detection]:
    """The detections that are as sure, and those whose score is no number: emitters leave them out by name.

    Says how many score less, and the option that has them written, too.
    """
    surest = [one for one in detections if not one.score < score]
    less_sure = len(detections) - len(surest)
    if less_sure:
        best = "" if surest else f" (the best scores {max(one.score for one in detections):.3g})"
        notice(f"{plural(less_sure, 'detection')} below {option} {score} are in the table alone{best}")
    return surest


def results_of(detections: Sequence[Detection], made_at: datetime) -> tuple[Result, ...]:
    """One result for each study and model."""
    from importlib.metadata import version

    from deeplesion_miner.results import Author, of_detections

    results: list[Result] = []
    for model_id in sorted({one.model_id for one in detections}):
        name, _, digest = model_id.rpartition("-")
        author = Author(
            name=name or model_id,
            version=digest if name else version("deeplesion-miner"),
            manufacturer="deeplesion_miner",
            parameters=(("model", model_id),),
        )
        results += of_detections([one for one in detections if one.model_id == model_id], author, made_at)
    return tuple(results)
