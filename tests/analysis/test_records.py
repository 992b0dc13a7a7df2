"""Records hold what the loss was computed on."""

import numpy as np
import pytest
import torch

from densehead.analysis import read_records
from densehead.structures import IGNORED
from tests.models.heads.heads import CONFIGS, build, features, samples


@pytest.mark.parametrize("name", CONFIGS)
def test_a_record_is_the_assignment_of_the_loss(name):
    head, batch = build(name), samples([4, 0, 2])
    head.loss(features(3), batch)
    index, weights, seen = head.last_assignment.gt_index.numpy(), head.positive_weights().numpy(), 0
    for row, record, sample in zip(index, read_records(head), batch, strict=True):
        assert np.array_equal(record.boxes, sample.gt_instances.bboxes.numpy())
        assert np.array_equal(record.labels, sample.gt_instances.labels.numpy())
        assert np.array_equal(record.prior_index, np.flatnonzero(row >= 0))
        assert np.array_equal(record.gt_index, row[row >= 0])
        assert np.array_equal(record.weight, weights[seen : seen + len(record.weight)])
        assert np.array_equal(record.ignored_index, np.flatnonzero(row == IGNORED))
        assert record.weight_name == head.quality_name
        assert record.strides.tolist() == [8, 16, 32]
        assert np.array_equal(record.strides[record.level_index], head.last_priors.strides.numpy())
        seen += len(record.weight)
        naive = np.zeros((len(record.boxes), 3), int)
        for prior, truth in zip(record.prior_index, record.gt_index):
            naive[truth, record.level_index[prior]] += 1
        assert np.array_equal(record.counts(), naive)
        assert np.array_equal(record.is_missed(), naive.sum(1) == 0)


def test_what_lies_in_the_padding_is_not_ignored_but_absent():
    head = build("ATSSHead")
    head.loss(features(), samples([3, 2], pad_shape=(64, 64)))
    assert (head.last_assignment.gt_index == IGNORED).any()
    assert all(len(record.ignored_index) == 0 for record in read_records(head))


def test_without_a_loss_there_is_no_record():
    with pytest.raises(ValueError, match="FCOSHead has kept no assignment: compute a loss first"):
        read_records(build("FCOSHead"))
    head = build("FCOSHead")
    head.last_priors = torch.zeros(1)
    with pytest.raises(ValueError, match="kept no assignment"):
        read_records(head)
