"""A reader at the OHIF viewer: what a person does there with mouse and keyboard, and what the viewer then holds.

Chromium without a window, driven by Playwright; selectors hold for OHIF 3.11.1 and 3.13.2. A new, empty profile each.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deeplesion_miner.types import Vector

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
WINDOW = {"width": 1400, "height": 850}
PATIENCE_MS = 180_000
"""For the page: a loaded machine takes 16 s."""
QUESTION_MS = 180_000
"""For the viewer's question after a double click, and for what follows its answer."""
CLOSE, MARGIN = 4, 25
"""How much larger a close-up is, and how many pixels of the window it shows around what it is of."""
SETTLING_MS = 1000
"""Lets the tools draw and recompute their values: nothing in the page tells when they have."""

# else a tour of eleven steps covers the page
_NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
_DISPLAY_SETS = """() => services.displaySetService.getActiveDisplaySets().map(d => ({
  uid: d.displaySetInstanceUID, modality: d.Modality, series: d.SeriesInstanceUID,
  unsupported: d.unsupported ?? false}))"""
_MEASUREMENTS = """() => services.measurementService.getMeasurements().map(m => ({
  uid: m.uid, tool: m.toolName, label: m.label ?? '', shown: m.displayText?.primary ?? [],
  finding: m.finding?.text ?? '', sites: (m.findingSites || []).map(s => s.text),
  points: (m.points ?? []).map(p => Array.from(p)), sop: m.SOPInstanceUID}))"""
_SEGMENTATIONS = """() => services.segmentationService.getSegmentations().flatMap(s =>
  Object.values(s.segments).filter(Boolean).map(g => ({
    segmentation: s.label, label: g.label, as: Object.keys(s.representationData || {})})))"""
# the viewer asks, or shows a report as text
_ANSWERED = """() => document.querySelector('[data-cy=yes-hydrate-btn]')
  || /Measurement (Report|Group)/.test(document.body.innerText)"""
_VIEWPORT = "cornerstone.getRenderingEngines()[0].getViewports().find(v => v.getCurrentImageId?.())"
_ROWS = """() => [...document.querySelectorAll('[data-cy=data-row]')]
  .map(e => (e.parentElement.innerText || '').split('\\n').filter(Boolean))"""
# What is drawn: shapes over the image (reports, contours), coloured pixels in it (masks) in canvas pixels.
_COLOURED = """() => {
  const canvas = document.querySelector('canvas.cornerstone-canvas');
  const {width, height} = canvas;
  const rgba = canvas.getContext('2d').getImageData(0, 0, width, height).data;
  const ratio = width / canvas.getBoundingClientRect().width;
  const found = [];
  for (let i = 0; i < rgba.length; i += 4)
    if (Math.max(rgba[i], rgba[i+1], rgba[i+2]) - Math.min(rgba[i], rgba[i+1], rgba[i+2]) > 30)
      found.push([(i / 4) % width / ratio, Math.floor(i / 4 / width) / ratio]);
  return found;
}"""
_OUTLINES = """() => {
  const box = document.querySelector('.svg-layer').getBoundingClientRect();
  return [...document.querySelectorAll('.svg-layer path')].map(e => e.getAttribute('d').match(/-?[\\d.]+/g).map(Number))
    .map(n => n.flatMap((x, i) => i % 2 ? [] : [[box.left + x, box.top + n[i + 1]]]));
}"""
_IDLE = """(most) => new Promise(done => {
  const idle = next => requestIdleCallback(next, {timeout: most});
  idle(() => requestAnimationFrame(() => idle(done)));
})"""
_SHAPES = """() => [...document.querySelectorAll('.svg-layer line, .svg-layer path, .svg-layer polyline')].length"""


_HYDRATED = (
    "services.measurementService.getMeasurements().length + services.segmentationService.getSegmentations().length"
)
"""How much of reports and segmentations can be edited."""


@dataclass(frozen=True)
class Measured:
    """One editable measurement as the viewer holds it."""

    uid: str
    tool: str
    label: str
    shown: tuple[str, ...]
    """The lines of its row: lengths with their unit."""
    finding: str
    sites: tuple[str, ...]
    points_mm: tuple[Vector, ...]
    """LPS. Of a cross: both ends of the long axis, both ends of the short one."""
    sop_instance_uid: str


class Viewer:
    """A study opened in the viewer."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text[:300]))
        page.on("pageerror", lambda error: self.complaints.append(str(error)[:300]))
        page.add_init_script(_NO_TOUR)

    def open(self, study_instance_uid: str) -> None:
        """Opens the study afresh; returns when its first image is drawn."""
        self.page.goto(f"{self.url}/viewer?StudyInstanceUIDs={study_instance_uid}")
        for ready in (
            "() => window.services?.displaySetService?.getActiveDisplaySets().length",
            "() => document.querySelector('canvas.cornerstone-canvas')",
            "() => document.querySelector('[data-cy^=study-browser-thumbnail]')",
            # a double click before it may be lost
            f"() => window.cornerstone?.getRenderingEngines().length && {_VIEWPORT}",
        ):
            self.page.wait_for_function(ready, timeout=PATIENCE_MS)

    def load(self, series_instance_uid: str) -> str:
        """Double-clicks the series' thumbnail and says yes to what is asked; the question, '' where none came.

        AssertionError where the study has no such series.
        """
        (target,) = [one for one in self.page.evaluate(_DISPLAY_SETS) if one["series"] == series_instance_uid]
        self.page.locator(f"[id='thumbnail-{target['uid']}']").dblclick()
        yes = self.page.locator("[data-cy=yes-hydrate-btn]").first
        if not self._comes_true(_ANSWERED, QUESTION_MS) or not yes.count():
            return ""
        question: str = self.page.locator("[data-cy=viewport-notification]").first.inner_text().splitlines()[0]
        before = self.page.evaluate(_HYDRATED)
        yes.click()
        yes.wait_for(state="detached", timeout=QUESTION_MS)
        self._comes_true(f"{_HYDRATED} > {before}", QUESTION_MS / 4)
        self._settle(SETTLING_MS)
        return question

    def measurements(self) -> list[Measured]:
        """All editable measurements, in the order of the viewer."""
        return [
            Measured(
                uid=one["uid"],
                tool=one["tool"],
                label=one["label"],
                shown=tuple(one["shown"]),
                finding=one["finding"],
                sites=tuple(one["sites"]),
                points_mm=tuple(tuple(point) for point in one["points"]),
                sop_instance_uid=one["sop"],
            )
            for one in self.page.evaluate(_MEASUREMENTS)
        ]

    def segments(self) -> list[dict[str, Any]]:
        """Label of each segment with the label of its segmentation and what it is shown as."""
        found: list[dict[str, Any]] = self.page.evaluate(_SEGMENTATIONS)
        return found

    def rows(self, panel: str) -> list[list[str]]:
        """The right panel's rows as a person reads them; `panel` is 'trackedMeasurements' or 'panelSegmentation'."""
        button = self.page.locator(f"[data-cy={panel}-btn]")
        if button.count():
            button.first.click()
            self._settle(SETTLING_MS / 2)
        found: list[list[str]] = self.page.evaluate(_ROWS)
        return found

    def show(self, sop_instance_uid: str) -> None:
        """Scrolls to the slice."""
        self.page.evaluate(
            f"(sop) => {{ const v = {_VIEWPORT};"
            " return v.setImageIdIndex(v.getImageIds().findIndex(id => id.includes(sop))); }",
            sop_instance_uid,
        )
        self.page.wait_for_function(
            f"(sop) => {_VIEWPORT}.getCurrentImageId().includes(sop)", arg=sop_instance_uid, timeout=QUESTION_MS
        )
        self._settle(SETTLING_MS / 2)

    def on_screen(self, point_mm: Vector) -> tuple[float, float]:
        """Where a patient point lies in the window (CSS pixels)."""
        x, y = self.page.evaluate(
            f"(p) => {{ const v = {_VIEWPORT}; const [x, y] = v.worldToCanvas(p);"
            " const box = v.canvas.getBoundingClientRect(); return [box.left + x, box.top + y]; }",
            list(point_mm),
        )
        return x, y

    def coloured(self) -> list[tuple[float, float]]:
        """Window positions of the image's coloured pixels."""
        box = self.page.evaluate(
            "() => { const b = document.querySelector('canvas.cornerstone-canvas').getBoundingClientRect();"
            " return [b.left, b.top]; }"
        )
        return [(box[0] + x, box[1] + y) for x, y in self.page.evaluate(_COLOURED)]

    def shapes(self) -> int:
        """How many lines and outlines are drawn over the image."""
        found: int = self.page.evaluate(_SHAPES)
        return found

    def outlines(self) -> list[list[tuple[float, float]]]:
        """Window positions of the corners of each outline that is drawn over the image, rounded to a tenth."""
        return [[(x, y) for x, y in one] for one in self.page.evaluate(_OUTLINES)]

    def text(self) -> str:
        """What a person reads in the viewport, where it shows a report as text."""
        found: str = self.page.evaluate("() => document.body.innerText")
        return found

    def unsupported(self, series_instance_uid: str) -> bool:
        """True where the viewer lists the series with a warning sign: it cannot show it."""
        (target,) = [one for one in self.page.evaluate(_DISPLAY_SETS) if one["series"] == series_instance_uid]
        return bool(target["unsupported"])

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Presses the mouse at a window position, moves it in steps and lets go."""
        mouse = self.page.mouse
        mouse.move(*start)
        self.page.wait_for_timeout(200)  # the tools look for a handle near the pointer when it moves
        mouse.down()
        for step in range(1, 9):
            mouse.move(*(a + (b - a) * step / 8 for a, b in zip(start, end, strict=True)))
            self.page.wait_for_timeout(30)
        mouse.up()
        self._settle(SETTLING_MS / 2)

    def move_point(self, measured: Measured, index: int, to_mm: Vector) -> None:
        """Drags one handle of a measurement to a patient point on its slice."""
        self.show(measured.sop_instance_uid)
        self.drag(self.on_screen(measured.points_mm[index]), self.on_screen(to_mm))

    def move(self, measured: Measured, by_mm: Vector) -> None:
        """Drags a whole cross by a line of it: a quarter along its long axis, where no handle is near."""
        self.show(measured.sop_instance_uid)
        start, end = measured.points_mm[:2]
        quarter = (0.75 * start[0] + 0.25 * end[0], 0.75 * start[1] + 0.25 * end[1], 0.75 * start[2] + 0.25 * end[2])
        to = (quarter[0] + by_mm[0], quarter[1] + by_mm[1], quarter[2] + by_mm[2])
        self.drag(self.on_screen(quarter), self.on_screen(to))

    def draw(self, tool: str, sop_instance_uid: str, from_mm: Vector, to_mm: Vector) -> None:
        """Draws with a tool ('Bidirectional') on a slice."""
        self.show(sop_instance_uid)
        self.page.locator("[data-cy=MeasurementTools-split-button-secondary]").click()
        self.page.locator(f"[data-cy={tool}]").last.click()
        self.drag(self.on_screen(from_mm), self.on_screen(to_mm))

    def rename(self, label: str, to: str) -> None:
        """Gives a measurement another label, by its row's menu."""
        self._menu(label, "Rename")
        box = self.page.locator("[role=dialog] input").last
        box.fill(to)
        self.page.locator("[data-cy=input-dialog-save-button]").click()
        self._settle(SETTLING_MS / 2)

    def delete(self, label: str) -> None:
        """Deletes a measurement, by its row's menu."""
        self._menu(label, "Delete")
        self._settle(SETTLING_MS / 2)

    def _menu(self, label: str, entry: str) -> None:
        self._measurement_panel()
        row = self.page.locator("[data-cy=data-row]").filter(has_text=label).first
        row.hover()
        row.locator("[data-cy=actionsMenuTrigger]").first.click()
        self.page.locator(f"[data-cy={entry}]").first.click()

    def save(self) -> None:
        """Presses 'Create SR' and leaves the dialog's proposals as they are; returns when the archive has answered."""
        self._measurement_panel()
        self.page.get_by_text("Create SR").first.click()
        button = self.page.locator("[data-cy=input-dialog-save-button]")
        button.wait_for(timeout=QUESTION_MS)
        with self.page.expect_response(lambda answer: answer.request.method == "POST", timeout=PATIENCE_MS) as stored:
            button.click()
        assert stored.value.status == 200, stored.value.text()

    def _measurement_panel(self) -> None:
        """Opens the panel of measurements where it is not open: a click on an open one closes it."""
        if not self.page.get_by_text("Create SR").count():
            self.page.locator("[data-cy=trackedMeasurements-btn]").first.click()
            self.page.get_by_text("Create SR").first.wait_for(timeout=QUESTION_MS)

    def picture(self, path: Path) -> None:
        """A screenshot as PNG; of 256 colours, which halve its size."""
        self.page.screenshot(path=path)
        with Image.open(path) as whole:
            slim = whole.convert("RGB").quantize(256)
        slim.save(path, optimize=True)

    def close_up(self, path: Path, points_mm: Sequence[Vector]) -> None:
        """A screenshot, as PNG and `CLOSE` times as large, of what of the image lies around patient points."""
        x, y = zip(*(self.on_screen(point) for point in points_mm), strict=True)
        left, top = max(min(x) - MARGIN, 0), max(min(y) - MARGIN, 0)
        right, bottom = min(max(x) + MARGIN, WINDOW["width"]), min(max(y) + MARGIN, WINDOW["height"])
        self.page.screenshot(path=path, clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
        with Image.open(path) as seen:
            larger = seen.resize((seen.width * CLOSE, seen.height * CLOSE), Image.Resampling.NEAREST)
        larger.save(path, optimize=True)

    def _settle(self, least_ms: float) -> None:
        """Waits so long, and then until the page has nothing to do: a loaded machine takes longer."""
        self.page.wait_for_timeout(least_ms)
        self.page.evaluate(_IDLE, PATIENCE_MS)

    def _comes_true(self, expression: str, within_ms: float) -> bool:
        try:
            self.page.wait_for_function(expression, timeout=within_ms)
        except self._timeout():
            return False
        return True

    @staticmethod
    def _timeout() -> type[Exception]:
        from playwright.sync_api import TimeoutError as TimedOut

        return TimedOut


@contextmanager
def browser(url: str) -> Iterator[Viewer]:
    """Chromium with a new profile at the viewer's URL; the test is skipped, with a word, where either lacks."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'test')")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield Viewer(chromium.new_page(viewport=WINDOW), url)
        finally:
            chromium.close()
