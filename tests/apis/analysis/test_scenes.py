from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from densehead.analysis.detections.report import analyse
from densehead.apis import evaluate, prepare_test
from densehead.apis.analysis import detections as detections_report
from densehead.apis.analysis.detections import report_detections
from densehead.apis.analysis.scenes import Scenes, detect_scenes, read_scenes
from densehead.evaluation import CocoMetric
from tests.engine.tiny import tiny_config


def flat(scenes):
    return {name: getattr(scenes.detections, name) for name in ("boxes", "labels", "images", "scores")}


def test_detecting_is_reading_what_a_test_has_written(config, checkpoint, tmp_path):
    evaluate(prepare_test(config.copy(), checkpoint), out=tmp_path / "found.pkl")
    config.test_dataloader.batch_size = 4
    seen = []
    detected = detect_scenes(config, checkpoint, track=lambda batches: (seen.append(1) or one for one in batches))
    read = read_scenes(config, tmp_path / "found.pkl")
    assert len(seen) == 2  # batches
    for name, values in flat(read).items():
        np.testing.assert_allclose(flat(detected)[name], values, rtol=1e-4, atol=1e-3)
    assert len(read.detections)
    assert (read.truth.boxes == detected.truth.boxes).all()
    assert [one["img_id"] for one in read.images] == [one["img_id"] for one in detected.images]


def test_average_precision_is_that_of_the_metric(config, tmp_path):
    """From the file of detections and the data set, as CocoMetric has it from the samples of the test."""
    scenes = scenes_of(config, tmp_path)
    rng = np.random.default_rng(0)
    metric = CocoMetric()
    metric.dataset_meta = scenes.meta
    results = []
    for number, image in enumerate(scenes.images):
        objects = scenes.truth.take(scenes.truth.images == number)
        anns = [
            {"bbox": box, "bbox_label": label, "ignore_flag": 0}
            for box, label in zip(objects.boxes.tolist(), objects.labels.tolist())
        ]
        source = rng.integers(0, len(objects), 2 * len(objects))
        boxes = np.float32(objects.boxes[source] + rng.normal(0, 3, (len(source), 4)))
        labels = np.where(rng.random(len(source)) < 0.7, objects.labels[source], 3)
        one = result(image["img_id"], boxes, rng.random(len(source)), labels)
        results.append(one)
        metric.process({}, [{**one, "ori_shape": (64, 64), "instances": anns}])
    read = read_scenes(config, write(tmp_path, results))
    want = metric.evaluate(len(results))
    for key, iou_thr in (("50", 0.5), ("75", 0.75)):
        report = analyse(read.detections, read.truth, classes=read.meta["classes"], num_images=8, iou_thr=iou_thr)
        assert report.mean_average_precision == pytest.approx(want[f"coco/bbox_mAP_{key}"], abs=1e-6)
        assert 0.05 < report.mean_average_precision < 0.95


def test_other_splits(config, checkpoint):
    assert len(detect_scenes(config, checkpoint, "train").images) == 8
    assert "train" in detect_scenes(config, checkpoint, "train").images[0]["img_path"]


def write(folder, results):
    (folder / "found.pkl").write_bytes(pickle.dumps(results))
    return folder / "found.pkl"


def result(img_id, boxes=(), scores=(), labels=()):
    found = {
        "bboxes": torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(np.array(scores)),
        "labels": torch.tensor(np.array(labels), dtype=torch.long),
    }
    return {"img_id": img_id, "img_path": f"{img_id}.jpg", "pred_instances": found}


def test_results_are_matched_by_the_id_of_the_image(config, tmp_path, caplog):
    """In any order; images without a result count as empty; what is not finite is left out."""
    ids = [info["img_id"] for info in read_scenes(config, write(tmp_path, [])).images]
    nan = float("nan")
    results = [
        result(ids[3], [[0, 0, 9, 9], [nan, 0, 9, 9]], [0.5, 0.9], [1, 1]),
        result(ids[1], [[1, 1, 8, 8]], [0.7], [2]),
    ]
    found = read_scenes(config, write(tmp_path, results)).detections
    assert found.images.tolist() == [1, 3]
    assert found.labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "cannot be read as a pickle file"),
        (pickle.dumps({"img_id": 1}), "must hold a list of dicts with 'img_id' and 'pred_instances'"),
        (pickle.dumps([result(-7)]), r"1 of 1 images are not in the data set, the first has img_id=-7"),
    ],
    ids=["no pickle", "a dict", "of another image"],
)
def test_files_that_do_not_fit_are_named(config, tmp_path, content, message):
    (tmp_path / "found.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_scenes(config, tmp_path / "found.pkl")


def test_labels_beyond_the_classes_and_missing_files_are_named(config, tmp_path):
    first = read_scenes(config, write(tmp_path, [])).images[0]["img_id"]
    with pytest.raises(ValueError, match="labels from 10 to 10, but the data set has 10 classes"):
        read_scenes(config, write(tmp_path, [result(first, [[0, 0, 9, 9]], [0.5], [10])]))
    with pytest.raises(FileNotFoundError, match=r"--detections: there is no file absent\.pkl"):
        read_scenes(config, "absent.pkl")


def test_supercategories_of_a_coco_file(config, tmp_path, data_root):
    scenes = read_scenes(config, write(tmp_path, []))
    assert scenes.supercategories is None  # digits have none
    source = config.test_dataloader.dataset
    file = next(data_root.glob("val-*/annotations.json"))
    content = json.loads(file.read_text())
    for category in content["categories"]:
        category["supercategory"] = "round" if category["name"] in "0689" else "other"
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    config.test_dataloader.dataset = dict(
        type="CocoDataset",
        ann_file=str(tmp_path / "annotations.json"),
        data_prefix=dict(img=str(file.parent / "images")),
        metainfo=dict(classes=tuple("0123456789")),
        pipeline=source.pipeline,
        test_mode=True,
    )
    assert read_scenes(config, write(tmp_path, [])).supercategories == [0, 1, 1, 1, 1, 1, 0, 1, 0, 0]


def scenes_of(config, tmp_path):
    """Every second object found, one twice, one of another class."""
    empty = read_scenes(config, write(tmp_path, []))
    truth = empty.truth
    objects = np.flatnonzero(np.arange(len(truth)) % 2 == 0)
    chosen = np.sort(np.append(objects, objects[0]))
    labels = truth.labels[chosen].copy()
    labels[-1] = (labels[-1] + 1) % 10
    found = truth.take(chosen)
    detections = type(found)(found.boxes, labels, found.images, scores=np.linspace(0.9, 0.4, len(chosen)))
    return Scenes(empty.images, empty.meta, truth, detections)


@pytest.fixture
def without_plots(monkeypatch):
    """The figures are tested elsewhere, and take a second."""
    for name in ("draw_curves", "draw_confusion", "draw_errors"):
        monkeypatch.setattr(detections_report, name, lambda report, out_file: None)


def test_report_is_a_whole_folder(config, tmp_path):
    out = tmp_path / "report"
    report = report_detections(scenes_of(config, tmp_path), out, num_images=3)
    names = {file.name for file in out.iterdir()}
    pictures = {"curves.png", "confusion.png", "errors.png", "worst.png", "best.png"}
    assert names == pictures | {
        *("summary.json", "classes.csv", "curves.csv", "confusion.csv", "errors.csv", "images.csv"),
    }
    assert json.loads((out / "summary.json").read_text())["mean_ap"] == report.mean_average_precision
    assert report.costs["duplicate"].count.sum() == 1
    assert report.costs["classification"].count.sum() == 1


def test_nothing_is_written_where_an_image_cannot_be_read(config, tmp_path, without_plots):
    scenes = scenes_of(config, tmp_path)
    scenes.images[0]["img_path"] = str(tmp_path / "absent.jpg")
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        report_detections(scenes, tmp_path / "report")
    assert not (tmp_path / "report").exists()
    report_detections(scenes, tmp_path / "report", num_images=0)
    assert not (tmp_path / "report" / "worst.png").exists()
    with pytest.raises(ValueError, match="must not be negative, but got -1"):
        report_detections(scenes, tmp_path / "report", num_images=-1)


def test_marks_on_pictures(config, tmp_path, monkeypatch, without_plots):
    """What is wrong says how; what is not found is marked among the truth."""
    from densehead.visualization import DetLocalVisualizer

    drawn = []
    original = DetLocalVisualizer.draw
    monkeypatch.setattr(
        DetLocalVisualizer,
        "draw",
        lambda self, image, sample, **k: (drawn.append(sample), original(self, image, sample, **k))[1],
    )
    scenes = scenes_of(config, tmp_path)
    report_detections(scenes, tmp_path / "report", num_images=8, score_thr=0.0)
    found = [name for sample in drawn for name in sample.pred_instances.label_names]
    truth = [name for sample in drawn for name in sample.gt_instances.label_names]
    assert sum(name.endswith("dup") for name in found) >= 1
    assert sum(name.endswith("cls") for name in found) >= 1
    assert sum(name.endswith("\N{BALLOT X}") for name in truth) >= len(scenes.truth) // 2


def test_two_data_sets_whose_ids_are_alike_are_told_apart_by_their_files(tmp_path, data_root):
    config = tiny_config(tmp_path, data_root)
    inner = config.test_dataloader.dataset
    config.test_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, dict(inner, seed=1)])
    images = read_scenes(config, write(tmp_path, [])).images
    assert len({one["img_id"] for one in images}) == 8 < len(images)
    results = [
        {**result(one["img_id"], [[0, 0, 9, 9]], [0.5], [0]), "img_path": one["img_path"]} for one in images[9:11]
    ]
    assert read_scenes(config, write(tmp_path, results)).detections.images.tolist() == [9, 10]
