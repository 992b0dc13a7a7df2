#!/usr/bin/env python
"""Show which points answer for which object: of heads, assigners or checkpoints, on images of a config's data set.

python tools/analysis/assignment.py configs/quickstart/fcos_r18_digits.py --num 4
python tools/analysis/assignment.py CONFIG --heads FCOSHead ATSSHead GFLHead --images street.jpg
python tools/analysis/assignment.py CONFIG --assigners ATSSAssigner SimOTAAssigner:center_radius=1.5 \
    --checkpoint work_dirs/run/epoch_12.pth
python tools/analysis/assignment.py CONFIG --assigners FCOSAssigner ATSSAssigner --stats

docs/assignment.md says how to read what it writes.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a fresh clone need not be installed

try:
    from mmengine.device import get_device
    from mmengine.logging import MMLogger

    from densehead.analysis import Scene, comparison_table, write_statistics
    from densehead.analysis.page import write_page
    from densehead.apis import cli, load_config
    from densehead.apis.analysis.assignment import Comparison, prepare_comparison
    from densehead.apis.analysis.sheets import FORMATS, SheetWriter, Tally
    from densehead.apis.analysis.statistics import count_assignments
    from densehead.files import as_typed
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


PAGE = "assignment.html"


def at_least_one(text: str) -> int:
    """Read a number of images."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of images, or nothing for all, but got {text}")
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="FILE", help="weights; several are compared")
    rules = parser.add_mutually_exclusive_group()
    named = {"nargs": "+", "default": [], "metavar": "NAME[:KEY=VALUE,...]"}
    rules.add_argument("--heads", **named, help="compare these in the place of the config's head")
    rules.add_argument("--assigners", **named, help="compare these in the config's head")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--images", nargs="+", default=[], metavar="FILE", help="of the data set: names or paths")
    images.add_argument("--index", nargs="+", type=int, default=[], help="of the images in the data set, from 0")
    images.add_argument("--num", type=int, default=8, help="so many images, spread over the data set (8)")
    parser.add_argument(
        "--stats",
        nargs="?",
        type=at_least_one,
        const=0,
        metavar="N",
        help="no sheets, but statistics over the data set, or over N of its images",
    )
    parser.add_argument("--split", choices=["train", "val"], default="train", help="which data (train)")
    parser.add_argument("--no-augment", action="store_true", help="training images as validation has them")
    parser.add_argument("--seed", type=int, help="of augmentation and drawn weights; the config's if not given")
    parser.add_argument("--device", help="where the network runs; a GPU where there is one if not given")
    parser.add_argument("--out", type=Path, help="folder to write to; work_dirs/<name of the config>/assignment")
    parser.add_argument(
        "--no-levels", dest="levels", action="store_false", help="no panel for each level, only the one with all"
    )
    parser.add_argument("--columns", type=int, help="panels side by side on a sheet")
    parser.add_argument("--panel-side", type=int, help="longer side of the panels, pixels")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the sheets (png)")
    parser.add_argument(
        "--html", action=argparse.BooleanOptionalAction, default=True, help="write the page to leaf through (yes)"
    )
    cli.add_common_arguments(parser)
    return parser.parse_args()


def draw_scenes(comparison: Comparison, args: argparse.Namespace, out: Path) -> None:
    """Write a sheet for each image and a page of all, and print a table of what is on them."""
    look = {"levels": args.levels, "columns": args.columns, "panel_side": args.panel_side, "format": args.format}
    sheets = SheetWriter(out, **look)
    tally = Tally()

    def drawn() -> Iterator[Scene]:
        for scene in comparison.scenes():
            print(sheets.write(scene))
            tally.add(scene)
            yield scene

    if args.html:
        print(write_page(out / PAGE, drawn(), title=f"{Path(args.config).stem}: assignment"))
    else:
        deque(drawn(), maxlen=0)
    print(f"\n{tally.table()}")


def write_counts(comparison: Comparison, num_workers: int, out: Path) -> None:
    """Write statistics, and print a table of them."""
    statistics = count_assignments(comparison, out, num_workers=num_workers)
    files = write_statistics(statistics, out)
    print(f"\n{comparison_table(statistics)}\n\n{as_typed(files[-1])}, and tables beside it")


def main() -> int:
    args = parse_args()
    MMLogger.get_instance("assignment", log_level="WARNING")  # a word for every parameter is no news here
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        comparison = prepare_comparison(
            cfg,
            checkpoints=args.checkpoint,
            heads=args.heads,
            assigners=args.assigners,
            images=args.images,
            indices=args.index,
            num=args.num if args.stats is None else args.stats or None,
            split=args.split,
            augment=not args.no_augment,
            seed=args.seed,
            device=args.device or get_device(),
        )
        out = args.out or Path("work_dirs", Path(args.config).stem, "assignment")
        if args.stats is None:
            draw_scenes(comparison, args, out)
        else:
            write_counts(comparison, cfg[f"{args.split}_dataloader"].get("num_workers", 0), out)

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
