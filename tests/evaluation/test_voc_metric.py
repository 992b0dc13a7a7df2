from __future__ import annotations

import numpy as np
import pytest
import torch

from densehead.evaluation import VOCMetric
from densehead.evaluation.voc_ap import average_precision
from densehead.registry import METRICS

CLASSES = ("a", "b", "c", "d")


def random_samples(rng, num_images=15):
    """Images with overlapping truth, difficult objects, doubles, misses; class "d" without truth."""
    samples = []
    for number in range(num_images):
        counts = rng.integers(0, 7), rng.integers(0, 3)
        corners = [rng.integers(0, 120, (n, 2)) for n in counts]
        boxes = [np.concatenate([c, c + rng.integers(15, 90, c.shape)], 1) for c in corners]
        labels = [rng.integers(0, 3, n) for n in counts]
        source = np.repeat(np.arange(sum(counts)), rng.integers(0, 4, sum(counts)))
        found = np.concatenate(boxes)[source] + rng.normal(0, 6, (len(source), 4))
        found_labels = np.where(rng.random(len(source)) < 0.8, np.concatenate(labels)[source], rng.integers(0, 4))
        scores = rng.permutation(len(source)) * 0.001 + rng.random()
        samples.append(
            {
                "img_id": number,
                "ori_shape": (250, 250),
                "gt_instances": instances(boxes[0], labels[0]),
                "ignored_instances": instances(boxes[1], labels[1]),
                "pred_instances": {**instances(found, found_labels), "scores": torch.tensor(scores)},
            }
        )
    return samples


def instances(boxes, labels):
    return {"bboxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels, dtype=torch.long)}


def evaluate(metric, samples, classes=CLASSES, **meta):
    metric.dataset_meta = {"classes": classes, **meta}
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def naive_ap(samples, label, iou_thr, eval_mode):
    """VOC's devkit spelt out: one detection at a time, best score first."""
    detections = sorted(
        (
            (-float(score), number, box.tolist())
            for number, one in enumerate(samples)
            for box, score, lab in zip(*(one["pred_instances"][k] for k in ("bboxes", "scores", "labels")), strict=True)
            if lab == label
        ),
    )
    truth = [
        [
            (box.tolist(), key == "ignored_instances")
            for key in ("gt_instances", "ignored_instances")
            for box, lab in zip(one[key]["bboxes"], one[key]["labels"], strict=True)
            if lab == label
        ]
        for one in samples
    ]
    total = sum(not difficult for image in truth for _, difficult in image)
    if not total:
        return None
    taken, points, right, wrong = set(), [], 0, 0
    for _, number, box in detections:
        overlaps = [naive_iou(box, other) for other, _ in truth[number]]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= iou_thr:
            if truth[number][best][1]:
                points.append((right / total, right / max(right + wrong, 1)))
                continue
            right, wrong = (right, wrong + 1) if (number, best) in taken else (right + 1, wrong)
            taken.add((number, best))
        else:
            wrong += 1
        points.append((right / total, right / (right + wrong)))
    if eval_mode == "11points":
        return sum(max((p for r, p in points if r >= t), default=0) for t in np.arange(0, 1.01, 0.1)) / 11
    area, last = 0.0, 0.0
    for recall in sorted({r for r, _ in points}):
        area += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return area


def naive_iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    overlap = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return overlap / (sum(areas) - overlap)


@pytest.mark.parametrize("eval_mode", ["11points", "area"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_one_detection_at_a_time(eval_mode, seed):
    samples = random_samples(np.random.default_rng(seed))
    got = evaluate(VOCMetric(iou_thrs=[0.5, 0.7], eval_mode=eval_mode), samples)
    for iou_thr in (0.5, 0.7):
        aps = [naive_ap(samples, label, iou_thr, eval_mode) for label in range(len(CLASSES))]
        assert aps[3] is None
        want = np.mean([ap for ap in aps if ap is not None])
        assert got[f"pascal_voc/AP{int(iou_thr * 100)}"] == pytest.approx(want, abs=1e-6)
    assert got["pascal_voc/mAP"] == pytest.approx((got["pascal_voc/AP50"] + got["pascal_voc/AP70"]) / 2)
    assert got["pascal_voc/AP50"] > got["pascal_voc/AP70"] > 0.05


def test_average_precision_by_hand():
    """Two objects; right, wrong, right: recalls 1/2, 1/2, 1 at precisions 1, 1/2, 2/3."""
    recall, precision = np.array([0.5, 0.5, 1.0]), np.array([1, 0.5, 2 / 3])
    assert average_precision(recall, precision, "area") == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(recall, precision, "11points") == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_images_without_truth_or_detections():
    none, no_labels = np.zeros((0, 4)), np.zeros(0)
    empty = {**instances(none, no_labels), "scores": torch.zeros(0)}
    one = {"img_id": 0, "ori_shape": (99, 99), "gt_instances": instances(none, no_labels), "pred_instances": empty}
    assert evaluate(VOCMetric(), [one])["pascal_voc/mAP"] == 0
    found = {**instances(np.array([[0, 0, 9, 9]]), np.array([0])), "scores": torch.tensor([0.5])}
    assert evaluate(VOCMetric(), [{**one, "pred_instances": found}])["pascal_voc/mAP"] == 0
    truth = instances(np.array([[0, 0, 9, 9]]), np.array([0]))
    assert evaluate(VOCMetric(), [{**one, "gt_instances": truth}])["pascal_voc/AP50"] == 0
    assert evaluate(VOCMetric(), []) == {"pascal_voc/mAP": 0, "pascal_voc/AP50": 0}


def test_registered_and_warns_of_the_unusual_mode(log):
    metric = METRICS.build({"type": "VOCMetric", "metric": "mAP", "eval_mode": "area"})
    evaluate(metric, random_samples(np.random.default_rng(0), 2), dataset_type="VOC2007")
    assert any("usually evaluated with eval_mode='11points'" in record.getMessage() for record in log)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"metric must be 'mAP'.*'recall'"):
        VOCMetric(metric="recall")
    with pytest.raises(ValueError, match=r"eval_mode must be one of.*'sum'"):
        VOCMetric(eval_mode="sum")
    with pytest.raises(ValueError, match="scale_ranges must be None"):
        VOCMetric(scale_ranges=[(0, 32)])
    one = random_samples(np.random.default_rng(0), 1)[0]
    one["pred_instances"] = {**instances(np.zeros((2, 4)), np.array([0, 9])), "scores": torch.ones(2)}
    with pytest.raises(ValueError, match=r"labels from 0 to 9.*num_classes=4"):
        evaluate(VOCMetric(), [one])
    del one["gt_instances"]
    with pytest.raises(ValueError, match="VOCMetric takes the truth from the data samples"):
        evaluate(VOCMetric(), [one])
