#!/usr/bin/env python
"""Test a checkpoint of the detector of a config.

python tools/test.py configs/quickstart/fcos_r18_digits.py work_dirs/fcos_r18_digits/epoch_8.pth --show-dir pictures
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli, evaluate, load_config, prepare_test, show_predictions
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Test a checkpoint of the detector of a config.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--work-dir", help="where the metrics go; work_dirs/<name of the config> if not given")
    parser.add_argument("--out", help="write the detections to this .pkl file")
    parser.add_argument("--show", action="store_true", help="show every image in a window")
    parser.add_argument("--show-dir", help="draw every image into this folder inside <work dir>/<time of the run>")
    parser.add_argument("--wait-time", type=float, default=2, help="how long a window stays, seconds")
    parser.add_argument("--tta", action="store_true", help="test on flipped images too, and join the detections")
    cli.add_common_arguments(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        cfg.launcher = args.launcher
        prepare_test(cfg, args.checkpoint, work_dir=args.work_dir, tta=args.tta)
        if args.show or args.show_dir:
            show_predictions(cfg, show=args.show, show_dir=args.show_dir, wait_time=args.wait_time)
        evaluate(cfg, out=args.out)

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
