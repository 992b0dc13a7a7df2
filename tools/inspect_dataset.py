#!/usr/bin/env python
"""Say which data set a folder holds, and what a config needs to train on it.

python tools/inspect_dataset.py data/cells --write configs/cells.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone need not be installed

try:
    from densehead.apis import cli
    from densehead.apis.dataset_config import describe, write_config
    from densehead.datasets.formats import FORMATS, recognise
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")

BASE = ROOT / "configs" / "quickstart" / "fcos_r18_yolo_style.py"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Say which data set a folder holds (COCO, Pascal VOC, YOLO), and what a config needs for it."
    )
    parser.add_argument("folder", help="folder of the data set")
    parser.add_argument("--from", dest="format", choices=FORMATS, help="look for this format alone")
    parser.add_argument("--write", metavar="CONFIG.py", help="write a config that trains on it; never over a file")
    parser.add_argument("--base", default=BASE, help=f"config that --write takes all but the data from ({BASE.name})")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    def work() -> None:
        found = recognise(args.folder, args.format)
        print("\n".join(describe(found)))
        if args.write:
            write_config(found, args.write, args.base)
            print(f"\n{args.write}: written. Train: python tools/train.py {args.write}")

    return cli.run(work, show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
