"""Colours for classes."""

from __future__ import annotations

import colorsys

_GOLDEN_ANGLE = 0.618034  # of a full turn: consecutive hues, and any number of them, stay apart


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Return colours that are easy to tell apart, RGB in 0..255; the first ones do not depend on ``count``."""
    colors = []
    for index in range(count):
        saturation, value = ((0.85, 0.95), (0.65, 0.75), (0.55, 1.0))[index % 3]
        rgb = colorsys.hsv_to_rgb((0.02 + index * _GOLDEN_ANGLE) % 1, saturation, value)
        colors.append(tuple(round(255 * channel) for channel in rgb))
    return colors
