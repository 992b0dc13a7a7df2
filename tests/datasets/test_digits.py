from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from densehead.datasets import DigitsDataset, digits_scene
from densehead.datasets.digits_scene import GRAY, INK, DigitsSpec, Scenery, write_digits
from densehead.registry import DATASETS


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


@pytest.fixture(scope="module")
def scenery():
    return {split: Scenery(DigitsSpec(split=split, num_images=1)) for split in ("train", "val")}


def test_is_read_like_any_coco_data_set(tmp_path, capsys):
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackDetInputs"}]
    config = {"type": "DigitsDataset", "data_root": str(tmp_path), "num_images": 3, "pipeline": pipeline}
    dataset = DATASETS.build(config)
    assert "Writing 3 images" in capsys.readouterr().out
    assert len(dataset) == 3
    assert dataset.metainfo["classes"] == tuple("0123456789")
    packed = dataset[0]
    assert packed["inputs"].shape == (3, 128, 128)
    assert len(packed["data_samples"].gt_instances.bboxes) >= 1
    assert (tmp_path / "train-3x128-seed0" / "annotations.json").is_file()
    DATASETS.build(config)
    assert capsys.readouterr().out == ""


def test_same_seed_same_bytes_another_seed_others(tmp_path):
    spec = DigitsSpec(num_images=4)
    first, second = (write_digits(spec, str(tmp_path / name)) for name in ("one", "two"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two") != {}
    assert first != second
    other = Scenery(DigitsSpec(num_images=4, seed=1)).draw(0)[0]
    assert (other != Scenery(spec).draw(0)[0]).any()


def test_scenes_do_not_depend_on_their_number():
    few, many = Scenery(DigitsSpec(num_images=2)), Scenery(DigitsSpec(num_images=9))
    for one, other in zip(few.draw(1), many.draw(1), strict=True):
        assert (one == other).all()


def test_splits_have_no_digit_in_common(scenery):
    train, val = (set(scenery[split].samples.tolist()) for split in ("train", "val"))
    assert not train & val
    assert len(train | val) == 1797
    for split in scenery.values():
        counts = np.bincount(split.labels[split.samples], minlength=10)
        assert counts.min() > 0.9 * counts.max()


def test_boxes_are_inside_and_of_the_sizes_and_overlaps_that_were_asked_for(scenery):
    spec = scenery["train"].spec
    counts = set()
    for index in range(150):
        image, boxes, labels = scenery["train"].draw(index)
        assert image.shape == (128, 128, 3)
        assert image.dtype == np.uint8
        assert len(boxes) == len(labels)
        counts.add(len(boxes))
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= 128).all()
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
        assert sides.min() >= spec.min_size - 2
        assert sides.max() <= 1.15 * spec.max_size
        for i, (one, other) in enumerate((a, b) for k, a in enumerate(boxes) for b in boxes[:k]):
            low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
            shared = np.clip(high - low, 0, None).prod()
            union = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared
            assert shared / union <= spec.max_iou, (index, i)
    assert counts == {1, 2, 3, 4, 5, 6}


def test_boxes_are_tight_around_the_ink(scenery):
    rng = np.random.default_rng(0)
    for sample in range(50):
        ink = Scenery._ink(rng, scenery["train"].glyphs[sample], 40.0)
        for side in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
            assert (side >= INK).any()


def test_digits_contrast_with_what_is_behind(scenery):
    rng = np.random.default_rng(0)
    ink = np.ones((5, 5), np.float32)
    for level in range(0, round(255 * Scenery.DIM) + 1, 5):
        patch = np.full((5, 5, 3), level, np.float32)
        scenery["train"]._paint(rng, patch, ink)
        assert float((patch @ GRAY).mean()) - level > 0.85 * Scenery.CONTRAST
        assert patch.min() >= -0.01
        assert patch.max() <= 255.01


def test_a_folder_that_is_not_whole_is_written_again(tmp_path):
    spec = DigitsSpec(num_images=2)
    folder = tmp_path / spec.folder
    write_digits(spec, str(tmp_path))
    whole = contents(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 0}))
    (folder / "images" / "stale.jpg").write_bytes(b"")
    write_digits(spec, str(tmp_path))
    assert contents(folder) == whole


def test_other_parameters_have_another_folder():
    specs = [DigitsSpec(), DigitsSpec(split="val"), DigitsSpec(seed=1), DigitsSpec(num_images=5)]
    specs += [DigitsSpec(image_size=256), DigitsSpec(max_digits=3), DigitsSpec(max_iou=0.5), DigitsSpec(min_size=10.5)]
    assert len({spec.folder for spec in specs}) == len(specs)
    assert specs[0].folder == "train-3000x128-seed0"


def test_a_stopped_writing_leaves_nothing_that_is_taken_for_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(Scenery, "draw", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_digits(DigitsSpec(num_images=2), str(tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / DigitsSpec(num_images=2).folder).exists()
    write_digits(DigitsSpec(num_images=2), str(tmp_path))
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["train-2x128-seed0"]


def test_those_who_start_together_write_once(tmp_path, monkeypatch):
    written = []
    write_scenes = digits_scene._write_scenes
    monkeypatch.setattr(digits_scene, "_write_scenes", lambda *args: (written.append(args), write_scenes(*args)))
    spec = DigitsSpec(num_images=20)
    with ThreadPoolExecutor(3) as pool:  # the lock is one of open files, so threads stand for processes
        folders = {one.result() for one in [pool.submit(write_digits, spec, str(tmp_path)) for _ in range(3)]}
    assert folders == {str(tmp_path / spec.folder)}
    assert len(written) == 1
    assert len(list((tmp_path / spec.folder / "images").iterdir())) == 20


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": "test"}, "split must be 'train' or 'val', but got 'test'"),
        ({"num_images": 0}, "num_images must be a positive integer, but got 0"),
        ({"image_size": 128.0}, "image_size must be a positive integer, but got 128.0"),
        ({"image_size": 64}, "min_size <= max_size <= image_size, but got 14, 90, 64"),
        ({"seed": -1}, "seed must be an integer, 0 or above"),
        ({"digits": {"max_iou": 2}}, "max_iou must be in 0..1"),
    ],
)
def test_impossible_parameters_are_named(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        DigitsDataset(data_root=str(tmp_path), **keys)
