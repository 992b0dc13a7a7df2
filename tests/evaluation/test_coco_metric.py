from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from densehead.evaluation import CocoMetric
from densehead.registry import METRICS
from densehead.structures import DetDataSample
from tests.evaluation.scenes import CLASSES, samples_of
from tests.evaluation.test_coco_api import pycocotools_evaluation

NAMES = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"]
ALL_ITEMS = [*NAMES, "AR@100", "AR@300", "AR@1000", "AR_s@1000", "AR_m@1000", "AR_l@1000"]


def evaluate(metric, samples, classes=CLASSES):
    metric.dataset_meta = {"classes": classes}
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def sample(boxes, scores, labels, *, img_id=0, shape=(200, 300), **truth):
    return {
        "img_id": img_id,
        "ori_shape": shape,
        "pred_instances": {
            "bboxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "scores": torch.tensor(scores),
            "labels": torch.tensor(labels, dtype=torch.long),
        },
        **truth,
    }


@pytest.mark.parametrize("classes", [CLASSES, CLASSES[::-1]])
def test_equals_pycocotools_whatever_the_order_of_the_classes(scene, classes):
    truth, detections, path = scene
    got = evaluate(CocoMetric(path, metric_items=ALL_ITEMS), samples_of(truth, detections, classes), classes)
    want = pycocotools_evaluation(truth, detections).stats
    assert list(got) == [f"coco/bbox_{item}" for item in ALL_ITEMS]
    np.testing.assert_allclose(list(got.values()), want, rtol=0, atol=1e-6)
    assert 0.05 < got["coco/bbox_mAP"] < got["coco/bbox_mAP_50"]


def test_the_six_of_coco_by_default(scene):
    truth, detections, path = scene
    got = evaluate(METRICS.build({"type": "CocoMetric", "ann_file": path}), samples_of(truth, detections))
    assert list(got) == [f"coco/bbox_{name}" for name in NAMES]


def test_classwise_values_and_table(scene, log):
    truth, detections, path = scene
    got = evaluate(CocoMetric(path, classwise=True), samples_of(truth, detections))
    precision = pycocotools_evaluation(truth, detections).eval["precision"]
    for index, name in enumerate(CLASSES[:-1]):
        values = precision[:, :, index, 0, -1]
        assert got[f"coco/{name}_precision"] == pytest.approx(values[values > -1].mean(), abs=1e-6)
    assert math.isnan(got["coco/dot_precision"])
    assert list(got)[-6:] == [f"coco/bbox_{name}" for name in NAMES]
    table = next(record.getMessage() for record in log if "category" in record.getMessage())
    rows = {line.split("|")[0].strip(): [cell.strip() for cell in line.split("|")[1:]] for line in table.splitlines()}
    assert rows["disc"][0] == f"{got['coco/disc_precision']:.3f}"
    assert rows["dot"] == ["-"] * 6
    assert rows["all classes"][1] == f"{got['coco/bbox_mAP_50']:.3f}"


def test_a_class_subset_leaves_the_other_categories_out(scene):
    truth, detections, path = scene
    keep = {5, 25}
    part = [d for d in detections if d["category_id"] in keep]
    samples = samples_of({**truth, "categories": [c for c in truth["categories"] if c["id"] in keep]}, part)
    for one in samples:
        one["pred_instances"]["labels"] //= 2  # "disc" 0, "cross" 2 -> 1
    got = evaluate(CocoMetric(path), samples, ("disc", "cross"))
    only = {**truth, "annotations": [a for a in truth["annotations"] if a["category_id"] in keep]}
    assert got["coco/bbox_mAP"] == pytest.approx(pycocotools_evaluation(only, part).stats[0], abs=1e-6)


def test_truth_from_the_samples_equals_truth_from_the_file(scene):
    truth, detections, path = scene
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    want = evaluate_with_file(truth, detections, path)
    with_lists, with_instances = samples_of(truth, detections), samples_of(truth, detections)
    for one, other in zip(with_lists, with_instances, strict=True):
        anns = [a for a in truth["annotations"] if a["image_id"] == one["img_id"]]
        one["instances"] = [
            {"bbox": corners(a["bbox"]), "bbox_label": a["category_id"] // 10, "ignore_flag": a["iscrowd"]}
            for a in anns
        ]
        for key, crowd in (("gt_instances", 0), ("ignored_instances", 1)):
            chosen = [a for a in anns if a["iscrowd"] == crowd]
            boxes = torch.tensor([corners(a["bbox"]) for a in chosen], dtype=torch.float64).reshape(-1, 4)
            other[key] = {"bboxes": boxes, "labels": torch.tensor([a["category_id"] // 10 for a in chosen])}
        one["img_id"] = other["img_id"] = f"BloodImage_{one['img_id']:05d}"
    assert evaluate(CocoMetric(), with_lists) == pytest.approx(want, abs=1e-6)
    assert evaluate(CocoMetric(), with_instances) == pytest.approx(want, abs=1e-6)


def evaluate_with_file(truth, detections, path):
    with open(path, "w") as file:
        json.dump(truth, file)
    return evaluate(CocoMetric(path), samples_of(truth, detections))


def corners(box):
    x, y, width, height = box
    return [x, y, x + width, y + height]


def test_reuse_over_epochs_starts_afresh(scene):
    truth, detections, path = scene
    metric = CocoMetric(path)
    first = evaluate(metric, samples_of(truth, detections))
    assert evaluate(metric, samples_of(truth, detections)) == first


def test_through_mmengines_evaluator():
    boxes = torch.tensor([[10.0, 10, 60, 60]])
    data_sample = DetDataSample(metainfo={"img_id": 4, "ori_shape": (100, 100)})
    data_sample.gt_instances = instances(bboxes=boxes, labels=torch.tensor([1]))
    data_sample.pred_instances = instances(bboxes=boxes, labels=torch.tensor([1]), scores=torch.tensor([0.8]))
    evaluator = Evaluator([{"type": "densehead.CocoMetric"}])
    evaluator.dataset_meta = {"classes": ("a", "b")}
    evaluator.process([data_sample], {})
    got = evaluator.evaluate(1)
    assert got["coco/bbox_mAP"] == pytest.approx(1, abs=1e-9)
    assert got["coco/bbox_mAP_s"] == -1


def instances(**fields):
    from mmengine.structures import InstanceData

    return InstanceData(**fields)


def test_format_only_writes_coco_results(tmp_path, scene):
    truth, detections, _ = scene
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({key: truth[key] for key in ("images", "categories")}))
    metric = CocoMetric(str(path), format_only=True, outfile_prefix=str(tmp_path / "out" / "test"))
    assert evaluate(metric, samples_of(truth, detections)) == {}
    written = json.loads((tmp_path / "out" / "test.bbox.json").read_text())
    by_image = sorted(detections, key=lambda d: d["image_id"])
    assert [(d["image_id"], d["category_id"]) for d in written] == [(d["image_id"], d["category_id"]) for d in by_image]
    np.testing.assert_allclose([d["bbox"] for d in written], [d["bbox"] for d in by_image], atol=1e-4)
    np.testing.assert_allclose([d["score"] for d in written], [d["score"] for d in by_image])
    assert set(written[0]) == {"image_id", "category_id", "bbox", "score"}


def test_outfile_prefix_writes_the_converted_truth(tmp_path):
    truth = {"instances": [{"bbox": [10, 20, 40, 80], "bbox_label": 0, "ignore_flag": 1}]}
    metric = CocoMetric(outfile_prefix=str(tmp_path / "val"))
    evaluate(metric, [sample([[10, 20, 40, 80]], [0.5], [0], img_id=9, **truth)], ("a",))
    written = json.loads((tmp_path / "val.gt.json").read_text())
    assert written["annotations"] == [
        {"id": 1, "image_id": 9, "category_id": 0, "bbox": [10, 20, 30, 60], "area": 1800, "iscrowd": 1}
    ]
    assert written["images"][0] == {"id": 9, "width": 300, "height": 200, "file_name": ""}
    assert json.loads((tmp_path / "val.bbox.json").read_text())[0]["bbox"] == [10, 20, 30, 60]


def test_no_detections_are_zeros_with_a_warning(scene, log):
    truth, _, path = scene
    got = evaluate(CocoMetric(path, classwise=True), samples_of(truth, []))
    assert all(got[f"coco/bbox_{name}"] == 0 for name in NAMES)
    assert any("nothing was detected" in record.getMessage() for record in log)


def test_no_truth_is_undefined():
    none = {"gt_instances": {"bboxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}}
    got = evaluate(CocoMetric(classwise=True), [sample([[0, 0, 9, 9]], [0.4], [0], **none)], ("a",))
    assert {got[f"coco/bbox_{name}"] for name in NAMES} == {-1}
    assert math.isnan(got["coco/a_precision"])


def test_no_samples_at_all_do_not_crash(scene):
    _, _, path = scene
    assert evaluate(CocoMetric(path), [])["coco/bbox_mAP"] == 0
    assert evaluate(CocoMetric(), [])["coco/bbox_mAP"] == -1


def test_detections_that_are_not_finite_are_left_out(log):
    truth = {"instances": [{"bbox": [0, 0, 50, 50], "bbox_label": 0, "ignore_flag": 0}]}
    boxes = [[0, 0, 50, 50], [0, 0, math.nan, 50], [0, 0, 50, 50]]
    got = evaluate(CocoMetric(), [sample(boxes, [0.5, 0.9, math.nan], [0, 0, 0], **truth)], ("a",))
    assert got["coco/bbox_mAP"] == pytest.approx(1, abs=1e-9)
    assert any("2 detections with a NaN" in record.getMessage() for record in log)


def test_one_threshold_leaves_the_others_undefined(scene):
    truth, detections, path = scene
    got = evaluate(CocoMetric(path, iou_thrs=0.5, classwise=True), samples_of(truth, detections))
    assert got["coco/bbox_mAP"] == got["coco/bbox_mAP_50"] > 0
    assert got["coco/bbox_mAP_75"] == -1


def test_map_counts_100_detections_and_the_others_the_most():
    """The object's detection has the 150th best score: beyond the 100 of mAP, within the 1000 of mAP_50."""
    truth = {
        "images": [{"id": 1, "width": 900, "height": 900}],
        "categories": [{"id": 5, "name": "disc"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}],
    }
    boxes = [[0, 0, 50, 50] if rank == 149 else [400 + rank, 400, 20, 20] for rank in range(200)]
    found = [{"image_id": 1, "category_id": 5, "bbox": box, "score": 1 - n / 200} for n, box in enumerate(boxes)]
    samples = samples_of(truth, found, ("disc",))
    samples[0]["instances"] = [{"bbox": [0, 0, 50, 50], "bbox_label": 0, "ignore_flag": 0}]
    got = evaluate(CocoMetric(metric_items=ALL_ITEMS), samples, ("disc",))
    np.testing.assert_allclose(list(got.values()), pycocotools_evaluation(truth, found).stats, rtol=0, atol=1e-6)
    assert got["coco/bbox_mAP"] == 0 < got["coco/bbox_mAP_50"]


def test_recall_is_named_after_proposal_nums(scene):
    truth, detections, path = scene
    items = ["mAP", "AR@1", "AR@10", "AR@100", "AR_m@100"]
    metric = CocoMetric(path, proposal_nums=(100, 1, 10), metric_items=items)
    got = evaluate(metric, samples_of(truth, detections))
    want = pycocotools_evaluation(truth, detections, (1, 10, 100)).stats
    np.testing.assert_allclose(list(got.values()), want[[0, 6, 7, 8, 10]], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "segm"}, "metric must be 'bbox'.*'segm'"),
        ({"metric": ["bbox", "proposal"]}, "metric must be 'bbox'"),
        ({"format_only": True}, "needs outfile_prefix"),
        ({"file_client_args": {"backend": "disk"}}, "backend_args"),
        ({"metric_items": ["mAP", "mAP_60"]}, "mAP_60.*mAP_75"),
    ],
)
def test_bad_keys_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CocoMetric(**arguments)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ann_file='.*absent.json'"):
        CocoMetric(str(tmp_path / "absent.json"))
    path = tmp_path / "wrong.json"
    path.write_text("{'images': ")
    with pytest.raises(ValueError, match=r"wrong\.json' is no JSON"):
        CocoMetric(str(path))
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"wrong\.json' must be a COCO file.*from a list"):
        CocoMetric(str(path))
    path.write_text('{"images": [], "categories": []}')
    with pytest.raises(ValueError, match=r"\['annotations'\] are missing.*format_only"):
        CocoMetric(str(path))


def test_classes_that_the_file_lacks_are_named_before_training(scene):
    truth, _, path = scene
    with pytest.raises(ValueError, match=r"\['square'\].*truth\.json.*'disc', 'ring'"):
        CocoMetric(path).dataset_meta = {"classes": ("disc", "square")}
    with pytest.raises(ValueError, match="needs the names of the classes"):
        CocoMetric(path).dataset_meta = {}
    truth["categories"].append({"id": 99, "name": "disc"})
    with open(path, "w") as file:
        json.dump(truth, file)
    with pytest.raises(ValueError, match=r"more than one category of the names \['disc'\]"):
        CocoMetric(path).dataset_meta = {"classes": CLASSES}


def test_samples_that_do_not_fit_are_named(scene, log):
    truth, detections, path = scene
    with pytest.raises(ValueError, match=r"no image with the id 1 .*ann_file of the data set"):
        evaluate(CocoMetric(path), [sample([], [], [], img_id=1)])
    with pytest.raises(ValueError, match=r"labels from 5 to 5.*bbox_head.num_classes=5"):
        evaluate(CocoMetric(path), [sample([[0, 0, 9, 9]], [0.4], [5], img_id=3)])
    with pytest.raises(ValueError, match=r"image 1 has neither.*LoadAnnotations"):
        evaluate(CocoMetric(), [sample([], [], [], img_id=1)])
    evaluate(CocoMetric(path), samples_of(truth, detections)[:4])
    assert any("4 images were evaluated, but" in record.getMessage() for record in log)
    resized = {"instances": [{"bbox": [0, 0, 600, 400], "bbox_label": 0, "ignore_flag": 0}]}
    evaluate(CocoMetric(), [sample([], [], [], img_id="left", **resized)])
    assert any("'left'" in r.getMessage() and "after Resize" in r.getMessage() for r in log)
