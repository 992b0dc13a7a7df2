"""What a page holds of a scene: plain numbers and text for JSON, and pictures as JPEG in data URIs."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from densehead.analysis.records import AssignmentRecord
from densehead.analysis.scenes import Scene
from densehead.visualization.object_colors import object_colors

THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 112, 70
WEIGHT_STEPS = 1000  # weights are whole numbers of thousandths
# What could end a <script>, begin a comment or break a line in JavaScript, wherever a reader is lenient
UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def to_json(value: Any) -> str:
    """Return JSON in ASCII that can stand in a ``<script>`` element, whatever text is in it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(UNSAFE)


def encode_scene(scene: Scene, *, max_side: int, quality: int) -> dict[str, Any]:
    """Return what the page's script reads of a scene.

    Points are by level: ``levels`` says how many are on each, then come the coordinates of all of them.

    Args:
        scene: checked by :func:`check_scene`.
        max_side: a picture whose longer side is longer is reduced to it, pixels. Coordinates stay those of the scene.
        quality: of the JPEG, 1 to 95.
    """
    first = next(iter(scene.records.values()))
    labels = first.labels.tolist()
    return {
        "name": scene.name,
        "width": scene.image.shape[1],
        "height": scene.image.shape[0],
        "image": jpeg_uri(scene.image, max_side, quality),
        "boxes": [_numbers(box) for box in first.boxes],
        "labels": labels,
        "classes": {label: _class_name(scene.class_names, label) for label in sorted(set(labels))},
        "colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in object_colors(first.boxes)],
        "columns": [_encode_record(record) for record in scene.records.values()],
    }


def encode_summary(scene: Scene) -> dict[str, Any]:
    """Return what the list of all images says of one."""
    records = scene.records.values()
    return {
        "name": scene.name,
        "thumbnail": jpeg_uri(scene.image, THUMBNAIL_SIDE, THUMBNAIL_QUALITY),
        "objects": len(next(iter(records)).boxes),
        "missed": [int(record.is_missed().sum()) for record in records],
    }


def check_scene(scene: Scene, titles: list[str] | None) -> None:
    """Check a scene before anything of it is written.

    Args:
        scene: to be checked.
        titles: of the columns of the scenes before; None for the first.

    Raises:
        ValueError: the image is none, there is no record, records do not belong together, or a box is not finite.
    """
    image, records = scene.image, list(scene.records.values())
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"{scene.name!r}: the image must be (H, W, 3) RGB uint8, but got {image.shape} of {image.dtype}"
        )
    if not records or (titles is not None and list(scene.records) != titles):
        raise ValueError(
            f"{scene.name!r}: every scene of a page must have the same records, one or more, but got "
            f"{list(scene.records)}{'' if titles is None else f' after {titles}'}"
        )
    if not np.isfinite(records[0].boxes).all():
        raise ValueError(f"{scene.name!r}: boxes must be finite, but got {records[0].boxes.tolist()}")
    for title, record in scene.records.items():
        if not _same_objects(record, records[0]):
            raise ValueError(
                f"{scene.name!r}: the records of a scene must have the same boxes and labels, but those of {title!r} "
                f"differ from those of {next(iter(scene.records))!r}"
            )


def jpeg_uri(image: np.ndarray, max_side: int, quality: int) -> str:
    """Return a picture (H, W, 3), RGB uint8, as a JPEG in a data URI, its longer side ``max_side`` pixels at most."""
    picture = Image.fromarray(image)
    scale = max_side / max(picture.size)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _same_objects(one: AssignmentRecord, other: AssignmentRecord) -> bool:
    return np.array_equal(one.boxes, other.boxes) and np.array_equal(one.labels, other.labels)


def _class_name(names: tuple[str, ...], label: int) -> str:
    return str(names[label]) if 0 <= label < len(names) else f"class {label}"


def _encode_record(record: AssignmentRecord) -> dict[str, Any]:
    level = record.level_index[record.prior_index]
    order = np.argsort(level, kind="stable")
    weight = np.rint(np.asarray(record.weight, np.float64)[order] * WEIGHT_STEPS)
    return {
        "weight_name": record.weight_name,
        "strides": _numbers(record.strides),
        "positives": {
            **_encode_points(record, record.prior_index[order]),
            "object": record.gt_index[order].tolist(),
            "weight": [int(one) if np.isfinite(one) else None for one in weight],
        },
        "ignored": _encode_points(
            record, record.ignored_index[np.argsort(record.level_index[record.ignored_index], kind="stable")]
        ),
    }


def _encode_points(record: AssignmentRecord, index: np.ndarray) -> dict[str, list]:
    counts = np.bincount(record.level_index[index], minlength=record.num_levels)
    points = record.points[index]
    return {"levels": counts.tolist(), "x": _numbers(points[:, 0]), "y": _numbers(points[:, 1])}


def _numbers(values: np.ndarray) -> list[float]:
    """Hundredths are kept, and whole numbers are written as such: a page of them is half as long."""
    return [int(one) if one.is_integer() else one for one in np.round(np.asarray(values, np.float64), 2).tolist()]
