"""Recognising and converting data sets whose annotation files are damaged: refused by name, or written as they read."""

from __future__ import annotations

import shutil

import pytest

from densehead.datasets.convert import convert
from densehead.datasets.formats import recognise
from densehead.registry import DATASETS
from tests.fuzz.damage import Layouts, damages
from tests.fuzz.running import CASES, try_many, try_some

TARGETS = {"coco": ("voc", "yolo"), "voc": ("coco", "yolo"), "yolo": ("coco", "voc")}


@pytest.fixture
def check(tmp_path):
    """Check a case: convert it into both other formats."""
    layouts, out = Layouts(tmp_path / "data"), tmp_path / "out" / "converted"
    out.parent.mkdir()

    def check(case):
        data, folder = layouts.damage(case), layouts.folder(case.kind)
        for target in TARGETS[case.kind.split()[0]]:
            shutil.rmtree(out, ignore_errors=True)
            try:
                done = convert(
                    folder, out, target, format=case.kind.split()[0], images="symlink", keep_marked=target == "yolo"
                )
            except (ValueError, FileNotFoundError) as error:
                said = str(error)
                assert layouts.names_file(case, said), said
                assert not list(out.parent.iterdir())
            else:
                check_written(done, out, target)
        assert layouts.file(case.kind).read_bytes() == data

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


def test_some_cases(check):
    try_some(damages(), check, 150)


@pytest.mark.fuzz
def test_many_cases(check, record_property):
    try_many(damages(), check, CASES, "conversions of annotation files", record_property)
