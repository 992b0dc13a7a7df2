"""From what the data loader yields to a batch on the device: checked, normalised, padded."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import broadcast
from mmengine.logging import MessageHub
from mmengine.model import ImgDataPreprocessor
from mmengine.structures import PixelData
from torch import Tensor, nn

from densehead.registry import MODELS
from densehead.structures import DetDataSample, box_tensor, check_boxes, check_labels
from densehead.typing import ConfigDict, Size

Samples = Sequence[DetDataSample]


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Normalise the images of a batch, pad them to one size at the right and the bottom, and say so in the samples.

    Every sample gets ``pad_shape``, the size of its own image padded to the divisor, and ``batch_input_shape``, the
    size of the batch.

    Args:
        mean: subtracted from each channel (after the change of their order), 1 or 3 values; None with ``std`` None.
        std: each channel is divided by it.
        pad_size_divisor: height and width of a batch are multiples of it.
        pad_value: value of padded places, after normalisation.
        pad_mask: pad ``gt_instances.masks`` too, while training.
        mask_pad_value: with this value.
        pad_seg: pad ``gt_sem_seg`` too, while training.
        seg_pad_value: with this value.
        bgr_to_rgb: reverse the order of the channels.
        rgb_to_bgr: likewise.
        boxtype2tensor: make plain tensors of box classes (mmdetection's data pipelines can yield them).
        non_blocking: copy to the device without waiting.
        batch_augments: modules that change the batch, ``(inputs, data_samples) -> (inputs, data_samples)``, while
            training.

    Attributes:
        num_classes: while training, labels must be below it; set by the detector to that of its head. The truth is
            looked at before it leaves the host, where an error can still name the image.

    Raises:
        ValueError: arguments that do not fit each other.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        pad_seg: bool = False,
        seg_pad_value: int = 255,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        boxtype2tensor: bool = True,
        non_blocking: bool = False,
        batch_augments: list[ConfigDict] | None = None,
    ) -> None:
        _check_normalisation(mean, std)
        if bgr_to_rgb and rgb_to_bgr:
            raise ValueError("data_preprocessor.bgr_to_rgb and data_preprocessor.rgb_to_bgr exclude each other")
        super().__init__(mean, std, pad_size_divisor, pad_value, bgr_to_rgb, rgb_to_bgr, non_blocking)
        self.pad_mask = pad_mask
        self.mask_pad_value = mask_pad_value
        self.pad_seg = pad_seg
        self.seg_pad_value = seg_pad_value
        self.boxtype2tensor = boxtype2tensor
        self.batch_augments = nn.ModuleList(MODELS.build(augment) for augment in batch_augments or ())
        self.num_classes: int | None = None

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make the batch.

        Args:
            data: ``inputs``, a (C, H, W) image per sample or one (B, C, H, W) tensor, of any number type; and
                ``data_samples``, may be absent.
            training: boxes and labels are checked, batch augmentations run.

        Returns:
            ``inputs`` (B, C, H, W) float32 on the device of the model, and ``data_samples`` or None.

        Raises:
            ValueError: images of another form, or (in training) a box that is not finite or a label outside
                ``[0, num_classes)``.
        """
        if training:
            self._check_truth(data.get("data_samples") or ())
        data = self.cast_data(data)
        images, samples = data["inputs"], data.get("data_samples")
        self._check_images(images)
        inputs = self._batch(images)
        if samples is not None:
            self._complete(samples, images, tuple(inputs.shape[-2:]), training)
        if training:
            for augment in self.batch_augments:
                inputs, samples = augment(inputs, samples)
        return {"inputs": inputs, "data_samples": samples}

    def _check_truth(self, samples: Samples) -> None:
        for sample in samples:
            truth, owner = (
                sample.get("gt_instances", ()),
                f"image {sample.get('img_path')} (img_id {sample.get('img_id')})",
            )
            if "bboxes" in truth:
                check_boxes(box_tensor(truth.bboxes), owner)
            if "labels" in truth and self.num_classes is not None:
                check_labels(truth.labels, self.num_classes, owner)

    def _check_images(self, images: Sequence[Tensor] | Tensor) -> None:
        shapes = [tuple(image.shape) if isinstance(image, Tensor) else type(image) for image in images]
        if not shapes or any(not isinstance(s, tuple) or len(s) != 3 or s[0] != shapes[0][0] for s in shapes):
            raise ValueError(f"inputs must be tensors of shape (C, H, W), all with the same C, but got {shapes}")
        channels = shapes[0][0]
        if self._channel_conversion and channels != 3:
            raise ValueError(f"data_preprocessor.bgr_to_rgb needs images of 3 channels, but got {channels}")
        if self._enable_normalize and max(len(self.mean), len(self.std)) not in (1, channels):
            raise ValueError(
                f"data_preprocessor.mean and std have {len(self.mean)} and {len(self.std)} values, but the images have "
                f"{channels} channels"
            )

    def _batch(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """Write each image into its place of the one buffer and normalise it there."""
        height, width = self._padded(max(i.shape[1] for i in images), max(i.shape[2] for i in images))
        size = (len(images), images[0].shape[0], height, width)
        batch = torch.empty(size, dtype=torch.float32, device=images[0].device)
        for place, image in zip(batch, images, strict=True):
            height, width = image.shape[1:]
            content = place[:, :height, :width]
            content.copy_(image.flip(0) if self._channel_conversion else image)
            if self._enable_normalize:
                content.sub_(self.mean).div_(self.std)
            place[:, height:] = self.pad_value
            place[:, :height, width:] = self.pad_value
        return batch

    def _padded(self, height: int, width: int) -> Size:
        divisor = self.pad_size_divisor
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor

    def _complete(self, samples: Samples, images: Sequence[Tensor] | Tensor, size: Size, training: bool) -> None:
        for sample, image in zip(samples, images, strict=True):
            sample.set_metainfo({"batch_input_shape": size, "pad_shape": self._padded(*image.shape[1:])})
        if self.boxtype2tensor:
            boxes_to_tensors(samples)
        if training and self.pad_mask:
            _pad_masks(samples, size, self.mask_pad_value)
        if training and self.pad_seg:
            _pad_sem_seg(samples, size, self.seg_pad_value)


@MODELS.register_module()
class BatchFixedSizePad(nn.Module):
    """Pad every batch to one size, so that all batches have the same.

    Args:
        size: height and width; larger batches keep theirs.
        img_pad_value: value of padded places of the images.
        pad_mask: pad ``gt_instances.masks`` too.
        mask_pad_value: with this value.
        pad_seg: pad ``gt_sem_seg`` too.
        seg_pad_value: with this value.
    """

    def __init__(
        self,
        size: Size,
        img_pad_value: float = 0,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        pad_seg: bool = False,
        seg_pad_value: int = 255,
    ) -> None:
        super().__init__()
        self.size = size
        self.img_pad_value = img_pad_value
        self.pad_mask = pad_mask
        self.mask_pad_value = mask_pad_value
        self.pad_seg = pad_seg
        self.seg_pad_value = seg_pad_value

    def forward(self, inputs: Tensor, data_samples: Samples | None = None) -> tuple[Tensor, Samples | None]:
        """Pad (B, C, h, w) to (B, C, H, W); ``batch_input_shape`` and ``pad_shape`` become (H, W)."""
        height, width = inputs.shape[-2:]
        bottom, right = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if not (bottom or right):
            return inputs, data_samples
        inputs = F.pad(inputs, (0, right, 0, bottom), value=self.img_pad_value)
        if data_samples is not None:
            size = tuple(inputs.shape[-2:])
            for sample in data_samples:
                sample.set_metainfo({"batch_input_shape": size, "pad_shape": size})
            if self.pad_mask:
                _pad_masks(data_samples, size, self.mask_pad_value)
            if self.pad_seg:
                _pad_sem_seg(data_samples, size, self.seg_pad_value)
        return inputs, data_samples


@MODELS.register_module()
class BatchSyncRandomResize(nn.Module):
    """Resize batches to a size that is drawn anew every few iterations, the same on all ranks.

    Args:
        random_size_range: smallest and largest height, pixels; the width follows from the aspect ratio.
        interval: iterations between draws.
        size_divisor: sizes are multiples of it.
    """

    def __init__(self, random_size_range: tuple[int, int], interval: int = 10, size_divisor: int = 32) -> None:
        super().__init__()
        self.steps = tuple(round(limit / size_divisor) for limit in random_size_range)
        self.interval = interval
        self.size_divisor = size_divisor
        self.input_size: Size | None = None

    def forward(self, inputs: Tensor, data_samples: Samples) -> tuple[Tensor, Samples]:
        """Resize (B, C, h, w) and the boxes; before the first draw to the size of the first batch."""
        height, width = inputs.shape[-2:]
        if self.input_size is None:
            self.input_size = (height, width)
        if self.input_size != (height, width):
            inputs = F.interpolate(inputs, self.input_size, mode="bilinear", align_corners=False)
            for sample in data_samples:
                _resize_sample(sample, self.input_size, self.input_size[0] / height, self.input_size[1] / width)
        iteration = MessageHub.get_current_instance().get_info("iter", 0)
        if (iteration + 1) % self.interval == 0:
            self.input_size = self._draw(width / height, inputs.device)
        return inputs, data_samples

    def _draw(self, aspect_ratio: float, device: torch.device) -> Size:
        rows = random.randint(*self.steps)
        size = torch.tensor([rows, int(aspect_ratio * rows)], device=device) * self.size_divisor
        broadcast(size, 0)
        return tuple(size.tolist())


def boxes_to_tensors(samples: Samples) -> None:
    """Replace box classes (anything with ``.tensor``) by their tensors, in place."""
    for sample in samples:
        for name in ("gt_instances", "ignored_instances", "proposals", "pred_instances"):
            instances = sample.get(name)
            boxes = None if instances is None else instances.get("bboxes")
            if boxes is not None and not isinstance(boxes, Tensor):
                instances.bboxes = boxes.tensor


def _resize_sample(sample: DetDataSample, size: Size, scale_y: float, scale_x: float) -> None:
    shapes = {
        name: (int(sample.metainfo[name][0] * scale_y), int(sample.metainfo[name][1] * scale_x))
        for name in ("img_shape", "pad_shape")
    }
    sample.set_metainfo({**shapes, "batch_input_shape": size})
    for name in ("gt_instances", "ignored_instances"):
        if name in sample:
            instances = sample.get(name)
            if isinstance(instances.bboxes, Tensor):
                instances.bboxes = instances.bboxes * instances.bboxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
            else:  # mmdetection's box class
                instances.bboxes.rescale_((scale_x, scale_y))


def _pad_masks(samples: Samples, size: Size, value: int) -> None:
    for sample in samples:
        if "masks" in sample.gt_instances:
            sample.gt_instances.masks = sample.gt_instances.masks.pad(size, pad_val=value)


def _pad_sem_seg(samples: Samples, size: Size, value: int) -> None:
    for sample in samples:
        if "gt_sem_seg" in sample:
            labels = sample.gt_sem_seg.sem_seg
            bottom, right = (max(full - part, 0) for full, part in zip(size, labels.shape[-2:], strict=True))
            sample.gt_sem_seg = PixelData(sem_seg=F.pad(labels, (0, right, 0, bottom), value=value))


def _check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if (mean is None) != (std is None):
        raise ValueError(f"data_preprocessor.mean and std must both be given or both be None, but got {mean} and {std}")
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) not in (1, 3):
            raise ValueError(f"data_preprocessor.{name} must have 1 or 3 values, but got {values}")
