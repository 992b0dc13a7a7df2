"""Between the maps and the gradient of the maps, the host waits for a GPU where it is listed here, and nowhere else."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.ops import fused
from tests.host_sync import GPU, PretendGpu, needs_pretended_gpu, to_gpu
from tests.models.heads import heads

pytestmark = needs_pretended_gpu

DESIGN = Path(__file__).resolve().parents[3] / "docs" / "design.md"

# Files that wait, and why. docs/design.md names them and the functions.
POSITIVES = "structures/assignment.py"  # how many there are is what the assigner found
WINDOWS = "models/assigners/overlaps.py"  # how many priors around the boxes can reach an IoU
MIXTURES = "models/heads/paa_mixture.py"  # whether all mixtures have converged, every 16 iterations
PAIRS = "models/heads/inside_pairs.py"  # how many points lie inside the boxes
BLOCKS = "models/heads/best_overlaps.py"  # how many blocks of predicted boxes meet a truth
FORCED = "models/heads/center_prior.py"  # which truths have no point inside
REACH = "models/heads/integral.py"  # after batch 1, 10, 100, ...
EXCEPTIONS = {
    "FCOSHead": {POSITIVES},
    "FCOSHead-plus": {POSITIVES},
    "ATSSHead": {POSITIVES},
    "ATSSHead-anchors": {POSITIVES},
    "GFLHead": {POSITIVES},
    "VFNetHead": {POSITIVES},
    "VFNetHead-fcos": {POSITIVES},
    "PAAHead": {WINDOWS, POSITIVES, MIXTURES},
    "PAAHead-anchors": {WINDOWS, POSITIVES, MIXTURES},
    "AutoAssignHead": {PAIRS, BLOCKS},
    "AutoAssignHead-topk": {PAIRS, BLOCKS, FORCED},
    "NanoDetPlusHead": {POSITIVES},
}
SCENES = {
    "plain": dict(counts=[3, 5]),
    "padded": dict(counts=[3, 5], img_shape=(70, 90), pad_shape=(70, 90)),
    "one image is empty": dict(counts=[0, 4]),
    "all images are empty": dict(counts=[0, 0]),
    "regions to ignore": dict(counts=[3, 5], with_ignored=True),
}


class Pretended:
    """A GPU that every machine has."""

    move, message = staticmethod(to_gpu), "makes the host wait"

    def __init__(self) -> None:
        self.gpu = PretendGpu()

    def running(self):
        return self.gpu

    @contextmanager
    def strictly(self, is_strict: bool = True):
        """Raise where the host waits."""
        before, self.gpu.is_strict = self.gpu.is_strict, is_strict
        try:
            yield
        finally:
            self.gpu.is_strict = before


class Real:
    """The GPU, where there is one."""

    message = "synchroniz"

    @staticmethod
    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().cuda().requires_grad_(tensor.requires_grad)

    def running(self):
        return nullcontext()

    @contextmanager
    def strictly(self, is_strict: bool = True):
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error" if is_strict else "default")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


pretends = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")  # where there is no CUDA
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
DEVICES = [pytest.param(Pretended, marks=pretends), pytest.param(Real, marks=needs_gpu)]

WAITING = {
    "a number": lambda x: x[0].item(),
    "a condition": lambda x: bool((x > 1).all()),
    "a list": lambda x: x.tolist(),
    "what is not 0": lambda x: torch.nonzero(x > 1),
    "one-argument where": lambda x: torch.where(x > 1),
    "a mask as an index": lambda x: x[x > 1],
    "values for a mask": lambda x: x.clone().__setitem__(x > 0, x),
    "a number as an index": lambda x: x[x[1]],
    "an index from the host": lambda x: x[torch.tensor([0, 1])],
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "bincount": lambda x: x.bincount(),
    "repeats": lambda x: x.repeat_interleave(x),
    "to the host": lambda x: x.cpu(),
    "to the host by to": lambda x: x.to("cpu"),
    "from the host": lambda x: torch.arange(3).to(x.device),
    "from a list": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "from a list of its kind": lambda x: x.new_tensor([1, 2]),
}
QUICK = {
    "repeats of a known length": lambda x: x.repeat_interleave(x, output_size=7),
    "a number for a mask": lambda x: x.masked_fill(x > 1, 0),
    "a number for a mask as an index": lambda x: x.clone().index_put_((x > 1,), torch.tensor(0)),
    "an index": lambda x: x[x],
    "sorting": lambda x: x.sort().values,
    "the best": lambda x: x.topk(2).indices,
    "from the host, unawaited": lambda x: torch.arange(3).to(x.device, non_blocking=True),
    "another type": lambda x: x.to(torch.float32),
    "made there": lambda x: torch.arange(3, device=GPU) + x.new_zeros(3) + torch.tensor(2),
}


def let_wait(file: str, device, monkeypatch) -> None:
    """Let all functions of a file of densehead wait for the device, wherever they are called."""
    module = importlib.import_module(f"densehead.{file.removesuffix('.py').replace('/', '.')}")
    owned = [one for one in vars(module).values() if getattr(one, "__module__", None) == module.__name__]
    for owner in filter(inspect.isclass, owned):
        for name, method in list(vars(owner).items()):
            if inspect.isfunction(method) and name != "__init__":
                monkeypatch.setattr(owner, name, waiting(method, device))
    functions = {id(one): waiting(one, device) for one in filter(inspect.isroutine, owned)}
    for other in [one for key, one in sys.modules.items() if key.startswith("densehead.")]:
        for name, value in list(vars(other).items()):
            if id(value) in functions:
                monkeypatch.setattr(other, name, functions[id(value)])


def waiting(function, device):
    @functools.wraps(function)
    def call(*args, **kwargs):
        with device.strictly(False):
            result = function(*args, **kwargs)
            return iter(list(result)) if inspect.isgenerator(result) else result

    return call


class Training:
    """A small head whose parameters lie where ``move`` puts them."""

    def __init__(self, name: str, move) -> None:
        self.head, self.move = heads.build(name).train(), move
        with torch.no_grad():
            self.maps = self.head(heads.features())
        for module in self.head.modules():
            for held in (module._parameters, module._buffers):
                held.update({key: move(value) for key, value in held.items() if value is not None})

    def batch(self, counts: list[int], with_ignored: bool = False, **metas):
        """Maps and what ``loss_by_feat`` takes besides them."""
        samples = heads.samples(counts, **metas)
        ignored = [one.gt_instances[:1] for one in heads.samples([1, 1], seed=5)] if with_ignored else [None] * 2
        maps = [[self.move(level.clone()).requires_grad_() for level in levels] for levels in self.maps]
        truth, ignored = ([self._moved(one) for one in some] for some in ([s.gt_instances for s in samples], ignored))
        return maps, truth, [sample.metainfo for sample in samples], ignored

    def _moved(self, truth: InstanceData | None) -> InstanceData | None:
        if truth is None:
            return None
        return InstanceData(bboxes=self.move(truth.bboxes), labels=self.move(truth.labels))

    def step(self, maps, *truth) -> dict[str, torch.Tensor]:
        """Compute losses and gradients."""
        losses = self.head.loss_by_feat(*maps, *truth)
        self.head.last_assignment.num_missed(self.head.last_targets)
        heads.total(losses).backward()
        return losses


@pytest.fixture(autouse=True)
def _triton_cannot_pretend(monkeypatch):
    kernels = fused._kernels
    monkeypatch.setattr(fused, "_kernels", lambda device: None if device == GPU else kernels(device))


def waits(found) -> set[str]:
    """The files in which something waits."""
    return {place.split(":")[0] for place in found}


@pretends
@pytest.mark.parametrize("scene", list(SCENES))
@pytest.mark.parametrize("name", list(heads.CONFIGS))
def test_what_waits_is_what_is_listed(name, scene):
    training = Training(name, to_gpu)
    with PretendGpu():
        training.step(*training.batch(**SCENES[scene]))  # tables of the grids are made once
    batch = training.batch(**SCENES[scene])
    with PretendGpu() as gpu:
        training.step(*batch)
    assert waits(gpu.found) <= EXCEPTIONS[name], gpu.found
    if scene == "plain":
        assert waits(gpu.found) == EXCEPTIONS[name], gpu.found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", list(heads.CONFIGS))
def test_nothing_else_waits(name, device, monkeypatch):
    """The same, the other way round: whatever waits raises, but within what is listed."""
    device = device()
    training = Training(name, device.move)
    with device.running():
        training.step(*training.batch([3, 5]))
    for file in EXCEPTIONS[name]:
        let_wait(file, device, monkeypatch)
    batch = training.batch([3, 5])
    with device.running(), device.strictly():
        training.step(*batch)
    if POSITIVES in EXCEPTIONS[name]:
        monkeypatch.undo()  # the assignment comes before any loss
        with pytest.raises(RuntimeError, match=device.message), device.running(), device.strictly():
            training.step(*batch)


@pretends
@pytest.mark.parametrize("name", list(heads.CONFIGS))
def test_a_pretended_gpu_computes_what_the_cpu_does(name):
    expected, found = Training(name, torch.Tensor.clone), Training(name, to_gpu)
    batch, same = (one.batch([3, 5], img_shape=(70, 90), pad_shape=(70, 90)) for one in (expected, found))
    losses = expected.step(*batch)
    with PretendGpu():
        pretended = found.step(*same)
    for key, value in losses.items():
        torch.testing.assert_close(pretended[key].host, value)
    for levels, others in zip(batch[0], same[0], strict=True):
        for level, other in zip(levels, others, strict=True):
            assert (level.grad is None) == (other.grad is None)
            if level.grad is not None:
                torch.testing.assert_close(other.grad.host, level.grad)


@pretends
@pytest.mark.parametrize("name", ["GFLHead", "NanoDetPlusHead"])
def test_reach_is_read_ever_more_rarely(name):
    training = Training(name, to_gpu)
    waited = []
    for number in range(1, 12):
        with PretendGpu() as gpu:
            training.step(*training.batch([3, 5]))
        if REACH in waits(gpu.found):
            waited.append(number)
    assert waited == [1, 10]


def test_the_exceptions_are_documented():
    text = DESIGN.read_text(encoding="utf-8")
    for file in sorted(set().union(*EXCEPTIONS.values(), {REACH})):
        assert f"| `{file}`, `" in text, file


@pretends
@pytest.mark.parametrize("waits", WAITING, ids=str)
def test_the_detector_sees(waits):
    x = to_gpu(torch.tensor([3, 1, 2, 1]))
    with PretendGpu() as gpu:
        WAITING[waits](x)
    assert list(gpu.found) == ["backward"]  # which stands for what is not in densehead
    with pytest.raises(RuntimeError, match="makes the host wait"), PretendGpu(is_strict=True):
        WAITING[waits](x)


@pretends
@pytest.mark.parametrize("quick", QUICK, ids=str)
def test_the_detector_lets_pass(quick):
    x = to_gpu(torch.tensor([3, 1, 2, 1]))
    with PretendGpu(is_strict=True):
        result = QUICK[quick](x)
        assert result.device.type == "cuda"


def test_devices_do_not_mix():
    x = to_gpu(torch.tensor([3, 1, 2, 1]))
    with pytest.raises(RuntimeError, match="on cpu"), PretendGpu():
        x + torch.ones(4)
