"""Cleaned copies of annotations, and a list of what was changed in them."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from densehead.analysis.doctor.boxes import Twins
from densehead.analysis.doctor.findings import counted, shown_path
from densehead.analysis.doctor.fix_coco import write_coco
from densehead.analysis.doctor.fix_xml import write_xml
from densehead.analysis.doctor.fix_yolo import write_yolo, yolo_options
from densehead.analysis.doctor.image_files import State
from densehead.analysis.doctor.images import ImageChecks
from densehead.analysis.doctor.parts import Part, Split, form_of
from densehead.analysis.doctor.repairs import Change, Repairs
from densehead.files import whole_folder

CHANGES = "changes.csv"
_WRITERS: dict[str, Callable[[Part, Repairs, Path], Path]] = {
    "coco": write_coco,
    "xml": write_xml,
    "yolo": write_yolo,
}


@dataclass
class Fixed:
    """What was written.

    Attributes:
        folder: where.
        changes: what differs from the originals.
        options: of ``--cfg-options``, to train with the copies.
        remarks: what was left as it is.
    """

    folder: str
    changes: list[Change] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Return it as text."""
        counts = Counter(change.kind for change in self.changes)
        lines = [f"{self.folder}: cleaned copies of the annotations"]
        lines += [f"  {counted(count, 'entry', 'entries')}: {kind}" for kind, count in counts.most_common()]
        lines += ["  nothing had to be changed"] if not counts else []
        lines += [f"  {shown_path(os.path.join(self.folder, CHANGES))} lists every change"] if counts else []
        lines += [f"  {remark}" for remark in self.remarks]
        if self.options:
            lines += ["To train with them:", "  --cfg-options " + " \\\n      ".join(self.options)]
        return "\n".join(lines) + "\n"


def require_new_folder(folder: str) -> None:
    """Raise a ValueError unless a folder is empty or not there yet."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"--fix {folder}: is a file; name a new folder")
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"--fix {folder}: the folder is not empty; name a new one, nothing is written over")


def write_fixed(
    folder: str, splits: Sequence[Split], images: ImageChecks, metrics: Mapping[str, str] | None = None
) -> Fixed:
    """Write cleaned copies of the annotations of all splits; the originals stay as they are.

    Images that cannot be read are left out, and copies of others, and of training those that are measured on; boxes
    that training would drop, and the later of two that are the same; entries that cannot be used. Boxes that reach out
    of their image are cut at its border. The folder appears as a whole.

    Args:
        folder: new or empty.
        splits: with their annotations read.
        images: their files.
        metrics: keys of the config that name annotation files, too, and those.

    Raises:
        ValueError: the folder is not empty.
    """
    require_new_folder(folder)
    target, fixed = Path(os.path.realpath(folder)), Fixed(folder)
    with whole_folder(target) as temporary:
        partial = Path(temporary)
        for split in splits:
            for index, part in enumerate(split.parts):
                name = split.name if len(split.parts) == 1 else f"{split.name}_{index}"
                file = _write_part(part, name, images, partial, fixed)
                if file is not None:
                    fixed.options += _options(part, split, target / name / file.name, metrics or {})
        _write_changes(fixed.changes, partial / CHANGES)
    return fixed


def _write_part(part: Part, name: str, images: ImageChecks, partial: Path, fixed: Fixed) -> Path | None:
    """Write the annotations of a part into a folder of their own; return their file, None where they cannot be."""
    form = form_of(part.dataset) if part.annotations is not None else None
    if form not in _WRITERS:
        why = "its annotations cannot be read" if form is None else f"{part.kind} is no form that can be written"
        fixed.remarks.append(f"{part.key} is not among them: {why}")
        return None
    repairs = _repairs(part, images, fixed)
    if not repairs.keep_image.any():
        fixed.remarks.append(f"{part.key} is not among them: none of its images can be used")
        return None
    folder = partial / name
    folder.mkdir(parents=True)
    file = _WRITERS[form](part, repairs, folder)
    fixed.changes += repairs.changes
    return file


def _options(part: Part, split: Split, file: Path, metrics: Mapping[str, str]) -> Iterable[str]:
    """Yield what makes a config read the cleaned ``file`` of a part, in all splits that have it."""
    for name in (split.name, *split.also):
        key = part.key.replace(split.name, name, 1)
        form, keys = form_of(part.dataset), {"ann_file": str(file)}
        if form == "xml":
            keys["ann_subdir"] = str(file.parent / "Annotations")
        elif form == "yolo":
            keys = yolo_options(part, file)
        yield from (f"{key}.{option}={value}" for option, value in keys.items())
        for metric, old in metrics.items():
            if metric.startswith(f"{name}_") and os.path.realpath(old) == os.path.realpath(part.annotations.file):
                yield f"{metric}={file}"


def _repairs(part: Part, images: ImageChecks, fixed: Fixed) -> Repairs:
    """Decide what is done to the images and boxes of a part."""
    found, check = part.annotations, part.check
    repairs = Repairs.none(part)
    for index, reason in _unwanted_images(part, images, fixed):
        repairs.drop_image(index, reason)
    for reason, indices in check.dropped.items():
        for box in indices:
            repairs.drop_box(box, f"boxes dropped, {reason}", found.written(box))
    twins = Twins.of(part, np.ones(len(found.boxes), dtype=bool))
    for box in np.unique(twins.second[twins.is_exact & twins.is_same_class]):
        repairs.drop_box(box, "boxes dropped that are there twice", found.written(box))
    for box in check.clipped:
        change = f"{found.written(box)} -> {found.written(box, check.boxes[box])}"
        repairs.clip_box(box, check.boxes[box], "boxes cut at the border of their image", change)
    return repairs


def _unwanted_images(part: Part, images: ImageChecks, fixed: Fixed) -> Iterable[tuple[int, str]]:
    """Yield the images of a part that are left out, and why."""
    paths = part.annotations.image_paths
    copies, leaked = images.copies(part.split), images.leaked() if part.split == "train" else {}
    stay = sum(path not in leaked for path in paths)
    if leaked and stay < len(paths) / 2:
        fixed.remarks.append(f"{part.key}: images that are measured on, too, stay in: without there were {stay:,} left")
        leaked = {}
    for index, path in enumerate(paths):
        seen = images.files.get(path)
        if seen is not None and seen.state is not State.WHOLE:
            yield index, f"images left out whose file is {seen.state.value}"
        elif path in leaked:
            yield index, f"images left out of training that are in {leaked[path]}, too"
        elif path in copies:
            yield index, "images left out that are copies of another"


def _write_changes(changes: Sequence[Change], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("change", "data set", "file", "entry", "detail"))
        for one in changes:
            row = (one.kind, one.part, one.file, one.item, one.detail)
            writer.writerow([cell.replace("\0", r"\x00") for cell in row])  # Python 3.10 writes no null bytes
