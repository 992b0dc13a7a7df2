from __future__ import annotations

import pickle

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.registry import METRICS
from densehead.structures import DetDataSample


def test_pickle_holds_detections_without_truth(tmp_path):
    sample = DetDataSample(metainfo={"img_id": 4, "img_path": "a.jpg", "ori_shape": (10, 20)})
    sample.gt_instances = InstanceData(bboxes=torch.zeros(1, 4), labels=torch.zeros(1))
    sample.pred_instances = InstanceData(
        bboxes=torch.ones(2, 4), labels=torch.zeros(2), scores=torch.tensor([0.7, 0.1])
    )
    as_dict = sample.to_dict()
    metric = METRICS.build({"type": "DumpDetResults", "out_file_path": str(tmp_path / "out.pkl")})
    metric.process({}, [as_dict])
    assert metric.evaluate(1) == {}
    (written,) = pickle.loads((tmp_path / "out.pkl").read_bytes())
    assert set(written) == {"img_id", "img_path", "ori_shape", "pred_instances"}
    assert torch.equal(written["pred_instances"]["scores"], torch.tensor([0.7, 0.1]))
    assert "gt_instances" in as_dict


def test_the_ending_must_be_that_of_a_pickle(tmp_path):
    with pytest.raises(ValueError, match="pkl"):
        METRICS.build({"type": "DumpDetResults", "out_file_path": str(tmp_path / "out.json")})
