#!/usr/bin/env python
"""Record the names and shapes of the state dicts that mmdetection's models have, for the tests.

python tools/record_mmdet_names.py mmdet-3.3.0/configs tests/data/mmdet_state_dicts.json.xz

Needs mmdetection 3.x with mmcv's compiled operators. Models are built on the meta device: no weights, no memory. The
file holds ``models``, for every config the parts of its model in order, each with the number of its list in ``parts``;
such a list holds, in order, ``name height width ...`` of each tensor. Models that share a part share its list.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import warnings
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

FOLDERS = ("atss", "autoassign", "fcos", "gfl", "paa", "vfnet")


def describe(state_dict: dict[str, torch.Tensor]) -> dict[str, list[str]]:
    """Return for each part of a model (backbone, neck, ...) the name and shape of its tensors, as text."""
    parts: dict[str, list[str]] = {}
    for name, value in state_dict.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, []).append(" ".join([rest, *map(str, value.shape)]))
    return parts


def record(folder: Path) -> dict[str, object]:
    """Build the models of all configs in a folder of mmdetection's configs; return what the file holds."""
    from mmdet.registry import MODELS

    init_default_scope("mmdet")
    models: dict[str, dict[str, int]] = {}
    lists: dict[tuple[str, ...], int] = {}
    for path in sorted(one for name in FOLDERS for one in (folder / name).glob("*.py")):
        with torch.device("meta"):
            model = MODELS.build(Config.fromfile(path).model)
        parts = describe(model.state_dict())
        models[path.relative_to(folder).as_posix()] = {
            name: lists.setdefault(tuple(content), len(lists)) for name, content in parts.items()
        }
    return {"models": models, "parts": [list(content) for content in lists]}


def main() -> int:
    parser = argparse.ArgumentParser(description="Record names and shapes of mmdetection's state dicts.")
    parser.add_argument("configs", type=Path, help="folder with mmdetection's configs")
    parser.add_argument("out", type=Path, help="file to write, .json.xz")
    args = parser.parse_args()
    try:
        import mmdet.models  # noqa: F401
    except ImportError as error:
        print(f"error: {error}\nThis needs mmdetection 3.x with mmcv's compiled operators.", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    found = record(args.configs)
    if not found["models"]:
        print(f"error: there are no configs in {args.configs}/{{{','.join(FOLDERS)}}}", file=sys.stderr)
        return 2
    text = json.dumps(found, separators=(",", ":"), sort_keys=False).encode()
    args.out.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    print(f"{args.out}: {len(found['models'])} models of {len(found['parts'])} parts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
