"""``Predictions``: the level maps of a head, as they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from densehead.structures.assignment import Positives
from densehead.structures.level_tensor import LevelTensor, Places

BoxReader = Callable[["Predictions", Tensor, Tensor], Tensor]


class Predictions(Mapping):
    """What a head put out for a batch: named :class:`LevelTensor` s, read by every loss and rule in the same way.

    Heads name them ``cls_logits`` (C a prior), ``box_deltas`` or ``box_logits``, ``quality_logits``. Rules that know
    nothing of the head ask for class scores and boxes at the priors they care for; index tensors have any one shape.

    Args:
        num_base_priors: ``A``, priors at a place.
        read_boxes: takes the predictions, image indices and prior indices (...) and returns boxes (..., 4) xyxy in
            pixels.
        class_form: what ``cls_logits`` holds: ``'sigmoid'``, C logits of independent classes; ``'softmax'``, C + 1
            logits with the background last; ``'scores'``, C probabilities.
        maps: of each quantity one ``(B, A * c, h, w)`` a level.
    """

    def __init__(
        self,
        num_base_priors: int = 1,
        *,
        read_boxes: BoxReader | None = None,
        class_form: str = "sigmoid",
        **maps: Sequence[Tensor],
    ) -> None:
        places = Places()
        self._tensors = {name: LevelTensor(levels, num_base_priors, places) for name, levels in maps.items()}
        self._read_boxes = read_boxes
        self._class_form = class_form

    @classmethod
    def of_flat(
        cls, boxes: Tensor | None, *, scores: Tensor | None = None, logits: Tensor | None = None
    ) -> Predictions:
        """Wrap predictions that are no maps: those of mmdetection's call for one image.

        Args:
            boxes: (B, P, 4) xyxy in pixels.
            scores: (B, P, C) probabilities; or
            logits: (B, P, C) the same before the sigmoid.
        """
        classes, form = (scores, "scores") if logits is None else (logits, "sigmoid")
        maps = {} if classes is None else {"cls_logits": [classes.transpose(1, 2)[..., None]]}
        read = None if boxes is None else lambda _, image_index, prior_index: boxes[image_index, prior_index]
        return cls(read_boxes=read, class_form=form, **maps)

    def __getitem__(self, name: str) -> LevelTensor:
        return self._tensors[name]

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def num_classes(self) -> int:
        """``C``, without background."""
        return self["cls_logits"].channels - (self._class_form == "softmax")

    def gather(self, name: str, positives: Positives) -> Tensor:
        """Return (N, c): what the head said at the positives."""
        return self[name].at(positives.image_index, positives.prior_index)

    def boxes_at(self, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """Return (..., 4) xyxy in pixels: the predicted boxes, not clipped.

        Raises:
            ValueError: predictions without boxes.
        """
        if self._read_boxes is None:
            raise ValueError(
                "these predictions hold no boxes: give Predictions read_boxes (heads do), or of_flat boxes"
            )
        return self._read_boxes(self, image_index, prior_index)

    def scores_at(self, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """Return (..., C) class probabilities, without the quality's factor."""
        return self._scores(self["cls_logits"].at(image_index, prior_index).float(), -1)

    def logits_at(self, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """Return (..., C) class probabilities before the sigmoid."""
        return self._logits(self["cls_logits"].at(image_index, prior_index).float(), -1)

    def scores(self) -> Tensor:
        """Return (B, C, P) class probabilities of all priors, for sums over classes."""
        return self._in_prior_order(self._scores(self["cls_logits"].joined.float(), 2))

    def logits(self) -> Tensor:
        """Return (B, C, P) class probabilities of all priors before the sigmoid; a view where it can be one."""
        return self._in_prior_order(self._logits(self["cls_logits"].joined.float(), 2))

    def _scores(self, values: Tensor, axis: int) -> Tensor:
        if self._class_form == "scores":
            return values
        if self._class_form == "sigmoid":
            return values.sigmoid()
        return values.softmax(axis).narrow(axis, 0, self.num_classes)

    def _logits(self, values: Tensor, axis: int) -> Tensor:
        return values if self._class_form == "sigmoid" else self._scores(values, axis).logit(eps=1e-6)

    @staticmethod
    def _in_prior_order(joined: Tensor) -> Tensor:
        """(B, A, C, S) to (B, C, P)."""
        return joined[:, 0] if joined.shape[1] == 1 else joined.permute(0, 2, 3, 1).flatten(2)
