"""Training and testing from a config, as the tools do it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from densehead.apis.upgrade import check_spelling
from densehead.engine.checks import TEST_SECTIONS, TRAIN_SECTIONS, check_sections
from densehead.engine.hooks.summary import format_metrics
from densehead.engine.launch import join_processes
from densehead.engine.runner import QuietRunner
from densehead.engine.sharding import check_sharding
from densehead.evaluation import DumpDetResults


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config: its ``runner_type``, or mmengine's runner with a short console output."""
    join_processes(cfg.get("launcher") or "none")
    return RUNNERS.build(cfg) if "runner_type" in cfg else QuietRunner.from_cfg(cfg)


def train(cfg: Config) -> Runner:
    """Train the detector of a config; return the runner at the end.

    Args:
        cfg: see :func:`densehead.apis.prepare_training`, which completes one.

    Raises:
        ValueError, TypeError, KeyError, FileNotFoundError: the config, the data or the checkpoint does not do; the
            message says which key or file, and what was expected.
    """
    check_spelling(cfg, cfg.filename)
    check_sections(cfg, TRAIN_SECTIONS, cfg.filename)
    check_sharding(cfg)
    if cfg.optim_wrapper.get("type") == "AmpOptimWrapper" and get_device() == "cpu":
        raise ValueError(
            "mixed precision (--amp, optim_wrapper.type=AmpOptimWrapper) needs a GPU, and there is none: leave out "
            "--amp, or set optim_wrapper.type=OptimWrapper"
        )
    runner = build_runner(cfg)
    runner.train()
    return runner


def evaluate(cfg: Config, out: str | os.PathLike | None = None) -> dict[str, float]:
    """Test the checkpoint ``cfg.load_from``; return the metrics, and write them to ``<log dir>/metrics.json``.

    Args:
        cfg: see :func:`densehead.apis.prepare_test`, which completes one.
        out: file for the detections, ``.pkl`` or ``.pickle``.

    Raises:
        ValueError: another ending of ``out``; and as :func:`train`.
    """
    if out is not None and Path(out).suffix not in (".pkl", ".pickle"):
        raise ValueError(f"--out must end with .pkl or .pickle, but got {out}")
    check_spelling(cfg, cfg.filename)
    check_sections(cfg, TEST_SECTIONS, cfg.filename)
    runner = build_runner(cfg)
    if out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=str(out)))
    metrics = runner.test()
    if runner.rank == 0:
        _report(runner, metrics, out)
    return metrics


def _report(runner: Runner, metrics: dict, out: str | os.PathLike | None) -> None:
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    file = Path(runner.log_dir, "metrics.json")
    file.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    hook = runner.cfg.get("default_hooks", {}).get("visualization") or {}
    rows = [("metrics", format_metrics(numbers)), ("in full", os.path.relpath(file))]
    if out is not None:
        rows.append(("detections", str(out)))
    if hook.get("draw") and hook.get("test_out_dir"):
        rows.append(("pictures", os.path.relpath(os.path.join(runner.log_dir, hook["test_out_dir"]))))
    runner.logger.info("\nTesting has ended.\n" + "\n".join(f"  {name:<10}  {value}" for name, value in rows))
