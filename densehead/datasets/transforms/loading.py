"""Loading images and their truth."""

from __future__ import annotations

import io
import os

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.fileio import get
from PIL import Image

from densehead.datasets.validate import warn
from densehead.registry import TRANSFORMS

# How a complete file starts and ends. Some decoders fill what is missing with grey and say nothing to the caller.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that refuses what is no whole image, and minds the annotated size.

    An image whose sides are swapped against its annotation is one that its EXIF tag turns and whose boxes were drawn
    without: it is loaded unturned. Any other difference of size is logged once, and the size of the image is taken.

    Args:
        *args, **kwargs: ``to_float32``, ``color_type``, ``imdecode_backend``, ``backend_args`` as in mmcv;
            ``ignore_empty=True`` makes the data set take another image instead of an error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, truncated, or no image.
    """

    _said_size = False

    def __init__(self, *args, file_client_args: dict | None = None, **kwargs) -> None:
        if file_client_args is not None:
            raise ValueError("LoadImageFromFile: the key 'file_client_args' is no longer read; use backend_args")
        super().__init__(*args, **kwargs)

    def transform(self, results: dict) -> dict | None:
        """Add ``img`` (H, W, 3) BGR, ``img_shape`` and ``ori_shape``."""
        path = results["img_path"]
        try:
            data = self._read(path)
            image = self._decode(data, path, self.color_type)
        except (OSError, ValueError):
            if self.ignore_empty:
                return None
            raise
        image = self._fit_annotation(image, data, results)
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = image.shape[:2]
        results["ori_shape"] = image.shape[:2]
        return results

    def _read(self, path: str) -> bytes:
        try:
            return get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            folder = os.path.dirname(path)
            where = "" if os.path.isdir(folder) else f" Its folder {folder!r} does not exist."
            raise FileNotFoundError(
                f"the image {path!r} does not exist.{where} Check data_root, data_prefix and the annotation file of "
                "the data set"
            ) from None

    def _decode(self, data: bytes, path: str, color_type: str) -> np.ndarray:
        try:
            image = mmcv.imfrombytes(data, flag=color_type, backend=self.imdecode_backend)
        except Exception as error:  # each backend raises its own kind
            raise ValueError(_unreadable(path, data)) from error
        if image is None or is_truncated(data):
            raise ValueError(_unreadable(path, data))
        return image

    def _fit_annotation(self, image: np.ndarray, data: bytes, results: dict) -> np.ndarray:
        annotated = (results.get("height"), results.get("width"))
        if None in annotated or image.shape[:2] == annotated:
            return image
        path = results["img_path"]
        if image.shape[1::-1] == annotated and self.color_type in ("color", "grayscale"):
            unturned = self._decode(data, path, f"{self.color_type}_ignore_orientation")
            if unturned.shape[:2] == annotated:
                return unturned
        if not LoadImageFromFile._said_size:
            LoadImageFromFile._said_size = True
            warn(
                f"the image {path!r} is {image.shape[1]} x {image.shape[0]} pixels, but annotated as {annotated[1]} x "
                f"{annotated[0]}; its boxes are taken as pixels of the image. If images were resized, resize the boxes "
                "of the annotation file too. (Said for the first such image only.)"
            )
        results["height"], results["width"] = image.shape[:2]
        return image


@TRANSFORMS.register_module()
class LoadImageFromNDArray(_LoadImageFromFile):
    """Take an image that is in ``results['img']`` already, (H, W, 3) BGR."""

    def transform(self, results: dict) -> dict:
        """Add ``img_shape``, ``ori_shape`` and an ``img_path`` of None."""
        if self.to_float32:
            results["img"] = results["img"].astype(np.float32)
        results["img_path"] = None
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Turn ``instances`` into the arrays ``gt_bboxes``, ``gt_bboxes_labels`` and ``gt_ignore_flags``.

    Args:
        with_bbox, with_label: whether to load boxes (and ignore flags), and labels.
        with_mask, with_seg: must be False; there are boxes only.
        box_type: ``'hbox'`` or None, which are the same here: a plain array.
        poly2mask, reduce_zero_label, ignore_index, imdecode_backend, backend_args: accepted for mmdetection's configs;
            they concern masks and segmentation maps.

    Raises:
        ValueError: masks, segmentation maps or rotated boxes are asked for.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = False,
        with_seg: bool = False,
        poly2mask: bool = True,
        box_type: str | None = "hbox",
        reduce_zero_label: bool = False,
        ignore_index: int = 255,
        imdecode_backend: str = "cv2",
        backend_args: dict | None = None,
    ) -> None:
        if with_mask or with_seg:
            raise ValueError("LoadAnnotations: only boxes are loaded here; remove with_mask and with_seg")
        if box_type not in ("hbox", None):
            raise ValueError(f"LoadAnnotations: box_type must be 'hbox' or None (xyxy), but got {box_type!r}")
        self.with_bbox = with_bbox
        self.with_label = with_label

    def transform(self, results: dict) -> dict:
        """Add the arrays, of length 0 where there are no ``instances``."""
        instances = results.get("instances", [])
        if self.with_bbox:
            boxes = np.array([one["bbox"] for one in instances], dtype=np.float32)
            results["gt_bboxes"] = boxes.reshape(-1, 4)
            results["gt_ignore_flags"] = np.array([one.get("ignore_flag", 0) for one in instances], dtype=bool)
        if self.with_label:
            results["gt_bboxes_labels"] = np.array([one["bbox_label"] for one in instances], dtype=np.int64)
        return results

    def __repr__(self) -> str:
        return f"LoadAnnotations(with_bbox={self.with_bbox}, with_label={self.with_label})"


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG file ends before its picture does."""
    for start, end in _ENDS.items():
        if data.startswith(start) and end not in data[-64:]:
            try:
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
            except (OSError, SyntaxError):
                return True
    return False


def _unreadable(path: str, data: bytes) -> str:
    """The message for a file that cannot be decoded."""
    if is_truncated(data):
        what = "is truncated: it ends before the picture does"
    else:
        what = f"starts with {data[:8]!r}, unlike an image" if data else "is empty"
    return (
        f"the image {path!r} cannot be read: the file of {len(data)} bytes {what}. Copy it again, or replace it by an "
        "image (JPEG, PNG, ...), or remove it from the annotation file"
    )
