import cv2
import numpy as np
import pytest
import torch
from mmengine.fileio import load

from densehead.apis import evaluate, inference_detector, init_detector, prepare_test, prepare_training, train
from densehead.registry import DATASETS
from tests.engine.tiny import tiny_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_root):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    options = {"train_cfg__max_epochs": 1, "default_hooks__summary": None}
    train(prepare_training(tiny_config(folder, data_root, **options)))
    return str(folder / "work" / "epoch_1.pth")


@pytest.fixture
def config(tmp_path, data_root):
    return tiny_config(tmp_path, data_root)


@pytest.fixture
def images(config):
    """Those of the test set; other tests draw into the same data root."""
    dataset = DATASETS.build(config.test_dataloader.dataset)
    return sorted(dataset.get_data_info(index)["img_path"] for index in range(len(dataset)))


def test_detections_are_those_of_a_test(config, trained, images, tmp_path):
    model = init_detector(config, trained)
    assert not model.training
    found = inference_detector(model, images)
    evaluate(prepare_test(config, trained), out=tmp_path / "found.pkl")
    expected = {sample["img_path"]: sample["pred_instances"] for sample in load(tmp_path / "found.pkl")}
    assert len(found) == len(expected) == 8
    for path, sample in zip(images, found):
        assert len(sample.pred_instances) > 0
        torch.testing.assert_close(sample.pred_instances.bboxes, expected[path]["bboxes"], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(sample.pred_instances.scores, expected[path]["scores"], rtol=1e-4, atol=1e-5)


def test_one_image_one_sample(config, trained, images):
    model = init_detector(config, trained)
    by_file = inference_detector(model, images[0])
    by_array = inference_detector(model, cv2.imread(images[0]))
    assert by_file.ori_shape == (64, 64)
    torch.testing.assert_close(by_array.pred_instances.bboxes, by_file.pred_instances.bboxes)
    with pytest.raises(TypeError, match="an image must be a file name or an array, but got int"):
        inference_detector(model, [3])


def test_own_pipeline(config, trained):
    model = init_detector(config, trained)
    seen = []

    def pipeline(described):
        seen.append(described)
        data_sample = type(inference_detector(model, np.zeros((64, 64, 3), np.uint8)))()
        data_sample.set_metainfo({"img_shape": (64, 64), "ori_shape": (64, 64), "scale_factor": (1, 1)})
        return {"inputs": torch.zeros(3, 64, 64, dtype=torch.uint8), "data_samples": data_sample}

    inference_detector(model, "any.jpg", pipeline)
    assert seen == [{"img_path": "any.jpg", "img_id": 0}]


def test_dataset_meta(config, trained):
    assert init_detector(config, trained).dataset_meta["classes"] == tuple("0123456789")
    model = init_detector(config, palette="random", cfg_options={"model.bbox_head.num_classes": 3})
    assert model.dataset_meta["palette"] == "random"
    assert model.bbox_head.num_classes == 3
    assert config.model.bbox_head.num_classes == 10


def test_meta_of_old_checkpoints(config, trained, tmp_path):
    checkpoint = torch.load(trained, weights_only=False)
    checkpoint["meta"] = {"CLASSES": ("a", "b")}
    torch.save(checkpoint, tmp_path / "old.pth")
    assert init_detector(config, str(tmp_path / "old.pth")).dataset_meta == {"classes": ("a", "b")}


def test_what_does_not_do(config, trained, tmp_path):
    with pytest.raises(TypeError, match="config must be a file name or an mmengine Config, but got dict"):
        init_detector({})
    with pytest.raises(FileNotFoundError, match="there is no config file"):
        init_detector(tmp_path / "none.py")
    with pytest.raises(FileNotFoundError, match=r"checkpoint: there is no checkpoint .*none\.pth"):
        init_detector(config, str(tmp_path / "none.pth"))
    with pytest.raises(ValueError, match=r"epoch_1.pth is a checkpoint of another architecture: it lacks"):
        init_detector(config, trained, cfg_options={"model.bbox_head.stacked_convs": 3})


def test_config_file_as_mmdetection_writes_it(config, trained, images, tmp_path):
    config.default_scope = "mmdet"
    config.dump(tmp_path / "theirs.py")
    sample = inference_detector(init_detector(tmp_path / "theirs.py", trained), images[0])
    assert len(sample.pred_instances) > 0
