#!/usr/bin/env python
"""Train the detector of a config.

python tools/train.py configs/quickstart/fcos_r18_digits.py
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli, load_config, prepare_training, train
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the detector of a config.")
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="where logs and checkpoints go; work_dirs/<name of the config> if not given")
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate by the batch size")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from this checkpoint; without a path from the last one in the work dir, if there is one",
    )
    cli.add_common_arguments(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        cfg.launcher = args.launcher
        prepare_training(
            cfg, work_dir=args.work_dir, amp=args.amp, auto_scale_lr=args.auto_scale_lr, resume=args.resume
        )
        train(cfg)

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
