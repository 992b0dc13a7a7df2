"""Truth and detections: random ones, in all the forms that are compared, and small ones made by hand."""

from __future__ import annotations

import numpy as np

from densehead.evaluation.boxes import Boxes, joined_detections, joined_truth
from tests.evaluation.scenes import CLASSES, random_detections, random_truth, samples_of


def boxes_of(truth, detections):
    """A COCO file and COCO results as ``Boxes``: truth, detections."""
    number = {image["id"]: index for index, image in enumerate(truth["images"])}
    label = {one["id"]: CLASSES.index(one["name"]) for one in truth["categories"]}
    anns = [[] for _ in number]
    for one in truth["annotations"]:
        x, y, width, height = one["bbox"]
        box = [x, y, x + width, y + height]
        anns[number[one["image_id"]]].append(
            {"bbox": box, "bbox_label": label[one["category_id"]], "ignore_flag": one["iscrowd"]}
        )
    found = [
        {key: value.numpy() for key, value in sample["pred_instances"].items()}
        for sample in samples_of(truth, detections)
    ]
    return joined_truth(anns, np.float64), joined_detections(found, np.float64)


def random_boxes(seed):
    """Truth, detections, the COCO file and the COCO results they are made of."""
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    detections = random_detections(rng, truth)
    return *boxes_of(truth, detections), truth, detections


def truth_of(*objects):
    """Objects ``(box, label)`` or ``(box, label, image)`` or ``(box, label, image, ignored)``."""
    rows = [(*one, 0, False)[:4] if len(one) == 2 else (*one, False)[:4] for one in objects]
    boxes, labels, images, ignored = zip(*rows) if rows else ([], [], [], [])
    return Boxes(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(images, dtype=np.int64),
        ignored=np.array(ignored, dtype=bool),
    )


def found(*detections):
    """Detections ``(box, label, score)`` or ``(box, label, score, image)``, in the order of their images."""
    rows = sorted(((*one, 0)[:4] for one in detections), key=lambda one: one[3])
    boxes, labels, scores, images = zip(*rows) if rows else ([], [], [], [])
    return Boxes(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(images, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
    )


def naive_iou(one, other, ignored=False):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    overlap = max(width, 0) * max(height, 0)
    area, other_area = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return overlap / (area if ignored else area + other_area - overlap)


def naive_match(detections, truth, iou_thr, any_class=False):
    """COCO's rule spelt out: (n,) object of each detection, -1 for none, -2 where it lies on an ignored one."""
    result, taken = [-1] * len(detections), set()
    for det in sorted(range(len(detections)), key=lambda one: -detections.scores[one]):
        best = None
        for gt in range(len(truth)):
            is_own = detections.labels[det] == truth.labels[gt]
            may = is_own or (any_class and not truth.ignored[gt])
            if detections.images[det] != truth.images[gt] or not may or gt in taken:
                continue
            iou = naive_iou(detections.boxes[det], truth.boxes[gt], truth.ignored[gt])
            key = (not truth.ignored[gt], iou)
            if iou >= iou_thr and (best is None or key >= best[0]):
                best = (key, gt)
        if best is not None:
            result[det] = -2 if truth.ignored[best[1]] else best[1]
            if not truth.ignored[best[1]]:
                taken.add(best[1])
    return np.array(result, dtype=np.int64)
