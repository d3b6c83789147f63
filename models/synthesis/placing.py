"""Where things are put: places on a key slice where a thing fits as a lesion and as a tube, and how it shall look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.synthesis.background import Background, Tissue
from models.synthesis.painting import Look, Pose, Run, Section, lesion_sections, measured_textures, tube_sections
from models.synthesis.shapes import Shape

FITS_KEY, FITS_ELSEWHERE = 0.85, 0.6
"""Least share of a section that lies in its tissue: on the key slice, on any other within MIMIC_MM."""
MIMIC_MM = 12.0
"""A tube reaches at least this far from its key slice, unless the volume ends."""
BEYOND_LESION_MM = 6.0
"""A tube reaches at least this much farther than the lesion in its place."""
TRIES = 40
GAP_MM = 2.0
"""Between the edges of painted things, beside their blur."""
LEAST_PX = 60
"""Pixels of a tissue on a slice below which nothing is placed in it."""


@dataclass(frozen=True)
class Kind:
    """What lies in one tissue."""

    word: str
    home: Tissue
    also: tuple[Tissue, ...]
    """Tissues into which it may reach off the key slice."""
    weight: float
    """How often it is tried."""


KINDS = (
    Kind("lung", Tissue.LUNG, (Tissue.LUNG,), 0.3),
    Kind("liver", Tissue.LIVER, (Tissue.LIVER, Tissue.SOFT), 0.2),
    Kind("soft tissue", Tissue.SOFT, (Tissue.SOFT, Tissue.LIVER, Tissue.FAT), 0.4),
    Kind("node", Tissue.FAT, (Tissue.FAT, Tissue.SOFT), 0.1),
)


@dataclass(frozen=True)
class Settings:
    """What is drawn."""

    long_axis_mm: tuple[float, float] = (9.0, 32.0)
    """Bounds of the log-uniform law."""
    height_ratio: tuple[float, float] = (0.6, 1.1)
    """Extent of a lesion along z, in half long axes."""
    mimics_per_lesion: float = 0.55
    """Drawn for each lesion on its key slice; with those that come from key slices nearby about 1.6 cross it."""
    steepest: float = 0.45
    """Of tubes: millimetres aside for each millimetre along z."""
    contrast_hu: tuple[float, float] = (25.0, 70.0)
    """Either way from the mean of what is replaced, in soft tissue and liver."""
    darker: float = 0.6
    """Share of those that are darker than what they replace."""
    lung_hu: tuple[float, float] = (-40.0, 80.0)
    node_hu: tuple[float, float] = (10.0, 80.0)


@dataclass(frozen=True, eq=False)
class Thing:
    """Something that fits in both of its forms."""

    word: str
    shape: Shape
    look: Look
    contrast_hu: float
    """Against the mean of what it replaces on the key slice."""
    key_index: int
    as_lesion: tuple[Section, ...]
    as_tube: tuple[Section, ...]


def placed(
    ground: Background,
    drafts: Sequence[tuple[Shape, Pose]],
    index: int,
    taken: NDArray[np.bool_],
    random: np.random.Generator,
    settings: Settings,
) -> list[Thing]:
    """Those of the drafts that find a place on the slice `index`, clear of what is taken and of one another.

    The sizes of drafts are kept, their centres are drawn. Nothing is taken yet.
    """
    kinds = [kind for kind in KINDS if (ground.tissue[index] == kind.home).sum() >= LEAST_PX]
    if not kinds:
        return []
    weights = np.array([kind.weight for kind in kinds])
    depths = {kind.home: _depth_mm(ground, index, kind) for kind in kinds}
    busy = taken.copy()
    found = []
    for shape, pose in drafts:
        kind = kinds[int(random.choice(len(kinds), p=weights / weights.sum()))]
        # most of a thing lies in its tissue, whatever its form
        rows, columns = np.nonzero(depths[kind.home] > 0.22 * pose.long_axis_mm)
        for _ in range(TRIES if rows.size else 0):
            place = int(random.integers(rows.size))
            centred = replace(
                pose,
                column=float(columns[place] + random.uniform(-0.5, 0.5)),
                row=float(rows[place] + random.uniform(-0.5, 0.5)),
                position_mm=float(ground.volume.position_mm[index]),
            )
            thing = _thing(ground, shape, centred, kind, index, busy, random, settings)
            if thing is not None:
                found.append(thing)
                take(busy, ground, thing.as_lesion)
                take(busy, ground, thing.as_tube)
                break
    return found


def take(taken: NDArray[np.bool_], ground: Background, sections: tuple[Section, ...]) -> None:
    """Marks what sections and their blurred edges cover."""
    for section in sections:
        taken[(section.index, *section.window)] |= section.distance_mm < 2 * ground.edge_mm + GAP_MM


def _depth_mm(ground: Background, index: int, kind: Kind) -> NDArray[np.float64]:
    spacing = (ground.volume.row_spacing_mm, ground.volume.col_spacing_mm)
    home = np.pad(ground.tissue[index] == kind.home, 1)
    return np.asarray(ndimage.distance_transform_edt(home, spacing))[1:-1, 1:-1]


def _thing(
    ground: Background,
    shape: Shape,
    pose: Pose,
    kind: Kind,
    index: int,
    busy: NDArray[np.bool_],
    random: np.random.Generator,
    settings: Settings,
) -> Thing | None:
    direction, slope = random.uniform(0, 2 * np.pi), random.uniform(0, settings.steepest)
    reach_mm = pose.long_axis_mm / 2 * pose.height_ratio + BEYOND_LESION_MM
    run = Run(
        slope_column=float(slope * np.cos(direction)),
        slope_row=float(slope * np.sin(direction)),
        before_mm=float(max(14.0, reach_mm) + random.uniform(0, 6)),
        after_mm=float(max(14.0, reach_mm) + random.uniform(0, 6)),
        swell=float(random.uniform(0, 0.12)),
        swell_period_mm=float(random.uniform(15, 40)),
    )
    (key,) = tube_sections(ground, shape, pose, run, (index,)) or (None,)
    if key is None or _is_cut(ground, key) or not _fits(ground, key, (kind.home,), FITS_KEY) or _meets(busy, key):
        return None
    lesion = lesion_sections(ground, shape, pose)
    areas = {section.index: int((section.distance_mm < 0).sum()) for section in lesion}
    if not areas or max(areas, key=lambda one: (areas[one], one == index)) != index:
        return None
    tube = _running(ground, kind, tube_sections(ground, shape, pose, run), index)
    if tube is None or not all(_fits(ground, section, kind.also, FITS_ELSEWHERE) for section in lesion):
        return None
    if any(_meets(busy, section) or _is_cut(ground, section) for section in (*lesion, *tube)):
        return None
    hu, contrast = _hu(ground, key, kind, random, settings)
    drawn = measured_textures()["drawn"]
    look = Look(hu, float(random.uniform(*drawn["sd_hu"])), float(random.uniform(*drawn["correlation_mm"])))
    return Thing(kind.word, shape, look, contrast, index, lesion, tube)


def _running(ground: Background, kind: Kind, sections: tuple[Section, ...], index: int) -> tuple[Section, ...] | None:
    """The tube as far as it stays in its tissue; None where that is not MIMIC_MM both ways."""
    positions = ground.volume.position_mm
    good = {section.index for section in sections if _fits(ground, section, kind.also, FITS_ELSEWHERE)}
    first = last = index
    while first - 1 in good:
        first -= 1
    while last + 1 in good:
        last += 1
    enough_before = first == 0 or positions[index] - positions[first - 1] > MIMIC_MM
    enough_after = last == len(positions) - 1 or positions[last + 1] - positions[index] > MIMIC_MM
    return tuple(one for one in sections if first <= one.index <= last) if enough_before and enough_after else None


def _fits(ground: Background, section: Section, tissues: tuple[Tissue, ...], least: float) -> bool:
    inside = ground.tissue[section.index][section.window][section.distance_mm < 0]
    return bool(np.isin(inside, tissues).mean() >= least) if inside.size else True


def _meets(busy: NDArray[np.bool_], section: Section) -> bool:
    return bool((busy[section.index][section.window] & (section.distance_mm < 0)).any())


def _is_cut(ground: Background, section: Section) -> bool:
    """True where a section touches the border of the image."""
    rows, columns = np.nonzero(section.distance_mm < 0)
    if not rows.size:
        return False
    height, width = ground.volume.hu.shape[1:]
    top, left = rows.min() + section.first_row, columns.min() + section.first_column
    bottom, right = rows.max() + section.first_row, columns.max() + section.first_column
    return bool(top == 0 or left == 0 or bottom == height - 1 or right == width - 1)


def _hu(
    ground: Background, key: Section, kind: Kind, random: np.random.Generator, settings: Settings
) -> tuple[float, float]:
    """CT number of a thing and its contrast against the mean of what it replaces."""
    mean = float(ground.smoothed[key.index][key.window][key.distance_mm < 0].mean())
    if kind.home in (Tissue.LUNG, Tissue.FAT):
        hu = float(random.uniform(*(settings.lung_hu if kind.home is Tissue.LUNG else settings.node_hu)))
        return hu, hu - mean
    contrast = float(random.uniform(*settings.contrast_hu)) * (-1 if random.random() < settings.darker else 1)
    return mean + contrast, contrast
