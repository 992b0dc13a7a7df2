"""From a config to scenes: images as the network saw them, and what its losses were computed on."""

import copy
import itertools

import cv2
import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from densehead.apis.analysis.assignment import collect_scenes, read_scene
from densehead.apis.analysis.columns import build_columns, needs_pairs
from densehead.apis.analysis.samples import build_dataset, load_sample
from densehead.registry import MODELS
from tests.engine.tiny import tiny_config

HEADS = ("FCOSHead", "ATSSHead", "GFLHead", "VFNetHead", "PAAHead", "AutoAssignHead", "NanoDetPlusHead")
ASSIGNERS = ("FCOSAssigner", "ATSSAssigner", "MaxIoUAssigner", "SimOTAAssigner", "TaskAlignedAssigner")
NANODET = {
    "type": "NanoDetPlus",
    "aux_head": {"type": "SimpleConvHead", "feat_channels": 16, "stacked_convs": 1, "norm_cfg": {"type": "BN"}},
    "backbone": {"type": "ShuffleNetV2", "widen_factor": 0.5, "out_indices": (0, 1, 2)},
    "neck": {"type": "GhostPAN", "in_channels": [48, 96, 192], "out_channels": 16, "num_extra_level": 0},
    "bbox_head": {
        "type": "NanoDetPlusHead",
        "num_classes": 10,
        "in_channels": 16,
        "feat_channels": 16,
        "stacked_convs": 1,
        "strides": [8, 16, 32],
    },
}


@pytest.fixture
def config(tmp_path, data_root):
    return tiny_config(tmp_path, data_root)


@pytest.fixture
def nanodet(config):
    config.model = {"data_preprocessor": config.model.data_preprocessor, **copy.deepcopy(NANODET)}
    return config


def trained(config, file, seed):
    """Write a checkpoint of weights as a training might leave them."""
    torch.manual_seed(seed)
    model = MODELS.build(config.model)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.bbox_head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.uniform_(-0.2, 0.2)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, file)
    return str(file)


def same(one, other):
    return np.array_equal(one.prior_index, other.prior_index) and np.array_equal(one.gt_index, other.gt_index)


# ---- images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("size", "bgr_to_rgb"), [(64, True), (64, False), (50, True)])
def test_images_are_those_of_the_network_without_normalisation_and_padding(config, size, bgr_to_rgb, split):
    """The network sees units of the deviation, and multiples of 32; the sheet shows the pixels of the file."""
    config.model.data_preprocessor.bgr_to_rgb = bgr_to_rgb
    config.val_dataloader.dataset.pipeline[1].scale = (size, size)
    dataset = build_dataset(config, split)
    scenes = list(collect_scenes(config, split=split, augment=False, num=2))
    for scene, index in zip(scenes, (0, 7)):
        info = dataset.get_data_info(index)
        image = cv2.cvtColor(cv2.imread(info["img_path"]), cv2.COLOR_BGR2RGB)
        resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
        assert scene.image.dtype == np.uint8
        assert np.array_equal(scene.image, resized)
        assert scene.name == info["img_path"].rpartition("/")[2]
        assert scene.class_names == tuple("0123456789")
        record = scene.records["FCOSHead"]
        assert record.boxes == pytest.approx(np.array([one["bbox"] for one in info["instances"]]) * size / 64, abs=1e-3)
        assert record.labels.tolist() == [one["bbox_label"] for one in info["instances"]]


def test_images_that_the_pipeline_normalises_are_those_of_the_files(config):
    """As mmdetection 2.x did it."""
    mean, std = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]
    (expected,) = collect_scenes(config, augment=False, indices=[2])
    config.model.data_preprocessor = {"type": "DetDataPreprocessor", "pad_size_divisor": 32}
    config.val_dataloader.dataset.pipeline.insert(-1, {"type": "Normalize", "mean": mean, "std": std, "to_rgb": True})
    (scene,) = collect_scenes(config, augment=False, indices=[2])
    assert np.array_equal(scene.image, expected.image)


def test_scenes_are_the_same_again_and_others_with_another_seed(config):
    scenes = [list(collect_scenes(config, seed=seed, heads=["PAAHead"])) for seed in (1, 1, 2)]
    for one, other in zip(*scenes[:2]):
        assert np.array_equal(one.image, other.image)
        assert same(one.records["PAAHead (untrained)"], other.records["PAAHead (untrained)"])
    assert any(not np.array_equal(one.image, other.image) for one, other in zip(*scenes[1:]))
    config.randomness = {"seed": 2}
    assert all(np.array_equal(one.image, other.image) for one, other in zip(scenes[2], collect_scenes(config)))


def test_one_image_is_loaded_at_a_time(config, monkeypatch):
    loaded = []
    path = "densehead.apis.analysis.assignment.load_sample"
    monkeypatch.setattr(path, lambda *args: (loaded.append(args[1]), load_sample(*args))[1])
    scenes = collect_scenes(config)
    assert loaded == []
    assert len(list(itertools.islice(scenes, 2))) == 2
    assert loaded == [0, 1]


# ---- heads -------------------------------------------------------------------------------------------------------


def test_seven_heads_on_one_image(config):
    columns = build_columns(config, heads=HEADS)
    sample = load_sample(build_dataset(config), 0, seed=0)
    scene = read_scene(columns, sample, "0123456789")
    assert list(scene.records) == [
        "FCOSHead",
        "ATSSHead",
        "GFLHead (IoU untrained)",
        "VFNetHead (IoU untrained)",
        "PAAHead (untrained)",
        "AutoAssignHead (untrained)",
        "NanoDetPlusHead (untrained)",
    ]
    first = scene.records["FCOSHead"]
    for column in columns:
        record = scene.records[column.title]
        index = column.head.last_assignment.gt_index[0].numpy()
        assert np.array_equal(record.prior_index, np.flatnonzero(index >= 0))
        assert np.array_equal(record.gt_index, index[index >= 0])
        assert record.weight_name == column.head.quality_name
        assert record.strides.tolist() == [8, 16, 32, 64]
        assert np.array_equal(record.boxes, first.boxes)
        assert np.isfinite(record.weight).all()
    assert same(scene.records["ATSSHead"], scene.records["GFLHead (IoU untrained)"])
    assert not same(scene.records["ATSSHead"], first)


def test_the_configs_own_head_by_name_is_the_one_without(config):
    (one,) = collect_scenes(config, indices=[0])
    (other,) = collect_scenes(config, indices=[0], heads=["FCOSHead", "FCOSHead:center_sample_radius=0.5"])
    assert list(one.records) == ["FCOSHead"]
    assert list(other.records) == ["FCOSHead", "FCOSHead:center_sample_radius=0.5"]
    assert same(one.records["FCOSHead"], other.records["FCOSHead"])
    assert len(other.records["FCOSHead:center_sample_radius=0.5"].prior_index) < len(
        one.records["FCOSHead"].prior_index
    )


def test_assigners_in_the_configs_head(config):
    (scene,) = collect_scenes(config, indices=[0], assigners=[*ASSIGNERS, "ATSSAssigner:topk=2"])
    assert list(scene.records) == [
        "FCOSAssigner",
        "ATSSAssigner",
        "MaxIoUAssigner",
        "SimOTAAssigner (untrained)",
        "TaskAlignedAssigner (untrained)",
        "ATSSAssigner:topk=2",
    ]
    counts = {title: len(record.prior_index) for title, record in scene.records.items()}
    assert counts["ATSSAssigner:topk=2"] < counts["ATSSAssigner"] < counts["MaxIoUAssigner"]


def test_nanodet_assigns_by_its_auxiliary_head(nanodet, monkeypatch):
    """Each assigner is shown what the auxiliary head puts out, and not what the head itself does."""
    columns = build_columns(nanodet, assigners=["DynamicSoftLabelAssigner", "SimOTAAssigner"])
    detector = columns[0].detector
    shown, put_out = [], []
    for column in columns:
        assign = column.head.assign
        monkeypatch.setattr(
            column.head, "assign", lambda *args, assign=assign: (shown.append(args[2]), assign(*args))[1]
        )
    detector.aux_head.register_forward_hook(lambda module, inputs, outputs: put_out.append(outputs))
    read_scene(columns, load_sample(build_dataset(nanodet), 1, seed=0), "0123456789")
    assert len(shown) == len(put_out) == 2
    for predictions, (scores, _) in zip(shown, put_out):
        expected = torch.cat([level.flatten(2) for level in scores], 2).transpose(1, 2)
        assert torch.equal(predictions["cls_logits"].flat(), expected)


def test_other_heads_on_the_neck_of_nanodet(nanodet):
    (scene,) = collect_scenes(nanodet, indices=[1], heads=["NanoDetPlusHead", "GFLHead", "FCOSHead"])
    assert list(scene.records) == ["NanoDetPlusHead (untrained)", "GFLHead (IoU untrained)", "FCOSHead"]
    assert scene.records["FCOSHead"].strides.tolist() == [8, 16, 32]


# ---- checkpoints -------------------------------------------------------------------------------------------------


def test_checkpoints_of_a_run_are_compared(config, tmp_path):
    files = [trained(config, tmp_path / f"epoch_{epoch}.pth", epoch) for epoch in (1, 2)]
    columns = build_columns(config, checkpoints=files, assigners=["SimOTAAssigner", "FCOSAssigner"])
    titles = ["SimOTAAssigner, epoch_1.pth", "FCOSAssigner, epoch_1.pth"]
    assert [column.title for column in columns] == titles + [title.replace("_1", "_2") for title in titles]
    assert not needs_pairs(columns)
    for column, epoch in zip(columns, (1, 1, 2, 2)):
        weights = torch.load(files[epoch - 1], weights_only=True)["state_dict"]
        for part, prefix in ((column.head, "bbox_head."), (column.detector.backbone, "backbone.")):
            assert part.training
            assert all(torch.equal(value, weights[prefix + key]) for key, value in part.state_dict().items())
    before = copy.deepcopy(columns[0].detector.state_dict())
    sample = load_sample(build_dataset(config), 0, seed=0)
    records = read_scene(columns, sample, "0123456789").records
    assert not same(records["SimOTAAssigner, epoch_1.pth"], records["SimOTAAssigner, epoch_2.pth"])
    assert same(records["FCOSAssigner, epoch_1.pth"], records["FCOSAssigner, epoch_2.pth"])
    after = columns[0].detector.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())  # also what norms have counted


def test_a_checkpoint_is_called_by_its_file(config, tmp_path):
    one = trained(config, tmp_path / "epoch_1.pth", 1)
    assert [column.title for column in build_columns(config, checkpoints=[one])] == ["epoch_1.pth"]
    assert [column.title for column in build_columns(config, checkpoints=[one], heads=["FCOSHead", "GFLHead"])] == [
        "FCOSHead",
        "GFLHead (IoU untrained)",
    ]
    (tmp_path / "other").mkdir()
    other = trained(config, tmp_path / "other" / "epoch_1.pth", 2)
    titles = [column.title for column in build_columns(config, checkpoints=[one, other], heads=["FCOSHead", "GFLHead"])]
    folder = tmp_path.name
    assert titles == [f"FCOSHead, {folder}/epoch_1.pth", "GFLHead (IoU untrained)", "FCOSHead, other/epoch_1.pth"]


def test_untrained_networks_normalise_by_the_batch_of_the_image_twice(config):
    """A place alone on its level has no deviation: one image of 64 pixels has one on the level of stride 64."""
    columns = build_columns(config, heads=["NanoDetPlusHead"])
    assert needs_pairs(columns)
    sample = load_sample(build_dataset(config), 0, seed=0)
    assert len(read_scene(columns, sample, "0123456789").records) == 1
    assert columns[0].head.last_assignment.gt_index.shape[0] == 2


def test_nothing_is_downloaded(config):
    config.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": "https://nowhere.invalid/weights.pth"}
    config.model.init_cfg = {"type": "Pretrained", "checkpoint": "nowhere.pth"}
    assert len(list(collect_scenes(config, num=1))) == 1
    assert config.model.backbone.init_cfg.type == "Pretrained"


# ---- what does not do --------------------------------------------------------------------------------------------


def test_autoassign_refuses_assigners_in_one_line(config):
    own = config.model.bbox_head
    config.model.bbox_head = {key: own[key] for key in ("num_classes", "in_channels", "feat_channels", "strides")}
    config.model.bbox_head |= {"type": "AutoAssignHead", "norm_cfg": own.norm_cfg}
    with pytest.raises(ValueError, match=r"^train_cfg.assigner must be absent for AutoAssignHead.*$"):
        collect_scenes(config, assigners=["SimOTAAssigner"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": ["GFLHead"], "assigners": ["ATSSAssigner"]}, "give --heads or --assigners, but not both"),
        ({"heads": ["GFLHead:topk"]}, "--heads must be NAME or NAME:key=value"),
        ({"split": "test"}, "split must be one of train, val"),
        ({"num": 0}, "--num must be at least 1"),
    ],
)
def test_what_cannot_be_shown_is_said_before_the_first_image(config, given, message):
    with pytest.raises(ValueError, match=message):
        collect_scenes(config, **given)


def test_checkpoints_that_do_not_fit(config, tmp_path):
    file = trained(config, tmp_path / "epoch_1.pth", 1)
    with pytest.raises(FileNotFoundError, match=r"checkpoint: there is no checkpoint .*none\.pth"):
        collect_scenes(config, checkpoints=[str(tmp_path / "none.pth")])
    with pytest.raises(ValueError, match="--checkpoint has the weights of FCOSHead, which is none of --heads"):
        collect_scenes(config, checkpoints=[file], heads=["GFLHead"])
    with pytest.raises(
        ValueError, match=r"FCOSHead:stacked_convs=2 does not fit the config's own FCOSHead, which lacks"
    ):
        collect_scenes(config, checkpoints=[file], heads=["FCOSHead:stacked_convs=2"])
    config.model.bbox_head.stacked_convs = 3
    with pytest.raises(ValueError, match=r"epoch_1.pth is a checkpoint of another architecture: it lacks"):
        collect_scenes(config, checkpoints=[file])


def test_configs_that_do_not_fit(config):
    config.model.bbox_head.num_classes = 3
    with pytest.raises(
        ValueError, match=r"model.bbox_head.num_classes is 3, but train_dataloader.dataset .* 10 classes"
    ):
        collect_scenes(config)
    config.pop("model")
    with pytest.raises(ValueError, match="has no model, which this run needs"):
        collect_scenes(config)


def test_heads_of_others_keep_no_assignment(config, monkeypatch):
    class Foreign(torch.nn.Module):
        pass

    monkeypatch.setitem(MODELS.module_dict, "Foreign", Foreign)
    config.model.bbox_head = {"type": "Foreign"}
    monkeypatch.setattr(Foreign, "__init__", lambda self, **kwargs: torch.nn.Module.__init__(self))
    with pytest.raises(ValueError, match=r"model.bbox_head must be one of densehead's heads, .*, not Foreign"):
        collect_scenes(config)
