#!/usr/bin/env python
"""Draw the curves of one or several trainings, the same numbers in one panel.

python tools/analysis/curves.py work_dirs/fcos_r18_digits work_dirs/gfl_r18_digits
python tools/analysis/curves.py work_dirs/* --keys loss bbox_mAP --smooth 5 --out compared.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli
    from densehead.apis.analysis.curves import read_runs, report_curves
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the curves of one or several trainings.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="work dir of a training, or its vis_data/scalars.json")
    parser.add_argument(
        "--keys", nargs="+", help="what to draw: loss, 'loss*', bbox_mAP, ...; losses, usual metrics, lr if not given"
    )
    parser.add_argument("--smooth", type=int, default=1, help="logged values of the training that are averaged (1)")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help="the picture; a .csv is written beside it")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    def work() -> None:
        written = report_curves(read_runs(args.runs), args.out, keys=args.keys, smooth=args.smooth)
        print(", ".join(map(str, written)))

    return cli.run(work, show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
