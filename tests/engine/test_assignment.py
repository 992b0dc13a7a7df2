"""What the hook logs of assignments and gradients, held to what it was computed from."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from densehead.analysis import read_records
from densehead.apis import prepare_training, train
from densehead.apis.run import build_runner
from densehead.engine.hooks import AssignmentHook
from densehead.engine.hooks.assignment import averages, count_positives
from densehead.structures import IGNORED, NEGATIVE, Assignment, Targets
from tests.engine.tiny import tiny_config
from tests.host_sync import PretendGpu, needs_pretended_gpu, to_gpu
from tests.models.heads.heads import CONFIGS, build, features, samples


def test_counts_by_hand():
    """A small object with two positives, a medium one without, a large one with one; in another image a small one."""
    boxes = torch.tensor([[0.0, 0, 31, 32], [0, 0, 32, 32], [10, 10, 106, 106]])
    truth = [
        InstanceData(bboxes=boxes, labels=torch.zeros(3, dtype=torch.long)),
        InstanceData(bboxes=boxes[:1], labels=torch.zeros(1, dtype=torch.long)),
    ]
    index = torch.tensor([[0, 0, 2, NEGATIVE, IGNORED], [NEGATIVE, NEGATIVE, IGNORED, NEGATIVE, NEGATIVE]])
    counts = count_positives(Assignment(index), Targets.from_instances(truth))
    assert counts.tolist() == [[2, 1, 1], [1, 1, 0], [2, 0, 1]]
    assert averages(*counts.tolist()) == {
        "pos_per_object": 0.75,
        "pos_small": 1.0,
        "pos_medium": 0.0,
        "pos_large": 1.0,
        "missed": 0.5,
    }


def test_without_objects():
    truth = [InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))]
    counts = count_positives(Assignment(torch.full((1, 5), NEGATIVE)), Targets.from_instances(truth))
    assert averages(*counts.tolist()) == {}
    assert set(averages([2, 0, 0], [1, 0, 0], [3, 0, 0])) == {"pos_per_object", "pos_small", "missed"}


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_are_those_of_the_records(name):
    head = build(name)
    head.loss(features(3), samples([40, 0, 5]))
    objects, missed, positives = count_positives(head.last_assignment, head.last_targets).tolist()
    records = read_records(head)
    assert sum(objects) == 45
    assert sum(missed) == sum(record.is_missed().sum() for record in records)
    assert sum(positives) == sum(len(record.prior_index) for record in records)
    sizes = np.concatenate([np.sqrt((one.boxes[:, 2:] - one.boxes[:, :2]).prod(1)) for one in records])
    assert objects == [(sizes < 32).sum(), ((sizes >= 32) & (sizes < 96)).sum(), (sizes >= 96).sum()]


@needs_pretended_gpu
def test_counting_does_not_wait_for_a_gpu():
    head = build("FCOSHead")
    head.loss(features(), samples([3, 2]))
    expected, targets = count_positives(head.last_assignment, head.last_targets), head.last_targets
    tensors = {name: to_gpu(value) for name, value in vars(targets).items() if isinstance(value, torch.Tensor)}
    with PretendGpu(is_strict=True):
        counts = count_positives(Assignment(to_gpu(head.last_assignment.gt_index)), replace(targets, **tensors))
    assert counts.is_cuda
    assert torch.equal(counts.host, expected)


class Witness(Hook):
    """Counts by the records of every step, and by the gradients."""

    priority = "VERY_LOW"

    def __init__(self):
        self.counts, self.norms = [], []

    def before_train(self, runner):
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.note)

    def note(self, optimizer, *args):
        grads = [one.grad.flatten() for group in optimizer.param_groups for one in group["params"]]
        self.norms.append(float(torch.cat(grads).norm()))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        records = read_records(runner.model.bbox_head)
        objects = sum(len(one.boxes) for one in records)
        missed, positives = sum(one.is_missed().sum() for one in records), sum(len(one.gt_index) for one in records)
        self.counts.append((objects, missed, positives))


@pytest.mark.parametrize("clip", [True, False])
def test_a_training(tmp_path, data_root, clip):
    options = {} if clip else {"optim_wrapper__clip_grad": None}
    cfg = tiny_config(tmp_path, data_root, train_cfg__max_epochs=1, default_hooks__assignment__interval=2, **options)
    runner = build_runner(prepare_training(cfg))
    witness = Witness()
    runner.register_hook(witness)
    runner.train()
    (file,) = (tmp_path / "work").glob("*/vis_data/2*.json")
    logged = [one for one in map(json.loads, file.read_text().splitlines()) if "loss" in one]
    assert len(logged) == 4
    objects, missed, positives = np.array(witness.counts).reshape(2, 2, 3).sum(1).T
    assert "pos_per_object" not in logged[0]
    for step, which in ((1, 0), (2, 0), (3, 1)):
        assert logged[step]["pos_per_object"] == pytest.approx(positives[which] / objects[which])
        assert logged[step]["missed"] == pytest.approx(missed[which] / objects[which])
        assert {"pos_small", "pos_medium"} <= set(logged[step])
    norms = runner.message_hub.get_scalar("train/grad_norm").data[0]
    assert len(norms) == 4
    if not clip:
        np.testing.assert_allclose(norms, witness.norms, rtol=1e-5)
    assert len(runner.optim_wrapper.optimizer._optimizer_step_pre_hooks) == 1  # the witness's
    assert (tmp_path / "work" / "curves.png").is_file()


def test_a_scaled_gradient_is_scaled_back():
    hook, parameter = AssignmentHook(), torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([30.0, 40.0])
    optimizer = torch.optim.SGD([parameter], 0.1)
    hook._note_norm(optimizer)
    optimizer.grad_scale = torch.tensor(10.0)
    hook._note_norm(optimizer)
    assert torch.stack(hook._norms).tolist() == [50, 5]


def test_models_without_a_dense_head():
    hub = MessageHub.get_instance("no dense head")
    wrapper = SimpleNamespace(optimizer=None)
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), optim_wrapper=wrapper, message_hub=hub, iter=49)
    hook = AssignmentHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 49)
    assert not hub.log_scalars


def test_interval_is_checked(tmp_path):
    with pytest.raises(ValueError, match=r"default_hooks\.assignment\.interval must be at least 1, but got 0"):
        AssignmentHook(0)
    assert "assignment" in prepare_training(tiny_config(tmp_path)).default_hooks


def test_it_can_be_left_out(tmp_path, data_root):
    options = {"default_hooks__assignment": None, "default_hooks__summary": None, "train_cfg__max_epochs": 1}
    runner = train(prepare_training(tiny_config(tmp_path, data_root, **options)))
    assert "train/missed" not in runner.message_hub.log_scalars
