"""Every config can be read and built; those of the model zoo have the settings they are known for."""

import copy
import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

import densehead  # noqa: F401
from densehead.registry import DATA_SAMPLERS, DATASETS, METRICS, MODELS, OPTIM_WRAPPERS
from tests.engine.tiny import no_default_scope_left  # noqa: F401

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ALL = sorted(
    path
    for path in CONFIGS.rglob("*.py")
    if path.parent.name not in ("datasets", "schedules", "models", "_base_", "common")
)
ZOO = [path for path in ALL if path.parent.name in ("fcos", "atss", "gfl", "vfnet", "paa", "autoassign")]
# What each config of the zoo is known for, taken from mmdetection 3.3.0: backbone, its weights and first mean, which of
# the head's switches are on, its losses and their weights, assigner, NMS threshold, optimizer (kind, rate, decay),
# schedule, images a GPU, what is done to images' sizes.
ESSENTIALS = json.loads((Path(__file__).parent / "data" / "zoo_settings.json").read_text())
SIZES = ("ratio_range", "scale", "scales", "crop_size")


def ident(path):
    return str(path.relative_to(CONFIGS))


def lists(node):
    """Return the config with tuples as lists, which mean the same in it."""
    if isinstance(node, dict):
        return {key: lists(value) for key, value in node.items()}
    return [lists(one) for one in node] if isinstance(node, list | tuple) else node


def essentials(cfg):
    model, head = cfg.model, cfg.model.bbox_head
    dcn = f"-{model.backbone.dcn.type}-in-{sum(model.backbone.stage_with_dcn)}" if "dcn" in model.backbone else ""
    dataset = cfg.train_dataloader.dataset
    rounds = cfg.train_cfg.max_epochs * dataset.get("times", 1)
    while "dataset" in dataset:
        dataset = dataset.dataset
    optimizer = cfg.optim_wrapper
    return {
        "backbone": f"{model.backbone.type}-{model.backbone.depth}{dcn}",
        "weights": model.backbone.init_cfg.checkpoint,
        "first_mean": model.data_preprocessor.mean[0],
        "head": " ".join(sorted(name for name, value in head.items() if value is True)),
        "losses": {key: [loss.type, loss.loss_weight] for key, loss in head.items() if key.startswith("loss_")},
        "assigner": (model.get("train_cfg") or {}).get("assigner", {}).get("type"),
        "nms_iou": model.test_cfg.nms.iou_threshold,
        "optimizer": [optimizer.type, round(optimizer.optimizer.lr, 6), optimizer.optimizer.weight_decay],
        "clip_grad": (optimizer.get("clip_grad") or {}).get("max_norm"),
        "epochs": rounds,
        "milestones": cfg.param_scheduler[1].milestones,
        "warmup": [cfg.param_scheduler[0].type, round(cfg.param_scheduler[0].get("start_factor", 1 / 3), 4)],
        "images_per_gpu": cfg.train_dataloader.batch_size,
        "sizes": [lists(size) for step in dataset.pipeline if (size := next(filter(None, map(step.get, SIZES)), None))],
    }


@pytest.fixture(params=ALL, ids=ident)
def cfg(request):
    """Each config that is not a mere base."""
    loaded = Config.fromfile(request.param)
    init_default_scope(loaded.default_scope)
    return loaded


@pytest.mark.parametrize("path", ZOO, ids=ident)
def test_settings_of_the_zoo(path):
    assert essentials(Config.fromfile(path)) == ESSENTIALS[ident(path)]


# size, width, channels of backbone and neck, and of the official models' parameters in thousands
NANODET = {
    "m_320": (320, 1.0, [116, 232, 464], 96, 1198),
    "m_416": (416, 1.0, [116, 232, 464], 96, 1198),
    "m-1.5x_320": (320, 1.5, [176, 352, 704], 128, 2478),
    "m-1.5x_416": (416, 1.5, [176, 352, 704], 128, 2478),
}


@pytest.mark.parametrize("name", NANODET)
def test_settings_of_nanodet(name):
    """Those of config/nanodet-plus-*.yml in the official repository."""
    size, width, inputs, channels, thousands = NANODET[name]
    cfg = Config.fromfile(CONFIGS / "nanodet" / f"nanodet-plus-{name}_coco.py")
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    assert cfg.model.backbone.widen_factor == width
    assert model.neck.in_channels == inputs
    assert (model.bbox_head.in_channels, model.bbox_head.feat_channels) == (channels, channels)
    assert (model.aux_head.in_channels, cfg.model.aux_head.feat_channels) == (2 * channels, 2 * channels)
    count = sum(value.numel() for key, value in model.named_parameters() if not key.startswith("aux_"))
    assert round(count / 1000) == thousands
    warp = next(step for step in cfg.train_dataloader.dataset.pipeline if step.type == "RandomWarp")
    assert (warp.size, warp.scale, warp.translate, warp.flip) == ((size, size), (0.6, 1.4), 0.2, 0.5)
    assert warp.stretch == ((0.8, 1.2), (0.8, 1.2))
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert next(step.scale for step in loader.dataset.pipeline if step.type == "Resize") == (size, size)
    assert cfg.train_dataloader.batch_size == 96
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == 300
    assert cfg.optim_wrapper.optimizer == {"type": "AdamW", "lr": 0.001, "weight_decay": 0.05}


def test_the_zoo_is_complete():
    assert {ident(path) for path in ZOO} == set(ESSENTIALS)


def test_models_can_be_built(cfg, monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)  # weights are for init_weights
    before = copy.deepcopy(cfg.model.to_dict())
    model = MODELS.build(cfg.model)
    assert type(model).__name__ == cfg.model.type
    assert cfg.model.to_dict() == before
    strides = model.bbox_head.prior_generator.strides
    neck = cfg.model.neck
    assert len(strides) == (neck.num_outs if "num_outs" in neck else len(neck.in_channels) + neck.num_extra_level)


def test_pipelines_and_parts_can_be_built(cfg):
    for name in ("train", "val", "test"):
        loader = cfg[f"{name}_dataloader"]
        dataset = loader.dataset
        while "dataset" in dataset:
            dataset = dataset.dataset
        Compose(dataset.pipeline)
        if dataset.type != "DigitsDataset":  # which writes its images
            built = DATASETS.build({**dataset, "lazy_init": True})
            assert len(built.metainfo["classes"]) == cfg.model.bbox_head.num_classes
        for key in ("sampler", "batch_sampler"):
            assert key not in loader or DATA_SAMPLERS.get(loader[key].type)
        assert name == "train" or METRICS.get(cfg[f"{name}_evaluator"].type)
    assert OPTIM_WRAPPERS.get(cfg.optim_wrapper.type)


@pytest.mark.parametrize("path", ALL, ids=ident)
def test_head_of_a_config_file(path):
    """Paper, expected AP, cost and command come first."""
    comment = re.match(r"(#.*\n)+", path.read_text()).group()
    for word in ("https://arxiv.org/abs/", "AP", "Cost:", f"configs/{ident(path)}"):
        assert word in comment, word
    assert re.search(r"tools/(dist_)?train", comment)


def test_the_docs_list_every_config_with_its_published_figure():
    """A row of docs/configs.md for each config of COCO; box AP as in its file, a dash where there is none."""
    text = (CONFIGS.parent / "docs" / "configs.md").read_text()
    rows = dict(re.findall(r"^\| \[[^]]+\]\(\.\./configs/([^)]+)\).*\| ([^|]+) \|$", text, re.MULTILINE))
    expected = {}
    for path in ALL:
        if path.parent.name != "quickstart":
            found = re.search(r"box AP (\d+\.\d)", path.read_text())
            expected[ident(path)] = found[1] if found else "-"
    assert rows == expected
