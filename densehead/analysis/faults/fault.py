"""``Fault``: what was not finite in a step of a training, from its first cause to the losses."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

FEW = 3  # things of a kind that a headline names
MANY = 30  # and a report


@dataclass(frozen=True)
class Place:
    """Numbers of a map that are not finite, on one level of one image.

    Attributes:
        name: of the map, as losses know it (``'cls_logits'``).
        level: pyramid level, counted from the finest.
        stride: of the level, pixels.
        image: number in the batch.
        count, total: numbers that are not finite, and all of the image on the level.
        point: (x, y) of one of them, pixels of the input: of a positive, if one is among them, else of the first.
        object: which the prior at the point answers for; None where it answers for none.
    """

    name: str
    level: int
    stride: float
    image: int
    count: int
    total: int
    point: tuple[float, float]
    object: int | None = None


@dataclass(frozen=True)
class BadObject:
    """A ground truth that a loss is not finite for, or whose box is none.

    Attributes:
        image: number in the batch.
        object: number among the image's objects.
        label: name of its class.
        box: xyxy, pixels of the input.
        losses: which it makes infinite or NaN by itself, whatever other objects there are.
    """

    image: int
    object: int
    label: str
    box: tuple[float, float, float, float]
    losses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What was not finite in a step of a training.

    Attributes:
        losses: (name, value as text) of the losses.
        parameters: (name, numbers that are not finite, all) of the weights and buffers that the step began with.
        inputs: (image, numbers that are not finite, all) of the images as the network saw them.
        boxes: objects whose box is not finite or has no extent.
        places: of the head's maps, by map, level and image.
        objects: ground truths that a loss is not finite for, though it is for the background alone; not of images of
            which no number of the maps is finite.
        paths: file of each image of the batch, where known.
        num_maps: maps that an image has, on all levels together.
    """

    losses: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, int, int], ...] = ()
    inputs: tuple[tuple[int, int, int], ...] = ()
    boxes: tuple[BadObject, ...] = ()
    places: tuple[Place, ...] = ()
    objects: tuple[BadObject, ...] = ()
    paths: tuple[str | None, ...] = ()
    num_maps: int = 0

    def headline(self) -> str:
        """Return one line: the losses, and the first in the row of causes that is there."""
        bad = ", ".join(f"{name} is {value}" for name, value in self.losses)
        for sentences in self._causes().values():
            if sentences:
                return f"{bad}: {_listed(sentences, FEW)}"
        return f"{bad}, though weights, images, ground truth and the head's maps are finite"

    def lines(self) -> list[str]:
        """Return the whole story, the first cause first."""
        told = [f"{name} is {value}" for name, value in self.losses]
        for title, sentences in self._causes().items():
            more = [f"... and {len(sentences) - MANY} more"] if len(sentences) > MANY else []
            told += [f"{title}:", *(f"  {one}" for one in (*sentences[:MANY], *more))] if sentences else []
        return told

    def images(self) -> list[int]:
        """Return the images that something is wrong with, by the first cause that tells; all where none does."""
        broken = [one for one in self.boxes if not _is_finite(one)]
        kinds = [[image for image, *_ in self.inputs]]
        kinds += [[one.image for one in kind] for kind in (broken, self.places, self.objects)]
        images = next((kind for kind in kinds if kind), range(len(self.paths)))
        return sorted(set(images))

    def places_of(self, image: int) -> tuple[list[Place], bool]:
        """Return what is not finite of an image, and whether that is all."""
        places = [one for one in self.places if one.image == image]
        return places, len(places) == self.num_maps > 0 and all(one.count == one.total for one in places)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return _plain(dataclasses.asdict(self))

    def image_name(self, image: int) -> str:
        """Return how an image of the batch is called in text."""
        path = self.paths[image]
        return f"image {image} ({os.path.basename(path)})" if path else f"image {image}"

    def _causes(self) -> dict[str, list[str]]:
        """Sentences about each kind of cause, in the order in which one makes the next."""
        return {
            "Weights before the step": [
                f"{name} has {count} of {total} numbers that are not finite" for name, count, total in self.parameters
            ],
            "Images": [
                f"{self.image_name(image)} has {count} of {total} numbers that are not finite"
                for image, count, total in self.inputs
            ],
            "Ground truth": [f"{self._object(one)} is not finite" for one in self.boxes if not _is_finite(one)],
            "Maps": list(self._maps()),
            "Objects": [
                f"{self._object(one)} alone makes {' and '.join(one.losses)} not finite" for one in self.objects
            ],
            "Worth a look": [f"{self._object(one)} has no extent" for one in self.boxes if _is_finite(one)],
        }

    def _maps(self) -> Iterator[str]:
        images = sorted({one.image for one in self.places})
        whole = [image for image in images if self.places_of(image)[1]]
        if len(whole) > FEW:
            yield f"all numbers of all maps of {len(whole)} images ({', '.join(map(str, whole))}) are not finite"
        elif whole:
            yield f"all numbers of all maps of {', '.join(map(self.image_name, whole))} are not finite"
        for image in images:
            name, (places, is_all) = self.image_name(image), self.places_of(image)
            for one in () if is_all else places:
                where = f"{one.name} of level {one.level} (stride {one.stride:g}) of {name}"
                owner = "" if one.object is None else f", a positive of object {one.object}"
                point = f"({one.point[0]:g}, {one.point[1]:g})"
                yield f"{where}: {one.count} of {one.total} numbers are not finite, such as at {point}{owner}"

    def _object(self, one: BadObject) -> str:
        box = ", ".join(f"{edge:g}" for edge in one.box)
        return f"object {one.object} ({one.label}, box {box}) of {self.image_name(one.image)}"


def class_name(classes: Sequence[str], label: int) -> str:
    """Return the name of a class, or its number where it has none."""
    return str(classes[label]) if label < len(classes) else f"class {label}"


def differences(told: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return in what two faults (:meth:`Fault.as_dict`) differ: losses, weights, images, and maps by level and image.

    How many numbers of a map are not finite may differ from device to device and does not count.
    """
    lines = []
    for title, names in {
        "losses": lambda one: {name for name, _ in one["losses"]},
        "weights": lambda one: {name for name, *_ in one["parameters"]},
        "images": lambda one: {f"image {image}" for image, *_ in one["inputs"]},
        "boxes": lambda one: {f"object {two['object']} of image {two['image']}" for two in one["boxes"]},
        "maps": lambda one: {f"{two['name']} of level {two['level']} of image {two['image']}" for two in one["places"]},
        "objects": lambda one: {f"object {two['object']} of image {two['image']}" for two in one["objects"]},
    }.items():
        before, now = names(told), names(found)
        lines += [f"{title}: {', '.join(sorted(before - now))} no longer"] if before - now else []
        lines += [f"{title}: {', '.join(sorted(now - before))} as well"] if now - before else []
    return lines


def _is_finite(one: BadObject) -> bool:
    return all(math.isfinite(edge) for edge in one.box)


def _listed(sentences: Sequence[str], limit: int) -> str:
    more = f"; and {len(sentences) - limit} more" if len(sentences) > limit else ""
    return "; ".join(sentences[:limit]) + more


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
