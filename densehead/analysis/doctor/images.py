"""Checks of image files against the annotations, and of images that are there twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from densehead.analysis.doctor.findings import EXAMPLES, Example, Finding, Severity, counted, shown_path
from densehead.analysis.doctor.image_files import ImageFile, State, look_at_all, same_content
from densehead.analysis.doctor.parts import Part, Split
from densehead.analysis.doctor.progress import Tracker
from densehead.datasets.validate import is_local

_STATES = {
    State.MISSING: ("image-missing", "images are not there"),
    State.UNREADABLE: ("image-unreadable", "image files cannot be read as images"),
    State.TRUNCATED: ("image-truncated", "image files are cut off"),
}


class ImageChecks:
    """Looks at the image files of all splits, each file once.

    Args:
        splits: with their annotations read.
        track: says how far it is.
        workers: files that are read at a time.
        read: False leaves the files unread: only names are compared.
        decoded: whether images are decoded to the last pixel.
    """

    def __init__(
        self, splits: Sequence[Split], track: Tracker, *, workers: int, read: bool = True, decoded: bool = False
    ) -> None:
        self.splits = splits
        local, self.remote = [], []
        for part in (part for split in splits for part in split.readable):
            is_here = is_local(
                next(iter(part.annotations.image_paths), ""), getattr(part.dataset, "backend_args", None)
            )
            (local if is_here else self.remote).append(part)
        self.parts = local
        paths = dict.fromkeys(path for part in local for path in part.annotations.image_paths) if read else ()
        self.files = look_at_all(list(paths), track, workers=workers, decoded=decoded)
        self.groups = same_content(self.files, workers=workers)

    def fill_sizes(self) -> None:
        """Give the images that their file says no size of that of the image."""
        for part in self.parts:
            sizes = part.annotations.sizes
            for index in np.flatnonzero(np.isnan(sizes).any(1)):
                seen = self.files.get(part.annotations.image_paths[index])
                if seen is not None and seen.size is not None:
                    sizes[index] = seen.shown_size

    def findings(self) -> list[Finding]:
        """Return what is wrong with the images of all splits."""
        found = [finding for part in self.parts if self.files for finding in self._of_part(part)]
        for part in self.remote:
            what = "images are not on this machine and were not looked at"
            found.append(Finding("images-not-read", Severity.NOTE, what, part.split, part.annotations.num_images))
        return [*found, *self._twice(), *self._leaks()]

    def _of_part(self, part: Part) -> Iterable[Finding]:
        paths, total = part.annotations.image_paths, part.annotations.num_images
        for state, (check, what) in _STATES.items():
            bad = [path for path in paths if self.files[path].state is state]
            if bad:
                examples = tuple(Example(path, detail=self.files[path].detail) for path in bad[:EXAMPLES])
                yield Finding(check, Severity.ERROR, what, part.split, len(bad), total, examples)
        other = [(path, *size) for path, size in zip(paths, part.annotations.sizes.tolist(), strict=True)]
        other = [one for one in other if _differs(self.files[one[0]], *one[1:])]
        if other:
            what = "images have another size than their annotation says"
            examples = tuple(Example(path, "", _sizes(self.files[path], *size)) for path, *size in other[:EXAMPLES])
            yield Finding("image-size", Severity.ERROR, what, part.split, len(other), total, examples)

    def copies(self, split: str) -> dict[str, str]:
        """Return the images of a split whose content another of it has, with that other."""
        paths = self._paths()[split]
        groups = ([path for path in group if path in paths] for group in self.groups)
        return {path: first for first, *others in filter(None, groups) for path in others}

    def leaked(self) -> dict[str, str]:
        """Return the images of training that are in another split, too, with the name of that."""
        return {own: split for split in self._paths() if split != "train" for own in self._trained_on(split).values()}

    def _twice(self) -> Iterable[Finding]:
        """Images of a split that another of it shows too."""
        for split, paths in self._paths().items():
            copies = list(self.copies(split).items())
            if copies:
                what = "images are copies of another"
                examples = [Example(path, "", f"is the same as {shown_path(first)}") for path, first in copies]
                kept = tuple(examples[:EXAMPLES])
                yield Finding("image-twice", Severity.WARNING, what, split, len(copies), len(paths), kept)

    def _leaks(self) -> Iterable[Finding]:
        """Images of a split that is measured on that are in training too."""
        for split, paths in self._paths().items():
            shared = self._trained_on(split) if split != "train" else {}
            if shared:
                examples = tuple(
                    Example(path, "", "is in training too" + (f", as {shown_path(own)}" if own != path else ""))
                    for path, own in list(shared.items())[:EXAMPLES]
                )
                what = "images are also trained on"
                yield Finding("leak", Severity.ERROR, what, split, len(shared), len(paths), examples)

    def _trained_on(self, split: str) -> dict[str, str]:
        """The images of a split that are in training too, with what they are called there."""
        paths = self._paths()
        train, measured = paths.get("train", {}), paths[split]
        shared = {path: path for path in measured if path in train}
        for group in self.groups:
            trained = [path for path in group if path in train]
            shared = {path: trained[0] for path in group if trained and path in measured} | shared
        return shared

    def _paths(self) -> Mapping[str, dict[str, None]]:
        """The images of each split, in order."""
        return {
            split.name: dict.fromkeys(
                path for part in self.parts if part.split == split.name for path in part.annotations.image_paths
            )
            for split in self.splits
        }


def without_objects(parts: Sequence[Part]) -> list[Finding]:
    """Return how many images of a split show no object, and whether filtering leaves any."""
    found = []
    total, empty = sum(part.annotations.num_images for part in parts), []
    for part in parts:
        counts = np.bincount(part.annotations.image_index[part.is_used], minlength=part.annotations.num_images)
        is_read = ~np.isnan(part.annotations.sizes).any(1)  # images without a size are not there
        empty += [part.annotations.sources[index] for index in np.flatnonzero((counts == 0) & is_read)]
    if empty:
        severity = Severity.WARNING if len(empty) > total / 2 else Severity.NOTE
        examples = tuple(Example(path) for path in empty[:EXAMPLES])
        what = "images show no object of the classes"
        found.append(Finding("no-objects", severity, what, parts[0].split, len(empty), total, examples))
    for part in parts:
        if not len(part.kept_images):
            what = f"no image is left of {counted(part.annotations.num_images, 'image')} after filtering"
            example = (Example(part.annotations.file),)
            found.append(Finding("no-image-left", Severity.ERROR, what, part.split, examples=example))
    return found


def _differs(seen: ImageFile, width: float, height: float) -> bool:
    return seen.size is not None and not np.isnan(width) and not seen.has_size(width, height)


def _sizes(seen: ImageFile, width: float, height: float) -> str:
    return f"{seen.shown_size[0]} x {seen.shown_size[1]} pixels, annotated as {width:g} x {height:g}"
