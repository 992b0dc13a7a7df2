"""The page in a real browser: its controls are used, and what it then says is compared with the records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from densehead.analysis.page import write_page
from tests.analysis.page.opened import PRESS, OpenedPage, caption_of, captions
from tests.analysis.page.scenes import (
    BOXES,
    HOSTILE,
    NAMES,
    STRIDES,
    TITLES,
    make_record,
    make_scene,
)

TIMES, TO = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"


def test_counts_are_those_of_the_records(page, scenes):
    records = scenes[0].records
    assert captions(page) == [caption_of(title, record) for title, record in records.items()]
    counts = np.stack([record.counts() for record in records.values()])  # (columns, G, L)
    missed = (counts.sum(2) == 0).any(0)
    assert 0 < missed.sum() < len(BOXES)
    assert page.texts("#summary") == [f"6 objects, {missed.sum()} missed by some"]
    tallies = [" · ".join(map(str, level)) for level in counts.sum(1).T]
    assert page.texts("#levels button") == ["All", *(f"/{s} {t}" for s, t in zip(STRIDES, tallies, strict=True))]
    order = np.argsort(~missed, kind="stable")
    rows = [[int(text) for text in page.texts(f"#objects tbody tr:nth-child({row + 1}) .count")] for row in range(6)]
    assert rows == counts.sum(2)[:, order].T.tolist()
    assert page.texts("#objects tbody tr.missed .number") == [str(index) for index in np.flatnonzero(missed)]
    assert page.texts("#objects thead th") == ["object", "size", "All", "Fine", "Coarse"]
    most = max(record.is_missed().sum() for record in records.values())
    assert page.texts("#film .badge") == [f"⚠ {most}", "", f"⚠ {most}"]
    assert page.texts("#weights") == ["centre-ness up to 1.00, IoU up to 1.00"]


def test_images(page, scenes):
    def shown():
        number = int(page.state["image"]) - 1
        assert page.attributes("#film button", "aria-current") == [str(one == number).lower() for one in range(3)]
        assert page.browser.run("return Number(document.getElementById('image').value)") == number
        assert captions(page)[0] == caption_of("AllHead", scenes[number].records["AllHead"])
        return number

    assert shown() == 0
    page.click("#next")
    assert shown() == 1
    page.click("#next", "#next")
    assert shown() == 0  # round the corner
    page.click("#previous")
    assert shown() == 2
    page.press("ArrowRight", "ArrowRight")
    assert shown() == 1
    page.press("ArrowLeft")
    assert shown() == 0
    page.click("#next-missed")
    assert shown() == 2  # the image between has no objects
    page.press("m")
    assert shown() == 0
    page.click("#film li:nth-child(2) button")
    assert shown() == 1
    page.set("#image", 2)
    assert shown() == 2


def test_assigners(page, scenes):
    for number, (title, record) in enumerate(scenes[0].records.items()):
        for use, what in ((page.click, f"[data-column='{number}']"), (page.press, str(number + 1))):
            page.press("0")
            assert [one[0] for one in captions(page)] == TITLES
            use(what)
            assert captions(page) == [caption_of(title, record)]
            assert page.pressed("#columns button") == [title]
            assert page.state["column"] == title
        rows = page.texts("#objects tbody .count")
        order = np.argsort(~record.is_missed(), kind="stable")
        counts = np.concatenate([record.counts(), record.counts().sum(1, keepdims=True)], 1)[order]
        assert [int(text) for text in rows] == counts.ravel().tolist()
    page.click("[data-column='-1']")
    assert page.pressed("#columns button") == ["Side by side"]


def test_levels(page, scenes):
    record = scenes[0].records["AllHead"]
    total, by_level = len(record.prior_index), record.counts().sum(0)
    page.click("[data-column='0']")

    def shown():
        return captions(page)[0][-1]

    page.click("[data-stride='16']")
    assert shown() == f"{by_level[1]} of {total} positives"
    assert page.state["level"] == "16"
    page.click("[data-stride='8']")
    assert shown() == f"{by_level[:2].sum()} of {total} positives"
    page.click("[data-stride='32']")
    assert shown() == f"{total} positives"  # all of them are all
    assert page.pressed("#levels button") == ["All"]
    page.press("]", "]")
    assert page.pressed("#levels button") == [f"/16 {by_level[1]}"]
    page.press("[")
    assert shown() == f"{by_level[0]} of {total} positives"
    page.click("#levels button:first-child")
    assert shown() == f"{total} positives"
    page.click("#apart")
    assert captions(page) == [[f"stride {s}", f"{n} positives"] for s, n in zip(STRIDES, by_level, strict=True)]
    page.click("[data-stride='32']")
    assert [one[0] for one in captions(page)] == ["stride 32"]
    page.press("0", "a")
    assert [one[0] for one in captions(page)] == TITLES


def test_objects(page, scenes):
    row = "#objects tbody tr[data-object='{}'] button"
    page.click(row.format(3))
    record = scenes[0].records["AllHead"]
    assert page.texts("#details h2") == ["dog (object 3)"]
    assert page.texts("#details > p:not(.tools)") == [f"24 {TIMES} 24 px, x 40 to 64, y 205 to 229"]
    counts = [str(count) for count in record.counts()[3]]
    mine = record.weight[record.gt_index == 3]
    weights = f"{mine.min():.2f} {TO} {mine.max():.2f}"
    assert page.texts("#details tbody tr:first-child > *") == ["AllHead", *counts, str(len(mine)), weights]
    assert captions(page)[0][-1] == f"{len(mine)} of {len(record.prior_index)} positives"
    assert page.texts(".chosen .number") == ["3"]
    page.click("#zoom-object")
    assert int(page.texts("#zoom-fit")[0].rstrip("%")) > 300
    page.click("#zoom-fit", "#all-objects")
    assert (page.texts("#details:not([hidden])"), page.texts("#zoom-fit")) == ([], ["100%"])
    page.press("ArrowDown", "ArrowDown", "ArrowUp")
    assert page.state["object"] == page.texts("#objects tbody tr:first-child .number")[0]
    page.press("Escape")
    assert "object" not in page.state
    page.click("[data-shown='ignored']")
    page.browser.point(*page.place(0, 52, 217), *PRESS, *PRESS)
    assert page.painted().state["object"] == "3"
    assert int(page.texts("#zoom-fit")[0].rstrip("%")) > 300
    page.press("f", "Escape")
    for expected in ("0", "1", None):  # the smaller of two at a place, the larger, none
        page.tap(2, 130, 98)
        assert page.state.get("object") == expected
    page.click(row.format(0), row.format(0))
    assert "object" not in page.state


@pytest.mark.parametrize(
    ("order", "expected"),
    [("number", "012345"), ("small", "453201"), ("large", "102354"), ("name", None), ("few", None), ("many", None)],
)
def test_sorting(page, scenes, order, expected):
    page.set("#sort", order)
    numbers = [int(text) for text in page.texts("#objects .number")]
    totals = np.sum([record.counts().sum(1) for record in scenes[0].records.values()], 0)[numbers]
    if expected:
        assert "".join(map(str, numbers)) == expected
    elif order == "name":
        assert [page.texts("#objects .label")[i] for i in (0, 5)] != ["dog", "cat"]
        assert sorted(numbers) == list(range(6))
    else:
        assert totals.tolist() == sorted(totals, reverse=order == "many")


def test_links(page, scenes):
    page.follow("image=3&level=8,16&column=FineHead&object=2&apart=1&hide=labels")
    assert captions(page)[0][0] == "stride 8"
    assert len(captions(page)) == 2
    assert page.texts("#details h2 .label") == [f"{NAMES[2]} (object 2)"]
    assert page.pressed("#shown button") == ["Photo", "Frames", "Ignored"]
    kept = page.state
    assert kept == dict(image="3", level="8,16", column="FineHead", object="2", apart="1", hide="labels")
    page.follow("image=99&level=7&column=nobody&object=-3&hide=everything")
    assert page.texts("#details:not([hidden])") == []
    assert [one[0] for one in captions(page)] == TITLES
    assert page.browser.run("return document.getElementById('image').value") == "0"


def test_text_of_strangers_runs_nothing(page, file):
    assert page.browser.run("return document.title") == f"Title {HOSTILE}"
    assert page.texts("h1") == [f"Title {HOSTILE}"]
    page.click("#objects tbody tr[data-object='1'] button")
    assert page.texts("#details h2") == [f"{NAMES[1]} (object 1)"]
    assert page.browser.run("return document.querySelectorAll('img').length") == 3  # the thumbnails
    assert page.browser.run("return document.title") == f"Title {HOSTILE}"
    page.browser.run("""
        const made = document.createElement("script");
        made.textContent = "document.title = 1";
        document.body.append(made);
    """)
    reached = "return fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => String(error))"
    assert page.browser.run(reached) == "TypeError: Failed to fetch"
    assert page.browser.run("return document.title") == f"Title {HOSTILE}"
    complaints = page.browser.complaints()
    assert len([one for one in complaints if "Content Security Policy" in one]) == len(complaints) >= 2


def test_every_control_has_a_name_and_can_be_reached(page):
    script = """
        return [...document.querySelectorAll("button, select, input")].map((one) => [
            one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent, one.tabIndex]);
    """
    controls = page.browser.run(script)
    assert len(controls) > 25
    assert all(name.strip() and reach == 0 for name, reach in controls)


@pytest.mark.parametrize(
    ("titles", "short"),
    [
        (["FCOSHead", "ATSSHead (untrained)"], ["FCOS", "ATSS"]),
        (["SimOTAAssigner", "ATSSAssigner:topk=9"], ["SimOTAAssigner", "ATSSAssigner:topk=9"]),
    ],
)
def test_titles_in_the_list(browser, tmp_path, titles, short):
    scene = make_scene(records=dict.fromkeys(titles, make_record()))
    page = OpenedPage(browser, write_page(tmp_path / "page.html", [scene], title="t")).open()
    assert [one[0] for one in captions(page)] == titles
    assert page.texts("#objects thead th")[2:] == short


def test_checkpoints_of_a_run(browser, tmp_path):
    record = make_record()
    steps = {f"epoch_{n}.pth": dataclasses.replace(record, weight=record.weight * n / 3) for n in (1, 2, 3)}
    page = OpenedPage(browser, write_page(tmp_path / "page.html", [make_scene(records=steps)], title="t")).open()
    assert captions(page) == [caption_of("epoch_1.pth", record)]
    page.set("#run", 2)
    assert captions(page) == [caption_of("epoch_3.pth", record)]
    assert page.texts("#run-name") == ["epoch_3.pth"]
    page.click("[data-column='-1']")
    assert page.texts("#objects thead th")[2:] == ["1", "2", "3"]
    assert page.attributes("#previous, #next", "disabled") == ["", ""]
    assert browser.complaints() == []
