"""Names of images where label files are told by the name without its ending, or all splits share a folder."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from densehead.datasets.convert.record import Record


def names_without_ending(names: Sequence[str]) -> dict[str, str]:
    """Return for each name one that differs from all others by more than its ending.

    ``a.jpg`` and ``a.png`` become ``a_jpg.jpg`` and ``a_png.png``; names that are told apart stay as they are.

    Args:
        names: all different.
    """
    count_of = Counter(_stem(name) for name in names)
    taken = {stem for stem, count in count_of.items() if count == 1}
    chosen = {}
    for name in names:
        stem, ending = posixpath.splitext(name)
        if count_of[stem] > 1:
            wanted = stem = f"{stem}_{ending[1:]}"
            number = 2
            while stem in taken or stem in count_of:
                stem, number = f"{wanted}_{number}", number + 1
            taken.add(stem)
        chosen[name] = stem + ending
    return chosen


def names_in_one_folder(record: Record) -> dict[tuple[str, str], str]:
    """Return for each split and name of an image its name in a folder that all splits share.

    An image file that is in several splits has one name. Where two files of different splits have the same name, those
    of every split lie in a folder of its name.
    """
    path_of: dict[str, str] = {}
    shared = True
    for of_split in record.splits.values():
        for image in of_split.images:
            shared &= path_of.setdefault(image.name, image.path) == image.path
    wanted = {
        (split, image.name): image.name if shared else f"{split}/{image.name}"
        for split, of_split in record.splits.items()
        for image in of_split.images
    }
    chosen = names_without_ending(list(dict.fromkeys(wanted.values())))
    return {key: chosen[name] for key, name in wanted.items()}


def told_renamed(name_of: Mapping[Hashable, str]) -> list[str]:
    """Say how many images have got another name, the keys being the old ones or ending with them."""
    old = [(key[-1] if isinstance(key, tuple) else key, new) for key, new in name_of.items()]
    renamed = [(name, new) for name, new in old if posixpath.basename(name) != posixpath.basename(new)]
    if not renamed:
        return []
    name, new = renamed[0]
    return [
        f"{len(renamed)} images were renamed, since others differ from them by their ending alone: {name} is {new}."
    ]


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]
