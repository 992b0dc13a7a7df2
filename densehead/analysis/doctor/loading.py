"""Sending images through the training pipeline: whether that works, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from densehead.analysis.doctor.errors import config_finding
from densehead.analysis.doctor.findings import Finding, shown_path
from densehead.analysis.doctor.parts import Part

#: Images of each part that are loaded.
LOADED = 8


def time_loading(parts: Sequence[Part]) -> tuple[float | None, list[Finding]]:
    """Send a few images through the training pipeline; return the seconds of one, and where it fails.

    Only images that are there and whole may be among them.
    """
    times = []
    for part in parts:
        usable = part.kept_images
        for index in usable[np.linspace(0, len(usable) - 1, min(LOADED, len(usable))).astype(int)]:
            begin = time.perf_counter()
            try:
                part.dataset.pipeline(data_info(part, int(index)))
            except FileNotFoundError:  # said of the image
                continue
            except Exception as error:  # whatever a transform trips over
                if str(part.annotations.image_paths[index]) in str(error):
                    continue
                what = f"the pipeline fails on {shown_path(part.annotations.image_paths[index])}"
                return None, [config_finding(error, dict(part.cfg), f"{part.key}.pipeline", part.split, what)]
            times.append(time.perf_counter() - begin)
    return (float(np.median(times)) if times else None), []


def data_info(part: Part, image: int) -> dict:
    """Return what the pipeline of a part gets to see of an image."""
    found = part.annotations
    of_image = np.flatnonzero((found.image_index == image) & part.is_used)
    width, height = found.sizes[image]
    size = {} if np.isnan(width) else {"width": int(width), "height": int(height)}
    return {
        "img_path": found.image_paths[image],
        "img_id": found.image_ids[image],
        "sample_idx": image,
        **size,
        "instances": [
            {
                "bbox": part.check.boxes[box].tolist(),
                "bbox_label": int(part.labels[box]),
                "ignore_flag": int(found.is_ignored[box]),
            }
            for box in of_image
        ],
    }
