"""Nothing is said where nothing is wrong."""

import re

from densehead.analysis.doctor import ADVICE, Checkup, Finding, Severity, render
from densehead.apis.doctor import DoctorOptions, examine
from densehead.registry import DATASETS
from tests.engine.tiny import ROOT, data_root, tiny_config  # noqa: F401


def test_a_clean_data_set_has_no_findings(scene):
    checkup, splits, _ = examine(scene.cfg, DoctorOptions(workers=1, decode=True))
    assert checkup.findings == []
    assert [(part.split, len(part.annotations.boxes)) for split in splits for part in split.parts] == [
        ("train", 48),
        ("val", 24),
    ]
    assert "Nothing is wrong." in render(checkup)


def test_digits_have_no_errors(tmp_path, data_root):  # noqa: F811
    checkup, splits, _ = examine(tiny_config(tmp_path, data_root), DoctorOptions(workers=1, try_model=False))
    assert {one.severity for one in checkup.findings} <= {Severity.WARNING, Severity.NOTE}
    assert splits[0].parts[0].annotations.num_images == 8


def test_the_config_stays_as_it_is(scene):
    before = scene.cfg.to_dict()
    examine(scene.cfg, DoctorOptions(workers=1))
    assert scene.cfg.to_dict() == before


def test_a_data_set_of_ones_own_is_read_by_itself(coco, look):
    from densehead.datasets import CocoDataset

    @DATASETS.register_module(force=True)
    class Renamed(CocoDataset):
        def load_data_list(self):
            return super().load_data_list()[2:]

    coco.cfg.train_dataloader.dataset.type = "Renamed"
    assert not look(coco)
    coco.image("train", 5).unlink()
    coco.add("train", 4, "cat", (2, 3, 40, 24))
    assert {check for check, _ in look(coco)} == {"image-missing", "box-twice"}


def test_every_check_is_documented():
    text = (ROOT / "docs" / "doctor.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall("`([a-z-]+)`", cell)} >= set(ADVICE)


def test_a_long_page_stays_readable():
    findings = [
        Finding("box-empty", Severity.WARNING, "boxes have no extent", "train", 5, 900),
        Finding("leak", Severity.ERROR, "images are also trained on", "val", 4000, 5000),
        Finding("image-missing", Severity.ERROR, "images are not there", "val", 1, 5000),
        Finding("no-objects", Severity.NOTE, "images show no object", "val", 4999, 5000),
    ]
    page = render(Checkup("mine.py", findings))
    order = [page.index(one) for one in ("leak", "image-missing", "box-empty", "no-objects")]
    assert order == sorted(order)
    assert "val: 4,000 of 5,000 images are also trained on" in page
    assert "2 errors, 1 warning, 1 note; the worst first." in page
    assert "\x1b[1;31mleak\x1b[0m" in render(Checkup("mine.py", findings), colored=True)
