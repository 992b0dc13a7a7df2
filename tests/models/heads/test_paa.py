"""PAA: which candidates are positive, against loops over images, ground truths and levels."""

import pytest
import torch

from densehead.models.heads import PAAHead, paa
from densehead.models.heads.paa_candidates import CandidateTable, part_as_the_paper, part_at_peak
from densehead.models.heads.paa_mixture import fit_mixtures
from densehead.models.losses import dense
from densehead.structures import IGNORED, NEGATIVE
from tests.models.heads.heads import CANDIDATES, build, config, features, samples, total

LOW, HIGH = 0, 1


def table_of(*rows):
    losses = torch.full((len(rows), max(map(len, rows))), torch.inf)
    for row, values in enumerate(rows):
        losses[row, : len(values)] = torch.tensor(values)
    return CandidateTable(torch.arange(losses.numel()).view_as(losses), losses)


class TestCandidateTable:
    def make(self, losses, truth, level, topk=2, num_truths=3, num_levels=2):
        return CandidateTable.best_of_levels(
            torch.tensor(losses, dtype=torch.float),
            torch.tensor(truth, dtype=torch.long),
            torch.tensor(level, dtype=torch.long),
            topk=topk,
            num_truths=num_truths,
            num_levels=num_levels,
        )

    def test_by_hand(self):
        """Truth 0 has three candidates on level 0, of which the worst goes, and one on level 1; truth 1 none."""
        table = self.make([0.5, 0.2, 0.9, 0.3, 0.7], [0, 0, 0, 0, 2], [0, 0, 0, 1, 1])
        inf = torch.inf
        torch.testing.assert_close(
            table.losses, torch.tensor([[0.2, 0.3, 0.5, inf], [inf, inf, inf, inf], [0.7, inf, inf, inf]])
        )
        assert table.index[0, :3].tolist() == [1, 3, 0]
        assert table.index[2, 0] == 4
        assert table.count.flatten().tolist() == [3, 0, 1]

    @pytest.mark.parametrize("seed", range(5))
    def test_loops_find_the_same(self, seed):
        generator = torch.Generator().manual_seed(seed)
        losses = torch.rand(200, generator=generator)
        losses[::17] = torch.tensor([torch.nan, torch.inf, -torch.inf])[torch.arange(12) % 3]
        truth, level = (torch.randint(high, (200,), generator=generator) for high in (7, 3))
        table = CandidateTable.best_of_levels(losses, truth, level, topk=4, num_truths=7, num_levels=3)
        for row in range(7):
            best = []
            for number in range(3):
                mine = [
                    (losses[i].item(), i)
                    for i in range(200)
                    if truth[i] == row and level[i] == number and losses[i].isfinite()
                ]
                best += sorted(mine)[:4]
            assert table.index[row][table.is_real[row]].tolist() == [index for _, index in sorted(best)]

    def test_none(self):
        assert self.make([], [], []).count.sum() == 0
        assert self.make([], [], [], num_truths=0).losses.shape == (0, 4)

    def test_named_samples(self):
        table = self.make([0.5, 0.2, 0.9, 0.3, 0.7], [0, 0, 0, 0, 2], [0, 0, 0, 1, 1])
        mask = torch.zeros(3, 4, dtype=torch.bool)
        mask[0, 1] = mask[2, 0] = mask[1] = True  # row 1 is padding
        assert table.named_by(mask, 5).tolist() == [False, False, False, True, True]


class TestParting:
    @pytest.mark.parametrize(
        ("component", "log_density", "mmdet", "paper"),
        [
            ([LOW, LOW, LOW, HIGH], [0.0, 2.0, 1.0, 9.0], [1, 1, 0, 0], [1, 1, 0, 0]),
            ([HIGH, LOW, LOW, HIGH], [9.0, 0.0, 1.0, 9.0], [0, 1, 1, 0], [1, 1, 1, 0]),  # the wide one takes the lowest
            ([HIGH, HIGH, HIGH, HIGH], [0.0, 2.0, 1.0, 0.0], [0, 0, 0, 0], [1, 1, 1, 1]),  # no low-loss component
            ([LOW, LOW, LOW, LOW], [1.0, 1.0, 1.0, 1.0], [1, 0, 0, 0], [1, 0, 0, 0]),  # the first of equals
            ([LOW, LOW, HIGH, HIGH], [1.0, 1.0 + 1e-13, 0.0, 0.0], [1, 0, 0, 0], [1, 0, 0, 0]),
        ],
    )
    def test_by_hand(self, component, log_density, mmdet, paper):
        table = table_of([0.1, 0.2, 0.3, 0.4])
        arguments = table, torch.tensor([component]), torch.tensor([log_density], dtype=torch.float64)
        assert part_at_peak(*arguments).long().tolist() == [mmdet]
        assert part_as_the_paper(*arguments).long().tolist() == [paper]

    @pytest.mark.parametrize("component", [LOW, HIGH])
    def test_one_candidate(self, component):
        table = table_of([0.1], [0.2, 0.5, 0.6])
        arguments = table, torch.full((2, 3), component), torch.zeros(2, 3, dtype=torch.float64)
        assert not part_at_peak(*arguments)[0].any()
        assert part_as_the_paper(*arguments)[0].tolist() == [True, False, False]

    def test_padding_is_never_positive(self):
        table = table_of([0.1, 0.2], [], [0.1, 0.2, 0.3])
        density = torch.tensor([[0.0, 1.0, 9.0]] * 3, dtype=torch.float64)
        for part in (part_at_peak, part_as_the_paper):
            assert not (part(table, torch.zeros(3, 3, dtype=torch.long), density) & ~table.is_real).any()


def settle(head, counts=(5, 3), seed=0):
    """Return the assignment before and after :meth:`PAAHead.settle`, and what it was called with."""
    seen, inner = {}, head.settle

    def spy(predictions, priors, targets, assignment):
        seen.update(predictions=predictions, priors=priors, targets=targets, before=assignment)
        return inner(predictions, priors, targets, assignment)

    head.settle = spy
    losses = head.loss(features(seed=seed), samples(list(counts), seed=seed))
    head.settle = inner
    assert all(value.isfinite() for value in losses.values())
    return seen, head.last_assignment


def naive_settled(head, seen):
    """Candidate by candidate: (B, P) ground truths."""
    before, priors = seen["before"].gt_index, seen["priors"]
    result = before.masked_fill(before >= 0, NEGATIVE)
    for image, truths in enumerate(seen["targets"].counts):
        for truth in range(truths):
            kept = []
            for level in range(priors.num_levels):
                found = ((before[image] == truth) & (priors.level_index == level)).nonzero()[:, 0]
                pairs = [(candidate_loss(head, seen, image, prior, truth), prior) for prior in found.tolist()]
                kept += sorted(pairs)[: head.topk]
            kept = sorted(kept)
            if len(kept) < 2:
                continue
            losses = torch.tensor([[loss for loss, _ in kept]])
            component, density = fit_mixtures(losses, torch.ones_like(losses, dtype=torch.bool), head.covariance_type)
            low = [place for place in range(len(kept)) if component[0, place] == 0]
            if low:
                peak = max(low, key=lambda place: density[0, place])
                for place in low:
                    if place <= peak:
                        result[image, kept[place][1]] = truth
    return result


def candidate_loss(head, seen, image, prior, truth):
    where = torch.tensor([image]), torch.tensor([prior])
    label = seen["targets"].labels[image, truth][None]
    cls_loss = head.loss_cls(seen["predictions"]["cls_logits"].at(*where), label, reduction_override="none").sum()
    box = seen["predictions"].boxes_at(*where)
    box_loss = head.loss_bbox(box, seen["targets"].boxes[image, truth][None], reduction_override="none").sum()
    return (cls_loss + box_loss).item()


@pytest.mark.parametrize("name", ["PAAHead", "PAAHead-anchors"])
@pytest.mark.parametrize("topk", [1, 2, 9, 1000])
@pytest.mark.parametrize("low_quality", [True, False])
def test_loops_settle_the_same(name, topk, low_quality):
    assigner = dict(CANDIDATES, match_low_quality=low_quality)
    head = build(name, topk=topk, gmm_scheme="mmdet", train_cfg=dict(assigner=assigner))
    seen, after = settle(head)
    assert torch.equal(after.gt_index, naive_settled(head, seen))
    assert 0 < after.num_pos.sum() <= seen["before"].num_pos.sum()


@pytest.mark.parametrize("counts", [(0, 0), (0, 4), (1, 0), (1, 1), (150, 3)])
@pytest.mark.parametrize("scheme", ["mmdet", "paper"])
def test_positives_are_among_the_candidates(counts, scheme):
    seen, after = settle(build("PAAHead", gmm_scheme=scheme), counts)
    before = seen["before"]
    assert torch.equal(after.gt_index[after.is_positive], before.gt_index[after.is_positive])
    assert torch.equal(after.is_ignored, before.is_ignored)
    assert (after.gt_index[before.is_positive & ~after.is_positive] == NEGATIVE).all()
    if scheme == "paper":  # no ground truth that has a candidate goes without
        assert torch.equal(after.num_missed(seen["targets"]), before.num_missed(seen["targets"]))


def test_one_candidate_by_either_scheme():
    assigner = dict(type="MaxIoUAssigner", pos_iou_thr=2.0, neg_iou_thr=0.1, gt_max_assign_all=False)
    positives = {}
    for scheme in paa.SCHEMES:
        seen, after = settle(build("PAAHead", gmm_scheme=scheme, train_cfg=dict(assigner=assigner)))
        assert seen["before"].num_pos.tolist() == [5, 3]
        positives[scheme] = after.num_pos.tolist()
    assert positives == {"mmdet": [0, 0], "paper": [5, 3]}


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_scikit_learn_by_config(covariance_type):
    results = [settle(build("PAAHead", gmm=gmm, covariance_type=covariance_type))[1].gt_index for gmm in paa.FITS]
    assert torch.equal(*results)


class TestSeparationOfASubclass:
    """A scheme written for mmdetection: one ground truth a call."""

    class Half(PAAHead):
        def gmm_separation_scheme(self, gmm_assignment, scores, pos_inds_gmm):
            assert gmm_assignment.shape == scores.shape == pos_inds_gmm.shape
            assert (gmm_assignment[:1] == LOW).all()
            is_low = gmm_assignment == LOW
            return pos_inds_gmm[is_low][: is_low.sum() // 2], pos_inds_gmm[~is_low]

    def make(self, kind, **changes):
        keys = {key: value for key, value in config("PAAHead", **changes).items() if key != "type"}
        torch.manual_seed(0)
        head = kind(**keys)
        head.init_weights()
        return head

    def test_it_decides(self):
        seen, after = settle(self.make(self.Half))
        before = seen["before"]
        assert after.has_ignored
        assert (after.is_ignored & before.is_positive).any()
        assert torch.equal(after.gt_index[after.is_positive], before.gt_index[after.is_positive])
        lows = [  # the mixtures are those of the head as it is
            (settle(self.make(self.All))[1].gt_index == truth).sum(1) for truth in range(5)
        ]
        halves = [(after.gt_index == truth).sum(1) for truth in range(5)]
        assert torch.equal(torch.stack(halves), torch.stack(lows) // 2)

    class All(PAAHead):
        def gmm_separation_scheme(self, gmm_assignment, scores, pos_inds_gmm):
            return pos_inds_gmm[gmm_assignment == LOW], pos_inds_gmm[:0]

    @pytest.mark.parametrize("scheme", ["mmdet", "paper"])
    def test_calling_the_heads_own_is_what_it_does(self, scheme):
        class Same(PAAHead):
            def gmm_separation_scheme(self, *args):
                return super().gmm_separation_scheme(*args)

        expected = settle(self.make(PAAHead, gmm_scheme=scheme))[1].gt_index
        assert torch.equal(settle(self.make(Same, gmm_scheme=scheme))[1].gt_index, expected)

    @pytest.mark.parametrize(("scheme", "expected"), [("mmdet", [0, 0]), ("paper", [5, 3])])
    def test_of_one_candidate_the_config_decides(self, scheme, expected):
        assigner = dict(type="MaxIoUAssigner", pos_iou_thr=2.0, neg_iou_thr=0.1, gt_max_assign_all=False)
        head = self.make(self.All, gmm_scheme=scheme, train_cfg=dict(assigner=assigner))
        assert settle(head)[1].num_pos.tolist() == expected

    def test_one_that_is_both_is_ignored(self):
        class Both(PAAHead):
            def gmm_separation_scheme(self, gmm_assignment, scores, pos_inds_gmm):
                return pos_inds_gmm, pos_inds_gmm

        after = settle(self.make(Both))[1]
        assert after.num_pos.sum() == 0
        assert (after.gt_index == IGNORED).any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_box_that_is_not_finite_is_no_candidate(value):
    head, batch = build("PAAHead"), samples([5, 3])
    truth, metas = [s.gt_instances for s in batch], [s.metainfo for s in batch]
    maps = [[level.detach() for level in levels] for levels in head(features())]
    head.loss_by_feat(*maps, truth, metas)
    prior = head.last_assignment.is_positive[0, : 12 * 16].nonzero()[0, 0]
    maps[1][0][0].flatten(1)[:, prior] = value
    losses = head.loss_by_feat(*maps, truth, metas)
    assert all(loss.isfinite() for loss in losses.values())
    assert head.last_assignment.gt_index[0, prior] == NEGATIVE
    assert head.last_assignment.num_pos[0] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(topk=0), r"bbox_head.topk must be at least 1, but got 0"),
        (dict(covariance_type="round"), r"bbox_head.covariance_type must be one of \('full', .*'round'"),
        (dict(gmm="numpy"), r"bbox_head.gmm must be one of \('torch', 'sklearn'\), but got 'numpy'"),
        (dict(gmm_scheme="b"), r"bbox_head.gmm_scheme must be one of \('mmdet', 'paper'\), but got 'b'"),
    ],
)
def test_bad_keys_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build("PAAHead", **changes)


@pytest.mark.parametrize("kind", ["FocalLoss", "QualityFocalLoss", "VarifocalLoss", "CrossEntropyLoss"])
@pytest.mark.parametrize("box_loss", ["IoULoss", "CIoULoss", "SIoULoss"])
def test_each_candidate_has_one_loss(kind, box_loss):
    head = build("PAAHead", loss_cls=dict(type=kind, use_sigmoid=True), loss_bbox=dict(type=box_loss, loss_weight=3.0))
    seen, _ = settle(head)
    candidates = seen["before"].positives(seen["targets"])
    losses = head.get_pos_loss(seen["predictions"], candidates)
    assert losses.shape == (len(candidates),)
    boxes = seen["predictions"].boxes_at(candidates.image_index, candidates.prior_index)
    box_losses = head.loss_bbox(boxes, candidates.boxes, reduction_override="none")
    assert (losses > box_losses - 1e-6).all()
    head.loss_cls.loss_weight = 0.0
    torch.testing.assert_close(head.get_pos_loss(seen["predictions"], candidates), box_losses)


def test_candidates_in_parts_have_the_same_losses(monkeypatch):
    seen, _ = settle(head := build("PAAHead"))
    candidates = seen["before"].positives(seen["targets"])
    whole = head.get_pos_loss(seen["predictions"], candidates)
    for size in (7 * head.num_classes, 1):  # 1 is less than one candidate has
        monkeypatch.setitem(dense.CHUNK, "cpu", size)
        torch.testing.assert_close(head.get_pos_loss(seen["predictions"], candidates), whole)


def test_pos_weight_counts_in_the_loss_of_a_candidate():
    seen, _ = settle(head := build("PAAHead"))
    candidates = seen["before"].positives(seen["targets"])
    plain = head.get_pos_loss(seen["predictions"], candidates)
    head.train_cfg["pos_weight"] = 2.0
    weighted = head.get_pos_loss(seen["predictions"], candidates)
    head.loss_bbox.loss_weight = 0.0
    head.train_cfg["pos_weight"] = -1
    torch.testing.assert_close(weighted - plain, head.get_pos_loss(seen["predictions"], candidates))


@pytest.mark.parametrize("kind", ["ATSSAssigner", "FCOSAssigner"])
def test_on_the_candidates_of_any_assigner(kind):
    assigner = {
        "ATSSAssigner": dict(type="ATSSAssigner", topk=9),
        "FCOSAssigner": dict(type="FCOSAssigner", regress_ranges=((-1, 24), (24, 48), (48, 1e8))),
    }[kind]
    head = build("PAAHead", train_cfg=dict(assigner=assigner))
    seen, after = settle(head)
    assert torch.equal(after.gt_index, naive_settled(head, seen))


def test_nothing_is_settled_without_a_candidate():
    assigner = dict(type="MaxIoUAssigner", pos_iou_thr=2.0, neg_iou_thr=0.1, match_low_quality=False)
    head = build("PAAHead", train_cfg=dict(assigner=assigner))
    losses = head.loss(features(), samples([4, 3]))
    assert losses["num_pos"] == losses["loss_bbox"] == losses["loss_iou"] == 0
    total(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("images", [1, 3])
def test_each_image_counts_as_one_positive_at_least(images):
    head = build("PAAHead")
    maps = head(features(images))
    batch = samples([0] * images)
    losses = head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])
    rows = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, head.num_classes) for level in maps[0]])
    background = torch.full((len(rows),), head.num_classes)
    summed = head.loss_cls(rows, background, reduction_override="sum")
    torch.testing.assert_close(losses["loss_cls"], summed / images)


def test_votes_may_be_left_out():
    feats, batch = features(), samples([2, 2])
    for sample in batch:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    cfg = dict(build("PAAHead").test_cfg, score_thr=0.001)
    voted, plain = (
        build("PAAHead", score_voting=voting, test_cfg=cfg).eval().predict(feats, batch) for voting in (True, False)
    )
    for one, other in zip(voted, plain):
        assert len(one) == len(other) > 0
        torch.testing.assert_close(one.scores.sort()[0], other.scores.sort()[0])
        assert not torch.equal(one.bboxes, other.bboxes)
        assert (other.scores.diff() <= 0).all()
        assert (one.labels.diff() >= 0).all()
