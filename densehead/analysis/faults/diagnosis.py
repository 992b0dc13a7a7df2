"""From a step whose losses are not finite to its causes: weights, images, boxes, maps, objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from densehead.analysis.faults.fault import BadObject, Fault, Place, class_name
from densehead.analysis.faults.suspects import find_objects
from densehead.models.heads import DenseHead
from densehead.models.heads.finite import LossReport
from densehead.structures import DetDataSample, box_tensor


@torch.no_grad()
def diagnose(
    detector: nn.Module,
    inputs: Tensor,
    samples: Sequence[DetDataSample],
    report: LossReport,
    classes: Sequence[str] = (),
) -> Fault:
    """Say what is not finite in a step, by what the head has kept of it. No other process need take part.

    Args:
        detector: with the weights that it had for the step.
        inputs: (B, C, H, W) images, as the network saw them.
        samples: their truth.
        report: of the losses.
        classes: names of the classes, where known.
    """
    heads = [one for one in detector.modules() if isinstance(one, DenseHead) and one.last_targets is not None]
    head = next(one for one in heads if one.last_targets.boxes is report.boxes)
    fault = Fault(
        losses=tuple((name, str(value)) for name, value in report.broken().items()),
        parameters=tuple(_bad_parameters(detector)),
        inputs=tuple((image, count, inputs[image].numel()) for image, count in enumerate(_counts(inputs)) if count),
        boxes=tuple(_bad_boxes(samples, classes)),
        places=tuple(_places(head, report)),
        paths=report.paths,
        num_maps=sum(len(levels) for levels in report.maps.values()),
    )
    images = [image for image in range(len(samples)) if not fault.places_of(image)[1]]
    objects = (
        _bad_object(samples, *where, classes, tuple(sorted(losses)))
        for where, losses in find_objects(head, report, images).items()
    )
    return replace(fault, objects=tuple(objects))


def _counts(values: Tensor) -> list[int]:
    """Return how many numbers of each image are not finite."""
    return (~values.isfinite()).flatten(1).sum(1).tolist()


def _bad_parameters(detector: nn.Module) -> Iterator[tuple[str, int, int]]:
    """Yield weights and buffers, but for running statistics that the step itself has made."""
    for prefix, module in detector.named_modules():
        own = list(module.named_parameters(recurse=False))
        if not (isinstance(module, _NormBase) and module.training):
            own += module.named_buffers(recurse=False)
        for name, value in own:
            count = int((~value.isfinite()).sum())
            if count:
                yield f"{prefix}.{name}".lstrip("."), count, value.numel()


def _bad_boxes(samples: Sequence[DetDataSample], classes: Sequence[str]) -> Iterator[BadObject]:
    """Yield the objects whose box is not finite or has no extent."""
    for image, sample in enumerate(samples):
        boxes = box_tensor(sample.gt_instances.bboxes)
        is_bad = ~boxes.isfinite().all(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
        for index in is_bad.nonzero()[:, 0].tolist():
            yield _bad_object(samples, image, index, classes)


def _bad_object(
    samples: Sequence[DetDataSample], image: int, index: int, classes: Sequence[str], losses: tuple[str, ...] = ()
) -> BadObject:
    truth = samples[image].gt_instances
    name = class_name(classes, int(truth.labels[index]))
    return BadObject(image, index, name, tuple(box_tensor(truth.bboxes)[index].tolist()), losses)


def _places(head: DenseHead, report: LossReport) -> Iterator[Place]:
    priors, gt_index = head.last_priors, head.last_assignment.gt_index
    starts = [0, *torch.tensor(priors.num_level_priors).cumsum(0).tolist()]
    for name, levels in report.maps.items():
        for level, values in enumerate(levels):
            for image, count in enumerate(_counts(values)):
                if not count:
                    continue
                is_bad = ~values[image].isfinite().unflatten(0, (head.num_base_priors, -1)).all(1)  # (A, h, w)
                bad = starts[level] + is_bad.permute(1, 2, 0).flatten().nonzero()[:, 0]
                truth = gt_index[image, bad]
                chosen = int((truth >= 0).int().argmax())  # a positive, or else the first
                owner = int(truth[chosen])
                yield Place(
                    name=name,
                    level=level,
                    stride=report.strides[level],
                    image=image,
                    count=count,
                    total=values[image].numel(),
                    point=tuple(priors.points[bad[chosen]].tolist()),
                    object=owner if owner >= 0 else None,
                )
