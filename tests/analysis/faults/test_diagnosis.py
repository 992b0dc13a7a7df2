"""What is told of a fault is what was planted, with every head."""

import os

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image
from torch import nn

from densehead.analysis.faults import Fault, Place, diagnose
from densehead.analysis.faults.fault import BadObject, differences
from densehead.analysis.faults.picture import draw_fault
from densehead.analysis.faults.suspects import find_objects, only
from densehead.models.heads.finite import LossNotFinite, LossReport, looking
from densehead.registry import MODELS
from densehead.structures import DetDataSample, LevelTensor
from tests.host_sync import PretendGpu, needs_pretended_gpu, to_gpu
from tests.models.heads.heads import CONFIGS, build, features, samples

all_heads = pytest.mark.parametrize("name", CONFIGS)
CLASSES = ("ant", "bee", "cow", "dog", "elk")
NAN = float("nan")


def caught(head, feats, batch):
    with pytest.raises(LossNotFinite) as error:
        head.loss(feats, batch)
    return error.value.report


def batch_of(*counts):
    made = samples(list(counts))
    for number, sample in enumerate(made):
        sample.set_metainfo({"img_path": f"photos/{number}.jpg"})
    return made


@all_heads
def test_a_number_of_a_map_at_a_positive(name):
    head, batch = build(name), batch_of(4, 3)
    head.loss(features(), batch)
    positives = head.last_assignment.positives(head.last_targets)
    chosen = int((positives.image_index == 1).int().argmax())
    prior, owner = int(positives.prior_index[chosen]), int(positives.gt_index[chosen])
    maps = head(features())
    level = int(head.last_priors.level_index[prior])
    channels, _, width = maps[0][level].shape[1:]
    place, base = divmod(prior - sum(head.last_priors.num_level_priors[:level]), head.num_base_priors)
    maps[0][level].data[1, base * channels // head.num_base_priors, place // width, place % width] = NAN
    with pytest.raises(LossNotFinite) as error:
        head.loss_by_feat(*maps, [one.gt_instances for one in batch], [one.metainfo for one in batch])
    report = error.value.report
    index = head.last_assignment.gt_index[1, prior]
    fault = diagnose(head, torch.zeros(2, 3, 96, 128), batch, report, CLASSES)
    (found,) = [one for one in fault.places if one.name == "cls_logits"]
    assert (found.level, found.image, found.count) == (level, 1, 1)
    assert found.stride == head.last_priors.strides[prior]
    assert found.point == tuple(head.last_priors.points[prior].tolist())
    assert found.object == (int(index) if index >= 0 else None)
    if not name.startswith(("PAA", "AutoAssign", "NanoDet")):  # which have assigned anew
        assert found.object == owner
    assert fault.images() == [1]
    assert fault.paths == ("photos/0.jpg", "photos/1.jpg")
    assert f"of level {level} (stride {found.stride:g}) of image 1 (1.jpg): 1 of " in fault.headline()


@all_heads
@pytest.mark.parametrize("guilty", [[(2, 4)], [(0, 0), (2, 3)]])
def test_objects_that_a_loss_is_not_finite_for(name, guilty, monkeypatch):
    head, batch = build(name), batch_of(4, 0, 5)
    boxes = torch.stack([batch[image].gt_instances.bboxes[index] for image, index in guilty])
    losses = head.losses

    def spoilt(predictions, priors, targets, assignment):
        found = losses(predictions, priors, targets, assignment)
        there = (targets.boxes[..., None, :] == boxes).all(-1).any(-1) & targets.is_valid
        last = list(found)[-1]
        return found | {last: found[last].where(~there.any(), NAN)}

    monkeypatch.setattr(head, "losses", spoilt)
    report = caught(head, features(3), batch)
    last = list(report.losses)[-1]
    assert find_objects(head, report, range(3)) == {one: {last} for one in guilty}
    fault = diagnose(head, torch.zeros(3, 3, 96, 128), batch, report, CLASSES)
    assert [(one.image, one.object) for one in fault.objects] == guilty
    image, index = guilty[0]
    label = CLASSES[int(batch[image].gt_instances.labels[index])]
    assert fault.objects[0].label == label
    assert f"{last} is nan: object {index} ({label}, box " in fault.headline()
    assert fault.images() == sorted({image for image, _ in guilty})


@all_heads
def test_all_objects_alone_are_all_objects(name):
    head, batch = build(name), batch_of(4, 0, 5)
    batch[0].ignored_instances = InstanceData(bboxes=torch.tensor([[8.0, 8.0, 30.0, 40.0]]))
    expected = {name: value for name, value in head.loss(features(3), batch).items() if name.startswith("loss")}
    kept = [(0, index) for index in range(4)] + [(2, index) for index in range(5)]
    targets, assignment = only(head.last_targets, head.last_assignment, kept)
    assert torch.equal(assignment.gt_index, head.last_assignment.gt_index)
    predictions = head.predictions_of(dict(zip(head.map_names, _maps(head))), head.last_priors)
    found = head.losses(predictions, head.last_priors, targets, assignment)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def _maps(head):
    maps = head(features(3))
    return (maps[0], maps[1], maps[-1]) if len(head.map_names) == 3 else maps


def test_some_objects_alone():
    head, batch = build("FCOSHead"), batch_of(3, 2)
    head.loss(features(), batch)
    before = head.last_assignment.gt_index
    targets, assignment = only(head.last_targets, head.last_assignment, [(0, 2), (1, 0)])
    assert targets.counts == (1, 1)
    assert torch.equal(targets.boxes[0, 0], batch[0].gt_instances.bboxes[2])
    assert torch.equal(targets.labels[1, 0], batch[1].gt_instances.labels[0])
    assert torch.equal(assignment.gt_index[0] == 0, before[0] == 2)
    assert torch.equal(assignment.gt_index[1] == 0, before[1] == 0)
    assert int(assignment.num_pos.sum()) == int((before[0] == 2).sum() + (before[1] == 0).sum()) > 0


def test_weights_images_and_boxes_come_first():
    head, batch = build("ATSSHead"), batch_of(2, 2)
    head.atss_cls.weight.data[1, 2] = NAN
    report = caught(head, features(), batch)
    batch[0].gt_instances.bboxes[1] = torch.tensor([5.0, 5.0, float("inf"), 9.0])
    batch[1].gt_instances.bboxes[0] = torch.tensor([5.0, 5.0, 5.0, 9.0])
    inputs = torch.zeros(2, 3, 4, 4)
    inputs[0, 1, 2, :3] = float("inf")
    fault = diagnose(head, inputs, batch, report)
    assert fault.parameters == (("atss_cls.weight", 9, 5 * 8 * 9),)
    assert fault.inputs == ((0, 3, 48),)
    assert [(one.image, one.object) for one in fault.boxes] == [(0, 1), (1, 0)]
    lines = "\n".join(fault.lines())
    for before, after in zip(order := ["Weights", "Images", "Ground truth", "Maps", "Worth a look"], order[1:]):
        assert lines.index(f"{before}") < lines.index(f"{after}")
    assert "object 1 (class " in lines
    assert fault.headline() == "loss_cls is nan: atss_cls.weight has 9 of 360 numbers that are not finite"
    assert fault.images() == [0]
    index, level = head.last_assignment.gt_index, head.last_priors.level_index
    owned = [(index[one.image][level == one.level] >= 0).any() for one in fault.places]
    assert [one.object is not None for one in fault.places] == owned
    assert {True, False} == {bool(one) for one in owned}


def test_running_statistics_count_where_they_are_used():
    net = nn.Sequential(nn.BatchNorm2d(2), build("FCOSHead"))
    head = net[1]
    head.conv_cls.bias.data[0] = NAN
    report = caught(head, features(), batch := batch_of(1, 1))
    net[0].running_mean[0] = NAN
    assert [name for name, *_ in diagnose(net, torch.zeros(2, 3, 4, 4), batch, report).parameters] == [
        "1.conv_cls.bias"
    ]
    net[0].eval()
    names = [name for name, *_ in diagnose(net, torch.zeros(2, 3, 4, 4), batch, report).parameters]
    assert names == ["0.running_mean", "1.conv_cls.bias"]


def test_auxiliary_losses():
    head, batch = build("NanoDetPlusHead"), batch_of(3, 3)
    maps, aux = head(features()), head(features(seed=1))
    aux[0][1].data[1, 0, 2, 3] = NAN
    truth = [sample.gt_instances for sample in batch], [sample.metainfo for sample in batch]
    with pytest.raises(LossNotFinite) as error:
        head.loss_by_feat(*maps, *truth, aux_maps=aux)
    fault = diagnose(head, torch.zeros(2, 3, 4, 4), batch, error.value.report, CLASSES)
    assert {one.name for one in fault.places} == {"aux_cls_logits"}
    assert {name for name, _ in fault.losses} == {"aux_loss_cls"}


def test_reports_of_losses_that_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("densehead.models.heads.finite._is_on_host", lambda value: False)
    head, batch = build("FCOSHead"), batch_of(3, 3)
    head.loss(features(), batch)
    assert head.last_report is None
    head.keeps_report = True
    head.loss(features(), batch)
    assert head.last_report.is_finite()
    assert head.last_report.fault() is None
    assert not any(level.requires_grad for levels in head.last_report.maps.values() for level in levels)
    with torch.no_grad():
        head.conv_cls.weight.fill_(NAN)
    head.loss(features(), batch)
    assert not head.last_report.is_finite()
    with pytest.raises(LossNotFinite, match=r"loss_cls is nan\. Not finite: cls_logits of level 0"), looking("always"):
        head.loss(features(), batch)
    with looking("never"):
        head.loss(features(), batch)
    assert head.last_report is None


@needs_pretended_gpu
def test_a_report_does_not_wait_for_a_gpu():
    head, batch = build("FCOSHead"), batch_of(3, 3)
    losses = {name: to_gpu(value.detach()) for name, value in head.loss(features(), batch).items() if "loss" in name}
    maps = {
        name: LevelTensor([to_gpu(level.detach()) for level in levels]) for name, levels in zip("ab", head(features()))
    }
    with PretendGpu(is_strict=True):
        report = LossReport.of(losses, maps, head.last_targets, (8.0, 16.0, 32.0), [{}, {}])
    assert report.is_finite()


@pytest.mark.parametrize(("count", "end"), [(3, "level 2 (stride 8) of image 0 of the batch"), (7, "; 3 more")])
def test_messages_name_a_few_maps(count, end):
    maps = {"cls_logits": tuple(torch.full((1, 2, 2, 2), NAN) for _ in range(count))}
    report = LossReport({"loss": torch.tensor(NAN)}, maps, torch.zeros(1, 1, 4), (8.0,) * count, (None,))
    assert report.fault().endswith(end)


FAULT = Fault(
    losses=(("loss_bbox", "nan"),),
    places=(Place("box_deltas", 1, 16.0, 0, 3, 40, (8.0, 24.0), 1),),
    objects=(BadObject(0, 1, "bee", (10.0, 10.0, 40.0, 50.0), ("loss_bbox",)),),
    paths=("a.jpg", None),
    num_maps=6,
)


def test_differences():
    told = FAULT.as_dict()
    assert differences(told, told) == []
    changed = {**told, "losses": [["loss_cls", "inf"]], "places": [{**told["places"][0], "count": 9, "point": [0, 0]}]}
    assert differences(told, changed) == ["losses: loss_bbox no longer", "losses: loss_cls as well"]
    assert differences(told, {**told, "objects": []}) == ["objects: object 1 of image 0 no longer"]


def test_headlines():
    place = "box_deltas of level 1 (stride 16) of image 0 (a.jpg): 3 of 40 numbers are not finite, such as at (8, 24)"
    assert FAULT.headline() == f"loss_bbox is nan: {place}, a positive of object 1"
    assert Fault((("loss_cls", "inf"),)).headline() == (
        "loss_cls is inf, though weights, images, ground truth and the head's maps are finite"
    )
    many = Fault((("loss_cls", "nan"),), parameters=tuple((f"weight_{index}", 1, 2) for index in range(40)))
    assert many.headline().endswith("weight_2 has 1 of 2 numbers that are not finite; and 37 more")
    assert many.lines()[-1] == "  ... and 10 more"
    whole = {"places": tuple(Place("m", 0, 8.0, image, 4, 4, (4.0, 4.0)) for image in (0, 1)), "num_maps": 1}
    everywhere = Fault((("a", "nan"),), paths=("a.jpg", None), **whole)
    assert everywhere.lines()[-1] == "  all numbers of all maps of image 0 (a.jpg), image 1 are not finite"


@pytest.mark.parametrize("count", [3, 300])
def test_picture(tmp_path, count):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 2, generator=generator) * 150
    sample = DetDataSample(metainfo={"img_shape": (150, 180)})
    boxes = torch.cat([low, low + 20], 1)
    boxes[2] = NAN  # cannot be drawn
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long))
    preprocessor = MODELS.build({"type": "DetDataPreprocessor", "mean": [100.0], "std": [50.0], "bgr_to_rgb": True})
    draw_fault(FAULT, torch.zeros(2, 3, 160, 192), [sample, sample], preprocessor, tmp_path / "out.png", CLASSES)
    picture = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
    assert os.listdir(tmp_path) == ["out.png"]

    def share_near(color):
        return (np.abs(picture - color).sum(-1) < 40).mean()

    assert share_near([213, 94, 0]) > 0  # the object that is concerned
    assert share_near([255, 0, 200]) > 0  # the cell
    assert share_near([100, 100, 100]) > 0.05  # the image, which was all mean
