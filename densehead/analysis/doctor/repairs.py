"""What is done to the images and boxes of a data set when its annotations are cleaned."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from densehead.analysis.doctor.parts import Part


@dataclass(frozen=True)
class Change:
    """Something that differs in the cleaned copy.

    Attributes:
        kind: what was done, the same words for all of a kind.
        part: the data set, as the config names it.
        file: where it was.
        item: which entry of the file; empty for the whole of it.
        detail: the numbers.
    """

    kind: str
    part: str
    file: str
    item: str = ""
    detail: str = ""


@dataclass
class Repairs:
    """What is dropped and cut, and the list of that.

    Attributes:
        part: the data set.
        keep_image: (I,) bool.
        keep_box: (n,) bool.
        clipped: boxes that are cut, and their new numbers (xyxy, pixels, counted from 0).
        changes: all that was done.
    """

    part: Part
    keep_image: np.ndarray
    keep_box: np.ndarray
    clipped: dict[int, np.ndarray] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @classmethod
    def none(cls, part: Part) -> Repairs:
        """Return no repairs, for a start."""
        found = part.annotations
        return cls(part, np.ones(found.num_images, dtype=bool), np.ones(len(found.boxes), dtype=bool))

    def note(self, kind: str, file: str, item: str = "", detail: str = "") -> None:
        """Note a change."""
        self.changes.append(Change(kind, self.part.key, file, item, detail))

    def drop_image(self, index: int, reason: str) -> None:
        """Leave an image out, with its boxes."""
        found = self.part.annotations
        self.keep_image[index] = False
        self.keep_box[found.image_index == index] = False
        self.note(reason, found.image_paths[index])

    def drop_box(self, box: int, reason: str, detail: str) -> None:
        """Leave a box out, unless it went with its image."""
        if self.keep_box[box]:
            self.keep_box[box] = False
            self._note_box(box, reason, detail)

    def clip_box(self, box: int, corners: np.ndarray, reason: str, detail: str) -> None:
        """Give a box other numbers."""
        if self.keep_box[box]:
            self.clipped[int(box)] = corners
            self._note_box(box, reason, detail)

    def _note_box(self, box: int, reason: str, detail: str) -> None:
        found = self.part.annotations
        self.note(reason, found.sources[found.image_index[box]], f"{found.item} {found.box_ids[box]}", detail)
