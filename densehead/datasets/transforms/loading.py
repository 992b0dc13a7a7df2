"""Loading images and their truth."""

from __future__ import annotations

import os

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.fileio import get

from densehead.datasets.image_limit import require_decodable
from densehead.datasets.transforms.decoding import REDUCIBLE, UndecodedImage, decode
from densehead.datasets.validate import warn
from densehead.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that refuses what is no whole image, and minds the annotated size.

    An image whose sides are swapped against its annotation is one that its EXIF tag turns and whose boxes were drawn
    without: it is loaded unturned. Any other difference of size is logged once, and the size of the image is taken.

    Args:
        *args, **kwargs: ``to_float32``, ``color_type``, ``imdecode_backend``, ``backend_args`` as in mmcv;
            ``ignore_empty=True`` makes the data set take another image instead of an error.
        decode_reduced: leave the decoding of JPEGs to the transform that resizes, which decodes at 1/2, 1/4 or 1/8 of
            the size where that is still as large as it wants. Sizes, factors and boxes are as without; pixels differ
            a little, since the decoder averages where interpolation picks. The first transform after this one that
            looks at the image must be densehead's ``Resize`` (also as part of ``RandomResize``,
            ``RandomChoiceResize``, ``TestTimeAug``) or ``RandomWarp``. Files of other formats, and images of another
            size than annotated, are decoded here.
        max_pixels: an image whose header says more is not decoded;
            :func:`~densehead.datasets.image_limit.pixel_limit` if None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, truncated, too large, or no image; or ``decode_reduced`` with a backend or a colour
            type that cannot.
    """

    _said_size = False

    def __init__(
        self,
        *args,
        file_client_args: dict | None = None,
        decode_reduced: bool = False,
        max_pixels: int | None = None,
        **kwargs,
    ) -> None:
        if file_client_args is not None:
            raise ValueError("LoadImageFromFile: the key 'file_client_args' is no longer read; use backend_args")
        super().__init__(*args, **kwargs)
        if not isinstance(decode_reduced, bool):
            raise ValueError(f"LoadImageFromFile: decode_reduced must be True or False, but got {decode_reduced!r}")
        if decode_reduced and (self.imdecode_backend != "cv2" or self.color_type not in REDUCIBLE):
            raise ValueError(
                f"LoadImageFromFile: decode_reduced=True needs imdecode_backend='cv2' and a color_type of {REDUCIBLE}, "
                f"but got {self.imdecode_backend!r} and {self.color_type!r}"
            )
        self.decode_reduced = decode_reduced
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict | None:
        """Add ``img`` (H, W, 3) BGR, ``img_shape`` and ``ori_shape``."""
        path = results["img_path"]
        try:
            data = self._read(path)
            require_decodable(data, path, self.max_pixels)
            if self.decode_reduced and self._leave_undecoded(data, results):
                return results
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
        return decode(data, path, color_type, self.imdecode_backend)

    def _leave_undecoded(self, data: bytes, results: dict) -> bool:
        """Fill the results without decoding, and return whether that was possible."""
        dtype = np.float32 if self.to_float32 else np.uint8
        image = UndecodedImage.of(data, results["img_path"], self.color_type, dtype)
        annotated = (results.get("height"), results.get("width"))
        if image is None or not (None in annotated or image.size == annotated):
            return False
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.size
        return True

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
class LoadImageFromNDArray(LoadImageFromFile):
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
