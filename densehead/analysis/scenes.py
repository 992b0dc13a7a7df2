"""``Scene``: an image and what one or several assigners did with its objects; what sheets and pages are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densehead.analysis.records import AssignmentRecord


@dataclass(frozen=True)
class Scene:
    """One image, and what one or several rules did with it.

    Attributes:
        image: (H, W, 3) RGB uint8, as the network saw it: the pipeline applied, normalisation undone, padding cut off.
        name: of the image's file.
        class_names: names of the classes, by label.
        records: {title: what was assigned}, in order; a title names a head, an assigner or a checkpoint
            (``'GFLHead'``, ``'ATSSAssigner'``, ``'epoch_12.pth'``). All have the same boxes and labels.
    """

    image: np.ndarray
    name: str
    class_names: tuple[str, ...]
    records: dict[str, AssignmentRecord]
