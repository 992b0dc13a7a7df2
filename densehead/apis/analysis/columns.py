"""What is compared on an image: heads, assigners and checkpoints, each with a title and ready to assign."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densehead.analysis import AssignmentRecord, read_records
from densehead.apis.analysis.heads import assigner_config, head_config, parse_choice
from densehead.apis.inference import init_detector
from densehead.arguments import walk
from densehead.engine.checks import compare_states
from densehead.models.detectors import SingleStageDetector
from densehead.models.heads import DenseHead
from densehead.registry import MODELS
from densehead.structures import DetDataSample


@dataclass(frozen=True)
class Column:
    """One of the rules that are compared.

    Attributes:
        title: what it is called.
        detector: of which backbone, neck and, where its loss is one of its own, the loss are used.
        head: what assigns.
    """

    title: str
    detector: nn.Module
    head: DenseHead

    @property
    def has_own_loss(self) -> bool:
        """Whether the detector's own loss is computed, and not that of the head alone."""
        is_special = type(self.detector).loss is not SingleStageDetector.loss
        return is_special and type(self.head) is type(self.detector.bbox_head)

    @property
    def is_blind(self) -> bool:
        """Whether what is assigned, and how it is weighed, is the same whatever the network puts out."""
        return not (self.has_own_loss or self.head.assigns_by_predictions or self.head.quality_is_predicted)


def build_columns(
    cfg: Config,
    *,
    checkpoints: Sequence[str] = (),
    heads: Sequence[str] = (),
    assigners: Sequence[str] = (),
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[Column]:
    """Build what is compared: each of ``heads`` or ``assigners``, or else the config's own head, with each checkpoint.

    A head that assigns or weighs by what it predicts, and has its weights from no checkpoint, says so in its title.

    Args:
        cfg: of a detector.
        checkpoints: files with its weights. Without any it has those that a training begins with, but for the
            backbone's: nothing is downloaded.
        heads: ``NAME`` or ``NAME:key=value,...`` in the place of the config's own head, see
            :func:`.heads.head_config`. Only a head of the own one's type has its weights from a checkpoint.
        assigners: likewise, in the place of the own head's assigner, see :func:`.heads.assigner_config`.
        seed: of weights that are drawn.
        device: where they run.

    Raises:
        ValueError: both heads and assigners; one that is unknown or cannot be built; a config whose head is not
            densehead's; a checkpoint of another architecture, or one that no head would use.
        FileNotFoundError: there is no such checkpoint.
    """
    if heads and assigners:
        raise ValueError("give --heads or --assigners, but not both: a head comes with the assigner of its paper")
    columns: dict[str, Column] = {}
    for checkpoint, name in zip(checkpoints or [None], _short_names(checkpoints) or [None], strict=True):
        detector = _build_detector(cfg, checkpoint, seed, device)
        for choice in [*heads, *assigners] or [None]:
            head = detector.bbox_head if choice is None else _build_head(cfg, detector, choice, bool(heads), seed)
            is_trained = checkpoint is not None and type(head) is type(detector.bbox_head)
            parts = [choice] if choice else [] if is_trained else [type(head).__name__]
            parts += [name] if is_trained and (not choice or len(checkpoints) > 1) else []
            title = ", ".join(parts) + ("" if is_trained else _caveat(head))
            _set_mode(head, is_trained)
            columns.setdefault(title, Column(title, detector, head))
    if checkpoints and not any(type(one.head) is type(one.detector.bbox_head) for one in columns.values()):
        own = type(detector.bbox_head).__name__
        raise ValueError(f"--checkpoint has the weights of {own}, which is none of --heads: add it, or leave it out")
    return list(columns.values())


@torch.no_grad()
def read_columns(
    columns: Sequence[Column], inputs: Tensor, samples: list[DetDataSample], *, shapes: Shapes | None = None
) -> dict[str, AssignmentRecord]:
    """Return what each column made of the first image of a batch, by title.

    Args:
        columns: of :func:`build_columns`.
        inputs: (B, C, H, W) images, as the data preprocessor puts them out.
        samples: their truth.
        shapes: where given, heads that neither assign nor weigh by what they predict are handed maps of zeros in the
            place of their own, of which it remembers the shapes. The network then runs once for each size of images.
    """
    features: dict[int, Sequence[Tensor]] = {}
    records = {}
    for column in columns:
        detector, head = column.detector, column.head
        if shapes is not None and column.is_blind and shapes.has(column, inputs):
            head.loss_by_feat(
                *shapes.zeros(column, inputs),
                [sample.gt_instances for sample in samples],
                [sample.metainfo for sample in samples],
                [sample.get("ignored_instances") for sample in samples],
            )
        elif column.has_own_loss:
            detector.bbox_head = head  # NanoDet-Plus assigns by what its auxiliary head predicts
            detector.loss(inputs, samples)
        else:
            if id(detector) not in features:
                features[id(detector)] = detector.extract_feat(inputs)
            if shapes is not None and column.is_blind:
                shapes.note(column, inputs, head(features[id(detector)]))
            head.loss(features[id(detector)], samples)
        records[column.title] = read_records(head)[0]
    return records


class Shapes:
    """The shapes of the maps that heads put out, by the size of the images."""

    def __init__(self) -> None:
        self._known: dict[tuple, list[list[torch.Size]]] = {}

    def has(self, column: Column, inputs: Tensor) -> bool:
        """Whether the shapes for images of this size are known."""
        return self._key(column, inputs) in self._known

    def note(self, column: Column, inputs: Tensor, maps: Sequence[Sequence[Tensor]]) -> None:
        """Remember the shapes of a head's maps."""
        self._known[self._key(column, inputs)] = [[level.shape for level in levels] for levels in maps]

    def zeros(self, column: Column, inputs: Tensor) -> list[list[Tensor]]:
        """Return maps of zeros, which take no memory."""
        zero = inputs.new_zeros(())
        return [[zero.expand(shape) for shape in levels] for levels in self._known[self._key(column, inputs)]]

    @staticmethod
    def _key(column: Column, inputs: Tensor) -> tuple:
        return column.title, inputs.shape


def needs_pairs(columns: Sequence[Column]) -> bool:
    """Whether a column normalises by the statistics of the batch, which a single place has none of."""
    modules = (module for one in columns for part in (one.detector, one.head) for module in part.modules())
    return any(isinstance(module, _BatchNorm) and module.training for module in modules)


def _build_detector(cfg: Config, checkpoint: str | None, seed: int, device: str | torch.device) -> nn.Module:
    """Build the detector of a config in the mode in which it computes losses."""
    cfg = copy.deepcopy(cfg)
    for _, part in walk(cfg.model):
        init = part.get("init_cfg")
        if isinstance(init, Mapping) and init.get("type") == "Pretrained":
            part.pop("init_cfg")
    torch.manual_seed(seed)
    detector = init_detector(cfg, checkpoint, device=device)
    if not isinstance(getattr(detector, "bbox_head", None), DenseHead):
        kind = (cfg.model.get("bbox_head") or {}).get("type")
        raise ValueError(f"model.bbox_head must be one of densehead's heads, which keep what they assign, not {kind}")
    if checkpoint is None:
        detector.init_weights()
    _set_mode(detector, checkpoint is not None)
    return detector


def _build_head(cfg: Config, detector: nn.Module, choice: str, is_head: bool, seed: int) -> DenseHead:
    """Build a head in the place of a detector's own, with the own one's weights where it is of the same type."""
    own = detector.bbox_head
    own_cfg = dict(cfg.model.bbox_head)
    own_cfg["train_cfg"] = copy.deepcopy(cfg.model.get("train_cfg") or own_cfg.get("train_cfg") or {})
    name, options = parse_choice(choice, "--heads" if is_head else "--assigners")
    if is_head:
        chosen = head_config(name, options, own, own_cfg)
    else:
        chosen = copy.deepcopy(own_cfg)
        chosen["train_cfg"]["assigner"] = ConfigDict(assigner_config(name, options, own))
    torch.manual_seed(seed)
    head = MODELS.build(chosen).to(next(own.parameters()).device)
    if type(head) is not type(own):
        head.init_weights()
        if hasattr(head, "reach"):
            head.reach.has_warned = True  # its reg_max is nobody's choice
        return head
    weights = own.state_dict()
    difference = compare_states(head, weights)
    if difference:
        raise ValueError(f"{choice} does not fit the config's own {name}, which {difference}")
    head.load_state_dict(weights)
    return head


def _set_mode(part: nn.Module, is_trained: bool) -> None:
    """Let a part compute losses; what is trained normalises by its running statistics, and not by those of an image."""
    part.train()
    for module in part.modules() if is_trained else ():
        if isinstance(module, _BatchNorm):
            module.eval()


def _caveat(head: DenseHead) -> str:
    if head.assigns_by_predictions:
        return " (untrained)"
    return f" ({head.quality_name} untrained)" if head.quality_is_predicted else ""


def _short_names(files: Sequence[str]) -> list[str]:
    """Names of files, with that of the folder where several have the same."""
    names = [Path(file).name for file in files]
    if len(set(names)) < len(names):
        names = ["/".join(Path(file).parts[-2:]) for file in files]
    return names
