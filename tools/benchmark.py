#!/usr/bin/env python
"""Measure the time and the memory of heads and of trainings, beside mmdetection's where it is installed.

python tools/benchmark.py heads                                    # every head: assign, losses, gradients, detections
python tools/benchmark.py heads --heads gfl paa --truths 60 --out results
python tools/benchmark.py scaling --out results                    # against ground truths, images and their size
python tools/benchmark.py train configs/quickstart/gfl_r18_digits.py --profile
python tools/benchmark.py report results --into docs/benchmarks.md

docs/benchmarks.md says what is measured and how, and how to install mmdetection for it.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
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

    from densehead.apis import benchmark, cli
    from densehead.apis.benchmark import meters, report, tables
    from densehead.apis.benchmark.scaling import AXES
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


def with_progress(measure: Callable[[Options, Callable], dict], options: Options, steps: int) -> dict:
    """Measure under a bar, which is shown on a terminal only."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=steps)
        return measure(options, lambda what: bar.update(task, advance=1, description=what))


def fill(options: Options, args: argparse.Namespace) -> Options:
    """Return the options with what the command line gives in place of theirs."""
    given = {name: getattr(args, name, None) for name in vars(options)}
    return replace(options, **{name: value for name, value in given.items() if value is not None})


def finish(record: dict, args: argparse.Namespace, name: str | None = None) -> None:
    """Print the tables of a record and, with ``--out``, write it and its pictures."""
    print("\n\n".join([*tables.tables(record).values(), tables.machine_lines(record)]))
    if args.out is not None:
        parts = (record["kind"], args.name or name, tables.device_of(record))
        name = "_".join(part.replace(" ", "_") for part in parts if part)
        written = [report.write_json(record, args.out / f"{name}.json"), *report.draw(record, args.out)]
        print("\n" + ", ".join(map(str, written)))


def keep_memory(args: argparse.Namespace) -> None:
    if not args.return_memory:
        meters.keep_freed_memory()


def run_heads(args: argparse.Namespace) -> None:
    keep_memory(args)
    options = fill(benchmark.HeadOptions(configs=str(ROOT / "configs")), args)
    record = with_progress(benchmark.measure_heads, options, benchmark.count_steps(options))
    finish(record, args)


def run_scaling(args: argparse.Namespace) -> None:
    keep_memory(args)
    options = fill(benchmark.ScalingOptions(configs=str(ROOT / "configs")), args)
    record = with_progress(benchmark.measure_scaling, options, benchmark.count_scaling(options))
    finish(record, args)


def run_train(args: argparse.Namespace) -> None:
    options = fill(benchmark.TrainOptions(args.config, profiled=3 if args.profile else 0), args)
    record = with_progress(benchmark.measure_training, options, options.steps)
    finish(record, args, Path(args.config).stem)


def run_report(args: argparse.Namespace) -> None:
    files = sorted(args.results.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"there are no results (*.json) in {args.results}: give the folder of --out")
    report.write_report([report.read_json(file) for file in files], args.into)
    print(f"{args.into}, with the figures of {', '.join(file.name for file in files)}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add_heads(commands.add_parser("heads", help="assignment, losses, gradients and detections of each head"))
    add_scaling(commands.add_parser("scaling", help="losses and gradients by ground truths, images and their size"))
    add_train(commands.add_parser("train", help="images a second of a whole config, and the parts of a step"))
    add_report(commands.add_parser("report", help="put tables and pictures of results into a document"))
    args = parser.parse_args()
    if getattr(args, "threads", None) is not None and args.threads < 1:
        parser.error(f"--threads must be at least 1, but got {args.threads}")
    return args


def add_heads(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(work=run_heads)
    parser.add_argument("--truths", nargs="+", type=int, help="ground truths of an image, each measured (7 60)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, help="what is measured; all if not given")
    parser.add_argument("--images", type=int, help="in a batch (4)")
    parser.add_argument("--size", type=size, help="height and width of the images (800x1344)")
    parser.add_argument(
        "--compile-losses", action="store_true", default=None, help="densehead's with train_cfg.compile_losses=True"
    )
    add_common(parser, rounds=10, seconds=60)


def add_scaling(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(work=run_scaling)
    parser.add_argument("--axes", nargs="+", choices=AXES, help="along which is measured; all if not given")
    parser.add_argument("--truths", nargs="+", type=int, help="ground truths of an image (1 to 1000)")
    parser.add_argument("--images", nargs="+", type=int, help="in a batch (1 to 32)")
    parser.add_argument("--sizes", nargs="+", type=size, help="of the images (320x320 to 1200x2016)")
    parser.add_argument("--at-truths", type=int, help="along the other axes (7)")
    parser.add_argument("--at-images", type=int, help="along the other axes (4)")
    parser.add_argument("--at-size", type=size, help="along the other axes (800x1344)")
    parser.add_argument("--limit", type=float, help="seconds; mmdetection's head is not measured beyond (2)")
    add_common(parser, rounds=3, seconds=10)


def add_train(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--safe", action="store_true", help="for configs of strangers, as tools/train.py has it")
    add_output(parser)


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(work=run_report)
    parser.add_argument("results", type=Path, help="folder that --out named")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "benchmarks.md", help="a document with markers")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def add_common(parser: argparse.ArgumentParser, *, rounds: int, seconds: int) -> None:
    """Add what ``heads`` and ``scaling`` have in common."""
    known = ", ".join(CONFIGS)
    parser.add_argument("--heads", nargs="+", help=f"some of {known}, or configs of detectors; all if not given")
    parser.add_argument("--classes", type=int, help="of the heads (80)")
    parser.add_argument("--rounds", type=int, help=f"of each measurement ({rounds})")
    parser.add_argument("--seconds", type=float, help=f"after which a measurement begins no round ({seconds})")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where it is measured (cpu)")
    parser.add_argument("--seed", type=int, help="of all that is drawn (0)")
    parser.add_argument("--no-mmdet", dest="reference", action="store_false", default=None, help="densehead alone")
    parser.add_argument(
        "--return-memory", action="store_true", help="to the system when freed, as the C library has it"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", default=None, help="time alone")
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; its own choice if not given")
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON, and for the pictures")
    parser.add_argument("--name", help="of the written file, and of a training's row in the table")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def main() -> int:
    args = parse_args()
    warnings.filterwarnings("ignore")  # mmdet's, of what is deprecated
    if getattr(args, "threads", None) is not None:
        torch.set_num_threads(args.threads)
    return cli.run(lambda: args.work(args), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
