"""Counts over a data set are those of its scenes, one by one."""

import csv

import numpy as np
import pytest
import torch

from densehead.analysis import AssignmentStatistics
from densehead.apis.analysis import statistics
from densehead.apis.analysis.assignment import batch_of, prepare_comparison
from densehead.apis.analysis.columns import Shapes, read_columns
from densehead.apis.analysis.samples import load_sample
from densehead.apis.analysis.statistics import count_assignments
from tests.apis.analysis.test_assignment import HEADS
from tests.engine.tiny import tiny_config


@pytest.fixture
def config(tmp_path, data_root):
    return tiny_config(tmp_path, data_root)


def same(one, other):
    keys = [key for key, value in vars(one).items() if isinstance(value, np.ndarray)]
    assert len(keys) > 8
    return all(np.array_equal(getattr(one, key), getattr(other, key)) for key in keys)


def test_counts_are_those_of_the_scenes(config, tmp_path):
    comparison = prepare_comparison(config, heads=HEADS, num=3)
    found = count_assignments(comparison, tmp_path / "out")
    expected = AssignmentStatistics(comparison.class_names)
    for scene in prepare_comparison(config, heads=HEADS, num=3).scenes():
        for title, record in scene.records.items():
            expected.add(title, record)
    assert list(found.columns) == list(expected.columns)
    for title, one in found.columns.items():
        assert one.images == 3
        for key, value in vars(expected.columns[title]).items():
            np.testing.assert_equal(getattr(one, key), value, err_msg=f"{title}: {key}")


def test_heads_that_do_not_look_at_predictions_are_handed_none(config):
    """The network runs once for a size of images; records are the same to the last bit."""
    comparison = prepare_comparison(config, heads=["FCOSHead", "ATSSHead"], num=3)
    columns, shapes, sizes = comparison.columns, Shapes(), []
    columns[0].detector.backbone.register_forward_hook(lambda module, args, out: sizes.append(args[0].shape[-2:]))
    batches = [batch_of(columns, load_sample(comparison.dataset, index, 0)) for index in (0, 3, 7)]
    batches[1]["inputs"] = torch.cat([batches[1]["inputs"]] * 2, 3)
    expected = [read_columns(columns, *batch.values()) for batch in batches * 2]
    assert len(sizes) == 6
    del sizes[:]
    found = [read_columns(columns, *batch.values(), shapes=shapes) for batch in batches * 2]
    assert sizes == [(64, 64), (64, 128)]
    for one, other in zip(found, expected):
        assert all(same(one[title], other[title]) for title in ("FCOSHead", "ATSSHead"))


@pytest.mark.parametrize("heads", [["PAAHead"], ["GFLHead"], ["AutoAssignHead"]])
def test_heads_that_look_are_handed_theirs(config, heads):
    comparison = prepare_comparison(config, heads=heads, num=2)
    columns, shapes = comparison.columns, Shapes()
    for sample in (load_sample(comparison.dataset, index, 0) for index in (0, 1)):
        batch = batch_of(columns, sample)
        (expected,) = read_columns(columns, *batch.values()).values()
        (found,) = read_columns(columns, *batch.values(), shapes=shapes).values()
        assert same(found, expected)


def test_processes_load_the_same_images(config, tmp_path):
    options = {"assigners": ["FCOSAssigner"], "seed": 5}
    for workers in (0, 2):
        count_assignments(prepare_comparison(config, **options), tmp_path / f"{workers}", num_workers=workers)
    alone, together = ((tmp_path / name / "objects.csv").read_text() for name in ("0", "2"))
    assert alone == together
    rows = list(csv.DictReader(alone.splitlines()))
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert len({row["image"] for row in rows}) == 8


def test_images_that_the_pipeline_drops_are_passed_over(config, tmp_path, monkeypatch, capsys):
    comparison = prepare_comparison(config, num=4)
    load = statistics.try_sample
    monkeypatch.setattr(statistics, "try_sample", lambda *args: load(*args) if args[1] else None)
    found = count_assignments(comparison, tmp_path)
    assert found.columns["FCOSHead"].images == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 images were passed over")
