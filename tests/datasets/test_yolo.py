from __future__ import annotations

import os

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from densehead.datasets import YOLODataset, yolo_class_names
from densehead.datasets.data_yaml import read_class_file, read_data_yaml
from densehead.datasets.yolo_images import label_candidates
from densehead.datasets.yolo_labels import parse_labels, read_label_file
from densehead.evaluation import CocoMetric
from densehead.registry import DATASETS
from densehead.visualization import class_colors
from tests.datasets.small import write_yolo

# In images of 80 x 60 pixels: a box 20 wide and 30 high around (40, 30), and one 8 x 6 around (4, 57), in the corner.
# Halves, eighths and so on are exact.
MIDDLE, CORNER = "0.5 0.5 0.25 0.5", "0.05 0.95 0.1 0.1"
NAMES = "names: [cat, dog]\n"


@pytest.fixture
def yolo(tmp_path):
    """Write a data set (see ``write_yolo``) and return the keys that read it."""

    def write(labels, files=None, **keys):
        known = ("size", "images", "texts")
        write_yolo(tmp_path, labels, files, **{key: keys.pop(key) for key in known if key in keys})
        if "classes" in keys:
            keys["metainfo"] = {"classes": keys.pop("classes")}
        return {"data_root": str(tmp_path), "serialize_data": False, **keys}

    return write


def infos(dataset):
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def names_of(dataset):
    return [info["img_id"] for info in infos(dataset)]


def boxes_of(dataset, index=0):
    return [one["bbox"] for one in dataset.get_data_info(index)["instances"]]


def test_boxes_in_pixels_of_the_image(yolo, tmp_path):
    keys = yolo({"train/a": f"1 {MIDDLE}\n\n0 {CORNER}"}, {"data.yaml": f"{NAMES}train: images/train\n"})
    dataset = DATASETS.build({"type": "YOLODataset", "ann_file": "data.yaml", **keys})
    info = dataset.get_data_info(0)
    boxes = [one.pop("bbox") for one in info["instances"]]
    assert np.allclose(boxes, [[30, 15, 50, 45], [0, 54, 8, 60]], atol=1e-9)
    assert info == {
        "img_path": str(tmp_path / "images" / "train" / "a.jpg"),
        "img_id": "images/train/a.jpg",
        "label_path": str(tmp_path / "labels" / "train" / "a.txt"),
        "height": 60,
        "width": 80,
        "sample_idx": 0,
        "instances": [{"bbox_label": 1, "ignore_flag": 0}, {"bbox_label": 0, "ignore_flag": 0}],
    }
    assert dataset.metainfo == {"classes": ("cat", "dog"), "palette": class_colors(None, 2)}
    assert dataset.get_cat_ids(0) == [1, 0]


def test_empty_and_absent_label_files_mean_no_object(yolo):
    keys = yolo({"a": f"0 {MIDDLE}", "b": "", "c": None, "d": "\n \n"}, classes=("cat",))
    assert [len(info["instances"]) for info in infos(YOLODataset(**keys))] == [1, 0, 0, 0]
    kept = YOLODataset(**keys, filter_cfg={"filter_empty_gt": True})
    assert names_of(kept) == ["images/a.jpg"]
    assert names_of(YOLODataset(**keys, indices=[2])) == ["images/c.jpg"]


def test_polygons_are_read_as_the_boxes_around_them(yolo, said):
    triangle = "0 0.25 0.5 0.75 0.25 0.5 1"
    keys = yolo({"a": f"{triangle}\n0 {MIDDLE}\n0 0 0 0.5 0 0.5 0.5 0 0.5"}, classes=("cat",))
    assert boxes_of(YOLODataset(**keys)) == [[20, 15, 60, 60], [30, 15, 50, 45], [0, 0, 40, 30]]
    assert len(said) == 1
    assert "2 of 3 objects are polygons" in said[0]


def test_sizes_are_those_of_the_loaded_image(yolo, tmp_path):
    keys = yolo({"a": f"0 {MIDDLE}"}, classes=("cat",))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "a.jpg", exif=exif)
    dataset = YOLODataset(**keys, pipeline=[{"type": "LoadImageFromFile"}])
    info = dataset.get_data_info(0)
    assert (info["height"], info["width"]) == (80, 60) == dataset[0]["img_shape"]
    assert info["instances"][0]["bbox"] == [22.5, 20, 37.5, 60]


# ---------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    "text",
    [
        "train: images/train\nval: images/val\n",
        "path: .\ntrain: images/train\nval: images/val\n",
        "path: /home/someone/datasets/pets\ntrain: images/train\nval: images/val\n",
        "path: ../datasets/pets\ntrain: images/train\nval: images/val\n",
        "train: ../images/train\nval: ../images/val\n",
        "train: [images/train/a.jpg, images/train/sub]\nvalid:\n  - images/val\n",
        "path: images\ntrain: train\nval: val\ntest:\n",
        "train: train.txt\nval: lists/val.txt\n",
    ],
)
def test_yaml_files_as_they_are_written(yolo, text):
    labels = {"train/a": f"0 {MIDDLE}", "train/sub/b": f"1 {MIDDLE}", "val/a": f"1 {MIDDLE}"}
    lists = {
        "train.txt": "./images/train/a.jpg\n\nimages/train/sub/b.jpg\n",
        "lists/val.txt": "images/val/a.jpg\n",  # counts from the data root
    }
    keys = yolo(labels, {"data.yaml": NAMES + text, **lists}, ann_file="data.yaml")
    assert names_of(YOLODataset(**keys)) == ["images/train/a.jpg", "images/train/sub/b.jpg"]
    assert names_of(YOLODataset(**keys, split="val")) == ["images/val/a.jpg"]
    assert YOLODataset(**keys, split="val").get_cat_ids(0) == [1]


def test_layout_of_roboflow(yolo, tmp_path):
    for folder in ("train", "valid"):
        write_yolo(tmp_path, {folder: f"0 {MIDDLE}"}, images=f"{folder}/images", texts=f"{folder}/labels")
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
    keys = yolo({}, {"data.yaml": text}, ann_file="data.yaml")
    for split, folder in {"train": "train", "val": "valid"}.items():
        info = YOLODataset(**keys, split=split).get_data_info(0)
        assert info["img_id"] == f"{folder}/images/{folder}.jpg"
        assert info["label_path"] == str(tmp_path / folder / "labels" / f"{folder}.txt")
    with pytest.raises(ValueError, match=r"data\.yaml: '\.\./test/images': .* lies outside of data_root"):
        YOLODataset(**keys, split="test")


def test_a_folder_a_list_and_labels_elsewhere(yolo, tmp_path):
    labels = {"train/a": f"0 {MIDDLE}", "val/b c": f"0 {MIDDLE}"}
    keys = yolo(labels, {"list.txt": "val/b c.jpg\n"}, texts="boxes", classes=("cat",))
    prefix = {"img": "images", "labels": "boxes"}
    both = YOLODataset(**keys, data_prefix=dict(prefix))
    assert names_of(both) == ["images/train/a.jpg", "images/val/b c.jpg"]
    assert len(boxes_of(both, 1)) == 1
    assert (
        names_of(YOLODataset(**keys, data_prefix={"img": "images/train", "labels": "boxes/train"}))
        == names_of(both)[:1]
    )
    assert names_of(YOLODataset(**keys, ann_file="list.txt", data_prefix=prefix)) == names_of(both)[1:]


def test_label_files_beside_the_images(yolo, tmp_path):
    keys = yolo({"a": f"1 {MIDDLE}"}, {"train/_darknet.labels": "cat\ndog\n"}, images="train", texts="train")
    dataset = YOLODataset(**keys, data_prefix={"img": "train"})
    assert dataset.metainfo["classes"] == ("cat", "dog")
    assert dataset.get_cat_ids(0) == [1]


def test_the_last_folder_of_images_has_the_labels():
    assert label_candidates("/images/d/images/x/images/a.b.jpg", "/images/d") == [
        "/images/d/images/x/labels/a.b.txt",
        "/images/d/images/x/images/a.b.txt",
    ]
    assert label_candidates("/images/d/a.jpg", "/images/d") == ["/images/d/a.txt"]
    assert label_candidates("/elsewhere/images/a.jpg", "/d")[0] == "/elsewhere/labels/a.txt"


def test_hidden_files_and_circles_of_links(yolo, tmp_path):
    keys = yolo({"a": f"0 {MIDDLE}", ".cache/b": None, "._c": None}, {"images/notes.md": ""}, classes=("cat",))
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    os.rename(tmp_path / "images" / "a.jpg", tmp_path / "images" / "a.JPG")
    assert names_of(YOLODataset(**keys)) == ["images/a.JPG"]


# ---------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize("file", ["classes.txt", "labels/classes.txt", "labels/train/classes.txt", "obj.names"])
def test_names_of_classes_from_a_list(yolo, file):
    keys = yolo({"train/a": f"1 {MIDDLE}"}, {file: "traffic light\n\n car \n"}, data_prefix={"img": "images/train"})
    assert YOLODataset(**keys).metainfo["classes"] == ("traffic light", "car")
    lazy = YOLODataset(**keys, lazy_init=True)
    assert lazy.metainfo["classes"] == ("traffic light", "car")
    assert not lazy._fully_initialized


def test_labels_follow_metainfo_whatever_the_order_of_the_file(yolo, said):
    text = "names: {0: cat, 1: dog, 2: bird}\ntrain: images\n"
    keys = yolo({"a": f"0 {MIDDLE}\n1 {MIDDLE}\n2 {MIDDLE}\n2 {MIDDLE}"}, {"data.yaml": text}, ann_file="data.yaml")
    dataset = YOLODataset(**keys, metainfo={"classes": ("bird", "cat")})
    assert dataset.get_cat_ids(0) == [1, 0, 0]
    assert len(said) == 1
    assert "metainfo['classes'] leaves out, with their objects: 'dog' (1)" in said[0]
    with pytest.raises(ValueError, match=r"none of metainfo\['classes'\] is in the file.*'Cat'.*'cat', 'dog', 'bird'"):
        YOLODataset(**keys, metainfo={"classes": ("Cat",)})


def test_names_are_taken_as_they_are_written(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("names: [yes, 0, 1e3, null, 'on', 2020-01-01]\nnc: 6\ntrain: x\n")
    assert read_data_yaml(str(path)).names == ("yes", "0", "1e3", "null", "on", "2020-01-01")
    path.write_text("names:\n  1: b\n  0: a\n")
    assert read_data_yaml(str(path)).names == ("a", "b")
    path.write_text("nc: 2\n")
    assert read_data_yaml(str(path)).names == ("class0", "class1")


def test_names_for_a_config(yolo, tmp_path):
    assert yolo_class_names(str(tmp_path / "none")) == ("first", "second")
    with pytest.raises(ValueError, match=r"names no classes: there is neither 'data\.yaml' nor any of 'classes\.txt'"):
        yolo_class_names(str(tmp_path))
    (tmp_path / "classes.txt").write_text("cat\n")
    assert yolo_class_names(str(tmp_path)) == ("cat",)
    (tmp_path / "data.yaml").write_text("names: [dog]\n")
    assert yolo_class_names(str(tmp_path)) == ("dog",)


def test_a_yaml_file_runs_nothing(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text(f"names: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    read_data_yaml(str(path))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have keys .* but is empty"),
        ("- a\n", "must have keys"),
        ("names: [a\n", r"is no valid YAML: .*line 2"),
        (f"names: {'[' * 5000}\n", r"is no YAML file of a data set: lists in lists"),  # found by fuzzing
        ("names: a\n", "'names' must be a list of names, or a dict of them by number, but is 'a'"),
        ("names: [a, [b]]\n", "'names' must be a list of names"),
        ("names: [a, '']\n", "'names' must be a list of names"),
        ("names: [a, a]\n", "names names 'a' more than once"),
        ("names: {1: a, 2: b}\n", "the keys of 'names' must be the numbers 0 to 1, but are '1', '2'"),
        ("nc: 9999999\n", "'nc' must be the number of classes, but is '9999999'"),
        (f"nc: {'9' * 5000}\n", "'nc' must be the number of classes, but is '9999"),
        ("names: [a]\nnc: 2\n", "'nc' is 2, but there are 1 'names': 'a'"),
        ("nc: many\n", "'nc' must be the number of classes, but is 'many'"),
        ("train: x\n", r"has neither 'names', the classes, nor 'nc', their number; it has \['train'\]"),
        ("names: [a]\ntrain: {a: b}\n", "'train' must be a folder, a .txt list of images or a list of these"),
        ("names: [a]\npath: [a]\n", "'path' must be a folder"),
        ("names: [a]\nkpt_shape: [17, 3]\n", "has 'kpt_shape', so its labels hold key points"),
    ],
)
def test_a_bad_yaml_file_is_named(tmp_path, text, message):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"data\.yaml: {message}"):
        read_data_yaml(str(path))


def test_a_list_of_classes_must_name_some(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"classes\.txt: the list of names is empty"):
        read_class_file(str(path))


# ----------------------------------------------------------------------------------------------------- bad label files


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"0 {MIDDLE} 0.9", "6 numbers, as detections have, with the confidence last.*Remove the sixth"),
        ("0 0.5 0.5 0.25", r"4 numbers; there must be 5 \(class, centre x"),
        (f"0 {MIDDLE} 0.1 0.1 0.2", "8 numbers; there must be 5"),
        (f"cat {MIDDLE}", "a line holds numbers alone, but this has 'cat'. The line is 'cat 0.5 0.5"),
        (f"-1 {MIDDLE}", "the class must be an integer, 0 or above, but is -1"),
        (f"0.5 {MIDDLE}", "the class must be an integer, 0 or above, but is 0.5"),
        (f"nan {MIDDLE}", "the class must be an integer, 0 or above, but is nan"),
        ("0 40 30 20 30", "boxes must be in parts of the image's width and height, 0 to 1, but here is 40.*pixels"),
        ("0 0 0 0.5 0 1.6 0.5", ".*but here is 1.6"),
        ("0 0.5 0.5 -0.6 0.2", ".*but here is -0.6"),
    ],
)
def test_a_bad_line_is_named(line, message):
    with pytest.raises(ValueError, match=rf"labels/a\.txt:3: {message}"):
        parse_labels(f"0 {MIDDLE}\n\n{line}\n", "labels/a.txt")


def test_a_class_without_a_name_is_named_with_its_line(yolo):
    keys = yolo({"a": f"0 {MIDDLE}", "b": f"0 {MIDDLE}\n2 {MIDDLE}"}, {"classes.txt": "cat\ndog\n"})
    with pytest.raises(
        ValueError, match=r"b\.txt:2: the class is 2, but .*classes\.txt names 2 classes, 0 to 1: 'cat'"
    ):
        YOLODataset(**keys)
    os.remove(os.path.join(keys["data_root"], "classes.txt"))
    with pytest.raises(ValueError, match=r"b\.txt:2: the class is 2, but metainfo names 1 classes, 0 to 0"):
        YOLODataset(**keys, metainfo={"classes": ("cat",)})
    with pytest.raises(ValueError, match=r"the classes have no names: .*metainfo=dict\(classes="):
        YOLODataset(**keys)


def test_a_class_number_beyond_64_bits_is_named_with_its_line(yolo):
    keys = yolo({"a": f"{10**20} {MIDDLE}"}, {"classes.txt": "cat\ndog\n"})
    with pytest.raises(ValueError, match=rf"a\.txt:1: the class is {10**20}, but .* names 2 classes"):
        YOLODataset(**keys)


def test_odd_boxes_are_dropped_or_clipped_and_said_once_with_file_and_line(yolo, said):
    lines = [
        f"0 {MIDDLE}",
        "0 nan 0.5 0.2 0.2",
        "0 0.5 0.5 inf 0.2",
        "0 nan 0.1 0.2 0.2 0.3 0.1",
        "0 0.5 0.5 -0.2 0.2",
        "0 0.5 0.5 0.001 0.2",  # 0.08 pixels
        "0 1.2 0.5 0.2 0.2",
        "0 1 0.5 0.5 0.5",  # 20 pixels too far
        "0 0.99 0.5 0.04 0.5",  # 0.8 pixels
    ]
    dataset = YOLODataset(**yolo({"a": "\n".join(lines)}, classes=("cat",)))
    assert np.allclose(boxes_of(dataset), [[30, 15, 50, 45], [60, 15, 80, 45], [77.6, 15, 80, 45]])
    assert len(said) == 2
    for part in (
        "dropped 6 of 9 boxes: 3 with NaN or infinite coordinates (first in",
        "a.txt:2': [nan, 24.0, nan, 36.0]",
        "2 of negative or no extent (a side below 1 pixel, or no area) (first in",
        "a.txt:5': [48.0",
        "1 outside their image (first in",
        "a.txt:7': [",
        "clipped 1 that reach more than 1 pixel out of their image (first in",
        "a.txt:8': [60.0, 15.0, 100.0, 45.0])",
    ):
        assert part in said[1]


def test_files_that_will_not_do_are_named(yolo, tmp_path):
    keys = yolo({"a": f"0 {MIDDLE}"}, classes=("cat",))
    label, image = tmp_path / "labels" / "a.txt", tmp_path / "images" / "a.jpg"
    label.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"a\.txt: is no text"):
        YOLODataset(**keys)
    label.write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.25 0.5\r\n")  # as an editor of Windows writes it
    assert boxes_of(YOLODataset(**keys)) == [[30, 15, 50, 45]]
    image.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"the image '.*a\.jpg' cannot be read for its size"):
        YOLODataset(**keys)


def test_two_images_of_one_label_file_are_refused(yolo, tmp_path):
    keys = yolo({"a": f"0 {MIDDLE}"}, classes=("cat",))
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=r"a\.txt: is the label file of both '.*a\.jpg' and '.*a\.png'; rename one"):
        YOLODataset(**keys)


def test_no_label_file_at_all(yolo, said):
    keys = yolo({"x/a": None, "x/b": None}, classes=("cat",))
    with pytest.raises(
        ValueError, match=r"none of 2 images has a label file; .*'.*labels/x/a\.txt', '.*images/x/a\.txt'"
    ):
        YOLODataset(**keys)
    assert len(YOLODataset(**keys, test_mode=True)) == 2
    assert "none of 2 images has a label file" in said[0]


def test_label_files_without_an_image_are_counted(yolo, said, tmp_path):
    labels = {"train/a": f"0 {MIDDLE}", "train/b": f"0 {MIDDLE}", "val/c": None}
    keys = yolo(labels, {"labels/train/classes.txt": "cat\n", "list.txt": "images/train/a.jpg\n"}, classes=("cat",))
    os.remove(tmp_path / "images" / "train" / "b.jpg")
    YOLODataset(**keys)
    assert len(said) == 1
    assert "1 label files belong to no image, the first '" in said[0]
    assert f"{tmp_path}/labels/train/b.txt" in said[0]
    YOLODataset(**keys, ann_file="list.txt")  # which need not list all
    assert len(said) == 1


def test_missing_folders_lists_and_images_are_named(yolo, tmp_path):
    keys = yolo({"a": f"0 {MIDDLE}"}, {"list.txt": "images/a.jpg\nimages/b.jpg\n"}, classes=("cat",))
    with pytest.raises(FileNotFoundError, match=r"list\.txt:2: the image '.*b\.jpg' does not exist"):
        YOLODataset(**keys, ann_file="list.txt")
    with pytest.raises(
        FileNotFoundError, match=r"data_prefix\['img'\]='.*imgs' is not a folder.*holds: 'images', 'labels'"
    ):
        YOLODataset(**keys, data_prefix={"img": "imgs"})
    with pytest.raises(FileNotFoundError, match=r"ann_file='.*data\.yaml' is not a file"):
        YOLODataset(**keys, ann_file="data.yaml")
    with pytest.raises(FileNotFoundError, match=r"data_root='.*none' does not exist"):
        YOLODataset(**{**keys, "data_root": str(tmp_path / "none")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: there is no image \(\.jpg, "):
        YOLODataset(**keys, data_prefix={"img": "empty"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "is empty; it must list images"),
        ("images/a.jpg\nimages/a\n", r":2: 'images/a' is no image; a list names images with their ending"),
        ("images/a.jpg\nimages/a.jpg\n", r"the image '.*a\.jpg' must occur once.*RepeatDataset"),
        ("images/a.jpg\n../x/a.jpg\n", r":2: '.*x/a\.jpg' lies outside of data_root=.*allow_outside=True"),
        ("images/a.jpg\n/x/a.jpg\n", r":2: '/x/a\.jpg' lies outside of data_root"),
        ("images/a.jpg\nimages/../../x/a.jpg\n", r":2: '.*x/a\.jpg' lies outside of data_root"),
    ],
)
def test_a_bad_list_is_named(yolo, text, message):
    keys = yolo({"a": f"0 {MIDDLE}"}, {"list.txt": text}, classes=("cat",), ann_file="list.txt")
    with pytest.raises(ValueError, match=rf"list\.txt:? ?{message}"):
        YOLODataset(**keys)


@pytest.mark.parametrize("entry", ["{}/images", "../{.name}/images"])
def test_a_yaml_file_leaves_the_data_root_only_if_that_is_allowed(yolo, tmp_path, entry):
    elsewhere = write_yolo(tmp_path / "elsewhere", {"b": f"0 {MIDDLE}"})
    text = f"{NAMES}train: {entry.format(elsewhere)}\nval: images/none\n"
    keys = yolo({}, {"mine/data.yaml": text}, ann_file="data.yaml")
    keys["data_root"] = str(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"data\.yaml: .*/elsewhere/images' lies outside of data_root='.*mine'"):
        YOLODataset(**keys)
    dataset = YOLODataset(**keys, allow_outside=True)
    assert names_of(dataset) == [str(elsewhere / "images" / "b.jpg")]
    assert boxes_of(dataset) == [[30, 15, 50, 45]]
    with pytest.raises(
        FileNotFoundError, match=r"data\.yaml: 'images/none' is not there; looked for '.*mine/images/none'"
    ):
        YOLODataset(**keys, split="val")
    with pytest.raises(ValueError, match=r"has no images for split='test'; it has 'train', 'val'"):
        YOLODataset(**keys, split="test")


def test_files_must_be_local(yolo):
    keys = yolo({"a": f"0 {MIDDLE}"}, classes=("cat",))
    assert len(YOLODataset(**keys, backend_args={"backend": "local"})) == 1
    with pytest.raises(
        ValueError, match=r"its files must be local, but backend_args is .*convert_dataset\.py --to coco"
    ):
        YOLODataset(**keys, backend_args={"backend": "petrel"})


# ------------------------------------------------------------------------------------------------------- evaluation


def test_the_metric_needs_no_annotation_file(yolo, tmp_path):
    keys = yolo({"a": f"0 {MIDDLE}", "b": f"1 {CORNER}"}, {"classes.txt": "cat\ndog\n"}, test_mode=True)
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": (40, 30), "keep_ratio": True},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
    ]
    dataset = YOLODataset(**keys, pipeline=pipeline)
    MMLogger.get_instance("yolo", log_level="ERROR")
    metric = CocoMetric()
    metric.dataset_meta = dataset.metainfo
    samples = []
    for index in range(2):
        sample = dataset[index]["data_samples"].to_dict()
        truth = sample["gt_instances"]
        detected = {"bboxes": truth["bboxes"], "labels": truth["labels"], "scores": np.ones(len(truth["labels"]))}
        samples.append({**sample, "pred_instances": detected})
    metric.process(None, samples)
    assert metric.evaluate(2)["coco/bbox_mAP"] == pytest.approx(1)


def test_a_list_that_is_no_text_is_named(tmp_path):
    """Found by fuzzing."""
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.25 0.5\n"})
    (tmp_path / "train.txt").write_bytes(b"images/a.jpg\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"train\.txt: is no text"):
        YOLODataset(data_root=str(tmp_path), ann_file="train.txt", metainfo={"classes": ("cat",)})


def test_a_list_with_a_null_byte_is_named(tmp_path):
    """Found by fuzzing."""
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.25 0.5\n"}, {"train.txt": "\0images/a.jpg\n"})
    with pytest.raises(FileNotFoundError, match=r"train\.txt:1: the image .* does not exist"):
        YOLODataset(data_root=str(tmp_path), ann_file="train.txt", metainfo={"classes": ("cat",)})


def test_names_that_no_file_can_have_are_refused(yolo):
    """Found by fuzzing."""
    long = "a" * 5000
    keys = yolo({"a": f"0 {MIDDLE}"}, {"train.txt": f"images/{long}.jpg\n"}, classes=("cat",))
    with pytest.raises(ValueError, match=rf"the image .*images/{long}\.jpg' cannot be read: File name too long"):
        YOLODataset(ann_file="train.txt", **keys)
    with pytest.raises(ValueError, match=rf"{long}\.txt: cannot be read: File name too long"):
        read_label_file(f"{long}.txt")
