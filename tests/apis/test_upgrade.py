import copy
import os
import re

import pytest
import torch
from mmengine.config import Config

from densehead.apis import (
    build_runner,
    evaluate,
    init_detector,
    load_config,
    prepare_test,
    prepare_training,
    train,
)
from densehead.apis.upgrade import OldSpellingError, check_spelling, upgrade_config, upgrade_file
from densehead.apis.writing import Code, as_text, in_one_line
from densehead.registry import MODELS
from tests.apis.old import FOLDER, HEADS, read, write_data
from tests.engine.tiny import ROOT


def upgraded(name):
    return upgrade_config(read(name))


def written(name, folder, **options):
    """Upgrade a config in a file; return how it is read again."""
    report = upgrade_file(FOLDER / f"{name}.py", folder / "new.py", **options)
    return load_config(folder / "new.py"), report


def transforms(pipeline):
    return [one["type"] for one in pipeline]


# ---- recognised ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_the_error_says_what_to_write(name):
    with pytest.raises(OldSpellingError) as caught:
        load_config(FOLDER / f"{name}.py")
    text = str(caught.value)
    assert text.startswith(f"{FOLDER / name}.py is written for mmdetection 2.x. What to write today:\n")
    assert text.endswith(f"python tools/upgrade_config.py {FOLDER / name}.py NEW.py")
    for old in ("optimizer  ->  optim_wrapper = dict(type=", "MultiScaleFlipAug", "data.samples_per_gpu"):
        assert old in text


def test_every_key_of_the_example_is_named():
    with pytest.raises(OldSpellingError) as caught:
        load_config(FOLDER / "fcos.py")
    for line in (
        'data.train.img_prefix  ->  train_dataloader.dataset.data_prefix = dict(img="train2017/")',
        'Resize  ->  dict(type="RandomChoiceResize", scales=[(1333, 640), (1333, 800)], keep_ratio=True)',
        'RandomFlip  ->  dict(type="RandomFlip", prob=0.5)',
        "mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)",
        'model.pretrained  ->  model.backbone.init_cfg = dict(type="Pretrained", checkpoint="open-mmlab://',
        "test_cfg (outside of the model)  ->  model.test_cfg = dict(nms_pre=1000",
        "model.test_cfg.nms.iou_thr  ->  model.test_cfg.nms.iou_threshold = 0.5",
        'model.neck.extra_convs_on_inputs  ->  model.neck = dict(add_extra_convs="on_output")',
        "optimizer_config.grad_clip  ->  optim_wrapper.clip_grad = dict(max_norm=35, norm_type=2)",
        "optimizer.paramwise_cfg  ->  optim_wrapper.paramwise_cfg",
        'runner  ->  train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=24)',
        "total_epochs  ->  train_cfg = dict(max_epochs=24)",
        'lr_config  ->  an entry of param_scheduler: dict(type="ConstantLR", factor=0.33',
        'lr_config  ->  an entry of param_scheduler: dict(type="MultiStepLR", milestones=[16, 22], gamma=0.1, by_e',
        'checkpoint_config  ->  default_hooks.checkpoint = dict(type="CheckpointHook", interval=1)',
        'log_config.interval  ->  default_hooks.logger = dict(type="LoggerHook", interval=50)',
        'evaluation  ->  val_evaluator = dict(type="CocoMetric", metric="bbox", ann_file="data/coco/annotations/ins',
        "evaluation.interval  ->  train_cfg.val_interval = 1",
        'dist_params  ->  env_cfg.dist_cfg = dict(backend="nccl")',
        "workflow  ->  is not needed",
        "img_norm_cfg  ->  is not needed",
        "model.train_cfg.assigner  ->  leave it out: mmdetection's FCOSHead never built this assigner",
    ):
        assert line in str(caught.value)


def test_every_way_in(tmp_path):
    cfg = read("atss")
    for call in (
        lambda: prepare_training(copy.deepcopy(cfg)),
        lambda: prepare_test(copy.deepcopy(cfg), "none.pth"),
        lambda: train(cfg),
        lambda: evaluate(cfg),
        lambda: init_detector(cfg),
        lambda: init_detector(FOLDER / "atss.py"),
        lambda: check_spelling(cfg.to_dict()),
    ):
        with pytest.raises(OldSpellingError, match=r"is written for mmdetection 2\.x"):
            call()


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/*/*_*.py")), ids=lambda file: file.stem)
def test_configs_of_today_pass(file):
    check_spelling(Config.fromfile(file))


@pytest.mark.parametrize(
    "more",
    [
        "optimizer = dict(type='SGD', lr=0.1)\noptim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)",
        "total_epochs = 3\ntrain_cfg = dict(type='EpochBasedTrainLoop', max_epochs=total_epochs)",
        "img_norm_cfg = dict(mean=[1])\nworkflow = [('train', 1)]\ndist_params = dict(backend='nccl')",
        "model = dict(backbone=dict(type='TIMMBackbone', pretrained=True))",
        "train_dataloader = dict(dataset=dict(pipeline=[dict(type='Mosaic', img_scale=(640, 640))]))",
        "find_unused_parameters = True\ntest_cfg = dict(type='TestLoop', fp16=True)\nval_cfg = dict()",
        "train_cfg = dict(type='MyLoop', alpha=1)\ndata = 'data/cells'",
    ],
)
def test_variables_and_keys_of_today_are_no_reason(more):
    check_spelling(Config.fromstring(more, ".py"))


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("optimizer = dict(lr=0.01)", r"optimizer  ->  optim_wrapper = .*optimizer=dict\(lr=0\.01\)"),
        ("total_epochs = 3", r"total_epochs  ->  train_cfg = dict\(max_epochs=3\)"),
        ("lr_config = dict(step=[3])", r"MultiStepLR\", milestones=\[3\]"),
        ("test_cfg = dict(score_thr=0.3)", r"test_cfg .*  ->  model\.test_cfg = dict\(.*score_thr=0\.3"),
        ("model = dict(pretrained='torchvision://resnet18')", r"model\.pretrained  ->  model\.backbone\.init_cfg"),
        ("fp16 = dict(loss_scale='dynamic')", r"fp16  ->  optim_wrapper = dict\(type=\"AmpOptimWrapper\", loss_s"),
        ("data = dict(samples_per_gpu=3)", r"data\.samples_per_gpu.*  ->  train_dataloader = dict\(batch_size=3\)"),
    ],
)
def test_one_key_of_old_upon_bases_of_today(tmp_path, more, match):
    """A config of 2.x that is put beside today's bases says what differs from them, in vain until it is translated."""
    base = ROOT / "configs" / "atss" / "atss_r50_fpn_1x_coco.py"
    (tmp_path / "mine.py").write_text(f"_base_ = {str(base)!r}\n{more}\n")
    with pytest.raises(OldSpellingError, match=match):
        load_config(tmp_path / "mine.py")


def test_old_upon_today_keeps_the_rest(tmp_path):
    base = ROOT / "configs" / "atss" / "atss_r50_fpn_1x_coco.py"
    old = "optimizer = dict(lr=0.5)\ndata = dict(samples_per_gpu=3, train=dict(img_prefix='elsewhere/'))"
    (tmp_path / "mine.py").write_text(f"_base_ = {str(base)!r}\n{old}\nlr_config = dict(step=[3])\n")
    new, _ = upgrade_config(Config.fromfile(tmp_path / "mine.py"))
    today = Config.fromfile(base)
    today.optim_wrapper.optimizer.lr = 0.5
    today.train_dataloader.batch_size = 3
    today.train_dataloader.dataset.data_prefix.img = "elsewhere/"
    today.param_scheduler = [dict(type="MultiStepLR", milestones=[3], gamma=0.1, by_epoch=True, begin=0, end=12)]
    assert new == {key: value for key, value in today.to_dict().items() if key in new}


# ---- translated ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_what_is_written_is_what_was_translated(name, tmp_path):
    cfg, report = written(name, tmp_path)
    new, same = upgraded(name)
    assert same == report
    sections = {key: value for key, value in cfg.to_dict().items() if key in new}
    assert sections == new
    assert set(cfg) - set(new) <= {"data_root", "train_pipeline", "test_pipeline"}
    text = (tmp_path / "new.py").read_text()
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("#")))) <= 120
    again, nothing = upgrade_config(cfg)
    assert (again, nothing.changes, nothing.spelled_old) == (new, [], False)


def test_fcos():
    new, report = upgraded("fcos")
    model = new["model"]
    assert "train_cfg" not in model
    assert model["test_cfg"]["nms"] == {"type": "nms", "iou_threshold": 0.5}
    assert model["neck"]["add_extra_convs"] == "on_output"
    assert list(model)[:2] == ["type", "data_preprocessor"]
    assert model["data_preprocessor"] == {
        "type": "DetDataPreprocessor",
        "mean": [102.9801, 115.9465, 122.7717],
        "std": [1.0, 1.0, 1.0],
        "bgr_to_rgb": False,
        "pad_size_divisor": 32,
    }
    assert new["train_dataloader"]["batch_size"] == 4
    assert new["val_dataloader"]["batch_size"] == 1
    assert new["train_dataloader"]["dataset"]["data_root"] == "data/coco/"
    test = ["LoadImageFromFile", "Resize", "LoadAnnotations", "PackDetInputs"]
    assert transforms(new["test_dataloader"]["dataset"]["pipeline"]) == test
    assert new["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 24, "val_interval": 1}
    assert new["optim_wrapper"] == {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001},
        "paramwise_cfg": {"bias_lr_mult": 2.0, "bias_decay_mult": 0.0},
        "clip_grad": {"max_norm": 35, "norm_type": 2},
    }
    assert not report.remarks


def test_atss():
    new, report = upgraded("atss")
    assert new["optim_wrapper"]["type"] == "AmpOptimWrapper"
    assert new["optim_wrapper"]["loss_scale"] == {"init_scale": 512}
    assert new["param_scheduler"] == [
        {
            "type": "CosineAnnealingLR",
            "T_max": 12,
            "eta_min_ratio": 0.01,
            "by_epoch": True,
            "begin": 0,
            "end": 12,
            "convert_to_iter_based": True,
        }
    ]
    loader = new["train_dataloader"]
    assert (loader["batch_size"], loader["num_workers"], loader["persistent_workers"]) == (8, 2, False)
    assert (new["val_dataloader"]["batch_size"], new["val_dataloader"]["num_workers"]) == (4, 1)
    assert (loader["dataset"]["type"], loader["dataset"]["times"]) == ("RepeatDataset", 4)
    dataset = loader["dataset"]["dataset"]
    assert dataset["filter_cfg"] == {"filter_empty_gt": False, "min_size": 32}
    assert dataset["pipeline"][2] == {
        "type": "RandomResize",
        "scale": (640, 640),
        "ratio_range": (0.1, 2.0),
        "keep_ratio": True,
    }
    assert dataset["pipeline"][3]["crop_size"] == (640, 480)
    fixed = new["model"]["data_preprocessor"]["batch_augments"]
    assert fixed == [{"type": "BatchFixedSizePad", "size": (480, 640), "img_pad_value": 0}]
    assert new["model"]["data_preprocessor"]["pad_size_divisor"] == 32  # as the test pads
    hooks = new["default_hooks"]
    best = {"save_best": "coco/bbox_mAP", "interval": 5, "max_keep_ckpts": 2, "type": "CheckpointHook"}
    assert hooks["checkpoint"] == best
    assert new["train_cfg"]["dynamic_intervals"] == [(10, 1)]
    assert new["val_evaluator"]["classwise"]
    average = {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.0001, "gamma": 2000, "priority": 49}
    assert new["custom_hooks"] == [average]
    backends = [{"type": "LocalVisBackend"}, {"type": "WandbVisBackend", "init_kwargs": {"project": "heads"}}]
    assert new["visualizer"]["vis_backends"] == backends
    assert not report.remarks


def test_gfl_on_voc():
    new, report = upgraded("gfl")
    joined = new["train_dataloader"]["dataset"]["dataset"]
    assert (joined["type"], joined["ignore_keys"]) == ("ConcatDataset", ["dataset_type"])
    files = [(one["data_root"], one["ann_file"], one["data_prefix"]) for one in joined["datasets"]]
    assert files == [
        ("data/VOCdevkit/", f"VOC{year}/ImageSets/Main/trainval.txt", {"sub_data_root": f"VOC{year}/"})
        for year in (2007, 2012)
    ]
    assert joined["datasets"][0]["filter_cfg"]["bbox_min_size"] == 8
    steps = joined["datasets"][0]["pipeline"]
    assert steps[2] == {"type": "RandomResize", "scale": [(1000, 480), (1000, 600)], "keep_ratio": True}
    assert steps[3] == {"type": "RandomFlip", "prob": [0.3, 0.2], "direction": ["horizontal", "vertical"]}
    assert "img_path" in steps[-1]["meta_keys"]
    assert "pad_shape" not in steps[-1]["meta_keys"]
    assert new["val_evaluator"] == {"type": "VOCMetric", "metric": "mAP", "eval_mode": "11points"}
    assert new["default_hooks"]["checkpoint"]["save_best"] == "pascal_voc/mAP"
    assert new["param_scheduler"] == [
        {"type": "StepLR", "step_size": 3, "gamma": 0.1, "by_epoch": True, "begin": 0, "end": 4}
    ]
    scales, flips, *_ = new["tta_pipeline"][1]["transforms"]
    assert [one["scale"] for one in scales] == [(1000, 600), (800, 480)]
    assert [one["prob"] for one in flips] == [0.0, 1.0]
    assert new["tta_model"]["tta_cfg"]["nms"]["iou_threshold"] == 0.6
    assert [key for key, _ in report.remarks] == ["data.test.pipeline MultiScaleFlipAug"]


def test_vfnet_by_iterations():
    new, report = upgraded("vfnet")
    assert new["model"]["backbone"]["init_cfg"] == {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}
    joined = new["train_dataloader"]["dataset"]
    assert [one["ann_file"] for one in joined["datasets"]] == ["first.json", "second.json"]
    assert joined["datasets"][0]["metainfo"] == {"classes": ("cell", "platelet")}
    assert joined["datasets"][0]["data_root"] == "data/cells"
    choice = joined["datasets"][0]["pipeline"][3]
    assert choice["type"] == "RandomChoice"
    assert transforms(choice["transforms"][1]) == ["Resize", "RandomCrop"]
    assert choice["transforms"][1][1]["crop_size"] == (256, 320)  # a range has no order to turn
    assert new["train_dataloader"]["sampler"] == {"type": "InfiniteSampler", "shuffle": True}
    assert new["train_dataloader"]["persistent_workers"]
    assert new["train_cfg"] == {
        "type": "IterBasedTrainLoop",
        "max_iters": 1000,
        "val_interval": 100,
        "val_begin": 200,
    }
    assert new["log_processor"] == {"type": "LogProcessor", "by_epoch": False}
    warmup, poly = new["param_scheduler"]
    assert warmup == {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 10}
    assert poly == {
        "type": "PolyLR",
        "power": 0.9,
        "eta_min": 1e-6,
        "by_epoch": False,
        "begin": 0,
        "end": 1000,
    }
    assert new["optim_wrapper"]["accumulative_counts"] == 4
    assert new["optim_wrapper"]["constructor"] == "DefaultOptimWrapperConstructor"
    assert new["val_evaluator"]["ann_file"] == "data/cells/val.json"
    assert new["randomness"] == {"seed": 3, "deterministic": True}
    assert new["env_cfg"]["cudnn_benchmark"]
    assert new["find_unused_parameters"]
    assert (new["load_from"], new["resume"]) == ("work_dirs/vfnet/latest.pth", True)
    keys = [key for key, _ in report.remarks]
    assert keys == ["lr_config.warmup", "resume_from", "workflow", "part"]


def test_what_has_no_counterpart_is_said(tmp_path):
    cfg, report = written("paa", tmp_path)
    expected = {
        "data.train.classes": "there is no file nowhere/classes.txt",
        "data.train.proposal_file": "left out",
        "data.shuffle_seed": "left out",
        "data.test.pipeline": "pad_size_divisor is 64 there, but 32 is taken for all",
        "evaluation.metric": "no 'segm'",
        "optimizer_config.unknown_switch": "left out",
        "momentum_config": "by hand",
        "lr_config.min_momentum": "left out",
        "log_config.hooks PaviLoggerHook": "left out",
        "custom_hooks SyncNormHook": "there is no such hook; it is kept as it is",
        "custom_hooks EMAHook.warm_up": "begin_iter is the nearest",
    }
    text = (tmp_path / "new.py").read_text()
    for key, part in expected.items():
        remarks = [one for name, one in report.remarks if name == key]
        assert any(part in one for one in remarks), key
        assert all(f"# - {key}: {one}\n" in text for one in remarks)
    assert {key for key, _ in report.remarks} == set(expected)
    assert "background_label" not in cfg.model.bbox_head
    assert cfg.model.train_cfg.assigner.type == "MaxIoUAssigner"  # which PAA did use
    assert cfg.param_scheduler[0].type == "CosineRestartLR"


def test_autoassign():
    new, report = upgraded("autoassign")
    assert new["model"]["train_cfg"] is None
    assert new["model"]["neck"]["add_extra_convs"] == "on_input"
    assert new["param_scheduler"] == [
        {"type": "LinearLR", "start_factor": 0.001, "by_epoch": True, "begin": 0, "end": 1}
    ]
    assert new["train_cfg"]["max_epochs"] == 12
    assert not report.remarks


def test_a_file_of_class_names(tmp_path):
    (tmp_path / "classes.txt").write_text("traffic light\ncar\n")
    cfg = read("paa")
    cfg.data.train.classes = str(tmp_path / "classes.txt")
    new, _ = upgrade_config(cfg)
    assert new["train_dataloader"]["dataset"]["metainfo"] == {"classes": ("traffic light", "car")}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (dict(policy="exp", gamma=0.9), {"type": "ExponentialLR", "gamma": 0.9, "by_epoch": True}),
        (dict(policy="step", step=[9000], by_epoch=False), {"type": "MultiStepLR", "by_epoch": False}),
        (dict(policy="CosineAnnealing", min_lr=0), {"type": "CosineAnnealingLR", "T_max": 12, "eta_min": 0}),
    ],
)
def test_learning_rates(policy, expected):
    cfg = read("atss")
    cfg.lr_config = policy
    (scheduler,) = upgrade_config(cfg)[0]["param_scheduler"]
    assert expected.items() <= scheduler.items()
    assert ("end" in scheduler) == expected.get("by_epoch", True)


def test_a_learning_rate_that_is_not_translated():
    cfg = read("atss")
    cfg.lr_config = dict(policy="OneCycle", max_lr=0.1)
    new, report = upgrade_config(cfg)
    assert new["param_scheduler"] == []
    assert report.remarks == [("lr_config.policy", "'OneCycle' is not translated: write param_scheduler by hand")]


def test_neither_old_nor_new():
    cfg = read("atss")
    del cfg.lr_config["policy"]
    cfg.lr_config = dict(policy="step")
    with pytest.raises(ValueError, match=r"neither one of today nor as mmdetection 2\.x wants it: KeyError\('step'\)"):
        upgrade_config(cfg)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_files_are_not_lost(tmp_path):
    old, new = FOLDER / "gfl.py", tmp_path / "deep" / "new.py"
    upgrade_file(old, new)
    before = new.read_text()
    new.write_text("mine")
    with pytest.raises(ValueError, match=r"new\.py is there already: give another name, or --force"):
        upgrade_file(old, new)
    assert new.read_text() == "mine"
    upgrade_file(old, new, force=True)
    assert new.read_text() == before
    with pytest.raises(ValueError, match=r"gfl\.py is there already: give another name$"):
        upgrade_file(old, old, force=True)
    with pytest.raises(ValueError, match=r"must end with \.py, but got .*new\.json"):
        upgrade_file(old, tmp_path / "new.json")
    with pytest.raises(ValueError, match=r"new\.py is not written for mmdetection 2\.x: there is nothing to upgrade"):
        upgrade_file(new, tmp_path / "newer.py")
    with pytest.raises(FileNotFoundError, match=r"there is no config file .*none\.py"):
        upgrade_file(tmp_path / "none.py", tmp_path / "newer.py")
    (tmp_path / "broken.py").write_text("data = dict(")
    with pytest.raises(ValueError, match=r"broken\.py cannot be read as a config: SyntaxError"):
        upgrade_file(tmp_path / "broken.py", tmp_path / "newer.py")
    (tmp_path / "objects.py").write_text("optimizer = dict(type='SGD', lr=range(3))")
    with pytest.raises(ValueError, match=r"objects\.py: a config cannot hold range\(0, 3\) \(range\): it has no text"):
        upgrade_file(tmp_path / "objects.py", tmp_path / "newer.py")
    (tmp_path / "orphan.py").write_text("_base_ = 'gone.py'")
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        upgrade_file(tmp_path / "orphan.py", tmp_path / "newer.py")


def test_options_still_name_the_data(tmp_path):
    upgrade_file(FOLDER / "gfl.py", tmp_path / "new.py")
    cfg = load_config(tmp_path / "new.py", {"data_root": "/voc/"})
    assert (
        cfg.train_dataloader.dataset.dataset.datasets[1].data_root == cfg.test_dataloader.dataset.data_root == "/voc/"
    )
    upgrade_file(FOLDER / "fcos.py", tmp_path / "new.py", force=True)
    cfg = load_config(tmp_path / "new.py", {"data_root": "/coco/"})
    assert cfg.val_evaluator.ann_file == "/coco/annotations/instances_val2017.json"


@pytest.mark.parametrize(
    "value",
    [
        {"type": "A", "a": (1,), "b": [1.5, -2, 1e-6], "c": None, "d": True, "e": "it's"},
        {"not a name": 1, 3: "x"},
        {"class": 1},
        [{"type": "B" * 100, "long": list(range(60))}],
        {"q": 'say "so"', "n": "a\nb", "u": "ä"},
        [],
        {},
        (),
    ],
)
def test_text_of_values(value):
    text = as_text(value)
    assert eval(text) == value
    assert eval(in_one_line(value, 10**6)) == value
    assert "\n" not in in_one_line(value)


def test_text_of_numbers_and_code():
    assert as_text([float("inf"), Code("a + b")]) == '[float("inf"), a + b]'
    assert in_one_line(list(range(100)), 20) == "[0, 1, 2, 3, 4,  ..." or len(in_one_line(list(range(100)), 20)) <= 20


# ---- run -----------------------------------------------------------------------------------------------------------


SMALL = {
    "model.backbone.init_cfg": None,
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "val_dataloader.num_workers": 0,
    "test_dataloader.num_workers": 0,
    "visualizer.vis_backends": [{"type": "LocalVisBackend"}],
}


def shrink(cfg):
    """Make images and layers small, and the training short; the rest stays as it was translated."""
    cfg.merge_from_dict(SMALL)
    cfg.model.backbone.base_channels = 8
    cfg.model.backbone.norm_eval = False
    cfg.model.backbone.frozen_stages = -1
    wide = 4 if cfg.model.backbone.depth == 50 else 1
    cfg.model.neck.in_channels = [8 * wide * 2**stage for stage in range(4)]
    cfg.model.neck.out_channels = cfg.model.bbox_head.in_channels = cfg.model.bbox_head.feat_channels = 32
    cfg.model.bbox_head.stacked_convs = 1
    if cfg.model.bbox_head.get("num_classes") == 80:
        cfg.model.bbox_head.num_classes = 1
        for split in ("train", "val", "test"):
            innermost(cfg[f"{split}_dataloader"].dataset)[0].metainfo = {"classes": ("person",)}
    cfg.custom_hooks = [hook for hook in cfg.get("custom_hooks", []) if hook.type != "SyncNormHook"]
    if cfg.optim_wrapper.type == "AmpOptimWrapper":  # for which a CPU does not do
        cfg.optim_wrapper.type = "OptimWrapper"
        del cfg.optim_wrapper["loss_scale"]
    if "max_iters" in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=4, val_interval=4, val_begin=1)
        cfg.default_hooks.checkpoint.interval = 4
    else:
        cfg.train_cfg.update(max_epochs=1, val_interval=1, val_begin=1, dynamic_intervals=None)
        cfg.default_hooks.checkpoint.interval = 1
    sizes(cfg)
    cfg.load_from, cfg.resume = None, False
    return cfg


def innermost(dataset):
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset.get("datasets", [dataset])


def sizes(node):
    """Let everything that resizes make 64 pixels or so."""
    if isinstance(node, dict):
        if node.get("type") == "BatchFixedSizePad":
            node["size"] = (64, 64)
        for key in ("scale", "scales"):
            if key in node:
                many = isinstance(node[key], list)
                node[key] = [(64, 64) for _ in node[key]] if many else (64, 64)
        if node.get("type") == "RandomCrop":
            node["crop_size"] = (48, 64)
        for value in node.values():
            sizes(value)
    elif isinstance(node, list | tuple):
        for one in node:
            sizes(one)


@pytest.mark.filterwarnings("ignore:Detected call of")  # mmengine's, of gradients that are accumulated
@pytest.mark.parametrize("name", HEADS)
def test_it_builds_and_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    cfg, _ = written(name, tmp_path)
    assert MODELS.build(cfg.model).bbox_head.num_classes == cfg.model.bbox_head.num_classes
    cfg = shrink(cfg)
    cfg.experiment_name = f"upgraded_{name}"
    runner = build_runner(prepare_training(cfg, work_dir="work"))
    runner.train()
    assert torch.isfinite(torch.as_tensor(runner.message_hub.get_scalar("train/loss").current()))
    files = os.listdir("work")
    assert any(re.fullmatch(r"(epoch_1|iter_4)\.pth", file) for file in files)
