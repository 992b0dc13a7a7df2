"""Processes that share the images report what one process reports."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from densehead.evaluation import CocoMetric, VOCMetric
from tests.evaluation.scenes import CLASSES, samples_of
from tests.evaluation.test_coco_metric import evaluate
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")


def _evaluate(rank, metrics, shares, size):
    values = {}
    for metric in metrics:
        metric.dataset_meta = {"classes": CLASSES}
        if shares[rank]:
            metric.process({}, shares[rank])
        values.update(metric.evaluate(size))
    return values


@pytest.fixture
def case(scene):
    """Samples with the truth of both metrics, the metrics, and what one process says."""
    truth, detections, path = scene
    samples = samples_of(truth, detections)
    for one in samples:
        box = one["pred_instances"]["bboxes"][:1].flatten().tolist() or [0, 0, 9, 9]
        one["instances"] = [{"bbox": box, "bbox_label": label, "ignore_flag": 0} for label in (0, 2)]
    metrics = [CocoMetric(path), VOCMetric()]
    want = {**evaluate(metrics[0], samples), **evaluate(metrics[1], samples)}
    assert want["coco/bbox_mAP"] > 0
    assert want["pascal_voc/mAP"] > 0
    return samples, metrics, want


def test_two_processes_equal_one(case):
    samples, metrics, want = case
    assert len(samples) % 2 == 1
    padded = [*samples, samples[0]]  # as mmengine's DefaultSampler pads
    shares = [padded[rank::2] for rank in range(2)]
    assert run_ranks(_evaluate, metrics, shares, len(samples)) == [want, want]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("busy", [0, 1])
def test_a_process_without_images(case, busy):
    """A sampler that does not round up, and fewer images than processes."""
    samples, metrics, _ = case
    kept = samples[:1]
    want = _evaluate(0, metrics, [kept], 1)
    shares = [kept if rank == busy else [] for rank in range(2)]
    assert run_ranks(_evaluate, metrics, shares, 1) == [want, want]
