"""Report, card, contact sheet and croissant.json: from the tables alone, self-contained, the same every time."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import factories
import numpy as np
import pytest
from PIL import Image

from dataset_builder.card import CardSettings, card
from dataset_builder.contact_sheet import COLUMNS, ReadSlice, chosen, contact_sheet, crops_of
from dataset_builder.croissant import croissant
from dataset_builder.manifest import FileEntry
from dataset_builder.report import report
from dataset_builder.schema import TABLES, columns
from dataset_builder.tables import Tables, gather

VOID = {"meta", "image", "rect", "line", "br", "link", "img"}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return gather(factories.staged(tmp_path)[1])


def read_slice(file_name: str) -> np.ndarray:
    return factories.pixels(1, 1, int(file_name.split("/")[1][:-4]))


class Page(HTMLParser):
    """Collects elements and checks that they nest."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(data.decode("utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(tables: Tables, limit: int = 100, source: ReadSlice = read_slice, title: str = "Title") -> bytes:
    shown = chosen(tables.lesions, limit)
    return report(tables, shown, crops_of(shown, source), title)


def test_the_report_is_one_page_that_fetches_nothing_and_runs_nothing(tables: Tables) -> None:
    page = Page(page_of(tables))
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        for name in ("href", "src", "xlink:href"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,"), tag
        assert not any(name.startswith("on") for name in attributes)
    assert b"url(" not in page_of(tables) and b"http" not in page_of(tables)


def test_what_comes_from_outside_is_escaped(tables: Tables) -> None:
    nasty = replace(tables.bookmarks[0], writer="<script>alert(1)</script>", verdict="kept")
    hurt = replace(tables, bookmarks=(nasty, *tables.bookmarks[1:]))
    assert b"<script" not in page_of(hurt, title="</title><script>")


def test_every_lesion_is_drawn_where_it_lies_over_its_own_pixels(tables: Tables) -> None:
    elements = Page(page_of(tables)).elements
    assert sum(tag == "image" for tag, _ in elements) == len(tables.lesions)
    drawn = [a for tag, a in elements if tag == "line" and a.get("class") == "long"]
    for lesion, line in zip(tables.lesions, drawn, strict=True):
        assert [float(line[name]) for name in ("x1", "y1", "x2", "y2")] == pytest.approx(lesion.long_axis_px, abs=5e-4)
    picture = next(a for tag, a in elements if tag == "image")
    left, top, side = float(picture["x"]), float(picture["y"]), int(picture["width"])
    with Image.open(io.BytesIO(base64.b64decode(picture["href"].split(",")[1]))) as image:
        assert image.size == (side, side)
        grey = np.asarray(image)
    # The first pixel's edge is at -0.5; a pixel inside the body has the windowed value of the slice.
    column, row = 45, 33
    hu = int(read_slice(tables.lesions[0].file_name)[row, column])
    shown = grey[round(row - 0.5 - top), round(column - 0.5 - left)]
    assert shown == pytest.approx((hu + 175) * 255 / 450, abs=0.51)


def test_the_report_shows_the_funnel_with_what_to_do(tables: Tables) -> None:
    text = re.sub(r"<[^>]+>", "", page_of(tables).decode())
    assert "8 bookmarks found = 5 kept + 3 rejected" in text
    assert "the plane is tilted 12.0 degrees from axial" in text
    assert "max_tilt_deg" in text


def test_a_sheet_with_a_limit_says_so_and_shows_no_more(tables: Tables) -> None:
    page = page_of(tables, limit=2)
    assert page.count(b"<image ") == 2
    assert b"2 of 5, evenly chosen" in page


def test_an_empty_dataset_has_a_report_a_card_and_a_sheet() -> None:
    nothing = Tables((), (), (), ())
    Page(page_of(nothing))
    assert b"0 lesions" in card(nothing, CardSettings())
    with Image.open(io.BytesIO(contact_sheet((), {}))) as sheet:
        assert sheet.mode == "RGB"


def test_the_contact_sheet_has_a_tile_for_each_lesion_with_its_cross(tables: Tables) -> None:
    with Image.open(io.BytesIO(contact_sheet(tables.lesions * 2, crops_of(tables.lesions, read_slice)))) as sheet:
        width, height = sheet.size
        pixels = np.asarray(sheet).astype(int)
    tiles = 10
    step_x, step_y = width // COLUMNS, height // 2
    yellow = (pixels[:, :, 0] > 240) & (abs(pixels[:, :, 1] - 196) < 12) & (pixels[:, :, 2] < 30)
    for place in range(tiles):
        row, column = divmod(place, COLUMNS)
        assert yellow[row * step_y : (row + 1) * step_y, column * step_x : (column + 1) * step_x].sum() > 10, place


def test_the_same_tables_give_the_same_pages(tables: Tables) -> None:
    assert page_of(tables) == page_of(tables)
    crops = crops_of(tables.lesions, read_slice)
    assert contact_sheet(tables.lesions, crops) == contact_sheet(tables.lesions, crops)


def test_the_card_opens_with_the_hubs_header_and_explains_every_column(tables: Tables) -> None:
    text = card(tables, CardSettings(title="A title", license="cc-by-4.0", contact="someone@example.org")).decode()
    assert text.startswith("---\n") and "license: cc-by-4.0" in text.split("---")[1]
    assert "8 bookmarks found = 5 kept + 3 rejected." in text
    assert "someone@example.org" in text
    for table in TABLES:
        for column in columns(table):
            assert f"| `{column.name}` |" in text


def test_what_nobody_stated_is_said_to_be_not_stated(tables: Tables) -> None:
    assert card(tables, CardSettings()).decode().count("Not stated by") == 3


def test_croissant_describes_every_column_and_hash() -> None:
    names = [*(f"{table}.parquet" for table in TABLES), "DL_info.csv"]
    files = [FileEntry(name, name[0] * 64, 10, 1) for name in names]
    found = json.loads(croissant(files, CardSettings()))
    assert {f["@id"]: f["sha256"] for f in found["distribution"] if "sha256" in f} == {f.path: f.sha256 for f in files}
    assert {s["@id"]: [f["name"] for f in s["field"]] for s in found["recordSet"]} == {
        table: [column.name for column in columns(table)] for table in TABLES
    }
    assert "datePublished" not in found
