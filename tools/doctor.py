#!/usr/bin/env python
"""Say what is wrong with a config and its data before a training, the worst first.

python tools/doctor.py configs/quickstart/fcos_r18_digits.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli, load_config
    from densehead.apis.doctor import DoctorOptions, on_terminal, report
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Say what is wrong with a config and its data before a training, the worst first.",
        epilog="Exit codes: 0 no errors, 3 errors were found (with --strict: or warnings), 2 there is no such config.",
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("--json", metavar="FILE", help="write the findings to this file too, with all their places")
    parser.add_argument("--fix", metavar="DIR", help="write cleaned copies of the annotations into this new folder")
    parser.add_argument("--strict", action="store_true", help="exit with 3 where there are warnings, too")
    parser.add_argument("--no-images", action="store_true", help="leave the image files unread")
    parser.add_argument("--decode", action="store_true", help="decode all images to the last pixel")
    parser.add_argument("--no-model", action="store_true", help="take no training step to estimate memory and time")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that will train; 1 if not given")
    parser.add_argument("--workers", type=int, help="files that are read at a time")
    cli.add_common_arguments(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    read = {}

    def work() -> None:
        cfg = read["cfg"] = load_config(args.config, args.cfg_options, safe=args.safe)
        options = DoctorOptions(
            gpus=args.gpus,
            read_images=not args.no_images,
            decode=args.decode,
            try_model=not args.no_model,
            track=on_terminal,
            **({} if args.workers is None else {"workers": args.workers}),
        )
        read["code"] = report(cfg, options, json_file=args.json, fix_folder=args.fix, strict=args.strict)

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback) or read["code"]


if __name__ == "__main__":
    sys.exit(main())
