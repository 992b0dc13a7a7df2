from __future__ import annotations

import numpy as np
import pytest

from densehead.visualization.palette import PALETTE, class_colors, luminance, readable_on

# Machado, Oliveira, Fernandes (2009), severity 1, on linear RGB
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def oklab(linear):
    lms = np.cbrt(
        np.clip(linear, 0, 1)
        @ np.array(
            [
                [0.41222147, 0.53633254, 0.05144599],
                [0.2119035, 0.6806995, 0.10739696],
                [0.08830246, 0.28171884, 0.6299787],
            ]
        ).T
    )
    return (
        lms
        @ np.array(
            [
                [0.21045426, 0.7936178, -0.00407205],
                [1.9779985, -2.4285922, 0.4505937],
                [0.02590404, 0.78277177, -0.80867577],
            ]
        ).T
    )


def smallest_distance(colors, sight):
    srgb = np.array(colors) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lab = oklab(linear @ np.array(SIGHT[sight]).T)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distance[~np.eye(len(colors), dtype=bool)].min()


@pytest.mark.parametrize("sight", SIGHT)
def test_colors_differ_for_everyone(sight):
    """0.02 in OKLab is a difference that is just seen; red and green of equal lightness are 0.02 in deuteranopia."""
    assert smallest_distance(PALETTE[:3], sight) > 0.19
    assert smallest_distance(PALETTE[:10], sight) > 0.1
    assert smallest_distance(PALETTE, sight) > 0.05


def test_every_way_to_say_colors():
    assert class_colors(None, 3) == list(PALETTE[:3])
    assert class_colors("random", 22)[:20] == list(PALETTE)
    assert len(set(class_colors("coco", 80))) == 80
    assert class_colors("lime", 2) == [(0, 255, 0)] * 2
    assert class_colors("#40aaff", 1) == [(64, 170, 255)]
    assert class_colors((1, 2, 3), 2) == [(1, 2, 3)] * 2
    assert class_colors([(1, 2, 3), [4, 5, 6]], 3) == [(1, 2, 3), (4, 5, 6), (1, 2, 3)]
    assert class_colors(((1, 2, 3), (4, 5, 6)), 2) == [(1, 2, 3), (4, 5, 6)]
    assert class_colors([], 1) == [PALETTE[0]]
    with pytest.raises(ValueError, match="'no such colour'"):
        class_colors("no such colour", 1)
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        class_colors([(1, 2)], 1)


def test_text_contrasts_with_every_color():
    """WCAG 2 asks for 4.5 between text and ground."""
    for color in PALETTE:
        light, dark = sorted((luminance(color), luminance(readable_on(color))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5
