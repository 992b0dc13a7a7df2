"""What the page paints in a real browser, what it says at the pointer, and that it stays fluent and legible."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageColor

from densehead.analysis.page import write_page
from densehead.visualization.object_colors import object_colors
from tests.analysis.page.opened import OpenedPage, caption_of, captions
from tests.analysis.page.scenes import (
    BOXES,
    LABELS,
    NAMES,
    TITLES,
    make_image,
    make_record,
    make_scene,
)

TIMES, TO = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"


def test_points_are_painted_in_the_colour_of_their_object(page, scenes):
    record, colors = scenes[0].records["AllHead"], np.array(object_colors(BOXES))
    page.click("[data-column='0']", *(f"[data-shown='{name}']" for name in ("frames", "labels", "ignored")))
    assert page.state["hide"] == "frames,labels,ignored"
    points, strong = record.points[record.prior_index], record.weight > 0.3

    def nearest(painted):
        share = (0.5 + 0.5 * record.weight)[:, None, None]
        photo = page_photo[:, None]
        return np.abs(painted[:, None] - (share * colors + (1 - share) * photo)).sum(2).argmin(1)

    page_photo = make_image(0)[tuple(points[:, ::-1].astype(int).T)].astype(int)
    painted = page.colors()(points)
    assert (np.ptp(painted, 1) > 40)[strong].all()  # not grey
    assert (nearest(painted) == record.gt_index)[strong].mean() > 0.9  # points of two levels can lie on each other
    page.tap(0, *points[record.gt_index == 1][0])
    assert page.state["object"] == "1"
    painted, mine = page.colors()(points), record.gt_index == 1
    assert (np.ptp(painted, 1) > 40)[strong & mine].all()
    apart = (np.abs(points[:, None] - points[None, mine]).max(2) > 12).all(1)
    assert apart.sum() > 50
    assert (np.ptp(painted, 1) < 12)[apart].all()


def test_hover(page, scenes):
    record = scenes[0].records["FineHead"]
    for index in (0, len(record.prior_index) // 2, len(record.prior_index) - 1):
        (x, y), truth = record.points[record.prior_index[index]], record.gt_index[index]
        name = f"{NAMES[record.labels[truth]]} (object {truth})"
        where, weight = f"level 0, stride 8, at ({x:g}, {y:g})", f"IoU {record.weight[index]:.3f}"
        assert page.hover(1, x, y) == [name.strip(), where, weight]
    record = scenes[0].records["CoarseHead"]
    prior = record.ignored_index[record.level_index[record.ignored_index] == 0][0]
    x, y = record.points[prior]
    assert page.hover(2, x, y) == ["ignored point", f"level 0, stride 8, at ({x:g}, {y:g})"]
    page.click("[data-shown='ignored']")
    inside = ["cat (object 0)", f"160 {TIMES} 170 px, x 20 to 180, y 30 to 200", f"stride 32: {record.counts()[0, 2]}"]
    assert page.hover(2, 64, 64) == inside
    missed = ["cat (object 4)", f"3 {TIMES} 3 px, x 4.5 to 7.5, y 4.5 to 7.5", "missed: no point answers for it"]
    assert page.hover(2, 6, 6) == missed
    assert page.hover(2, 5, 100) == []


def test_anchors_of_one_place_are_drawn_around_it(browser, tmp_path):
    record = dataclasses.replace(
        make_record(BOXES[:1], LABELS[:1]),
        points=np.array([(100.0, 100.0)] * 2),
        level_index=np.array([2, 2]),
        prior_index=np.array([0, 1]),
        gt_index=np.array([0, 0]),
        weight=np.array([0.5, np.nan]),
    )
    page = OpenedPage(
        browser, write_page(tmp_path / "page.html", [make_scene(records={"A": record})], title="t")
    ).open()
    name, where = "cat (object 0)", "level 2, stride 32, at (100, 100)"
    assert page.hover(0, 108, 100) == [name, where, "centre-ness 0.500"]
    assert page.hover(0, 92, 100) == [name, where, "centre-ness not finite"]
    assert page.texts("#weights") == ["centre-ness up to 0.50"]
    assert browser.complaints() == []


def test_zoom_is_one_for_all(page):
    before = [page.colors(panel)(np.array([[5.0, 5.0]])) for panel in range(3)]
    page.click("#zoom-in", "#zoom-in")
    assert page.texts("#zoom-fit") == ["225%"]
    page.click("#zoom-out")
    x, y = page.place(0, 160, 120)
    page.browser.wheel(x, y, -400)
    page.painted()
    zoomed = int(page.texts("#zoom-fit")[0].rstrip("%"))
    assert zoomed > 200
    drag = [{"type": "pointerDown", "button": 0}, {"type": "pointerMove", "x": round(x) + 90, "y": round(y)}]
    pictures = [page.colors(panel)(np.argwhere(np.ones((60, 40))) * 4) for panel in range(3)]
    page.browser.point(x, y, *drag, {"type": "pointerUp", "button": 0})
    page.painted()
    moved = [page.colors(panel)(np.argwhere(np.ones((60, 40))) * 4) for panel in range(3)]
    assert all((one != other).any(1).mean() > 0.5 for one, other in zip(pictures, moved, strict=True))
    assert "object" not in page.state  # a drag is no click
    page.press("f")
    assert page.texts("#zoom-fit") == ["100%"]
    assert np.array_equal(before, [page.colors(panel)(np.array([[5.0, 5.0]])) for panel in range(3)])


def test_a_crowd(browser, tmp_path):
    size = (1280, 960)
    generator = np.random.default_rng(0)
    corner, side = generator.uniform(0, 900, (300, 2)), generator.uniform(8, 60, (300, 2))
    boxes = np.concatenate([corner, corner + side], 1)
    record = make_record(boxes, generator.integers(0, 4, 300), ignored=20_000, size=size)
    scene = make_scene(image=make_image(size=size), records=dict.fromkeys(TITLES, record))
    page = OpenedPage(browser, write_page(tmp_path / "page.html", [scene], title="t")).open()
    assert captions(page)[1] == caption_of("FineHead", record)
    assert len(page.texts("#objects tbody tr")) == 300
    page.browser.run("""
        const overlay = document.querySelector(".overlay");
        const {left, top} = overlay.getBoundingClientRect();
        for (let i = 0; i < 300; i++) {
            const [clientX, clientY] = [left + i, top + 150 + (i % 50)];
            overlay.dispatchEvent(new PointerEvent("pointermove", {pointerId: 1, clientX, clientY}));
        }
        for (let i = 0; i < 5; i++) overlay.dispatchEvent(new WheelEvent("wheel", {deltaY: -60, cancelable: true}));
    """)
    page.painted()
    assert int(page.texts("#zoom-fit")[0].rstrip("%")) > 120
    assert browser.complaints() == []


WIDE, PHONE = dict(width=1300, height=850), dict(width=390, height=844, ratio=2, phone=True)


@pytest.mark.parametrize(
    ("screen", "dark"),
    [(WIDE, False), (WIDE, True), (PHONE, False), (PHONE, True), (dict(width=700, height=500), False)],
)
def test_screens(page, tmp_path, screen, dark):
    page.open("image=1", dark=dark, **screen)
    across = page.browser.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert across[0] <= across[1]
    page.press("ArrowRight", "ArrowLeft", "ArrowDown", "Escape")
    assert page.browser.run("return [scrollX, scrollY]") == [0, 0]  # the picture stays in view
    page.browser.screenshot(tmp_path / "page.png")
    picture = Image.open(tmp_path / "page.png").convert("RGB")
    ratio = screen.get("ratio", 1)
    assert picture.size == (screen["width"] * ratio, screen["height"] * ratio)
    corner = np.array(picture.getpixel((2, 2)))
    assert (corner.mean() < 80) == dark
    warning = np.abs(np.asarray(picture, int) - ImageColor.getrgb("#e4002b")).max(2) < 8
    assert warning.sum() > 30  # frames of missed objects
