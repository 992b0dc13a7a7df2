#!/usr/bin/env python
"""Find out what is wrong with the detections of a checkpoint: curves, confusions, kinds of errors, worst images.

python tools/analysis/detections.py configs/quickstart/fcos_r18_digits.py work_dirs/fcos_r18_digits/epoch_6.pth
python tools/analysis/detections.py CONFIG --detections found.pkl      # written by tools/test.py --out
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a fresh clone need not be installed

try:
    from densehead.analysis.detections.tables import report_text
    from densehead.apis import cli, load_config
    from densehead.apis.analysis.datasets import SPLITS
    from densehead.apis.analysis.detections import report_detections
    from densehead.apis.analysis.scenes import detect_scenes, read_scenes
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find out what is wrong with the detections of a checkpoint.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file; or --detections")
    parser.add_argument("--detections", metavar="FILE.pkl", help="what tools/test.py --out has written")
    parser.add_argument("--split", choices=SPLITS, default="test", help="whose data set is looked at (test)")
    parser.add_argument("--iou", type=float, default=0.5, help="IoU from which on an object is found (0.5)")
    parser.add_argument(
        "--score-thr", type=float, help="lowest score for confusions and images; that of the best mean F1 if not given"
    )
    parser.add_argument("--num-images", type=int, default=8, help="on the sheets of best and worst images (8)")
    parser.add_argument(
        "--out", type=Path, help="folder to write to; work_dirs/<name of the config>/detections_<split>"
    )
    cli.add_common_arguments(parser)
    args = parser.parse_args()
    if (args.checkpoint is None) == (args.detections is None):
        parser.error("give a checkpoint, or --detections FILE.pkl")
    return args


def main() -> int:
    args = parse_args()
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        out = args.out or Path("work_dirs", Path(args.config).stem, f"detections_{args.split}")
        if args.detections is not None:
            scenes = read_scenes(cfg, args.detections, args.split)
        else:
            scenes = detect_scenes(
                cfg, args.checkpoint, args.split, track=lambda batches: cli.track(batches, "detecting")
            )
        report = report_detections(scenes, out, iou_thr=args.iou, score_thr=args.score_thr, num_images=args.num_images)
        print(f"{report_text(report)}\n\n{out}: {', '.join(sorted(file.name for file in out.iterdir()))}")

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
