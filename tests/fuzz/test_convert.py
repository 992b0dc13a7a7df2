"""Recognising and converting data sets whose annotation files are damaged: refused by name, or written as they read."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import strategies as st

from densehead.datasets.convert import convert
from densehead.datasets.formats import recognise
from densehead.registry import DATASETS
from tests.fuzz.damage import Layouts, damages
from tests.fuzz.running import CASES, try_many, try_some

TARGETS = {"coco": ("voc", "yolo"), "voc": ("coco", "yolo"), "yolo": ("coco", "voc")}


@pytest.fixture
def check(tmp_path):
    """Check a case: convert it into one of the two other formats."""
    layouts, out = Layouts(tmp_path / "data"), tmp_path / "out" / "converted"
    out.parent.mkdir()

    def check(case):
        damage, which = case
        data, kind = layouts.damage(damage), damage.kind.split()[0]
        target = TARGETS[kind][which]
        shutil.rmtree(out, ignore_errors=True)
        try:
            done = convert(
                layouts.folder(damage.kind), out, target, format=kind, images="symlink", keep_marked=target == "yolo"
            )
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
            assert layouts.names_file(damage, said), said
            assert not list(out.parent.iterdir())
        else:
            check_written(done, out, target)
        assert layouts.file(damage.kind).read_bytes() == data

    def check_written(done, out, target):
        found = recognise(out)
        assert found.format == target
        assert found.splits.keys() == done.images.keys()
        for split, of_split in found.splits.items():
            assert of_split.images == done.images[split]
            if done.objects[split]:
                dataset = DATASETS.build({**of_split.dataset, "test_mode": True, "filter_cfg": None})
                read = sum(len(dataset.get_data_info(index)["instances"]) for index in range(len(dataset)))
                assert read == done.objects[split]

    return check


def cases():
    return st.tuples(damages(), st.integers(0, 1))


def test_some_cases(check):
    try_some(cases(), check, 40)


@pytest.mark.fuzz
def test_many_cases(check, record_property):
    try_many(cases(), check, CASES // 10, "conversions of annotation files", record_property)
