import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from densehead.apis import evaluate, prepare_test, prepare_training, show_predictions, train
from densehead.engine.hooks import DetVisualizationHook, HostMemoryHook, TrainingSummaryHook
from densehead.engine.hooks.memory import peak_memory
from densehead.engine.hooks.summary import format_metrics
from densehead.engine.hooks.visualization import read_rgb
from densehead.registry import VISUALIZERS
from densehead.structures import DetDataSample
from densehead.visualization import plots
from tests.engine.tiny import tiny_config


@pytest.fixture
def sample(tmp_path):
    image = np.zeros((30, 40, 3), np.uint8)
    image[..., 2] = 200  # red, as OpenCV writes it
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), image)
    made = DetDataSample(metainfo={"img_path": str(path), "ori_shape": (30, 40), "img_shape": (30, 40)})
    boxes = torch.tensor([[5.0, 5.0, 20.0, 25.0]])
    made.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]))
    made.pred_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]), scores=torch.tensor([0.9]))
    return made


@pytest.fixture
def visualizer(request):
    made = VISUALIZERS.build({"type": "DetLocalVisualizer", "name": request.node.name})
    made.dataset_meta = {"classes": ("thing",)}
    return made


def test_read_rgb(sample):
    assert read_rgb(sample.img_path)[0, 0].tolist() == [200, 0, 0]


def test_every_tested_image_is_written(sample, visualizer, tmp_path):
    hook = DetVisualizationHook(draw=True, test_out_dir="pictures")
    runner = SimpleNamespace(work_dir=str(tmp_path), timestamp="now")
    for _ in range(2):  # the folder stays the same
        hook.after_test_iter(runner, 0, None, [sample])
    assert (tmp_path / "now" / "pictures" / "red.png").is_file()


def test_one_image_of_validation_in_an_interval(sample, visualizer, monkeypatch):
    steps = []
    monkeypatch.setattr(visualizer, "add_datasample", lambda name, image, step, **kwargs: steps.append((name, step)))
    hook = DetVisualizationHook(draw=True, interval=2)
    for batch in range(4):
        hook.after_val_iter(SimpleNamespace(iter=100), batch, None, [sample, sample])
    assert steps == [("val_img", 100), ("val_img", 102)]


def test_nothing_is_drawn_unless_asked_for(sample, visualizer, monkeypatch):
    monkeypatch.setattr(visualizer, "add_datasample", None)
    hook = DetVisualizationHook()
    hook.after_val_iter(SimpleNamespace(iter=0), 0, None, [sample])
    hook.after_test_iter(SimpleNamespace(work_dir="", timestamp=""), 0, None, [sample])


def test_show_keeps_nothing(visualizer):
    visualizer._vis_backends = {"local": object()}
    DetVisualizationHook(show=True)
    assert Visualizer.get_current_instance()._vis_backends == {}


def test_wrong_keys_of_hooks(visualizer):
    with pytest.raises(ValueError, match=r"visualization\.interval must be at least 1, but got 0"):
        DetVisualizationHook(interval=0)
    with pytest.raises(ValueError, match="num_images must not be negative, but got -1"):
        TrainingSummaryHook(num_images=-1)


def test_memory(monkeypatch):
    logged = {}
    runner = SimpleNamespace(message_hub=SimpleNamespace(update_scalar=logged.__setitem__))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    HostMemoryHook().after_train_iter(runner, 0)
    assert logged == {"train/memory": peak_memory()}
    assert 50 < peak_memory() < 100_000
    logged.clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    HostMemoryHook().after_train_iter(runner, 0)
    assert not logged


def test_format_metrics():
    metrics = {"coco/bbox_mAP": 0.5126, "coco/bbox_mAP_l": -1.0, "cat_precision": float("nan"), "table": "text"}
    assert format_metrics(metrics) == "bbox_mAP 0.513"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_root):
    """A training that was stopped after an epoch and resumed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    backends = [{"type": "LocalVisBackend"}]
    train(prepare_training(tiny_config(folder, data_root, train_cfg__max_epochs=1, visualizer__vis_backends=backends)))
    train(prepare_training(tiny_config(folder, data_root, default_scope="mmdet"), resume="auto"))
    return folder / "work"


def text_of_log(folder):
    return max(folder.glob("*/*.log")).read_text()


def test_summary(trained):
    said = re.search(r"Training has ended\.\n(?:  .+\n)+", text_of_log(trained)).group()
    rows = dict(re.findall(r"^  (\S+(?: \w+)?)\s{2,}(.+)$", said, re.MULTILINE))
    assert rows["epochs"] == "2 of 2, 8 iterations"
    assert rows["loss"].endswith("(mean of the last 8 iterations)")
    assert rows["last metrics"].startswith("bbox_mAP 0.")
    assert " in " in rows["best"]
    for name in ("checkpoint", "log", "curves", "detections"):
        assert (trained / rows[name]).is_file(), name
    assert len(said.splitlines()) < 12


def test_curves_are_of_both_runs(trained):
    checkpoint = torch.load(trained / "epoch_2.pth", weights_only=False)
    files = checkpoint["message_hub"]["runtime_info"]["files_of_scalars"]
    assert len(files) == 2
    records = plots.read_scalars(files)
    assert [one["step"] for one in records if "loss" in one] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_log_of_training(trained):
    said = text_of_log(trained)
    line = next(one for one in said.splitlines() if "Epoch(train) [2][3/4]" in one)
    for word in ("lr:", "eta:", "loss:", "loss_cls:", "loss_bbox:", "num_pos:", "memory:", "grad_norm:"):
        assert word in line
    assert "System environment:" in said
    assert "Hooks will be executed" in said
    assert not [one for one in said.splitlines() if "WARNING" in one and "scope" in one]


def test_pictures_of_a_test(trained, tmp_path, data_root, capsys):
    cfg = tiny_config(tmp_path, data_root)
    cfg = show_predictions(prepare_test(cfg, str(trained / "epoch_2.pth")), show_dir="pictures")
    evaluate(cfg, out=tmp_path / "found.pkl")
    assert len(list((tmp_path / "work").glob("*/pictures/*.jpg"))) == 8
    said = capsys.readouterr().out
    assert "Testing has ended." in said
    assert "pictures" in said.splitlines()[-1]
    assert "System environment" not in said


def test_no_validation_no_pictures(tmp_path, data_root, capsys):
    cfg = tiny_config(tmp_path, data_root, train_cfg__max_epochs=1, default_hooks__logger__interval=100)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    train(prepare_training(cfg))
    said = capsys.readouterr().out
    assert "Training has ended." in said
    assert "metrics" not in said
    assert not (tmp_path / "work" / "detections.png").exists()
