import argparse
import re

import pytest
import torch
from mmengine.config import Config

from densehead.apis import load_config, prepare_test, prepare_training, show_predictions
from densehead.apis.config import TEST_HOOKS, TRAINING_HOOKS, require_checkpoint
from densehead.apis.options import OptionAction
from tests.engine.tiny import QUICKSTART, ROOT, tiny_config

VOC_STYLE = ROOT / "configs" / "quickstart" / "fcos_r18_voc_style.py"


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_options_name_keys_and_variables_of_the_file():
    options = {"data_root": "/cells", "classes": ("a", "b", "c"), "scale": (64, 48), "train_dataloader.num_workers": 0}
    cfg = load_config(VOC_STYLE, options)
    assert cfg.model.bbox_head.num_classes == 3
    for name in ("train", "val", "test"):
        dataset = cfg[f"{name}_dataloader"].dataset
        assert (dataset.data_root, dataset.metainfo.classes) == ("/cells", ("a", "b", "c"))
        assert next(step for step in dataset.pipeline if step.type == "Resize").scale == (64, 48)
    assert cfg.train_dataloader.num_workers == 0
    assert cfg.model.type == "FCOS"  # from its base, which is found from elsewhere
    assert cfg.filename == str(VOC_STYLE)
    assert len(options) == 4


def test_without_options_the_file_is_read_as_it_is():
    assert load_config(VOC_STYLE).to_dict() == Config.fromfile(VOC_STYLE).to_dict()
    usual = Config.fromfile(VOC_STYLE).to_dict()
    assert load_config(VOC_STYLE, {"max_epochs": usual["max_epochs"]}).to_dict() == usual


def test_bases_in_lists_and_templates(write):
    write("lr = 1\nsteps = [1, 2]", "base.py")
    path = write('_base_ = ["./base.py"]\nfirst = 3\nsecond = [first, {{_base_.lr}}]')
    assert load_config(path, {"first": 5}).second == [5, 1]


def test_variables_of_bases():
    path = ROOT / "configs" / "fcos" / "fcos_r50-caffe_fpn_gn-head-center_1x_coco.py"
    backends = [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]
    cfg = load_config(path, {"data_root": "/coco/", "vis_backends": backends})
    assert cfg.train_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == "/coco/"
    assert cfg.test_evaluator.ann_file == "/coco/annotations/instances_val2017.json"
    assert cfg.visualizer.vis_backends == backends
    assert cfg.model.bbox_head.center_sampling
    assert cfg.filename == str(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=('traffic light','car')", ("traffic light", "car")),
        (
            "a=[dict(type='EMAHook', momentum=0.1), dict(b=[1, dict(c=None)])]",
            [{"type": "EMAHook", "momentum": 0.1}, {"b": [1, {"c": None}]}],
        ),
        ("a={'b': True}", {"b": True}),
        ("a=1,2", [1, 2]),
        ("a=(8,16)", (8, 16)),
        ("a=1e-3", 0.001),
        ("a=data/it's=here", "data/it's=here"),
        ("a=dict(b=open('x'))", "dict(b=open('x'))"),
        ("a=None", None),
    ],
)
def test_values_of_options(text, value):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=OptionAction)
    assert parser.parse_args(["--cfg-options", text, "c=2", "--cfg-options", "d=3"]).cfg_options == {
        "a": value,
        "c": 2,
        "d": 3,
    }


def test_option_without_a_value(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=OptionAction)
    with pytest.raises(SystemExit):
        parser.parse_args(["--cfg-options", "max_epochs"])
    assert "--cfg-options takes KEY=VALUE, but got 'max_epochs'" in capsys.readouterr().err


def test_dict_variables_are_merged(write):
    cfg = load_config(write("model = dict(type='A', depth=1)"), {"model": {"depth": 2}, "model.width": 3})
    assert cfg.model == {"type": "A", "depth": 2, "width": 3}


def test_no_such_file(tmp_path, write):
    write("", "fcos_r18.py")
    with pytest.raises(
        FileNotFoundError, match=r"there is no config file .*fcos_r81\.py\. Did you mean 'fcos_r18\.py'"
    ):
        load_config(tmp_path / "fcos_r81.py")
    with pytest.raises(FileNotFoundError, match="there is no config file"):
        load_config(tmp_path / "nowhere" / "mine.py")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("model = dict(type='FCOS'", r"mine\.py cannot be read as a config: SyntaxError"),
        ("model = dict(type=FCOS)", r"mine\.py cannot be read as a config: NameError: name 'FCOS' is not defined"),
    ],
)
def test_file_that_is_no_config(write, text, match):
    with pytest.raises(ValueError, match=match):
        load_config(write(text))


def test_missing_base_is_named(write):
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        load_config(write("_base_ = './gone.py'"))


def test_option_that_no_one_reads(write):
    path = write("max_epochs = 3")
    with pytest.raises(
        ValueError, match=r"--cfg-options max_epoch: mine\.py has no key .* Did you mean 'max_epochs'\?"
    ):
        load_config(path, {"max_epoch": 5})
    assert load_config(path, {"randomness.seed": 5}).randomness.seed == 5


def test_prepare_training(tmp_path):
    cfg = prepare_training(tiny_config(tmp_path), amp=True, work_dir=str(tmp_path / "other"))
    assert cfg.work_dir == str(tmp_path / "other")
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ("AmpOptimWrapper", "dynamic")
    assert set(TRAINING_HOOKS) <= set(cfg.default_hooks)
    assert cfg.default_hooks.checkpoint.backend_args == {"backend": "densehead_atomic"}
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 3
    assert not cfg.resume


def test_work_dir_is_named_after_the_config():
    assert prepare_training(load_config(QUICKSTART)).work_dir == "work_dirs/fcos_r18_digits"


def test_hooks_of_the_config_count():
    cfg = load_config(QUICKSTART, {"default_hooks.summary": None, "default_hooks.timer": None})
    cfg.default_hooks.checkpoint = {"type": "CheckpointHook", "save_best": None, "out_dir": "s3://bucket"}
    hooks = prepare_training(cfg).default_hooks
    assert "summary" not in hooks
    assert hooks.timer is None  # mmengine's own, which it takes out
    assert hooks.checkpoint == {"type": "CheckpointHook", "save_best": None, "out_dir": "s3://bucket"}


def test_config_without_hooks():
    cfg = prepare_training(Config({"val_evaluator": {"type": "CocoMetric"}, "model": {}}))
    assert cfg.default_hooks.checkpoint.save_best == "auto"
    assert cfg.work_dir == "work_dirs/run"


def test_auto_scale_lr(tmp_path):
    cfg = tiny_config(tmp_path)
    with pytest.raises(ValueError, match=r"--auto-scale-lr needs auto_scale_lr=dict\(base_batch_size="):
        prepare_training(cfg, auto_scale_lr=True)
    cfg.auto_scale_lr = {"base_batch_size": 16}
    assert prepare_training(cfg, auto_scale_lr=True).auto_scale_lr.enable


def test_resume(tmp_path):
    cfg = prepare_training(tiny_config(tmp_path), resume="auto")
    assert (cfg.resume, cfg.load_from) == (False, None)
    checkpoint = tmp_path / "work" / "epoch_3.pth"
    checkpoint.parent.mkdir()
    torch.save({}, checkpoint)
    cfg = prepare_training(tiny_config(tmp_path), resume="auto")
    assert (cfg.resume, cfg.load_from) == (True, str(checkpoint))
    with pytest.raises(FileNotFoundError, match=r"--resume: there is no checkpoint .*epoch_4.pth; in .*epoch_3.pth"):
        prepare_training(tiny_config(tmp_path), resume=str(checkpoint.with_name("epoch_4.pth")))
    with pytest.raises(FileNotFoundError, match=r"load_from: there is no checkpoint nothing.pth"):
        prepare_training(tiny_config(tmp_path, load_from="nothing.pth"))


def test_addresses_are_no_files():
    require_checkpoint("https://example.org/weights.pth", "load_from")
    require_checkpoint(None, "load_from")


def test_prepare_test(tmp_path):
    checkpoint = tmp_path / "epoch_1.pth"
    with pytest.raises(FileNotFoundError, match=re.escape(f"the checkpoint: there is no checkpoint {checkpoint}")):
        prepare_test(tiny_config(tmp_path), str(checkpoint))
    checkpoint.write_bytes(b"")
    cfg = prepare_test(tiny_config(tmp_path), str(checkpoint))
    assert cfg.load_from == str(checkpoint)
    hook = show_predictions(cfg, show=True, show_dir="pictures", wait_time=1).default_hooks.visualization
    assert (hook.type, hook.draw, hook.show, hook.wait_time) == ("DetVisualizationHook", True, True, 1)
    assert hook.test_out_dir == "pictures"


def test_prepare_test_of_a_config_without_hooks(tmp_path):
    checkpoint = tmp_path / "epoch_1.pth"
    checkpoint.write_bytes(b"")
    cfg = prepare_test(Config({"model": {}}), str(checkpoint))
    assert set(cfg.default_hooks) == set(TEST_HOOKS)
    assert show_predictions(cfg).default_hooks.visualization.type == "densehead.DetVisualizationHook"


def test_tta(tmp_path):
    checkpoint = tmp_path / "epoch_1.pth"
    checkpoint.write_bytes(b"")
    cfg = prepare_test(tiny_config(tmp_path), str(checkpoint), tta=True)
    assert (cfg.model.type, cfg.model.module.type) == ("densehead.DetTTAModel", "FCOS")
    step = cfg.test_dataloader.dataset.pipeline[-1]
    assert step.type == "TestTimeAug"
    assert step.transforms[1][0].meta_keys[-2:] == ("flip", "flip_direction")
    assert cfg.val_dataloader.dataset.pipeline[-1].type == "PackDetInputs"


def test_workers_that_cannot_persist(tmp_path):
    cfg = tiny_config(tmp_path, train_dataloader__persistent_workers=True, val_dataloader__num_workers=1)
    cfg.val_dataloader.persistent_workers = True
    cfg = prepare_training(cfg)
    assert "persistent_workers" not in cfg.train_dataloader
    assert cfg.val_dataloader.persistent_workers


def test_processes_send_batches_in_one_piece_unless_told_otherwise(tmp_path):
    cfg = tiny_config(tmp_path, train_dataloader__num_workers=1, val_dataloader__num_workers=1)
    cfg.val_dataloader.collate_fn = dict(type="pseudo_collate")
    cfg = prepare_training(cfg)
    assert cfg.train_dataloader.collate_fn.type == "densehead.packed_collate"
    assert cfg.val_dataloader.collate_fn.type == "pseudo_collate"
    assert "collate_fn" not in cfg.test_dataloader


@pytest.mark.parametrize("has_gpu", [False, True])
def test_memory_is_pinned_for_gpus_only(tmp_path, monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    cfg = prepare_training(tiny_config(tmp_path, train_dataloader__pin_memory=True))
    assert cfg.train_dataloader.get("pin_memory", False) == has_gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs mmengine's own wrapper is right")
def test_several_processes_without_gpus(tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.launcher = "pytorch"
    assert prepare_training(cfg).model_wrapper_cfg.device_ids is None
