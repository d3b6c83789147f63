"""Whole-body phantoms whose anatomy varies along the body: a ground truth for placing, and help for training.

Lengths are those of an adult of about 1.72 m; each patient varies in height, girth, place and size of organs, arms,
contrast and noise. Nothing of a real patient is in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.volume import Volume

PIXEL_MM = 4.0
ROWS, COLUMNS = 88, 136
ALONG_MM, ACROSS_MM = (
    (place - (side - 1) / 2) * PIXEL_MM
    for place, side in zip(np.indices((ROWS, COLUMNS), np.float64), (ROWS, COLUMNS), strict=True)
)
"""Of each pixel, from the middle: to the back, to the patient's left."""
AIR, LUNG, FAT, WATER, SOFT, ORGAN, BONE, MARROW, DENSE = -1000, -850, -100, 10, 45, 60, 500, 220, 1000

# Half width and half depth (mm) of the trunk at distances below the vertex (mm).
OUTLINE_MM = np.array(
    [
        (0, 20, 25), (25, 62, 80), (90, 76, 98), (150, 74, 95), (200, 66, 88), (235, 58, 68), (265, 62, 62),
        (290, 120, 72), (315, 200, 85), (350, 195, 98), (400, 170, 108), (480, 162, 115), (560, 158, 115),
        (640, 150, 108), (700, 160, 108), (780, 175, 112), (850, 178, 112), (900, 170, 100), (1000, 158, 88),
        (1120, 130, 72),
    ],
    dtype=np.float64,
)  # fmt: skip
PERINEUM_MM = 890.0
"""Below it there are two legs."""
LUNG_APEX_MM, LUNG_BASE_MM = 290.0, 560.0


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """How one patient differs from the nominal adult."""

    height: float
    """Millimetres of this patient for a nominal one."""
    girth: float
    depth: float
    fat: float
    """Thickness of the fat below the skin, as a share of the body's half width."""
    arms_down: bool
    contrast_hu: float
    noise_hu: float
    shift_mm: NDArray[np.float64]
    """(organs, 3) move of each organ to the left, to the back and to the feet."""
    size: NDArray[np.float64]
    """(organs, 3) factor of each organ's half axes."""


# Organ: centre to the left, to the back (mm from the trunk's middle), below the vertex; half axes; HU; contrast share.
ORGANS: tuple[tuple[str, tuple[float, float, float], tuple[float, float, float], float, float], ...] = (
    ("heart", (28, -28, 470), (58, 48, 62), 45, 1.0),
    ("liver", (-62, -5, 560), (82, 72, 78), 58, 0.6),
    ("spleen", (98, 35, 555), (32, 42, 52), 50, 0.6),
    ("stomach", (50, -40, 575), (45, 38, 50), 20, 0.0),
    ("right kidney", (-58, 48, 630), (27, 25, 55), 35, 1.3),
    ("left kidney", (58, 48, 615), (27, 25, 55), 35, 1.3),
    ("bladder", (0, -25, 830), (40, 35, 30), 8, 0.0),
    ("brain", (0, 0, 80), (66, 86, 65), 35, 0.1),
)


def patient(seed: int) -> PhantomPatient:
    """The patient of a seed: 0.88 to 1.12 of the nominal height, thin to stout."""
    random = np.random.default_rng([seed, 1])
    return PhantomPatient(
        height=float(random.uniform(0.88, 1.12)),
        girth=float(random.uniform(0.85, 1.25)),
        depth=float(random.uniform(0.85, 1.25)),
        fat=float(random.uniform(0.04, 0.22)),
        arms_down=bool(random.random() < 0.4),
        contrast_hu=float(random.choice([0.0, 60.0, 130.0])),
        noise_hu=float(random.uniform(5, 25)),
        shift_mm=random.normal(0, 7, (len(ORGANS), 3)),
        size=random.uniform(0.85, 1.15, (len(ORGANS), 3)),
    )


def volume(seed: int, first_mm: float = 0.0, last_mm: float = 1100.0, step_mm: float = 5.0) -> Volume:
    """A scan of patient `seed` between two distances below the vertex, in nominal millimetres (`nominal_mm`).

    (slices, ROWS, COLUMNS) at PIXEL_MM; `step_mm` between slices is in the patient's own millimetres. ValueError for
    a range that holds less than two slices.
    """
    who = patient(seed)
    depths = np.arange(first_mm, last_mm, step_mm / who.height)
    if len(depths) < 2:
        raise ValueError(f"{first_mm} to {last_mm} mm in steps of {step_mm} mm")
    random = np.random.default_rng([seed, 2])
    hu = np.stack([_slice(who, depth, random) for depth in depths])
    names = tuple(f"phantom{seed:04d}/{number:03d}" for number in range(len(depths)))
    return Volume(hu, who.height * depths, PIXEL_MM, PIXEL_MM, names)


def nominal_mm(seed: int, volume: Volume) -> NDArray[np.float64]:
    """(slices,) how far below the vertex each slice of a phantom lies, in the nominal adult: the ground truth."""
    return volume.position_mm / patient(seed).height


def _slice(who: PhantomPatient, depth: float, random: np.random.Generator) -> NDArray[np.int16]:
    """(ROWS, COLUMNS) one slice at `depth` nominal mm below the vertex."""
    x, y = ACROSS_MM, ALONG_MM
    half_width = float(np.interp(depth, OUTLINE_MM[:, 0], OUTLINE_MM[:, 1])) * who.girth
    half_depth = float(np.interp(depth, OUTLINE_MM[:, 0], OUTLINE_MM[:, 2])) * who.depth
    if depth < 240:
        # A head does not grow with the girth.
        half_width, half_depth = half_width / who.girth, half_depth / who.depth
    hu = np.full((ROWS, COLUMNS), float(AIR))
    if depth >= PERINEUM_MM:
        _legs(hu, x, y, half_width, half_depth, who)
    else:
        _trunk(hu, x, y, depth, half_width, half_depth, who)
    inside = hu > AIR
    hu += random.normal(0, who.noise_hu, hu.shape) * np.where(inside, 1, 0.3)
    rounded: NDArray[np.int16] = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return rounded


def _disc(x: NDArray[np.float64], y: NDArray[np.float64], at: tuple[float, float], half: tuple[float, float]
          ) -> NDArray[np.bool_]:  # fmt: skip
    """Where the ellipse about `at` with half axes `half` is; nothing for an axis of 0 or less."""
    if min(half) <= 0:
        return np.zeros(x.shape, np.bool_)
    inside: NDArray[np.bool_] = ((x - at[0]) / half[0]) ** 2 + ((y - at[1]) / half[1]) ** 2 <= 1
    return inside


def _legs(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], half_width: float,
          half_depth: float, who: PhantomPatient) -> None:  # fmt: skip
    for side in (-1, 1):
        middle = (side * half_width * 0.52, 0.0)
        hu[_disc(x, y, middle, (half_width * 0.47, half_depth))] = FAT
        hu[_disc(x, y, middle, (half_width * 0.47 * (1 - who.fat), half_depth * (1 - who.fat)))] = SOFT
        hu[_disc(x, y, (middle[0], -8), (15, 15))] = DENSE
        hu[_disc(x, y, (middle[0], -8), (8, 8))] = FAT


def _trunk(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float, half_width: float,
           half_depth: float, who: PhantomPatient) -> None:  # fmt: skip
    # Between an ellipse and a rectangle: the sum of the powers of 2.4 is 1 on the skin.
    outwards = np.abs(x / half_width) ** 2.4 + np.abs(y / half_depth) ** 2.4
    hu[outwards <= 1] = FAT
    thin = 0.03 if depth < 240 else who.fat
    wall = (half_width * (1 - thin), half_depth * (1 - thin))
    hu[outwards <= (1 - thin) ** 2.4] = SOFT
    if depth < 215:
        _head(hu, x, y, depth, half_width, half_depth)
    if depth > 590:
        # Fat lies between the organs of the belly.
        hu[_disc(x, y, (0, -5), (wall[0] * 0.85, wall[1] * 0.78))] = FAT
        _bowel(hu, x, y, depth, wall, who)
    if LUNG_APEX_MM - 60 < depth < LUNG_BASE_MM + 30:
        _chest(hu, x, y, depth, wall, who)
    for number, (name, centre, half, value, share) in enumerate(ORGANS):
        at, axes = np.asarray(centre) + who.shift_mm[number], np.asarray(half) * who.size[number]
        height = 1 - ((depth - at[2]) / axes[2]) ** 2
        if height > 0:
            grown = np.sqrt(height)
            width = 1.0 if name == "brain" else who.girth
            place = (at[0] * width, at[1] * (1.0 if name == "brain" else who.depth))
            shape = _disc(x, y, place, (axes[0] * grown * width, axes[1] * grown))
            hu[shape & (hu > AIR) & (hu < BONE)] = value + share * who.contrast_hu
    _vessels(hu, x, y, depth, half_depth, who)
    _spine(hu, x, y, depth, half_depth)
    _shoulders(hu, x, y, depth, half_width, who)
    _pelvis(hu, x, y, depth, who)


def _head(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float, half_width: float,
          half_depth: float) -> None:  # fmt: skip
    if depth < 155:
        hu[_disc(x, y, (0, 0), (half_width - 5, half_depth - 5))] = DENSE
        hu[_disc(x, y, (0, 0), (half_width - 12, half_depth - 12))] = 35
    if 100 < depth < 175:
        hu[_disc(x, y, (0, -half_depth * 0.55), (16, 28))] = AIR
    if 150 < depth < 210:
        ring = _disc(x, y, (0, -half_depth * 0.35), (48, 45)) & ~_disc(x, y, (0, -half_depth * 0.25), (36, 38))
        hu[ring & (y < -half_depth * 0.2)] = DENSE
        hu[_disc(x, y, (0, -half_depth * 0.1), (8, 12))] = AIR


def _chest(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float,
           wall: tuple[float, float], who: PhantomPatient) -> None:  # fmt: skip
    down = (depth - LUNG_APEX_MM) / (LUNG_BASE_MM - LUNG_APEX_MM)
    if down < 0.36:
        hu[_disc(x, y, (0, 5), (8.5, 9))] = AIR
    if not 0 < down < 1:
        return
    # Narrow at the apex, wide from a third down; the dome of the diaphragm leaves a crescent at the back.
    wide = min(1.0, np.sqrt(down / 0.35))
    for side in (-1, 1):
        # Above the carina the mediastinum is narrow; below, the heart pushes.
        half = (wall[0] * 0.40 * wide, wall[1] * 0.80 * wide)
        lung = _disc(x, y, (side * wall[0] * 0.48, 8), half)
        dome = 0.66 if side < 0 else 0.74
        if down > dome:
            over = (down - dome) / (1 - dome)
            lung &= ~_disc(
                x, y, (side * wall[0] * 0.42, -12), (half[0] * np.sqrt(over) * 1.02, half[1] * np.sqrt(over))
            )
        hu[lung] = LUNG + 40 * np.sin(x[lung] / 11 + depth / 9) * np.sin(y[lung] / 9)
    # Ribs slope down to the front: on a slice they are dots on a ring.
    angle = np.arctan2(y / wall[1], x / wall[0])
    radius = np.hypot(x / (wall[0] * 0.93), y / (wall[1] * 0.93))
    dots = np.sin(angle * 7 + depth / 3.5 * np.sign(x)) > 0.45
    hu[(np.abs(radius - 1) < 0.055) & dots & (hu > AIR)] = BONE
    if 0.05 < down < 0.65:
        hu[_disc(x, y, (0, -wall[1] * 0.9), (17, 6))] = BONE
    if 0.15 < down < 0.45:
        hu[_disc(x, y, (12, -20), (20, 18))] = SOFT + who.contrast_hu


def _bowel(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float,
           wall: tuple[float, float], who: PhantomPatient) -> None:  # fmt: skip
    phase = who.shift_mm[0, 0]
    for number in range(7):
        at = (
            wall[0] * 0.7 * np.sin(2.4 * number + depth / 31 + phase),
            -15 + wall[1] * 0.5 * np.cos(1.7 * number + depth / 23),
        )
        hu[_disc(x, y, at, (17, 14))] = SOFT - 10
        if number % 3 == 0 and depth < 800:
            hu[_disc(x, y, (at[0], at[1] - 3), (9, 7))] = AIR
    if depth < 760:
        for side in (-1, 1):
            hu[_disc(x, y, (side * 42, 48), (22, 20))] = SOFT + 5
    hu[_disc(x, y, (0, -wall[1] * 0.85), (55, 7))] = SOFT


def _vessels(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float, half_depth: float,
             who: PhantomPatient) -> None:  # fmt: skip
    if 400 < depth < 710:
        hu[_disc(x, y, (10, half_depth * 0.18), (11, 11))] = SOFT + 1.3 * who.contrast_hu
    if 520 < depth < 710:
        hu[_disc(x, y, (-14, half_depth * 0.12), (12, 10))] = SOFT + who.contrast_hu


def _spine(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float, half_depth: float
           ) -> None:  # fmt: skip
    if not 150 < depth < 830:
        return
    size = float(np.interp(depth, [150, 285, 420, 700, 740, 830], [9, 12, 16, 24, 26, 12]))
    middle = half_depth * float(np.interp(depth, [150, 285, 450, 700, 830], [0.15, 0.25, 0.5, 0.4, 0.6]))
    disc = (depth % 30) < 6 and depth < 730
    hu[_disc(x, y, (0, middle), (size * 1.15, size * 0.85))] = 90 if disc else MARROW
    hu[_disc(x, y, (0, middle + size * 1.3), (size * 0.5, size * 0.4))] = 20
    arch = _disc(x, y, (0, middle + size * 1.3), (size * 0.9, size * 0.7))
    hu[arch & ~_disc(x, y, (0, middle + size * 1.3), (size * 0.55, size * 0.45))] = BONE
    hu[_disc(x, y, (0, middle + size * 2.1), (3.5, size * 0.6))] = BONE
    if 720 < depth < 800:
        spread = np.interp(depth, [720, 745, 800], [25, 52, 30])
        hu[_disc(x, y, (0, half_depth * 0.6), (float(spread), 16))] = MARROW


def _shoulders(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float, half_width: float,
               who: PhantomPatient) -> None:  # fmt: skip
    if 292 < depth < 322:
        for side in (-1, 1):
            along = (depth - 292) / 30
            hu[_disc(x, y, (side * half_width * (0.65 - 0.45 * along), -45 * along - 5), (26, 6))] = BONE
    if 305 < depth < 470:
        for side in (-1, 1):
            hu[_disc(x, y, (side * 95 * who.girth, 62 * who.depth), (np.interp(depth, [305, 470], [42, 12]), 5))] = BONE
    if 300 < depth < 345:
        for side in (-1, 1):
            hu[_disc(x, y, (side * half_width * 0.86, 5), (20, 20))] = BONE
            hu[_disc(x, y, (side * half_width * 0.86, 5), (15, 15))] = MARROW
    if who.arms_down and 345 <= depth < 860:
        for side in (-1, 1):
            at = (side * (half_width + 42), 10)
            hu[_disc(x, y, at, (34, 40))] = FAT
            hu[_disc(x, y, at, (28, 33))] = SOFT
            hu[_disc(x, y, at, (11, 11))] = DENSE


def _pelvis(hu: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], depth: float,
            who: PhantomPatient) -> None:  # fmt: skip
    wide = 0.5 + 0.5 * who.girth
    for side in (-1, 1):
        if 700 < depth < 800:
            down = (depth - 700) / 100
            at = (side * (122 - 25 * down) * wide, 25.0 - 20 * down)
            tilted = (x - at[0]) * 0.8 + side * (y - at[1]) * 0.6, (y - at[1]) * 0.8 - side * (x - at[0]) * 0.6
            hu[_disc(tilted[0], tilted[1], (0, 0), (9, 22 + 30 * np.sin(np.pi * min(1, down + 0.2))))] = BONE
        if 795 < depth < 860:
            hu[_disc(x, y, (side * 92 * wide, 0), (30, 32))] = BONE
            hu[_disc(x, y, (side * 94 * wide, 0), (21, 22))] = MARROW + 60
        if 820 < depth < 890:
            hu[_disc(x, y, (side * 140 * wide, 8), (17, 20))] = BONE
            hu[_disc(x, y, (side * 62 * wide, 25), (16, 15))] = BONE
        if 845 < depth < 880:
            hu[_disc(x, y, (side * 24, -50), (22, 10))] = BONE
