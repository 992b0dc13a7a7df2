"""Random truth and detections as COCO files and as data samples."""

from __future__ import annotations

import numpy as np
import torch

CLASSES = ("disc", "ring", "cross", "bar", "dot")


def random_truth(rng: np.random.Generator, num_images: int = 25) -> dict:
    """A COCO file: crowds, all three areas, images without truth, the last class ("dot") without truth."""
    images = [{"id": 7 * number + 3, "width": 640, "height": 480} for number in range(num_images)]
    categories = [{"id": 10 * label + 5, "name": name} for label, name in enumerate(CLASSES)]
    annotations = []
    for image in images:
        for _ in range(0 if rng.random() < 0.15 else rng.integers(1, 9)):
            x, y = rng.uniform(0, 300, 2)
            width, height = np.exp(rng.uniform(np.log(6), np.log(180), 2))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": 10 * int(rng.integers(0, len(CLASSES) - 1)) + 5,
                    "bbox": [x, y, width, height],
                    "area": width * height * rng.uniform(0.5, 1),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}


def random_detections(rng: np.random.Generator, truth: dict) -> list[dict]:
    """COCO results around the truth: misses, doubles, wrong classes, equal scores, nothing for the class "ring"."""
    detections = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            label = int(rng.integers(0, len(CLASSES)))
            category = annotation["category_id"] if rng.random() < 0.8 else 10 * label + 5
            box = np.float32(annotation["bbox"] + rng.normal(0, 0.07, 4) * np.tile(annotation["bbox"][2:], 2))
            score = float(np.float32(np.round(rng.random(), 1)))
            detections.append(
                {"image_id": annotation["image_id"], "category_id": category, "bbox": box.tolist(), "score": score}
            )
    return [detection for detection in detections if detection["category_id"] != 15]


def samples_of(truth: dict, detections: list[dict], classes=CLASSES) -> list[dict]:
    """What an evaluator hands to a metric, with the detections in the given order."""
    label = {category["id"]: classes.index(category["name"]) for category in truth["categories"]}
    samples = []
    for image in truth["images"]:
        found = [d for d in detections if d["image_id"] == image["id"]]
        boxes = torch.tensor([d["bbox"] for d in found], dtype=torch.float64).reshape(-1, 4)
        samples.append(
            {
                "img_id": image["id"],
                "ori_shape": (image["height"], image["width"]),
                "pred_instances": {
                    "bboxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
                    "scores": torch.tensor([d["score"] for d in found]),
                    "labels": torch.tensor([label[d["category_id"]] for d in found], dtype=torch.long),
                },
            }
        )
    return samples
