"""`report.html`: the funnel, the statistics and the lesions themselves, on one page that needs nothing else.

All numbers come from the tables, all pictures from the images of the dataset; what is shown is public already.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset_builder import summary
from dataset_builder.charts import histogram, share_bar
from dataset_builder.contact_sheet import Crops, caption, segments, window_of
from dataset_builder.draw import crop_around, windowed
from dataset_builder.tables import Tables
from deeplesion_miner.reasons import reasons
from deeplesion_miner.records import LesionRecord
from deeplesion_miner.types import Box, Segment

LARGEST_PREVIEW_PX = 160
"""Crops wider than this are shown smaller than their pixels."""
STYLE = "report.css"


def report(tables: Tables, shown: Sequence[LesionRecord], crops: Crops, title: str) -> bytes:
    """The page; `shown` are the lesions of the contact sheet."""
    sections = (
        _head(tables, title),
        _section("Where the bookmarks went", _funnel(tables)),
        _section("Flags", _flags(tables)),
        _section("Sizes and images", _measures(tables)),
        _section("Who and what", _breakdowns(tables)),
        _section("The lesions", _contact_sheet(tables, shown, crops)),
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )
    return page.encode("utf-8")


def _style() -> str:
    return files("dataset_builder").joinpath(STYLE).read_text(encoding="utf-8")


def _head(tables: Tables, title: str) -> str:
    tiles = "".join(
        f"<div><b>{count:,}</b><span>{escape(word)}</span></div>" for word, count in summary.totals(tables).items()
    )
    return f'<header><h1>{escape(title)}</h1><div class="totals">{tiles}</div></header>'


def _section(name: str, body: str) -> str:
    return f"<section><h2>{escape(name)}</h2>\n{body}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already."""
    columns = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    head_row = f"<thead><tr>{columns}</tr></thead>"
    return f'<div class="wide"><table class="{kind}">{head_row}<tbody>\n{body}</tbody></table></div>'


def _text(words: str) -> str:
    """Plain words as HTML; what stands between backticks is code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(words))


def _digits(value: float) -> str:
    """At most four digits, nothing below a thousandth; '' for NaN."""
    return "" if math.isnan(value) else f"{round(value, 3):.4g}"


def _percent(count: int, whole: int) -> str:
    return f"{100 * count / whole:.1f} %" if whole else ""


def _funnel(tables: Tables) -> str:
    funnel = summary.funnel(tables.bookmarks)
    whole = max(1, funnel.found)
    lead = (
        f'<p class="lead"><b>{funnel.found:,}</b> bookmarks found = <b class="good">{funnel.kept:,}</b> kept + '
        f'<b class="bad">{funnel.rejected:,}</b> rejected</p>'
        + share_bar([("kept", funnel.kept / whole), ("lost", funnel.rejected / whole)])
    )
    rows = [
        (
            f"<code>{escape(loss.reason)}</code>",
            f"{loss.count:,}",
            _percent(loss.count, funnel.found),
            share_bar([("lost", loss.count / whole)]),
            f"{_text(loss.example)}<small>{_text(loss.advice)}</small>",
        )
        for loss in funnel.losses
    ]
    if not rows:
        return lead + "<p>No bookmark was rejected.</p>"
    return lead + _table(("reason", "bookmarks", "of all", "", "for instance, and what to do"), rows, "funnel")


def _flags(tables: Tables) -> str:
    known = reasons("flag")
    noisy = sum(lesion.possibly_noisy for lesion in tables.lesions)
    lead = f"<p>Kept, but remarkable; {noisy:,} of {len(tables.lesions):,} lesions are marked possibly noisy.</p>"
    rows = [
        (
            f"<code>{escape(code)}</code>",
            f"{count:,}",
            _percent(count, len(tables.lesions)),
            _text(known[code].advice if code in known else ""),
        )
        for code, count in summary.flags(tables.lesions)
    ]
    return lead + (_table(("flag", "lesions", "of all", "what it means"), rows) if rows else "")


def _measures(tables: Tables) -> str:
    found = summary.measures(tables.lesions)
    cards = "".join(
        f"<figure><figcaption><b>{escape(m.name)}</b> {escape(m.unit)}</figcaption>{histogram(m)}</figure>"
        for m in found
    )
    head = ("", "lesions", *(f"{q:.0%}" for q in summary.QUANTILES), "DeepLesion")
    rows = [
        (
            escape(f"{m.name}{f', {m.unit}' if m.unit else ''}"),
            f"{len(m.values):,}",
            *(_digits(value) for value in m.quantiles),
            "" if m.deeplesion is None else f"{m.deeplesion:g}",
        )
        for m in found
    ]
    legend = (
        '<p class="legend"><i class="median"></i> median here <i class="public"></i> DeepLesion '
        "(its validation and test rows). The outermost bars hold the tails beyond 1 and 99 %.</p>"
    )
    return f'<div class="cards">{cards}</div>{legend}' + _table(head, rows, "numbers")


def _breakdowns(tables: Tables) -> str:
    split_rows = [
        (escape(name), f"{patients:,}", f"{lesions:,}", _percent(lesions, len(tables.lesions)))
        for name, patients, lesions in summary.split_counts(tables)
    ]
    blocks = [f"<div><h3>Split</h3>{_table(('', 'patients', 'lesions', ''), split_rows, 'numbers')}</div>"]
    for breakdown in summary.breakdowns(tables):
        if not breakdown.counts:
            continue
        whole = sum(count for _, count in breakdown.counts)
        rows = [(escape(value), f"{count:,}", _percent(count, whole)) for value, count in breakdown.counts]
        blocks.append(f"<div><h3>{escape(breakdown.name)}</h3>{_table(('', '', ''), rows, 'numbers')}</div>")
    return f'<div class="blocks">{"".join(blocks)}</div>'


def _contact_sheet(tables: Tables, shown: Sequence[LesionRecord], crops: Crops) -> str:
    count = len(tables.lesions)
    which = "All" if len(shown) == count else f"{len(shown):,} of {count:,}, evenly chosen,"
    legend = (
        f'<p class="legend">{which} key slices with <i class="long"></i> long axis, <i class="short"></i> short axis '
        'and <i class="box"></i> box, in the display window of the image.</p>'
    )
    tiles = "".join(_tile(lesion, crops[lesion.lesion_id]) for lesion in shown)
    return f'{legend}<div class="sheet">{tiles}</div>'


def _tile(lesion: LesionRecord, crop_hu: NDArray[np.int16]) -> str:
    """A crop at its own pixels under lines in the image's own coordinates: the browser scales both alike."""
    box = Box(*lesion.box_px)
    crop = crop_around(box)
    long_axis, short_axis = segments(lesion)
    # Coordinates count from the centre of the first pixel, so a pixel spans -0.5 .. +0.5.
    left, top, side = crop.left - 0.5, crop.top - 0.5, crop.side
    frame = f'x="{left}" y="{top}" width="{side}" height="{side}"'
    lines = (
        f'<rect class="box" x="{box.x_min:.3f}" y="{box.y_min:.3f}" width="{box.x_max - box.x_min:.3f}" '
        f'height="{box.y_max - box.y_min:.3f}"/>'
        + ("" if short_axis is None else _line("short", short_axis))
        + _line("long", long_axis)
    )
    picture = _picture(windowed(crop_hu, window_of(lesion)))
    flags = f"<small>{escape(', '.join(lesion.notes))}</small>" if lesion.notes else ""
    return (
        f'<figure><svg viewBox="{left} {top} {side} {side}"><image {frame} href="{picture}"/>{lines}</svg>'
        f"<figcaption><b>{escape(caption(lesion))}</b> {escape(lesion.file_name)}{flags}</figcaption></figure>\n"
    )


def _line(kind: str, axis: Segment) -> str:
    (x1, y1), (x2, y2) = axis.start, axis.end
    return f'<line class="{kind}" x1="{x1:.3f}" y1="{y1:.3f}" x2="{x2:.3f}" y2="{y2:.3f}"/>'


def _picture(grey: NDArray[np.uint8]) -> str:
    """An 8-bit grey PNG as a data URI."""
    image = Image.fromarray(grey)
    image.thumbnail((LARGEST_PREVIEW_PX, LARGEST_PREVIEW_PX), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
