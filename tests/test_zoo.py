"""mmdetection's own configs, unchanged and without mmdetection: those of the wheel of mmdet 3.3.0.

What only needs the recorded names of its models runs always. What needs the files is marked ``slow`` and ``network``:
they are fetched once (tools/fetch_mmdet_configs.py), or taken from the folder that DENSEHEAD_MMDET_CONFIGS names.
"""

import importlib.util
import json
import lzma
import os
import uuid
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import init_default_scope

from densehead.apis import build_runner, load_config, prepare_training, train
from densehead.apis import run as apis_run
from densehead.datasets.coco import COCO_CLASSES
from densehead.models.backbones import pretrained
from densehead.registry import MODELS
from densehead.structures import DetDataSample
from tests.engine.tiny import no_default_scope_left, one_thread  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
RECORDED = json.loads(lzma.decompress((ROOT / "tests" / "data" / "mmdet_state_dicts.json.xz").read_bytes()))
NAMES = list(RECORDED["models"])
# One config of every kind of head and backbone that the zoo has, half of them with the large-scale jitter and mixed
# precision or a choice of sizes
KINDS = {
    "FCOS ResNet-caffe": "fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py",
    "FCOS ResNet-caffe DCNv2": "fcos/fcos_r50-dcn-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
    "FCOS ResNet amp": "fcos/fcos_r50_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py",
    "FCOS ResNeXt": "fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py",
    "ATSS ResNet": "atss/atss_r50_fpn_1x_coco.py",
    "ATSS ResNet amp": "atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco.py",
    "GFL ResNet": "gfl/gfl_r50_fpn_ms-2x_coco.py",
    "GFL ResNet DCN": "gfl/gfl_r101-dconv-c3-c5_fpn_ms-2x_coco.py",
    "GFL ResNeXt": "gfl/gfl_x101-32x4d_fpn_ms-2x_coco.py",
    "GFL ResNeXt DCN": "gfl/gfl_x101-32x4d-dconv-c4-c5_fpn_ms-2x_coco.py",
    "VFNet ResNet": "vfnet/vfnet_r50_fpn_ms-2x_coco.py",
    "VFNet ResNet DCNv2": "vfnet/vfnet_r50-mdconv-c3-c5_fpn_ms-2x_coco.py",
    "VFNet Res2Net": "vfnet/vfnet_res2net-101_fpn_ms-2x_coco.py",
    "VFNet Res2Net DCNv2": "vfnet/vfnet_res2net101-mdconv-c3-c5_fpn_ms-2x_coco.py",
    "VFNet ResNeXt": "vfnet/vfnet_x101-32x4d_fpn_ms-2x_coco.py",
    "VFNet ResNeXt DCNv2": "vfnet/vfnet_x101-64x4d-mdconv-c3-c5_fpn_ms-2x_coco.py",
    "PAA ResNet": "paa/paa_r50_fpn_ms-3x_coco.py",
    "AutoAssign ResNet-caffe": "autoassign/autoassign_r50-caffe_fpn_1x_coco.py",
}
# What configs/ has besides: its scope, hooks that tools/train.py adds, what is logged and kept
OURS = {"default_scope", "default_hooks", "log_processor", "max_epochs"}
SHRINK = 8  # images of a training step are an eighth as wide and as high


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kind(cfg):
    """Name head and backbone of a config as KINDS does."""
    backbone = cfg.model.backbone
    words = [cfg.model.type, backbone.type + ("-caffe" if backbone.get("style") == "caffe" else "")]
    words += [backbone.dcn.type] if "dcn" in backbone else []
    return " ".join(words + ["amp"] * (cfg.optim_wrapper.type == "AmpOptimWrapper"))


def lists(node):
    """Return a config with tuples as lists, which mean the same in it."""
    if isinstance(node, dict):
        return {key: lists(value) for key, value in node.items()}
    return [lists(one) for one in node] if isinstance(node, list | tuple) else node


@pytest.mark.parametrize("name", NAMES)
def test_state_dict(name):
    """Names, shapes and their order equal those that tools/record_mmdet_names.py found in mmdetection."""
    cfg = Config.fromfile(ROOT / "configs" / name)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    found = tool("record_mmdet_names").describe(model.state_dict())
    expected = {part: RECORDED["parts"][number] for part, number in RECORDED["models"][name].items()}
    assert list(found) == list(expected)
    for part in expected:
        assert found[part] == expected[part]


def test_recorded_models():
    assert len(NAMES) == 44
    assert {Path(name).parts[0] for name in NAMES} == {"atss", "autoassign", "fcos", "gfl", "paa", "vfnet"}
    assert set(KINDS.values()) < set(NAMES)


@pytest.fixture(scope="module")
def zoo(request):
    """Return the folder with mmdetection's configs."""
    given = os.environ.get("DENSEHEAD_MMDET_CONFIGS")
    if given:
        return Path(given).absolute()
    folder = Path(request.config.cache.mkdir("mmdet_configs"))
    if not all((folder / name).is_file() for name in NAMES):
        try:
            tool("fetch_mmdet_configs").fetch(folder)
        except ConnectionError as error:
            pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Return a folder with COCO at data/coco, where the configs look for it: a few images with bright boxes."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "data" / "coco" / "annotations").mkdir(parents=True)
    write_split(folder / "data" / "coco", "train2017", [(240, 320), (320, 240), (240, 320), (320, 240)])
    write_split(folder / "data" / "coco", "val2017", [(240, 320), (320, 240)])
    return folder


def write_split(root, split, shapes):
    """Write images of the given heights and widths, and their annotations."""
    rng = np.random.default_rng(0)
    (root / split).mkdir()
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(COCO_CLASSES)]
    for number, (height, width) in enumerate(shapes):
        image = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
        for box in ((20, 30, 90, 60), (120, 90, 40, 120), (150, 10, 70, 55)):
            x, y, w, h = box
            image[y : y + h, x : x + w] = rng.integers(120, 255, 3)
            truth = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": int(rng.integers(80))}
            content["annotations"].append({**truth, "bbox": list(box), "area": w * h, "iscrowd": 0})
        cv2.imwrite(str(root / split / f"{number}.png"), image)
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def loaded(zoo, coco, tmp_path, monkeypatch):
    """Return a function that reads a config as tools/train.py does, for this process and machine, and nothing else."""
    monkeypatch.chdir(coco)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    if not torch.cuda.is_available():
        allow_amp_on_cpu(monkeypatch)

    def load(name):
        cfg = load_config(zoo / name)
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.num_workers = 0
        cfg.train_dataloader.batch_size = 2
        cfg.env_cfg.dist_cfg.backend = "gloo"
        cfg.experiment_name = uuid.uuid4().hex  # mmengine keeps its loggers by this name
        cfg.work_dir = str(tmp_path / "work")
        return cfg

    return load


def allow_amp_on_cpu(monkeypatch):
    """Let mixed precision run on a machine without a GPU, where densehead and mmengine refuse it: in bfloat16."""
    monkeypatch.setattr(apis_run, "get_device", lambda: "a GPU")
    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, "GradScaler", partial(torch.amp.GradScaler, device="cpu"))


def check_batch(batch, cfg, *, train):
    """Look at a batch that the preprocessor has made: sizes, truth, what the large-scale jitter promises."""
    images, samples = batch["inputs"], batch["data_samples"]
    height, width = images.shape[-2:]
    assert images.dtype == torch.float32
    assert height % 32 == width % 32 == 0
    if train and "batch_augments" in cfg.model.data_preprocessor:
        assert (height, width) == (1024, 1024)
    else:
        assert max(height, width) <= 1344
        assert min(height, width) >= 480
    for sample in samples:
        assert sample.batch_input_shape == (height, width)
        assert 0 < len(sample.gt_instances) <= 3
        h, w = sample.img_shape if train else sample.ori_shape
        boxes = sample.gt_instances.bboxes
        assert (boxes >= 0).all()
        assert (boxes <= boxes.new_tensor([w, h, w, h])).all()


def small(cfg):
    """Change a config: images of an eighth of the size, one epoch of two iterations, no checkpoints, any score."""
    dataset = cfg.train_dataloader.dataset
    while "dataset" in dataset:
        dataset.times = 1
        dataset = dataset.dataset
    augments = cfg.model.data_preprocessor.get("batch_augments", [])
    for step in (*dataset.pipeline, *cfg.val_dataloader.dataset.pipeline, *augments):
        for key in ("scale", "scales", "size", "crop_size"):
            if key in step:
                step[key] = shrunk(step[key])
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": -1, "save_last": False, "save_best": None}
    cfg.model.test_cfg.score_thr = 0.0
    return cfg


def shrunk(size):
    return size // SHRINK if isinstance(size, int) else type(size)(map(shrunk, size))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(find_spec("mmdet") is not None, reason="mmdetection keeps its own scope")
class TestOfTheWheel:
    """The files of the wheel, as they are."""

    def test_they_are_those_recorded(self, zoo):
        folders = {name.partition("/")[0] for name in NAMES}
        assert {f"{one}/{path.name}" for one in folders for path in (zoo / one).glob("*.py")} == set(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_ours_are_equal(self, zoo, name):
        theirs, ours = (lists(Config.fromfile(root / name).to_dict()) for root in (zoo, ROOT / "configs"))
        assert theirs["default_scope"] == "mmdet"
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            assert ours[loader].pop("pin_memory")
        assert {key for key in theirs | ours if theirs.get(key) != ours.get(key)} <= OURS
        hooks = ours["default_hooks"]
        assert {key: {**hooks[key], **hook} for key, hook in theirs["default_hooks"].items()}.items() <= hooks.items()

    @pytest.mark.parametrize("name", NAMES)
    def test_all_parts_are_built(self, loaded, name):
        """By the runner, in the order of a training; batches go through pipelines and preprocessor in full size."""
        runner = build_runner(prepare_training(loaded(name)))
        cfg, model = runner.cfg, runner.model
        assert type(model).__name__ == cfg.model.type
        assert type(model).__module__.startswith("densehead.")
        optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.optim_wrapper = optimizer
        assert type(optimizer).__name__ == cfg.optim_wrapper.type
        assert len(runner.build_param_scheduler(runner.param_schedulers)) == len(cfg.param_scheduler)
        train_loop = runner.build_train_loop(runner._train_loop)
        assert train_loop.max_epochs == cfg.train_cfg.max_epochs
        if cfg.model.data_preprocessor.get("batch_augments"):
            tiny = {
                "inputs": [torch.zeros(3, 48, 64)],
                "data_samples": [DetDataSample(metainfo={"img_shape": (48, 64)})],
            }
            assert model.data_preprocessor(tiny, True)["inputs"].shape == (1, 3, 1024, 1024)
        val_loop, test_loop = runner.build_val_loop(runner._val_loop), runner.build_test_loop(runner._test_loop)
        assert [type(one).__name__ for one in val_loop.evaluator.metrics] == ["CocoMetric"]
        check_batch(model.data_preprocessor(next(iter(train_loop.dataloader)), True), cfg, train=True)
        for loop in (val_loop, test_loop):
            check_batch(model.data_preprocessor(next(iter(loop.dataloader)), False), cfg, train=False)

    def test_every_kind_is_trained(self, zoo):
        """KINDS has each combination of head, backbone and deformable convolution that there is."""
        configs = {name: Config.fromfile(zoo / name) for name in NAMES}
        assert {kind(cfg) for cfg in configs.values()} == set(KINDS)
        for words, name in KINDS.items():
            assert kind(configs[name]) == words

    @pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
    def test_training_and_detection(self, loaded, monkeypatch, name):
        """An epoch of two iterations, its validation and detections, all on images of an eighth of the size."""
        asked = []
        monkeypatch.setattr(pretrained, "_load_pretrained", lambda module, cfg, key: asked.append(cfg["checkpoint"]))
        cfg = small(loaded(name))
        runner = train(prepare_training(cfg))
        assert asked == [cfg.model.backbone.init_cfg.checkpoint]
        losses = runner.message_hub.log_scalars["train/loss"].data[0]
        assert len(losses) == 2
        assert np.isfinite(losses).all()
        assert 0 <= runner.message_hub.get_scalar("val/coco/bbox_mAP").current() <= 1
        model = runner.model.eval()
        (sample,) = model.test_step(next(iter(runner.val_dataloader)))
        height, width = sample.ori_shape
        boxes, scores = sample.pred_instances.bboxes, sample.pred_instances.scores
        assert 0 < len(boxes) <= cfg.model.test_cfg.max_per_img
        assert scores.isfinite().all()
        beyond = 1e-3  # PAA's boxes are means, which rounding may put past the border
        assert (boxes >= -beyond).all()
        assert (boxes <= boxes.new_tensor([width, height] * 2) + beyond).all()
