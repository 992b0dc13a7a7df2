"""Losses under ``torch.compile``: one graph, as far as nothing depends on the data."""

from __future__ import annotations

import pytest
import torch
from torch import _dynamo as dynamo

from densehead.registry import TASK_UTILS
from densehead.structures import Targets
from densehead.version import parse_version
from tests.models.heads import heads

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Dynamo detected a call to a `functools.lru_cache`"),
    pytest.mark.skipif(parse_version(torch.__version__) < (2, 7), reason="PyTorch before 2.7 breaks the graph"),
]
# not PAA and AutoAssign: the sizes of MaxIoUAssigner's windows and of the list of pairs depend on the data
FAST = ["ATSSHead", "GFLHead"]
SLOW = ["FCOSHead", "FCOSHead-plus", "ATSSHead-anchors", "VFNetHead", "NanoDetPlusHead"]
HEADS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
ASSIGNERS = {
    "FCOSAssigner": dict(regress_ranges=heads.RANGES),
    "FCOSAssigner, centres": dict(regress_ranges=heads.RANGES, center_sampling=True),
    "ATSSAssigner": dict(topk=9),
    "SimOTAAssigner": dict(),
    "DynamicSoftLabelAssigner": dict(),
    "TaskAlignedAssigner": dict(topk=13),
}


@pytest.fixture(autouse=True)
def _anew():
    dynamo.reset()
    yield
    dynamo.reset()


@pytest.fixture
def count_captured():
    """How many positives there are is the one number that depends on the data: let the compiler reckon with it."""
    with dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        yield


def compiled(function, backend="eager"):
    return torch.compile(function, fullgraph=True, backend=backend)


class Batch:
    def __init__(self, name: str, counts=(3, 5), **metas) -> None:
        self.head = heads.build(name).train()
        self.maps = [[level.detach().requires_grad_() for level in levels] for levels in self.head(heads.features())]
        samples = heads.samples(list(counts), **metas)
        self.truth = [sample.gt_instances for sample in samples]
        self.metas = [sample.metainfo for sample in samples]
        self.targets = Targets.from_instances(self.truth)

    @property
    def leaves(self):
        return [level for levels in self.maps for level in levels]

    def read(self, maps):
        priors = self.head._training_priors(maps[0], self.metas)
        return priors, self.head._read(maps, priors)

    def gradients(self, losses):
        found = torch.autograd.grad(heads.total(losses), self.leaves, allow_unused=True)
        return [one for one in found if one is not None]


@pytest.mark.parametrize("metas", [dict(), dict(img_shape=(70, 90), pad_shape=(70, 90))], ids=["whole", "padded"])
@pytest.mark.parametrize("name", list(ASSIGNERS))
def test_assigners_on_grids_are_one_graph(name, metas):
    batch = Batch("ATSSHead", **metas)
    assigner = TASK_UTILS.build(dict(ASSIGNERS[name], type=name.split(",")[0]))

    @torch.no_grad()
    def assign(maps):
        priors, predictions = batch.read(maps)
        assignment = assigner(priors, batch.targets, predictions)
        return assignment.gt_index, assignment.overlaps

    torch.testing.assert_close(compiled(assign)(batch.maps), assign(batch.maps))


@pytest.mark.parametrize("name", ["GFLHead", "ATSSHead", pytest.param("PAAHead", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("count_captured")
def test_losses_of_an_assignment_are_one_graph(name):
    batch = Batch(name)
    assignment = batch.head.assign(
        *(lambda priors, predictions: (priors, batch.targets, predictions))(*batch.read(batch.maps))
    )

    def losses(maps):
        priors, predictions = batch.read(maps)
        return batch.head.losses(predictions, priors, batch.targets, assignment)

    expected, found = losses(batch.maps), compiled(losses)(batch.maps)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(batch.gradients(found), batch.gradients(expected))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.usefixtures("count_captured")
def test_losses_by_feat_are_one_graph(name):
    batch = Batch(name, img_shape=(70, 90), pad_shape=(70, 90))

    def losses(maps):
        return batch.head.loss_by_feat(*maps, batch.truth, batch.metas)

    found = compiled(losses)(batch.maps)  # first, for nothing is cached then
    expected = losses(batch.maps)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(batch.gradients(found), batch.gradients(expected))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FCOSHead", "GFLHead"])
@pytest.mark.usefixtures("count_captured")
def test_so_is_their_gradient(name):
    batch = Batch(name)

    def losses(maps):
        return batch.head.loss_by_feat(*maps, batch.truth, batch.metas)

    expected, found = losses(batch.maps), compiled(losses, "aot_eager")(batch.maps)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(batch.gradients(found), batch.gradients(expected))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FCOSHead", "ATSSHead", "NanoDetPlusHead"])
@pytest.mark.usefixtures("count_captured")
def test_numbers_of_objects_share_a_graph(name):
    head, graphs = heads.build(name).train(), []
    maps = [[level.detach() for level in levels] for levels in head(heads.features())]

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    losses = compiled(lambda maps, truth, metas: head.loss_by_feat(*maps, truth, metas), backend)
    for seed, counts in enumerate([(3, 5), (4, 2), (6, 6), (7, 3), (2, 2), (8, 5), (9, 4)]):
        samples = heads.samples(list(counts), seed)
        losses(maps, [sample.gt_instances for sample in samples], [sample.metainfo for sample in samples])
    assert len(graphs) <= 3, len(graphs)  # the first, one for any number, and one where the images have the same
