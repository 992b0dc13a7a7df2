"""Folders of images and text files in the manner of YOLO."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np

from densehead.datasets import validate
from densehead.datasets.base_det_dataset import BaseDetDataset
from densehead.datasets.coco_file import without_gc
from densehead.datasets.data_yaml import CLASS_FILES, YAML, find_class_file, read_class_names, read_data_yaml
from densehead.datasets.folders import inner_path
from densehead.datasets.image_size import SUFFIXES, image_size, in_threads
from densehead.datasets.yolo_images import ImageFinder, Listed, label_candidates, stray_labels
from densehead.datasets.yolo_labels import LabelRow, YOLOObjects, parse_labels, read_label_file
from densehead.registry import DATASETS
from densehead.visualization.palette import class_colors


@DATASETS.register_module()
class YOLODataset(BaseDetDataset):
    """Images with a text file each, whose lines are ``class centre_x centre_y width height`` in parts of the image.

    The label file of ``images/train/a.jpg`` is ``labels/train/a.txt`` (the last folder ``images`` below the data root
    being ``labels``), or else ``a.txt`` beside the image. An empty one, and none, mean an image without objects. Lines
    of more numbers, a class and the points of a polygon, are read as the box around it. The sizes of the images come
    from their headers, turned as their EXIF tags say, which is how they are loaded.

    The classes are those of the YAML file, or else of ``classes.txt`` in the data root or beside the labels. Where
    ``metainfo['classes']`` names some of them, label ``i`` is ``metainfo['classes'][i]``, whatever their order there;
    where no file names classes, the numbers in the files are the labels.

    Args:
        ann_file: a YAML file (``data.yaml``) with ``train``, ``val``, ``test``; or a ``.txt`` list of images; or empty
            for all images in the folder ``data_prefix['img']``.
        split: which images of the YAML file: ``'train'``, ``'val'`` or ``'test'``.
        data_prefix: ``img``, the folder that the images' names count from; ``labels``, the folder in which the label
            files lie as the images do in ``img``, where they are not to be found as said above. Both relative to
            ``data_root``.
        allow_outside: whether images that the YAML file or the list names may lie outside of ``data_root``.
        data_root, metainfo, filter_cfg, ...: see :class:`BaseDetDataset`. Files must be local.

    Raises:
        ValueError, FileNotFoundError: what cannot be read; the message names file and line.
    """

    def __init__(
        self,
        *args,
        split: str = "train",
        allow_outside: bool = False,
        lazy_init: bool = False,
        backend_args: Mapping | None = None,
        **kwargs,
    ) -> None:
        if backend_args and dict(backend_args) != {"backend": "local"}:
            raise ValueError(
                f"YOLODataset: lists folders and reads headers, so its files must be local, but backend_args is "
                f"{dict(backend_args)}. tools/convert_dataset.py --to coco writes an annotation file for other storage"
            )
        self.split = split
        self.allow_outside = allow_outside
        super().__init__(*args, lazy_init=True, **kwargs)
        self.finder = ImageFinder(self._root(), allow_outside)
        self.class_file = self._find_class_file()
        if "classes" not in self._metainfo and self.class_file is not None:
            names = read_class_names(self.class_file)
            self._metainfo.update(classes=names, palette=class_colors(None, len(names)))
        if not lazy_init:
            self.full_init()

    @property
    def image_folder(self) -> str:
        """The folder that names of images count from."""
        folder = self.data_prefix.get("img", self.data_prefix.get("img_path", ""))
        return os.path.normpath(folder or self.data_root or ".")

    @property
    def source(self) -> str:
        """What messages call the data set: its YAML file, list or folder."""
        return self.ann_file or self.image_folder

    def check_paths(self) -> None:
        """Raise an error that names the annotation file, the folder of images or the data root where it is missing."""
        if self.ann_file:
            super().check_paths()
        else:
            validate.require_folder(
                self.image_folder, key="data_prefix['img']", owner=type(self).__name__, data_root=self.data_root
            )

    @without_gc()
    def load_data_list(self) -> list[dict]:
        """Read headers and label files; return the data info of each image, in the order of the list or of paths."""
        found = self.read_objects()
        ignore = np.zeros(len(found.labels), dtype=bool)
        instances = self._instances(
            found.boxes, found.labels, ignore, found.image_index, found.infos, place=found.place
        )
        for info, of_image in zip(found.infos, instances, strict=True):
            info["instances"] = of_image
        return found.infos

    def read_objects(self) -> YOLOObjects:
        """Read headers and label files; boxes are as they are written, not clipped or dropped."""
        listed = self.list_images()
        read = list(in_threads(self._read_image, listed))
        infos = [info for info, _ in read]
        self._check_label_files(infos)
        if strays := stray_labels(listed, {info["label_path"] for info in infos if info["label_path"]}):
            validate.warn(
                f"{self.source}: {len(strays)} label files belong to no image, the first {strays[0]!r}; they are not "
                "read. Have images been renamed or removed?"
            )
        rows = [row for _, of_image in read for row in of_image]
        image_index = np.repeat(np.arange(len(infos)), [len(of_image) for _, of_image in read])
        if polygons := sum(row.is_polygon for row in rows):
            validate.inform(
                f"{self.source}: {polygons} of {len(rows)} objects are polygons; the boxes around are taken."
            )
        labels = self._labels(rows, lambda row: f"{infos[image_index[row]]['label_path']}:{rows[row].line}")
        wanted = np.flatnonzero(labels >= 0)
        parts = np.array([rows[row][2:6] for row in wanted], dtype=np.float64).reshape(-1, 4)
        sizes = np.array([(info["width"], info["height"]) for info in infos], dtype=np.float64)
        lines = [rows[row].line for row in wanted]
        boxes = parts * np.tile(sizes, 2)[image_index[wanted]]
        return YOLOObjects(infos, boxes, labels[wanted], image_index[wanted], lines)

    def list_images(self) -> list[Listed]:
        """Return the images and where each is named, without looking into them.

        Raises:
            ValueError, FileNotFoundError: there is none, or one twice, or the YAML file or list cannot be read.
        """
        if not self.ann_file:
            listed = self.finder.of_folder(self.image_folder)
        elif self.ann_file.endswith(YAML):
            listed = self.finder.of_yaml(read_data_yaml(self.ann_file), self.split)
        else:
            listed = self.finder.of_list(self.ann_file, [self.image_folder])
        if not listed:
            raise ValueError(
                f"{self.source}: there is no image ({', '.join(SUFFIXES)}) in it. Correct data_prefix['img']"
            )
        advice = "Remove one; to see images more often use RepeatDataset or ClassBalancedDataset"
        validate.require_unique([one.path for one in listed], "image", self.source, advice)
        return listed

    def label_path(self, image: str) -> str | None:
        """Return the label file of an image, or None where it has none."""
        return next((path for path in self.label_candidates(image) if os.path.isfile(path)), None)

    def _root(self) -> str:
        """The data root, or what stands for it where none is given."""
        return os.path.normpath(self.data_root or os.path.dirname(self.ann_file or "") or self.image_folder)

    def _find_class_file(self) -> str | None:
        if self.ann_file and self.ann_file.endswith(YAML):
            return self.ann_file if os.path.isfile(self.ann_file) else None
        root = self.finder.root
        beside_labels = map(os.path.dirname, self.label_candidates(os.path.join(self.image_folder, "any.jpg")))
        return find_class_file([root, os.path.join(root, "labels"), *beside_labels])

    def label_candidates(self, image: str) -> list[str]:
        """Return where the label file of an image may be, the likeliest place first."""
        if "labels" not in self.data_prefix:
            return label_candidates(image, self.finder.root)
        inner = os.path.relpath(image, self.image_folder)
        return [os.path.join(self.data_prefix["labels"], f"{os.path.splitext(inner)[0]}.txt")]

    def _read_image(self, listed: Listed) -> tuple[dict, list[LabelRow]]:
        """Return the data info of an image and the rows of its label file."""
        try:
            height, width = image_size(listed.path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{listed.place}: the image {listed.path!r} does not exist") from None
        inner = inner_path(listed.path, self.finder.root)
        info = {"img_path": listed.path, "img_id": inner, "label_path": None, "height": height, "width": width}
        for path in self.label_candidates(listed.path):
            text = read_label_file(path)
            if text is not None:
                info["label_path"] = path
                return info, parse_labels(text, path)
        return info, []

    def _check_label_files(self, infos: list[dict]) -> None:
        """Refuse a label file of two images; say if there is none at all."""
        image_of: dict[str, str] = {}
        for path, image in ((info["label_path"], info["img_path"]) for info in infos if info["label_path"]):
            if path in image_of:
                raise ValueError(
                    f"{path}: is the label file of both {image_of[path]!r} and {image!r}; rename one of them"
                )
            image_of[path] = image
        if image_of:
            return
        places = validate.listed(self.label_candidates(infos[0]["img_path"]))
        message = f"{self.source}: none of {len(infos)} images has a label file; that of the first would be {places}"
        if not self.test_mode:
            raise ValueError(
                f"{message}. Correct data_root, or give data_prefix['labels'], the folder of the label files"
            )
        validate.warn(f"{message}. All count as images without an object.")

    def _labels(self, rows: list[LabelRow], place: Callable[[int], str]) -> np.ndarray:
        """Return the label of each row, (n,); -1 for a class that ``metainfo['classes']`` leaves out.

        Args:
            rows: of the label files.
            place: file and line of a row.
        """
        names = read_class_names(self.class_file) if self.class_file else None
        classes = self._metainfo.get("classes")
        if classes is None:
            raise ValueError(
                f"{self.source}: the classes have no names: there is no YAML file and none of "
                f"{validate.listed(CLASS_FILES)} in {self.finder.root!r}. Name them in the order of their numbers: "
                "metainfo=dict(classes=('first', 'second'))"
            )
        count = len(names or classes)
        unknown = next((index for index, row in enumerate(rows) if row.label >= count), None)
        if unknown is not None:
            raise ValueError(
                f"{place(unknown)}: the class is {rows[unknown].label}, but {self.class_file or 'metainfo'} names "
                f"{count} classes, 0 to {count - 1}: {validate.listed(names or classes)}. Correct either"
            )
        numbers = np.array([row.label for row in rows], dtype=np.int64)
        if names is None:
            return numbers
        objects = np.bincount(numbers, minlength=count).tolist()
        validate.match_classes(classes, dict(zip(names, objects, strict=True)), self.source)
        return np.array([classes.index(name) if name in classes else -1 for name in names])[numbers]
