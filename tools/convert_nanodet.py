#!/usr/bin/env python
"""Turn a checkpoint of the official NanoDet-Plus into one of densehead.

python tools/convert_nanodet.py nanodet-plus-m_320_checkpoint.ckpt checkpoints/nanodet_plus_m_320.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    from densehead.apis import cli, load_config
    from densehead.apis.nanodet import convert_checkpoint
    from densehead.registry import MODELS
except ImportError as error:
    sys.exit(f"error: {error}\nAll that is needed: pip install -r requirements.txt")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Turn a checkpoint of the official NanoDet-Plus into densehead's.")
    parser.add_argument("source", help="official checkpoint, .ckpt of Lightning or .pth")
    parser.add_argument("target", help="file to write")
    parser.add_argument("--config", help="config of the model, to check that it has the same parameters")
    parser.add_argument(
        "--trained", action="store_true", help="take the trained weights where the file has averaged ones besides"
    )
    parser.add_argument(
        "--no-auxiliary", action="store_true", help="leave the auxiliary parts out, for a model with aux_head=None"
    )
    parser.add_argument("--safe", action="store_true", help="read a config of YAML or JSON only, as plain data")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    read = {}

    def work() -> None:
        read["cfg"] = cfg = load_config(args.config, safe=args.safe) if args.config else None
        if cfg and args.no_auxiliary:
            cfg.model.aux_head = None
        model = MODELS.build(cfg.model) if cfg else None
        weights = convert_checkpoint(
            args.source, args.target, model=model, averaged=not args.trained, auxiliary=not args.no_auxiliary
        )
        print(f"{args.target}: {len(weights)} parameters and buffers" + (", as the config has them" if model else ""))

    return cli.run(work, config=lambda: read.get("cfg"), show_traceback=args.traceback)


if __name__ == "__main__":
    sys.exit(main())
