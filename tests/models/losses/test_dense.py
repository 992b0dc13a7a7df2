"""Losses of score maps as they lie, against the same loss of flattened rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from densehead.models.losses import (
    CrossEntropyLoss,
    FocalLoss,
    QualityFocalLoss,
    VarifocalLoss,
    background,
    classification_loss,
    dense,
    flat_target,
    focal,
)
from densehead.models.losses.dense import MapTargets, as_levels, chunks, flat_loss, in_memory_order
from densehead.structures import LevelTensor

BATCH, CLASSES, PLACES = 3, 5, 14
LAYOUTS = ["contiguous", "channels last", "strided", "expanded"]


def scene(base=2, layout="contiguous", positives=6, dtype=torch.float64, seed=0):
    """Logits (B, A, C, S), where the positives are and which priors are ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(BATCH, base, CLASSES, PLACES, generator=generator, dtype=torch.float64).to(dtype) * 2
    if layout == "channels last":
        logits = logits.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    elif layout == "strided":
        logits = torch.stack((logits, logits + 1), -1)[..., 0]
    elif layout == "expanded":
        logits = logits[:, :, :, :1].expand(-1, -1, -1, PLACES)
    chosen = torch.randperm(BATCH * base * PLACES, generator=generator)[:positives]
    image, prior = chosen // (base * PLACES), chosen % (base * PLACES)
    label = torch.randint(0, CLASSES, (positives,), generator=generator)
    weight = (torch.rand(BATCH, base * PLACES, generator=generator) < 0.8).to(torch.float32)
    weight[0, :3] = 0.5
    return logits, image, prior, label, weight


def naive(logits, image, prior, label, weight, pos_weight, avg_factor, gamma=2.0, alpha=0.25):
    """Sum over images, priors and classes, one by one."""
    total = 0.0
    base = logits.shape[1]
    positives = {(i, p): c for i, p, c in zip(image.tolist(), prior.tolist(), label.tolist(), strict=True)}
    for i in range(logits.shape[0]):
        for p in range(base * logits.shape[3]):
            true = positives.get((i, p), CLASSES)
            factor = 1.0 if weight is None else weight[i, p].item()
            if pos_weight is not None and true < CLASSES:
                factor = pos_weight
            for c in range(CLASSES):
                z = logits[i, p % base, c, p // base] * (-1 if c == true else 1)
                balance = alpha if c == true else 1 - alpha
                total = total + factor * balance * z.sigmoid() ** gamma * torch.log1p(z.exp())
    return total / (avg_factor + torch.finfo(torch.float32).eps)


def both(loss, logits, *positives, avg_factor=4.0, **options):
    """Value and gradient by the maps and by flattened rows."""
    found = []
    for form in ("maps", "rows"):
        x = logits.detach().requires_grad_()  # as it lies
        if form == "maps":
            value = loss.forward_maps(x, *positives, avg_factor=torch.tensor(avg_factor), **options)
        else:
            options = {"weight": None, "pos_weight": None} | options
            value = flat_loss(loss, as_levels(x), MapTargets.of(as_levels(x), *positives, **options), avg_factor)
        (value * 1.7).backward()
        found.append((value.detach(), x.grad))
    return found


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pos_weight", [None, 2.5])
def test_focal_maps_equal_a_loop(plain, weighted, pos_weight):
    logits, *positives, weight = scene()
    loss = FocalLoss()
    loss.plain = plain
    weight = weight if weighted else None
    logits.requires_grad_()
    expected = naive(logits, *positives, weight, pos_weight, 4.0)
    (expected_grad,) = torch.autograd.grad(expected, logits)
    value = loss.forward_maps(logits, *positives, weight=weight, pos_weight=pos_weight, avg_factor=4.0)
    (grad,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("chunk", [7, 64, 1 << 18])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("base", [1, 3])
def test_maps_equal_rows_in_any_layout(base, layout, weighted, chunk, monkeypatch):
    monkeypatch.setitem(dense.CHUNK, "cpu", chunk)
    logits, *positives, weight = scene(base, layout)
    loss = FocalLoss(gamma=1.5, alpha=0.4, loss_weight=1.3)
    maps, rows = both(loss, logits, *positives, weight=weight if weighted else None)
    torch.testing.assert_close(maps, rows)
    if layout == "channels last":
        assert maps[1].permute(0, 3, 1, 2).is_contiguous()  # the gradient lies as the logits do


@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck(weighted):
    logits, *positives, weight = scene()
    options = {"weight": weight if weighted else None, "avg_factor": 3.0}
    assert torch.autograd.gradcheck(
        lambda x: FocalLoss().forward_maps(x, *positives, **options), logits.requires_grad_()
    )


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("avg_factor", [0.0, 1.0])
def test_no_positives(plain, avg_factor):
    logits, *positives, _ = scene(positives=0)
    loss = FocalLoss()
    loss.plain = plain
    maps, rows = both(loss, logits, *positives, avg_factor=avg_factor)
    torch.testing.assert_close(maps, rows)
    assert maps[0].isfinite()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("shape", [(0, 1, 5, 14), (2, 1, 5, 0)])
def test_no_images_or_places(plain, shape):
    logits, none = torch.zeros(shape, requires_grad=True), torch.zeros(0, dtype=torch.long)
    loss = FocalLoss()
    loss.plain = plain
    value = loss.forward_maps(logits, none, none, none, avg_factor=torch.tensor(0.0))
    value.backward()
    assert value.item() == 0
    assert logits.grad.shape == shape


def test_all_ignored_is_zero():
    logits, *positives, weight = scene()
    (value, grad), _ = both(FocalLoss(), logits, *positives, weight=torch.zeros_like(weight), avg_factor=0.0)
    assert value.item() == 0
    assert grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("plain", [False, True])
def test_half_precision_is_computed_in_float32(dtype, plain):
    logits, *positives, weight = scene(dtype=dtype)
    loss = FocalLoss()
    loss.plain = plain
    grads, values = [], []
    for x in (logits, logits.float()):
        x = x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss.forward_maps(x, *positives, weight=weight, avg_factor=torch.tensor(1e6))
        # the gradients are about 1e-8, below float16's range, but not with the loss scale
        (value * 2.0**16).backward()
        values.append(value)
        grads.append(x.grad)
    assert values[0].dtype == torch.float32
    assert grads[0].dtype == dtype
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(grads[0], grads[1].to(dtype))
    assert grads[0].abs().max() > 0


def test_sure_and_wrong_is_finite():
    logits = torch.full((1, 1, 2, 2), 300.0, requires_grad=True)
    one = torch.tensor([0])
    value = FocalLoss().forward_maps(logits, one, one, one, avg_factor=1.0)
    value.backward()
    assert value.item() == pytest.approx(3 * 0.75 * 300)
    torch.testing.assert_close(logits.grad.flatten(), torch.tensor([0.0, 0.75, 0.75, 0.75]))


def test_equal_logits_keep_their_digits():
    """A fresh head puts out one number everywhere; adding it up naively loses digits."""
    logits = torch.full((1, 1, 80, 20_000), -4.595)
    none = torch.zeros(0, dtype=torch.long)
    value = FocalLoss().forward_maps(logits, none, none, none, avg_factor=1.0)
    one = FocalLoss().forward_maps(logits[..., :1, :1].double(), none, none, none, avg_factor=1.0)
    assert value.item() == pytest.approx(one.item() * logits.numel(), rel=2e-6)


def test_gradient_of_a_gradient_needs_the_plain_form():
    logits, *positives, _ = scene()
    logits.requires_grad_()
    loss = FocalLoss()
    value = loss.forward_maps(logits, *positives, avg_factor=1.0)
    with pytest.raises(RuntimeError, match="set plain=True on the loss module"):
        torch.autograd.grad(value, logits, create_graph=True)
    loss.plain = True
    assert torch.autograd.gradgradcheck(lambda x: loss.forward_maps(x, *positives, avg_factor=1.0), logits)


def test_backward_twice_gives_the_same():
    logits, *positives, _ = scene()
    logits.requires_grad_()
    value = FocalLoss().forward_maps(logits, *positives, avg_factor=1.0)
    tripled = value * 3
    first = torch.autograd.grad(tripled, logits, retain_graph=True)[0].clone()
    torch.testing.assert_close(torch.autograd.grad(tripled, logits, retain_graph=True)[0], first)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0] * 3, first)


@pytest.mark.parametrize("pos_weight", [None, 2.0])
def test_weights_may_be_a_mask(pos_weight):
    logits, *positives, weight = scene()
    options = {"pos_weight": pos_weight, "avg_factor": 2.0}
    found = FocalLoss().forward_maps(logits, *positives, weight=weight > 0.7, **options)
    expected = FocalLoss().forward_maps(logits, *positives, weight=(weight > 0.7).float(), **options)
    torch.testing.assert_close(found, expected)


def test_without_gradient_and_without_change_of_the_inputs():
    logits, *positives, weight = scene()
    before = [one.clone() for one in (logits, *positives, weight)]
    with torch.no_grad():
        value = FocalLoss().forward_maps(logits, *positives, weight=weight, pos_weight=3.0, avg_factor=1.0)
    assert not value.requires_grad
    for one, copy in zip((logits, *positives, weight), before, strict=True):
        assert torch.equal(one, copy)


def test_reductions():
    logits, *positives, _ = scene()
    mean, total = FocalLoss(), FocalLoss(reduction="sum")
    value = mean.forward_maps(logits, *positives)
    torch.testing.assert_close(value * logits.numel(), total.forward_maps(logits, *positives))
    assert FocalLoss(reduction="none").forward_maps(logits, *positives).numel() == logits.numel()
    with pytest.raises(ValueError, match=r"avg_factor .* needs reduction='mean', but got 'sum'"):
        total.forward_maps(logits, *positives, avg_factor=2.0)


def test_activated_scores_are_flattened():
    logits, *positives, weight = scene()
    found = FocalLoss(activated=True).forward_maps(logits.sigmoid(), *positives, weight=weight, avg_factor=2.0)
    torch.testing.assert_close(found, FocalLoss().forward_maps(logits, *positives, weight=weight, avg_factor=2.0))


class ForeignLoss(torch.nn.Module):
    """As another framework might have it: rows, labels, weights."""

    use_sigmoid = True

    def forward(self, pred, target, weight=None, avg_factor=None):
        self.seen = SimpleNamespace(pred=pred, target=target, weight=weight, avg_factor=avg_factor)
        return pred.sum()


def test_any_other_loss_gets_rows_in_the_order_of_the_priors():
    logits, image, prior, label, weight = scene(base=2)
    loss = ForeignLoss()
    classification_loss(loss, logits, image, prior, label, weight=weight, pos_weight=9.0, avg_factor=4.0)
    count = 2 * PLACES
    assert loss.seen.avg_factor == 4.0
    for i in range(BATCH):
        for p in range(count):
            row = i * count + p
            assert torch.equal(loss.seen.pred[row], logits[i, p % 2, :, p // 2])
            is_this = (image == i) & (prior == p)
            assert loss.seen.target[row] == (label[is_this].item() if is_this.any() else CLASSES)
            assert loss.seen.weight[row] == (9.0 if is_this.any() else weight[i, p])


def test_classification_loss_hands_maps_to_losses_that_read_them(monkeypatch):
    logits, *positives, weight = scene()
    monkeypatch.setattr(focal, "flat_loss", lambda *_: pytest.fail("flattened"))
    options = {"weight": weight, "pos_weight": 2.0, "avg_factor": 4.0}
    found = classification_loss(FocalLoss(), logits, *positives, **options)
    torch.testing.assert_close(found, FocalLoss().forward_maps(logits, *positives, **options))


def test_background_of_a_softmax_is_the_last_channel():
    logits, image, prior, _, _ = scene(base=1)
    label = torch.zeros_like(image)
    found = classification_loss(CrossEntropyLoss(), logits, image, prior, label, avg_factor=4.0)
    labels = torch.full((BATCH, PLACES), CLASSES - 1)
    labels[image, prior] = 0
    scores = logits[:, 0].log_softmax(1).gather(1, labels[:, None])
    torch.testing.assert_close(found, -scores.sum() / 4)


@pytest.mark.parametrize("size", [1, 5, 24, 1000])
def test_chunks_cover_everything_once(size):
    whole, other = torch.arange(120).view(2, 1, 5, 12), torch.arange(120).view(2, 1, 5, 12) * 2
    pieces = list(chunks(size, whole, None, other))
    assert all(a.numel() <= size and torch.equal(a * 2, b) and none is None for a, none, b in pieces)
    assert torch.equal(torch.cat([a.flatten() for a, _, _ in pieces]), torch.arange(120))


def test_memory_order_is_flat_where_memory_is_one_run():
    logits = torch.zeros(2, 14, 3, 5).permute(0, 2, 3, 1)
    assert in_memory_order(logits)[0].shape == (420,)
    assert in_memory_order(logits, logits.mean((1, 2), keepdim=True).expand_as(logits))[0].shape == (2, 14, 3, 5)


QUALITY_LOSSES = [QualityFocalLoss(), QualityFocalLoss(beta=1.5), VarifocalLoss(), VarifocalLoss(iou_weighted=False)]


@pytest.mark.parametrize("loss", QUALITY_LOSSES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("base", [1, 2])
def test_losses_of_qualities_read_maps_as_rows(loss, layout, base):
    logits, *positives, weight = scene(base=base, layout=layout)
    quality = torch.tensor([0.0, 1.0, 0.3, 0.9, 0.5, 0.01], dtype=torch.float64)  # a positive may be worth nothing
    options = {"weight": weight, "pos_weight": 2.0}
    found = {}
    for form in ("fused", "plain", "rows"):
        x = logits.detach().requires_grad_()
        loss.plain = form == "plain"
        if form == "rows":
            targets = MapTargets.of(as_levels(x), *positives, **options, quality=quality)
            value = flat_loss(loss, as_levels(x), targets, 4.0)
        else:
            value = loss.forward_maps(x, *positives, pos_quality=quality, avg_factor=4.0, **options)
        (value * 1.7).backward()
        found[form] = value.detach(), x.grad
    loss.plain = False
    for form in ("fused", "plain"):
        torch.testing.assert_close(found[form], found["rows"])


@pytest.mark.parametrize("loss", [QualityFocalLoss(), VarifocalLoss()], ids=str)
def test_mean_of_maps_without_a_factor_is_that_of_rows(loss):
    logits, *positives, _ = scene()
    quality = torch.rand(6, dtype=torch.float64)
    targets = MapTargets.of(as_levels(logits), *positives, weight=None, pos_weight=None, quality=quality)
    expected = flat_loss(loss, as_levels(logits), targets, None)
    torch.testing.assert_close(loss.forward_maps(logits, *positives, pos_quality=quality), expected)


@pytest.mark.parametrize("loss", [QualityFocalLoss(), VarifocalLoss()], ids=str)
def test_a_loss_of_qualities_wants_them(loss):
    logits, *positives, _ = scene()
    with pytest.raises(ValueError, match=f"{type(loss).__name__}.forward_maps needs pos_quality"):
        loss.forward_maps(logits, *positives)
    with pytest.raises(ValueError, match="needs one for every positive"):
        flat_target(loss, torch.zeros(3, dtype=torch.long), None, 2)


def test_a_subclass_learns_qualities_as_its_parent_does():
    class Mine(QualityFocalLoss):
        pass

    logits, *positives, _ = scene()
    quality = torch.rand(6, dtype=torch.float64)
    found = classification_loss(Mine(), logits, *positives, pos_quality=quality, avg_factor=2.0)
    assert found == QualityFocalLoss().forward_maps(logits, *positives, pos_quality=quality, avg_factor=2.0)
    with pytest.raises(ValueError, match=r"Mine\.forward_maps needs pos_quality"):
        classification_loss(Mine(), logits, *positives)


def levels_of(logits, sizes=(8, 5, 1)):
    """The logits (B, A, C, S) as maps of levels."""
    batch, base, classes, _ = logits.shape
    return [part.reshape(batch, base * classes, size, 1) for part, size in zip(logits.split(sizes, 3), sizes)]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("base", [1, 2])
@pytest.mark.parametrize("loss", [FocalLoss(), *QUALITY_LOSSES], ids=str)
def test_levels_one_by_one_are_what_they_are_together(loss, base, weighted, plain):
    logits, *positives, weight = scene(base)
    options = {"weight": weight if weighted else None, "pos_quality": torch.rand(6, dtype=torch.float64)}
    loss.plain, found = plain, []
    for form in ("levels", "one"):
        x = logits.detach().requires_grad_()
        tensor = LevelTensor(levels_of(x), base) if form == "levels" else x
        value = loss.forward_maps(tensor, *positives, avg_factor=torch.tensor(3.0), **options)
        found.append((value, *torch.autograd.grad(value, x)))
    loss.plain = False
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [7, 1 << 19])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(
    "loss", [FocalLoss(gamma=1.5, loss_weight=1.3), FocalLoss(gamma=0.0), *QUALITY_LOSSES], ids=str
)
def test_costs_of_candidates_leave_a_pass_that_the_loss_uses(loss, layout, chunk, weighted, monkeypatch):
    monkeypatch.setitem(dense.CHUNK, "cpu", chunk)
    logits, image, prior, label, weight = scene(2, layout)
    quality = torch.rand(6, dtype=torch.float64)
    x = logits.detach().requires_grad_()
    tensor = LevelTensor.of_joined(x)
    costs = loss.costs_at(tensor, image, prior, label, quality)
    rows = tensor.at(image, prior)
    target = flat_target(loss, label, quality, CLASSES)
    expected = loss(rows, target, reduction_override="none")
    torch.testing.assert_close(costs, expected if expected.ndim == 1 else expected.sum(1))
    options = {"weight": weight if weighted else None, "avg_factor": 3.0, "pos_quality": quality}
    monkeypatch.setattr(background, "_sums", lambda *_: pytest.fail("another pass"))
    value = loss.forward_maps(tensor, image, prior, label, **options)
    (grad,) = torch.autograd.grad(value, x)
    monkeypatch.undo()
    assert not tensor.memo  # used up
    expected = loss.forward_maps(x, image, prior, label, **options)
    torch.testing.assert_close((value, grad), (expected, *torch.autograd.grad(expected, x)))
