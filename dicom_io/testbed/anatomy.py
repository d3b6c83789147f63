"""What lies in a phantom patient: organs as superellipsoids of known place, size and CT number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeplesion_miner.types import Segment, SegmentMm, Vector
from dicom_io.testbed.rasteriser import Grid, Shape

UNSCALED_FIELD_MM = 360.0
"""Field of view of the table of organs; smaller fields hold smaller patients."""
PATIENT_AXES: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Organ:
    """One line of the table: centre and semi-axes in mm at full size (LPS), extent along z as shares of the body."""

    name: str
    centre_mm: tuple[float, float]
    semi_axes_mm: tuple[float, float]
    hu: float
    z_share: tuple[float, float] | None = None
    """Centre from the head and semi-axis, as shares of the imaged height; None = a cylinder through all of it."""
    exponent: int = 2


ORGANS = (
    Organ("fat", (0, 0), (166, 118), -95),
    Organ("muscle", (0, 0), (150, 102), 48),
    *(
        Organ(
            f"rib {degrees}", (141 * math.cos(math.radians(degrees)), 94 * math.sin(math.radians(degrees))), (9, 5), 420
        )
        for degrees in (15, 50, 130, 165, 200, 235, 305, 340)
    ),
    Organ("right lung", (-72, -4), (56, 74), -850, (0.28, 0.36), 4),
    Organ("left lung", (74, -2), (54, 72), -850, (0.28, 0.36), 4),
    Organ("heart", (12, -24), (40, 34), 90, (0.34, 0.26)),
    Organ("liver", (-60, -8), (74, 66), 110, (0.78, 0.30), 4),
    Organ("stomach", (44, -44), (40, 30), 15, (0.80, 0.20)),
    Organ("spleen", (92, 34), (34, 32), 130, (0.74, 0.26), 4),
    Organ("left kidney", (54, 52), (30, 33), 190, (0.84, 0.24)),
    Organ("right kidney", (-56, 60), (24, 27), 190, (0.86, 0.24)),
    Organ("vertebra", (0, 62), (26, 22), 300),
    Organ("spinal canal", (0, 90), (10, 8), 25),
    Organ("aorta", (6, 34), (10, 10), 210),
)
ORGAN_HU = {organ.name: organ.hu for organ in ORGANS}


@dataclass(frozen=True)
class Body:
    """A phantom patient's body: organs scaled to the field of view between two heights (z of head and foot end)."""

    field_mm: float
    top_mm: float
    bottom_mm: float

    @property
    def scale(self) -> float:
        """Size relative to the table of organs."""
        return self.field_mm / UNSCALED_FIELD_MM

    def organs(self) -> tuple[Shape, ...]:
        """The organs in painting order."""
        return tuple(self._shape(organ) for organ in ORGANS)

    def _shape(self, organ: Organ) -> Shape:
        height_mm = self.top_mm - self.bottom_mm
        centre_share, half_share = organ.z_share or (0.5, math.inf)
        x, y = organ.centre_mm
        centre = (x * self.scale, y * self.scale, self.top_mm - centre_share * height_mm)
        semi = (organ.semi_axes_mm[0] * self.scale, organ.semi_axes_mm[1] * self.scale, half_share * height_mm)
        return Shape(centre, PATIENT_AXES, semi, organ.hu, organ.exponent)


@dataclass(frozen=True)
class LesionPlan:
    """A lesion before it is placed: an ellipsoid whose largest section lies on its key slice."""

    name: str
    organ: str
    centre_mm: tuple[float, float]
    """Patient x and y at full size."""
    slice_share: float
    """Place of the key slice, 0 = first slice from the head, 1 = last."""
    semi_axes_mm: tuple[float, float]
    """Half of the long and of the short axis at full size."""
    angle_deg: float
    """From the row direction to the long axis, towards the column direction."""
    hu: float
    growth: float = 1.0
    """Factor of the semi-axes, for later time points."""


@dataclass(frozen=True)
class PlacedShape:
    """A lesion on its key slice, with the ends of its axes as geometry gives them."""

    plan: LesionPlan
    shape: Shape
    long_axis_mm: SegmentMm
    short_axis_mm: SegmentMm
    long_axis_px: Segment
    short_axis_px: Segment


def place(plan: LesionPlan, body: Body, grid: Grid, interval_mm: float) -> PlacedShape:
    """The ellipsoid with its centre and two of its axes on the plane `grid`."""
    centre = grid.above(plan.centre_mm[0] * body.scale, plan.centre_mm[1] * body.scale)
    turn = math.radians(plan.angle_deg)
    along = _combined(math.cos(turn), grid.row_dir, math.sin(turn), grid.col_dir)
    across = _combined(-math.sin(turn), grid.row_dir, math.cos(turn), grid.col_dir)
    half_long, half_short = (half * plan.growth * body.scale for half in plan.semi_axes_mm)
    # Reaches the neighbouring slices, whatever their interval.
    half_depth = max(half_short, 1.4 * interval_mm)
    shape = Shape(centre, (along, across, grid.normal), (half_long, half_short, half_depth), plan.hu)
    long_mm, short_mm = _axis(centre, along, half_long), _axis(centre, across, half_short)
    return PlacedShape(plan, shape, long_mm, short_mm, on_grid(grid, long_mm), on_grid(grid, short_mm))


def on_grid(grid: Grid, line: SegmentMm) -> Segment:
    """A line's ends in pixels of a plane, the first pixel's centre being (0, 0)."""
    return Segment(grid.position_px(line.start), grid.position_px(line.end))


def _combined(a: float, first: Vector, b: float, second: Vector) -> Vector:
    return a * first[0] + b * second[0], a * first[1] + b * second[1], a * first[2] + b * second[2]


def _axis(centre: Vector, direction: Vector, half_mm: float) -> SegmentMm:
    return SegmentMm(_combined(1, centre, -half_mm, direction), _combined(1, centre, half_mm, direction))
