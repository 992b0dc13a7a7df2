#!/usr/bin/env python
"""Measure the time and the memory of heads and of trainings, beside mmdetection's where it is installed.

python tools/benchmark.py heads                                    # every head: assign, losses, gradients, detections
python tools/benchmark.py heads --heads gfl paa --truths 60 --out results
python tools/benchmark.py train configs/quickstart/gfl_r18_digits.py --profile
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone need not be installed
# before PyTorch is imported: the profiler, which counts memory, would tell when it begins and ends
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

try:
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from densehead.apis import cli
    from densehead.apis.benchmark import HeadOptions, TrainOptions, heads, measure_training, plots, report
    from densehead.apis.benchmark.sides import CONFIGS, STAGES
    from densehead.apis.options import OptionAction
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")

Options = TypeVar("Options")


def size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH in pixels, such as 800x1344, but got {text!r}")
    return int(height), int(width)


def progress_bar() -> Progress:
    """Return a bar that is shown on a terminal only."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def fill(options: Options, args: argparse.Namespace) -> Options:
    """Return the options with what the command line gives in place of theirs."""
    return replace(
        options, **{name: value for name in vars(options) if (value := getattr(args, name, None)) is not None}
    )


def run_heads(args: argparse.Namespace) -> None:
    options = fill(HeadOptions(configs=str(ROOT / "configs")), args)
    with progress_bar() as bar:
        task = bar.add_task("", total=heads.count_steps(options))
        record = heads.measure_heads(options, lambda what: bar.update(task, advance=1, description=what))
    print(f"{report.heads_table(record)}\n\n{report.machine_lines(record)}")
    if args.out is not None:
        name = f"heads_{options.device}"
        report.write_json(record, args.out / f"{name}.json")
        plots.draw_heads(record, args.out / f"{name}.png")
        print(f"\n{args.out / name}.json, {name}.png")


def run_train(args: argparse.Namespace) -> None:
    given = {
        name: getattr(args, name) for name in ("iters", "warmup", "parts", "drawn") if getattr(args, name) is not None
    }
    options = TrainOptions(args.config, profiled=3 if args.profile else 0, cfg_options=args.cfg_options, **given)
    with progress_bar() as bar:
        task = bar.add_task("", total=options.steps)
        record = measure_training(options, lambda what: bar.update(task, advance=1, description=what))
    print(f"{report.train_table(record)}\n\n{report.machine_lines(record)}")
    if args.out is not None:
        path = report.write_json(
            record, args.out / f"train_{Path(args.config).stem}_{record['rows'][0]['device']}.json"
        )
        print(f"\n{path}")


def add_heads(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("heads", help="assignment, losses, gradients and detections of each head")
    parser.set_defaults(work=run_heads)
    known = ", ".join(CONFIGS)
    parser.add_argument("--heads", nargs="+", help=f"some of {known}, or configs of detectors; all if not given")
    parser.add_argument("--truths", nargs="+", type=int, help="ground truths of an image, each measured (7 60)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, help="what is measured; all if not given")
    parser.add_argument("--images", type=int, help="in a batch (4)")
    parser.add_argument("--size", type=size, help="height and width of the images (800x1344)")
    parser.add_argument("--classes", type=int, help="of the heads (80)")
    add_common(parser)


def add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("train", help="images a second of a whole config, and the parts of a step")
    parser.set_defaults(work=run_train)
    parser.add_argument("config", help="config file")
    parser.add_argument("--iters", type=int, help="iterations of which the speed is taken (20)")
    parser.add_argument("--warmup", type=int, help="iterations before (5)")
    parser.add_argument("--parts", type=int, help="iterations afterwards of which the parts are timed (5)")
    parser.add_argument("--profile", action="store_true", help="tell convolutions from all else, in three more")
    parser.add_argument("--drawn", type=size, help="noise of HEIGHTxWIDTH out of memory in place of the config's data")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionAction, metavar="KEY=VALUE", help="override keys of the config"
    )
    add_output(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="of each measurement (10)")
    parser.add_argument("--seconds", type=float, help="after which a measurement begins no further round (60)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where it is measured (cpu)")
    parser.add_argument("--seed", type=int, help="of all that is drawn (0)")
    parser.add_argument("--no-mmdet", dest="reference", action="store_false", default=None, help="densehead alone")
    parser.add_argument("--no-memory", dest="memory", action="store_false", default=None, help="time alone")
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; its own choice if not given")
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON, and for the picture")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add_heads(commands)
    add_train(commands)
    args = parser.parse_args()
    if args.threads is not None and args.threads < 1:
        parser.error(f"--threads must be at least 1, but got {args.threads}")
    return args


def main() -> int:
    args = parse_args()
    warnings.filterwarnings("ignore")  # mmdet's, of what is deprecated
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return cli.run(lambda: args.work(args), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
