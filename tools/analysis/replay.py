#!/usr/bin/env python
"""Repeat the step of a training whose loss was not finite, from its report.

python tools/analysis/replay.py work_dirs/fcos_r18_digits/loss_not_finite_iter_20

The exit code is 0 where the same is not finite as in the report, 1 where it is not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a fresh clone need not be installed

try:
    from densehead.analysis.faults import Replay, StoredStep
    from densehead.apis import cli
    from densehead.apis.benchmark.machine import check_device
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")

NOT_THE_SAME = 1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Repeat the step of a training whose loss was not finite.")
    parser.add_argument("report", help="folder of the report, in the work dir of the training")
    parser.add_argument("--anomaly", action="store_true", help="let PyTorch look for the operator with a bad gradient")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1; cpu if not given")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser.parse_args()


def show(replay: Replay) -> None:
    """Print what was found, and in what it is not what the report tells."""
    for name, value in replay.losses.items():
        print(f"{name} is {value:.6g}")
    for line in replay.fault.lines() if replay.fault is not None else ():
        print(line)
    print("\n" + ("The same as in the report." if replay.is_same else "Not the same as in the report:"))
    for line in replay.differences:
        print(f"  {line}")


def main() -> int:
    args = parse_args()
    found = []

    def work() -> None:
        check_device(args.device)
        step = StoredStep(args.report, args.device)
        found.append(step.replay())
        show(found[0])
        if args.anomaly:
            print(f"\nAnomaly detection: {step.find_anomaly() or 'it found nothing'}")

    code = cli.run(work, show_traceback=args.traceback)
    return code or (0 if found[0].is_same else NOT_THE_SAME)


if __name__ == "__main__":
    sys.exit(main())
