"""Parts of other frameworks in densehead's heads: coders, prior generators and losses as mmdetection writes them.

Assigners of other frameworks: :mod:`densehead.models.assigners.foreign`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from densehead.models.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder
from densehead.models.losses import Loss
from densehead.models.priors import GridPriorGenerator
from densehead.registry import TASK_UTILS
from densehead.structures import box_tensor
from densehead.typing import ConfigDict

# Losses that have a value for each side of a box; mmdetection's take no weight of a whole box.
SIDE_LOSSES = ("L1Loss", "SmoothL1Loss", "BalancedL1Loss", "MSELoss", "BoundedIoULoss")


class TensorCoder:
    """A coder that takes and gives rows, perhaps of a box class, in the form that heads use: tensors of any shape.

    Args:
        coder: with ``encode`` and ``decode`` as mmdetection's coders have them.
    """

    def __init__(self, coder: Any) -> None:
        self.coder = coder
        self.clip_border = getattr(coder, "clip_border", True)
        self.use_box_type = getattr(coder, "use_box_type", False)
        self.encode_size = getattr(coder, "encode_size", 4)

    def encode(self, priors: Tensor, gt_bboxes: Tensor, *args, **kwargs) -> Tensor:
        """Return the numbers (..., n) that turn priors (..., k) into boxes (..., 4); see the coder."""
        return self._by_rows(self.coder.encode, priors, gt_bboxes, *args, **kwargs)

    def decode(self, priors: Tensor, pred_bboxes: Tensor, *args, **kwargs) -> Tensor:
        """Return boxes (..., 4) xyxy from numbers (..., n) at priors (..., k); see the coder."""
        return self._by_rows(self.coder.decode, priors, pred_bboxes, *args, **kwargs)

    @staticmethod
    def _by_rows(function, priors: Tensor, values: Tensor, *args, **kwargs) -> Tensor:
        shape = values.shape[:-1]
        priors = priors.expand(*shape, priors.shape[-1]).reshape(-1, priors.shape[-1])
        rows = box_tensor(function(priors, values.reshape(-1, values.shape[-1]), *args, **kwargs))
        return rows.reshape(*shape, rows.shape[-1])


class AdaptedPriorGenerator(GridPriorGenerator):
    """A generator of another framework: what it puts into the first cell of a level, repeated by the level's strides.

    Args:
        generator: with ``strides`` and ``single_level_grid_priors``, on regular grids.
    """

    def __init__(self, generator: Any) -> None:
        super().__init__(generator.strides)
        self.generator = generator
        self.center_offset = getattr(generator, "center_offset", 0.0)
        cells = [
            box_tensor(generator.single_level_grid_priors((1, 1), level_idx=level, device="cpu")).float()
            for level in range(len(self.strides))
        ]
        self._cells = [cell.repeat(1, 2) if cell.shape[1] == 2 else cell for cell in cells]

    @property
    def num_base_priors(self) -> list[int]:
        return [len(cell) for cell in self._cells]

    def base_boxes(self, level: int) -> Tensor:
        return self._cells[level]

    def grid_priors(self, *args, **kwargs) -> list[Tensor]:
        """Return what the generator itself returns."""
        return self.generator.grid_priors(*args, **kwargs)


def build_coder(cfg: ConfigDict) -> DistancePointBBoxCoder | DeltaXYWHBBoxCoder | TensorCoder:
    """Build a coder for a head, which decodes indices of any shape to plain tensors."""
    coder = TASK_UTILS.build(cfg)
    is_own = isinstance(coder, (DistancePointBBoxCoder, DeltaXYWHBBoxCoder)) and not coder.use_box_type
    return coder if is_own else TensorCoder(coder)


def build_prior_generator(cfg: ConfigDict) -> GridPriorGenerator:
    """Build a prior generator for a head, which wants to know the grids that its priors form.

    Raises:
        TypeError: what is built generates no priors on grids.
    """
    generator = TASK_UTILS.build(cfg)
    if isinstance(generator, GridPriorGenerator):
        return generator
    if not (hasattr(generator, "strides") and hasattr(generator, "single_level_grid_priors")):
        raise TypeError(
            f"the prior generator must be one on grids, such as AnchorGenerator or MlvlPointGenerator, but {cfg} is a "
            f"{type(generator).__name__} without strides and single_level_grid_priors"
        )
    return AdaptedPriorGenerator(generator)


def fit_box_loss(module: nn.Module) -> nn.Module:
    """Let a loss of another framework that has a value for each side take weights (N,) of whole boxes; return it."""
    is_of_sides = any(kind.__name__ in SIDE_LOSSES for kind in type(module).__mro__)
    if not isinstance(module, Loss) and is_of_sides:
        module.register_forward_pre_hook(_weigh_each_side, with_kwargs=True)
    return module


def _weigh_each_side(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    weight = kwargs.get("weight")
    if weight is None or weight.ndim != 1:
        return args, kwargs
    return args, kwargs | {"weight": weight[:, None].expand(-1, 4)}
