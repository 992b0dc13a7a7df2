#!/usr/bin/env python
"""Write a config of mmdetection 2.x in today's spelling.

python tools/upgrade_config.py fcos_r50_of_2020.py configs/fcos_r50.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli
    from densehead.apis.upgrade import upgrade_file
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a config of mmdetection 2.x in today's spelling.")
    parser.add_argument("old", help="config file of mmdetection 2.x; its bases are read too")
    parser.add_argument("new", help="file to write, without bases")
    parser.add_argument("--force", action="store_true", help="write over the file if it is there already")
    parser.add_argument("--quiet", action="store_true", help="say only what could not be translated")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    def work() -> None:
        report = upgrade_file(args.old, args.new, force=args.force)
        if not args.quiet:
            print("\n".join(report.lines()))
        print(f"{args.new}: written, {len(report.changes)} changes")
        if report.remarks:
            print("To look at (the file says it too):")
            print("\n".join(f"  {key}: {text}" for key, text in report.remarks))

    return cli.run(work, show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
