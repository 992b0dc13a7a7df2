from __future__ import annotations

import json
import re

import pytest

from densehead.datasets import recognise
from densehead.datasets.formats.found import split_of
from densehead.registry import DATASETS
from tests.datasets.small import LINE, write_coco, write_image, write_text, write_voc, write_yolo, xml_of

BOX = [30, 15, 50, 45]


def built(found):
    """Build the data sets of a recognised one: {split: (names of the images, the first image's objects)}."""
    parts = {}
    for split, part in found.splits.items():
        dataset = DATASETS.build({**part.dataset, "serialize_data": False})
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        assert len(infos) == part.images
        assert dataset.metainfo["classes"] == found.classes
        parts[split] = ([info["img_path"].rpartition("/")[2] for info in infos], infos[0]["instances"])
    return parts


def one_object(label=0):
    return [{"bbox": BOX, "bbox_label": label, "ignore_flag": 0}]


# ------------------------------------------------------------------------------------------------------------- COCO


def coco_of_mmdetection(root):
    write_coco(root / "annotations" / "instances_train2017.json", ["a.jpg", "b.jpg"], root / "train2017")
    write_coco(root / "annotations" / "person_keypoints_train2017.json", ["a.jpg"])
    write_coco(root / "annotations" / "instances_val2017.json", ["a.jpg"], root / "val2017")
    write_text(root / "annotations" / "captions_train2017.json", json.dumps({"images": [], "annotations": []}))
    return "COCO: annotations/instances_train2017.json, annotations/instances_val2017.json"


def coco_of_roboflow(root):
    for split, names in (("train", ["a.jpg", "b.jpg"]), ("valid", ["a.jpg"])):
        write_coco(root / split / "_annotations.coco.json", names, root / split)
    return "COCO, as Roboflow lays it out"


def coco_with_images_apart(root):
    write_coco(root / "train.json", ["train/a.jpg", "train/b.jpg"], root / "images")
    write_coco(root / "val.json", ["val/a.jpg"], root / "images")
    return "COCO: train.json, val.json"


def coco_of_digits(root):
    write_coco(root / "train-2x80-seed0" / "annotations.json", ["a.jpg", "b.jpg"], root / "train-2x80-seed0" / "images")
    write_coco(root / "val-1x80-seed0" / "annotations.json", ["a.jpg"], root / "val-1x80-seed0" / "images")
    write_text(root / "val-1x80-seed0" / "manifest.json", "{}")
    return "COCO: train-2x80-seed0/annotations.json, val-1x80-seed0/annotations.json"


@pytest.mark.parametrize("write", [coco_of_mmdetection, coco_of_roboflow, coco_with_images_apart, coco_of_digits])
def test_layouts_of_coco(tmp_path, write):
    layout = write(tmp_path)
    found = recognise(tmp_path)
    assert (found.format, found.layout, found.classes, found.image_size) == ("coco", layout, ("cat", "dog"), (80, 60))
    assert built(found) == {"train": (["a.jpg", "b.jpg"], one_object()), "val": (["a.jpg"], one_object())}
    assert found.train["filter_cfg"] == {"filter_empty_gt": True}
    assert found.val["test_mode"]
    assert found.test is None
    left_out = "Left out are the files 'annotations/person_keypoints_train2017.json'"
    assert [note.startswith(left_out) for note in found.notes] == ([True] if write is coco_of_mmdetection else [])


def test_of_several_folders_with_the_images_that_of_the_split_is_taken(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / "annotations" / f"instances_{split}2017.json", ["a.jpg"], tmp_path / f"{split}2017")
        write_image(tmp_path / "old" / "a.jpg")
    found = recognise(tmp_path)
    assert found.train["data_prefix"] == {"img": "train2017"}
    assert found.val["data_prefix"] == {"img": "val2017"}


def test_the_heading_of_roboflows_categories_is_no_class(tmp_path):
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    write_coco(tmp_path / "train" / "_annotations.coco.json", ["a.jpg"], tmp_path / "train", categories=categories)
    found = recognise(tmp_path)
    assert found.classes == ("cat", "dog")
    assert "The category 'pets' is left out" in found.notes[0]
    assert built(found)["train"][1] == one_object()


def test_entries_of_coco_that_are_none(tmp_path):
    """Found by fuzzing."""
    heading = {"id": 0, "name": "x", "supercategory": ["none"]}
    write_coco(tmp_path / "train.json", ["a.jpg"], tmp_path, categories=[heading, {"id": 1, "name": "cat"}])
    assert recognise(tmp_path).classes == ("x", "cat")
    content = json.loads((tmp_path / "train.json").read_text())
    content["annotations"].append(None)
    write_text(tmp_path / "train.json", json.dumps(content))
    with pytest.raises(ValueError, match=r"train\.json: annotations\[1\] must be an object"):
        recognise(tmp_path)


def test_a_single_file_and_images_that_are_not_there(tmp_path):
    write_coco(tmp_path / "boxes.json", ["a.jpg"])
    found = recognise(str(tmp_path))
    assert list(found.splits) == ["train"]
    assert "No file is named after a split" in found.notes[0]
    assert "The images of boxes.json were not found: no folder here has 'a.jpg'" in found.notes[1]


def test_images_outside_of_the_folder_are_not_looked_for(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_coco(tmp_path / "mine" / "train.json", ["../a.jpg"])
    assert "were not found" in recognise(tmp_path / "mine").notes[0]


# -------------------------------------------------------------------------------------------------------------- VOC


def voc(root):
    write_voc(root, {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"]})
    write_text(root / "ImageSets" / "Main" / "cat_train.txt", "a 1\nb -1\n")
    return "Pascal VOC", {"sub_data_root": ""}


def voc_of_a_year(root):
    write_voc(root / "VOCdevkit" / "VOC2007", {"train": ["a", "b"], "val": ["c"]})
    return "Pascal VOC", {"sub_data_root": "VOCdevkit/VOC2007"}


def voc_under_other_names(root):
    write_voc(root, {"train": ["a", "b"], "valid": ["c"]}, images="images", annotations="annotations")
    return "Pascal VOC", {"sub_data_root": ""}


def voc_of_roboflow(root):
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        for name in names:
            write_image(root / split / f"{name}.jpg")
            write_text(root / split / f"{name}.xml", xml_of(f"{name}.jpg"))
    return "Pascal VOC, as Roboflow lays it out", {"sub_data_root": "train"}


@pytest.mark.parametrize("write", [voc, voc_of_a_year, voc_under_other_names, voc_of_roboflow])
def test_layouts_of_voc(tmp_path, write):
    layout, prefix = write(tmp_path)
    found = recognise(tmp_path)
    assert (found.format, found.layout, found.classes, found.image_size) == ("voc", layout, ("cat",), (80, 60))
    assert built(found) == {"train": (["a.jpg", "b.jpg"], one_object()), "val": (["c.jpg"], one_object())}
    assert found.train["data_prefix"] == prefix
    assert found.notes == []


def test_trainval_is_trained_on_where_there_is_no_train(tmp_path):
    write_voc(tmp_path, {"trainval": ["a"], "test": ["b"]})
    found = recognise(tmp_path)
    assert found.train["ann_file"] == "ImageSets/Main/trainval.txt"
    assert found.test["ann_file"] == "ImageSets/Main/test.txt"


def test_voc_without_lists_and_images(tmp_path):
    write_voc(tmp_path, {"none": ["a", "b"]})
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    found = recognise(tmp_path)
    assert {split: part.images for split, part in found.splits.items()} == {"train": 2}
    assert "There is no list in ImageSets/Main" in found.notes[0]
    assert "1 of 2 images are not there, the first '" in found.notes[1]


def test_classes_of_voc_are_in_the_order_of_a_list_that_has_them_all(tmp_path):
    write_voc(tmp_path, {"train": ["a"]}, name="dog")
    write_voc(tmp_path, {"val": ["b"]}, name="cat")
    assert recognise(tmp_path).classes == ("cat", "dog")
    write_text(tmp_path / "classes.txt", "dog\nbird\ncat\n")
    assert recognise(tmp_path).classes == ("dog", "bird", "cat")
    write_text(tmp_path / "classes.txt", "dog\n")
    assert recognise(tmp_path).classes == ("cat", "dog")


def test_several_years_are_not_chosen_from(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / year, {"train": ["a"]})
    with pytest.raises(ValueError, match=r"holds several data sets of VOC, 'VOC2007', 'VOC2012'. Name one"):
        recognise(tmp_path)
    assert recognise(tmp_path / "VOC2012").train["data_prefix"] == {"sub_data_root": ""}


# ------------------------------------------------------------------------------------------------------------- YOLO

YAML = "train: {}\nval: {}\nnames: [cat, dog]\n"


def yolo(root):
    write_yolo(root, {"train/a": LINE, "train/b": LINE, "val/c": LINE})
    write_text(root / "data.yaml", YAML.format("images/train", "images/val"))
    return "YOLO, data.yaml"


def yolo_without_yaml(root):
    write_yolo(root, {"train2017/a": LINE, "train2017/b": LINE, "val2017/c": LINE}, {"classes.txt": "cat\ndog\n"})
    return "YOLO, images/<split> and labels/<split>"


def yolo_of_roboflow(root):
    for split, labels in (("train", {"a": LINE, "b": LINE}), ("valid", {"c": LINE})):
        write_yolo(root, labels, images=f"{split}/images", texts=f"{split}/labels")
    write_text(root / "data.yaml", YAML.format("../train/images", "../valid/images") + "test: ../test/images\n")
    return "YOLO, data.yaml of Roboflow"


def yolo_of_roboflow_without_yaml(root):
    yolo_of_roboflow(root)
    (root / "data.yaml").rename(root / "data.txt")
    write_text(root / "classes.txt", "cat\ndog\n")
    return "YOLO, <split>/images and <split>/labels"


def darknet_of_roboflow(root):
    for split, labels in (("train", {"a": LINE, "b": LINE}), ("valid", {"c": LINE})):
        write_yolo(root, labels, {f"{split}/_darknet.labels": "cat\ndog\n"}, images=split, texts=split)
    return "YOLO, text files beside the images"


def yolo_with_lists(root):
    lists = {"train.txt": "images/a.jpg\n./images/b.jpg\n", "val.txt": "images/c.jpg\n", "obj.names": "cat\ndog\n"}
    write_yolo(root, {"a": LINE, "b": LINE, "c": LINE}, lists)
    return "YOLO, lists of images"


@pytest.mark.parametrize(
    "write",
    [
        yolo,
        yolo_without_yaml,
        yolo_of_roboflow,
        yolo_of_roboflow_without_yaml,
        darknet_of_roboflow,
        yolo_with_lists,
    ],
)
def test_layouts_of_yolo(tmp_path, write):
    layout = write(tmp_path)
    found = recognise(tmp_path)
    assert (found.format, found.layout, found.classes, found.image_size) == ("yolo", layout, ("cat", "dog"), (80, 60))
    assert built(found) == {"train": (["a.jpg", "b.jpg"], one_object()), "val": (["c.jpg"], one_object())}
    if write is yolo_of_roboflow:
        assert found.notes[0].startswith("test is left out: ")
    else:
        assert found.notes == []


@pytest.mark.parametrize("folder", ["images", "."])
def test_a_single_folder_whose_classes_have_no_names(tmp_path, folder):
    texts = "labels" if folder == "images" else "."
    write_yolo(tmp_path, {"a": LINE, "b": LINE.replace("0 ", "2 ", 1)}, images=folder, texts=texts)
    found = recognise(tmp_path)
    assert found.layout == "YOLO, a single folder of images"
    assert found.classes == ("class0", "class1", "class2")
    assert "No file names the classes; the highest number in the label files is 2. Write" in found.notes[0]
    write_text(tmp_path / "classes.txt", "cat\ndog\nbird\n")
    assert recognise(tmp_path).classes == ("cat", "dog", "bird")


def test_a_broken_label_file_among_good_ones_is_an_error(tmp_path):
    yolo(tmp_path)
    write_text(tmp_path / "labels" / "train" / "b.txt", "0 0.5\n")
    with pytest.raises(ValueError, match=r"b\.txt:1: 2 numbers"):
        recognise(tmp_path)


# ------------------------------------------------------------------------------------------------------- none, several


def test_what_was_looked_for_and_found_is_said(tmp_path):
    write_text(tmp_path / "notes.md", "")
    write_text(tmp_path / "train" / "result.json", "[]")
    write_yolo(tmp_path, {"a": "a cat on a mat"}, {"data.yaml": "names: [a]\nkpt_shape: [17, 3]\n"})
    with pytest.raises(ValueError, match="no data set was recognised") as error:
        recognise(tmp_path)
    for part in (
        "The folder holds: 'data.yaml', 'images', 'labels', 'notes.md', 'train'",
        r"- COCO: a JSON file with 'images', .*; JSON files here: 'train/result\.json'",
        r"- VOC: a folder 'Annotations' of XML files, .*; there are 0 XML files",
        r"- YOLO: data\.yaml, .*data\.yaml: has 'kpt_shape'",
    ):
        assert re.search(part, str(error.value)), part
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(ValueError, match=r"a\.txt:1: a line holds numbers alone, but this has 'a'"):
        recognise(tmp_path)


def test_several_formats_in_a_folder(tmp_path):
    voc(tmp_path)
    yolo(tmp_path)
    with pytest.raises(ValueError, match=r"more than one data set: voc \(Pascal VOC\) and yolo \(YOLO, data\.yaml\)"):
        recognise(tmp_path)
    assert recognise(tmp_path, "voc").format == "voc"
    assert recognise(tmp_path, "yolo").format == "yolo"
    with pytest.raises(ValueError, match="no data set was recognised"):
        recognise(tmp_path, "coco")


def test_no_folder_and_no_format(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: there is no such folder"):
        recognise(tmp_path / "none")
    with pytest.raises(ValueError, match="format must be one of 'coco', 'voc', 'yolo', but got 'csv'"):
        recognise(tmp_path, "csv")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017", "train"),
        ("Valid", "val"),
        ("validation", "val"),
        ("instances_minival2014", "val"),
        ("testing", "test"),
        ("image_info_test-dev2017", "test"),
        ("trainval", "trainval"),
        ("strain", None),
        ("latest", None),
        ("images", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split
