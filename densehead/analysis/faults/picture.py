"""The images of a step that went wrong: their objects, and where the head's maps are not finite."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor, nn

from densehead.analysis.faults.fault import Fault, class_name
from densehead.structures import DetDataSample, box_tensor
from densehead.visualization.drawing import Marks, Style, draw_marks
from densehead.visualization.inputs import as_picture
from densehead.visualization.palette import Color
from densehead.visualization.plots import contact_sheet

MOST_IMAGES = 4
FEW_LABELS = 25  # with more objects, only those that something is wrong with are named
STYLE = Style(min_side=480, max_side=900)
BAD, FINE, MAP = (213, 94, 0), (120, 200, 255), (255, 0, 200)

Mark = tuple[list[float], str, Color, bool]  # box, text, colour, whether it is dashed


def draw_fault(
    fault: Fault,
    inputs: Tensor,
    samples: Sequence[DetDataSample],
    preprocessor: nn.Module,
    out_file: str | os.PathLike,
    classes: Sequence[str] = (),
) -> None:
    """Draw the first images that something is wrong with into a PNG.

    Objects that a loss is not finite for are orange, others blue. Dashed in magenta are a cell of each map that is not
    finite, unless all are, and pixels that are no numbers.

    Args:
        fault: what is wrong.
        inputs: (B, C, H, W) images, as the network saw them.
        samples: their truth.
        preprocessor: which has normalised them.
        out_file: the picture.
        classes: names of the classes, where known.
    """
    images = fault.images()[:MOST_IMAGES]
    pictures = [_picture(fault, image, inputs[image], samples[image], preprocessor, classes) for image in images]
    titles = [_title(fault, image) for image in images]
    contact_sheet(pictures, out_file, columns=min(2, len(images)), titles=titles)


def _picture(
    fault: Fault, image: int, tensor: Tensor, sample: DetDataSample, preprocessor: nn.Module, classes: Sequence[str]
) -> np.ndarray:
    height, width = sample.img_shape[:2]
    tensor = tensor[:, :height, :width]
    shown = as_picture(tensor, preprocessor)
    named = {one.object for one in (*fault.boxes, *fault.objects) if one.image == image}
    marks = [*_pixels(tensor), *_cells(fault, image, 1 / STYLE.scale(shown)), *_objects(sample, named, classes)]
    boxes, texts, colors, dashed = zip(*marks, strict=True) if marks else ((), (), (), ())
    return draw_marks(shown, Marks(np.array(boxes, float).reshape(-1, 4), texts, colors, dashed), STYLE)


def _pixels(tensor: Tensor) -> Iterator[Mark]:
    """A frame around the pixels that are no numbers, a pixel wide."""
    rows, columns = (~tensor.isfinite()).any(0).nonzero(as_tuple=True)
    if len(rows):
        low, high = (columns.min() - 1, rows.min() - 1), (columns.max() + 2, rows.max() + 2)
        yield [float(edge) for edge in (*low, *high)], "pixels", MAP, True


def _cells(fault: Fault, image: int, pixel: float) -> Iterator[Mark]:
    """A square of a stride around each point, with all maps that are not finite there."""
    places, is_all = fault.places_of(image)
    names = {}
    for one in () if is_all else places:
        names.setdefault((one.level, one.point, max(one.stride, 12 * pixel) / 2), []).append(one.name)
    for (level, (x, y), half), maps in names.items():
        yield [x - half, y - half, x + half, y + half], f"{', '.join(maps)}: level {level}", MAP, True


def _objects(sample: DetDataSample, named: set[int], classes: Sequence[str]) -> Iterator[Mark]:
    """Objects, those that something is wrong with first; a box that is not finite cannot be drawn."""
    boxes = box_tensor(sample.gt_instances.bboxes).detach().double().cpu()
    kept = boxes.isfinite().all(1).nonzero()[:, 0].tolist()
    for index in sorted(kept, key=lambda index: index not in named):
        name = class_name(classes, int(sample.gt_instances.labels[index]))
        text = f"{index}: {name}" if len(kept) <= FEW_LABELS or index in named else ""
        yield boxes[index].tolist(), text, BAD if index in named else FINE, False


def _title(fault: Fault, image: int) -> str:
    places, is_all = fault.places_of(image)
    levels: dict[str, list[str]] = {}
    for one in places:
        levels.setdefault(one.name, []).append(str(one.level))
    said = [f"{count} values without a number" for number, count, _ in fault.inputs if number == image]
    said += ["all maps"] if is_all else [f"{name} of level {' '.join(numbers)}" for name, numbers in levels.items()]
    name = os.path.basename(fault.paths[image] or "")
    return f"image {image}" + (f" ({name})" if name else "") + (f": {', '.join(said)}" if said else "")
