from __future__ import annotations

import io
import json
import os
import random
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest
from PIL import Image

from densehead.datasets import convert as package
from densehead.datasets import recognise
from densehead.datasets.convert import convert
from densehead.datasets.convert import run as module
from densehead.datasets.convert.images import turn_boxes
from densehead.datasets.convert.names import names_without_ending
from densehead.datasets.convert.voc import whole_pixels
from densehead.registry import DATASETS
from tests.datasets.small import LINE, write_coco, write_image, write_text, write_voc, write_yolo, xml_of

CLASSES = (
    "zebra",
    "traffic light",
    "Ähre",
    "yes",
)  # not sorted; one with a space, one beyond ASCII, one that YAML minds


def everything(folder, format=None):
    """Return classes, and of each split {name of the image: (width, height, boxes, labels, ignore flags)}."""
    found = recognise(folder, format)
    splits = {}
    for split, part in found.splits.items():
        keys = {key: value for key, value in part.dataset.items() if key != "filter_cfg"}
        dataset = DATASETS.build({**keys, "test_mode": True, "serialize_data": False})
        splits[split] = {}
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            objects = info["instances"]
            splits[split][os.path.basename(info["img_path"])] = (
                info["width"],
                info["height"],
                np.array([one["bbox"] for one in objects]).reshape(-1, 4),
                [one["bbox_label"] for one in objects],
                [one["ignore_flag"] for one in objects],
            )
    return found.classes, splits


def assert_same(one, other, tolerance, flags=True):
    assert one[0] == other[0]
    assert list(one[1]) == list(other[1])
    for split, images in one[1].items():
        assert list(images) == list(other[1][split])
        for name, (width, height, boxes, labels, ignore) in images.items():
            found = other[1][split][name]
            assert found[:2] == (width, height)
            assert found[3] == labels
            assert not flags or found[4] == ignore
            assert np.abs(found[2] - boxes).max(initial=0) <= tolerance


def write_random(root, seed, marked=True):
    """Write a random data set in COCO's format: two splits, sizes from 1 to 700 pixels, boxes of any size in them."""
    rng = random.Random(seed)
    for split in ("train", "val"):
        names = [f"{split}-{index} ß{ending}" for index, ending in enumerate((".jpg", ".png", ".bmp", ".jpeg"))]
        sizes = [(rng.choice((1, 7, 333, 480)), rng.choice((1, 9, 500, 700))) for _ in names]
        annotations = []
        for index, (height, width) in enumerate(sizes):
            for _ in range(rng.choice((0, 1, 5, 40))):
                w, h = rng.uniform(1, max(width, 1)), rng.uniform(1, max(height, 1))
                box = [rng.uniform(0, width - w), rng.uniform(0, height - h), w, h]
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": index,
                        "category_id": rng.randrange(4),
                        "bbox": box,
                        "area": w * h,
                        "iscrowd": int(marked and rng.random() < 0.2),
                    }
                )
        images = [
            {"id": i, "file_name": name, "height": size[0], "width": size[1]}
            for i, (name, size) in enumerate(zip(names, sizes))
        ]
        categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_text(root / "annotations" / f"{split}.json", json.dumps(content))
        for name, size in zip(names, sizes):
            write_image(root / split / name, size)
    return root


# ------------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", [("yolo",), ("voc",), ("yolo", "voc"), ("voc", "yolo")])
def test_boxes_survive_all_ways(tmp_path, seed, way):
    write_random(tmp_path / "0", seed, marked="yolo" not in way)
    steps = [*way, "coco"]
    for step, to in enumerate(steps):
        convert(tmp_path / str(step), tmp_path / str(step + 1), to)
    before, after = everything(tmp_path / "0"), everything(tmp_path / str(len(steps)))
    assert sum(len(labels) for *_, labels, _ in before[1]["train"].values()) > 0
    # to VOC's pixels a side is rounded; moved further only where a pixel must be left of an object
    assert_same(before, after, 0.5 + 1e-6 if "voc" in way else 3e-6)


def test_whole_pixels_survive_exactly(tmp_path):
    for split in ("train", "val"):
        write_voc(tmp_path / "0", {split: [f"{split}-a", f"{split}-b"]})
    write_text(tmp_path / "0" / "Annotations" / "val-a.xml", xml_of("val-a.jpg", box=(1, 1, 81, 61)))
    for step, to in enumerate(("yolo", "coco", "voc")):
        convert(tmp_path / str(step), tmp_path / str(step + 1), to)
    for name in os.listdir(tmp_path / "0" / "Annotations"):
        for tag in ("xmin", "ymin", "xmax", "ymax"):
            sides = [ET.parse(tmp_path / n / "Annotations" / name).findtext(f".//{tag}") for n in "03"]
            assert sides[0] == sides[1]


def test_the_source_stays_as_it_is(tmp_path):
    def content(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    write_random(tmp_path / "a", 0)
    before = content(tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", "yolo")
    convert(tmp_path / "a", tmp_path / "c", "voc")
    assert content(tmp_path / "a") == before


# ------------------------------------------------------------------------------------------------ what is written


def test_files_of_yolo(tmp_path):
    write_coco(tmp_path / "a" / "train.json", ["x/a.jpg", "b.jpg"], tmp_path / "a" / "train", classes=("no", "Ähre"))
    content = json.loads((tmp_path / "a" / "train.json").read_text())
    content["annotations"] = content["annotations"][:1]  # 20 x 30 pixels around (40, 30) of 80 x 60
    write_text(tmp_path / "a" / "train.json", json.dumps(content))
    done = convert(tmp_path / "a", tmp_path / "b", "yolo")
    assert (done.images, done.objects, done.notes) == ({"train": 2}, {"train": 1}, [])
    files = {str(path.relative_to(tmp_path / "b")) for path in (tmp_path / "b").rglob("*") if path.is_file()}
    assert files == {
        "data.yaml",
        "images/train/b.jpg",
        "images/train/x/a.jpg",
        "labels/train/b.txt",
        "labels/train/x/a.txt",
    }
    assert (tmp_path / "b" / "labels" / "train" / "x" / "a.txt").read_text() == "0 0.5 0.5 0.25 0.5\n"
    assert (tmp_path / "b" / "labels" / "train" / "b.txt").read_text() == ""
    text = (tmp_path / "b" / "data.yaml").read_text(encoding="utf-8")
    assert text == "train: images/train\nnc: 2\nnames:\n- 'no'\n- Ähre\n"


def test_files_of_coco(tmp_path):
    write_yolo(tmp_path / "a", {"train/a": LINE, "val/a": "", "val/sub/b": LINE}, {"classes.txt": "cat\n"})
    convert(tmp_path / "a", tmp_path / "b", "coco")
    content = json.loads((tmp_path / "b" / "annotations" / "train.json").read_text())
    box = {"bbox": [30, 15, 20, 30], "area": 600, "iscrowd": 0}
    assert content == {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **box}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    content = json.loads((tmp_path / "b" / "annotations" / "val.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "sub/b.jpg"]
    assert content["annotations"] == [{"id": 1, "image_id": 2, "category_id": 1, **box}]
    assert (tmp_path / "b" / "val" / "sub" / "b.jpg").is_file()


def test_files_of_voc(tmp_path):
    write_yolo(tmp_path / "a", {"train/a b": LINE, "val/c": ""}, {"classes.txt": "dog\ncat\n"})
    convert(tmp_path / "a", tmp_path / "b", "voc")
    root = ET.parse(tmp_path / "b" / "Annotations" / "a b.xml").getroot()
    texts = {one.tag: one.text for one in root.iter() if len(one) == 0}
    sides = {"xmin": "31", "ymin": "16", "xmax": "51", "ymax": "46"}  # counted from 1
    size = {"width": "80", "height": "60", "depth": "3"}
    assert texts == {"folder": "JPEGImages", "filename": "a b.jpg", **size, "name": "dog", "difficult": "0", **sides}
    assert (tmp_path / "b" / "ImageSets" / "Main" / "train.txt").read_text() == "a b\n"
    assert (tmp_path / "b" / "ImageSets" / "Main" / "val.txt").read_text() == "c\n"
    assert (tmp_path / "b" / "classes.txt").read_text() == "dog\ncat\n"
    assert sorted(os.listdir(tmp_path / "b" / "JPEGImages")) == ["a b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("box", "rounded"),
    [
        ((0.4, 0.5, 9.5, 8.49), [0, 1, 10, 8]),
        ((1.5, 0, 2.5, 1), [2, 0, 3, 1]),
        ((9.7, 0, 10, 0.2), [9, 0, 10, 1]),  # a pixel is left in the corner
    ],
)
def test_rounding_leaves_a_pixel(box, rounded):
    assert whole_pixels(box, 10, 10) == rounded


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_what_is_no_box_is_not_written(tmp_path, said, to):
    boxes = [[30, 15, 20, 30], [70, 50, 30, 30], [5, 5, 0, 9], [90, 5, 9, 9], [float("nan"), 1, 9, 9]]
    annotations = [{"id": i, "image_id": 0, "category_id": 1, "bbox": box, "area": 9} for i, box in enumerate(boxes)]
    write_coco(tmp_path / "c" / "train.json", ["a.jpg"], tmp_path / "c" / "train", annotations=annotations)
    if to == "coco":
        convert(tmp_path / "c", tmp_path / "d", "voc")
    convert(tmp_path / ("d" if to == "coco" else "c"), tmp_path / "e", to)
    kept = everything(tmp_path / "e")[1]["train"]["a.jpg"][2]
    assert np.allclose(kept, [[30, 15, 50, 45], [70, 50, 80, 60]])
    assert len([one for one in said if "dropped 3 of 5 boxes" in one and "clipped 1" in one]) == 1


# ------------------------------------------------------------------------------------------------------------ marks


def marked(root):
    marks = [{}, {"iscrowd": 1}, {"ignore": 1}, {"difficult": 1, "iscrowd": 1}]
    annotations = [
        {"id": i, "image_id": 0, "category_id": 1, "bbox": [i, 0, 20, 30], "area": 600, **mark}
        for i, mark in enumerate(marks)
    ]
    write_coco(root / "train.json", ["a.jpg"], root / "train", annotations=annotations)
    return root


def test_marks_become_what_the_format_has_and_are_counted(tmp_path):
    marked(tmp_path / "coco")
    done = convert(tmp_path / "coco", tmp_path / "voc", "voc")
    assert [note.partition(" objects ")[::2] for note in done.notes] == [
        ("1", "marked iscrowd are written as difficult."),
        ("1", "marked ignore are written as difficult."),
    ]
    assert everything(tmp_path / "voc")[1]["train"]["a.jpg"][4] == [0, 1, 1, 1]
    done = convert(tmp_path / "voc", tmp_path / "again", "coco")
    assert done.notes == [
        "3 objects marked difficult are written as crowds (iscrowd), which are left out of evaluation too."
    ]
    content = json.loads((tmp_path / "again" / "annotations" / "train.json").read_text())
    assert [(one["iscrowd"], one.get("difficult")) for one in content["annotations"]] == [(0, None), *[(1, 1)] * 3]
    convert(tmp_path / "again", tmp_path / "voc2", "voc")
    texts = [(tmp_path / name / "Annotations" / "a.xml").read_text() for name in ("voc", "voc2")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("keep", "count", "fate"), [(False, 1, "are left out, since"), (True, 4, "like any other, since")]
)
def test_marks_in_label_files(tmp_path, keep, count, fate):
    done = convert(marked(tmp_path / "coco"), tmp_path / "yolo", "yolo", keep_marked=keep)
    assert len((tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()) == count
    assert len(done.notes) == 3
    assert all(note.startswith("1 objects marked ") and fate in note for note in done.notes)
    with pytest.raises(ValueError, match="for YOLO alone; voc marks them itself"):
        convert(tmp_path / "coco", tmp_path / "voc", "voc", keep_marked=True)


def test_masks_are_said(tmp_path, said):
    write_coco(tmp_path / "a" / "train.json", ["a.jpg"], tmp_path / "a" / "train")
    content = json.loads((tmp_path / "a" / "train.json").read_text())
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2, 3, 3]]
    write_text(tmp_path / "a" / "train.json", json.dumps(content))
    convert(tmp_path / "a", tmp_path / "b", "yolo")
    assert "1 objects have masks or key points; their boxes alone are taken" in said[0]


# ------------------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize("how", package.HOW)
def test_images_are_copied_linked_or_left(tmp_path, how):
    write_voc(tmp_path / "a", {"train": ["a"]})
    convert(tmp_path / "a", tmp_path / "b", "coco", images=how)
    source, image = tmp_path / "a" / "JPEGImages" / "a.jpg", tmp_path / "b" / "train" / "a.jpg"
    assert image.exists() == (how != "none")
    if how != "none":
        assert image.is_symlink() == (how == "symlink")
        assert image.samefile(source) == (how != "copy")
        assert image.read_bytes() == source.read_bytes()


def test_images_that_are_not_there(tmp_path):
    write_voc(tmp_path / "a", {"train": ["a", "b"]})
    os.remove(tmp_path / "a" / "JPEGImages" / "b.jpg")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images are not there, the first '.*b\.jpg'.*--no-images"):
        convert(tmp_path / "a", tmp_path / "b", "yolo")
    assert sorted(os.listdir(tmp_path)) == ["a"]
    convert(tmp_path / "a", tmp_path / "b", "yolo", images="none")
    assert sorted(os.listdir(tmp_path / "b" / "labels" / "train")) == ["a.txt", "b.txt"]
    with pytest.raises(ValueError, match="images must be one of 'copy', 'symlink', 'hardlink', 'none', but got 'move'"):
        convert(tmp_path / "a", tmp_path / "c", "yolo", images="move")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_turn_with_the_image(orientation):
    image = np.zeros((6, 10, 3), np.uint8)
    image[1:3, 2:7] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", exif=exif)
    turned = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)
    rows, columns = np.nonzero(turned)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert turn_boxes(np.array([[2, 1, 7, 3]]), 10, 6, orientation).tolist() == [expected]


def test_parts_are_of_the_image_as_it_is_loaded(tmp_path, said):
    """Two images annotated as 80 x 60: one lies so in its file, but a tag turns it; one was made smaller since."""
    write_voc(tmp_path / "a", {"train": ["a", "b", "c"]})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 60)).save(tmp_path / "a" / "JPEGImages" / "a.jpg", exif=exif)
    write_image(tmp_path / "a" / "JPEGImages" / "b.jpg", (45, 40))
    convert(tmp_path / "a", tmp_path / "b", "yolo")
    images = everything(tmp_path / "b")[1]["train"]
    assert [images[name][:2] for name in ("a.jpg", "b.jpg", "c.jpg")] == [(60, 80), (40, 45), (80, 60)]
    assert np.allclose(images["a.jpg"][2], [[15, 30, 45, 50]])
    assert np.allclose(images["b.jpg"][2], [[30, 15, 40, 45]])  # clipped
    assert np.allclose(images["c.jpg"][2], [[30, 15, 50, 45]])
    assert "2 images are of another size than annotated, the first '" in said[0]
    assert "1 of them since a tag turns them" in said[0]


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_names_that_differ_by_their_ending_alone(tmp_path, to):
    names = ["a.jpg", "a.png", "b/a.jpg", "a_png.png"]
    write_coco(tmp_path / "0" / "train.json", names, tmp_path / "0" / "train")
    content = json.loads((tmp_path / "0" / "train.json").read_text())
    for index, annotation in enumerate(content["annotations"]):
        annotation["bbox"] = [index, 0, 20, 30]
    write_text(tmp_path / "0" / "train.json", json.dumps(content))
    done = convert(tmp_path / "0", tmp_path / "1", to)
    assert done.notes == [
        "2 images were renamed, since others differ from them by their ending alone: a.jpg is a_jpg.jpg."
    ]
    convert(tmp_path / "1", tmp_path / "2", "coco")
    content = json.loads((tmp_path / "2" / "annotations" / "train.json").read_text())
    left_of = {}
    for annotation in content["annotations"]:
        image = next(one for one in content["images"] if one["id"] == annotation["image_id"])
        left_of[image["file_name"]] = round(annotation["bbox"][0])
    assert left_of == {"a_jpg.jpg": 0, "a_png_2.png": 1, "b/a.jpg": 2, "a_png.png": 3}


def test_names_are_unique_whatever_they_are():
    rng = random.Random(0)
    for _ in range(200):
        stems = ["a", "a_jpg", "a_png", "a_jpg_2", "b/a"]
        names = list({rng.choice(stems) + rng.choice((".jpg", ".png", ".JPG")) for _ in range(6)})
        chosen = names_without_ending(names)
        assert len({os.path.splitext(name)[0] for name in chosen.values()}) == len(names)
        assert all(os.path.splitext(old)[1] == os.path.splitext(new)[1] for old, new in chosen.items())


def test_equal_names_in_two_splits_do_not_collide_in_voc(tmp_path):
    write_yolo(tmp_path / "a", {"train/x/a": LINE, "val/x/a": ""}, {"classes.txt": "cat\n"}, size=(60, 80))
    write_image(tmp_path / "a" / "images" / "val" / "x" / "b.jpg")
    write_image(tmp_path / "a" / "images" / "val" / "x" / "a.jpg", (30, 40))
    write_text(tmp_path / "a" / "images" / "train" / "b.txt", "")
    write_image(tmp_path / "a" / "images" / "train" / "b.jpg")
    convert(tmp_path / "a", tmp_path / "b", "voc")
    assert (tmp_path / "b" / "ImageSets" / "Main" / "val.txt").read_text() == "val/a\nval/b\n"
    assert everything(tmp_path / "b")[1]["val"]["a.jpg"][:2] == (40, 30)
    assert len(everything(tmp_path / "b")[1]["train"]["a.jpg"][2]) == 1


def test_an_image_of_two_splits_is_one_file_in_voc(tmp_path):
    lists = {"train.txt": "images/a.jpg\n", "val.txt": "images/a.jpg\nimages/b.jpg\n", "classes.txt": "cat\n"}
    write_yolo(tmp_path / "a", {"a": LINE, "b": LINE}, lists)
    convert(tmp_path / "a", tmp_path / "b", "voc")
    assert sorted(os.listdir(tmp_path / "b" / "JPEGImages")) == ["a.jpg", "b.jpg"]
    assert (tmp_path / "b" / "ImageSets" / "Main" / "train.txt").read_text() == "a\n"
    assert (tmp_path / "b" / "ImageSets" / "Main" / "val.txt").read_text() == "a\nb\n"


@pytest.mark.parametrize("name", ["../a.jpg", "x/../../a.jpg", "/a.jpg"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    write_image(tmp_path / "a.jpg")
    write_coco(tmp_path / "coco" / "train.json", [name])
    with pytest.raises(ValueError, match=r"train\.json: images\[0\]: the image '.*a\.jpg' lies outside of the folder"):
        convert(tmp_path / "coco", tmp_path / "out", "yolo", images="none")
    assert sorted(os.listdir(tmp_path)) == ["a.jpg", "coco"]


def test_ids_that_lead_out_of_the_folder_are_refused(tmp_path):
    write_voc(tmp_path / "voc", {"train": ["a"]})
    write_text(tmp_path / "voc" / "ImageSets" / "Main" / "train.txt", "x/../../../b\n")
    write_image(tmp_path / "b.jpg")
    write_text(tmp_path / "b.xml", xml_of("b.jpg"))
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / "voc" / folder / "x").mkdir()
    with pytest.raises(ValueError, match=r"train\.txt: the image 'x/\.\./\.\./\.\./b' lies outside of the folder"):
        convert(tmp_path / "voc", tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("a\nb.jpg", "yolo", r"images\[0\]: the image 'a\\nb.jpg' is empty or has control characters"),
        ("a\x1b.jpg", "voc", "has control characters"),
        ("a\udc80.jpg", "yolo", "is no valid text"),
        (" a.jpg", "voc", "the image ' a' begins or ends with a space, which VOC's files cannot hold"),
    ],
)
def test_names_that_cannot_be_written_are_refused(tmp_path, name, to, message):
    write_coco(tmp_path / "a" / "train.json", [name])
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "a", tmp_path / "b", to, images="none")
    assert sorted(os.listdir(tmp_path)) == ["a"]


@pytest.mark.parametrize(("name", "to"), [(" cat", "voc"), ("c\nat", "yolo")])
def test_classes_that_cannot_be_written_are_refused(tmp_path, name, to):
    write_coco(tmp_path / "a" / "train.json", ["a.jpg"], tmp_path / "a" / "train", classes=(name,))
    with pytest.raises(ValueError, match=r"the class .* rename it"):
        convert(tmp_path / "a", tmp_path / "b", to)
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_folders_called_images_inside_the_images(tmp_path):
    write_coco(tmp_path / "a" / "train.json", ["images/a.jpg", "labels/a.jpg"], tmp_path / "a" / "train")
    convert(tmp_path / "a", tmp_path / "b", "yolo")
    convert(tmp_path / "b", tmp_path / "c", "coco")
    content = json.loads((tmp_path / "c" / "annotations" / "train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["images/a.jpg", "labels/a.jpg"]
    assert len(content["annotations"]) == 2


# ---------------------------------------------------------------------------------------------------- refused, atomic


def test_splits_can_be_chosen(tmp_path):
    write_random(tmp_path / "a", 0)
    done = convert(tmp_path / "a", tmp_path / "b", "yolo", splits=["val"])
    assert list(done.images) == ["val"]
    assert os.listdir(tmp_path / "b" / "images") == ["val"]
    with pytest.raises(ValueError, match="has no split 'test'; it has 'train', 'val'"):
        convert(tmp_path / "a", tmp_path / "c", "yolo", splits=["test"])


def test_nothing_is_written_over(tmp_path):
    write_voc(tmp_path / "a", {"train": ["a"]})
    write_text(tmp_path / "b" / "mine.txt", "mine")
    with pytest.raises(ValueError, match=r"b: holds files already; nothing is written over"):
        convert(tmp_path / "a", tmp_path / "b", "yolo")
    with pytest.raises(ValueError, match=r"mine\.txt: is a file"):
        convert(tmp_path / "a", tmp_path / "b" / "mine.txt", "yolo")
    with pytest.raises(ValueError, match=r"a: holds files already"):
        convert(tmp_path / "a", tmp_path / "a", "yolo")
    (tmp_path / "c").mkdir()
    convert(tmp_path / "a", tmp_path / "c", "yolo")
    assert (tmp_path / "b" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "c" / "data.yaml").is_file()


def test_formats_that_are_none_or_the_same(tmp_path):
    write_voc(tmp_path / "a", {"train": ["a"]})
    with pytest.raises(ValueError, match=r"a: is voc already \(Pascal VOC\)"):
        convert(tmp_path / "a", tmp_path / "b", "voc")
    with pytest.raises(ValueError, match="must be one of 'coco', 'voc', 'yolo', but got 'csv'"):
        convert(tmp_path / "a", tmp_path / "b", "csv")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, error):
    write_voc(tmp_path / "a", {"train": ["a"]})

    def fail(*args):
        raise error

    monkeypatch.setattr(module.ImageCopies, "bring", fail)
    with pytest.raises(type(error)):
        convert(tmp_path / "a", tmp_path / "b", "yolo")
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_a_link_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    write_voc(tmp_path / "a", {"train": ["a"]})

    def fail(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(ValueError, match=r"the image '.*a\.jpg' cannot be brought over \(hardlink\): .*cross-device"):
        convert(tmp_path / "a", tmp_path / "b", "yolo", images="hardlink")
    assert sorted(os.listdir(tmp_path)) == ["a"]
