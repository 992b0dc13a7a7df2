"""Heads by name are those of their papers' configs, on the backbone of another."""

import pytest
import torch
from mmengine.config import Config

from densehead.apis.analysis.heads import (
    assigner_config,
    head_config,
    object_scale,
    parse_choice,
    regress_ranges,
)
from densehead.registry import MODELS
from tests.engine.tiny import ROOT
from tests.models.heads.heads import build

CONFIGS = {
    "FCOSHead": "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
    "ATSSHead": "atss/atss_r50_fpn_1x_coco.py",
    "GFLHead": "gfl/gfl_r50_fpn_1x_coco.py",
    "VFNetHead": "vfnet/vfnet_r50_fpn_1x_coco.py",
    "PAAHead": "paa/paa_r50_fpn_1x_coco.py",
    "AutoAssignHead": "autoassign/autoassign_r50-caffe_fpn_1x_coco.py",
}


def small(name, **changes):
    """Return the config of a head of the zoo with thin towers, and the head."""
    model = Config.fromfile(ROOT / "configs" / CONFIGS[name]).model
    cfg = {**model.bbox_head, "in_channels": 16, "feat_channels": 16, "stacked_convs": 1, **changes}
    cfg |= {"norm_cfg": {"type": "GN", "num_groups": 16}, "train_cfg": model.get("train_cfg")}
    return cfg, MODELS.build(cfg)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_head_by_name_is_that_of_its_paper(name):
    """As the zoo's config has it, whichever head the backbone is borrowed from."""
    _, expected = small(name)
    for other in CONFIGS:
        if other == name:
            continue
        own_cfg, own = small(other)
        head = MODELS.build(head_config(name, {"stacked_convs": 1}, own, own_cfg))
        assert type(head) is type(expected)
        assert type(head.assigner) is type(expected.assigner)
        sizes = [(20, 30), (10, 15), (5, 8), (3, 4), (2, 2)]
        priors, wanted = (one.prior_generator.priors(sizes, torch.device("cpu")) for one in (head, expected))
        assert torch.equal(priors.boxes, wanted.boxes)
        for loss in ("loss_cls", "loss_bbox"):
            assert repr(getattr(head, loss)) == repr(getattr(expected, loss))
        assert {key: value.shape for key, value in head.state_dict().items()} == {
            key: value.shape for key, value in expected.state_dict().items()
        }
        for key in ("center_sampling", "norm_on_bbox", "centerness_on_reg", "regress_ranges", "reg_max", "use_vfl"):
            if name != "AutoAssignHead":  # which has them from its parent, and looks at none
                assert getattr(head, key, None) == getattr(expected, key, None)


def test_objects_are_as_large_for_every_head():
    """Anchors of 4 strides and ranges of 4 strides are for the same objects: those of the digits' configs."""
    atss, fcos = (
        Config.fromfile(ROOT / "configs" / "quickstart" / f"{name}_r18_digits.py").model.bbox_head
        for name in ("atss", "fcos")
    )
    heads = [MODELS.build(cfg) for cfg in (atss, fcos)]
    assert [object_scale(head) for head in heads] == [4, 4]
    assert regress_ranges(heads[0]) == regress_ranges(heads[1]) == ((-1, 32), (32, 64), (64, 1e8))
    anchors = head_config("GFLHead", {}, heads[1], fcos)["anchor_generator"]
    assert anchors["octave_base_scale"] == 4
    assert anchors["strides"] == [8, 16, 32]
    assert object_scale(build("NanoDetPlusHead")) == 8


def test_options_come_last():
    own_cfg, own = small("ATSSHead")
    assert head_config("GFLHead", {"reg_max": 5, "strides": 0}, own, own_cfg)["reg_max"] == 5
    assert head_config("ATSSHead", {"pred_kernel_size": 1}, own, own_cfg) == {**own_cfg, "pred_kernel_size": 1}
    assert assigner_config("ATSSAssigner", {}, own) == {"type": "ATSSAssigner", "topk": 9}
    assert assigner_config("ATSSAssigner", {"topk": 3}, own)["topk"] == 3
    assert assigner_config("FCOSAssigner", {}, own)["regress_ranges"][1] == (64, 128)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GFLHead", ("GFLHead", {})),
        ("mine.GFLHead:", ("mine.GFLHead", {})),
        ("A:topk=9,scheme='paper'", ("A", {"topk": 9, "scheme": "paper"})),
        ("A:ranges=((-1,64),(64,1e8)),on=True", ("A", {"ranges": ((-1, 64), (64, 1e8)), "on": True})),
        ("A:loss={'type':'FocalLoss','gamma':2.0}", ("A", {"loss": {"type": "FocalLoss", "gamma": 2.0}})),
    ],
)
def test_choices_are_read(text, expected):
    assert parse_choice(text, "--heads") == expected


@pytest.mark.parametrize(
    "text", ["A:topk", "A:3", "A:topk=", "A:topk=nine", "A:**{}", "A:topk=open('x')", "A:a=1)+(b=2"]
)
def test_choices_that_cannot_be_read(text):
    with pytest.raises(ValueError, match=r"--assigners must be NAME or NAME:key=value,key=value .* but got "):
        parse_choice(text, "--assigners")


def test_what_is_no_head():
    own_cfg, own = small("ATSSHead")
    with pytest.raises(ValueError, match=r"--heads FPN: that is no dense head, as these are: ATSSHead, AutoAssignHead"):
        head_config("FPN", {}, own, own_cfg)
    with pytest.raises(ValueError, match="that is no dense head, as these are: ATSSHead, AutoAssignHead, FCOSHead"):
        head_config("AnchorFreeHead", {}, own, own_cfg)
    with pytest.raises(KeyError, match="Did you mean 'GFLHead'"):
        head_config("GFLHed", {}, own, own_cfg)
    with pytest.raises(KeyError, match="Did you mean 'ATSSAssigner'"):
        assigner_config("ATSSAsigner", {}, own)
