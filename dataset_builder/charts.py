"""Small pictures for the report as inline SVG: they need no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from dataset_builder.dl_info import number
from dataset_builder.summary import Measure

BINS = 28
WIDTH, HEIGHT, AXIS = 280, 84, 16
TAIL_PERCENT = 1.0
"""Values beyond this percentile on each side are drawn in the outermost bars."""


def histogram(measure: Measure) -> str:
    """An `<svg>` of how the values are spread, with the median marked and, dashed, DeepLesion's."""
    if not measure.values:
        return '<p class="none">no values</p>'
    values = np.asarray(measure.values)
    low, high = (float(bound) for bound in np.percentile(values, [TAIL_PERCENT, 100 - TAIL_PERCENT]))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))
    step = WIDTH / BINS
    bars = "".join(
        f'<rect x="{index * step + 0.5:.2f}" y="{HEIGHT - bar:.2f}" width="{step - 1:.2f}" height="{bar:.2f}"/>'
        for index, bar in enumerate(counts / counts.max() * (HEIGHT - 4))
        if bar > 0
    )
    marks = _mark(measure.quantiles[2], low, high, "median")
    if measure.deeplesion is not None:
        marks += _mark(measure.deeplesion, low, high, "public")
    title = escape(f"{measure.name}: {len(values)} values from {number(values.min())} to {number(values.max())}")
    return (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT + AXIS}" role="img"><title>{title}</title>'
        f'<g class="bars">{bars}</g>{marks}<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        f'<text x="0" y="{HEIGHT + 12}">{_short(low)}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 12}" text-anchor="end">{_short(high)}</text></svg>'
    )


def share_bar(parts: Sequence[tuple[str, float]]) -> str:
    """An `<svg>` bar of shares (0 to 1) by class name, left to right."""
    at, drawn = 0.0, []
    for kind, share in parts:
        drawn.append(f'<rect class="{escape(kind)}" x="{at * 100:.3f}" width="{share * 100:.3f}" height="10"/>')
        at += share
    return f'<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none">{"".join(drawn)}</svg>'


def _mark(value: float, low: float, high: float, kind: str) -> str:
    if not low <= value <= high:
        return ""
    x = (value - low) / (high - low) * WIDTH
    return f'<line class="{kind}" x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="{HEIGHT}"/>'


def _short(value: float) -> str:
    return f"{round(value, 2):.3g}"
