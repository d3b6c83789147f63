"""A CT with lesions and mimics painted into it, and everything that is true of them.

Lesion and mimic are drawn alike: first a thing is placed where both of its forms fit, then a coin says which it is. On
its key slice a mimic therefore has the section, place, CT number, texture and edge that a lesion has; only the
neighbouring slices tell: there a lesion ends and a tube goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import PixelMask
from models.synthesis.background import Background
from models.synthesis.painting import Pose, paint
from models.synthesis.placing import Settings, Thing, placed, take
from models.synthesis.shapes import Shape
from models.volume import Volume

LESIONS_OF_KEY_SLICE = ((1, 0.6), (2, 0.3), (3, 0.1))
"""How many lesions a key slice has, with their probabilities."""
KEY_GAP_MM = 2.0
"""Between the end of a lesion and the key slice of another."""


@dataclass(frozen=True, eq=False)
class Painted:
    """One thing that was painted, on the slices that it reaches from head to feet."""

    is_lesion: bool
    word: str
    """'lung', 'liver', 'soft tissue' or 'node': where it lies."""
    key_index: int
    """The slice with its largest section; of a mimic, the slice that it was drawn for."""
    sections: tuple[tuple[int, PixelMask], ...]
    """Slice and mask, each with at least one pixel."""
    hu: float
    contrast_hu: float
    """Against the mean of what it replaced on the key slice."""
    texture_hu: float
    edge_mm: float
    noise_hu: float
    shape: str
    """Where the shape comes from."""

    @property
    def key_mask(self) -> PixelMask:
        """The mask on the key slice."""
        return dict(self.sections)[self.key_index]


@dataclass(frozen=True, eq=False)
class Scene:
    """The CT and what is in it."""

    volume: Volume
    lesions: tuple[Painted, ...]
    mimics: tuple[Painted, ...]


def synthesise(ground: Background, shapes: tuple[Shape, ...], random: np.random.Generator, settings: Settings) -> Scene:
    """Lesions and mimics all through a volume: every slice is crossed by marked key slices' lesions only by its own.

    Key slices lie so far apart that no lesion reaches the key slice of another group; things that share a key slice
    have their largest section there. The volume's names are kept.
    """
    hu = ground.volume.hu.astype(np.float32)
    taken = np.zeros(hu.shape, np.bool_)
    lesions: list[Painted] = []
    mimics: list[Painted] = []
    end_mm = float(ground.volume.position_mm[0])
    last_key_mm = -np.inf
    last_mm = float(ground.volume.position_mm[-1])
    while True:
        drafts = _drafts(shapes, random, settings)
        reach_mm = max(pose.long_axis_mm / 2 * pose.height_ratio for _, pose in drafts)
        start_mm = max(end_mm + KEY_GAP_MM, last_key_mm + reach_mm + KEY_GAP_MM, reach_mm + 1)
        key_mm = start_mm + random.uniform(0, 2 * ground.slice_mm)
        if key_mm + reach_mm > last_mm:
            return Scene(_rounded(ground.volume, hu), tuple(lesions), tuple(mimics))
        index = int(np.abs(ground.volume.position_mm - key_mm).argmin())
        things = placed(ground, drafts, index, taken, random, settings)
        wanted = int(random.choice([n for n, _ in LESIONS_OF_KEY_SLICE], p=[p for _, p in LESIONS_OF_KEY_SLICE]))
        for place, thing in enumerate(things[number] for number in random.permutation(len(things))):
            sections = thing.as_lesion if place < wanted else thing.as_tube
            paint(hu, ground, sections, thing.look, random)
            take(taken, ground, sections)
            (lesions if place < wanted else mimics).append(_painted(ground, thing, place < wanted))
            if place < wanted:
                end_mm = max(end_mm, float(ground.volume.position_mm[sections[-1].index]))
        last_key_mm = float(ground.volume.position_mm[index])
        end_mm = max(end_mm, last_key_mm)


def _painted(ground: Background, thing: Thing, is_lesion: bool) -> Painted:
    sections = thing.as_lesion if is_lesion else thing.as_tube
    return Painted(
        is_lesion=is_lesion,
        word=thing.word,
        key_index=thing.key_index,
        sections=tuple((section.index, _cropped(section.mask)) for section in sections),
        hu=thing.look.hu,
        contrast_hu=thing.contrast_hu,
        texture_hu=thing.look.texture_hu,
        edge_mm=ground.edge_mm,
        noise_hu=ground.noise_hu,
        shape=thing.shape.source,
    )


def _cropped(mask: PixelMask) -> PixelMask:
    inner = PixelMask.of_plane(mask.bits)
    return PixelMask(mask.first_column + inner.first_column, mask.first_row + inner.first_row, inner.bits)


def _rounded(volume: Volume, hu: NDArray[np.float32]) -> Volume:
    return replace(volume, hu=np.rint(hu).astype(np.int16))


def _drafts(shapes: tuple[Shape, ...], random: np.random.Generator, settings: Settings) -> list[tuple[Shape, Pose]]:
    """Shapes and sizes of what a key slice shall hold, without a place."""
    count = 1 + int(random.poisson(1.5 * (1 + settings.mimics_per_lesion) - 1))
    low, high = np.log(settings.long_axis_mm)
    return [
        (
            shapes[int(random.integers(len(shapes)))],
            Pose(
                column=0.0,
                row=0.0,
                position_mm=0.0,
                long_axis_mm=float(np.exp(random.uniform(low, high))),
                height_ratio=float(random.uniform(*settings.height_ratio)),
                turn_deg=float(random.uniform(0, 360)),
                mirrored=bool(random.integers(2)),
                upside_down=bool(random.integers(2)),
            ),
        )
        for _ in range(count)
    ]
