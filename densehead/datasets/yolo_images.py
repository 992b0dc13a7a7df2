"""Where the images of a YOLO data set are, and their label files."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from densehead.datasets import validate
from densehead.datasets.data_yaml import CLASS_FILES, DataYaml
from densehead.datasets.folders import files_in, inner_path, lies_in
from densehead.datasets.image_size import SUFFIXES


@dataclass(frozen=True)
class Listed:
    """An image and where it is named."""

    path: str
    place: str


@dataclass(frozen=True)
class ImageFinder:
    """Finds images below a data root.

    Attributes:
        root: the data root; nothing outside is looked at.
        allow_outside: unless this says so.
    """

    root: str
    allow_outside: bool = False

    def of_yaml(self, content: DataYaml, split: str) -> list[Listed]:
        """Return the images of a split of a YAML file.

        Folders and lists count from ``path``, or from the file where it has none. A ``path`` of another machine is
        passed over where they are found in the data root, and so is the ``../`` that Roboflow writes before them.

        Raises:
            ValueError: there is no such split, or an entry leads out of the data root.
            FileNotFoundError: a folder or list is not there.
        """
        if split not in content.splits:
            raise ValueError(
                f"{content.path}: has no images for split={split!r}; it has {validate.listed(content.splits)}"
            )
        images: list[Listed] = []
        for entry in content.splits[split]:
            path = self._resolve(entry, content)
            if os.path.isdir(path):
                images += self.of_folder(path)
            elif path.lower().endswith(SUFFIXES):
                images.append(Listed(path, content.path))
            else:
                images += self.of_list(path)
        return images

    def of_folder(self, folder: str) -> list[Listed]:
        """Return the images in a folder and in those in it, sorted by path."""
        return [Listed(path, folder) for path in files_in(folder, SUFFIXES)]

    def of_list(self, path: str, folders: Sequence[str] = ()) -> list[Listed]:
        """Return the images that a text file lists, one a line.

        Names count from whichever has the first: ``folders``, the folder of the list, the data root.

        Raises:
            ValueError: the list is empty, or an image lies outside of the data root.
            FileNotFoundError: there is no such list.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: no such list of images")
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is no text ({error}); a list has the name of an image in each line") from None
        lines = [line.replace("\0", "\ufffd") for line in lines]  # no name of a file has it, and systems refuse to look
        entries = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
        if not entries:
            raise ValueError(f"{path}: is empty; it must list images, one a line")
        bases = [*folders, os.path.dirname(path), self.root]
        first = entries[0][1]
        base = next((one for one in bases if os.path.isfile(os.path.join(one, first))), bases[0])
        images = []
        for number, entry in entries:
            place = f"{path}:{number}"
            image = os.path.normpath(os.path.join(base, entry))
            if not image.lower().endswith(SUFFIXES):
                raise ValueError(f"{place}: {entry!r} is no image; a list names images with their ending, one a line")
            self.require_inside(image, place)
            images.append(Listed(image, place))
        return images

    def require_inside(self, path: str, place: str) -> None:
        """Raise a ValueError where a path lies outside of the data root, unless that is allowed."""
        if not self._may(path):
            raise ValueError(
                f"{place}: {path!r} lies outside of data_root={self.root!r}. Move it there, or say "
                "allow_outside=True if that is meant"
            )

    def _may(self, path: str) -> bool:
        return self.allow_outside or lies_in(path, self.root)

    def _resolve(self, entry: str, content: DataYaml) -> str:
        """Return the path of a folder or list that a YAML file names."""
        home = os.path.dirname(content.path)
        written = os.path.normpath(os.path.join(home, content.root, entry))
        inner = entry
        while inner.startswith(("../", "./")):
            inner = inner.partition("/")[2]
        places = [written, *(os.path.normpath(os.path.join(base, inner)) for base in (home, self.root))]
        allowed = [path for path in places if self._may(path)]
        for path in allowed:
            if os.path.exists(path):
                return path
        self.require_inside(written, f"{content.path}: {entry!r}")
        raise FileNotFoundError(
            f"{content.path}: {entry!r} is not there; looked for {validate.listed(dict.fromkeys(allowed))}. "
            f"Correct the file, or data_root={self.root!r}"
        )


def label_candidates(image: str, root: str) -> list[str]:
    """Return where the label file of an image may be: the last folder ``images`` below the root being ``labels``, or
    beside the image.
    """
    inner = inner_path(image, root)
    *folders, name = os.path.splitext(inner)[0].split("/")
    beside = os.path.splitext(image)[0] + ".txt"
    if "images" not in folders:
        return [beside]
    last = len(folders) - 1 - folders[::-1].index("images")
    folders[last] = "labels"
    start = "" if inner == image else root
    return [os.path.join(start, "/".join([*folders, f"{name}.txt"])), beside]


def stray_labels(listed: Sequence[Listed], label_paths: Collection[str]) -> list[str]:
    """Return the label files that no image has, where all images of folders are listed, and labels lie apart from them.

    Args:
        listed: the images.
        label_paths: their label files.
    """
    if not all(os.path.isdir(place) for place in {one.place for one in listed}):
        return []
    folders = {os.path.dirname(path) for path in label_paths} - {os.path.dirname(one.path) for one in listed}
    found = [
        os.path.join(folder, name)
        for folder in sorted(folders)
        for name in sorted(os.listdir(folder))
        if name.endswith(".txt") and name not in CLASS_FILES
    ]
    return [path for path in found if path not in label_paths]
