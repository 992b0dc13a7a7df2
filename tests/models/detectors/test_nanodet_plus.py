"""The detector NanoDet-Plus holds to the official one, converted weights, guidance and detaching included."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from densehead.apis.nanodet import PARTS, convert_weights
from densehead.registry import MODELS
from densehead.structures import DetDataSample
from tests import golden
from tests.engine.tiny import ROOT
from tests.models.heads import nanodet


@pytest.fixture(scope="module")
def reference():
    return golden.load("nanodet_plus_detector")


@pytest.fixture
def model(reference):
    """Return the golden detector with the official weights, converted."""
    detector = MODELS.build(nanodet.detector_config()).eval()
    detector.load_state_dict(convert_weights(nanodet.formula(reference[0]["names"])), strict=True)
    return detector


def batch(reference):
    meta, arrays = reference
    instances, metas = nanodet.truth(meta, arrays)
    samples = [DetDataSample(metainfo=one) for one in metas]
    for sample, truth in zip(samples, instances):
        sample.gt_instances = truth
    return nanodet.formula_image(*meta["image_size"]), samples


def test_the_names_of_nanodet_plus_m(reference):
    """What the released checkpoints hold is what the model of their config has, no more and no less."""
    cfg = Config.fromfile(ROOT / "configs" / "nanodet" / "nanodet-plus-m_320_coco.py").model
    with torch.device("meta"):
        ours = MODELS.build(cfg).state_dict()
        official = convert_weights({name: torch.empty(shape) for name, shape in reference[0]["names_m"].items()})
    assert {name: tuple(value.shape) for name, value in ours.items()} == {
        name: tuple(value.shape) for name, value in official.items()
    }


def test_outputs(reference, model):
    maps = model(batch(reference)[0])
    golden.assert_close(nanodet.official_form(maps), reference[1]["preds"], relative=2e-4, name="preds")


@pytest.mark.parametrize(("mode", "epoch"), [("attached", 0), ("attached", 1), ("detached", 2), ("detached", 7)])
def test_losses_and_gradients(reference, model, mode, epoch):
    arrays = reference[1]
    model.set_epoch(epoch)
    losses = model(*batch(reference), mode="loss")
    values = {key: value for key, value in losses.items() if "loss" in key}
    expected = {key.removeprefix(f"{mode}/loss/"): value for key, value in arrays.items() if f"{mode}/loss" in key}
    golden.assert_close(sum(values.values()), expected.pop("total"), relative=2e-4, name="total")
    assert {nanodet.our_name(key) for key in expected} == set(values)
    for key, value in expected.items():
        golden.assert_close(values[nanodet.our_name(key)], value, relative=2e-4, name=key)

    sum(values.values()).backward()
    checked = 0
    for key, value in arrays.items():
        if key.startswith(f"{mode}/grad/"):
            part, _, rest = key.removeprefix(f"{mode}/grad/").partition(".")
            golden.assert_close(model.get_parameter(f"{PARTS[part]}.{rest}").grad, value, relative=1e-3, name=key)
            checked += 1
    assert checked == 8


def test_epoch_of_the_runner(model, monkeypatch):
    """Counted by mmengine's runner, which announces it in its message hub, after a resume too."""
    hub = MessageHub("a run")
    monkeypatch.setattr(MessageHub, "get_current_instance", lambda: hub)
    hub.update_info("epoch", 5)
    assert model.epoch == copy.deepcopy(model).epoch == 5
    model.set_epoch(1)
    assert model.epoch == 1
    model.set_epoch(None)
    assert model.epoch == 5


def test_epoch_without_a_runner(model, monkeypatch):
    monkeypatch.setattr(MessageHub, "get_current_instance", lambda: MessageHub("alone"))
    assert model.epoch == 0


def test_detection_runs_no_auxiliary_part(reference, model):
    def fail(*args):
        raise AssertionError("an auxiliary part ran")

    for part in (model.aux_neck, model.aux_head):
        part.register_forward_pre_hook(fail)
    images, samples = batch(reference)
    with torch.no_grad():
        found = model(images, samples, mode="predict")
        model(images)
    assert all(len(one.pred_instances) for one in found)


def test_without_auxiliary_parts(reference, model):
    plain = MODELS.build(nanodet.detector_config(aux_head=None)).eval()
    assert not [name for name in plain.state_dict() if name.startswith("aux_")]
    plain.load_state_dict(convert_weights(nanodet.formula(reference[0]["names"]), auxiliary=False), strict=True)
    images, samples = batch(reference)
    losses = plain(images, samples, mode="loss")
    assert not [name for name in losses if name.startswith("aux_")]
    assert losses["loss_cls"] != model(images, samples, mode="loss")["loss_cls"]  # assigned by its own predictions
    for ours, theirs in zip(plain(images), model(images)):
        assert all(torch.equal(*pair) for pair in zip(ours, theirs))


def test_auxiliary_neck_starts_as_the_neck():
    torch.manual_seed(0)
    model = MODELS.build(nanodet.detector_config())
    model.init_weights()
    copied = model.aux_neck.state_dict()
    for name, value in model.neck.state_dict().items():
        assert torch.equal(value, copied[name])
    model.aux_neck.reduce_layers[0].conv.weight.data.zero_()
    assert model.neck.reduce_layers[0].conv.weight.abs().max() > 0


def test_auxiliary_neck_of_a_checkpoint(tmp_path, reference, model):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "whole.pth"))
    again = MODELS.build(nanodet.detector_config(init_cfg=init_cfg))
    again.init_weights()
    loaded = again.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded[name]), name


def test_every_parameter_gets_a_gradient(reference):
    torch.manual_seed(0)
    model = MODELS.build(nanodet.detector_config()).train()
    images, samples = batch(reference)
    for epoch in (0, 2):
        model.set_epoch(epoch)
        model.zero_grad()
        losses = model(torch.nn.functional.interpolate(images, scale_factor=2), samples, mode="loss")
        sum(value for key, value in losses.items() if "loss" in key).backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_the_auxiliary_head_fits_by_itself():
    model = MODELS.build(nanodet.detector_config())
    assert model.aux_head.num_classes == 5
    assert model.aux_head.in_channels == 32
    assert model.aux_head.reg_max == 7
    assert list(model.aux_head.strides) == [8, 16, 32, 64]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(num_classes=6), r"aux_head.num_classes must be 5 to fit bbox_head, but got 6"),
        (dict(in_channels=16), r"aux_head.in_channels must be 32 .* got 16"),
        (dict(reg_max=16), r"aux_head.reg_max must be 7 .* got 16"),
        (dict(strides=[8, 16, 32]), r"aux_head.strides must be .*64.* got \[8, 16, 32\]"),
    ],
)
def test_an_auxiliary_head_that_does_not_fit(changes, match):
    cfg = nanodet.detector_config()
    cfg["aux_head"] |= changes
    with pytest.raises(ValueError, match=match):
        MODELS.build(cfg)


def test_a_neck_is_needed():
    with pytest.raises(ValueError, match=r"NanoDetPlus needs a config of its neck.*model.neck"):
        MODELS.build(nanodet.detector_config(neck=None))


def test_no_config_of_the_caller_is_changed():
    cfg = nanodet.detector_config()
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)
    assert cfg == before
