#!/usr/bin/env python
"""See what the levels of a detector respond to: features, class scores and qualities on the photo.

python tools/analysis/heatmaps.py configs/quickstart/fcos_r18_digits.py work_dirs/fcos_r18_digits/epoch_6.pth a.jpg
python tools/analysis/heatmaps.py CONFIG CHECKPOINT IMAGE --class person --feature pca
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a fresh clone need not be installed

try:
    from mmengine.device import get_device

    from densehead.analysis.heatmaps.maps import FEATURES, MEAN
    from densehead.apis import cli, init_detector, load_config
    from densehead.apis.analysis.heatmaps import class_label, report_heatmaps
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="See what the levels of a detector respond to.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--feature", choices=FEATURES, default=MEAN, help="mean of |x|, or first principal component")
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="scores of this class; the highest if not given"
    )
    parser.add_argument("--score-thr", type=float, default=0.3, help="lowest score of a drawn detection (0.3)")
    parser.add_argument("--out", type=Path, help="folder to write to; work_dirs/<name of the config>/heatmaps")
    cli.add_common_arguments(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        out = args.out or Path("work_dirs", Path(args.config).stem, "heatmaps")
        model = init_detector(cfg, args.checkpoint, device=get_device())
        sheets = report_heatmaps(
            model,
            args.images,
            out,
            feature=args.feature,
            label=class_label(model, args.class_name),
            score_thr=args.score_thr,
            track=lambda images: cli.track(images, "drawing"),
        )
        print("\n".join(map(str, sheets)))

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
