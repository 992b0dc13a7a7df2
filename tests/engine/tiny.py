"""A detector and a data set so small that a training takes a second or two."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart" / "fcos_r18_digits.py"

_DATA = {"image_size": 64, "num_images": 8, "digits": {"max_size": 48}}
OPTIONS = {
    "model.backbone.base_channels": 8,
    "model.neck.in_channels": [8, 16, 32, 64],
    "model.neck.out_channels": 16,
    "model.neck.num_outs": 4,
    "model.bbox_head.strides": [8, 16, 32, 64],
    "model.bbox_head.regress_ranges": ((-1, 16), (16, 32), (32, 64), (64, 1e8)),
    "model.bbox_head.in_channels": 16,
    "model.bbox_head.feat_channels": 16,
    "model.bbox_head.norm_cfg.num_groups": 4,
    "model.bbox_head.stacked_convs": 1,
    "model.test_cfg.score_thr": 0.0,
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "val_dataloader.batch_size": 4,
    "val_dataloader.num_workers": 0,
    "val_dataloader.persistent_workers": False,
    "test_dataloader.num_workers": 0,
    "test_dataloader.persistent_workers": False,
    "train_cfg.max_epochs": 2,
    "train_cfg.val_interval": 1,
    "optim_wrapper.optimizer.lr": 0.02,
    "param_scheduler.0.end": 2,
    # such a training hits little by half
    "val_evaluator.iou_thrs": [0.1, 0.5],
    "test_evaluator.iou_thrs": [0.1, 0.5],
    "default_hooks.logger.interval": 1,
    **{f"{name}_dataloader.dataset.{key}": value for name in ("train", "val", "test") for key, value in _DATA.items()},
}


def tiny_config(folder: Path, data_root: Path | None = None, **options) -> Config:
    """Return a config whose training writes to ``folder``; dotted keys of ``options`` have ``__`` for the dots.

    A data root that several tests share is written once.
    """
    cfg = Config.fromfile(QUICKSTART)
    cfg.merge_from_dict(OPTIONS)
    for name in ("train", "val", "test"):
        cfg[f"{name}_dataloader"].dataset.data_root = str(data_root or folder / "data")
    cfg.train_dataloader.dataset.pipeline.insert(-1, {"type": "RandomFlip", "prob": 0.5})
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    cfg.work_dir = str(folder / "work")
    # mmengine keeps its loggers by this name and the second
    cfg.experiment_name = uuid.uuid4().hex
    return cfg


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """Where the scenes are written, once for all tests of a folder."""
    return tmp_path_factory.mktemp("digits")


@pytest.fixture
def free_port() -> str:
    """Where processes can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads on a busy machine take longer than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses(runner) -> list[float]:
    """Return the loss of every iteration of a training, of those before it was resumed too."""
    return runner.message_hub.log_scalars["train/loss"].data[0].tolist()


@pytest.fixture(autouse=True)
def text_of_config_once(monkeypatch):
    """mmengine formats the whole config for every checkpoint, which takes longer than a tiny training."""
    formatted = {}
    pretty_text = Config.pretty_text.fget

    def cached(self):
        key = repr(self._cfg_dict)
        if key not in formatted:
            formatted[key] = pretty_text(self)
        return formatted[key]

    monkeypatch.setattr(Config, "pretty_text", property(cached))


@pytest.fixture(autouse=True)
def no_default_scope_left():
    """A runner or a detector sets the default scope of the whole process; other tests count on there being none."""
    yield
    DefaultScope._instance_dict.clear()
