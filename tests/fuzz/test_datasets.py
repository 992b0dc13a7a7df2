"""Annotation files with damage: read, or refused by a message that names the file."""

from __future__ import annotations

import pytest

from densehead.registry import DATASETS
from tests.fuzz.damage import Layouts, damages
from tests.fuzz.running import CASES, try_many, try_some


@pytest.fixture
def check(tmp_path):
    """Check a case: read it, or see it refused."""
    layouts = Layouts(tmp_path)

    def check(case):
        data = layouts.damage(case)
        try:
            dataset = DATASETS.build(layouts.config(case.kind))
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
            assert layouts.names_file(case, said), said
        else:
            for index in range(len(dataset)):
                for one in dataset.get_data_info(index)["instances"]:
                    left, top, right, bottom = one["bbox"]
                    assert 0 <= left < right
                    assert 0 <= top < bottom
                    assert 0 <= one["bbox_label"] < len(dataset.metainfo["classes"])
        assert layouts.file(case.kind).read_bytes() == data

    return check


def test_some_cases(check):
    try_some(damages(), check, 400)


@pytest.mark.fuzz
def test_many_cases(check, record_property):
    try_many(damages(), check, CASES, "annotation files", record_property)
