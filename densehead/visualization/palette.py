"""Colours of classes, and of text on them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from PIL import ImageColor

Color = tuple[int, int, int]

#: Twenty colours, each chosen to be far from all before it (in OKLab) for normal sight and, by the simulation of
#: Machado, Oliveira and Fernandes (2009), for protanopia, deuteranopia and tritanopia. None is too dark for a photo.
PALETTE: tuple[Color, ...] = (
    (64, 170, 255),
    (255, 214, 0),
    (220, 30, 120),
    (102, 255, 255),
    (68, 85, 255),
    (238, 136, 68),
    (187, 0, 187),
    (0, 221, 187),
    (153, 102, 0),
    (187, 136, 187),
    (187, 238, 153),
    (204, 187, 255),
    (255, 170, 34),
    (221, 102, 102),
    (51, 136, 238),
    (187, 85, 170),
    (136, 187, 136),
    (136, 221, 119),
    (238, 17, 51),
    (153, 238, 204),
)
BUILT_IN = ("random", "coco", "voc", "citys")
#: What the colours are mixed with, and how much, each time the table is used up: four times as many classes.
SHADES = ((255, 0.0), (255, 0.45), (0, 0.35), (255, 0.7))


def class_colors(choice: Any, count: int) -> list[Color]:
    """Return an RGB colour, 0 to 255, for each of ``count`` classes.

    Args:
        choice: a sequence of colours, which is repeated if it is too short; one colour for all, as three numbers or as
            a name that :mod:`PIL.ImageColor` knows (``'lime'``, ``'#40aaff'``); None or one of mmdetection's names
            of palettes (``'random'``, ``'coco'``, ...) for :data:`PALETTE`, and lighter and darker shades of it
            for more classes than it has colours.
        count: number of classes.

    Raises:
        ValueError: no such colour.
    """
    if choice is None or (isinstance(choice, str) and choice in BUILT_IN):
        return [_shade(index) for index in range(count)]
    if isinstance(choice, str) or (len(choice) and isinstance(choice[0], Real)):
        choice = [choice]
    colors = [_color(one) for one in choice] or PALETTE
    return [colors[index % len(colors)] for index in range(count)]


def readable_on(color: Color) -> Color:
    """Return black or white, whichever contrasts more with ``color`` (WCAG 2 relative luminance)."""
    return (0, 0, 0) if luminance(color) > 0.179 else (255, 255, 255)


def luminance(color: Sequence[int]) -> float:
    """Relative luminance of an sRGB colour, from 0 (black) to 1 (white)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _shade(index: int) -> Color:
    other, share = SHADES[index // len(PALETTE) % len(SHADES)]
    red, green, blue = (round(channel + (other - channel) * share) for channel in PALETTE[index % len(PALETTE)])
    return red, green, blue


def _color(value: str | Sequence[int]) -> Color:
    try:
        red, green, blue = ImageColor.getrgb(value)[:3] if isinstance(value, str) else (int(c) for c in value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a colour must be a name, '#rrggbb' or three numbers from 0 to 255 (RGB), but got {value!r}"
        ) from error
    return red, green, blue
