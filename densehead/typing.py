"""Aliases used in signatures. The axis legend is at the top of :mod:`densehead`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

ConfigDict = dict[str, Any]
OptConfig = ConfigDict | None
InitConfig = ConfigDict | list[ConfigDict] | None
Size = tuple[int, int]  # height, width
LevelMaps = Sequence[Tensor]  # one (B, c, h, w) per level
