#!/usr/bin/env python
"""Convert a data set between COCO, Pascal VOC and YOLO.

python tools/convert_dataset.py data/cells data/cells_yolo --to yolo
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli
    from densehead.datasets.convert import convert
    from densehead.datasets.formats import FORMATS
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Convert a data set between COCO, Pascal VOC and YOLO.")
    parser.add_argument("source", help="folder of the data set, which stays as it is")
    parser.add_argument("out", help="new folder; it must not exist, or be empty")
    parser.add_argument("--to", required=True, choices=FORMATS, help="format to write")
    parser.add_argument("--from", dest="format", choices=FORMATS, help="format to read, if it can be taken for several")
    parser.add_argument("--split", nargs="+", metavar="NAME", help="convert these alone, of train, val, test")
    images = parser.add_mutually_exclusive_group()
    for how, text in (
        ("copy", "copy the images (usual)"),
        ("symlink", "link to the images, by their whole paths"),
        ("hardlink", "link to the images; on the same disk"),
    ):
        images.add_argument(f"--{how}", dest="images", action="store_const", const=how, help=text)
    images.add_argument("--no-images", dest="images", action="store_const", const="none", help="annotations alone")
    parser.add_argument(
        "--keep-marked",
        action="store_true",
        help="to YOLO: write objects marked difficult, iscrowd or ignore like any other, instead of leaving them out",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    def work() -> None:
        done = convert(
            args.source,
            args.out,
            args.to,
            format=args.format,
            splits=args.split,
            images=args.images or "copy",
            keep_marked=args.keep_marked,
        )
        print(f"{args.source}: {done.source.layout}, {len(done.source.classes)} classes")
        for split, images in done.images.items():
            print(f"  {split:<8}  {images} images, {done.objects[split]} objects")
        for note in done.notes:
            print(f"  {note}")
        print(f"{args.out}: written as {args.to}")

    return cli.run(work, show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
