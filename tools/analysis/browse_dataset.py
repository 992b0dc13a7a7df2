#!/usr/bin/env python
"""Look at a data set as the network gets to see it: after augmentation, with its boxes.

python tools/analysis/browse_dataset.py configs/quickstart/fcos_r18_digits.py
python tools/analysis/browse_dataset.py CONFIG --num 48 --original --single
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli, load_config
    from densehead.apis.analysis.browse import Browser, browse
    from densehead.apis.analysis.datasets import SPLITS
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look at a data set as the network gets to see it.")
    parser.add_argument("config", help="config file")
    parser.add_argument("--split", choices=SPLITS, default="train", help="whose data set is looked at (train)")
    parser.add_argument("--num", type=int, default=16, help="number of images (16)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images and of their augmentation (0)")
    parser.add_argument("--original", action="store_true", help="put the image as it is beside each")
    parser.add_argument("--padding", action="store_true", help="show what images are padded with")
    parser.add_argument("--single", action="store_true", help="also write each image to a file of its own")
    parser.add_argument("--out", type=Path, help="folder to write to; work_dirs/<name of the config>/browse_<split>")
    cli.add_common_arguments(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        out = args.out or Path("work_dirs", Path(args.config).stem, f"browse_{args.split}")
        browser = Browser(cfg, args.split, seed=args.seed, padding=args.padding)
        views = browse(
            browser,
            out,
            count=args.num,
            original=args.original,
            single=args.single,
            track=lambda indices: cli.track(indices, "drawing"),
        )
        print(f"{out}: {len(views)} of {len(browser.dataset)} samples")

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
