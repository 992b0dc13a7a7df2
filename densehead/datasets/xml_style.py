"""Annotations as one XML file an image, in the manner of Pascal VOC."""

from __future__ import annotations

import io
import os
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
from mmengine.fileio import get

from densehead.datasets import validate
from densehead.datasets.base_det_dataset import BaseDetDataset
from densehead.datasets.folders import files_in, require_inside
from densehead.datasets.image_size import in_threads, loaded_size
from densehead.registry import DATASETS

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@DATASETS.register_module()
class XMLDataset(BaseDetDataset):
    """Images with boxes from XML files: ``ann_file`` lists the images' ids, one a line; every XML file without one.

    Coordinates count from 1 in the files, so 1 is subtracted from all four. Objects marked ``difficult`` get
    ``ignore_flag`` 1. The size of an image is that of ``<size>``; only where it is absent is the image's header read.

    Args:
        img_subdir, ann_subdir: folders of images and XML files inside the sub data root.
        data_prefix: ``sub_data_root``, relative to ``data_root``; ``data_root`` itself if absent.
        allow_outside: whether an id of the list may lead out of ``data_root``.
        filter_cfg: also ``bbox_min_size`` (pixels): smaller boxes get ``ignore_flag`` 1; for training only.
        metainfo: must give ``classes``.
    """

    FILTER_KEYS = (*BaseDetDataset.FILTER_KEYS, "bbox_min_size")

    def __init__(
        self,
        *args,
        img_subdir: str = "JPEGImages",
        ann_subdir: str = "Annotations",
        allow_outside: bool = False,
        **kwargs,
    ) -> None:
        self.img_subdir = img_subdir
        self.ann_subdir = ann_subdir
        self.allow_outside = allow_outside
        if kwargs.get("test_mode") and (kwargs.get("filter_cfg") or {}).get("bbox_min_size") is not None:
            raise ValueError(f"{type(self).__name__}: filter_cfg.bbox_min_size is for training; remove it for testing")
        super().__init__(*args, **kwargs)

    @property
    def sub_data_root(self) -> str:
        """Folder of ``img_subdir`` and ``ann_subdir``."""
        return self.data_prefix.get("sub_data_root", self.data_root or "")

    @property
    def ann_folder(self) -> str:
        """Folder of the XML files."""
        return os.path.join(self.sub_data_root, self.ann_subdir)

    @property
    def source(self) -> str:
        """What messages call the data set: its list, or the folder of the XML files."""
        return self.ann_file or self.ann_folder

    def check_paths(self) -> None:
        """Raise an error that names the list, the folder of the XML files or the data root where it is missing."""
        if self.ann_file or not validate.is_local(self.ann_folder, self.backend_args):
            super().check_paths()
        else:
            validate.require_folder(
                self.ann_folder, key="ann_subdir", owner=type(self).__name__, data_root=self.data_root
            )

    @property
    def bbox_min_size(self) -> float | None:
        """Boxes smaller than this (pixels) are ignored in training."""
        return (self.filter_cfg or {}).get("bbox_min_size")

    def load_data_list(self) -> list[dict]:
        """Read the XML files; return the data info of each image in the order of ``ann_file``."""
        if "classes" not in self._metainfo:
            raise ValueError(
                f"{type(self).__name__}: metainfo has no 'classes'; name those of the XML files: "
                "metainfo=dict(classes=('first', 'second'))"
            )
        classes = self._metainfo["classes"]
        self.cat2label = {name: label for label, name in enumerate(classes)}
        infos = self.read_infos()
        objects = [(index, *one) for index, info in enumerate(infos) for one in info.pop("objects")]
        validate.match_classes(classes, Counter(name for _, name, _, _ in objects), self.source)
        wanted = [one for one in objects if one[1] in self.cat2label]
        image_index = np.array([one[0] for one in wanted], dtype=np.int64)
        labels = np.array([self.cat2label[one[1]] for one in wanted], dtype=np.int64)
        boxes = np.array([one[3] for one in wanted], dtype=np.float64).reshape(-1, 4)
        ignore = np.array([one[2] for one in wanted], dtype=bool)
        if self.bbox_min_size is not None:
            ignore |= (boxes[:, 2:] - boxes[:, :2] < self.bbox_min_size).any(1)
        for info, instances in zip(infos, self._instances(boxes, labels, ignore, image_index, infos), strict=True):
            info["instances"] = instances
        return infos

    def read_infos(self) -> list[dict]:
        """Read the XML files as they are; see :meth:`parse_data_info`."""
        return list(in_threads(lambda img_id: self.parse_data_info({"img_id": img_id}), self._read_ids()))

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Read one image's XML file into ``img_path``, ``xml_path``, its size and ``objects``.

        Args:
            raw_data_info: ``img_id``.

        Returns:
            dict: ``objects`` are (name, difficult, xyxy) of every object, before anything is left out.
        """
        img_id = raw_data_info["img_id"]
        xml_path = self.xml_path(img_id)
        root = self.read_xml(img_id)
        img_path = self.find_image(img_id, root)
        height, width = self._image_size(root, img_path, xml_path)
        return {
            "img_path": img_path,
            "img_id": img_id,
            "xml_path": xml_path,
            "height": height,
            "width": width,
            "objects": [parse_object(one, i, xml_path) for i, one in enumerate(root.findall("object"))],
        }

    def list_ids(self) -> list[str]:
        """Return the ids that ``ann_file`` lists, or those of all XML files where there is none."""
        if not self.ann_file:
            return self._all_ids()
        lines = get(self.ann_file, backend_args=self.backend_args).decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _read_ids(self) -> list[str]:
        ids = self.list_ids()
        if not ids:
            raise ValueError(f"{self.ann_file}: is empty; it must list the ids of the images, one a line")
        advice = "Remove one; to see images more often use RepeatDataset or ClassBalancedDataset"
        validate.require_unique(ids, "image id", self.ann_file, advice)
        if not self.allow_outside:
            for folder in (self.ann_folder, os.path.join(self.sub_data_root, self.img_subdir)):
                require_inside(ids, folder, self.data_root or self.sub_data_root, self.ann_file)
        return ids

    def _all_ids(self) -> list[str]:
        """The ids of all XML files, in those folders too that are in their folder."""
        paths = [os.path.relpath(path, self.ann_folder) for path in files_in(self.ann_folder, [".xml"])]
        if not paths:
            raise ValueError(f"{self.ann_folder}: there is no XML file in it. Correct ann_subdir or data_prefix")
        return [os.path.splitext(path)[0] for path in paths]

    def xml_path(self, img_id: str) -> str:
        """Path of an image's XML file."""
        return os.path.join(self.ann_folder, f"{img_id}.xml")

    def read_xml(self, img_id: str) -> ET.Element:
        """Return the root of an image's XML file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or is no XML.
        """
        path = self.xml_path(img_id)
        try:
            return ET.fromstring(get(path, backend_args=self.backend_args))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path}: no such file; {self.source} lists the image {img_id!r}, whose annotation it should be. "
                "Correct ann_subdir or data_prefix.sub_data_root, or the list (one id without suffix a line)"
            ) from None
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ET.ParseError as error:
            raise ValueError(
                f"{path}: is no valid XML ({error}); it is truncated or damaged, write it again"
            ) from error

    def find_image(self, img_id: str, root: ET.Element | None = None) -> str:
        """Return the path of an image: ``<id>.jpg``, or where that is absent what the XML names, or another suffix."""
        folder = os.path.join(self.sub_data_root, self.img_subdir)
        usual = os.path.join(folder, f"{img_id}.jpg")
        if not validate.is_local(usual, self.backend_args) or os.path.exists(usual):
            return usual
        named = os.path.basename((root is not None and root.findtext("filename")) or "")
        others = [os.path.join(os.path.dirname(img_id), named)] if named else []
        others += [f"{img_id}{suffix}" for suffix in _SUFFIXES]
        return next((path for path in (os.path.join(folder, one) for one in others) if os.path.exists(path)), usual)

    def _image_size(self, root: ET.Element, img_path: str, xml_path: str) -> tuple[int, int]:
        """Height and width in pixels."""
        annotated = annotated_size(root)
        if annotated is not None:
            return annotated
        try:
            return loaded_size(io.BytesIO(get(img_path, backend_args=self.backend_args)), img_path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{xml_path}: has no <size> with a positive width and height, and its image {img_path} cannot be read "
                f"for it ({error}). Correct either"
            ) from error


def annotated_size(root: ET.Element) -> tuple[int, int] | None:
    """Return height and width (pixels) that ``<size>`` of an XML file says; None where it says none."""
    try:
        height, width = (int(float(root.findtext(f"size/{side}"))) for side in ("height", "width"))
    except (TypeError, ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def parse_object(element: ET.Element, index: int, xml_path: str) -> tuple[str, bool, list[int]]:
    """Return name, whether it is difficult, and xyxy counted from 0, of an ``<object>``.

    Raises:
        ValueError: one of them is missing or no number; the message names the file and the object.
    """
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{xml_path}: object {index} has no <name>; it must be one of the class names")
    corners = []
    for corner in _CORNERS:
        text = element.findtext(f"bndbox/{corner}")
        try:
            corners.append(int(float(text)) - 1)
        except (TypeError, ValueError, OverflowError):
            if text is not None and text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
                corners.append(np.nan)  # reported and dropped with the other boxes that are none
                continue
            raise ValueError(
                f"{xml_path}: object {index} ({name!r}) must have a number in <bndbox><{corner}>, but has {text!r}"
            ) from None
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise ValueError(
            f"{xml_path}: object {index} ({name!r}) must have 0 or 1 in <difficult>, but has {difficult!r}"
        )
    return name, difficult == "1", corners
