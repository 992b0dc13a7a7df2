"""``write_page``: puts scenes, style and script into one HTML file, a scene at a time."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import BinaryIO

from densehead.analysis.page.encoding import check_scene, encode_scene, encode_summary, to_json
from densehead.analysis.scenes import Scene
from densehead.files import whole_file

#: The parts of the script, in the order in which they stand in the page.
SCRIPTS = (
    *("dom", "data", "state", "view", "hits", "paint", "names", "hover", "tip"),
    *("pointer", "panels", "schedule", "list", "details", "controls", "keys", "main"),
)
SCENES = "<!-- scenes -->"  # where they go in page.html


def write_page(
    file: str | os.PathLike, scenes: Iterable[Scene], *, title: str, max_side: int = 1280, quality: int = 85
) -> Path:
    """Write a page to leaf through images, levels, objects and assigners.

    The page is one file that holds everything and asks no server for anything (its own Content-Security-Policy forbids
    it). It is written scene by scene, so ``scenes`` can be a generator; it is there whole, or the file of before is.

    Args:
        file: to be written; its folder is made if there is none.
        scenes: one or more, all with records of the same titles.
        title: of the page.
        max_side: images whose longer side is longer are reduced to it in the page, pixels. Boxes and points keep the
            coordinates of the image as the network saw it.
        quality: of the images in the page, as JPEG, 1 to 95.

    Returns:
        The path of the page.

    Raises:
        ValueError: no scenes, or scenes that do not fit together.
    """
    if max_side < 1 or not 1 <= quality <= 95:
        raise ValueError(f"max_side must be 1 or more and quality 1 to 95, but got {max_side} and {quality}")
    before, after = _frame(title)
    with whole_file(file) as page:
        _write(page, before)
        titles, summaries = None, []
        for scene in scenes:
            check_scene(scene, titles)
            titles = list(scene.records)
            _write_data(page, f"scene-{len(summaries)}", encode_scene(scene, max_side=max_side, quality=quality))
            summaries.append(encode_summary(scene))
            del scene  # before the next one is made
        if titles is None:
            raise ValueError(f"a page needs one scene or more, but there is none for {os.fspath(file)!r}")
        _write_data(page, "index", {"columns": titles, "is_run": is_run(titles), "images": summaries})
        _write(page, after)
    return Path(file)


def is_run(titles: list[str]) -> bool:
    """Tell whether titles are checkpoints of one run: three or more that differ in one number, which grows."""
    parts = [re.split(r"(\d+)", title) for title in titles]
    if len(titles) < 3 or len({len(one) for one in parts}) > 1:
        return False
    changing = [one for one in zip(*parts, strict=True) if len(set(one)) > 1]
    if len(changing) != 1 or not all(part.isdigit() for part in changing[0]):
        return False
    steps = [int(part) for part in changing[0]]
    return steps == sorted(set(steps))


def _frame(title: str) -> tuple[str, str]:
    """Return the page before and after its data."""
    style = _asset("page.css")
    script = "(() => {\n" + '"use strict";\n' + "\n".join(_asset(f"{part}.js") for part in SCRIPTS) + "})();\n"
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {"title": html.escape(title), "policy": policy, "style": style, "script": script}
    before, after = (Template(part).substitute(parts) for part in _asset("page.html").split(SCENES))
    return before, after


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression of CSP that allows just this text in an element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _write_data(page: BinaryIO, name: str, value: dict) -> None:
    _write(page, f'<script type="application/json" id="{name}">{to_json(value)}</script>\n')


def _write(page: BinaryIO, text: str) -> None:
    page.write(text.encode("utf-8", "replace"))
