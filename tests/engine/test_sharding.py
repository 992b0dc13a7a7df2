from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

from densehead.engine import FullyShardedDetector, FullyShardedStrategy
from densehead.engine.sharding import check_sharding
from densehead.version import parse_version
from tests.models.detectors.trainings import LR, build_detector, train
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
HEAD, CASE, STEPS = "FCOSHead", "alternating", 4
POLICY = dict(type="torch.distributed.fsdp.wrap.size_based_auto_wrap_policy", min_num_params=10_000)
WRAPPER = dict(type="densehead.FullyShardedDetector", auto_wrap_policy=POLICY)
STRATEGY = dict(type="densehead.FullyShardedStrategy", model_wrapper=WRAPPER)


def build():
    """Return a detector whose distances, and so the gradient of their scales, are large enough to be seen."""
    model = build_detector(HEAD)
    model.bbox_head.conv_reg.weight.data.mul_(20)
    return model


def train_sharded(rank: int) -> tuple[list[int], dict[str, torch.Tensor]]:
    """Return how many numbers this rank holds in each parameter, and all weights."""
    policy = partial(size_based_auto_wrap_policy, min_num_params=2000)
    model = FullyShardedDetector(build(), auto_wrap_policy=policy)
    train(model, CASE, [rank], STEPS, LR[HEAD])
    return [parameter.numel() for parameter in model.parameters()], model.state_dict()


@pytest.mark.skipif(parse_version(torch.__version__) < (2, 4), reason="PyTorch 2.1 cannot shard without a GPU")
def test_sharded_equals_one_process():
    """FCOS has a parameter of one number a level; one of the ranks is empty in each step."""
    ranks = run_ranks(train_sharded)
    alone = build()
    start = {name: value.clone() for name, value in alone.state_dict().items()}
    train(alone, CASE, [0, 1], STEPS, LR[HEAD])
    held = [sum(numbers) for numbers, _ in ranks]
    assert max(held) < 0.6 * sum(one.numel() for one in alone.parameters())
    for _, state in ranks:
        assert state.keys() == start.keys()
        for name, value in alone.state_dict().items():
            assert state[name].shape == value.shape
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)
        assert all(torch.equal(state[name], ranks[0][1][name]) for name in state)
    moved = [abs(alone.state_dict()[name] - start[name]) for name in start if name.endswith(".scale")]
    assert max(moved) > 3e-5


def test_clipping_would_go_by_a_share():
    cfg = dict(strategy=STRATEGY, optim_wrapper=dict(clip_grad=dict(max_norm=35)))
    with pytest.raises(ValueError, match=r"^optim_wrapper.clip_grad must be None with densehead.FullyShardedStrategy"):
        check_sharding(cfg)
    check_sharding(cfg | dict(optim_wrapper=dict(clip_grad=None)))
    check_sharding(cfg | dict(strategy=dict(type="DDPStrategy")))
    check_sharding(dict(optim_wrapper=dict(clip_grad=dict(max_norm=35))))


def test_checkpoints_hold_the_whole_detector():
    with pytest.raises(ValueError, match=r"^strategy.state_dict_cfg must be 'full'"):
        FullyShardedStrategy(state_dict_cfg="local")


def train_by_config(rank: int, folder: str, epochs: int, resume: str | None = None) -> dict:
    from densehead.apis import prepare_training, train
    from tests.engine.tiny import losses, tiny_config

    os.environ["LOCAL_RANK"] = str(rank)
    options = dict(default_hooks__summary=None, optim_wrapper__clip_grad=None)
    cfg = tiny_config(Path(folder), Path(folder).parent / "data", train_cfg__max_epochs=epochs, **options)
    cfg.merge_from_dict(dict(launcher="pytorch", runner_type="densehead.FullyShardedRunner", strategy=STRATEGY))
    runner = train(prepare_training(cfg, resume=resume))
    shards = sum(isinstance(one, torch.distributed.fsdp.FullyShardedDataParallel) for one in runner.model.modules())
    held = [parameter.detach().clone() for parameter in runner.model.parameters()]
    return dict(wrapper=type(runner.model), shards=shards, losses=losses(runner), held=held)


@pytest.mark.slow
def test_by_config_and_resumed(tmp_path):
    """With the weights, to the last bit, of the training that was left alone."""
    whole = run_ranks(train_by_config, str(tmp_path / "whole"), 2, timeout=170)
    run_ranks(train_by_config, str(tmp_path / "part"), 1, timeout=170)
    work = tmp_path / "part" / "work"
    assert {path.name for path in work.glob("*epoch*")} == {"epoch_1.pth", "best_coco_bbox_mAP_epoch_1.pth"}
    # the checkpoint is that of the detector, whole
    checkpoint = torch.load(work / "epoch_1.pth", weights_only=False)
    assert (checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"]) == (1, 2)
    assert checkpoint["state_dict"]["bbox_head.scales.0.scale"].shape == ()
    assert checkpoint["state_dict"]["bbox_head.conv_cls.weight"].shape == (10, 16, 3, 3)
    state = checkpoint["optimizer"]["state"]["bbox_head.conv_cls.weight"]
    assert not torch.equal(*(value for value in state.values() if value.ndim))
    resumed = run_ranks(train_by_config, str(tmp_path / "part"), 2, "auto", timeout=170)
    for one, other in zip(whole, resumed):
        assert one["wrapper"] is FullyShardedDetector
        assert one["shards"] > 3
        assert one["losses"][2:] == other["losses"][2:]  # those before are the first process's after resuming
        assert len(one["losses"]) == 4
        assert all(map(torch.equal, one["held"], other["held"]))
