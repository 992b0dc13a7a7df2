import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn

from densehead.apis import evaluate, prepare_test, prepare_training, train
from densehead.engine.checks import TRAIN_SECTIONS, check_classes, check_sections, compare_states, unwrapped
from densehead.engine.tta import DetTTAModel
from tests.engine.tiny import losses, tiny_config

QUIET = {"default_hooks__summary": None, "train_cfg__max_epochs": 1}


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def loss_by_feat(self):
        raise NotImplementedError


def make_model(num_classes):
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.num_classes = 1000  # of ImageNet
    model.bbox_head = Head(num_classes)
    return model


def dataset(classes):
    return SimpleNamespace(metainfo={"classes": classes})


def test_classes_that_fit():
    check_classes(make_model(2), dataset(("cat", "dog")), "train_dataloader.dataset")


def test_number_of_classes():
    text = (
        "model.bbox_head.num_classes is 80, but train_dataloader.dataset (SimpleNamespace) has 6 classes "
        "(a, b, c, d and 2 more): set model.bbox_head.num_classes=6, or train_dataloader.dataset.metainfo.classes to "
        "the 80 classes that are meant"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        check_classes(make_model(80), dataset(tuple("abcdef")), "train_dataloader.dataset")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (dataset("cat"), "must be a tuple of names, but got the text 'cat': write ('cat',)"),
        (dataset(None), "does not say its classes: set val_dataloader.dataset.metainfo="),
        (object(), "does not say its classes"),
    ],
)
def test_classes_that_are_none(data, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        check_classes(make_model(3), data, "val_dataloader.dataset")


def test_sections():
    cfg = {"modle": {}, "train_dataloader": {}, "train_cfg": {}, "optim_wrapper": {}}
    with pytest.raises(ValueError, match=r"my\.py has no model, which this run needs\. Did you mean 'modle'\?"):
        check_sections(cfg, TRAIN_SECTIONS, "my.py")


def make_net(width=3):
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))


def test_states_that_agree():
    net = make_net()
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    del state["module.1.num_batches_tracked"]
    difference = compare_states(net, {"state_dict": state})
    assert not difference
    assert len(difference.matching) == 6


def test_states_that_differ():
    state = make_net(4).state_dict()
    state["extra.weight"] = state.pop("0.bias")
    difference = compare_states(make_net(), state)
    assert difference.matching == ("1.num_batches_tracked",)
    assert difference.missing == ("0.bias",)
    assert difference.unexpected == ("extra.weight",)
    assert difference.mismatched[0] == ("0.weight", (4, 3, 1, 1), (3, 3, 1, 1))
    assert str(difference) == (
        "lacks 1 of the model's (0.bias); has 1 that the model does not have (extra.weight); has 5 in another shape "
        "(0.weight (4, 3, 1, 1) there, (3, 3, 1, 1) here, 1.weight (4,) there, (3,) here, 1.bias (4,) there, (3,) "
        "here, 1.running_mean (4,) there, (3,) here and 1 more)"
    )


def test_unwrapped():
    net = make_net()
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = net
    assert unwrapped(wrapped) is net
    net.test_step = None
    assert unwrapped(DetTTAModel(tta_cfg={"nms": {"type": "nms"}, "max_per_img": 1}, module=net)) is net


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data_root):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoint")
    train(prepare_training(tiny_config(folder, data_root, **QUIET)))
    return str(folder / "work" / "epoch_1.pth")


def test_num_classes_of_a_run(tmp_path, data_root):
    cfg = tiny_config(tmp_path, data_root, model__bbox_head__num_classes=3, **QUIET)
    with pytest.raises(ValueError, match=r"model.bbox_head.num_classes is 3, but train_dataloader.dataset"):
        train(prepare_training(cfg))


def test_checkpoint_of_more_convolutions(tmp_path, data_root, checkpoint):
    cfg = tiny_config(tmp_path, data_root, model__bbox_head__stacked_convs=2)
    with pytest.raises(ValueError, match=r"epoch_1.pth is a checkpoint of another architecture: it lacks 8 of the"):
        evaluate(prepare_test(cfg, checkpoint))
    cfg = tiny_config(tmp_path, data_root, model__bbox_head__stacked_convs=0)
    with pytest.raises(ValueError, match=r"it has 8 that the model does not have \(bbox_head.cls_convs.0.conv.weight"):
        evaluate(prepare_test(cfg, checkpoint))


def test_resuming_with_another_architecture(tmp_path, data_root, checkpoint):
    cfg = tiny_config(tmp_path, data_root, model__bbox_head__stacked_convs=2, **QUIET)
    with pytest.raises(ValueError, match="another architecture"):
        train(prepare_training(cfg, resume=checkpoint))


def test_fine_tuning_takes_what_fits(tmp_path, data_root, checkpoint, capsys):
    pairs = {f"{name}__dataset__metainfo": {"classes": ("1", "7")} for name in ("train_dataloader", "val_dataloader")}
    cfg = tiny_config(tmp_path, data_root, model__bbox_head__num_classes=2, load_from=checkpoint, **pairs, **QUIET)
    runner = train(prepare_training(cfg))
    said = capsys.readouterr().out
    assert re.search(r"(\d+) of (\d+) parameters and buffers are loaded, .* has 2 in another shape", said)
    assert len(losses(runner)) > 0


def test_nothing_that_fits(tmp_path, data_root):
    file = tmp_path / "other.pth"
    torch.save({"state_dict": {"fc.weight": torch.zeros(3)}}, file)
    cfg = tiny_config(tmp_path, data_root, load_from=str(file), **QUIET)
    with pytest.raises(ValueError, match=r"other.pth: nothing in it fits this model; it lacks \d+ of the model's"):
        train(prepare_training(cfg))


def test_other_class_names_are_said(tmp_path, data_root, checkpoint, capsys):
    names = (*"abcdefghi", "0")
    cfg = tiny_config(tmp_path, data_root, test_dataloader__dataset__metainfo={"classes": names})
    evaluate(prepare_test(cfg, checkpoint))
    assert "the checkpoint was trained for the classes ('0', '1'," in capsys.readouterr().out
