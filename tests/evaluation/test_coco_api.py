"""The COCO curves against pycocotools, from its own files and summary."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest

from densehead.evaluation import coco_api
from densehead.evaluation.coco_api import BACKENDS, evaluate_boxes, load_backend
from tests.evaluation.scenes import random_detections, random_truth

CAT_IDS = [5, 15, 25, 35, 45]
IOU_THRS = np.linspace(0.5, 0.95, 10)


def pycocotools_evaluation(truth, detections, max_dets=(100, 300, 1000)):
    """pycocotools used as its documentation says."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.params.maxDets = list(max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(6))
def test_curves_equal_pycocotools(backend, seed):
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    detections = random_detections(rng, truth)
    want = pycocotools_evaluation(truth, detections, (2, 5, 100))
    got = evaluate_boxes(truth, detections, cat_ids=CAT_IDS, iou_thrs=IOU_THRS, max_dets=(100, 5, 2), backend=backend)
    np.testing.assert_allclose(got.precision, want.eval["precision"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.recall, want.eval["recall"], rtol=0, atol=1e-9)
    assert (got.precision[:, :, -1] == -1).all()  # "dot" has no truth
    assert (got.precision[:, :, 1] == 0).any()  # "ring" was never detected


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_are_zero_where_there_is_truth(backend):
    truth = random_truth(np.random.default_rng(0))
    curves = evaluate_boxes(truth, [], cat_ids=CAT_IDS, iou_thrs=IOU_THRS, max_dets=(100,), backend=backend)
    assert curves.average_precision() == 0
    assert curves.average_recall(area="m") == 0
    assert curves.average_precision(class_index=4) == -1


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_images_are_undefined(backend):
    truth = {"images": [], "annotations": [], "categories": []}
    curves = evaluate_boxes(truth, [], cat_ids=CAT_IDS, iou_thrs=[0.5], max_dets=(1, 10), backend=backend)
    assert curves.average_precision() == curves.average_recall(max_dets=1) == -1


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_may_be_strings_and_zero(backend):
    truth = {
        "images": [{"id": "000012"}, {"id": "BloodImage_1"}],
        "categories": [{"id": 0, "name": "a"}],
        "annotations": [
            {"id": 0, "image_id": "000012", "category_id": 0, "bbox": [10, 10, 40, 40], "iscrowd": 0},
            {"id": 1, "image_id": "BloodImage_1", "category_id": 0, "bbox": [10, 10, 40, 40]},
        ],
    }
    detections = [
        {"image_id": image["id"], "category_id": 0, "bbox": [10, 10, 40, 40], "score": 0.9} for image in truth["images"]
    ]
    curves = evaluate_boxes(truth, detections, cat_ids=[0], iou_thrs=[0.5], max_dets=(100,), backend=backend)
    assert curves.average_precision() == pytest.approx(1, abs=1e-9)


def test_crowds_are_neither_found_nor_missed():
    """One object found, one crowd with two detections inside: neither costs precision nor recall."""
    image = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}]}
    objects = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [100, 100, 200, 200], "iscrowd": 1},
    ]
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": box, "score": score}
        for box, score in [([0, 0, 50, 50], 0.5), ([110, 110, 30, 30], 0.9), ([200, 200, 30, 30], 0.8)]
    ]
    arguments = {"cat_ids": [1], "iou_thrs": [0.5], "max_dets": (100,)}
    ap = evaluate_boxes({**image, "annotations": objects}, detections, **arguments).average_precision()
    assert ap == pytest.approx(1, abs=1e-9)
    objects[1]["iscrowd"] = 0
    ap = evaluate_boxes({**image, "annotations": objects}, detections, **arguments).average_precision()
    assert ap < 0.2


def test_backend_falls_back_and_says_what_to_install(monkeypatch):
    assert load_backend()[0].__module__.startswith("faster_coco_eval")
    absent = ("no_such_module", "COCO", "no_such_module", "COCOeval")
    monkeypatch.setitem(BACKENDS, "faster_coco_eval", absent)
    assert load_backend()[0].__module__.startswith("pycocotools")
    monkeypatch.setattr(coco_api, "BACKENDS", {"faster_coco_eval": absent})
    with pytest.raises(ImportError, match="pip install faster-coco-eval"):
        load_backend()
