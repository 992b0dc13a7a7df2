"""The doctor on annotation files with damage: it says what is wrong, and its cleaned copies are read as they are."""

from __future__ import annotations

import json
import shutil

import pytest
from mmengine.config import Config

from densehead.analysis.doctor import Severity
from densehead.analysis.doctor.fix import write_fixed
from densehead.analysis.doctor.page import render
from densehead.apis.doctor import DoctorOptions, examine
from densehead.registry import DATASETS
from tests.engine.tiny import no_default_scope_left  # noqa: F401
from tests.fuzz.damage import Layouts, damages
from tests.fuzz.running import CASES, try_many, try_some

#: What a cleaned copy may still have: names are the user's to choose, and which of two sizes is right is not known.
LEFT = {"classes-none", "no-image-left", "image-size"}
OPTIONS = DoctorOptions(workers=1, try_model=False)


def config_of(dataset: dict) -> Config:
    load = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}, {"type": "PackDetInputs"}]
    loader = {"batch_size": 1, "dataset": {**dataset, "pipeline": load}}
    return Config({"train_dataloader": loader, "train_cfg": {"max_epochs": 1}})


def errors(checkup) -> set[str]:
    """The checks that failed, but for that of a config that is not whole, having no model."""
    found = [one for one in checkup.findings if one.severity is Severity.ERROR]
    return {one.check for one in found if one.what != "the config is not whole"}


def refusal(dataset: dict) -> str | None:
    """Why a data set cannot be trained on."""
    try:
        DATASETS.build({**dataset, "pipeline": []})
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@pytest.fixture
def check(tmp_path):
    """Check a case: examine it, and clean it."""
    layouts, fixed_folder = Layouts(tmp_path / "data"), tmp_path / "fixed"

    def check(case):
        data, cfg = layouts.damage(case), config_of(layouts.config(case.kind))
        checkup, splits, images = examine(cfg, OPTIONS)
        refused = refusal(layouts.config(case.kind))
        assert refused is None or errors(checkup), refused
        json.dumps(checkup.to_dict())
        render(checkup).encode()
        shutil.rmtree(fixed_folder, ignore_errors=True)
        fixed = write_fixed(str(fixed_folder), splits, images)
        fixed.told().encode()
        assert layouts.file(case.kind).read_bytes() == data
        if fixed.options:
            check_copy(cfg, fixed)

    def check_copy(cfg, fixed):
        cfg.merge_from_dict(dict(one.split("=", 1) for one in fixed.options))
        again, splits, _ = examine(cfg, OPTIONS)
        (part,) = splits[0].parts
        assert part.check.keep.all()
        assert not len(part.check.clipped)
        refused = refusal(cfg.train_dataloader.dataset.to_dict())
        assert errors(again) <= LEFT, again.findings
        assert refused is None or errors(again), refused

    return check


def test_some_cases(check, no_default_scope_left):  # noqa: F811
    try_some(damages(), check, 60)


@pytest.mark.fuzz
def test_many_cases(check, record_property, no_default_scope_left):  # noqa: F811
    try_many(damages(), check, CASES // 4, "the doctor's annotation files", record_property)
