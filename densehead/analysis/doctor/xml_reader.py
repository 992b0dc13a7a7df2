"""XML annotation files, read to the last whatever is wrong in one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from densehead.analysis.doctor.annotations import Annotations
from densehead.analysis.doctor.findings import EXAMPLES, Example, Finding, Severity
from densehead.analysis.doctor.progress import Tracker
from densehead.datasets import XMLDataset
from densehead.datasets.validate import repeated
from densehead.datasets.xml_style import annotated_size, parse_object


@dataclass
class XmlImage:
    """What the XML file of an image says.

    Attributes:
        image_id: as the list has it.
        path: of the image.
        size: width and height in pixels, NaN where the file does not say.
        objects: (index, name, whether it is difficult, xyxy) of those that can be read.
        broken: {index: what is wrong} of the other objects.
        missing, damaged: why there are none, where the file is not there or is no XML.
    """

    image_id: str
    path: str
    size: tuple[float, float] = (np.nan, np.nan)
    objects: list[tuple[int, str, bool, list]] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)
    missing: str = ""
    damaged: str = ""


def read_xml_image(dataset: XMLDataset, image_id: str) -> XmlImage:
    """Read the XML file of an image."""
    try:
        root = dataset.read_xml(image_id)
    except FileNotFoundError:
        return XmlImage(image_id, dataset.find_image(image_id), missing="there is no such file")
    except ValueError as error:
        return XmlImage(image_id, dataset.find_image(image_id), damaged=str(error).partition(": ")[2])
    found = XmlImage(image_id, dataset.find_image(image_id, root))
    if (size := annotated_size(root)) is not None:
        found.size = size[::-1]
    path = dataset.xml_path(image_id)
    for index, element in enumerate(root.findall("object")):
        try:
            found.objects.append((index, *parse_object(element, index, path)))
        except ValueError as error:
            found.broken[index] = str(error).removeprefix(f"{path}: ")
    return found


def read_xml(dataset: XMLDataset, track: Tracker, workers: int) -> Annotations:
    """Read the XML files of all images that the list of a data set names.

    Raises:
        ValueError: it names none.
    """
    listed = dataset.list_ids()
    if not listed:
        raise ValueError(f"{dataset.source}: is empty; it must list the ids of the images, one a line")
    ids = list(dict.fromkeys(listed))
    with ThreadPoolExecutor(workers) as pool:
        read = pool.map(lambda one: read_xml_image(dataset, one), ids)
        images = list(track(read, len(ids), f"Reading XML files of {dataset.source}"))
    faults = [*_twice(listed, dataset.source), *_faults(images, dataset)]
    return _to_columns(images, dataset, faults)


def _to_columns(images: list[XmlImage], dataset: XMLDataset, faults: list[Finding]) -> Annotations:
    entries = [index for index, one in enumerate(images) if not one.missing and not one.damaged]
    images = [images[index] for index in entries]
    objects = [(index, *one) for index, image in enumerate(images) for one in image.objects]
    names = list(dict.fromkeys(name for _, _, name, _, _ in objects))
    position = {name: index for index, name in enumerate(names)}
    return Annotations(
        file=dataset.source,
        item="object",
        image_ids=[image.image_id for image in images],
        image_paths=[image.path for image in images],
        sources=[dataset.xml_path(image.image_id) for image in images],
        sizes=np.array([image.size for image in images], dtype=np.float64).reshape(-1, 2),
        names=names,
        boxes=np.array([box for *_, box in objects], dtype=np.float64).reshape(-1, 4),
        box_ids=[index for _, index, *_ in objects],
        box_entries=np.array([index for _, index, *_ in objects], dtype=np.int64),
        image_entries=np.array(entries, dtype=np.int64),
        image_index=np.array([image for image, *_ in objects], dtype=np.int64),
        name_index=np.array([position[name] for _, _, name, _, _ in objects], dtype=np.int64),
        is_ignored=np.array([difficult for *_, difficult, _ in objects], dtype=bool),
        is_left_out=np.zeros(len(objects), dtype=bool),
        writing="corners",
        origin=1,
        faults=faults,
    )


def _faults(images: list[XmlImage], dataset: XMLDataset) -> list[Finding]:
    found = []
    for check, name, what in (
        ("xml-missing", "missing", "images have no XML file"),
        ("xml-broken", "damaged", "XML files cannot be read"),
    ):
        bad = [(dataset.xml_path(one.image_id), getattr(one, name)) for one in images if getattr(one, name)]
        if bad:
            examples = tuple(Example(path, detail=text) for path, text in bad[:EXAMPLES])
            found.append(Finding(check, Severity.ERROR, what, count=len(bad), total=len(images), examples=examples))
    broken = [(dataset.xml_path(one.image_id), text) for one in images for text in one.broken.values()]
    if broken:
        total = len(broken) + sum(len(one.objects) for one in images)
        examples = tuple(Example(path, detail=text) for path, text in broken[:EXAMPLES])
        what = "objects cannot be read"
        found.append(
            Finding("annotation-entry", Severity.ERROR, what, count=len(broken), total=total, examples=examples)
        )
    return found


def _twice(ids: list[str], file: str) -> list[Finding]:
    again = list(repeated(ids))
    if not again:
        return []
    examples = tuple(Example(file, one, f"entries {first + 1} and {now + 1}") for one, first, now in again[:EXAMPLES])
    what = "entries of the list name an image that it has already"
    return [Finding("id-twice", Severity.ERROR, what, count=len(again), total=len(ids), examples=examples)]
