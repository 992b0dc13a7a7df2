"""A small data set in which nothing is wrong, in the forms of COCO, VOC and YOLO, and a config that fits it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

from tests.engine.tiny import OPTIONS, QUICKSTART

SIDE = 96
CLASSES = ("cat", "dog")
IMAGES = {"train": 24, "val": 12}
# pixels; half of them are 5, 10, 20, 30: one for each range of the config
LENGTHS = (10, 20, 40, 60)
RANGES = ((-1, 8), (8, 16), (16, 25), (25, 1e8))


def picture(name: str, width: int = SIDE, height: int = SIDE) -> np.ndarray:
    """Noise that no other name has."""
    return np.random.default_rng(list(name.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)


def objects(index: int) -> list[tuple[str, list[int]]]:
    """Two cats or two dogs apart from each other (name, x, y, width, height)."""
    name, length = CLASSES[index % 2], LENGTHS[index // 2 % 4]
    small = LENGTHS[0]
    return [(name, [2, 3, length, length // 2 + 4]), (name, [SIDE - small - 5, SIDE - small - 4, small, small])]


@dataclass
class Scene:
    """The files of a data set; tests change them and then examine the config.

    Attributes:
        root: its folder.
        form: ``coco``, ``voc`` or ``yolo``.
        cfg: of a detector for it.
    """

    root: Path
    form: str
    cfg: Config

    def image(self, split: str, index: int) -> Path:
        """Path of an image."""
        return self.root / "JPEGImages" / f"{split}{index}.jpg"

    def ann_file(self, split: str) -> Path:
        """Path of the annotation file, or of the list."""
        return self.root / (f"{split}.json" if self.form == "coco" else f"{split}.txt")

    def xml(self, split: str, index: int) -> Path:
        """Path of an XML file."""
        return self.root / "Annotations" / f"{split}{index}.xml"

    def label_file(self, split: str, index: int) -> Path:
        """Path of a label file of YOLO."""
        return self.root / "JPEGImages" / f"{split}{index}.txt"

    def edit(self, split: str, change) -> None:
        """Change the content of a COCO file by a function."""
        content = json.loads(self.ann_file(split).read_text())
        change(content)
        self.ann_file(split).write_text(json.dumps(content))

    def add(self, split: str, index: int, name: str, box, **keys) -> None:
        """Add an object (x, y, width, height) to an image, in either form."""
        if self.form == "coco":

            def append(content):
                category = next((one["id"] for one in content["categories"] if one["name"] == name), None)
                if category is None:
                    category = len(content["categories"]) + 1
                    content["categories"].append({"id": category, "name": name})
                new = {"id": len(content["annotations"]) + 1, "image_id": index, "category_id": category}
                content["annotations"].append({**new, "bbox": list(box), "iscrowd": 0, **keys})

            self.edit(split, append)
        elif self.form == "yolo":
            names = (self.root / "classes.txt").read_text().split()
            names += [name] if name not in names else []
            (self.root / "classes.txt").write_text("\n".join(names))
            with self.label_file(split, index).open("a") as file:
                file.write(yolo_line(names.index(name), box))
        else:
            path = self.xml(split, index)
            path.write_text(path.read_text().replace("</annotation>", xml_object(name, box) + "</annotation>"))


def xml_object(name: str, box) -> str:
    """Return an object of an XML file; it counts pixels from 1."""
    x, y, width, height = box
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width + 1, "ymax": y + height + 1}
    sides = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{sides}</bndbox></object>"


def yolo_line(label: int, box) -> str:
    """Return a line of a label file."""
    x, y, width, height = (side / SIDE for side in box)
    return f"{label} {x + width / 2:.9g} {y + height / 2:.9g} {width:.9g} {height:.9g}\n"


def write_scene(root: Path, form: str) -> Scene:
    """Write images and annotations, and return them with a config."""
    scene = Scene(root, form, config(root, form))
    (root / "JPEGImages").mkdir(parents=True)
    for split, count in IMAGES.items():
        for index in range(count):
            path = scene.image(split, index)
            assert cv2.imwrite(str(path), picture(path.stem))
        {"coco": _write_coco, "voc": _write_voc, "yolo": _write_yolo}[form](scene, split, count)
    return scene


def _write_coco(scene: Scene, split: str, count: int) -> None:
    things = [(index, *one) for index in range(count) for one in objects(index)]
    content = {
        "info": {"description": "kept"},
        "images": [
            {"id": index, "file_name": scene.image(split, index).name, "width": SIDE, "height": SIDE}
            for index in range(count)
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": [
            {
                "id": number + 1,
                "image_id": index,
                "category_id": CLASSES.index(name) + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (index, name, box) in enumerate(things)
        ],
    }
    scene.ann_file(split).write_text(json.dumps(content))


def _write_yolo(scene: Scene, split: str, count: int) -> None:
    (scene.root / "classes.txt").write_text("\n".join(CLASSES))
    for index in range(count):
        lines = [yolo_line(CLASSES.index(name), box) for name, box in objects(index)]
        scene.label_file(split, index).write_text("".join(lines))
    scene.ann_file(split).write_text("".join(f"JPEGImages/{split}{index}.jpg\n" for index in range(count)))


def _write_voc(scene: Scene, split: str, count: int) -> None:
    (scene.root / "Annotations").mkdir(exist_ok=True)
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    for index in range(count):
        things = "".join(xml_object(*one) for one in objects(index))
        scene.xml(split, index).write_text(f"<annotation>{size}{things}</annotation>")
    scene.ann_file(split).write_text("".join(f"{split}{index}\n" for index in range(count)))


def config(root: Path, form: str) -> Config:
    """Return the config of a small FCOS for the data set."""
    cfg = Config.fromfile(QUICKSTART)
    cfg.merge_from_dict(OPTIONS)
    cfg.experiment_name = uuid.uuid4().hex
    cfg.model.bbox_head.num_classes = len(CLASSES)
    cfg.model.bbox_head.regress_ranges = RANGES
    cfg.optim_wrapper.optimizer.lr = 0.002
    cfg.train_cfg.max_epochs = 40  # of 12 steps
    cfg.param_scheduler = [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 20},
        {"type": "MultiStepLR", "begin": 0, "end": 40, "by_epoch": True, "milestones": [26, 36]},
    ]
    load = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}]
    for split in ("train", "val"):
        dataset = {"data_root": str(root), "metainfo": {"classes": CLASSES}, "test_mode": split == "val"}
        if form == "coco":
            dataset |= {"type": "CocoDataset", "ann_file": f"{split}.json", "data_prefix": {"img": "JPEGImages"}}
        elif form == "yolo":
            dataset |= {"type": "YOLODataset", "ann_file": f"{split}.txt"}
        else:
            dataset |= {"type": "VOCDataset", "ann_file": f"{split}.txt", "data_prefix": {"sub_data_root": ""}}
        cfg[f"{split}_dataloader"]["dataset"] = {**dataset, "pipeline": [*load, {"type": "PackDetInputs"}]}
    cfg.test_dataloader = cfg.val_dataloader
    return cfg
