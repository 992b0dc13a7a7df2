"""A page of ``scenes.py`` in a browser: what a user does with it, and what it then shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from densehead.analysis import AssignmentRecord
from tests.analysis.page.scenes import HEIGHT, WIDTH
from tests.browser import Browser

PAINTED = """
    const stage = document.getElementById("stage");
    return new Promise((done) => {
        const look = () => stage.getAttribute("aria-busy") === "false" ? done(true) : setTimeout(look, 5);
        look();
    });
"""
SET = """
    const box = document.querySelector(arguments[0]);
    box.value = arguments[1];
    for (const kind of ["input", "change"]) box.dispatchEvent(new Event(kind));
"""
OVERLAY = """
    const {left, top, width, height} = document.querySelectorAll(".overlay")[arguments[0]].getBoundingClientRect();
    return [left, top, width, height];
"""
PRESS = ({"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})


class OpenedPage:
    """A page in a browser."""

    def __init__(self, browser: Browser, file: Path) -> None:
        self.browser, self.address = browser, file.as_uri()

    def open(self, state: str = "", *, width: int = 1300, height: int = 850, **screen) -> OpenedPage:
        self.browser.emulate(width, height, **screen)
        self.browser.open("about:blank")
        return self.follow(state)

    def follow(self, state: str) -> OpenedPage:
        self.browser.open(f"{self.address}#{state}")
        return self.painted()

    def painted(self) -> OpenedPage:
        assert self.browser.run(PAINTED)
        return self

    def click(self, *selectors: str) -> None:
        for selector in selectors:
            self.browser.click(selector)
            self.painted()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.browser.press(key)
            self.painted()

    def set(self, selector: str, value: object) -> None:
        self.browser.run(SET, selector, value)
        self.painted()

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.trim())"
        return self.browser.run(script, selector)

    def attributes(self, selector: str, name: str) -> list[str | None]:
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.getAttribute(arguments[1]))"
        return self.browser.run(script, selector, name)

    def pressed(self, selector: str) -> list[str]:
        return self.texts(f"{selector}[aria-pressed='true']")

    @property
    def state(self) -> dict[str, str]:
        """What the address says."""
        return dict(self.browser.run("return [...new URLSearchParams(location.hash.slice(1))]"))

    def place(self, panel: int, x: float, y: float) -> tuple[float, float]:
        """Return where a place of the image is in the window, as long as all of the image is shown."""
        left, top, width, height = self.browser.run(OVERLAY, panel)
        scale = min(width / WIDTH, height / HEIGHT)
        return left + width / 2 + (x - WIDTH / 2) * scale, top + height / 2 + (y - HEIGHT / 2) * scale

    def hover(self, panel: int, x: float, y: float) -> list[str]:
        """Return the lines that are shown at a place of the image."""
        self.browser.point(*self.place(panel, x, y))
        return self.texts("#tip:not([hidden]) > *")

    def tap(self, panel: int, x: float, y: float) -> None:
        self.browser.point(*self.place(panel, x, y), *PRESS)
        self.painted()

    def colors(self, panel: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """Return what looks up the painted colours, (N, 3), at places of the image, (N, 2)."""
        script = 'return document.querySelectorAll("figure canvas:first-child")[arguments[0]].toDataURL()'
        data = base64.b64decode(self.browser.run(script, panel).partition(",")[2])
        canvas = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int64)
        size = np.array(canvas.shape[1::-1])
        scale = (size / (WIDTH, HEIGHT)).min()
        start = (size - scale * np.array((WIDTH, HEIGHT))) / 2

        def look_up(points: np.ndarray) -> np.ndarray:
            x, y = np.clip(start + points * scale, 0, size - 1).astype(int).T
            return canvas[y, x]

        return look_up


def caption_of(title: str, record: AssignmentRecord) -> list[str]:
    """Return what must be written above the picture of all levels of a record."""
    missed, objects = int(record.is_missed().sum()), len(record.boxes)
    some = f"⚠ {missed} of {objects} missed" if missed else "none missed" if objects else "no objects"
    texts = [title, some, f"{len(record.prior_index)} positives"]
    return texts + [f"{len(record.ignored_index)} ignored"] * bool(len(record.ignored_index))


def captions(page: OpenedPage) -> list[list[str]]:
    """Return what is written above each picture."""
    return [page.texts(f"figure:nth-child({number + 1}) figcaption > *") for number in range(len(page.texts("figure")))]
