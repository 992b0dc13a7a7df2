"""``DetLocalVisualizer``: truth beside detections."""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from densehead.registry import VISUALIZERS
from densehead.structures import DetDataSample
from densehead.visualization.drawing import Marks, Style, draw_marks, with_caption
from densehead.visualization.palette import class_colors

GAP = 6  # between truth and detections, pixels


@VISUALIZERS.register_module()
class DetLocalVisualizer(Visualizer):
    """Draw the truth of an image on the left, the detections on the right.

    Boxes have the colour of their class, a palette that people with a colour vision deficiency can tell apart, unless
    the data set's metainfo or ``bbox_color`` say otherwise. Ignored truth is dashed. Small pictures are enlarged.

    Args:
        name: of this instance.
        image: a first picture (H, W, 3), RGB.
        vis_backends: where pictures and figures are kept, see :class:`mmengine.visualization.Visualizer`.
        save_dir: folder of the backends' files.
        bbox_color: colours of the classes, or one for all, see :func:`class_colors`; the data set's if None.
        text_color: of labels; black or white, whichever is readable on the class's colour, if None.
        mask_color: accepted and without effect: nothing here has masks.
        line_width: of boxes, pixels of the drawn picture; by its size if None.
        alpha: opacity of boxes and labels, 0 to 1.
        min_side: a picture whose longer side is shorter is enlarged by a whole factor, pixels; 0 for never.
        font_file: a TrueType font that has your classes' letters; DejaVu Sans if None.

    Raises:
        ValueError: ``bbox_color`` or ``text_color`` is no colour.
    """

    def __init__(
        self,
        name: str = "visualizer",
        image: np.ndarray | None = None,
        vis_backends: Any = None,
        save_dir: str | None = None,
        bbox_color: Any = None,
        text_color: Any = None,
        mask_color: Any = None,
        line_width: float | None = None,
        alpha: float = 0.9,
        *,
        min_side: int = 480,
        font_file: str | None = None,
    ) -> None:
        # mmengine writes into the dicts of the backends, which belong to the caller's config
        if isinstance(vis_backends, dict):
            vis_backends = [vis_backends]
        vis_backends = [dict(one) if isinstance(one, dict) else one for one in vis_backends or ()]
        super().__init__(name=name, image=image, vis_backends=vis_backends, save_dir=save_dir)
        class_colors(bbox_color, 1)  # a wrong colour should not wait for the first picture
        self.bbox_color = bbox_color
        text_color = class_colors(text_color, 1)[0] if text_color is not None else None
        self.style = Style(line_width, text_color, alpha, min_side, font_file=font_file)
        self.dataset_meta = {}

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draw a sample; show it, write it, or hand it to the backends.

        ``get_image`` returns the picture afterwards.

        Args:
            name: of the picture.
            image: (H, W, 3) RGB, or (H, W) grey, 0 to 255; the original image, in whose pixels the boxes are.
            data_sample: truth (``gt_instances``, ``ignored_instances``) and detections (``pred_instances``).
            draw_gt: draw the truth.
            draw_pred: draw the detections.
            show: open a window.
            wait_time: how long it stays, seconds; 0 until a key is pressed.
            out_file: the picture is written there, and then not handed to the backends.
            pred_score_thr: only detections with a larger score are drawn.
            step: of the training, for the backends.

        Raises:
            ValueError: ``image`` has another shape.
        """
        drawn = self.draw(image, data_sample, draw_gt=draw_gt, draw_pred=draw_pred, pred_score_thr=pred_score_thr)
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(np.ascontiguousarray(drawn[..., ::-1]), out_file)
        else:
            self.add_image(name, drawn, step)

    def draw(
        self,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        *,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: float = 0.3,
        style: Style | None = None,
    ) -> np.ndarray:
        """Return the picture of a sample, RGB uint8; the arguments are those of :meth:`add_datasample`.

        With both truth and detections they stand side by side below captions; with one of them its picture is
        returned, and without any the enlarged image.

        Args:
            style: in place of the visualizer's own, for another size, say.
        """
        style = style or self.style
        image = _rgb(image)
        data_sample = DetDataSample() if data_sample is None else data_sample.cpu()
        panels = []
        if draw_gt and "gt_instances" in data_sample:
            marks = self._truth_marks(data_sample)
            panels.append((f"truth ({len(marks.texts)})", marks))
        if draw_pred and "pred_instances" in data_sample:
            marks = self._detection_marks(data_sample.pred_instances, pred_score_thr)
            panels.append((f"detections ({len(marks.texts)}, score > {pred_score_thr:g})", marks))
        if not panels:
            panels = [("", _no_marks())]
        pictures = [draw_marks(image, marks, style) for _, marks in panels]
        if len(pictures) == 1:
            return pictures[0]
        left, right = (
            with_caption(picture, caption, style) for picture, (caption, _) in zip(pictures, panels, strict=True)
        )
        gap = np.full((left.shape[0], GAP, 3), 255, dtype=np.uint8)
        return np.concatenate([left, gap, right], axis=1)

    def _truth_marks(self, data_sample: DetDataSample) -> Marks:
        marks = self._marks(data_sample.gt_instances)
        if "ignored_instances" not in data_sample or not len(data_sample.ignored_instances):
            return marks
        ignored = self._marks(data_sample.ignored_instances)
        return Marks(
            np.concatenate([marks.boxes, ignored.boxes]),
            [*marks.texts, *(f"{text} (ignored)" for text in ignored.texts)],
            [*marks.colors, *ignored.colors],
            [*marks.dashed, *(True for _ in ignored.texts)],
        )

    def _detection_marks(self, instances: InstanceData, score_thr: float) -> Marks:
        """The detections above the threshold, the best first."""
        chosen = instances[instances.scores > score_thr]
        return self._marks(chosen[chosen.scores.argsort(descending=True, stable=True)])

    def _marks(self, instances: InstanceData) -> Marks:
        boxes = getattr(instances.bboxes, "tensor", instances.bboxes).detach().double().numpy().reshape(-1, 4)
        keep = np.flatnonzero(np.isfinite(boxes).all(1))
        labels = [int(instances.labels[index]) for index in keep]
        meta = self.dataset_meta or {}
        palette = self.bbox_color if self.bbox_color is not None else meta.get("palette")
        colors = class_colors(palette, max(labels, default=-1) + 1)
        texts = [self._text(instances, index, label) for index, label in zip(keep, labels, strict=True)]
        return Marks(boxes[keep], texts, [colors[label] for label in labels], [False] * len(keep))

    def _text(self, instances: InstanceData, index: int, label: int) -> str:
        """Name of the class, with the score if there is one."""
        classes = (self.dataset_meta or {}).get("classes") or ()
        name = classes[label] if label < len(classes) else f"class {label}"
        if "label_names" in instances:
            name = instances.label_names[index]
        return f"{name} {float(instances.scores[index]):.2f}" if "scores" in instances else str(name)


def _no_marks() -> Marks:
    return Marks(np.zeros((0, 4)), [], [], [])


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must have the shape (H, W, 3), RGB, or (H, W), grey, but got {image.shape}")
    return np.clip(image, 0, 255).astype(np.uint8)
