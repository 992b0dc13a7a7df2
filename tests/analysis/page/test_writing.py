"""What is in the file: everything, as it was, and nothing that could run but our own script."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import weakref
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densehead.analysis.page import write_page
from densehead.analysis.page.encoding import UNSAFE, to_json
from densehead.analysis.page.writing import SCRIPTS, is_run
from tests.analysis.page.scenes import BOXES, HOSTILE, NAMES, STRIDES, empty_scene, make_image, make_record, make_scene

ROOT = Path(__file__).resolve().parents[3]
ASSETS = ROOT / "densehead" / "analysis" / "page"


class Elements(HTMLParser):
    """All elements of a page: their attributes, and the text of those that hold nothing else."""

    def __init__(self, text):
        super().__init__()
        self.found, self.is_open = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])
        self.is_open = True

    def handle_endtag(self, tag):
        self.is_open = False

    def handle_data(self, data):
        if self.is_open:
            self.found[-1][2] += data

    def of(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def read_page(file):
    text = file.read_text(encoding="utf-8")
    elements = Elements(text)
    data = {one["id"]: json.loads(content) for one, content in elements.of("script") if "id" in one}
    return text, elements, data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "new" / "page.html"
    scenes = (make_scene(0), make_scene(1), empty_scene(2))
    assert write_page(file, iter(scenes), title=f"Title {HOSTILE}") == file
    return scenes, *read_page(file)


def test_text_of_strangers_stays_text(page):
    scenes, text, elements, data = page
    assert [one["name"] for one in data["index"]["images"]] == [scene.name for scene in scenes]
    assert data["scene-0"]["classes"] == {str(label): NAMES[label] for label in range(4)}
    assert elements.of("title")[0][1] == f"Title {HOSTILE}"
    assert "<img" not in text  # the hostile names hold the only one
    assert not any(name.startswith("on") for _, attributes, _ in elements.found for name in attributes)
    assert sum("id" not in attributes for attributes, _ in elements.of("script")) == 1


def test_json_is_safe_in_a_script():
    text = to_json({HOSTILE: ["\ud800", "é", "\u2029"]})
    assert text.isascii()
    assert not set(text) & set(map(chr, UNSAFE))
    assert json.loads(text) == {HOSTILE: ["\ud800", "é", "\u2029"]}


def test_the_policy_allows_what_is_there_and_nothing_else(page):
    _, _, elements, _ = page
    policy = next(one["content"] for one, _ in elements.of("meta") if one.get("http-equiv"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    script = next(content for one, content in elements.of("script") if "id" not in one)
    style = elements.of("style")[0][1]
    digest = {one: base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (script, style)}
    assert rules.pop("script-src") == [f"'sha256-{digest[script]}'"]
    assert rules.pop("style-src") == [f"'sha256-{digest[style]}'"]
    assert rules == {"default-src": ["'none'"], "img-src": ["data:"], "base-uri": ["'none'"], "form-action": ["'none'"]}
    assert not re.findall(r"\bhttps?:|\bimport\b|\bfetch\(|XMLHttpRequest|WebSocket|innerHTML|\beval\(", script + style)
    links = [one[key] for _, one, _ in elements.found for key in ("src", "href") if key in one]
    assert links == ["data:,"]
    assert not any("style" in one for _, one, _ in elements.found)  # the policy would not apply it


def test_points_are_those_of_the_record(page):
    scenes, *_, data = page
    for number, scene in enumerate(scenes):
        found = data[f"scene-{number}"]
        assert found["boxes"] == scene.records["AllHead"].boxes.tolist()
        for column, record in zip(found["columns"], scene.records.values(), strict=True):
            assert column["strides"] == list(STRIDES)
            assert column["weight_name"] == record.weight_name
            points = record.points[record.prior_index]
            assert column["positives"]["x"] == points[:, 0].tolist()
            assert column["positives"]["y"] == points[:, 1].tolist()
            assert column["positives"]["levels"] == record.counts().sum(0).tolist()
            assert column["positives"]["object"] == record.gt_index.tolist()
            assert np.allclose(np.array(column["positives"]["weight"]) / 1000, record.weight, atol=5.1e-4)
            assert column["ignored"]["x"] == record.points[record.ignored_index][:, 0].tolist()
        summary = data["index"]["images"][number]
        assert summary["missed"] == [int(record.is_missed().sum()) for record in scene.records.values()]
        assert summary["objects"] == len(scene.records["AllHead"].boxes)


def test_points_in_any_order_are_brought_into_that_of_levels(tmp_path):
    record = make_record(ignored=50)
    turned = dataclasses.replace(
        record,
        **{key: getattr(record, key)[::-1] for key in ("prior_index", "gt_index", "weight", "ignored_index")},
    )
    for number, one in enumerate((record, turned)):
        write_page(tmp_path / f"{number}.html", [make_scene(records={"Head": one})], title="t")
    straight, other = (read_page(tmp_path / f"{number}.html")[2]["scene-0"]["columns"][0] for number in (0, 1))
    assert other["positives"]["levels"] == straight["positives"]["levels"]
    for kind, keys in (("positives", ("x", "y", "object", "weight")), ("ignored", ("x", "y"))):
        rows = [sorted(zip(*(one[kind][key] for key in keys), strict=True)) for one in (straight, other)]
        assert rows[0] == rows[1]


def test_weights_and_fractions(tmp_path):
    record = make_record()
    weight = record.weight.copy()
    weight[:3] = np.nan, np.inf, 0.12345
    record = dataclasses.replace(record, weight=weight, points=record.points + 1 / 3)
    write_page(tmp_path / "page.html", [make_scene(records={"Head": record})], title="t")
    found = read_page(tmp_path / "page.html")[2]["scene-0"]["columns"][0]["positives"]
    assert found["weight"][:3] == [None, None, 123]
    assert found["x"][0] == round(record.points[record.prior_index[0], 0], 2)


def test_classes_without_a_name(tmp_path):
    write_page(tmp_path / "page.html", [make_scene(class_names=("cat",))], title="t")
    assert read_page(tmp_path / "page.html")[2]["scene-0"]["classes"] == {
        "0": "cat",
        **{str(label): f"class {label}" for label in (1, 2, 3)},
    }


def test_pictures_are_limited_and_coordinates_are_not(tmp_path):
    write_page(tmp_path / "page.html", [make_scene()], title="t", max_side=100, quality=50)
    found = read_page(tmp_path / "page.html")[2]
    head, content = found["scene-0"]["image"].split(",")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (head, picture.format, picture.size) == ("data:image/jpeg;base64", "JPEG", (100, 75))
    small = Image.fromarray(make_image()).resize((100, 75))
    assert abs(np.asarray(picture, float) - np.asarray(small, float)).mean() < 6
    assert (found["scene-0"]["width"], found["scene-0"]["height"]) == (320, 240)
    assert found["scene-0"]["boxes"] == BOXES.tolist()


def test_one_scene_at_a_time(tmp_path):
    alive = []

    def scenes():
        for number in range(4):
            scene = make_scene(number)
            alive.append(weakref.ref(scene))
            yield scene
            del scene
            assert not any(one() for one in alive)

    write_page(tmp_path / "page.html", scenes(), title="t")
    assert len(alive) == 4


def test_whole_or_as_before(tmp_path):
    file = tmp_path / "page.html"
    file.write_text("before")

    def scenes():
        yield make_scene()
        raise OSError("the disk of the images is gone")

    with pytest.raises(OSError, match="disk of the images"):
        write_page(file, scenes(), title="t")
    assert os.listdir(tmp_path) == ["page.html"]
    assert file.read_text() == "before"


OTHER = make_record(BOXES + 1)


@pytest.mark.parametrize(
    ("scenes", "options", "message"),
    [
        ([], {}, "needs one scene or more, but there is none for '.*page.html'"),
        ([make_scene(records={})], {}, "must have the same records, one or more, but got \\[\\]"),
        ([make_scene(), make_scene(records={"Head": OTHER})], {}, r"but got \['Head'\] after \['AllHead'"),
        (
            [make_scene(name="a.jpg", image=np.zeros((4, 4)))],
            {},
            r"'a.jpg': the image must be .* got \(4, 4\) of float64",
        ),
        ([make_scene(records={"A": make_record(), "B": OTHER})], {}, "those of 'B' differ from those of 'A'"),
        ([make_scene(records={"A": dataclasses.replace(OTHER, boxes=BOXES * np.nan)})], {}, "boxes must be finite"),
        ([make_scene()], {"max_side": 0}, "max_side must be 1 or more"),
        ([make_scene()], {"quality": 100}, "quality 1 to 95, but got 1280 and 100"),
    ],
)
def test_what_makes_no_page(tmp_path, scenes, options, message):
    with pytest.raises(ValueError, match=message):
        write_page(tmp_path / "page.html", scenes, title="t", **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["epoch_1.pth", "epoch_2.pth", "epoch_12.pth"], True),
        (["R50, epoch_1.pth", "R50, epoch_2.pth", "R50, epoch_12.pth"], True),
        (["epoch_2.pth", "epoch_1.pth", "epoch_3.pth"], False),
        (["epoch_1.pth", "epoch_2.pth"], False),
        (["epoch_1.pth", "iter_2.pth", "epoch_3.pth"], False),
        (["FCOSHead", "ATSSHead", "GFLHead"], False),
        (["a1b1", "a2b1", "a3b2"], False),
    ],
)
def test_checkpoints_of_a_run(titles, expected):
    assert is_run(titles) is expected


def test_every_script_is_used_and_no_name_is_taken_twice():
    """All parts share one scope, in which a second function of a name would silently replace the first."""
    assert sorted(SCRIPTS) == sorted(path.stem for path in ASSETS.glob("*.js"))
    text = "\n".join((ASSETS / f"{part}.js").read_text(encoding="utf-8") for part in SCRIPTS)
    names = re.findall(r"^(?:const|let|function) (\w+)", text, re.MULTILINE)
    names += re.findall(r"(\w+)", " ".join(re.findall(r"^const \[(.+?)\] =", text, re.MULTILINE)))
    assert len(names) > 80
    assert len(set(names)) == len(names)


def test_an_installed_package_has_the_parts(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    built = tmp_path / "densehead" / "analysis" / "page"
    parts = {path.name for path in ASSETS.iterdir() if path.suffix in (".py", ".js", ".css", ".html")}
    assert {path.name for path in built.iterdir()} == parts
    assert {"page.html", "page.css", "main.js"} < parts
