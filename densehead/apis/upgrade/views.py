"""Tests on several views of each image, which mmdetection 2.x asked for in the pipeline."""

from __future__ import annotations

import copy

from densehead.apis.upgrade.pipeline import TEST_META, Moved
from densehead.apis.upgrade.report import Report


def upgrade_views(cfg: dict, moved: dict[str, Moved], report: Report) -> None:
    """Write ``tta_model`` and ``tta_pipeline`` where the test had several views, in place."""
    views = moved["test"].views if "test" in moved else None
    if views is None:
        return
    scales, directions = views
    dataset = cfg["test_dataloader"]["dataset"]
    while "pipeline" not in dataset:
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    steps = copy.deepcopy(dataset["pipeline"])
    resize = next((index for index, one in enumerate(steps) if one["type"] == "Resize"), None)
    if resize is None:
        report.remark("data.test.pipeline MultiScaleFlipAug", "nothing in it resizes: write tta_pipeline by hand")
        return
    sizes = [{**steps[resize], "scale": scale} for scale in scales] or [steps[resize]]
    flips = [{"type": "RandomFlip", "prob": 0.0}]
    flips += [{"type": "RandomFlip", "prob": 1.0, "direction": direction} for direction in directions]
    pack = {**steps[-1], "meta_keys": (*steps[-1].get("meta_keys", TEST_META), "flip", "flip_direction")}
    between = [[one] for one in steps[resize + 1 : -1]]
    cfg["tta_pipeline"] = [*steps[:resize], {"type": "TestTimeAug", "transforms": [sizes, flips, *between, [pack]]}]
    test_cfg = (cfg.get("model") or {}).get("test_cfg") or {}
    settings = {"nms": test_cfg.get("nms", {"type": "nms", "iou_threshold": 0.5})}
    settings["max_per_img"] = test_cfg.get("max_per_img", 100)
    cfg["tta_model"] = {"type": "DetTTAModel", "tta_cfg": settings}
    report.change("data.test.pipeline MultiScaleFlipAug (several views)", "tta_model and tta_pipeline")
    report.remark(
        "data.test.pipeline MultiScaleFlipAug",
        "several views of an image are tested with tools/test.py --tta; without it one, of the first size",
    )
