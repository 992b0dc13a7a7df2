"""Faults of the config: of learning rate, schedule, weights, metrics and keys."""

import pytest
from mmengine.runner import Runner

from densehead.analysis.doctor.parts import Split
from densehead.analysis.doctor.progress import silent
from densehead.analysis.doctor.schedule import Plan
from densehead.registry import DATASETS

LR = "optim_wrapper.optimizer.lr"
FAULTS = [
    ({"lr-unusual": "WARNING"}, {LR: 0.2}),
    ({"lr-unusual": "WARNING"}, {LR: 1e-7}),
    ({"lr-unusual": "WARNING"}, {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.02, "_delete_": True}}}),
    ({}, {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.002, "_delete_": True}}}),
    ({"lr-batch": "WARNING"}, {"auto_scale_lr": {"base_batch_size": 16}}),
    ({}, {"auto_scale_lr": {"base_batch_size": 16, "enable": True}}),
    ({}, {"auto_scale_lr": {"base_batch_size": 16}, "optim_wrapper.accumulative_counts": 8}),
    ({"no-step": "ERROR"}, {"train_dataloader.batch_size": 25, "train_dataloader.drop_last": True}),
    ({"few-steps": "WARNING", "milestone-late": "WARNING"}, {"train_cfg.max_epochs": 20}),
    ({"warmup-long": "ERROR"}, {"param_scheduler.0.end": 480}),
    ({"warmup-long": "ERROR"}, {"param_scheduler.0.by_epoch": True, "param_scheduler.0.end": 50}),
    ({"warmup-long": "WARNING"}, {"param_scheduler.0.end": 240}),
    ({"milestone-late": "WARNING"}, {"param_scheduler.1.milestones": [26, 40]}),
    ({"schedule-end": "WARNING"}, {"param_scheduler.1": {"type": "CosineAnnealingLR", "begin": 0, "end": 30}}),
    ({"schedule-end": "WARNING"}, {"param_scheduler.1": {"type": "CosineAnnealingLR", "T_max": 60}}),
    ({}, {"param_scheduler.1": {"type": "CosineAnnealingLR", "begin": 0, "end": 40, "T_max": 40}}),
    ({}, {"param_scheduler.1": {"type": "CosineAnnealingLR", "begin": 240, "end": 480, "by_epoch": False}}),
    (
        {"schedule-unit": "ERROR"},
        {"train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 480, "_delete_": True}},
    ),
    ({"never-validated": "WARNING"}, {"train_cfg.val_begin": 41}),
    ({"frozen-random": "ERROR"}, {"model.backbone.frozen_stages": 1}),
    ({"frozen-random": "WARNING"}, {"model.backbone.norm_eval": True}),
    ({"checkpoint-missing": "ERROR"}, {"load_from": "nothing.pth"}),
    (
        {"checkpoint-missing": "ERROR"},
        {"model.backbone.init_cfg": {"type": "Pretrained", "checkpoint": "nothing.pth"}},
    ),
    ({"evaluator-file": "ERROR"}, {"val_evaluator.ann_file": "nothing.json"}),
    ({"config": "ERROR"}, {"model.bbox_head.stackd_convs": 2}),
    ({"config": "ERROR"}, {"optim_wrapper.optimizer.lrr": 2}),
    ({"config": "ERROR"}, {"train_dataloader.dataset.pipeline.0.colour": "x"}),
    ({"config": "ERROR"}, {"train_dataloader.dataset.filter_cfg": {"min_sice": 3}}),
]


def merge(cfg, changes):
    """Change a config; a dict takes the place of what was there."""
    for key, value in changes.items():
        if isinstance(value, dict) and key.startswith("param_scheduler"):
            cfg.param_scheduler[int(key[-1])] = value
        else:
            cfg.merge_from_dict({key: value})


@pytest.mark.parametrize(("expected", "changes"), FAULTS)
def test_planted_in_the_config(coco, look, expected, changes):
    merge(coco.cfg, changes)
    found = look(coco)
    assert {check: one.severity.name for (check, _), one in found.items()} == expected


def test_what_is_said_names_key_and_numbers(coco, look):
    merge(coco.cfg, {"auto_scale_lr": {"base_batch_size": 16}, "model.bbox_head.stackd_convs": 2})
    found = look(coco, gpus=4)
    assert found["lr-batch", ""].what == (
        "the learning rate 0.002 is for 16 images a step, but a step has 8; in proportion it were 0.001"
    )
    text = str(found["config", ""].examples[0])
    assert text.startswith(
        "model: model.bbox_head.stackd_convs: FCOSHead has no such key. Did you mean 'stacked_convs'"
    )


def test_a_config_without_a_part_is_looked_at_as_far_as_it_goes(coco, look):
    for key in ("optim_wrapper", "param_scheduler", "val_dataloader", "val_evaluator", "test_dataloader"):
        coco.cfg.pop(key)
    coco.image("train", 3).unlink()
    found = look(coco)
    assert set(found) == {("config", ""), ("never-validated", ""), ("image-missing", "train")}
    assert "has no optim_wrapper" in found["config", ""].examples[0].detail
    coco.cfg.pop("model")
    assert ("image-missing", "train") in look(coco)


def test_the_metric_may_compare_with_the_file_of_the_data_set(coco, look):
    coco.cfg.val_evaluator.ann_file = str(coco.ann_file("val"))
    assert not look(coco)
    coco.cfg.val_evaluator.ann_file = str(coco.ann_file("train"))
    assert "another annotation file" in look(coco)["evaluator-file", "val"].what


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(("batch_size", "images"), [(2, 24), (5, 24), (7, 20), (25, 24)])
@pytest.mark.parametrize("gpus", [1, 2])
def test_steps_are_those_of_the_data_loader(coco, drop_last, batch_size, images, gpus, monkeypatch):
    monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (0, gpus))
    cfg = coco.cfg
    cfg.train_dataloader.batch_size, cfg.train_dataloader.drop_last = batch_size, drop_last
    cfg.train_dataloader.dataset.indices = images
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    loader = Runner.build_dataloader({**cfg.train_dataloader, "dataset": dataset})
    assert Plan.of(cfg, len(loader.dataset), gpus).steps == len(loader)


WRAPPERS = [
    lambda inner: inner,
    lambda inner: {"type": "RepeatDataset", "times": 3, "dataset": inner},
    lambda inner: {"type": "ConcatDataset", "datasets": [inner, {**inner, "filter_cfg": {"filter_empty_gt": True}}]},
    lambda inner: {"type": "ClassBalancedDataset", "oversample_thr": 0.9, "dataset": inner},
    lambda inner: {
        "type": "RepeatDataset",
        "times": 2,
        "dataset": {
            "type": "ClassBalancedDataset",
            "oversample_thr": 0.7,
            "dataset": {"type": "ConcatDataset", "datasets": [inner, {**inner, "indices": 9}]},
        },
    },
    lambda inner: {**inner, "indices": [0, 3, 5]},
    lambda inner: {**inner, "indices": -4},
    lambda inner: {**inner, "filter_cfg": {"filter_empty_gt": True, "min_size": 90}},
]


def lose_objects(content, image_id):
    for one in content["annotations"]:
        if one["image_id"] == image_id:
            one["category_id"] = 9


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_an_epoch_has_the_images_of_the_data_set(scene, wrap):
    """Also where some images lost their objects, and classes are not equally frequent."""
    for index in range(0, 20, 2):  # of the cats some images
        if scene.form == "voc":
            text = scene.xml("train", index).read_text()
            scene.xml("train", index).write_text(text.replace(">cat<", ">bird<"))
        elif scene.form == "yolo":
            scene.label_file("train", index).write_text("")
        else:
            scene.edit("train", lambda content, index=index: lose_objects(content, index))
    inner = {**scene.cfg.train_dataloader.dataset.to_dict(), "pipeline": [], "serialize_data": False}
    dataset = wrap(inner)
    split = Split("train", dataset)
    split.read(silent, 1)
    assert len(split.round()) == len(DATASETS.build(dataset))


def test_bad_options(coco, look):
    with pytest.raises(ValueError, match="--gpus must be at least 1, but got 0"):
        look(coco, gpus=0)
