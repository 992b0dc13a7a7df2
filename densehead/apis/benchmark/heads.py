"""Time and memory of what a head adds to a network: assignment, losses, their gradients, detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.config import ConfigDict

from densehead.apis.benchmark import machine, meters
from densehead.apis.benchmark.scene import count_candidates, draw_maps, draw_scene
from densehead.apis.benchmark.sides import (
    COMPILED,
    CONFIGS,
    OURS,
    STAGES,
    THEIRS,
    OurSide,
    Side,
    TheirSide,
    build_ours,
    build_theirs,
    head_config,
)
from densehead.typing import Size

Advance = Callable[[str], object]  # told what comes next


@dataclass(frozen=True)
class HeadOptions:
    """What is measured.

    Attributes:
        configs: folder of the configs.
        heads: names of ``CONFIGS``, or paths of configs of detectors.
        truths: ground truths of an image; each is measured.
        images: in a batch.
        size: height and width of the images, pixels.
        classes: of the heads.
        stages: of ``STAGES``.
        rounds: of each measurement.
        seconds: after which a measurement begins no further round.
        device: ``'cpu'`` or ``'cuda'``.
        reference: whether mmdetection's head is measured in turn, where it can be imported.
        memory: whether memory is measured.
        compile_losses: whether densehead's head compiles its losses; its rows are named so.
        seed: of all that is drawn.
    """

    configs: str
    heads: Sequence[str] = tuple(CONFIGS)
    truths: Sequence[int] = (7, 60)
    images: int = 4
    size: Size = (800, 1344)
    classes: int = 80
    stages: Sequence[str] = STAGES
    rounds: int = 10
    seconds: float = 60.0
    device: str = "cpu"
    reference: bool = True
    memory: bool = True
    compile_losses: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise a ValueError that names the option that cannot be."""
        machine.check_device(self.device)
        for name in self.heads:
            if name not in CONFIGS and not Path(name).is_file():
                raise ValueError(f"--heads {name}: neither one of {', '.join(CONFIGS)} nor a config file")
        for name in ("images", "classes", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, but got {getattr(self, name)}")
        if min(self.truths, default=0) < 0:
            raise ValueError(f"--truths must be 0 or more, but got {min(self.truths)}")
        if min(self.size) < 1:
            raise ValueError(f"--size must be HEIGHTxWIDTH in pixels, but got {'x'.join(map(str, self.size))}")

    def path(self, head: str) -> Path:
        """Return the path of a head's config."""
        return Path(self.configs, CONFIGS[head]) if head in CONFIGS else Path(head)


def count_steps(options: HeadOptions) -> int:
    """Return how often ``advance`` is called at most."""
    return len(options.heads) * len(options.truths) * len(options.stages)


def measure_heads(options: HeadOptions, advance: Advance = lambda what: None) -> dict:
    """Measure heads, in turn with mmdetection's.

    Args:
        options: what to measure.
        advance: called before each measurement.

    Returns:
        What is written as JSON: ``kind``, ``machine``, ``options`` and ``rows``, one a head, number of ground truths
        and stage. A row has of ``densehead`` and, where it was measured, ``mmdet``: ``median_ms``, ``min_ms``,
        ``times_ms``, ``peak_mb``; and ``candidates``, the class scores of an image above the threshold, on average.

    Raises:
        ValueError: an option that cannot be.
        FileNotFoundError: a config is not there.
    """
    options.check()
    rows = []
    for head in options.heads:
        cfg = head_config(options.path(head), options.classes)
        if options.compile_losses:
            cfg.train_cfg = {**(cfg.get("train_cfg") or {}), "compile_losses": True}
        for truths in options.truths:
            rows += measure_head(head, cfg, options, truths, advance)
    return {"kind": "heads", "machine": machine.describe(options.device), "options": asdict(options), "rows": rows}


def measure_head(head: str, cfg: ConfigDict, options: HeadOptions, truths: int, advance: Advance) -> list[dict]:
    """Return the rows of one head at one number of ground truths."""
    sides = prepare(cfg, options, truths)
    facts = _facts(sides[OURS]) | {"agreement": _agreement(sides)}
    rows = []
    for stage, calls in _stages(sides, options.stages):
        advance(f"{Path(head).stem}, {truths} ground truths: {stage}")
        name = Path(head).stem + COMPILED * options.compile_losses
        row = {"head": name, "config": CONFIGS.get(head, head), "truths": truths, "stage": stage, **facts}
        rows.append(row | measure_calls(calls, sides, options))
    return rows


def prepare(cfg: ConfigDict, options: HeadOptions, truths: int) -> dict[str, Side]:
    """Draw a scene and maps, build the heads, and return the sides by name."""
    torch.manual_seed(options.seed)
    place = {"seed": options.seed, "device": options.device}
    scene = draw_scene(options.images, options.size, truths, options.classes, **place)
    ours = build_ours(cfg, options.device)
    maps = draw_maps(ours, scene, **place)
    sides: dict[str, Side] = {OURS: OurSide(ours, maps, scene)}
    theirs = build_theirs(cfg, options.device) if options.reference else None
    if theirs is not None:
        sides[THEIRS] = TheirSide(theirs, maps, scene)
    return sides


def measure_calls(
    calls: dict[str, Callable], sides: dict[str, Side], options: HeadOptions, *, warmups: int = 2
) -> dict:
    """Return the measurements of the sides' calls, by their names; ``failed`` says why there is none of theirs."""

    def reset() -> None:
        for side in sides.values():
            side.reset()

    calls, failure = _that_work(calls, reset)
    pace = {"rounds": options.rounds, "warmups": warmups, "limit": options.seconds}
    times = meters.alternate(calls, device=options.device, prepare=reset, **pace)
    found = {} if failure is None else {"failed": failure}
    for name, call in calls.items():
        peak = meters.measure_memory(call, options.device, prepare=reset) if options.memory else None
        found[name] = meters.summary(times[name], peak)
    return found


def _that_work(calls: dict[str, Callable], reset: Callable) -> tuple[dict[str, Callable], str | None]:
    """The calls without mmdetection's where it raises an error (its PAA does, of some mixtures), and that error."""
    if THEIRS not in calls:
        return calls, None
    reset()
    try:
        calls[THEIRS]()
    except Exception as error:
        reason = f"it raises {type(error).__name__}: {error}".partition("\n")[0].partition(". ")[0]
        return {name: call for name, call in calls.items() if name != THEIRS}, reason
    return calls, None


def _stages(sides: dict[str, Side], wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, Callable]]]:
    """Yield what our side can do and is wanted, with the calls of all sides that can."""
    found = {name: side.stages() for name, side in sides.items()}
    for stage in wanted:
        if stage in found[OURS]:
            yield stage, {name: calls[stage] for name, calls in found.items() if stage in calls}


def _facts(side: Side) -> dict:
    threshold = (side.head.test_cfg or {}).get("score_thr", 0.05)
    candidates = round(count_candidates(side.maps, threshold))
    return {"candidates": candidates, "images": len(side.scene.truths), "size": list(side.scene.size)}


def _agreement(sides: dict[str, Side]) -> dict:
    """Return the loss and the number of detections of each side: they should be the same."""
    found = {}
    for name, side in sides.items():
        with torch.no_grad(), suppress(Exception if name == THEIRS else ()):
            loss = side.loss().item()
            found[name] = {"loss": loss, "detections": sum(len(one.bboxes) for one in side.predict())}
    return found
