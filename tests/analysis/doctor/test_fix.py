"""Cleaned copies of annotations: the originals stay, the copies are without fault, and every change is listed."""

import csv
import errno
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from densehead.analysis.doctor import Severity, fix
from densehead.analysis.doctor.fix import write_fixed
from densehead.apis.doctor import DoctorOptions, examine, report
from densehead.registry import DATASETS
from tests.analysis.doctor.scenes import SIDE

OPTIONS = DoctorOptions(try_model=False, workers=1)
T, V = "train", "val"


def plant(scene):
    """Plant what can be cleaned, in both forms."""
    scene.image(T, 0).unlink()
    scene.image(T, 1).write_bytes(scene.image(T, 1).read_bytes()[:900])
    shutil.copy(scene.image(T, 3), scene.image(T, 7))
    shutil.copy(scene.image(T, 11), scene.image(V, 7))
    scene.add(T, 5, "dog", (SIDE + 5, 20, 10, 12))
    scene.add(T, 6, "cat", (50, 50, 0, 10))
    scene.add(T, 8, "cat", (SIDE - 12, 20, 20, 12), area=240)
    scene.add(T, 9, "dog", (2, 3, 10, 9))  # as the first of image 9


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def cleaned(scene, folder):
    checkup, splits, images = examine(scene.cfg, OPTIONS)
    fixed = write_fixed(str(folder), splits, images)
    options = dict(one.split("=", 1) for one in fixed.options)
    scene.cfg.merge_from_dict(options)
    return checkup, fixed


def test_the_copy_is_without_fault_and_the_original_as_it_was(scene, tmp_path):
    plant(scene)
    scene.add(T, 4, "dog", (2, 3, 40, 24))  # stays: which class is right is not known
    before = snapshot(scene.root)
    checkup, fixed = cleaned(scene, tmp_path / "fixed")
    assert snapshot(scene.root) == before
    faults = {"image-missing", "leak", "box-outside", "box-twice", "box-clipped"}
    assert {one.check for one in checkup.findings} >= faults
    again, splits, _ = examine(scene.cfg, OPTIONS)
    assert {one.check for one in again.findings} == {"box-two-classes", "class-rare"}
    # of 24 images two cannot be read, one is a copy and one is in validation; of 48 + 5 boxes 8 went with them, 3 more
    assert splits[0].parts[0].annotations.num_images == 20
    assert len(splits[0].parts[0].annotations.boxes) == 48 + 5 - 8 - 3
    assert splits[1].parts[0].annotations.num_images == 12
    assert len(DATASETS.build(scene.cfg.train_dataloader.dataset)) == 20
    assert len(fixed.changes) == 4 + 3 + 1


def test_every_change_is_listed(scene, tmp_path):
    plant(scene)
    cleaned(scene, tmp_path / "fixed")
    with (tmp_path / "fixed" / "changes.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["change", "data set", "file", "entry", "detail"]
    assert {row[1] for row in rows} == {"train_dataloader.dataset"}
    by_kind = {row[0]: row[2:] for row in rows}
    assert by_kind["images left out whose file is missing"] == [str(scene.image(T, 0)), "", ""]
    assert by_kind["images left out whose file is truncated"] == [str(scene.image(T, 1)), "", ""]
    assert by_kind["images left out that are copies of another"] == [str(scene.image(T, 7)), "", ""]
    assert by_kind["images left out of training that are in val, too"] == [str(scene.image(T, 11)), "", ""]
    if scene.form == "coco":
        expected = [str(scene.image(T, 8)), "annotation 51", f"[{SIDE - 12}, 20, 20, 12] -> [{SIDE - 12}, 20, 12, 12]"]
    elif scene.form == "yolo":
        before, after = "[0.979167, 0.270833, 0.208333, 0.125]", "[0.9375, 0.270833, 0.125, 0.125]"
        expected = [str(scene.label_file(T, 8)), "line 3", f"{before} -> {after}"]
    else:
        corners = f"{SIDE - 11}, 21"
        expected = [str(scene.xml(T, 8)), "object 2", f"[{corners}, {SIDE + 9}, 33] -> [{corners}, {SIDE + 1}, 33]"]
    assert by_kind["boxes cut at the border of their image"] == expected


def test_a_coco_copy_keeps_what_it_need_not_change(coco, tmp_path):
    plant(coco)
    coco.edit(T, lambda content: content["annotations"][20].update(segmentation=[[1, 2, 3, 4, 5, 6]], score=0.5))
    original = json.loads(coco.ann_file(T).read_text())
    cleaned(coco, tmp_path / "fixed")
    copy = json.loads((tmp_path / "fixed" / "train" / "train.json").read_text())
    assert copy["info"] == original["info"]
    assert copy["categories"] == original["categories"]
    assert original["annotations"][20] in copy["annotations"]
    clipped = next(one for one in copy["annotations"] if one["id"] == 51)
    assert (clipped["bbox"], clipped["area"]) == ([SIDE - 12, 20, 12, 12], 144)
    others = [one for one in copy["annotations"] if one["id"] != 51]
    assert all(one in original["annotations"] for one in others)
    assert json.loads((tmp_path / "fixed" / "val" / "val.json").read_text()) == json.loads(coco.ann_file(V).read_text())


def test_metrics_compare_with_the_copy(coco, tmp_path):
    coco.cfg.val_evaluator.ann_file = str(coco.ann_file(V))
    coco.edit(V, lambda content: content["annotations"].append({**content["annotations"][3], "id": 99}))
    assert report(coco.cfg, OPTIONS, fix_folder=str(tmp_path / "fixed")) == 0
    new = tmp_path / "fixed" / "val" / "val.json"
    coco.cfg.val_dataloader.dataset.ann_file = str(new)
    assert [one.check for one in examine(coco.cfg, OPTIONS)[0].findings] == ["evaluator-file"]
    _, splits, images = examine(coco.cfg, OPTIONS)
    fixed = write_fixed(str(tmp_path / "other"), splits, images, {"val_evaluator.ann_file": str(new)})
    assert f"val_evaluator.ann_file={tmp_path / 'other' / 'val' / 'val.json'}" in fixed.options


def test_coco_entries_that_cannot_be_used(coco, tmp_path):
    def change(content):
        content["annotations"][5]["bbox"] = [1, 2]
        content["annotations"][9]["id"] = 1
        content["annotations"][12]["image_id"] = 99
        content["annotations"][15]["category_id"] = 99
        content["images"][3]["height"] = 0
        content["images"][10].pop("file_name")
        content["images"].append({**content["images"][4], "file_name": "again.jpg"})

    shutil.copy(coco.image(V, 0), coco.root / "JPEGImages" / "again.jpg")
    coco.edit(T, change)
    checkup, fixed = cleaned(coco, tmp_path / "fixed")
    assert {one.check for one in checkup.findings} >= {"annotation-entry", "id-twice", "stray-annotation"}
    again, splits, _ = examine(coco.cfg, OPTIONS)
    assert not [one for one in again.findings if one.severity is Severity.ERROR]
    assert splits[0].parts[0].annotations.num_images == 23
    # three that cannot be used, and two of the image without a name
    assert len(splits[0].parts[0].annotations.boxes) == 48 - 3 - 2
    told = fixed.told()
    assert "1 entry: sizes of images taken from their files" in told
    assert "1 entry: annotations numbered anew whose id another has" in told
    DATASETS.build(coco.cfg.train_dataloader.dataset).full_init()


def test_coco_categories_that_cannot_be_used(coco, tmp_path):
    """Found by fuzzing."""

    def change(content):
        content["categories"] += [{"id": 1, "name": "again"}, {"id": 7, "name": "dog"}, {"id": 8}, None]
        content["annotations"][3]["category_id"] = 7  # a dog, too

    coco.edit(T, change)
    _, fixed = cleaned(coco, tmp_path / "fixed")
    copy = json.loads((tmp_path / "fixed" / "train" / "train.json").read_text())
    assert copy["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert copy["annotations"][3]["category_id"] == 2
    assert {(one.kind, one.item, one.detail) for one in fixed.changes} == {
        ("categories left out that have the id of another", "categories[2]", ""),
        ("categories joined with another of their name", "categories[3]", "7 -> 2"),
        ("categories left out that cannot be used", "categories[4]", ""),
        ("categories left out that cannot be used", "categories[5]", ""),
    }
    assert not examine(coco.cfg, OPTIONS)[0].findings


def test_numbers_and_names_that_nothing_can_have(coco, tmp_path):
    """Found by fuzzing."""

    def change(content):
        content["annotations"][5]["bbox"][2] = 10**400
        content["images"][3]["height"] = 10**400
        content["images"][4]["file_name"] = "nu\0ll.jpg"
        content["images"][5]["file_name"] = "\ud800.jpg"

    coco.edit(T, change)
    checkup, fixed = cleaned(coco, tmp_path / "fixed")
    assert {one.check for one in checkup.findings} == {"annotation-entry", "image-unreadable"}
    assert not examine(coco.cfg, OPTIONS)[0].findings
    by_kind = Counter(one.kind for one in fixed.changes)
    assert by_kind["images left out whose file is unreadable"] == 2
    assert by_kind["sizes of images taken from their files"] == 1
    assert "\\ud800.jpg" in (tmp_path / "fixed" / "changes.csv").read_text()
    assert len(DATASETS.build(coco.cfg.train_dataloader.dataset)) == 22


def test_nothing_is_written_of_a_set_without_a_usable_image(scene, tmp_path):
    """Found by fuzzing: the copy could not be read."""
    for index in range(24):
        scene.image(T, index).unlink()
    _, fixed = cleaned(scene, tmp_path / "fixed")
    assert "train_dataloader.dataset is not among them: none of its images can be used" in fixed.told()
    assert sorted(path.name for path in (tmp_path / "fixed").iterdir()) == ["changes.csv", "val"]


def test_a_label_file_that_is_no_text_goes_with_its_image(yolo, tmp_path):
    """Found by fuzzing: it stopped the cleaning."""
    yolo.label_file(T, 4).write_bytes(b"\xff\xfe")
    checkup, fixed = cleaned(yolo, tmp_path / "fixed")
    assert [one.check for one in checkup.findings] == ["annotation-entry"]
    assert [one.kind for one in fixed.changes] == ["images left out whose label file cannot be read"]
    assert not examine(yolo.cfg, OPTIONS)[0].findings
    assert len(DATASETS.build(yolo.cfg.train_dataloader.dataset)) == 23


def test_nothing_is_there_where_writing_stops(scene, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fix, "_write_changes", full)
    with pytest.raises(OSError, match="No space left"):
        cleaned(scene, tmp_path / "fixed")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_xml_files_that_cannot_be_used(voc, tmp_path):
    voc.xml(T, 3).unlink()
    voc.xml(T, 5).write_text("<annotation><size>")
    text = voc.xml(T, 6).read_text()
    voc.xml(T, 6).write_text(text.replace("<xmin>3<", "<xmin>wide<"))
    voc.ann_file(T).write_text(voc.ann_file(T).read_text() + "train7\n")
    _, fixed = cleaned(voc, tmp_path / "fixed")
    folder = tmp_path / "fixed" / "train"
    assert (folder / "train.txt").read_text().split() == [f"train{i}" for i in range(24) if i not in (3, 5)]
    assert len(ET.parse(folder / "Annotations" / "train6.xml").findall("object")) == 1
    assert (folder / "Annotations" / "train8.xml").read_bytes() == voc.xml(T, 8).read_bytes()
    assert len(fixed.changes) == 4
    assert not examine(voc.cfg, OPTIONS)[0].findings


def test_a_yolo_copy_keeps_lines_and_names(yolo, tmp_path):
    plant(yolo)
    with yolo.label_file(T, 4).open("a") as file:
        file.write("0 0.5 0.5\n0 0.1 0.9 0.2 0.1 0.3 0.3 0.25 0.8\n")  # no box; a polygon
    yolo.label_file(T, 10).unlink()
    cleaned(yolo, tmp_path / "fixed")
    folder = tmp_path / "fixed" / "train"
    first, second, _, polygon = yolo.label_file(T, 4).read_text().splitlines()
    assert (folder / "labels" / "JPEGImages" / "train4.txt").read_text().splitlines() == [first, second, polygon]
    assert not (folder / "labels" / "JPEGImages" / "train10.txt").exists()
    assert (folder / "labels" / "classes.txt").read_text() == "cat\ndog\n"
    dataset = DATASETS.build(yolo.cfg.train_dataloader.dataset)
    assert len(dataset) == 20
    assert dataset.metainfo["classes"] == ("cat", "dog")
    info = next(info for info in map(dataset.get_data_info, range(20)) if info["img_path"].endswith("train8.jpg"))
    assert info["instances"][2]["bbox"] == pytest.approx([SIDE - 12, 20, SIDE, 32], abs=1e-5)


def test_a_yolo_set_without_a_data_root(yolo, tmp_path, monkeypatch):
    monkeypatch.chdir(yolo.root)
    for split in (T, V):
        yolo.cfg[f"{split}_dataloader"].dataset.update(data_root=None)
    yolo.add(T, 5, "dog", (SIDE + 5, 20, 10, 12))
    cleaned(yolo, tmp_path / "fixed")
    monkeypatch.chdir(tmp_path)
    assert not examine(yolo.cfg, OPTIONS)[0].findings
    assert len(DATASETS.build(yolo.cfg.train_dataloader.dataset)) == 24


def test_training_is_not_emptied(coco, tmp_path):
    """Where the same images are measured on on purpose."""
    coco.cfg.val_dataloader.dataset.ann_file = "train.json"
    checkup, fixed = cleaned(coco, tmp_path / "fixed")
    assert [one.check for one in checkup.findings] == ["leak"]
    assert not fixed.changes
    assert "without there were 0 left" in fixed.told()


def test_a_folder_with_something_in_it_is_refused(coco, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"--fix .*there: the folder is not empty"):
        report(coco.cfg, OPTIONS, fix_folder=str(tmp_path / "there"))
    assert (tmp_path / "there" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert report(coco.cfg, OPTIONS, fix_folder=str(tmp_path / "empty")) == 0
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["changes.csv", "train", "val"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_parts_of_a_joined_set_get_folders_of_their_own(voc, tmp_path):
    inner = voc.cfg.train_dataloader.dataset.to_dict()
    other = {**inner, "ann_file": "val.txt"}
    joined = {"type": "ConcatDataset", "datasets": [inner, other]}
    voc.cfg.train_dataloader.dataset = {"type": "RepeatDataset", "times": 2, "dataset": joined}
    voc.cfg.pop("val_dataloader")
    voc.cfg.pop("test_dataloader")
    voc.add(V, 3, "dog", (SIDE + 5, 20, 10, 12))
    _, fixed = cleaned(voc, tmp_path / "fixed")
    assert [one.part for one in fixed.changes] == ["train_dataloader.dataset.dataset.datasets.1"]
    assert sorted(path.name for path in (tmp_path / "fixed").iterdir()) == ["changes.csv", "train_0", "train_1"]
    assert "datasets.1.ann_file" in fixed.told()
