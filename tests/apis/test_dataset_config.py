import pytest
from mmengine.config import Config

from densehead.apis import load_config
from densehead.apis.dataset_config import config_for, describe, write_config
from densehead.datasets import recognise
from tests.datasets.small import LINE, write_coco, write_text, write_voc, write_yolo
from tests.engine.tiny import ROOT

QUICKSTART = ROOT / "configs" / "quickstart" / "fcos_r18_yolo_style.py"
YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


@pytest.fixture
def pets(tmp_path):
    """A YOLO data set with images of 600 x 400 pixels."""
    labels = {"train/a": LINE, "train/b": LINE, "val/c": LINE}
    return write_yolo(tmp_path / "pets", labels, {"data.yaml": YAML}, size=(400, 600))


def written(found, folder, base=QUICKSTART):
    write_config(found, folder / "mine.py", base)
    return Config.fromfile(folder / "mine.py")


def test_what_was_found_is_described(pets):
    lines = describe(recognise(pets))
    assert lines[:5] == [
        f"{pets}: YOLO, data.yaml",
        "  classes   2: cat, dog",
        "  train     2 images",
        "  val       1 images",
        "  size      600 x 400 pixels in the middle",
    ]
    text = "\n".join(lines[5:])
    namespace = {}
    exec(text, namespace)
    assert namespace["train_dataloader"] == {"dataset": recognise(pets).train}
    assert namespace["val_dataloader"] == {"dataset": recognise(pets).val}
    assert namespace["model"] == {"bbox_head": {"num_classes": 2}}
    assert "test_dataloader" not in namespace


def test_a_config_is_the_quick_start_with_the_data(pets, tmp_path):
    cfg, base = written(recognise(pets), tmp_path), Config.fromfile(QUICKSTART)
    for split, name in (("train", "train"), ("val", "val"), ("test", "val")):
        dataset = cfg[f"{split}_dataloader"].dataset
        keys = ("type", "data_root", "ann_file", "split", "metainfo")
        assert [dataset[key] for key in keys] == [
            "YOLODataset",
            str(pets),
            "data.yaml",
            name,
            {"classes": ("cat", "dog")},
        ]
        resize = next(step for step in dataset.pipeline if step.type == "Resize")
        assert resize.scale == (320, 213)  # in the ratio of the images
    assert cfg.model == base.model
    assert cfg.optim_wrapper == base.optim_wrapper
    assert cfg.val_evaluator == cfg.test_evaluator == {"type": "CocoMetric", "metric": "bbox"}
    text = (tmp_path / "mine.py").read_text()
    head = text.partition("\n\n")[0].replace("\n#  ", "")
    assert head.startswith(f"# fcos_r18_yolo_style on {pets}: YOLO, data.yaml, 2 classes; images: train 2, val 1.")
    assert head.endswith(f"# Train: python tools/train.py {tmp_path}/mine.py")
    assert max(map(len, text.splitlines())) <= 120


def test_options_change_what_is_written(pets, tmp_path):
    write_config(recognise(pets), tmp_path / "mine.py", QUICKSTART)
    cfg = load_config(tmp_path / "mine.py", {"classes": ("cat",), "data_root": "elsewhere"})
    assert cfg.model.bbox_head.num_classes == 1
    assert cfg.train_dataloader.dataset.metainfo.classes == ("cat",)
    assert cfg.val_dataloader.dataset.data_root == "elsewhere"


def test_another_base_keeps_its_wrappers(tmp_path):
    write_coco(tmp_path / "pets" / "train.json", ["a.jpg"], tmp_path / "pets" / "train")
    write_coco(tmp_path / "pets" / "val.json", ["b.jpg"], tmp_path / "pets" / "val")
    base = ROOT / "configs" / "atss" / "atss_r50_fpn_8xb8-amp-lsj-200e_coco.py"
    cfg = written(recognise(tmp_path / "pets"), tmp_path, base)
    outer = cfg.train_dataloader.dataset
    assert (outer.type, outer.dataset.ann_file) == ("RepeatDataset", "train.json")
    assert outer.dataset.pipeline == Config.fromfile(base).train_dataloader.dataset.dataset.pipeline
    assert cfg.val_evaluator.ann_file == str(tmp_path / "pets" / "val.json")
    assert cfg.model.bbox_head.num_classes == 2


def test_validation_on_the_test_set_or_not_at_all(tmp_path):
    write_voc(tmp_path / "a", {"train": ["a"], "test": ["b"]})
    cfg = written(recognise(tmp_path / "a"), tmp_path / "a")
    assert cfg.val_dataloader.dataset.ann_file == cfg.test_dataloader.dataset.ann_file == "ImageSets/Main/test.txt"
    assert "# There is no validation set: the test set stands for it." in (tmp_path / "a" / "mine.py").read_text()
    write_voc(tmp_path / "b", {"train": ["a"]})
    cfg = written(recognise(tmp_path / "b"), tmp_path / "b")
    assert not [key for key in cfg if key.startswith(("val_", "test_")) and key != "test_pipeline"]
    assert "# There is no validation set: nothing is validated." in (tmp_path / "b" / "mine.py").read_text()


def test_what_cannot_be_written(pets, tmp_path):
    found = recognise(pets)
    write_text(tmp_path / "mine.py", "mine")
    with pytest.raises(ValueError, match=r"mine\.py is there already, and nothing is written over"):
        write_config(found, tmp_path / "mine.py", QUICKSTART)
    assert (tmp_path / "mine.py").read_text() == "mine"
    with pytest.raises(ValueError, match=r"must end with \.py, but got .*mine\.txt"):
        write_config(found, tmp_path / "mine.txt", QUICKSTART)
    with pytest.raises(FileNotFoundError, match=r"there is no config file .*none\.py"):
        config_for(found, tmp_path / "none.py")
    write_text(tmp_path / "bare.py", "model = dict()")
    with pytest.raises(ValueError, match=r"bare\.py: train_dataloader has no dataset with a pipeline"):
        config_for(found, tmp_path / "bare.py")
    write_voc(tmp_path / "b", {"test": ["a"]})
    with pytest.raises(ValueError, match="b: has nothing to train on; its splits are test"):
        config_for(recognise(tmp_path / "b"), QUICKSTART)
