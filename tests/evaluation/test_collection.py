"""Two processes that share the images report what one process reports."""

from __future__ import annotations

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from densehead.evaluation import CocoMetric, VOCMetric
from tests.evaluation.scenes import CLASSES, samples_of
from tests.evaluation.test_coco_metric import evaluate


def _rank(rank, store, queue, metrics, samples):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    padded = samples if len(samples) % 2 == 0 else [*samples, samples[0]]  # as mmengine's DefaultSampler pads
    values = {}
    for metric in metrics:
        metric.dataset_meta = {"classes": CLASSES}
        metric.process({}, padded[rank::2])
        values.update(metric.evaluate(len(samples)))
    queue.put((rank, values))
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
def test_two_processes_equal_one(scene, tmp_path):
    truth, detections, path = scene
    samples = samples_of(truth, detections)
    assert len(samples) % 2 == 1
    for one in samples:
        box = one["pred_instances"]["bboxes"][:1].flatten().tolist() or [0, 0, 9, 9]
        one["instances"] = [{"bbox": box, "bbox_label": label, "ignore_flag": 0} for label in (0, 2)]
    metrics = [CocoMetric(path), VOCMetric()]
    want = {**evaluate(metrics[0], samples), **evaluate(metrics[1], samples)}
    assert want["coco/bbox_mAP"] > 0
    assert want["pascal_voc/mAP"] > 0
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (tmp_path / "store", queue, metrics, samples)
    ranks = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert dict(queue.get() for _ in ranks) == {0: want, 1: want}
