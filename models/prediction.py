"""From a model and slices to Detections: box, RECIST, mask and 3-D mask of each lesion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deeplesion_miner.detection import Detection
from deeplesion_miner.errors import ConfigError, MinerError
from deeplesion_miner.types import Box, ImageRef, Point, Segment
from models.delineation.delineate import Delineator, delineate, reach_mm
from models.delineation.ellipse import ellipse_mask
from models.detectors.port import Detector, Found
from models.linking import link
from models.marks import KeySlice
from models.reading.folder import DatasetFolder
from models.training import registry
from models.training.environment import pick_device
from models.training.model_folder import ModelFolder
from models.volume import Volume


@dataclass(frozen=True)
class PredictionSettings:
    """What of a detector's answers is kept."""

    least_score: float = 0.1
    most: int = 100
    """Detections of a slice, or of a volume, the surest."""
    link_overlap: float = 0.3
    """IoU from which boxes of neighbouring slices are one lesion."""
    link_gap_mm: float = 6.0
    """Farthest that two slices of one lesion lie apart; the slice interval where slices are thicker."""
    reach_mm: float = 30.0
    """Slices read around a key slice of a dataset; farther ones, too, where a large lesion is delineated."""
    masks: bool = True
    """Whether each lesion is delineated: mask, 3-D mask, and RECIST measured on the mask."""


BEYOND_MOST, NOT_FINITE = DROPPED = ("beyond_most", "not_finite")
"""Why a detection is not kept: there are `most` surer ones; its score or box is NaN or infinite."""
LEAST_FIT = 0.4
"""IoU of a detection's box and the box of its axes below which the axes are not believed: boxes are learnt sooner."""
LINKED_INTERVALS = 1.1
"""Slice intervals that neighbouring slices lie apart at most, for rounded positions."""
TOLD_EVERY = 32
"""Slices of a volume between two words about how far it is looked at."""
DETECTORS = ("lesionnet", "seed")
"""Kinds of recipes whose models detect."""


def load_detector(path: Path, device: str = "auto", precision: str = "auto") -> Detector:
    """The detector of a model folder. ConfigError for a folder that holds none."""
    return detector_of(ModelFolder.load(path), device, precision)


def detector_of(model: ModelFolder, device: str = "auto", precision: str = "auto") -> Detector:
    """The detector of a model that was loaded. ConfigError for one that does not detect."""
    if model.recipe.kind not in DETECTORS:
        raise ConfigError(
            f"{model.path}: a model of kind {model.recipe.kind!r} does not detect; name a {' or '.join(DETECTORS)}"
        )
    where = pick_device(device)
    detector: Detector = registry.user(model, str(where), pick_precision(precision, where))
    return detector


def load_delineator(path: Path, device: str = "auto") -> Delineator:
    """The delineator of a model folder. ConfigError for a folder that holds none."""
    model = ModelFolder.load(path)
    if model.recipe.kind != "delineator":
        raise ConfigError(f"{path}: a model of kind {model.recipe.kind!r} does not delineate; name a 'delineator'")
    delineator: Delineator = registry.user(model, str(pick_device(device)))
    return delineator


def pick_precision(name: str, device: torch.device) -> str:
    """'auto' as what computes fastest without loss that shows: bf16 where the processor has it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


def without_neighbours(folder: DatasetFolder, key_slices: Sequence[KeySlice]) -> tuple[KeySlice, ...]:
    """Those beside which the folder has no other slice: to a model of several slices nothing changes along z there."""
    return tuple(one for one in key_slices if _is_alone(folder, one))


def _is_alone(folder: DatasetFolder, key_slice: KeySlice) -> bool:
    try:
        return len(folder.slices_around(key_slice)) == 1
    except MinerError:  # it is told when it is looked at
        return False


def on_key_slices(
    detector: Detector,
    folder: DatasetFolder,
    key_slices: Sequence[KeySlice],
    settings: PredictionSettings,
    delineator: Delineator | None = None,
    dropped: Counter[str] | None = None,
) -> Iterator[tuple[Detection, ...]]:
    """The lesions of each key slice of a dataset, best first: the 2-D protocol of DeepLesion's papers.

    `dropped` counts what was found and is not kept, by reason (`DROPPED`).
    """
    dropped = Counter() if dropped is None else dropped
    for key_slice in key_slices:
        volume, index = folder.volume(key_slice, settings.reach_mm)
        found = _kept(detector.detect(volume, (index,))[0], settings, dropped)
        one = _Slice(detector.model_id, volume, index, volume.images)
        wanted_mm = one.reach_mm(found) if settings.masks else 0.0
        if wanted_mm > settings.reach_mm:
            volume, index = folder.volume(key_slice, wanted_mm)
            one = _Slice(detector.model_id, volume, index, volume.images)
        yield tuple(one.detection(found, row, settings.masks, delineator) for row in range(len(found.scores)))


def on_volume(
    detector: Detector,
    volume: Volume,
    settings: PredictionSettings,
    delineator: Delineator | None = None,
    refs: Mapping[str, ImageRef] | None = None,
    looked: Callable[[int], object] = lambda slices: None,
    dropped: Counter[str] | None = None,
) -> tuple[Detection, ...]:
    """The lesions of a volume, best first, each once, on its surest slice.

    `refs` gives the archive's image for a name of the volume; without it detections carry the names. `looked` hears
    of so many slices more. `dropped` counts what was found and is not kept, by reason (`DROPPED`): on single slices,
    and lesions.
    """
    dropped = Counter() if dropped is None else dropped
    found: list[Found] = []
    for first in range(0, len(volume.images), TOLD_EVERY):
        some = range(first, min(first + TOLD_EVERY, len(volume.images)))
        found += [_kept(one, settings, dropped) for one in detector.detect(volume, some)]
        looked(len(some))
    gap_mm = max(settings.link_gap_mm, LINKED_INTERVALS * volume.interval_mm)
    lesions = link(found, volume.position_mm, overlap=settings.link_overlap, gap_mm=gap_mm)
    names = tuple((refs or {}).get(name, name) for name in volume.images)
    detections = []
    _count(dropped, BEYOND_MOST, len(lesions) - settings.most)
    for lesion in lesions[: settings.most]:
        index, row = lesion.slices[lesion.best], lesion.boxes[lesion.best]
        seen = _Slice(detector.model_id, volume, index, names)
        detections.append(seen.detection(found[index], row, settings.masks, delineator))
    return tuple(detections)


def _kept(found: Found, settings: PredictionSettings, dropped: Counter[str]) -> Found:
    """The surest rows, best first as detectors give them."""
    finite = np.isfinite(found.scores) & np.isfinite(found.boxes_px).all(axis=1)
    _count(dropped, NOT_FINITE, int((~finite).sum()))
    rows = np.flatnonzero(finite & (found.scores >= settings.least_score))
    _count(dropped, BEYOND_MOST, len(rows) - settings.most)
    rows = rows[: settings.most]
    return Found(found.boxes_px[rows], found.scores[rows], found.ends_px[rows])


def _count(dropped: Counter[str], reason: str, count: int) -> None:
    """Only what was dropped has an entry."""
    if count > 0:
        dropped[reason] += count


@dataclass(frozen=True, eq=False)
class _Slice:
    """A slice on which something was found; `names[i]` is what detections call slice i of the volume."""

    model_id: str
    volume: Volume
    index: int
    names: Sequence[ImageRef | str]

    def detection(self, found: Found, row: int, masks: bool, delineator: Delineator | None) -> Detection:
        """One row of what was found, measured."""
        box = Box(*found.boxes_px[row].tolist())
        ends = _ends(found, row, self.volume)
        plain = Detection(self.names[self.index], box, float(found.scores[row]), self.model_id)
        if not masks or not self._is_on_slice(ends):
            return _measured(plain, *_segments(ends), self.volume)
        drawn = delineate(self.volume, self.index, ends, delineator=delineator)
        named = dict(zip(self.volume.images, self.names, strict=True))
        return replace(
            _measured(plain, drawn.long_axis, drawn.short_axis, self.volume),
            mask=drawn.mask,
            volume=tuple((named[name], mask) for name, mask in drawn.volume),
            volume_mm3=drawn.volume_mm3,
        )

    def reach_mm(self, found: Found) -> float:
        """How far from this slice delineating what was found looks; 0 where nothing was."""
        rows = range(len(found.scores))
        return max((reach_mm(self.volume, _ends(found, row, self.volume)) for row in rows), default=0.0)

    def _is_on_slice(self, ends: NDArray[np.float64]) -> bool:
        """Whether the ellipse of the ends holds a pixel: a detection may reach over the edge."""
        return bool(ellipse_mask(ends, *self.volume.hu.shape[1:]).any())


def _ends(found: Found, row: int, volume: Volume) -> NDArray[np.float64]:
    """(4, 2) the axes of one row, or those of its box where they are not believed; the longer one in mm first."""
    box = Box(*found.boxes_px[row].tolist())
    ends = found.ends_px[row] if _fit(found.ends_px[row], box) else inscribed_ends(box)
    long_mm, short_mm = (_length_mm(axis, volume) for axis in _segments(ends))
    return ends if long_mm >= short_mm else ends[[2, 3, 0, 1]]


def _fit(ends: NDArray[np.float64], box: Box) -> bool:
    """Whether axes may be those of what is in the box: NaN ends and ends that span another box do not."""
    low, high = ends.min(axis=0), ends.max(axis=0)
    sides = np.minimum(high, (box.x_max, box.y_max)) - np.maximum(low, (box.x_min, box.y_min))
    common = sides.clip(min=0).prod()
    whole = (high - low).prod() + (box.x_max - box.x_min) * (box.y_max - box.y_min) - common
    return bool(np.isfinite(ends).all() and common >= LEAST_FIT * whole)


def _measured(detection: Detection, long_axis: Segment, short_axis: Segment, volume: Volume) -> Detection:
    return replace(
        detection,
        long_axis=long_axis,
        short_axis=short_axis,
        long_axis_mm=_length_mm(long_axis, volume),
        short_axis_mm=_length_mm(short_axis, volume),
    )


def inscribed_ends(box: Box) -> NDArray[np.float64]:
    """(4, 2) ends of the axes of the ellipse in a box, for detectors without axes; the longer in pixels first."""
    middle_x, middle_y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    across = [(box.x_min, middle_y), (box.x_max, middle_y)]
    down = [(middle_x, box.y_min), (middle_x, box.y_max)]
    wide = box.x_max - box.x_min >= box.y_max - box.y_min
    return np.array([*across, *down] if wide else [*down, *across], np.float64)


def _segments(ends: NDArray[np.float64]) -> tuple[Segment, Segment]:
    points: list[Point] = [(float(x), float(y)) for x, y in ends]
    return Segment(points[0], points[1]), Segment(points[2], points[3])


def _length_mm(segment: Segment, volume: Volume) -> float:
    return math.hypot(
        (segment.end[0] - segment.start[0]) * volume.col_spacing_mm,
        (segment.end[1] - segment.start[1]) * volume.row_spacing_mm,
    )
