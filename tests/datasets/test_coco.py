from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from densehead.datasets import CocoDataset
from densehead.registry import DATASETS
from densehead.visualization import class_colors

PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}, {"type": "PackDetInputs"}]


def all_infos(dataset):
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def test_reads_images_and_boxes_in_the_order_of_the_file(coco, write_coco, tmp_path):
    infos = all_infos(CocoDataset(**write_coco(coco)))
    assert [info["img_id"] for info in infos] == [7, 3, 9]
    assert infos[0] == {
        "img_path": str(tmp_path / "img" / "a.jpg"),
        "img_id": 7,
        "seg_map_path": None,
        "height": 60,
        "width": 80,
        "sample_idx": 0,
        "instances": [
            {"bbox": [1, 2, 11, 22], "bbox_label": 0, "ignore_flag": 0},
            {"bbox": [30, 30, 50, 40], "bbox_label": 2, "ignore_flag": 1},
        ],
    }
    assert infos[2]["instances"] == []


@pytest.mark.parametrize("serialize_data", [True, False])
def test_gives_packed_samples_whatever_the_default_scope(coco, write_coco, picture, tmp_path, serialize_data):
    image = picture(tmp_path / "img" / "a.png", 60, 80)
    coco["images"][0]["file_name"] = "a.png"
    assert DefaultScope.get_current_instance() is None
    keys = write_coco(coco, pipeline=PIPELINE, serialize_data=serialize_data)
    dataset = DATASETS.build({"type": "CocoDataset", **keys})
    packed = dataset[0]
    assert torch.equal(packed["inputs"], torch.from_numpy(image).permute(2, 0, 1))
    sample = packed["data_samples"]
    assert sample.gt_instances.bboxes.tolist() == [[1, 2, 11, 22]]
    assert sample.gt_instances.labels.tolist() == [0]
    assert sample.ignored_instances.bboxes.tolist() == [[30, 30, 50, 40]]
    assert sample.metainfo["img_id"] == 7
    assert sample.metainfo["ori_shape"] == (60, 80)


def test_label_is_the_index_in_classes_whatever_the_order_of_the_file(coco, write_coco, said):
    dataset = CocoDataset(**write_coco(coco, classes=["bird", "cat", "dog"]))
    assert dataset.cat_ids == [8, 11, 5]
    assert dataset.cat2label == {8: 0, 11: 1, 5: 2}
    assert dataset.metainfo["classes"] == ("bird", "cat", "dog")
    assert dict(dataset.cat_img_map) == {11: [7], 5: [3], 8: [7]}
    assert dataset.get_cat_ids(0) == [1, 0]
    assert len(said) == 1
    assert "'bird', 'cat', 'dog'" in said[0]
    assert "'cat', 'dog', 'bird'" in said[0]


def test_a_subset_of_the_classes_is_said_once_with_counts(coco, write_coco, said):
    coco["annotations"].append({**coco["annotations"][0], "id": 4})
    dataset = CocoDataset(**write_coco(coco, classes=("dog",)))
    assert [len(info["instances"]) for info in all_infos(dataset)] == [0, 1, 0]
    assert len(said) == 1
    assert "'cat' (2), 'bird' (1)" in said[0]


def test_a_class_that_the_file_does_not_have_is_named_and_keeps_the_labels(coco, write_coco, said):
    dataset = CocoDataset(**write_coco(coco, classes=("cat", "horse", "dog", "bird")))
    assert dataset.cat2label == {11: 0, 5: 2, 8: 3}
    assert len(said) == 1
    assert "'horse'" in said[0]
    assert "'cat', 'dog', 'bird'" in said[0]


def test_classes_that_match_none_are_an_error_with_both_lists(coco, write_coco):
    with pytest.raises(ValueError, match=r"(?s)ann\.json.*'Cat', 'Dog'.*'cat', 'dog', 'bird'"):
        CocoDataset(**write_coco(coco, classes=("Cat", "Dog")))


@pytest.mark.parametrize(
    ("classes", "error", "match"),
    [
        ("cat", TypeError, r"\('name',\)"),
        ((1, 2), TypeError, "list or tuple of names"),
        ((), ValueError, "is empty"),
        (("cat", "dog", "cat"), ValueError, "'cat' more than once"),
    ],
)
def test_classes_must_be_names(coco, write_coco, classes, error, match):
    with pytest.raises(error, match=match):
        CocoDataset(**write_coco(coco, classes=classes))


def test_the_key_of_mmdetection_2_is_answered(coco, write_coco):
    with pytest.raises(ValueError, match="CLASSES"):
        CocoDataset(**write_coco(coco, metainfo={"CLASSES": ("cat",)}))


def test_palette_fits_the_classes(coco, write_coco):
    assert len(CocoDataset.METAINFO["classes"]) == 80
    assert len(set(CocoDataset.METAINFO["palette"])) == 80
    dataset = CocoDataset(**write_coco(coco))
    assert dataset.metainfo["palette"] == class_colors(None, 3)
    own = CocoDataset(**write_coco(coco, metainfo={"classes": ("cat", "dog", "bird"), "palette": [(1, 2, 3)] * 3}))
    assert own.metainfo["palette"] == [(1, 2, 3)] * 3


def test_filter_leaves_out_empty_and_small_images_in_training_only(coco, write_coco):
    def ids(**keys):
        return [info["img_id"] for info in all_infos(CocoDataset(**write_coco(coco, **keys)))]

    assert ids(filter_cfg={"filter_empty_gt": True}) == [7, 3]
    assert ids(filter_cfg={"min_size": 45}) == [7]
    assert ids(filter_cfg={"filter_empty_gt": True, "min_size": 45}, test_mode=True) == [7, 3, 9]
    assert ids(indices=2) == [7, 3]


def test_crowds_count_as_objects_of_an_image(coco, write_coco):
    coco["annotations"] = coco["annotations"][2:]
    dataset = CocoDataset(**write_coco(coco, filter_cfg={"filter_empty_gt": True}))
    assert [info["img_id"] for info in all_infos(dataset)] == [7]


def test_no_image_left_is_an_error_that_says_why(coco, write_coco):
    coco["annotations"] = coco["annotations"][:1]
    keys = write_coco(coco, filter_cfg={"filter_empty_gt": True, "min_size": 200})
    with pytest.raises(ValueError, match=r"no image is left of 3 \(2 by filter_empty_gt.*, 1 by min_size=200\)"):
        CocoDataset(**keys)
    with pytest.raises(ValueError, match="no image is left of 0"):
        CocoDataset(**write_coco({**coco, "images": [], "annotations": []}))
    with pytest.raises(ValueError, match="indices"):
        CocoDataset(**write_coco(coco, indices=0))


def test_images_without_any_object_are_said(coco, write_coco, said):
    CocoDataset(**write_coco({**coco, "annotations": []}))
    assert "only background" in said[-1]


def test_an_unknown_key_of_the_filter_is_named(coco, write_coco):
    with pytest.raises(ValueError, match=r"'min_sise'.*Did you mean 'min_size'"):
        CocoDataset(**write_coco(coco, filter_cfg={"min_sise": 32}))


@pytest.mark.parametrize(("key", "value"), [("file_client_args", {"backend": "disk"}), ("proposal_file", "p.pkl")])
def test_keys_that_nothing_reads_are_refused(coco, write_coco, key, value):
    with pytest.raises(ValueError, match=key):
        CocoDataset(**write_coco(coco, **{key: value}))
    CocoDataset(**write_coco(coco, **{key: None}, return_classes=True, backend_args=None))


@pytest.mark.parametrize("lazy", [True, False])
def test_a_missing_data_root_says_what_to_do(lazy, tmp_path):
    root = str(tmp_path / "data" / "coco")

    def build():
        dataset = CocoDataset(data_root=root, ann_file="a.json", data_prefix={"img": "x"}, lazy_init=lazy)
        dataset.full_init()

    with pytest.raises(FileNotFoundError, match=rf"data_root='{root}' does not exist.*ln -s"):
        build()


def test_a_missing_annotation_file_names_its_neighbours(coco, write_coco):
    with pytest.raises(FileNotFoundError, match=r"ann_file='.*anno\.json' is not a file. Did you mean 'ann\.json'"):
        CocoDataset(**write_coco(coco, ann_file="anno.json"))
    with pytest.raises(FileNotFoundError, match=r"holds: 'ann\.json'"):
        CocoDataset(**write_coco(coco, ann_file="instances_train2017.zip"))
    with pytest.raises(FileNotFoundError, match=r"Its folder '.*annotations' does not exist"):
        CocoDataset(**write_coco(coco, ann_file="annotations/x.json"))
    with pytest.raises(ValueError, match="ann_file is not set"):
        CocoDataset(data_root="x")


# ------------------------------------------------------------------------------------------- files that are no COCO


def broken(change):
    """Return a test id and a function that breaks a COCO content."""
    return pytest.param(change, id=change.__name__)


def no_categories(content):
    del content["categories"]
    return r"key 'categories' is missing; the file has \['annotations', 'images'\]"


def images_are_a_dict(content):
    content["images"] = {}
    return "'images' must be a list, but is a dict"


def image_without_height(content):
    del content["images"][1]["height"]
    return r"images\[1\] has no 'height'; it has \['file_name', 'id', 'width'\]"


def image_name_is_a_number(content):
    content["images"][1]["file_name"] = 12
    return r"images\[1\]\['file_name'\] must be str, but is int 12"


def image_without_size(content):
    content["images"][2]["width"] = 0
    return r"images\[2\] \('c.jpg'\) must have a positive width and height in pixels, but has 0 x 20"


def image_id_twice(content):
    content["images"][2]["id"] = 7
    return "the image id 7 must occur once, but stands at positions 0 and 2"


def category_name_twice(content):
    content["categories"][2]["name"] = "cat"
    return "the category name 'cat' must occur once"


def annotation_id_twice(content):
    content["annotations"][2]["id"] = 1
    return "the annotation id 1 must occur once"


def annotation_is_a_string(content):
    content["annotations"][2] = "x"
    return r"annotations\[2\] must be an object"


def annotation_without_box(content):
    del content["annotations"][1]["bbox"]
    return r"annotations\[1\] has no 'bbox'"


def annotation_without_image(content):
    del content["annotations"][1]["image_id"]
    return r"annotations\[1\] has no 'image_id'"


def box_of_three_numbers(content):
    content["annotations"][1]["bbox"] = [1, 2, 3]
    return r"annotations\[1\]\['bbox'\] must be the 4 numbers x, y, width, height, but is list \[1, 2, 3\]"


def box_of_words(content):
    content["annotations"][1]["bbox"] = ["a", 2, 3, 4]
    return r"annotations\[1\]\['bbox'\] must be the 4 numbers"


def area_is_a_word(content):
    content["annotations"][1]["area"] = "large"
    return r"annotations\[1\]\['area'\] must be a number, but is str 'large'"


@pytest.mark.parametrize(
    "change",
    [
        broken(one)
        for one in (
            no_categories,
            images_are_a_dict,
            image_without_height,
            image_name_is_a_number,
            image_without_size,
            image_id_twice,
            category_name_twice,
            annotation_id_twice,
            annotation_is_a_string,
            annotation_without_box,
            annotation_without_image,
            box_of_three_numbers,
            box_of_words,
            area_is_a_word,
        )
    ],
)
def test_a_file_that_is_no_coco_is_named_with_the_place(coco, write_coco, change):
    message = change(coco)
    with pytest.raises(ValueError, match=rf"ann\.json: (is no COCO annotation file: )?(the )?{message}"):
        CocoDataset(**write_coco(coco))


def test_a_list_is_recognised_as_results(coco, write_coco):
    with pytest.raises(
        ValueError, match=r"ann\.json: .* this is a list \(a list is what detection results look like\)"
    ):
        CocoDataset(**write_coco(coco["annotations"]))


def test_truncated_and_binary_files_say_where(coco, write_coco, tmp_path):
    text = json.dumps(coco, indent=1)[:400]
    line = text.count("\n") + 1
    with pytest.raises(
        ValueError, match=rf"ann\.json: is no valid JSON at line {line}, column \d+ \(character \d+ of 400"
    ):
        CocoDataset(**write_coco(text))
    keys = write_coco(coco)
    (tmp_path / "ann.json").write_bytes(b"\xff\xd8\xff\xe0\x93")
    with pytest.raises(ValueError, match=r"ann\.json: is no JSON but binary data"):
        CocoDataset(**keys)
    for text in ("9" * 5000, "[" * 100_000):  # found by fuzzing
        with pytest.raises(ValueError, match=r"ann\.json: is no annotation file"):
            CocoDataset(**write_coco(text))


def test_a_test_file_needs_no_annotations(coco, write_coco):
    del coco["annotations"]
    assert len(CocoDataset(**write_coco(coco, test_mode=True))) == 3
    with pytest.raises(ValueError, match="'annotations' is missing"):
        CocoDataset(**write_coco(coco))


# -------------------------------------------------------------------------------------------------- odd annotations


def test_annotations_of_unknown_images_are_counted(coco, write_coco, said):
    coco["annotations"][1]["image_id"] = "3"
    dataset = CocoDataset(**write_coco(coco))
    assert [len(info["instances"]) for info in all_infos(dataset)] == [2, 0, 0]
    assert len(said) == 1
    assert "1 of 3 annotations have an image_id that 'images' does not list, the first '3'" in said[0]


def test_annotations_that_all_miss_their_image_are_an_error(coco, write_coco):
    for annotation in coco["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    with pytest.raises(ValueError, match=r"all 3 of 3 annotations .* has '7' \(str\), an image's id is 7 \(int\)"):
        CocoDataset(**write_coco(coco))


def test_annotations_of_unknown_categories_are_counted(coco, write_coco, said):
    coco["annotations"][0]["category_id"] = 99
    dataset = CocoDataset(**write_coco(coco))
    assert [len(info["instances"]) for info in all_infos(dataset)] == [1, 1, 0]
    assert "1 annotations have a category_id that 'categories' does not list, 99" in said[0]


def test_ignored_annotations_and_missing_fields(coco, write_coco):
    coco["annotations"][0]["ignore"] = 1
    for key in ("area", "iscrowd", "id"):
        del coco["annotations"][1][key]
    dataset = CocoDataset(**write_coco(coco))
    assert [len(info["instances"]) for info in all_infos(dataset)] == [1, 1, 0]


def test_boxes_that_are_none_are_dropped_or_clipped_and_said_once(coco, write_coco, said):
    # image 7 is 80 wide and 60 high
    boxes = {
        "nan": [float("nan"), 1, 5, 5],
        "inf": [1, 1, float("inf"), 5],
        "null": [None, 1, 5, 5],
        "negative": [20, 20, -5, 5],
        "flat": [20, 20, 5, 0.5],
        "outside": [81, 5, 10, 10],
        "reaches out": [70, 50, 20, 20],
        "rounding": [75, 5, 5.9, 10],
        "one pixel": [0.13, 7, 1, 8],  # 0.13 + 1 - 0.13 < 1
    }
    for name, box in boxes.items():
        coco["annotations"].append({"id": name, "image_id": 7, "category_id": 11, "bbox": box, "area": 9})
    coco["annotations"].append({"id": "no area", "image_id": 3, "category_id": 11, "bbox": [1, 1, 9, 9], "area": 0})
    dataset = CocoDataset(**write_coco(coco))
    kept = [instance["bbox"] for instance in dataset.get_data_info(0)["instances"]]
    assert kept == [[1, 2, 11, 22], [30, 30, 50, 40], [70, 50, 80, 60], [75, 5, 80, 15], [0.13, 7, 1.13, 15]]
    assert np.isfinite(kept).all()
    assert len(said) == 1
    for part in (
        "dropped 7 of 13 boxes",
        "3 with NaN or infinite coordinates (first in",
        "3 of negative or no extent (a side below 1 pixel, or no area) (first in",
        "1 outside their image (first in",
        "clipped 1 that reach more than 1 pixel out of their image (first in",
        "a.jpg': [70.0, 50.0, 90.0, 70.0])",
    ):
        assert part in said[0]


def test_good_files_say_nothing(coco, write_coco, said):
    CocoDataset(**write_coco(coco))
    assert said == []


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("annotations", "id", {}, r"the 'id' of an annotation must be a number or a text, but is dict \{\}"),
        ("annotations", "image_id", [1], r"the 'image_id' of an annotation must be .* but is list \[1\]"),
        ("annotations", "category_id", {"id": 1}, r"the 'category_id' of an annotation must be"),
        ("annotations", "bbox", [0, 0, 10**400, 1], r"annotations\[0\]\['bbox'\] must be the 4 numbers"),
        (
            "images",
            "width",
            10**400,
            r"images\[0\] .* positive width and height in pixels, but has more than 1e18 x 60",
        ),
    ],
)
def test_values_that_no_file_should_have_are_named(coco, write_coco, part, key, value, message):
    """Found by fuzzing."""
    coco[part][0][key] = value
    with pytest.raises(ValueError, match=r"ann\.json: " + message):
        CocoDataset(**write_coco(coco))


def test_boxes_too_large_to_have_an_area_are_clipped(coco, write_coco):
    """Found by fuzzing."""
    coco["annotations"][0] |= {"bbox": [0, 0, 1e300, 1e300]}
    del coco["annotations"][0]["area"]
    assert CocoDataset(**write_coco(coco)).get_data_info(0)["instances"][0]["bbox"] == [0, 0, 80, 60]
